"""Dyson Brownian motion, free or pulled to zero, for every Dyson index β: closed forms.

    dλ_i = -κ λ_i dt + β g² Σ_{j≠i} dt/(λ_i - λ_j) + √2 g dB_i,   i = 1, ..., n

For β = 1 these are the eigenvalues of the symmetric matrix dH = -κ H dt + dN, whose noise has
variance 2g² per unit time on the diagonal and g² off it; for β = 2 of the Hermitian one with
E|dN_ij|² = 2g² dt. `rate` is κ ≥ 0 and `g²` variance per unit time; time is dimensionless. A
matrix started at zero is at time t a Gaussian matrix: all of its statistics are those of the free
motion at the *effective time* τ = (1 - e^{-2κt})/(2κ). Times may be infinite if κ > 0.

Functions take numbers or arrays, broadcast them, compute in float64, and return a float64 number
or array. A bad argument raises ValueError with its name, rule and value.

Sources. The motion is Dyson's (1962); the semicircle, Bessel and Harish-Chandra formulas are
classical and recalled. The moments and the mean polynomial for every β were derived for this
library by Itô's formula, and all are checked numerically in its tests.
"""

import math

import numpy as np
from jaxtyping import Float
from numpy.polynomial import polynomial
from scipy.special import chndtr, gammainc

from .._arguments import host
from ._contract import extended, finite
from ._determinant import log_ratio, log_vandermonde
from ._numbers import Real, check, count, nonnegative, positive, real, vector
from ._special import Values, log_bessel, log_gamma_step
from .levels import surmise_density

# ---- clocks and counts


@finite
def degrees_of_freedom(n: int, beta: Real = 1) -> Values:
    """ν = n + β n(n-1)/2, the number of real coordinates of a matrix (for β = 1, 2, 4)."""
    n = count("n", n)
    return n + positive("beta", beta) * n * (n - 1) / 2


@finite
def effective_time(time: Real, rate: Real = 0.0) -> Values:
    """τ = (1 - e^{-2κt})/(2κ), the time at which the free motion has the variance of this one."""
    rate, time = np.asarray(nonnegative("rate", rate)), host("time", time)
    check("time", time, time >= 0, "be at least 0")
    check("time", time + 0 * rate, np.isfinite(time) | (rate > 0), "be finite where `rate` is 0")
    turns = 2 * time * rate
    # (1 - e^{-x})/x at x = 2κt is 1 where x is lost.
    early = time * np.where(turns > 0, -np.expm1(-turns) / turns, 1.0)
    return np.where(turns < 1, early, -np.expm1(-turns) / (2 * rate))[()]


def _decay(time: Real, rate: Real) -> Values:
    """e^{-κt}, for arguments that `effective_time` has let through."""
    kappa, t = np.broadcast_arrays(host("rate", rate), host("time", time))
    return np.exp(-kappa * np.where(kappa == 0, 0.0, t))[()]


# ---- the density of eigenvalues


@finite
def edge(time: Real, *, g: Real, rate: Real = 0.0, n: int, beta: Real = 1) -> Values:
    """2g √(β n τ): where the semicircle of a motion started at zero ends, for large n.

    **Arguments** `time`: t ≥ 0; `g`: g ≥ 0; `rate`: κ ≥ 0, the pull; `n`: number of eigenvalues;
    `beta`: β > 0. **Returns** a number or an array. **Raises** ValueError for arguments out of
    range. **Example**

    >>> print(np.round(rqf.theory.dyson.edge(1.0, g=1.0, n=100), 6))
    20.0
    """
    beta = positive("beta", beta)
    return 2 * nonnegative("g", g) * np.sqrt(beta * count("n", n) * effective_time(time, rate))


@finite
def semicircle_density(value: Real, edge: Real) -> Values:
    """(2/πe²) √(e² - λ²) on [-e, e], 0 outside: the density of eigenvalues for large n."""
    e = positive("edge", edge)
    y = np.minimum(np.abs(real("value", value)) / e, 1.0)
    return 2 / (np.pi * e) * np.sqrt((1 - y) * (1 + y))


