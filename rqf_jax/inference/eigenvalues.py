"""Noise, pull and repulsion of eigenvalues, from trajectories that never cross."""

import math
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import one_of, scalar
from .._ensemble.series import equally_spaced
from . import _martingale as martingale
from ._data import double_precision
from ._radial import Maximum, Radii, bias, log_density, maximise, named, radii, residuals
from ._result import FitResult, IdentifiabilityError, log_normal

METHODS = ("cir", "tamed")
_NEWTON_STEPS = 60
_SMALL = 1e-4

_UNFOUND = (
    "no positive {} solve the equations: the paths are too short to tell them apart. Give `rate` "
    "or `beta`, or take longer runs."
)

_NOISE = "were they observed with noise, which this fit takes for motion?"
_WELL = "as in a well that is not quadratic"
_TEXTS = {
    "memory of the sum": f"successive residuals of the eigenvalues' sum are correlated: {_NOISE}",
    "memory of the spread": f"successive residuals of their spread are correlated: {_NOISE}",
    "pull of the sum": f"the sum of the eigenvalues is not pulled linearly, {_WELL}",
    "pull of the spread": f"the spread of the eigenvalues is not pulled linearly, {_WELL}",
    "sum against spread": "the sum of the eigenvalues has other noise than their spread: entries "
    "of the matrix are correlated, or not of one variance",
    "index": "`beta` is not the index of these eigenvalues, which repel each other more or less",
}


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
    method: str = "cir",
) -> FitResult:
    """Noise g, pull κ and index β of Dyson's motion from its eigenvalues.

        dλ_i = -rate λ_i dt + β g² Σ_{j≠i} dt/(λ_i - λ_j) + √2 g dB_i

    **Arguments**

    - `runs`: `Trajectories` of eigenvalues, ascending, or an array ([members,] times, n) together
      with `times`, equally spaced. Members are pooled.
    - `rate`, `beta`: what is known of κ and β; the rest is estimated, and g always. On short paths
      κ and β g² are nearly the same thing: give one of them.
    - `method`: "cir", or "tamed" for β from the gaps (it makes no difference if β is known).

    **Returns** a `FitResult` with the names "g" and, unless given, "rate" and "beta"; intervals are
    normal in the logarithms. `bound` is for stationary paths seen continuously, and 0 for β ≤ 1,
    whose information is infinite. `goodness` holds correlations that should be 0: of successive
    residuals, of residuals with a pull that is not linear, of the noise of sum and spread, and,
    where β is known, the score of β.

    The sum of the eigenvalues is an Ornstein-Uhlenbeck process, and their sum of squares around
    the mean, Y, a Cox-Ingersoll-Ross process of dimension 2ν, ν = (n-1)(1 + β n/2): with
    a = e^{-κh} and θ = g² ν/κ

        E Y' = a² Y + (1-a²) θ,   Var Y' = 4 g² a² (1-a²) Y/κ + 2 g² (1-a²)² θ/κ.

    "cir" maximises the exact likelihood of these two, at every step length and for every β, and
    takes the bias of its maximum off by simulation (rates of paths that last T are too high by
    about 2/T). That leaves the logarithms without bias: with an error s of ln β the mean of β̂ is
    e^{s²/2} β, 3 % too high at s = 0.25, and its median is β. "tamed" replaces its equation for β
    by that of every eigenvalue, Σ φ_i (λ'_i - a λ_i - β g² h Σ 1/(λ_i - λ_j)) = 0 with
    φ_i = Σ_j d/(d² + 4g²h), d = λ_i - λ_j,
    with errors of the sandwich form. It is more precise while steps are short: at β = 2 it is too
    low by up to 0.3 √c, c = 4 g² h over the square of a typical gap, and warns where that may
    exceed half of its error. The likelihood of Euler's scheme has 1/d in place of φ, which the
    closest pairs dominate: it was too low by a quarter.

    **Raises** ValueError for arguments that break a rule; `IdentifiabilityError` if the equations
    have no solution with positive parameters.

    **Example**

    >>> sde, law = rqf.models.dyson_eigenvalues(0.5, 1.0), rqf.laws.Fixed(jnp.arange(4.0))
    >>> ts, key = np.linspace(0.0, 2.0, 41), jax.random.key(0)
    >>> runs = rqf.simulate(sde, law, ts, substeps=1, members=50, key=key)
    >>> fit = rqf.inference.fit_dyson(runs, beta=1)
    >>> abs(fit.estimate["g"] - 0.5) < 5 * fit.stderr["g"]
    True

    Source: derived for this library; the process of Y is classical (Laguerre).
    """
    method = one_of(*METHODS)("method", method)
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
    data = radii(x, y, h)

    def likelihood(theta):
        return log_density(named(theta, known), data)

    first = {"g": math.sqrt(variation), "rate": 1 / (10 * h * (count - 1)) + 0.1, "beta": 1.5}
    best = maximise(likelihood, np.log([first[name] for name in names]))
    if not best.found:
        raise IdentifiabilityError(_UNFOUND.format(", ".join(names)))
    goodness = _goodness(best, known, data, members)
    warnings = list(martingale.warnings(goodness, _TEXTS))
    if method == "tamed" and "beta" in names:
        theta, covariance_log = _tamed(best.theta, x, y, h, variation, known, names)
        error = math.sqrt(covariance_log[-1, -1])
        lost = 0.3 * math.sqrt(4 * variation * h * float(np.median(1 / gaps**2)))
        if lost > error / 2:
            warnings.append(
                f"steps are long against the gaps: `beta` may be too low by {lost:.0%}, and its "
                'error does not know that. Use `method="cir"`.'
            )
    else:
        theta = best.theta - bias(best.theta, known, data, members)
        lasts = horizon * float(np.exp(theta[names.index("rate")])) if len(names) == 3 else math.inf
        if lasts < 100:
            warnings.append(
                f"the paths last {lasts:.0f} in units of 1/rate, too short to tell `rate` from "
                "`beta`: their intervals hold the truth less often than they say (0.85 to 0.9 for "
                "0.95 at 20). Give one of them."
            )
        covariance_log = np.linalg.inv(best.fisher)
        method = "cir"
    estimate = dict(zip(names, map(float, np.exp(theta)), strict=True))
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
        method=method,
        intervals=partial(log_normal, names, scale, errors),
        steps_used=total,
        dof_used=float(2 * total if method == "cir" else n * total),
        dof_available=float(n * total),
        goodness=goodness,
        identifiability=identifiability,
        warnings=tuple(warnings),
    )


