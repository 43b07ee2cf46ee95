"""Pull and noise of weight matrices, from trajectories: exact at every step length."""

import math
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
    - `target`: a number or a state where it is known. By default it is not, every member has one of
      its own, and the estimate is corrected for it: the plain one is too high by about 2/T over a
      time T, however large the matrix is.
    - `manifold`: whose projection is P: `Euclidean()` (the default), `Symmetric()` or
      `Hermitian()`, for which s = √2 g of `models.dyson`.

    **Returns** a `FitResult` with the names "rate" and "s"; intervals are normal in the logarithms.

    With a = e^{-rate h} the deviations from the target are autoregressive, D' = a D + noise of
    variance s² (1 - a²)/(2 rate), so that the maximum is a regression. Around each member's own
    mean its slope has the limit tr M S₁/tr M S₀ for many entries of a stationary path, S_k its
    covariances at lag k and M the projection off the mean; a is such that the limit is what was
    seen.

    **Raises** ValueError for arguments that break a rule; `IdentifiabilityError` if deviations do
    not shrink, which no pull explains.

    Source: the likelihood is classical; the bias is Nickell's, Econometrica 49 (1981) 1417
    (recalled), the correction for stationary paths is derived here.
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
    if target is None:
        before = xs[:, :-1] - xs[:, :-1].mean(1, keepdims=True)
        after = xs[:, 1:] - xs[:, 1:].mean(1, keepdims=True)
        degrees = members * (steps - 1) * entries
    else:
        centre = np.asarray(finite("target", target), float)
        if centre.shape not in ((), shape):
            raise ValueError(
                f"`target` must be a number or have shape {shape}; got {centre.shape}."
            )
        before, after = xs[:, :-1] - centre, xs[:, 1:] - centre
        degrees = members * steps * entries
    power = float(np.sum(before**2))
    if not power > 0:
        raise ValueError("`runs` must hold states that move; got the same state at all times.")
    seen = float(np.sum(after * before)) / power
    slope = _without_mean(seen, steps) if target is None else seen
    if not 0 < slope < 1:
        raise IdentifiabilityError(
            f"deviations change by the factor {slope:.4g} in a step of length {h:.3g}, which no "
            "pull at a rate > 0 does. What is identified is the variance of a step: take a longer "
            "run" + (" or give the `target`." if target is None else ".")
        )
    rate = -math.log(slope) / h
    innovation = float(np.sum((after - slope * before) ** 2)) / degrees
    square = innovation * 2 * rate / (1 - slope**2)

    # Per step and entry, with ln v the variance of the innovation: I(a) = E D²/v, I(ln v) = 1/2.
    # Means take information about a away: its regression has a slope below 1 in it.
    kept = _derivative(slope, steps) ** 2 if target is None else 1.0
    information = np.diag([power / innovation * kept, degrees / 2])
    # d(a, ln v)/d(ln rate, ln s), for v = s² (1 - a²)/(2 rate).
    log_slope = 2 * rate * h * slope**2 / (1 - slope**2) - 1
    jacobian = np.array([[-rate * h * slope, 0.0], [log_slope, 2.0]])
    information_log = jacobian.T @ information @ jacobian
    scale = np.array([rate, math.sqrt(square)])
    names = ("rate", "s")
    covariance_log = np.linalg.inv(information_log)
    full = members * steps * entries
    bound = scale * np.sqrt(
        [(math.exp(2 * rate * h) - 1) / (full * (rate * h) ** 2), 1 / (2 * full)]
    )
    sums = [float(np.sum(after**2)), float(np.sum(after * before)), power]

    def log_density(parameters):
        r, s = parameters["rate"], parameters["s"]
        a = jnp.exp(-r * h)
        v = -(s**2) * jnp.expm1(-2 * r * h) / (2 * r)
        return -(degrees * jnp.log(v) + (sums[0] - 2 * a * sums[1] + a**2 * sums[2]) / v) / 2

    return FitResult(
        estimate=dict(zip(names, map(float, scale), strict=True)),
        covariance=covariance_log * np.outer(scale, scale),
        fisher=information_log / np.outer(scale, scale),
        bound=dict(zip(names, map(float, bound), strict=True)),
        method="exact likelihood" + (", unknown target corrected" if target is None else ""),
        intervals=partial(log_normal, names, scale, np.sqrt(np.diagonal(covariance_log))),
        # With an unknown target the corrected estimate is not the maximum of a likelihood.
        density=None if target is None else log_density,
        dof_used=float(degrees),
        dof_available=float(full),
        steps_used=members * steps,
        identifiability=""
        if target is not None
        else f"target unknown: a step keeps {seen:.4g} of a deviation, {slope:.4g} corrected",
    )


def _expected_slope(slope: Any, steps: int) -> Any:
    """tr M S₁/tr M S₀: the limit of the regression slope around means of `steps` values.

    With S_ij = a^|i-j| and M = 1 - 11ᵀ/K it is (a - Σ_ij a^|i+1-j|/K²)/(1 - Σ_ij a^|i-j|/K²).
    """
    lags = np.arange(-steps + 1, steps)
    counts = (steps - np.abs(lags)) / steps**2
    shifted = np.sum(counts * slope ** np.abs(lags + 1))
    return (slope - shifted) / (1 - np.sum(counts * slope ** np.abs(lags)))


def _without_mean(seen: float, steps: int) -> float:
    """The slope whose regression around means is expected to be `seen`; NaN if there is none."""
    from scipy.optimize import brentq

    low, high = 1e-9, 1 - 1e-7
    if not _expected_slope(low, steps) < seen < _expected_slope(high, steps):
        return math.nan
    return float(brentq(lambda a: _expected_slope(a, steps) - seen, low, high, xtol=1e-14))  # type: ignore[arg-type]


def _derivative(slope: float, steps: int) -> float:
    step = 1e-5 * (1 - slope)
    above, below = _expected_slope(slope + step, steps), _expected_slope(slope - step, steps)
    return float(above - below) / (2 * step)
