"""States from partial, noisy observations: an ensemble Kalman filter on any equation."""

import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Bool, Float, PyTree

from .._arguments import (
    Key,
    Times,
    floating,
    function_of,
    host,
    integer,
    is_concrete,
    number,
    one_of,
    prng_key,
)
from .._ensemble.compiled import compiled
from .._ensemble.interval import rematerialised
from .._ensemble.members import member_keys, typed_key
from .._ensemble.problem import Problem
from .._ensemble.times import host_times
from .._ensemble.trajectories import NonFiniteError
from .._ensemble.validity import taking
from .._sde import SDE
from ..laws import AbstractLaw

_KNOWN = 0.1
"""Rounding may move an observation by so much of its noise."""


class Filtered(eqx.Module):
    """States that a filter found, and the likelihood of what was observed.

    `ts` (times,); `means` and `stderr` (times, *state) of the state given all observations up to
    each time; `predictions` (times, seen) of the observations before they were seen;
    `innovations` (times, seen) their errors in units of their standard deviation and without
    correlation, 0 where nothing was seen; `seen` True where something was; `log_likelihoods`
    (times,) of each observation given those before; `ensemble` (members, *state) at the last time.
    """

    ts: Float[Array | np.ndarray, " times"]
    means: PyTree[Array]
    stderr: PyTree[Array]
    predictions: Float[Array, "times seen"]
    innovations: Float[Array, "times seen"]
    seen: Bool[Array, "times seen"]
    log_likelihoods: Float[Array, " times"]
    ensemble: PyTree[Array]

    @property
    def log_likelihood(self) -> Float[Array, ""]:
        """The log likelihood of all observations: differentiable in the numbers of the equation."""
        return jnp.sum(self.log_likelihoods)

    @property
    def consistency(self) -> tuple[float, float]:
        """The mean square of the innovations, 1 if the equation is right, with its z."""
        count = int(jnp.sum(self.seen))
        mean = float(jnp.sum(self.innovations**2)) / count
        return mean, (mean - 1) / math.sqrt(2 / count)

    def __repr__(self) -> str:
        members = jax.tree.leaves(self.ensemble)[0].shape[0]
        head = f"Filtered(times={self.ts.size}, members={members}"
        if not is_concrete(self.log_likelihoods):
            return f"{head})"
        mean, z = self.consistency
        return (
            f"{head}, log_likelihood={float(self.log_likelihood):.6g}, mean square innovation "
            f"{mean:.3g} (z = {z:+.1f}))"
        )