@finite
def semicircle_cdf(value: Real, edge: Real) -> Values:
    """1/2 + [y √(1 - y²) + arcsin y]/π with y = λ/e, the share of eigenvalues below `value`."""
    y = np.clip(real("value", value) / positive("edge", edge), -1, 1)
    # (2φ - sin 2φ)/2π with cos φ = -y, by its series near the lower edge.
    turn = 4 * np.arcsin(np.sqrt((1 + y) / 2))
    near = np.minimum(turn, 1.0)
    series = np.zeros_like(near)
    for k in range(19, 1, -2):
        series = near**2 / (k * (k - 1)) * (1 - series)
    return np.where(turn < 1, near * series, turn - np.sin(turn))[()] / (2 * np.pi)


@finite
def merging_time(half_distance: Real, *, g: Real, n: int, beta: Real = 1) -> Values:
    """t = a²/(β n g²): when the bands that start at -a and a (half of n each) merge; κ = 0.

    **Arguments** `half_distance`: a > 0; `g`: g > 0; `n`: number of eigenvalues; `beta`: β > 0.
    **Returns** a number or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.merging_time(2.0, g=1.0, n=4), 6))
    1.0
    """
    ratio = positive("half_distance", half_distance) / positive("g", g)
    return ratio * (ratio / (positive("beta", beta) * count("n", n)))


@finite
def band_edges(
    time: Real, half_distance: Real, *, g: Real, n: int, beta: Real = 1
) -> Float[np.ndarray, "... 2"]:
    """Inner and outer edge of the upper of two bands that start at ±a; inner 0 once merged; κ = 0.

    The resolvent obeys the complex Burgers equation ∂_s G = -G ∂_z G in s = β n g² t, with
    characteristics z = u + s u/(u² - a²). Edges are where dz/du = 0:

        u² = [(2a² + s) ± √(8a²s + s²)]/2

    (derived here). Shape (..., 2) for broadcast `time` and `half_distance`.

    **Arguments** `time`: t > 0; `half_distance`: a > 0; `g`: g > 0; `n`: number of eigenvalues;
    `beta`: β > 0. **Returns** an array (..., 2). **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.dyson.band_edges(0.1, 2.0, g=1.0, n=4), 6))
    [1.161895 2.939388]
    """
    a = positive("half_distance", half_distance)
    clock = np.sqrt(positive("beta", beta) * count("n", n) * positive("time", time))
    # s and u² in units of a². The product of the roots is 1 - s, so that neither cancels; past the
    # merging the inner edge is at an imaginary u: there is none.
    root_s = clock * positive("g", g) / a
    total = root_s + np.hypot(root_s, math.sqrt(8))
    outer = np.sqrt(1 + root_s * total / 2)
    inner = np.sqrt(np.maximum((1 - root_s) * (1 + root_s), 0.0)) / outer
    # u + s u/(u² - 1), where u² - 1 = (s ± √(8s + s²))/2.
    lower = np.where(root_s < 1, inner * (1 - root_s * total / 4), 0.0)
    return np.stack([a * lower, a * outer * (1 + 2 * root_s / total)], -1)


# ---- moments


@finite
def trace_variance(time: Real, *, g: Real, rate: Real = 0.0, n: int) -> Values:
    """Var Σλ = 2n g² τ, from any start and for every β: the trace is one Gaussian process.

    **Arguments** `time`: t ≥ 0; `g`: g ≥ 0; `rate`: κ ≥ 0, the pull; `n`: number of eigenvalues.
    **Returns** a number or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.trace_variance(1.0, g=1.0, n=4), 6))
    8.0
    """
    return 2 * count("n", n) * nonnegative("g", g) ** 2 * effective_time(time, rate)


