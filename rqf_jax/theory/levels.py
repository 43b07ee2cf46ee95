"""Neighbouring eigenvalues and the largest one: laws that do not know which matrix they come from.

`beta` is the Dyson index: 1 for real symmetric, 2 for Hermitian matrices, any positive number
where nothing else is said. Functions compute in float64 and return float64 numbers or arrays; a
bad argument raises ValueError with its name, rule and value.

Sources. Wigner's surmise, the ratio law of Atas et al., Dyson and Mehta's number variance and the
determinants of Tracy & Widom and Ferrari & Spohn are recalled; the tests check each against
samples or an integral.
"""

import math
from functools import cache

import numpy as np
from scipy.integrate import simpson
from scipy.special import airy, sici

from .._arguments import host
from ._contract import finite
from ._diffusion import nodes as quadrature_nodes, totals
from ._numbers import Real, check, count, index, nonnegative, positive, scalar
from ._special import Values, exponential_excess, gamma_defect, stirling_defect


@finite
def surmise_density(spacing: Real, beta: Real = 1) -> Values:
    """(2 b^{(β+1)/2}/Γ((β+1)/2)) s^β e^{-b s²}: Wigner's surmise for a gap of mean 1.

    b = [Γ((β+2)/2)/Γ((β+1)/2)]². Exact for two eigenvalues, off by about one per cent for many.
    """
    s, a = nonnegative("spacing", spacing), (positive("beta", beta) + 1) / 2
    # With a = (β+1)/2 and x = ln(b s²/a) it is √(2a/π) e^{-a (e^x - 1 - x)}/s but for Stirling's
    # remainder: a law of width 1/√β around 1 in which nothing is large.
    apart = np.where(s > 0, s, 1.0)
    x = 2 * (np.log(apart) - gamma_defect(a))
    log_peak = np.log(2 * a / np.pi) / 2 - stirling_defect(a)
    density = np.exp(log_peak - a * exponential_excess(x) - np.log(apart))
    return np.where(s > 0, density, 0.0)[()]


@finite
def surmise_variance(beta: Real = 1) -> Values:
    """(β + 1)/(2b) - 1, the variance of the surmise: 0.27324, 0.17810, 0.10447 for β = 1, 2, 4."""
    return np.expm1(2 * gamma_defect((positive("beta", beta) + 1) / 2))


@finite
def mean_spacing_ratio(beta: float = 1) -> float:
    """E min(r, 1/r), r the ratio of two neighbouring gaps of n = 3 eigenvalues.

    By quadrature of the density (r + r²)^β/(1 + r + r²)^{1+3β/2} (Atas et al. 2013, recalled):
    4 - 2√3, 2√3/π - 1/2 and 32√3/15π - 1/2 for β = 1, 2, 4. Matrices of hundreds of rows have a
    mean about one per cent lower, `bulk_spacing_ratio`.
    """
    beta = scalar(positive, "beta", beta)
    # Panels that shrink towards both ends: r^β is not smooth at 0; for large β all mass is at 1.
    edges = np.concatenate([[0.0], np.geomspace(1e-18, 0.5, 60)])
    x = quadrature_nodes(edges)
    mass = moment = 0.0
    for r, d in ((x, 1 - x), (1 - x, x)):
        # The density relative to that at r = 1, in d = 1 - r.
        excess = np.log1p(d * (d - 3) / 2) - 1.5 * np.log1p(d * (d - 3) / 3)
        density = np.exp(beta * excess - np.log1p(d * (d - 3) / 3))
        mass += totals(edges, density).sum()
        moment += totals(edges, r * density).sum()
    return float(moment / mass)


@finite
def bulk_spacing_ratio(beta: int = 1) -> float:
    """E min(r, 1/r) in the bulk of large matrices, n → ∞: 0.5307, 0.5996, 0.6744 for β = 1, 2, 4.

    To ±0.0001 (Atas et al. 2013, recalled: means over matrices of 1000 rows); independent levels,
    β = 0, have exactly 2 ln 2 - 1 = 0.3863. This is the number to compare
    `analysis.mean_spacing_ratio` with.
    """
    known = {0: 2 * math.log(2) - 1, 1: 0.5307, 2: 0.5996, 4: 0.6744}
    return known[index("beta", beta, *known)]


@finite
def number_variance(length: Real, beta: int = 1) -> Values:
    """Var of the number of eigenvalues in a stretch that holds `length` of them on average.

        β = 2: Σ²(L) = (1/π²)[ln x + γ + 1 - cos x - Ci x] + L [1 - (2/π) Si x],   x = 2πL,
        β = 1: 2Σ²(L) + (Si πL/π)² - Si πL/π,   β = 4: Σ²(2L)/2 + (Si 2πL/2π)²

    with γ Euler's constant, for every L > 0 in the bulk of large matrices. It is L for short
    stretches; for L of one or more close to

        β = 1: (2/π²)[ln 2πL + γ + 1 - π²/8],   β = 2: (1/π²)[ln 2πL + γ + 1],
        β = 4: (1/2π²)[ln 4πL + γ + 1 + π²/8].
    """
    length = np.asarray(positive("length", length))
    kind = index("beta", beta, 1, 2, 4)
    if kind == 4:
        return _unitary_variance(2 * length) / 2 + (sici(2 * np.pi * length)[0] / (2 * np.pi)) ** 2
    if kind == 2:
        return _unitary_variance(length)
    share = sici(np.pi * length)[0] / np.pi
    return 2 * _unitary_variance(length) + share * (share - 1)