def ensemble_kalman(
    sde: SDE,
    law: AbstractLaw,
    ys: Any,
    ts: Times,
    *,
    observe: Callable[[Any], Any],
    observation: Any,
    substeps: int,
    members: int,
    key: Key,
    method: str = "square_root",
    inflation: Any = 1.0,
    solver: diffrax.AbstractSolver | None = None,
) -> Filtered:
    """The ensemble Kalman filter: states and likelihood from partial, noisy observations.

        y_k = h(x(t_k)) + τ ξ_k,   K = Cov(x, h)/(Var h + τ²),   x ← x + K (y - h(x))

    Members move between observations by the equation's own solver, with noise of their own, and
    means and covariances are those of the members. For a linear equation with additive noise and
    linear h the filter is Kalman's in the limit of many members; for others it is an approximation
    that is Gaussian at each observation.

    **Arguments**

    - `sde`: any equation; on a manifold members are projected back after each observation.
    - `law`: the law of the state at the first time, before the first observation.
    - `ys`: observations (times, seen), NaN where one is missing.
    - `ts`: their times, strictly increasing, of any spacing, in seconds of the model.
    - `observe`: h, a JAX function of one state to a number or an array (seen,).
    - `observation`: τ, the standard deviation of the noise of an observation: a number or (seen,).
    - `substeps`: solver steps between two observations.
    - `members`: how many states carry the mean and the covariance, at least 2. Below some 10 for
      each unstable direction the spread is too small: see `inflation`.
    - `key`: one JAX key. The same key gives the same noise for other parameters, so that the
      likelihood is a smooth function of them.
    - `method`: "square_root" moves the members without further noise; "perturbed" gives each its
      own perturbed observation.
    - `inflation`: a factor ≥ 1 on the spread of the members before each observation. An equation
      without noise needs some 1.02, or its members end in one point and learn nothing more.
    - `solver`: as of `rqf_jax.simulate`.

    **Returns** `Filtered`. Inside `jit` and `grad` nothing is raised for members that fail.

    **Raises** ValueError for arguments that break a rule; `NonFiniteError` if members become NaN
    or infinite.

    **Example**: a decaying number with noise, seen with noise.

    >>> sde = rqf.SDE(rqf.drifts.Pull(1.0), rqf.noises.TokenNoise(1.0), rqf.manifolds.Euclidean())
    >>> law, times = rqf.laws.Normal((1,), 0.7), np.linspace(0.0, 5.0, 51)
    >>> path = rqf.simulate(sde, law, times, substeps=1, members=1, key=jax.random.key(0)).ys[0]
    >>> ys = path + 0.3 * jax.random.normal(jax.random.key(1), path.shape)
    >>> found = rqf.inference.ensemble_kalman(
    ...     sde, law, ys, times, observe=lambda x: x, observation=0.3, substeps=1, members=200,
    ...     key=jax.random.key(2),
    ... )
    >>> bool(jnp.std(found.means - path) < jnp.std(ys - path))
    True

    Source: Evensen (1994), Whitaker & Hamill (2002), both recalled; with Cholesky factors L Lᵀ of
    Var h + τ² and τ, spread is reduced by Cov(x, h) L⁻ᵀ (L + τ)⁻¹ (checked by hand).
    """
    function_of("one state")("observe", observe)
    members = integer("members", members, minimum=2, maximum=2**31 - 1)
    perturbed = one_of("square_root", "perturbed")("method", method) == "perturbed"
    inflation = number(minimum=1)("inflation", inflation)
    at = host_times(ts)
    own, other = jax.random.split(typed_key(prng_key("key", key)))
    problem = Problem(sde, law, at, own, substeps=substeps, solver=solver, fused="").checked()
    problem.look_at(0)
    values, scale = observations(ys, at.size, observation)
    check_observe(observe, problem.state, values.shape[1])
    found = _filtered(
        _Filter(problem, observe, scale, inflation, other, perturbed), values, members
    )
    if is_concrete(found) and not bool(jnp.all(jnp.isfinite(found[4]))):
        bad = int(jnp.argmin(jnp.isfinite(found[4])))
        raise NonFiniteError(
            f"members became NaN or infinite before observation {bad}, at time {float(at[bad]):g}. "
            "Take more `substeps`, or an `observation`, a `law` and an `inflation` that are not as "
            "large."
        )
    means, stderr, predictions, innovations, logs, ensemble = found
    return Filtered(at, means, stderr, predictions, innovations, ~jnp.isnan(values), logs, ensemble)


class _Filter(eqx.Module):
    """All that a filter is given but the data."""

    problem: Problem
    observe: Callable[[Any], Any]
    scale: Float[Array, " seen"]
    inflation: Float[Array, ""]
    key: Key
    perturbed: bool = eqx.field(static=True)


def observations(ys: Any, count: int, observation: Any):
    """Observations (times, seen) and the standard deviations of their noise."""
    values = floating("ys", ys)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[0] != count or not values.size:
        raise ValueError(
            f"`ys` must have shape ({count}, seen), one row for each of `ts`; got {values.shape}."
        )
    if is_concrete(values):
        known = np.asarray(values)
        if np.any(np.isinf(known)):
            raise ValueError("`ys` must be finite, or NaN where missing; got an infinite entry.")
        if np.all(np.isnan(known)):
            raise ValueError("`ys` must hold an observation; all are missing.")
    scale = floating("observation", observation)
    if scale.shape not in ((), values.shape[1:]):
        raise ValueError(
            f"`observation` must be a number or have shape {values.shape[1:]}; got {scale.shape}."
        )
    if is_concrete(scale) and not np.all((np.asarray(scale) > 0) & np.isfinite(scale)):
        raise ValueError(f"`observation` must be positive and finite; got {np.asarray(scale)}.")
    if is_concrete((values, scale)):
        lost = np.nanmax(np.abs(np.asarray(values, float) - host("ys", ys).reshape(values.shape)))
        if not lost <= _KNOWN * np.asarray(scale).min():
            raise ValueError(
                f"`ys` must be known to a tenth of `observation`; {values.dtype} rounds them by "
                f"{lost:.2g}. Subtract a constant from what is observed, or turn `jax_enable_x64` "
                "on."
            )
    return values, jnp.broadcast_to(scale, values.shape[1:])


