"""The strength of symmetric noise from pairs of tokens: exact at every step length."""

import math
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ..theory.sphere import symmetric_rank
from ._checks import rounding_warning
from ._data import in_own_precision, observed
from ._density import OfPositive
from ._likelihood import total
from ._martingale import warnings as objections
from ._pair_law import log_cosh, log_density, rapidity
from ._pair_scatter import score_scatter
from ._result import FitResult, chi_square

PAIRS = 36
"""Of more pairs than this, so many, evenly spaced, are looked at."""

TEXTS = {
    "drift / spread": "overlaps drift otherwise than common noise of their spread makes them: the "
    "strength is off. Noise of its own for every token does this, noise of the observation (try "
    "`fit_noise_observed`), or a drift such as attention (see `fit_attention`)",
}
"""The meaning of a check that is far from its expectation."""

_SMALLEST_GAP = 1000
_NEWTON_STEPS = 30


class Pairs(eqx.Module):
    """Rapidities of pairs at the `start` and `end` of every step; `there` says which count."""

    start: Float[Array, "members steps pairs"]
    end: Float[Array, "members steps pairs"]
    there: Bool[Array, "members steps pairs"]
    dt: Float[Array, " steps"]


class LogDensity(eqx.Module):
    """The composite log likelihood of pairs at a strength, times a `weight`.

    Pairs of one step share their noise, so that together they know less than their sum says: with
    H/J for a weight the curvature is H²/J, that of the estimate's error (Ribatet, Cooley & Davison,
    Stat. Sinica 22 (2012) 813, recalled).
    """

    pairs: Pairs
    weight: Float[Array, ""]

    def __call__(self, parameters: dict[str, Array]) -> Float[Array, ""]:
        """Up to a constant, at `parameters` like `FitResult.estimate`."""
        theta = 2 * jnp.log(parameters["symmetric"])
        values = _log_likelihood(theta.astype(self.pairs.dt.dtype), self.pairs)
        return self.weight * total(values)


