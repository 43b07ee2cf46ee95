"""Parameters of a chaotic system from partial, noisy observations: multiple shooting."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from .._arguments import Times, data, function_of, integer
from .._ensemble.problem import Problem
from .._ensemble.times import host_times
from .._sde import SDE
from ..laws import Fixed
from ..manifolds import AbstractLinearSpace
from ..noises import NoNoise
from ._data import double_precision
from ._result import FitResult, IdentifiabilityError, normal
from ._windows import Parts, Windows, linearised, step, synchronised
from .filtered_fit import equation, started
from .filtering import check_observe, observations

_STEPS = 80
_LOOSE, _FALLS, _TIGHT = 0.3, 0.6, 1e-4
"""δ of the first step in units of the spread of the states, its factor from step to step, and from
where on windows have to join."""

_HALVINGS = 12

_CONVERGED = 1e-6
"""A last step moves parameters by less than this share of a standard error."""


def fit_shooting(
    model: Callable[[dict[str, Array]], SDE],
    start: Mapping[str, Any],
    ys: Any,
    ts: Times,
    *,
    observe: Callable[[Any], Any],
    state: Any,
    substeps: int,
    observation: Any = None,
    window: int = 5,
    solver: diffrax.AbstractSolver | None = None,
) -> FitResult:
    """Parameters of an equation without noise, from a path of many Lyapunov times.

        min Σ_k |y_k - h(x(t_k))|²/τ²   over θ and x(t_0),   dx = f_θ(x) dt

    Maximum likelihood. From one start the misfit of a chaotic path has a minimum in every valley of
    e^{λT}, so the path is cut in windows, each with a state of its own, which have to join at the
    end only. Windows begin on a path that synchronises with the observations; each step of Gauss
    and Newton solves for all states and parameters, with exact derivatives of the solver's steps.

    **Arguments**

    - `model`: a JAX function of a dict of parameters to an `SDE` without noise, on a linear space.
    - `start`: the parameters to begin with, by name; some tens of percent from the truth.
    - `ys`: observations of one path (times, seen), NaN where one is missing.
    - `ts`: their times, strictly increasing, of any spacing, in seconds of the model.
    - `observe`: h, a JAX function of one state to a number or an array (seen,).
    - `state`: a guess of the state at the first time.
    - `substeps`: solver steps between two observations, small enough that the solver's error is
      below the errors of the parameters.
    - `observation`: τ, the standard deviation of the noise of an observation, a number or (seen,);
      by default it is estimated, one for all.
    - `window`: observations in a window; an error should not grow much more than tenfold over one.
    - `solver`: as of `rqf_jax.simulate`; `diffrax.Tsit5()` needs few steps.

    **Returns** a `FitResult` with the names of `start`; errors are those of the linearised
    constrained problem, which for this likelihood are the bound, and intervals Student's where τ is
    estimated. Goodness holds the mean square of
    the residuals where τ is known (1), and their correlation in succession (0).

    **Raises** ValueError for arguments that break a rule and for equations with noise, which
    `fit_filtered` fits; `IdentifiabilityError` if windows do not join.

    **Example**: period and damping of an oscillator whose position is seen.

    >>> class Oscillator(rqf.drifts.AbstractDrift):
    ...     square: jax.Array
    ...     damping: jax.Array
    ...
    ...     def __call__(self, t, x):
    ...         return jnp.stack([x[1], -self.square * x[0] - self.damping * x[1]])
    >>> def model(p):
    ...     drift = Oscillator(p["square"], p["damping"])
    ...     return rqf.SDE(drift, rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
    >>> times = np.linspace(0.0, 20.0, 101)
    >>> ys = np.exp(-0.1 * times) * np.cos(times) + 0.05 * np.random.default_rng(0).normal(size=101)
    >>> fit = rqf.inference.fit_shooting(
    ...     model, {"square": 1.3, "damping": 0.3}, ys, times, observe=lambda x: x[0],
    ...     state=[1.0, 0.0], substeps=4,
    ... )
    >>> abs(fit.estimate["square"] - 1.01) < 5 * fit.stderr["square"]
    True

    Source: Bock (1981), recalled; the weights of the early steps are this library's.
    """
    function_of("a dict of parameters")("model", model)
    function_of("one state")("observe", observe)
    names, theta = started(start)
    window = integer("window", window, maximum=2**31 - 1)
    substeps = integer("substeps", substeps, maximum=2**31 - 1)
    at = np.asarray(host_times(ts), float)
    guess = data("state", state)
    if not guess.ndim or not guess.size:
        raise ValueError(f"`state` must be one state, with axes; got shape {guess.shape}.")
    with double_precision(True):
        known = observation is not None
        values, scale = observations(ys, at.size, observation if known else 1.0)
        found = _checked(model, names, theta, guess, at, substeps, solver)
        check_observe(observe, found.state, values.shape[1])
        problem = _windows(found, model, observe, names, np.asarray(values), window)
        return _fit(problem, theta, np.asarray(scale) if known else None)


def _checked(model, names, theta, guess, ts, substeps, solver) -> Problem:
    """The equation at the start, with its solver; ValueError for parts that do not fit."""
    sde = equation(model, names, theta)
    if not isinstance(sde.noise, NoNoise):
        raise ValueError(
            f"`model` must make equations without noise; got {type(sde.noise).__name__}. Use "
            "`fit_filtered`."
        )
    if not isinstance(sde.manifold, AbstractLinearSpace):
        raise ValueError(
            "`model` must make equations on a linear space, whose states are added; got the "
            f"{type(sde.manifold).__name__}."
        )
    key = jax.random.key(0)
    problem = Problem(sde, Fixed(guess), ts, key, substeps=substeps, solver=solver).checked()
    problem.look_at(0)
    return problem


def _windows(problem: Problem, model, observe, names, ys: np.ndarray, window: int) -> Windows:
    """The observations in windows; the last one is filled up with intervals of length 0."""
    count = -(-len(ys) // window)
    if count < 2:
        raise ValueError(
            f"`window` must leave at least 2 windows of {len(ys)} observations; got {window}."
        )
    spare = count * window - len(ys)
    at, lengths = (np.asarray(part, float) for part in (problem.times.at, problem.times.lengths))
    solver = problem.chosen
    if isinstance(solver, diffrax.AbstractRungeKutta) and solver.scan_kind is None:
        # diffrax's loop over stages is written for reverse mode unless told otherwise.
        solver = dataclasses.replace(solver, scan_kind="lax")
    filled = np.concatenate([ys, np.full((spare, ys.shape[1]), np.nan)])
    return Windows(
        model=model,
        observe=observe,
        solver=solver,
        names=names,
        like=problem.law(problem.key),
        substeps=problem.substeps,
        ys=jnp.asarray(filled.reshape(count, window, -1)),
        starts=jnp.asarray(np.pad(at, (0, spare), mode="edge").reshape(count, window)),
        lengths=jnp.asarray(np.pad(lengths, (0, spare + 1)).reshape(count, window)),
    )


def _fit(problem: Windows, theta: np.ndarray, scale: np.ndarray | None) -> FitResult:
    """Steps until the windows join and the parameters rest, and what to say of the end."""
    first = ravel_pytree(problem.like)[0]
    states = np.asarray(synchronised(problem, jnp.asarray(theta), first))
    spread = np.std(states, axis=0)
    spread = np.concatenate(
        [np.maximum(spread, 1e-3 * max(spread.max(), 1e-300)), np.where(theta, np.abs(theta), 1.0)]
    )
    size, width = states.shape[1], problem.ys.shape[1]
    there = ~np.isnan(np.asarray(problem.ys)).reshape(len(states), -1)
    free = int(there.sum()) - theta.size - size
    if free < 1:
        raise ValueError(
            f"`ys` must hold more than {theta.size + size} observations, the numbers in `start` "
            f"and `state`; got {there.sum()}."
        )
    delta, converged = _LOOSE, False
    parts = _parts(problem, states, theta)
    for _ in range(_STEPS):
        noise = _noise(parts, scale, free, width)
        try:
            moves, move, covariance = step(parts, 1 / noise, spread, delta)
        except RuntimeError as error:  # the sparse factors of a singular matrix
            raise IdentifiabilityError(
                f"`ys` must determine {', '.join(problem.names)} and the state: some of them do "
                "not change what is observed. Fix a parameter, or observe more of the state."
            ) from error
        longest = max(np.abs(moves / spread[:size]).max(), np.abs(move / spread[size:]).max())
        share = min(1.0, 1.0 / max(longest, 1e-300))
        for _ in range(_HALVINGS):
            trial = states + share * moves, theta + share * move
            reached = _parts(problem, *trial)
            if reached.finite:
                break
            share /= 2
        else:
            break
        (states, theta), parts = trial, reached
        errors = np.sqrt(np.maximum(np.diagonal(covariance), 0.0))
        if delta == 0 and share == 1 and np.all(np.abs(move) <= _CONVERGED * errors):
            converged = True
            break
        delta = _FALLS * delta if share == 1 and _FALLS * delta > _TIGHT else delta * (share < 1)
    if not converged:
        raise IdentifiabilityError(
            "`ys` must determine a path near `start`: windows do not join after "
            f"{_STEPS} steps. Start nearer to the truth, or take a shorter `window`, a longer "
            "series or more of the state."
        )
    return _result(problem, parts, theta, covariance, scale, free, there)


def _parts(problem: Windows, states: np.ndarray, theta: np.ndarray) -> Parts:
    found = linearised(problem, jnp.asarray(states), jnp.asarray(theta))
    return Parts(*(np.asarray(part) for part in found))


def _noise(parts: Parts, scale: np.ndarray | None, free: int, width: int) -> np.ndarray:
    """Standard deviations of the errors in a window: known, or that of the residuals so far."""
    if scale is not None:
        return np.tile(scale, width)
    seen = parts.errors.shape[1]
    return np.full(seen, math.sqrt(max(float(np.sum(parts.errors**2)) / free, 1e-300)))


def _result(problem, parts, theta, covariance, scale, free, there) -> FitResult:
    noise = _noise(parts, scale, free, problem.ys.shape[1])
    residuals = (parts.errors / noise).reshape(-1, problem.ys.shape[2])
    seen = there.reshape(residuals.shape)
    goodness = {}
    if scale is not None:
        square = float(np.sum(residuals**2)) / free
        goodness["residuals"] = square, (square - 1) * math.sqrt(free / 2)
    both = seen[1:] & seen[:-1]
    products = (residuals[1:] * residuals[:-1])[both]
    if products.size > 1:
        power = float(np.mean(residuals[seen] ** 2))
        lag = float(products.mean()) / power
        goodness["lag-1 correlation"] = lag, lag * math.sqrt(products.size)
    errors = np.sqrt(np.diagonal(covariance))
    told = "known" if scale is not None else f"estimated, {noise[0]:.4g}"
    named = dict(zip(problem.names, map(float, errors), strict=True))
    return FitResult(
        estimate=dict(zip(problem.names, map(float, theta), strict=True)),
        covariance=covariance,
        fisher=np.linalg.inv(covariance),
        bound=named,
        method="multiple shooting",
        intervals=partial(
            normal, problem.names, theta, errors, dof=free if scale is None else math.inf
        ),
        dof_used=float(free),
        dof_available=float(there.sum()),
        steps_used=int(np.sum(np.asarray(problem.lengths) > 0)),
        goodness=goodness,
        identifiability=f"noise of an observation {told}",
    )