def check_observe(observe: Callable, state: PyTree, seen: int) -> None:
    """Raise ValueError unless `observe` makes so many numbers of a state."""
    with taking("observe", state):
        made = eqx.filter_eval_shape(observe, state)
    shape = getattr(made, "shape", None)
    if shape is None or math.prod(shape) != seen:
        raise ValueError(
            f"`observe` must return {seen} numbers, as many as a row of `ys`; got "
            f"{type(made).__name__ if shape is None else f'shape {shape}'}."
        )


@compiled
def _filtered(given: _Filter, ys: Float[Array, "times seen"], members: int):
    """The fields of `Filtered` that are computed."""
    problem = given.problem
    ids = jnp.arange(members, dtype=jnp.uint32)
    law_keys, noise_keys = jax.vmap(member_keys, in_axes=(None, 0))(problem.key, ids)
    batch, last = problem.batch(noise_keys), ys.shape[0] - 1
    start = jax.vmap(problem.law)(law_keys)
    unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], start))[1]
    project = problem.sde.manifold.project

    def visit(x, at):
        index, y = at
        states = batch.leave(x)
        flat = jax.vmap(lambda one: ravel_pytree(one)[0])(states)
        predicted = jax.vmap(lambda one: jnp.ravel(given.observe(one)))(states)
        flat, found = _seen(given, index, flat, predicted.astype(flat.dtype), y.astype(flat.dtype))
        states = jax.vmap(lambda one: project(unravel(one)))(flat)
        flat = jax.vmap(lambda one: ravel_pytree(one)[0])(states)
        mean, spread = jnp.mean(flat, 0), jnp.std(flat, 0, ddof=1)
        x = batch.enter(states)
        x = lax.cond(index < last, lambda x: batch.advance(index, x), lambda x: x, x)
        return x, (unravel(mean), unravel(spread), *found)

    steps = jnp.arange(last + 1, dtype=jnp.int32)
    x, found = lax.scan(rematerialised(visit), batch.enter(start), (steps, ys))
    return (*found, batch.leave(x))


def _seen(given: _Filter, index, x, predicted, y):
    """Members (members, n) after an observation; its prediction, innovations and likelihood."""
    count, dtype = x.shape[0], x.dtype
    there = ~jnp.isnan(y)
    # What is missing has no error, no covariance and a variance of one, whose logarithm is 0.
    scale = jnp.where(there, given.scale.astype(dtype), 1.0)
    mean, centre = jnp.mean(x, 0), jnp.mean(predicted, 0)
    inflation = given.inflation.astype(dtype)
    away = inflation * (x - mean[None])
    seen = jnp.where(there[None], inflation * (predicted - centre[None]), 0.0)
    error = jnp.where(there, jnp.where(there, y, 0.0) - centre, 0.0)

    def covariance(a, b):
        return jnp.matmul(a.T, b, precision="highest") / (count - 1)

    lower = jnp.linalg.cholesky(covariance(seen, seen) + jnp.diag(scale**2))
    gain = solve_triangular(lower, covariance(seen, away), lower=True)
    innovation = solve_triangular(lower, error, lower=True)
    if given.perturbed:
        drawn = jax.random.normal(jax.random.fold_in(given.key, index), seen.shape, dtype)
        drawn = jnp.where(there[None], drawn - jnp.mean(drawn, 0, keepdims=True), 0.0)
        moved = scale[None] * drawn - seen
        pulled = solve_triangular(lower, moved.T, lower=True).T
        away = away + jnp.matmul(pulled, gain, precision="highest")
    else:
        reduced = solve_triangular(lower + jnp.diag(scale), gain, lower=True, trans=1)
        away = away - jnp.matmul(seen, reduced, precision="highest")
    mean = mean + jnp.matmul(innovation, gain, precision="highest")
    log = jnp.sum(innovation**2) / 2 + jnp.sum(jnp.log(jnp.diagonal(lower)))
    log = log + jnp.sum(there.astype(dtype)) * (math.log(2 * math.pi) / 2)
    return mean[None] + away, (centre, innovation, -log)