@in_own_precision
def fit_pairs(
    runs: Any, times: Any = None, *, mask: Any = None, normalise: str = "raise"
) -> FitResult:
    """The strength σ_s of common matrix noise from the overlaps of pairs, for steps of any length.

        du = σ_s² tanh u dt + √2 σ_s dB,   u = artanh <x_a, x_b>

    This law is exact, has neither the dimension nor σ_a in it, and is that of a gap on a
    logarithmic scale: it serves sparse observations (σ_s² dt up to 4) and tokens that are nearly
    synchronised, where `fit_noise` drops them. For dense observations `fit_noise` uses more of the
    data.

    **Arguments**

    - `runs`: `Trajectories` of whole states, or an array ([members,] times, tokens, dim); `times`:
      (times,), strictly increasing, if `runs` is an array.
    - `mask`: (members, times, tokens) or what broadcasts to it, False where a token is missing.
    - `normalise`: "raise" for tokens that are not of length 1, to 1e-3, or "project" them.

    Pairs share their noise, so their likelihood is a composite
    one: its maximum is consistent, and its error is that of the sandwich (Godambe), which is
    simulated from the tokens that were observed. The interval is that of χ² with as many degrees of
    freedom as have this error. Pairs whose gap at the start of a step is below 1000 roundings are
    left out of it.

    **Returns** a `FitResult` with the name "symmetric". Goodness holds `drift / spread`, the
    strength from E Δ ln cosh u = σ_s² dt over that of the fit, squared; a z beyond 3.3 is a
    warning.

    **Raises** ValueError as `fit_noise` does, for fewer than two tokens, and if fewer than two
    steps have a pair in them.

    **Example**

    >>> sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(3, 4)
    >>> ts, key = np.linspace(0.0, 0.4, 21), jax.random.key(0)
    >>> runs = rqf.simulate(sde, law, ts, substeps=2, members=20, key=key)
    >>> fit = rqf.inference.fit_pairs(runs)
    >>> abs(fit.estimate["symmetric"] - 1) < 5 * fit.stderr["symmetric"]
    True
    """
    data = observed(runs, times, mask, normalise)
    members, count, tokens, dim = data.xs.shape
    if tokens < 2:
        raise ValueError(f"`runs` must hold at least 2 tokens; got {tokens}.")
    rows, columns = np.triu_indices(tokens, 1)
    if rows.size > PAIRS:
        spaced = np.arange(PAIRS) * rows.size // PAIRS
        rows, columns = rows[spaced], columns[spaced]
    pairs, moves, close = _pairs(data.xs, data.dt, data.mask, rows, columns)
    there, moves, close = jax.device_get((pairs.there, moves, close))
    blocks = int(np.sum(np.any(there, -1)))
    if blocks < 2:
        raise ValueError(
            "`runs` must have at least 2 steps with a pair of tokens that is neither missing nor "
            f"equal or opposite to rounding; got {blocks}."
        )
    if not moves:
        raise ValueError("`runs` must hold overlaps that move; got the same at all times.")
    theta, curvature, ratio, score = map(float, jax.device_get(_estimate(pairs)))
    if not math.isfinite(theta) or not curvature > 0:
        raise ValueError(
            "the likelihood has no maximum: the steps are too long to show a strength."
        )
    information, power = score_scatter(theta, data.xs, data.dt, there, rows, columns)
    strength, variance = math.exp(theta / 2), power / information**2
    weight = jnp.asarray(1 / (variance * curvature), pairs.dt.dtype)
    scale = strength / 2
    full = symmetric_rank(tokens, dim) * members * (count - 1)
    used, warnings = int(np.sum(there)), []
    if close:
        warnings.append(
            f"{close} gaps are below {_SMALLEST_GAP} roundings and left out: "
            "the pairs are equal or opposite."
        )
    moved = math.exp(theta) * float(np.median(data.dt))
    if moved > 4:
        warnings.append(f"σ_s² dt is {moved:.1f}: overlaps hardly remember the step before.")
    coarse = rounding_warning(float(data.grid), moved)
    if coarse:
        warnings.append(coarse)
    goodness = {"drift / spread": (ratio, score)}
    warnings += objections(goodness, TEXTS)

    return FitResult(
        estimate={"symmetric": strength},
        covariance=np.array([[variance * scale**2]]),
        fisher=np.array([[1 / variance / scale**2]]),
        bound={"symmetric": scale * math.sqrt(2 / full)},
        method="pairs",
        intervals=partial(chi_square, "symmetric", strength**2, 2 / variance),
        density=OfPositive(LogDensity(pairs, weight), ("symmetric",)),
        dof_used=float(used),
        dof_available=float(members * (count - 1) * tokens * (tokens - 1) // 2),
        steps_used=blocks,
        steps_dropped=members * (count - 1) - blocks,
        tokens_available=tokens,
        goodness=goodness,
        identifiability="pairs say nothing about antisymmetric",
        warnings=tuple(warnings),
    )


@eqx.filter_jit
def _pairs(xs, dt, mask, rows, columns) -> tuple[Pairs, Bool[Array, ""], Int[Array, ""]]:
    """The pairs, whether any moves, and how many are left out because they are too close."""
    xs = xs / jnp.sqrt(jnp.sum(xs * xs, -1, keepdims=True))
    u, gap = rapidity(xs[:, :, rows], xs[:, :, columns])
    seen = jnp.ones(u.shape, bool)
    if mask is not None:
        seen = mask[:, :, rows] & mask[:, :, columns]
    known = seen[:, :-1] & seen[:, 1:]
    apart = gap[:, :-1] > _SMALLEST_GAP * float(jnp.finfo(xs.dtype).eps)
    there = known & apart
    start, end = (jnp.where(there, part, 0.0) for part in (u[:, :-1], u[:, 1:]))
    return Pairs(start, end, there, dt), jnp.any(start != end), jnp.sum(known & ~apart)


def _log_likelihood(theta, pairs: Pairs) -> Float[Array, "members steps"]:
    """The composite log likelihood of every step at θ = ln σ_s²."""
    clock = jnp.broadcast_to(jnp.exp(theta) * pairs.dt[None, :, None], pairs.start.shape)
    values = log_density(pairs.end, pairs.start, clock)
    return jnp.sum(jnp.where(pairs.there, values, 0.0), -1)


@eqx.filter_jit
def _estimate(pairs: Pairs):
    """θ, the curvature, and the drift's ratio with its z."""
    on, dt = pairs.there.astype(pairs.dt.dtype), pairs.dt[None, :, None]
    time = total(on * dt)

    def slopes(theta):
        """Score and second derivative, step by step."""
        one = jnp.ones_like(theta)

        def score(point):
            return jax.jvp(lambda t: _log_likelihood(t, pairs), (point,), (one,))[1]

        return jax.jvp(score, (theta,), (one,))

    def move(state):
        # The slopes are those before the last step, which is of the size of the rounding: computed
        # again after the loop they would be compiled again too.
        theta, *_, number = state
        score, second = slopes(theta)
        second = total(second)
        step = jnp.clip(total(score) / jnp.maximum(jnp.abs(second), 1e-12), -0.7, 0.7)
        return theta + step, jnp.abs(step), score, second, number + 1

    def more(state):
        return (state[1] > 100 * jnp.finfo(dt.dtype).eps) & (state[-1] < _NEWTON_STEPS)

    guess = jnp.log(total(on * (pairs.end - pairs.start) ** 2) / (2 * time))
    endless, zero = jnp.full_like(guess, jnp.inf), jnp.zeros_like(guess)
    nothing = jnp.zeros(on.shape[:2], on.dtype)
    state = lax.while_loop(more, move, (guess, endless, nothing, zero, 0))
    theta, _, score, second, _ = state
    curvature, rate = -second, jnp.exp(theta)
    change = on * (log_cosh(pairs.end) - log_cosh(pairs.start))
    drift = jnp.sum(change - rate * on * dt, -1)
    # The fitted rate takes its share of the drift away, and of its variance.
    influence = drift - rate * time * score / curvature
    z = total(drift) / jnp.sqrt(total(influence**2))
    return theta, curvature, total(change) / (rate * time), z