@finite
def square_sum_mean(
    time: Real, start: Real = 0.0, *, g: Real, rate: Real = 0.0, n: int, beta: Real = 1
) -> Values:
    """E Σλ² = e^{-2κt} p + 2g²τν from Σλ² = p = `start`, a Cox-Ingersoll-Ross process.

    dp = (2g²ν - 2κp) dt + 2√2 g √p dB

    **Arguments** `time`: t ≥ 0; `start`: the value at time 0, at least 0; `g`: g ≥ 0; `rate`:
    κ ≥ 0, the pull; `n`: number of eigenvalues; `beta`: β > 0. **Returns** a number or an array.
    **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.square_sum_mean(1.0, g=1.0, n=4), 6))
    20.0
    """
    scale = 2 * nonnegative("g", g) ** 2 * effective_time(time, rate)
    kept = _decay(time, rate) ** 2 * nonnegative("start", start)
    return kept + scale * degrees_of_freedom(n, beta)


@finite
def square_sum_variance(
    time: Real, start: Real = 0.0, *, g: Real, rate: Real = 0.0, n: int, beta: Real = 1
) -> Values:
    """Var Σλ² = 8g⁴τ²ν + 8g²τ e^{-2κt} p from Σλ² = p = `start`.

    **Arguments** `time`: t ≥ 0; `start`: the value at time 0, at least 0; `g`: g ≥ 0; `rate`:
    κ ≥ 0, the pull; `n`: number of eigenvalues; `beta`: β > 0. **Returns** a number or an array.
    **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.square_sum_variance(1.0, g=1.0, n=4), 6))
    80.0
    """
    scale = 2 * nonnegative("g", g) ** 2 * effective_time(time, rate)
    kept = _decay(time, rate) ** 2 * nonnegative("start", start)
    return 2 * scale**2 * degrees_of_freedom(n, beta) + 4 * scale * kept


@finite
def square_sum_cdf(
    value: Real,
    time: Real,
    start: Real = 0.0,
    *,
    g: Real,
    rate: Real = 0.0,
    n: int,
    beta: Real = 1,
) -> Values:
    """P(Σλ² ≤ value): Σλ²/(2g²τ) is noncentral χ²_ν with parameter e^{-2κt} p/(2g²τ).

    **Arguments** `value`: the argument, at least 0; `time`: t > 0; `start`: the value at time 0, at
    least 0; `g`: g > 0; `rate`: κ ≥ 0, the pull; `n`: number of eigenvalues; `beta`: β > 0.
    **Returns** a number or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.square_sum_cdf(20.0, 1.0, g=1.0, n=4), 6))
    0.559507
    """
    clock = effective_time(time, rate)
    check("time", time, np.asarray(clock) > 0, "be positive")
    scale = 2 * positive("g", g) ** 2 * clock
    check("g", g, np.asarray(scale) > 0, "have a square above 1e-308")
    kept = _decay(time, rate) ** 2 * nonnegative("start", start)
    x, free, apart = nonnegative("value", value) / scale, degrees_of_freedom(n, beta), kept / scale
    return np.where(apart > 0, chndtr(x, free, apart), gammainc(free / 2, x / 2))[()]


@finite
def fourth_moment(time: Real, *, g: Real, rate: Real = 0.0, n: int, beta: Real = 1) -> Values:
    """E Σλ⁴ from zero, g⁴τ²/2 {[12 + 4β(n - 3/2)] n (2 + β(n-1)) + 4βn}, exact for every n, β.

    **Arguments** `time`: t ≥ 0; `g`: g ≥ 0; `rate`: κ ≥ 0, the pull; `n`: number of eigenvalues;
    `beta`: β > 0. **Returns** a number or an array. **Raises** ValueError for arguments out of
    range. **Example**

    >>> print(np.round(rqf.theory.dyson.fourth_moment(1.0, g=1.0, n=4), 6))
    228.0
    """
    n, b = count("n", n), positive("beta", beta)
    bracket = (12 + 4 * b * (n - 1.5)) * n * (2 + b * (n - 1)) + 4 * b * n
    return nonnegative("g", g) ** 4 * effective_time(time, rate) ** 2 / 2 * bracket


