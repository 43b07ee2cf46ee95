"""Strengths layer by layer, with errors from the scatter between sentences.

Sentences are independent given the weights, so that leaving out one at a time (the jackknife) shows
the error of everything that is computed from all of them, whether or not the model fits:

    var T = (M-1)/M Σ_i (T_-i - mean)²

With M sentences it is known with M - 1 degrees of freedom. A stated error is the half of what holds
95.4 % of Student's law, t(0.954, M-1)/2 times the root, so that ± 2 of it mean the same for 2
sentences as for 20. A single sentence has the error of the information instead.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._linalg.jacobi import inverse
from ._likelihood import information, maximise, scores, start
from ._steps import Steps
from .noise import summary

_LEVEL = math.erf(math.sqrt(2))
"""What ± 2 standard deviations of the normal law hold: 0.954."""


def strengths(steps: Steps) -> dict[str, Float[np.ndarray, "layers ..."]]:
    """`p` and `r`, the squares of σ_s and σ_a, `null`, `in_out`, and their errors, by layer;
    `without`, ln(in/out) without each of the sentences.

    `steps` (members, layers); every layer must turn.
    """
    members = steps.dt.shape[0]
    found = {name: np.asarray(value, float) for name, value in _per_layer(steps).items()}
    factor = student(members, _LEVEL) / 2 if members > 1 else 1.0
    p, r = np.exp(found["theta"]).T
    relative = factor * np.sqrt(found["variance"])
    with np.errstate(divide="ignore", invalid="ignore"):
        in_out = np.exp(found["log_in_out"])
        in_out[(found["n_s"] < 0.5) | (found["n_o"] < 0.5)] = math.nan
        null = found["a"] / (found["floor"] * p**2)
    return {
        "p": p,
        "r": r,
        "p_error": p * relative[:, 0],
        "r_error": r * relative[:, 1],
        "null": null,
        "in_out": in_out,
        "in_out_error": in_out * factor * np.sqrt(found["log_in_out_variance"]),
        "without": found["without"],
    }


def student(members: int, level: float) -> float:
    """How many standard errors from at least 2 sentences hold `level` of Student's law."""
    from scipy.special import stdtrit

    return float(stdtrit(members - 1, (1 + level) / 2))


def root_error(square: Float[np.ndarray, "..."], error: Float[np.ndarray, "..."]):
    """The error of √`square`: a quarter of what lies between the roots of `square` ± 2 `error`.

    It is error/(2 √square) where that is small. Where the square may be 0 it is half the distance
    from the root to the farther of both ends, and finite.
    """
    root = np.sqrt(square)
    high, low = np.sqrt(square + 2 * error), np.sqrt(np.maximum(square - 2 * error, 0.0))
    return np.where(low > 0, (high - low) / 4, np.maximum(high - root, root) / 2)


@eqx.filter_jit
def _per_layer(steps: Steps) -> dict[str, Float[Array, "layers ..."]]:
    """θ = (ln σ_s², ln σ_a²), the variances of both (relative) and of ln(in/out), and the sums of
    `noise.summary`, layer by layer."""

    def fit(layer: Steps):
        theta, whole = maximise(start(layer, 2), layer), summary(layer)
        members = layer.dt.size
        each = jax.vmap(information, (None, 0))(theta, jax.tree.map(lambda x: x[:, None], layer))
        fisher = jnp.sum(each, 0)
        in_out = _log_in_out(whole, theta, jnp.zeros_like(theta))
        if members == 1:
            # The strength in the span less that out of it: the sums are independent χ².
            square = 2 / jnp.maximum(whole["n_s"], 1.0) + 2 / jnp.maximum(whole["n_o"], 1.0)
            spread = jnp.diagonal(_inverse(fisher))
            return {
                "theta": theta,
                "variance": spread,
                "log_in_out": in_out,
                "without": in_out[None],
                "log_in_out_variance": square,
                **whole,
            }
        moved = -jnp.einsum(
            "mij,mj->mi", jax.vmap(_inverse)(fisher[None] - each), scores(theta, layer)
        )
        alone = jax.vmap(summary)(jax.tree.map(lambda x: x[:, None], layer))
        rest = jax.tree.map(lambda total, part: total - part, whole, alone)
        ratios = jax.vmap(_log_in_out, (0, None, 0))(rest, theta, moved)
        lone = jnp.any((rest["n_s"] < 0.5) | (rest["n_o"] < 0.5))
        scatter = jnp.sum((ratios - jnp.mean(ratios)) ** 2)
        share = (members - 1) / members
        return {
            "theta": theta,
            "variance": share * jnp.sum((moved - jnp.mean(moved, 0, keepdims=True)) ** 2, 0),
            "log_in_out": in_out,
            "without": ratios,
            "log_in_out_variance": jnp.where(lone, jnp.inf, share * scatter),
            **whole,
        }

    return lax.map(fit, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), steps))


def _log_in_out(n, theta, moved):
    """ln of the strength in the span over that out of it, from sums; θ moved by `moved`."""
    p = theta[0] + moved[0]
    r = jnp.exp(theta[1]) * jnp.maximum(1 + moved[1], 0.0)
    outside = jnp.log((jnp.exp(p) + r) / 2)
    inside, out = (_log_mean(n[name], n[f"n_{name}"]) for name in "so")
    return inside - p - out + outside


def _log_mean(total, count):
    return jnp.log(jnp.maximum(total, jnp.finfo(total.dtype).tiny) / jnp.maximum(count, 0.5))


def _inverse(fisher):
    """Of a matrix whose parameters may be of very different size."""
    size = jnp.sqrt(jnp.maximum(jnp.diagonal(fisher), jnp.finfo(fisher.dtype).tiny))
    scale = size[:, None] * size[None, :]
    return inverse(fisher / scale) / scale
