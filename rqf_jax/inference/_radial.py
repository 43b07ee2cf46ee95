"""The exact likelihood of the sum and the spread of Dyson's eigenvalues, at every step length.

With a = e^{-κh} and s = g² (1 - a²)/κ the sum T of n eigenvalues and their sum of squares around
the mean, Y, are independent given the eigenvalues before the step, with the laws

    T' ~ N(a T, n s),   Y'/s ~ noncentral χ² of (n-1)(1 + β n/2) dimensions around a² Y/s

for every index β (classical: Ornstein & Uhlenbeck; Cox, Ingersoll & Ross). θ holds the logarithms
of g, κ and β; what is known of them is held.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln, ive

NAMES = ("g", "rate", "beta")
Likelihood = Callable[[Float[np.ndarray, "parameters *steps"]], Float[np.ndarray, " steps"]]
_STEP, _BUDGET = 1e-4, 2**13


class Radii(NamedTuple):
    """Sums and spreads before and after every step, and what a step is."""

    sums: Float[np.ndarray, "two steps"]
    spreads: Float[np.ndarray, "two steps"]
    n: int
    h: float


class Maximum(NamedTuple):
    """θ, the scores of all steps and the information there; whether it is a maximum."""

    theta: Float[np.ndarray, " parameters"]
    scores: Float[np.ndarray, "steps parameters"]
    fisher: Float[np.ndarray, "parameters parameters"]
    found: bool


def radii(x: Float[np.ndarray, "steps n"], y: Float[np.ndarray, "steps n"], h: float) -> Radii:
    """Those of the steps from x to y."""
    both = np.stack([x, y])
    centred = both - both.mean(-1, keepdims=True)
    return Radii(both.sum(-1), np.sum(centred**2, -1), x.shape[-1], h)


def residuals(
    values: dict[str, Any], data: Radii
) -> tuple[Float[np.ndarray, " steps"], Float[np.ndarray, " steps"]]:
    """Of the sum and of the spread after each step, over their standard deviations."""
    kept, scale, dimension = _step(values, data)
    of_sum = (data.sums[1] - kept * data.sums[0]) / np.sqrt(data.n * scale)
    around = kept**2 * data.spreads[0] / scale
    of_spread = data.spreads[1] / scale - dimension - around
    return of_sum, of_spread / np.sqrt(2 * dimension + 4 * around)


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def log_density(values: dict[str, Any], data: Radii) -> Float[np.ndarray, " steps"]:
    """ln of the density of T' and Y' in every step; not finite where it underflows."""
    kept, scale, dimension = _step(values, data)
    of_sum = (data.sums[1] - kept * data.sums[0]) ** 2 / (data.n * scale)
    of_sum = of_sum + np.log(2 * np.pi * data.n * scale)
    w, around = data.spreads[1] / scale, kept**2 * data.spreads[0] / scale
    order, z = dimension / 2 - 1, np.sqrt(w * around)
    of_spread = -((np.sqrt(w) - np.sqrt(around)) ** 2) / 2 + order / 2 * np.log(w / around)
    return -of_sum / 2 + of_spread + _log_bessel(order, z) - np.log(2 * scale)


def maximise(likelihood: Likelihood, start: Float[np.ndarray, " parameters"]) -> Maximum:
    """Of the sum of a log `likelihood` of steps, by a quasi-Newton method and two of Newton's."""
    from scipy.optimize import minimize

    def objective(theta):
        value = -float(np.mean(likelihood(theta)))
        return value if np.isfinite(value) else 1e6

    theta = minimize(objective, start, method="BFGS", options={"gtol": 1e-6}).x[:, None]
    for _ in range(2):
        scores, fisher = slopes(likelihood, theta)
        step, found = _newton(scores.sum(1), fisher)
        if not found[0]:
            return Maximum(theta[:, 0], scores[0], fisher[0], False)
        theta = theta + step
    scores, fisher = slopes(likelihood, theta)
    return Maximum(theta[:, 0], scores[0], fisher[0], True)


