"""Noise, pull and repulsion of eigenvalues, from trajectories that never cross."""

import math
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import scalar
from ._data import double_precision, equally_spaced
from ._result import FitResult, IdentifiabilityError, log_normal

METHODS = ("tamed", "cir")
_NEWTON_STEPS = 60


class _Steps(NamedTuple):
    """What the estimating equations need of every step: states before and after it, Σ_j d/(d² +
    4g²h) and Σ_j 1/d before it, and its length."""

    x: Any
    y: Any
    instrument: Any
    repulsion: Any
    h: Any


def fit_dyson(
    runs: Any,
    times: Any = None,
    *,
    rate: Any = None,
    beta: Any = None,
    method: str = "tamed",
) -> FitResult:
    """Noise g, pull κ and index β of Dyson's motion from its eigenvalues.

        dλ_i = -rate λ_i dt + β g² Σ_{j≠i} dt/(λ_i - λ_j) + √2 g dB_i

    **Arguments**

    - `runs`: `Trajectories` of eigenvalues, ascending, or an array ([members,] times, n) together
      with `times`, equally spaced. Members are pooled.
    - `rate`, `beta`: what is known of κ and β; the rest is estimated, and g always. On short paths
      κ and β g² are nearly the same thing: give one of them.
    - `method`: how β is found; it makes no difference if β is known.

    **Returns** a `FitResult` with the names "g" and, unless given, "rate" and "beta"; errors are of
    the sandwich form, and intervals normal in the logarithms. `bound` is for stationary paths seen
    continuously, and 0 for β ≤ 1, whose information is infinite.

    The sum of the eigenvalues is an Ornstein-Uhlenbeck process, and their sum of squares around
    the mean, Y, a Cox-Ingersoll-Ross process of dimension 2ν, ν = (n-1)(1 + β n/2): with
    a = e^{-κh} and θ = g² ν/κ

        E Y' = a² Y + (1-a²) θ,   Var Y' = 4 g² a² (1-a²) Y/κ + 2 g² (1-a²)² θ/κ.

    "cir" takes all parameters from the Gaussian quasi-likelihood of these two, whose moments are
    exact at every step length. "tamed" replaces its equation for β by that of every eigenvalue,
    Σ φ_i (λ'_i - a λ_i - β g² h Σ 1/(λ_i - λ_j)) = 0 with φ_i = Σ_j d/(d² + 4g²h), d = λ_i - λ_j.
    It is more precise while steps are short against the square of a gap. The likelihood of Euler's
    scheme has 1/d in place of φ, which the closest pairs dominate: it was too low by a quarter.

    **Raises** ValueError for arguments that break a rule; `IdentifiabilityError` if the equations
    have no solution with positive parameters.

    Source: derived for this library; the process of Y is classical (Laguerre).
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    xs, h = equally_spaced(runs, times, least=2)
    if xs.ndim != 3 or xs.shape[-1] < 2:
        raise ValueError(
            f"`runs` must hold at least 2 eigenvalues, (members, times, n); got shape {xs.shape}."
        )
    gaps = np.diff(xs, axis=-1)
    if not np.all(gaps > 0):
        raise ValueError(
            f"`runs` must hold eigenvalues in strictly ascending order; got a gap {gaps.min():.3g}."
        )
    known = {}
    if rate is not None:
        known["rate"] = float(scalar("rate", minimum=0)(rate))
        if known["rate"] == 0:
            raise ValueError("`rate` must be positive; got 0.")
    if beta is not None:
        known["beta"] = float(scalar("beta", minimum=1)(beta))
    names = tuple(name for name in ("g", "rate", "beta") if name not in known)
    members, count, n = xs.shape
    total, horizon = members * (count - 1), members * (count - 1) * h
    variation = float(np.sum(np.diff(xs, axis=1) ** 2)) / (2 * n * total * h)
    x, y = xs[:, :-1].reshape(-1, n), xs[:, 1:].reshape(-1, n)
    instrument, repulsion = _forces(x, 4 * variation * h)
    start = {"g": math.sqrt(variation), "rate": 1 / (10 * h * (count - 1)) + 0.1, "beta": 1.5}
    theta = np.log([start[name] for name in names])
    with double_precision(True):
        data, given = jax.tree.map(
            jnp.asarray, (_Steps(x, y, instrument, repulsion, np.asarray(h)), known)
        )
        theta, size, slope, spread = _solve(jnp.asarray(theta), data, given, names, "cir")
        if method == "tamed" and "beta" in names:
            theta, size, slope, spread = _solve(theta, data, given, names, "tamed")
    slope, spread = np.asarray(slope, float), np.asarray(spread, float)
    if not (np.all(np.isfinite(slope)) and float(size) < 1e-3):
        raise IdentifiabilityError(
            f"no positive {', '.join(names)} solve the equations: the paths are too short to tell "
            "them apart. Give `rate` or `beta`, or take longer runs."
        )
    inverse = np.linalg.inv(slope)
    covariance_log = inverse @ spread @ inverse.T
    estimate = dict(zip(names, map(float, np.exp(np.asarray(theta, float))), strict=True))
    scale = np.array(list(estimate.values()))
    covariance = covariance_log * np.outer(scale, scale)
    errors = np.sqrt(np.diagonal(covariance_log))
    identifiability = ""
    if len(names) > 1:
        correlation = covariance_log / np.outer(errors, errors)
        row, column = np.unravel_index(
            np.argmax(np.abs(correlation - np.eye(len(names)))), correlation.shape
        )
        identifiability = (
            f"largest correlation {correlation[row, column]:+.2f}, of {names[row]} and "
            f"{names[column]}"
        )
    bound = _bounds(estimate | known, known, n, total, horizon)
    return FitResult(
        estimate=estimate,
        covariance=covariance,
        fisher=np.linalg.inv(covariance),
        bound={name: bound[name] for name in names},
        method=method if "beta" in names else "cir",
        intervals=partial(log_normal, names, scale, errors),
        steps_used=total,
        dof_used=float(2 * total if method == "cir" or "beta" in known else n * total),
        dof_available=float(n * total),
        identifiability=identifiability,
    )


def _forces(x, softening: float):
    """Σ_j d/(d² + softening) and Σ_j 1/d, for all steps."""
    d = x[:, :, None] - x[:, None, :]
    tamed = np.sum(d / (d**2 + softening), -1)
    apart = d + np.eye(x.shape[-1])
    return tamed, np.sum(1 / apart, -1) - 1


def _named(theta, known, names):
    values = dict(known)
    values.update({name: jnp.exp(theta[i]) for i, name in enumerate(names)})
    return values["g"], values["rate"], values["beta"]


def _deviance(theta, data: _Steps, known, names) -> Float[Array, " steps"]:
    """-2 ln of the Gaussian quasi-likelihood of the trace and the spread of every step."""
    g, rate, beta = _named(theta, known, names)
    n = data.x.shape[-1]
    square, left = jnp.exp(-2 * rate * data.h), -jnp.expm1(-2 * rate * data.h)
    trace_off = jnp.sum(data.y, -1) - jnp.exp(-rate * data.h) * jnp.sum(data.x, -1)
    trace_variance = n * g**2 * left / rate
    before, after = (
        jnp.sum((v - jnp.mean(v, -1, keepdims=True)) ** 2, -1) for v in (data.x, data.y)
    )
    rest = g**2 * (n - 1) * (1 + beta * n / 2) / rate
    off = after - square * before - left * rest
    variance = 4 * g**2 / rate * square * left * before + 2 * g**2 / rate * left**2 * rest
    trace = trace_off**2 / trace_variance + jnp.log(trace_variance)
    return trace + off**2 / variance + jnp.log(variance)


def _equations(theta, data: _Steps, known, names, method) -> Float[Array, "steps parameters"]:
    """Estimating functions, martingale differences each: quasi-scores, or the tamed one for β."""
    units = jnp.eye(theta.size, dtype=theta.dtype)
    columns = [
        -jax.jvp(lambda p: _deviance(p, data, known, names), (theta,), (unit,))[1] / 2
        for unit in units
    ]
    if method == "tamed":
        g, rate, beta = _named(theta, known, names)
        pushed = beta * g**2 * data.h * data.repulsion
        off = data.y - jnp.exp(-rate * data.h) * data.x - pushed
        columns[names.index("beta")] = jnp.sum(data.instrument * off, -1)
    return jnp.stack(columns, -1)


@eqx.filter_jit
def _solve(theta, data: _Steps, known, names, method):
    """The root of the summed equations by damped Newton; its distance, slopes and spread there."""

    def mean(point):
        return jnp.sum(_equations(point, data, known, names, method), 0)

    def move(_, point):
        value, slope = mean(point), jax.jacfwd(mean)(point)
        if method == "cir":
            # Uphill, also where the quasi-likelihood is not yet concave.
            values, vectors = jnp.linalg.eigh(slope)
            step = -jnp.matmul(vectors, jnp.matmul(vectors.T, value) / jnp.abs(values))
        else:
            step = jnp.linalg.solve(slope, value)
        largest = jnp.max(jnp.abs(step))
        return point - step * jnp.minimum(1.0, 0.3 / jnp.maximum(largest, 1e-30))

    theta = jax.lax.fori_loop(0, _NEWTON_STEPS, move, theta)
    slope = jax.jacfwd(mean)(theta)
    each = _equations(theta, data, known, names, method)
    size = jnp.max(jnp.abs(jnp.linalg.solve(slope, mean(theta))))
    return theta, size, slope, jnp.matmul(each.T, each, precision="highest")


def _bounds(values, known, n: int, steps: int, horizon: float) -> dict[str, float]:
    """Cramér-Rao bounds of a stationary path, seen continuously for κ and β."""
    g, rate, beta = values["g"], values["rate"], values["beta"]
    dimension = n + beta * n * (n - 1) / 2
    pairs = n * (n - 1)
    of_rate = 2 * rate / dimension if "beta" in known else 4 * rate / (n * (n + 1))
    of_beta = 4 * max(beta - 1, 0) / (rate * pairs)
    if "rate" not in known:
        of_beta *= (2 + beta * (n - 1)) / (n + 1)
    return {
        "g": g / math.sqrt(2 * n * steps),
        "rate": math.sqrt(of_rate / horizon),
        "beta": math.sqrt(of_beta / horizon),
    }