@extended
def inverse_square_gaps(*, g: Real, rate: Real, n: int, beta: Real) -> Values:
    """E Σ_{i≠j} (λ_i - λ_j)^{-2} = κ n(n-1)/(2g²(β-1)), stationary; infinite for β ≤ 1.

    **Arguments** `g`: g > 0; `rate`: κ > 0; `n`: number of eigenvalues; `beta`: β > 0. **Returns**
    a number or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.inverse_square_gaps(g=1.0, rate=1.0, n=4, beta=2), 6))
    6.0
    """
    b, g2, n = positive("beta", beta), positive("g", g) ** 2, count("n", n)
    above = np.asarray(b) > 1
    excess = np.where(above, np.asarray(b) - 1, 1.0)
    finite_value = positive("rate", rate) * n * (n - 1) / (2 * g2 * excess)
    return np.where(above, finite_value, np.inf)[()]


@finite
def mean_characteristic_polynomial(
    start: Real, time: float, *, g: float, rate: float = 0.0, beta: float = 1
) -> Float[np.ndarray, " coefficients"]:
    """Coefficients of E Π(z - λ_i(t)), lowest power first, from the eigenvalues `start`.

        exp(-(βg²τ/2) ∂_z²) Π(z - e^{-κt} λ_i(0))

    for every n and β (derived by Itô's formula); from zero it is a Hermite polynomial.

    **Arguments** `start`: the eigenvalues at time 0, along one axis; `time`: t ≥ 0; `g`: g ≥ 0;
    `rate`: κ ≥ 0, the pull; `beta`: β > 0. **Returns** an array (n + 1,). **Raises** ValueError for
    arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.mean_characteristic_polynomial(
    ...     [0.0, 0.0], 1.0, g=1.0
    ... ), 6))
    [-1.  0.  1.]
    """
    heat = positive("beta", beta) * nonnegative("g", g) ** 2 * effective_time(time, rate) / 2
    roots = _decay(time, rate) * vector("start", start)
    total = term = polynomial.polyfromroots(roots)
    for order in range(1, len(term) // 2 + 1):
        term = polynomial.polyder(term, 2) * (-heat / order)
        total = polynomial.polyadd(total, term)
    return total


# ---- the gap of two eigenvalues


@finite
def mean_gap(time: Real, *, g: Real, rate: Real = 0.0, beta: Real = 1) -> Values:
    """E S = 2g √(2τ) Γ((β+2)/2)/Γ((β+1)/2), the gap of n = 2 eigenvalues that start equal.

    **Arguments** `time`: t ≥ 0; `g`: g ≥ 0; `rate`: κ ≥ 0, the pull; `beta`: β > 0. **Returns** a
    number or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.mean_gap(1.0, g=1.0), 6))
    2.506628
    """
    ratio = np.exp(log_gamma_step((positive("beta", beta) + 1) / 2))
    return 2 * nonnegative("g", g) * np.sqrt(2 * np.asarray(effective_time(time, rate))) * ratio


@finite
def gap_density(
    gap: Real, time: Real, start: Real = 0.0, *, g: Real, rate: Real = 0.0, beta: Real = 1
) -> Values:
    """Density of the gap S of n = 2 eigenvalues at `time`, from the gap `start` ≥ 0.

    S/(2g) is a Bessel process of dimension β + 1 (pulled to 0 at rate κ). With y = S/(2g),
    x = e^{-κt} S_0/(2g) and q = (β - 1)/2 the density of y is

        (y/τ) (y/x)^q e^{-(x² + y²)/2τ} I_q(xy/τ),

    and from x = 0 the Wigner surmise.

    **Arguments** `gap`: S ≥ 0; `time`: t > 0; `start`: S_0 ≥ 0, the gap at time 0; `g`: g > 0;
    `rate`: κ ≥ 0, the pull; `beta`: β > 0. **Returns** a number or an array. **Raises** ValueError
    for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.gap_density(1.0, 1.0, g=1.0), 6))
    0.220624
    """
    b, width = np.asarray(positive("beta", beta)), 2 * positive("g", g)
    tau = np.asarray(effective_time(time, rate))
    check("time", time, tau > 0, "be positive")
    x = _decay(time, rate) * nonnegative("start", start) / width
    y = nonnegative("gap", gap) / width
    y, x, tau, b = np.broadcast_arrays(y, x, tau, b)
    q, apart = (b - 1) / 2, x > 0
    safe, above = np.where(apart, x, 1.0), np.where(y > 0, y, 1.0)
    check("beta", b, ~apart | (b <= 1e8), "be at most 1e8 where `start` is positive")
    # e^{-z} I_q(z) turns the exponent into that of a Gaussian in y - x.
    root = np.sqrt(tau)
    moved = np.log(above) - np.log(tau) + q * (np.log(above) - np.log(safe))
    moved = moved - ((safe - above) / root) ** 2 / 2
    moved = moved + log_bessel(q, (safe / root) * (above / root))
    mean = np.sqrt(2 * tau) * np.exp(log_gamma_step((b + 1) / 2))
    fresh = np.asarray(surmise_density(np.minimum(y / mean, 1e300), b)) / mean
    return np.where(apart, np.where(y > 0, np.exp(moved), 0.0), fresh)[()] / width


# ---- transitions


@finite
def log_transition_density(
    end: Real, start: Real, time: Real, *, g: Real, rate: Real = 0.0
) -> Values:
    """ln p(μ | λ) of all n eigenvalues for β = 2, ordered, from distinct `start` to `end`.

        p = e^{κt n(n-1)/2} Δ(μ)/Δ(λ) det[ N(μ_j; e^{-κt} λ_i, 2g²τ) ],   Δ(x) = Π_{i<j} (x_j - x_i)

    by Karlin and McGregor's determinant (recalled): non-intersecting paths. Both are of shape
    (..., n), and their leading axes are broadcast with the numbers. The determinant is exact to
    rounding however close the eigenvalues are: where float64 would cancel, decimal arithmetic takes
    its place (milliseconds for a dozen of them). As t → ∞ it is the density of the stationary law;
    `time` may be infinite if κ > 0. Raises ValueError unless `end` and `start` are strictly
    ascending along the last axis and of one size there.

    **Arguments** `end`: μ (..., n), strictly ascending; `start`: λ (..., n), strictly ascending;
    `time`: t > 0; `g`: g > 0; `rate`: κ ≥ 0, the pull. **Returns** an array of the leading axes, or
    a number. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.dyson.log_transition_density(
    ...     [0.0, 1.0], [-1.0, 1.0], 1.0, g=1.0
    ... ), 6))
    -3.932847
    """
    mu, lam = np.atleast_1d(real("end", end)), np.atleast_1d(real("start", start))
    for name, values in (("end", mu), ("start", lam)):
        steps = np.diff(values)
        check(name, steps, steps > 0, "be strictly ascending, with positive steps")
    n = mu.shape[-1]
    if n != lam.shape[-1] or n == 0:
        raise ValueError(f"`end` must be as many as `start`; got {n} and {lam.shape[-1]}.")
    tau = np.asarray(effective_time(time, rate))
    check("time", time, tau > 0, "be positive")
    width = np.sqrt(2 * tau) * positive("g", g)
    check("g", width, (width > 0) & (width < np.inf), "keep the width g √(2τ) within float64")
    # e^{κt n(n-1)/2}/Δ(λ) is 1/Δ(e^{-κt} λ).
    ratio = log_ratio(lam, mu, np.asarray(_decay(time, rate)), np.asarray(width))
    spread = 2 * log_vandermonde(mu) - n**2 * np.log(width)
    return (ratio + spread - n / 2 * np.log(2 * np.pi))[()]


@finite
def eigenvector_decay(eigenvalues: Real, *, g: Real) -> Float[np.ndarray, " n"]:
    """g² Σ_j (λ_i - λ_j)^{-2}: the rate at which 1 - <v_i(0), v_i(t)>² grows at t = 0 (β = 1)."""
    lam = vector("eigenvalues", eigenvalues)
    difference = lam[:, None] - lam[None, :]
    np.fill_diagonal(difference, np.inf)
    check("eigenvalues", difference, difference != 0, "differ, with nonzero gaps")
    return nonnegative("g", g) ** 2 * np.sum(difference**-2.0, 1)