def bias(
    theta: Float[np.ndarray, " parameters"], known: dict[str, float], data: Radii, members: int
) -> Float[np.ndarray, " parameters"]:
    """The mean error of the maximum at θ, from simulated paths with the starts of the data.

    Sum and spread are drawn exactly. The linear part of an error, F⁻¹ Σ s with the mean information
    F, has the mean 0 and is taken off before the average. The draws come from a fixed seed: a
    function of the data.
    """
    steps = data.sums.shape[1]
    repeats = max(8, min(64, _BUDGET // steps))
    drawn = _simulated(named(theta, known), data, members, repeats)

    def likelihood(points):
        return log_density(named(np.repeat(points, steps, axis=1), known), drawn)

    at = np.repeat(theta[:, None], repeats, axis=1)
    start, kept = at, np.ones(repeats, bool)
    linear = np.zeros_like(at)
    for number in range(3):
        scores, fisher = slopes(likelihood, at)
        step, found = _newton(scores.sum(1), fisher)
        kept &= found
        if number == 0:
            linear = np.linalg.solve(fisher.mean(0), scores.sum(1).T)
        at = at + np.where(kept, step, 0.0)
    rest = (at - start - linear)[:, kept]
    return rest.mean(1) if rest.size else np.zeros_like(theta)


def slopes(
    likelihood: Likelihood, theta: Float[np.ndarray, "parameters repeats"]
) -> tuple[
    Float[np.ndarray, "repeats steps parameters"],
    Float[np.ndarray, "repeats parameters parameters"],
]:
    """Scores of all steps and minus the second derivatives of their sums, by differences."""
    size, repeats = theta.shape
    units = np.eye(size)[:, :, None]

    def at(move):
        return likelihood(theta + move).reshape(repeats, -1)

    scores = [(at(_STEP * u) - at(-_STEP * u)) / (2 * _STEP) for u in units]
    wide, fisher = 30 * _STEP, np.empty((repeats, size, size))
    middle = at(0 * units[0]).sum(1)
    for i, u in enumerate(units):
        ends = at(wide * u).sum(1) + at(-wide * u).sum(1)
        fisher[:, i, i] = (2 * middle - ends) / wide**2
        for j, v in enumerate(units[:i]):
            alike = at(wide * (u + v)).sum(1) + at(-wide * (u + v)).sum(1)
            apart = at(wide * (u - v)).sum(1) + at(wide * (v - u)).sum(1)
            fisher[:, i, j] = fisher[:, j, i] = (apart - alike) / (4 * wide**2)
    return np.stack(scores, axis=-1), fisher


def _newton(slope, fisher):
    """Steps (parameters, repeats) of Newton's method, and whether they lead to a maximum."""
    found = np.all(np.isfinite(fisher), axis=(1, 2))
    safe = np.where(found[:, None, None], fisher, np.eye(fisher.shape[1]))
    found &= np.linalg.eigvalsh(safe)[:, 0] > 0
    safe = np.where(found[:, None, None], safe, np.eye(fisher.shape[1]))
    step = np.linalg.solve(safe, slope[..., None])[..., 0]
    found &= np.max(np.abs(step), axis=1) < 1
    return np.where(found[:, None], step, 0.0).T, found


def _simulated(values, data: Radii, members: int, repeats: int) -> Radii:
    """Paths of sum and spread, `repeats` for each of the members, as long as theirs."""
    rng = np.random.default_rng(0)
    kept, scale, dimension = _step(values, data)
    steps = data.sums.shape[1] // members
    sums, spreads = (np.empty((steps + 1, repeats, members)) for _ in range(2))
    first = slice(0, None, steps)
    sums[0], spreads[0] = data.sums[0, first], data.spreads[0, first]
    for k in range(steps):
        sums[k + 1] = kept * sums[k] + np.sqrt(data.n * scale) * rng.standard_normal(sums[k].shape)
        around = kept**2 * spreads[k] / scale
        spreads[k + 1] = scale * rng.noncentral_chisquare(dimension, around)

    def pairs(path):
        return np.stack([np.moveaxis(part, 0, -1).ravel() for part in (path[:-1], path[1:])])

    return Radii(pairs(sums), pairs(spreads), data.n, data.h)


def named(theta: Float[np.ndarray, "parameters *steps"], known: dict[str, float]) -> dict[str, Any]:
    """The values of all parameters at θ, one for every step if there are so many."""
    rest = [name for name in NAMES if name not in known]
    return known | dict(zip(rest, np.exp(theta), strict=True))


def _step(values: dict[str, Any], data: Radii) -> tuple[Any, Any, Any]:
    """a, s, and the dimension of the spread."""
    rate, n = values["rate"], data.n
    kept = np.exp(-rate * data.h)
    scale = -np.expm1(-2 * rate * data.h) * values["g"] ** 2 / rate
    return kept, scale, (n - 1) * (1 + values["beta"] * n / 2)


def _log_bessel(order: Any, z: Float[np.ndarray, " steps"]) -> Float[np.ndarray, " steps"]:
    """ln e^{-z} I_q(z); by the logarithm of the power series where that underflows."""
    scaled = ive(order, z)
    small = z**2 / 4 / (order + 1)
    series = order * np.log(z / 2) - gammaln(order + 1) - z + small - small**2 / (2 * order + 4)
    return np.where(scaled > 0, np.log(np.where(scaled > 0, scaled, 1.0)), series)
