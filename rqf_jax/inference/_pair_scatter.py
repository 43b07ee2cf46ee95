"""How much the score of a composite likelihood of pairs scatters, by simulation from the data.

Pairs share their noise, so the variance of the best θ of their composite likelihood is J/H² with

    H = Σ_k E Σ_i s_ki²,   J = Σ_k E (Σ_i s_ki)²   (Godambe)

and s_ki the score of pair i in step k, given the tokens at its start. On a short path the scores
that were observed are too few to average over, and their scatter goes with the estimate: intervals
made of them covered 0.90 for 0.95. Here the means are over simulated steps from the tokens that
were observed, at the estimate, from a fixed key: a function of the data.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from .._sde import SDE
from ..drifts import NoDrift
from ..manifolds import Sphere
from ..noises import IsotropicNoise
from ..solvers import ProjectiveFlow
from ._pair_law import log_density, rapidity

_SAMPLE = 1024
_LEAST_SUBSTEPS, _MOST_SUBSTEPS = 2, 64


def score_scatter(
    theta: float,
    xs: Float[Array, "members times tokens dim"],
    dt: Float[np.ndarray, " steps"],
    there: Bool[np.ndarray, "members steps pairs"],
    rows: np.ndarray,
    columns: np.ndarray,
) -> tuple[float, float]:
    """H and J at θ = ln σ_s² of the pairs (`rows`, `columns`) that are `there`."""
    tokens, pairs = np.unique(np.stack([rows, columns]), return_inverse=True)
    member, step = np.nonzero(np.any(there, -1))
    blocks = member.size
    # Every step equally often, or an even choice of them.
    sample = np.tile(np.arange(blocks), -(-_SAMPLE // blocks))
    if blocks > _SAMPLE:
        sample = np.arange(_SAMPLE) * blocks // _SAMPLE
    member, step = member[sample], step[sample]
    x = np.asarray(xs)[member, step][:, tokens]
    dim = x.shape[-1]
    if tokens.size < dim:
        # Overlaps move in the span of the tokens as in any space around it.
        x = np.swapaxes(np.linalg.qr(np.swapaxes(x, -1, -2))[1], -1, -2)
    lengths = np.asarray(dt)[step]
    control = x.shape[-1] * float(np.exp(theta) * lengths.max())
    substeps = np.clip(np.ceil(control), _LEAST_SUBSTEPS, _MOST_SUBSTEPS).astype(int)
    means = _mean_squares(
        jnp.asarray(theta, x.dtype), x, there[member, step], lengths, pairs, substeps
    )
    return blocks * float(means[0]), blocks * float(means[1])


@eqx.filter_jit
def _mean_squares(theta, x, there, dt, pairs, substeps):
    """The means over the sample of Σ_i s_i² and (Σ_i s_i)² after steps from x."""
    zero = jnp.zeros_like(theta)
    noise = IsotropicNoise(jnp.exp(theta / 2), zero)
    sde, flow = SDE(NoDrift(), noise, Sphere()), ProjectiveFlow(level=1)
    h, (sample, _, dim) = dt / substeps.astype(dt.dtype), x.shape

    def advance(number, y):
        normals = jax.random.normal(
            jax.random.fold_in(jax.random.key(0), number), (sample, dim, dim), x.dtype
        )
        increments = normals * jnp.sqrt(h)[:, None, None]
        return jax.vmap(flow.advance, (None, None, 0, 0, 0))(sde, zero, h, y, increments)

    y = lax.fori_loop(0, substeps, advance, x)
    start, end = (rapidity(v[:, pairs[0]], v[:, pairs[1]])[0] for v in (x, y))

    def log_likelihood(point):
        clock = jnp.broadcast_to(jnp.exp(point) * dt[:, None], start.shape)
        return log_density(end, start, clock)

    scores = jax.jvp(log_likelihood, (theta,), (jnp.ones_like(theta),))[1]
    scores = jnp.where(there, scores, 0.0)
    return jnp.mean(jnp.sum(scores**2, -1)), jnp.mean(jnp.sum(scores, -1) ** 2)
