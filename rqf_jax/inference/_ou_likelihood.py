"""Likelihoods of Gaussian autoregressions D' = a D + ε, var ε = v, with v maximised out.

All have the form

    -2 ln L = degrees · ln v + misfit(a)/v + penalty(a)

summed over independent paths x_0, …, x_K around a target that is zero or, if `centred`, one of its
own for every path. Functions take u = 1 - a, and misfits are sums of differences: of a short step
nothing else is left in single precision, in which a sampler may compute.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

Jet = tuple[Any, Any, Any]
"""A value and two derivatives with respect to u = 1 - a."""


class Likelihood(NamedTuple):
    """`form(u, *sums)` is the misfit, linear in the `sums` of all paths, `penalty(u, library)` the
    rest. `seen` is the regression of x' on x, and the estimate is looked for above `low`. The mean
    of the sums is v Σ_t `lags`[t] a^t/(1 - a²) if the law of a path is stationary, and else None.
    """

    degrees: int
    sums: tuple[float, ...]
    form: Callable[..., Jet]
    penalty: Callable[[Any, Any], Jet]
    seen: float
    low: float
    lags: np.ndarray | None = None

    def score(self, u: float) -> float:
        """The derivative of ln L by u, v at its maximum."""
        misfit, slope, _ = self.form(u, *self.sums)
        return -(self.degrees * slope / misfit + self.penalty(u, np)[1]) / 2

    def largest(self) -> float:
        """u at the first maximum for a between `low` and 1; NaN if there is none."""
        from scipy.optimize import brentq

        if not 0 < self.low < 1:
            return math.nan
        grid = np.geomspace(1 - self.low, 1e-9 * (1 - self.low), 260)
        above = np.flatnonzero(np.array([self.score(u) for u in grid]) > 0)
        if not above.size or not above[0]:
            return math.nan
        high, low = grid[above[0] - 1], grid[above[0]]
        return float(brentq(self.score, low, high, xtol=1e-14 * low))  # type: ignore[arg-type]

    def unbiased(self, u: float) -> float:
        """The maximum `u` without the bias of -ln a of the order of one over the paths, if `lags`
        are known.

        With the mean score F(θ₀, θ) at θ = (a, ln v) of data from θ₀, the information I = ∂₀F and
        its inverse I^st, the bias of θ is

            -½ I⁻¹ Σ_st I^st ∂₀_s ∂₀_t F                                        (at θ₀ = θ)

        (Cox & Snell, J. Roy. Statist. Soc. B 30 (1968) 248, in the form of Amari's mixture
        connection; recalled, tested by simulation). A bias b of r = -ln a leaves r/(1 + b/r), which
        stays positive.
        """
        if self.lags is None:
            return u
        a = 1 - u
        t, g = np.arange(self.lags.shape[1]), 1 / (1 - a**2)
        powers = a**t, t * a ** (t - 1.0), t * (t - 1) * a ** (t - 2.0)
        factors = g, 2 * a * g**2, 2 * g**2 + 8 * a**2 * g**3
        means = [
            powers[0] * factors[0],
            powers[1] * factors[0] + powers[0] * factors[1],
            powers[2] * factors[0] + 2 * powers[1] * factors[1] + powers[0] * factors[2],
        ]
        # Of the misfit and its slope by a, and their derivatives by a₀; those by ln v₀ are
        # themselves.
        m, s = np.array([self.form(u, *self.lags @ mean)[:2] for mean in means]).T
        s = -s
        inverse = np.linalg.inv(np.array([[-s[1], m[1]], [-s[0], m[0]]]) / 2)
        bent = np.array([[[-s[2], -s[1]], [-s[1], -s[0]]], [[m[2], m[1]], [m[1], m[0]]]]) / 2
        bias_of_a = -(inverse @ np.einsum("ust,st->u", bent, inverse))[0] / 2
        # It is positive, but for rounding where a is nearly 1.
        bias = max(inverse[0, 0] / (2 * a**2) - bias_of_a / a, 0.0)
        return -math.expm1(math.log(a) / (1 - bias / math.log(a)))

    def around(self, u: float) -> tuple[float, np.ndarray]:
        """v, and the second derivatives of -ln L in (u, ln v)."""
        misfit, slope, bend = self.form(u, *self.sums)
        v = misfit / self.degrees
        tilt = -slope / (2 * v)
        curved = (bend / v + self.penalty(u, np)[2]) / 2
        return float(v), np.array([[curved, tilt], [tilt, self.degrees / 2]])

    def log(self, u, v):
        """ln L in JAX."""
        misfit, penalty = self.form(u, *self.sums)[0], self.penalty(u, jnp)[0]
        return -(self.degrees * jnp.log(v) + misfit / v + penalty) / 2


def conditional_likelihood(xs: np.ndarray, *, centred: bool) -> Likelihood:
    """Given the first state; `xs` (K + 1, paths).

    Around the means of the paths the score of a has the mean -b'(a) for any start,
    b(a) = Σ_{t<K} (K-t)/(K t) a^t, which the penalty -2 b takes off.
    """
    before, after = xs[:-1], xs[1:]
    steps, paths = before.shape
    if centred:
        before, after = (part - part.mean(0) for part in (before, after))
    steps_of_all = after - before
    pairs = ((steps_of_all, steps_of_all), (before, steps_of_all), (before, before))
    moved, pulled, power = (float(np.vdot(x, y)) for x, y in pairs)
    # b'(a) = Σ (K - t)/K a^(t-1), summed over the paths.
    t = np.arange(1.0, steps) if centred else np.ones(1)
    weights = paths * (steps - t) / steps if centred else np.zeros(1)

    def form(u, moved, pulled, power):
        return moved + 2 * u * pulled + u**2 * power, 2 * (pulled + u * power), 2 * power

    def penalty(u, library):
        a, dtype = 1 - u, getattr(u, "dtype", float)
        w, k = library.asarray(weights, dtype), library.asarray(t, dtype)
        terms = w * a ** (k - 1)
        bent = terms * (k - 1)
        return -2 * library.sum(terms * a / k), 2 * library.sum(terms), -2 * library.sum(bent / a)

    seen = 1 + pulled / power if power > 0 else math.nan
    # Without a penalty the maximum is the regression itself.
    degrees, low = paths * (steps - centred), seen if centred else seen / 2
    return Likelihood(degrees, (moved, pulled, power), form, penalty, seen, low)


def stationary_likelihood(xs: np.ndarray, *, centred: bool) -> Likelihood:
    """With a first state of variance v/(1 - a²); see `conditional_likelihood`.

    Around zero the misfit is (1 - a²) x_0² + Σ (x' - a x)² and the penalty -ln(1 - a²). Centred it
    is the restricted likelihood, that of all differences: the weighted mean of a path takes
    u [x_0 + x_K + u Σ_inner x]²/D off the misfit, D = 2 + (K - 1) u, and the penalty is
    ln D - ln(1 + a).
    """
    steps, paths = xs.shape[0] - 1, xs.shape[1]
    if centred:
        # The same for every target; without one the numbers are better.
        xs = xs - xs.mean(0)
    inner, ends = xs[1:-1], xs[0] + xs[-1]
    inside = inner.sum(0)
    moves = np.diff(xs, axis=0)
    pairs = [(moves, moves), (xs[[0, -1]], xs[[0, -1]]), (inner, inner)]
    pairs += [(ends, ends), (ends, inside), (inside, inside)] if centred else []
    sums = tuple(float(np.vdot(x, y)) for x, y in pairs)
    power = float(np.vdot(xs[:-1], xs[:-1]))
    seen = 1 + float(np.vdot(xs[:-1], moves)) / power if power > 0 else math.nan
    # How often two states of a path are so many steps apart in each sum.
    lags = np.zeros((6, steps + 1))
    lags[0, 0], lags[0, 1], lags[1, 0], lags[2, 0] = 2 * steps, -2 * steps, 2, steps - 1
    lags[3, [0, steps]] = 2
    lags[4, 1:steps] = 2
    lags[5, : steps - 1] = 2 * (steps - 1 - np.arange(steps - 1))
    lags[5, 0] /= 2

    def plain(u, moved, edges, middle):
        value = (1 - u) * moved + u * edges + u**2 * middle
        return value, edges - moved + 2 * u * middle, 2 * middle

    def restricted(u, moved, edges, middle, ee, ei, ii):
        value, slope, bend = plain(u, moved, edges, middle)
        d, k = 2 + (steps - 1) * u, steps - 1
        n = u * (ee + 2 * u * ei + u**2 * ii)
        n1, n2 = ee + 4 * u * ei + 3 * u**2 * ii, 4 * ei + 6 * u * ii
        first = (n1 * d - n * k) / d**2
        second = n2 / d - 2 * n1 * k / d**2 + 2 * n * k**2 / d**3
        return value - n / d, slope - first, bend - second

    def plain_penalty(u, library):
        a, rest = 1 - u, u * (2 - u)
        bend = 2 * paths * (1 + a**2) / rest**2
        return -paths * library.log(rest), -2 * paths * a / rest, bend

    def restricted_penalty(u, library):
        d, k = 2 + (steps - 1) * u, steps - 1
        value = paths * (library.log(d) - library.log(2 - u))
        return value, paths * (k / d + 1 / (2 - u)), paths * (1 / (2 - u) ** 2 - k**2 / d**2)

    lags = paths * lags[: len(sums)]
    if centred:
        return Likelihood(paths * steps, sums, restricted, restricted_penalty, seen, 1e-6, lags)
    return Likelihood(paths * (steps + 1), sums, plain, plain_penalty, seen, 1e-6, lags)