def _unitary_variance(length: Values) -> Values:
    """Σ² for β = 2."""
    x = 2 * np.pi * length
    sine, cosine = sici(x)
    # ln x + γ - Ci x = ∫_0^x (1 - cos y)/y dy, by its series for small x.
    near = np.minimum(x, 1.0)
    series, term = np.zeros_like(x), np.ones_like(x)
    for k in range(1, 10):
        term = -term * near**2 / ((2 * k - 1) * (2 * k))
        series = series - term / (2 * k)
    growth = np.where(x < 1, series, np.log(x) + np.euler_gamma - cosine)
    exact = (growth + 2 * np.sin(x / 2) ** 2) / np.pi**2 + length * (1 - 2 / np.pi * sine)
    # Where the rest, cos x/(π²x²), is below the rounding of L (1 - 2 Si/π).
    late = (np.log(x) + np.euler_gamma + 1) / np.pi**2
    return np.where(x < 1e5, exact, late)[()]


# ---- the largest eigenvalue

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(60)
_POINTS, _WEIGHTS = 8 * (_NODES + 1), 8 * _WEIGHTS


@finite
def tracy_widom_cdf(value: Real, beta: int = 1) -> Values:
    """F_β of the largest eigenvalue, centred and scaled as `largest_eigenvalue` says.

    Fredholm determinants of B_s(x, y) = Ai(x + y + s) on (0, ∞), by 60 Gauss-Legendre nodes:
    F_1(s) = det(1 - B_s), F_2(s) = det(1 - B_s) det(1 + B_s), and F_4 is the mean of the two
    factors at 2^{2/3} s: the scaling of the stochastic Airy operator for every β. (Tables of F_4
    have the argument 2^{1/6} s or 2^{2/3} s.)
    """
    kind, s = index("beta", beta, 1, 2, 4), host("value", value)
    check("value", s, s >= -10, "be at least -10, below which the law has no mass")
    # Beyond 60 the determinants are 1 in float64.
    s = np.minimum(s * 2 ** (2 / 3) if kind == 4 else s, 60.0)
    root = np.sqrt(_WEIGHTS)
    kernel = airy(_POINTS[:, None] + _POINTS[None, :] + s[..., None, None])[0]
    kernel = root[:, None] * kernel * root[None, :]
    identity = np.eye(len(root))
    minus, plus = np.linalg.det(identity - kernel), np.linalg.det(identity + kernel)
    # Rounding may carry the smallest determinants below 0.
    return np.clip({1: minus, 2: minus * plus, 4: (minus + plus) / 2}[kind], 0.0, 1.0)


@finite
def tracy_widom_moments(beta: int = 1) -> tuple[float, float]:
    """Mean and variance of `tracy_widom_cdf`, by Simpson's rule.

    -1.20653 and 1.60778 for β = 1, -1.77109 and 0.81319 for β = 2, -2.0552 and 0.41092 for β = 4.
    """
    return _tracy_widom_moments(index("beta", beta, 1, 2, 4))


@cache
def _tracy_widom_moments(beta: int) -> tuple[float, float]:
    low, high = -9.0, 7.0
    s = np.linspace(low, high, 161)
    cdf = tracy_widom_cdf(s, beta)
    # E s = high - ∫ F ds and E s² = high² - 2 ∫ s F ds, for mass between the ends.
    mean = high - simpson(cdf, x=s)
    return float(mean), float(high**2 - 2 * simpson(s * cdf, x=s) - mean**2)


@finite
def largest_eigenvalue(n: int, variance: Real, beta: int = 1) -> tuple[Values, Values]:
    """Mean and variance of the largest of n eigenvalues of a Gaussian matrix, for large n.

        λ_max = √(β v) [2 √(n + 1/2 - 1/β) + n^{-1/6} TW_β],   `variance` v = g²τ

    The shift 1/2 - 1/β of the centre (derived from the tridiagonal model) makes the means good to
    a few hundredths of a standard deviation at n = 50.
    """
    n, beta = count("n", n), index("beta", beta, 1, 2, 4)
    mean, spread = tracy_widom_moments(beta)
    scale = np.sqrt(beta * positive("variance", variance))
    centre = 2 * np.sqrt(n + 0.5 - 1 / beta)
    return scale * (centre + n ** (-1 / 6) * mean), scale**2 * n ** (-1 / 3) * spread
