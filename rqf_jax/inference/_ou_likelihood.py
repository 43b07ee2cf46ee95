"""Likelihoods of Gaussian autoregressions D' = a D + ε, var ε = v, with v maximised out.

All have the form

    -2 ln L = degrees · ln v + misfit(a)/v + penalty(a)

summed over independent paths x_0, …, x_K around a target that is zero or, if `centred`, one of its
own for every path.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

Jet = tuple[Any, Any, Any]
"""A value and two derivatives with respect to a."""


class Likelihood(NamedTuple):
    """`misfit(a)` and `penalty(a, library)`; `seen` is the regression of x' on x, and the estimate
    is looked for above `low`."""

    degrees: int
    misfit: Callable[[Any], Jet]
    penalty: Callable[[Any, Any], Jet]
    seen: float
    low: float

    def score(self, a: float) -> float:
        """The derivative of ln L, v at its maximum."""
        misfit, slope, _ = self.misfit(a)
        return -(self.degrees * slope / misfit + self.penalty(a, np)[1]) / 2

    def largest(self) -> float:
        """The first maximum between `low` and 1; NaN if there is none."""
        from scipy.optimize import brentq

        if not 0 < self.low < 1:
            return math.nan
        grid = 1 - np.geomspace(1 - self.low, 1e-7 * (1 - self.low), 200)
        below = np.flatnonzero(np.array([self.score(a) for a in grid]) < 0)
        if not below.size or not below[0]:
            return math.nan
        ends = grid[below[0] - 1], grid[below[0]]
        return float(brentq(self.score, *ends, xtol=1e-15))  # type: ignore[arg-type]

    def around(self, a: float) -> tuple[float, np.ndarray]:
        """v, and the second derivatives of -ln L in (a, ln v)."""
        misfit, slope, bend = self.misfit(a)
        v = misfit / self.degrees
        tilt = -slope / (2 * v)
        curved = (bend / v + self.penalty(a, np)[2]) / 2
        return float(v), np.array([[curved, tilt], [tilt, self.degrees / 2]])

    def log(self, a, v):
        """ln L in JAX."""
        misfit, penalty = self.misfit(a)[0], self.penalty(a, jnp)[0]
        return -(self.degrees * jnp.log(v) + misfit / v + penalty) / 2


def conditional_likelihood(xs: np.ndarray, paths: int, *, centred: bool) -> Likelihood:
    """Given the first state: `xs` (members, K + 1, *state) with `paths` independent entries.

    Around the means of the paths the score of a has the mean -b'(a) for any start,
    b(a) = Σ_{t<K} (K-t)/(K t) a^t, which the penalty -2 b takes off.
    """
    before, after = xs[:, :-1], xs[:, 1:]
    steps = before.shape[1]
    if centred:
        before, after = (part - part.mean(1, keepdims=True) for part in (before, after))
    pairs = ((before, before), (before, after), (after, after))
    power, product, moved = (float(np.vdot(x, y).real) for x, y in pairs)
    # b'(a) = Σ (K - t)/K a^(t-1), summed over the paths.
    t = np.arange(1.0, steps) if centred else np.ones(1)
    weights = paths * (steps - t) / steps if centred else np.zeros(1)

    def misfit(a):
        return moved - 2 * a * product + a**2 * power, 2 * (a * power - product), 2 * power

    def penalty(a, library):
        dtype = getattr(a, "dtype", float)
        w, k = library.asarray(weights, dtype), library.asarray(t, dtype)
        terms = w * a ** (k - 1)
        bent = terms * (k - 1)
        return -2 * library.sum(terms * a / k), -2 * library.sum(terms), -2 * library.sum(bent / a)

    seen = product / power if power > 0 else math.nan
    # Without a penalty the maximum is the regression itself.
    degrees, low = paths * (steps - centred), seen if centred else seen / 2
    return Likelihood(degrees, misfit, penalty, seen, low)


def stationary_likelihood(xs: np.ndarray, paths: int, *, centred: bool) -> Likelihood:
    """With a first state of variance v/(1 - a²); see `conditional_likelihood`.

    Around zero the misfit is (1 - a²) x_0² + Σ (x' - a x)² and the penalty -ln(1 - a²). Centred it
    is the restricted likelihood, that of all differences: the weighted mean of a path takes
    (1 - a) [x_0 + x_K + (1 - a) Σ_inner x]²/D off the misfit, D = 2 + (K - 1)(1 - a), and the
    penalty is ln D - ln(1 + a).
    """
    steps = xs.shape[1] - 1
    if centred:
        # The same for every target; without one the numbers are better.
        xs = xs - xs.mean(1, keepdims=True)
    inner = xs[:, 1:-1]
    ends, inside = xs[:, 0] + xs[:, -1], inner.sum(1)
    product = float(np.vdot(xs[:, :-1], xs[:, 1:]).real)
    edges = float(np.vdot(xs[:, 0], xs[:, 0]).real + np.vdot(xs[:, -1], xs[:, -1]).real)
    middle = float(np.vdot(inner, inner).real)
    pairs = ((ends, ends), (ends, inside), (inside, inside))
    ee, ei, ii = (float(np.vdot(x, y).real) for x, y in pairs)
    seen = product / float(np.vdot(xs[:, :-1], xs[:, :-1]).real)

    def plain(a):
        value = edges + (1 + a**2) * middle - 2 * a * product
        return value, 2 * (a * middle - product), 2 * middle

    def centred_misfit(a):
        value, slope, bend = plain(a)
        u, d, k = 1 - a, 2 + (steps - 1) * (1 - a), steps - 1
        n = u * (ee + 2 * u * ei + u**2 * ii)
        n1, n2 = ee + 4 * u * ei + 3 * u**2 * ii, 4 * ei + 6 * u * ii
        # Derivatives of n/d with respect to u = 1 - a.
        first = (n1 * d - n * k) / d**2
        second = n2 / d - 2 * n1 * k / d**2 + 2 * n * k**2 / d**3
        return value - n / d, slope + first, bend - second

    def plain_penalty(a, library):
        rest = 1 - a**2
        bend = 2 * paths * (1 + a**2) / rest**2
        return -paths * library.log(rest), 2 * paths * a / rest, bend

    def centred_penalty(a, library):
        d, k = 2 + (steps - 1) * (1 - a), steps - 1
        value = paths * (library.log(d) - library.log(1 + a))
        return value, -paths * (k / d + 1 / (1 + a)), paths * (1 / (1 + a) ** 2 - k**2 / d**2)

    if centred:
        return Likelihood(paths * steps, centred_misfit, centred_penalty, seen, 1e-6)
    return Likelihood(paths * (steps + 1), plain, plain_penalty, seen, 1e-6)