def _goodness(best: Maximum, known, data: Radii, members: int) -> dict[str, tuple[float, float]]:
    """Correlations that are 0 if the model holds; see `_martingale`."""

    def paths(values):
        return values.reshape(members, -1)

    def standard(values):
        return (values - values.mean()) / max(values.std(), 1e-300)

    before = standard(data.sums[0]), standard(data.spreads[0])
    # Of the standardised past, the part that a linear pull does not use.
    bent = before[0] ** 3 - 3 * before[0], before[1] ** 2

    def terms(theta):
        of_sum, of_spread = residuals(named(theta[:, None], known), data)
        found = {"pull of the sum": of_sum * bent[0], "pull of the spread": of_spread * bent[1]}
        for name, values in (("sum", of_sum), ("spread", of_spread)):
            one, after = paths(values)[:, :-1], paths(values)[:, 1:]
            found[f"memory of the {name}"] = np.pad(one * after, ((0, 0), (1, 0))).ravel()
        found["sum against spread"] = of_sum**2 - of_spread**2
        return found

    def index(theta):
        ends = []
        for move in (1 + _SMALL, 1 - _SMALL):
            changed = known | {"beta": known["beta"] * move}
            ends.append(log_density(named(theta[:, None], changed), data))
        return {"index": (ends[0] - ends[1]) / (2 * _SMALL)}

    kinds = [terms, index] if "beta" in known else [terms]
    checks = {}
    for kind in kinds:
        middle = kind(best.theta)
        units = _SMALL * np.eye(best.theta.size)
        moved = [(kind(best.theta + unit), kind(best.theta - unit)) for unit in units]
        for name, values in middle.items():
            slope = [(high[name].sum() - low[name].sum()) / (2 * _SMALL) for high, low in moved]
            checks[name] = martingale.check(values, np.array(slope), best.scores, best.fisher)
    return checks


def _tamed(start, x, y, h: float, variation: float, known, names):
    """θ of the tamed equations, and its covariance of the sandwich form."""
    instrument, repulsion = _forces(x, 4 * variation * h)
    with double_precision(True):
        data, given = jax.tree.map(
            jnp.asarray, (_Steps(x, y, instrument, repulsion, np.asarray(h)), known)
        )
        theta, size, slope, spread = _solve(jnp.asarray(start), data, given, names)
    slope, spread = np.asarray(slope, float), np.asarray(spread, float)
    if not (np.all(np.isfinite(slope)) and float(size) < 1e-3):
        raise IdentifiabilityError(_UNFOUND.format(", ".join(names)))
    inverse = np.linalg.inv(slope)
    return np.asarray(theta, float), inverse @ spread @ inverse.T


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


def _equations(theta, data: _Steps, known, names) -> Float[Array, "steps parameters"]:
    """Estimating functions, martingale differences each: quasi-scores, and the tamed one for β."""
    units = jnp.eye(theta.size, dtype=theta.dtype)
    columns = [
        -jax.jvp(lambda p: _deviance(p, data, known, names), (theta,), (unit,))[1] / 2
        for unit in units
    ]
    g, rate, beta = _named(theta, known, names)
    pushed = beta * g**2 * data.h * data.repulsion
    off = data.y - jnp.exp(-rate * data.h) * data.x - pushed
    columns[names.index("beta")] = jnp.sum(data.instrument * off, -1)
    return jnp.stack(columns, -1)


@eqx.filter_jit
def _solve(theta, data: _Steps, known, names):
    """The root of the summed equations by damped Newton; its distance, slopes and spread there."""

    def mean(point):
        return jnp.sum(_equations(point, data, known, names), 0)

    def move(_, point):
        value, slope = mean(point), jax.jacfwd(mean)(point)
        step = jnp.linalg.solve(slope, value)
        largest = jnp.max(jnp.abs(step))
        return point - step * jnp.minimum(1.0, 0.3 / jnp.maximum(largest, 1e-30))

    theta = jax.lax.fori_loop(0, _NEWTON_STEPS, move, theta)
    slope = jax.jacfwd(mean)(theta)
    each = _equations(theta, data, known, names)
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
