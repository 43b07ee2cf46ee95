"""Pull and noise of weight matrices, from trajectories: exact at every step length."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._arguments import finite
from ..manifolds import AbstractLinearSpace, Euclidean, Hermitian, Symmetric
from ._result import FitResult, IdentifiabilityError, log_normal
from ._states import equally_spaced


def fit_matrix_ou(
    runs: Any,
    times: Any = None,
    *,
    target: Any = None,
    manifold: AbstractLinearSpace | None = None,
) -> FitResult:
    """Rate and noise of a linear pull with equal noise in every entry: exact likelihood.

        dW = -rate (W - target) dt + s P dB

    **Arguments**

    - `runs`: `Trajectories` of whole states, or an array ([members,] times, *state) together with
      `times`, equally spaced. Members are pooled.
    - `target`: a number or a state where it is known. By default it is not, and every member has
      one of its own.
    - `manifold`: whose projection is P: `Euclidean()` (the default), `Symmetric()` or
      `Hermitian()`, for which s = √2 g of `models.dyson`.

    **Returns** a `FitResult` with the names "rate" and "s"; intervals are normal in the logarithms.

    With a = e^{-rate h} the deviations from the target are autoregressive, D' = a D + noise of
    variance v = s² (1 - a²)/(2 rate), so that with a known target the maximum is a regression.
    Around the means of the paths that is too high in the rate by about 2/T over a time T, however
    large the matrix is, because the mean score of a is -b'(a) for every entry and every start of
    K steps. Taking that off leaves the likelihood

        -2 ln L = (K-1) ln v + Σ (D' - a D)²/v - 2 b(a),   b(a) = Σ_{t<K} (K-t)/(K t) a^t

    of every entry, whose first maximum above the regression is the estimate.

    **Raises** ValueError for arguments that break a rule; `IdentifiabilityError` if deviations do
    not shrink, which no pull explains.

    Source: the likelihood is classical; the bias is Nickell's, Econometrica 49 (1981) 1417, and the
    likelihood without it Lancaster's, Rev. Econ. Stud. 69 (2002) 647 (both recalled; b derived).
    """
    manifold = Euclidean() if manifold is None else manifold
    if not isinstance(manifold, Euclidean | Symmetric | Hermitian):
        raise ValueError(f"`manifold` must be a linear space of matrices; got {manifold!r}.")
    xs, h = equally_spaced(runs, times, least=3 if target is None else 2)
    shape = xs.shape[2:]
    entries = math.prod(shape)
    if isinstance(manifold, Symmetric | Hermitian) and (len(shape) != 2 or shape[0] != shape[1]):
        raise ValueError(f"`runs` must hold square matrices for {manifold}; got shape {shape}.")
    if isinstance(manifold, Symmetric):
        skew = np.abs(xs - np.swapaxes(xs, -1, -2)).max()
        if skew > 1e-5 * np.abs(xs).max():
            raise ValueError(f"`runs` must hold symmetric matrices; got entries {skew:.3g} apart.")
        entries = shape[0] * (shape[0] + 1) // 2
    members, steps = xs.shape[0], xs.shape[1] - 1
    before, after = xs[:, :-1], xs[:, 1:]
    if target is None:
        before, after = (part - part.mean(1, keepdims=True) for part in (before, after))
    else:
        centre = np.asarray(finite("target", target), float)
        if centre.shape not in ((), shape):
            raise ValueError(
                f"`target` must be a number or have shape {shape}; got {centre.shape}."
            )
        before, after = before - centre, after - centre
    pairs = ((before, before), (before, after), (after, after))
    power, product, moved = (float(np.vdot(x, y)) for x, y in pairs)
    if not power > 0:
        raise ValueError("`runs` must hold states that move; got the same state at all times.")
    # The weights of a^t in b'(a), summed over the paths of all entries.
    paths, lags = members * entries, np.arange(steps - 1)
    weights = paths * (steps - 1 - lags) / steps if target is None else np.zeros(1)
    degrees = members * entries * (steps - 1 if target is None else steps)

    def misfit(a):
        return moved - 2 * a * product + a**2 * power

    def score(a):
        return (product - a * power) * degrees / misfit(a) + weights @ a ** np.arange(weights.size)

    seen = product / power
    slope = _first_root(score, seen) if target is None else seen
    if not 0 < slope < 1:
        raise IdentifiabilityError(
            f"deviations change by the factor {seen:.4g} in a step of length {h:.3g}, which no "
            "pull at a rate > 0 does. What is identified is the variance of a step: take a longer "
            "run" + (" or give the `target`." if target is None else ".")
        )
    rate = -math.log(slope) / h
    innovation = misfit(slope) / degrees
    square = innovation * 2 * rate / (1 - slope**2)

    # Second derivatives of -ln L in (a, ln v).
    tilt = (product - slope * power) / innovation
    powers = np.arange(1, weights.size)
    bend = power / innovation - np.sum(weights[1:] * powers * slope ** (powers - 1.0))
    information = np.array([[bend, tilt], [tilt, degrees / 2]])
    # d(a, ln v)/d(ln rate, ln s), for v = s² (1 - a²)/(2 rate).
    log_slope = 2 * rate * h * slope**2 / (1 - slope**2) - 1
    jacobian = np.array([[-rate * h * slope, 0.0], [log_slope, 2.0]])
    information_log = jacobian.T @ information @ jacobian
    scale = np.array([rate, math.sqrt(square)])
    names = ("rate", "s")
    covariance_log = np.linalg.inv(information_log)
    full = paths * steps
    bound = scale * np.sqrt(
        [(math.exp(2 * rate * h) - 1) / (full * (rate * h) ** 2), 1 / (2 * full)]
    )

    def log_density(parameters):
        r, s = parameters["rate"], parameters["s"]
        a = jnp.exp(-r * h)
        v = -(s**2) * jnp.expm1(-2 * r * h) / (2 * r)
        t = jnp.arange(1, weights.size + 1).astype(a.dtype)
        return (
            jnp.sum(jnp.asarray(weights, a.dtype) * a**t / t)
            - (degrees * jnp.log(v) + misfit(a) / v) / 2
        )

    return FitResult(
        estimate=dict(zip(names, map(float, scale), strict=True)),
        covariance=covariance_log * np.outer(scale, scale),
        fisher=information_log / np.outer(scale, scale),
        bound=dict(zip(names, map(float, bound), strict=True)),
        method="exact likelihood" if target is not None else "likelihood, unknown target corrected",
        intervals=partial(log_normal, names, scale, np.sqrt(np.diagonal(covariance_log))),
        density=log_density,
        dof_used=float(degrees),
        dof_available=float(full),
        steps_used=members * steps,
        identifiability=""
        if target is not None
        else f"target unknown: a step keeps {seen:.4g} of a deviation, {slope:.4g} corrected",
    )


def _first_root(score: Callable[[float], float], low: float) -> float:
    """Where `score` first falls through zero between `low` and 1; NaN if it does not."""
    from scipy.optimize import brentq

    if not 0 < low < 1:
        return math.nan
    grid = 1 - np.geomspace(1 - low, 1e-7 * (1 - low), 200)
    below = np.flatnonzero(np.array([score(a) for a in grid]) < 0)
    if not below.size or not below[0]:
        return math.nan
    return float(brentq(score, grid[below[0] - 1], grid[below[0]], xtol=1e-15))  # type: ignore[arg-type]
