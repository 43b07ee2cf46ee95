"""Noise strengths from tokens that were observed with noise: a Kalman filter on tangent spaces."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from .._linalg.triangle import whitened
from ..theory.sphere import symmetric_rank
from ._data import in_own_precision, observed
from ._density import OfPositive
from ._likelihood import levy_floor
from ._martingale import check, warnings as objections
from ._result import FitResult, log_normal

LARGEST = 256
"""tokens · dim may be so large: the filter factorises a matrix of this size in every step."""

NAMES = ("symmetric", "observation")
"""The parameters, σ_s and τ."""

TEXTS = {
    "antisymmetric": "tokens move together otherwise than symmetric noise makes them: with "
    "antisymmetric noise, or noise of its own for every token, `symmetric` is too large. Take "
    "every k-th time, so that tokens move much more than `observation` between two of them, and "
    "use `fit_noise(antisymmetric=True)`, or `fit_pairs`, which antisymmetric noise does not reach",
}
"""The meaning of a check that is far from 0."""

_NEWTON_STEPS = 25
_LONGEST = 0.7


class LogDensity(eqx.Module):
    """The log likelihood of observed tokens at two strengths."""

    ys: Float[Array, "members times tokens dim"]
    there: Bool[Array, "members times tokens"]
    dt: Float[Array, " steps"]

    def __call__(self, parameters: dict[str, Array]) -> Float[Array, ""]:
        """Up to a constant, at `parameters` like `FitResult.estimate`."""
        point = jnp.stack([2 * jnp.log(parameters[name]) for name in NAMES])
        deviance = _deviance(point.astype(self.ys.dtype), self.ys, self.there, self.dt)
        return -jnp.sum(deviance) / 2


@in_own_precision
def fit_noise_observed(
    runs: Any, times: Any = None, *, mask: Any = None, normalise: str = "raise"
) -> FitResult:
    """σ_s of common symmetric matrix noise and τ of the observation, from noisy tokens.

        y_a = (x_a + τ ξ_a)/|x_a + τ ξ_a|,   ξ_a independent standard normal vectors

    Maximum likelihood of the extended Kalman filter whose state is the tokens and the covariance of
    their errors in the tangent spaces: over a step the covariance grows by that of the noise (see
    `inference.whitening`) and of its commutators, which look like antisymmetric noise, and an
    observation enters by half-angle coordinates at the predicted tokens. Observation noise is never
    whitened, which would amplify it. For τ < 0.3 and short steps.

    **Arguments**

    - `runs`: `Trajectories` of whole states, or an array ([members,] times, tokens, dim); `times`:
      (times,), strictly increasing, if `runs` is an array.
    - `mask`: (members, times, tokens) or what broadcasts to it, False where a token is missing.
    - `normalise`: "raise" for tokens that are not of length 1, to 1e-3, or "project" them.

    At most tokens · dim = `LARGEST`; for more, pass some of the tokens: any subset obeys the same
    equation.

    **Returns** a `FitResult` with the names "symmetric" (σ_s) and "observation" (τ, radians),
    normal intervals in their logarithms; `bound` is that of each without the other. Goodness holds
    `antisymmetric`, the slope of the log likelihood by σ_a²/σ_s² at 0, step by step over its
    scatter; a z beyond 3.3 is a warning.

    **Raises** ValueError as `fit_noise` does, for fewer than three times and for too large a state.
    Source: derived for this library; the filter is standard (Jazwinski 1970, recalled).

    **Example**

    >>> sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(3, 4)
    >>> ts, key = np.linspace(0.0, 0.4, 21), jax.random.key(0)
    >>> runs = rqf.simulate(sde, law, ts, substeps=2, members=20, key=key)
    >>> noisy = runs.ys + 0.02 * np.random.default_rng(0).normal(size=runs.ys.shape)
    >>> fit = rqf.inference.fit_noise_observed(noisy, ts, normalise="project")
    >>> abs(fit.estimate["observation"] - 0.02) < 5 * fit.stderr["observation"]
    True
    """
    data = observed(runs, times, mask, normalise)
    members, count, tokens, dim = data.xs.shape
    if tokens * dim > LARGEST:
        raise ValueError(
            f"`runs` must have tokens · dim at most {LARGEST}; got {tokens} · {dim}. "
            "Pass fewer tokens: any subset obeys the same equation."
        )
    if count < 3:
        raise ValueError(f"`times` must be at least 3, to tell the noises apart; got {count}.")
    ys, there, theta = _start(data.xs, data.dt, data.mask)
    seen = np.asarray(there)
    if not np.all(seen[:, 0]):
        raise ValueError("`runs` must have no missing token at the first time; got some.")
    slopes = partial(_slopes, ys=ys, there=there, dt=data.dt)
    for _ in range(_NEWTON_STEPS):
        gradient, hessian, _ = (np.asarray(part, float) for part in slopes(theta))
        if not np.all(np.isfinite(hessian)):
            raise ValueError("the likelihood is not finite: the steps or the noise are too large.")
        values, vectors = np.linalg.eigh(hessian)
        curvature = np.maximum(np.abs(values), 1e-6 * np.max(np.abs(values)) + 1e-12)
        step = np.clip(vectors @ ((vectors.T @ gradient) / curvature), -_LONGEST, _LONGEST)
        theta = jnp.asarray(np.asarray(theta) - step, theta.dtype)
        if np.max(np.abs(step)) < 1e-5:
            break
    with_turn = jnp.append(theta, jnp.zeros((), theta.dtype))
    _, curvature, scores = (np.asarray(part, float) for part in slopes(with_turn))
    fisher = curvature[:2, :2]
    covariance = np.linalg.pinv(fisher, hermitian=True)
    logs = np.asarray(theta, float)
    names, strengths = NAMES, np.exp(logs / 2)
    errors = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
    warnings = []
    step, (p, noise) = float(np.max(data.dt)), np.exp(logs)
    # The commutators are known to leading order alone.
    if errors[1] > 1 or noise < 4 * levy_floor(p, step, dim) * step:
        warnings.append("`observation` cannot be told from 0: use `fit_noise`.")
    if not np.all(seen):
        warnings.append(f"{np.sum(~seen)} tokens are missing and left out where they are.")
    goodness = {}
    if tokens > 1:  # one token shows the sum of the squared strengths alone
        scores = -scores.reshape(-1, 3)
        goodness["antisymmetric"] = check(scores[:, 2], -curvature[2, :2], scores[:, :2], fisher)
    warnings += objections(goodness, TEXTS)
    full = symmetric_rank(tokens, dim) * members * (count - 1)
    scale = strengths / 2
    bound = scale * np.sqrt(2 / np.array([full, members * count * tokens * (dim - 1)]))

    return FitResult(
        estimate=dict(zip(names, map(float, strengths), strict=True)),
        covariance=covariance * np.outer(scale, scale),
        fisher=fisher / np.outer(scale, scale),
        bound=dict(zip(names, map(float, bound), strict=True)),
        method="extended Kalman filter",
        intervals=partial(log_normal, names, strengths, errors / 2),
        density=OfPositive(LogDensity(ys, there, jnp.asarray(data.dt)), names),
        steps_used=members * (count - 1),
        tokens_used=float(np.mean(np.sum(seen[:, 1:], -1))),
        tokens_available=tokens,
        goodness=goodness,
        identifiability=f"correlation of the two logarithms "
        f"{covariance[0, 1] / max(errors.prod(), 1e-300):+.2f}",
        warnings=tuple(warnings),
    )


@eqx.filter_jit
def _start(xs, dt, mask):
    """Tokens of length one (0 where missing), which are there, and a first guess of θ: ln σ_s² and
    ln τ² from the variance of increments and their correlation in succession."""
    dim = xs.shape[-1]
    there = jnp.ones(xs.shape[:3], bool) if mask is None else mask
    ys = jnp.where(there[..., None], xs / jnp.sqrt(jnp.sum(xs**2, -1, keepdims=True)), 0.0)
    on = there.astype(xs.dtype)
    both = on[:, 1:] * on[:, :-1]
    moves = (ys[:, 1:] - ys[:, :-1]) * both[..., None]
    count = jnp.sum(both) * (dim - 1)
    twice = jnp.sum(both[:, 1:] * both[:, :-1]) * (dim - 1)
    variance = jnp.sum(moves**2) / count
    noise = -jnp.sum(moves[:, 1:] * moves[:, :-1]) / jnp.maximum(twice, 1.0)
    noise = jnp.clip(noise, 0.02 * variance, 0.48 * variance)
    return ys, there, jnp.log(jnp.stack([2 * (variance - 2 * noise) / jnp.mean(dt), noise]))


@eqx.filter_jit
def _slopes(theta, ys, there, dt):
    """Gradient and Hessian of -ln likelihood, and the gradient step by step, from one pass; forward
    mode keeps nothing of the path. `theta` may have a third entry, σ_a²/σ_s²."""

    def slope(point):
        steps = jax.jacfwd(lambda theta: _deviance(theta, ys, there, dt) / 2)(point)
        total = jnp.sum(steps, (0, 1))
        return total, (total, steps)

    hessian, (total, steps) = jax.jacfwd(slope, has_aux=True)(theta)
    return total, hessian, steps


def _deviance(theta, ys, there, dt) -> Float[Array, "members steps"]:
    """-2 ln likelihood of every step, up to a constant."""
    return jax.vmap(lambda y, seen: _filter(theta, y, seen, dt))(ys, there)


def _filter(
    theta: Float[Array, " parameters"],
    ys: Float[Array, "times tokens dim"],
    there: Bool[Array, "times tokens"],
    dt: Float[Array, " steps"],
) -> Float[Array, " steps"]:
    """-2 ln likelihood of the steps of one member."""
    p, noise = jnp.exp(theta[:2])
    r = p * theta[2] if theta.size == 3 else 0.0
    _, tokens, dim = ys.shape
    size = tokens * dim
    identity = jnp.eye(size, dtype=ys.dtype)

    def observe(state, seen):
        (x, spread), (y, here, h) = state, seen
        spread = spread + h / 2 * _covariance(x, p, r + levy_floor(p, h, dim))
        on = jnp.repeat(here.astype(y.dtype), dim)
        cosine = jnp.sum(y * x, -1, keepdims=True)
        error = 2 * (y - cosine * x) / jnp.maximum(1 + cosine, 0.2)
        error = error.reshape(size) * on
        tangent = _tangents(x) * on[:, None]
        total = on[:, None] * spread * on[None, :] + noise * tangent + identity - tangent
        white, logs = whitened(total, jnp.column_stack([on[:, None] * spread, error]))
        known, surprise = white[:, :-1], white[:, -1]
        half = jnp.matmul(known.T, surprise, precision="highest").reshape(x.shape) / 2
        square = jnp.sum(half * half, -1, keepdims=True)
        x = ((1 - square) * x + 2 * half) / (1 + square)
        x = x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))
        spread = spread - jnp.matmul(known.T, known, precision="highest")
        tangent = _tangents(x)
        spread = jnp.matmul(jnp.matmul(tangent, spread), tangent)
        return (x, (spread + spread.T) / 2), logs + jnp.sum(surprise**2)

    first = (ys[0], noise * _tangents(ys[0]))
    return lax.scan(observe, first, (ys[1:], there[1:], dt))[1]


def _tangents(x):
    """The projections on the tangent spaces, one block a token."""
    tokens, dim = x.shape
    blocks = jnp.eye(dim, dtype=x.dtype)[None] - x[:, :, None] * x[:, None, :]
    diagonal = jnp.eye(tokens, dtype=x.dtype)
    return jnp.einsum("ab,aij->aibj", diagonal, blocks).reshape(tokens * dim, -1)


def _covariance(x, p, r):
    """(p + r) G_ab P_a P_b + (p - r) (P_a x_b)(P_b x_a)ᵀ, tokens in blocks."""
    gram = jnp.matmul(x, x.T, precision="highest")
    seen = x[None, :, :] - gram[:, :, None] * x[:, None, :]  # P_a x_b
    tangent = jnp.eye(x.shape[1], dtype=x.dtype)[None] - x[:, :, None] * x[:, None, :]
    alike = jnp.einsum("ab,aij,bjk->aibk", gram, tangent, tangent)
    crossed = jnp.einsum("abi,baj->aibj", seen, seen)
    return ((p + r) * alike + (p - r) * crossed).reshape(x.size, x.size)
