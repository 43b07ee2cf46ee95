"""Neighbouring eigenvalues and the largest one: laws that do not know which matrix they come from.

`beta` is the Dyson index: 1 for real symmetric, 2 for Hermitian matrices, any positive number
where nothing else is said. Functions compute in float64 and return float64 numbers or arrays; a
bad argument raises ValueError with its name, rule and value.

Sources. Wigner's surmise, the ratio law of Atas et al., Dyson and Mehta's number variance and the
determinants of Tracy & Widom and Ferrari & Spohn are recalled; the tests check each against
samples or an integral.
"""

from functools import cache

import numpy as np
from scipy.integrate import quad, simpson
from scipy.special import airy, gammaln

from ._numbers import Real, check, nonnegative, positive
from ._rapidity import Values


def _surmise_scale(beta: Values) -> Values:
    """b = [Γ((β+2)/2)/Γ((β+1)/2)]²."""
    return np.exp(2 * (gammaln((beta + 2) / 2) - gammaln((beta + 1) / 2)))


def surmise_density(spacing: Real, beta: Real = 1) -> Values:
    """(2 b^{(β+1)/2}/Γ((β+1)/2)) s^β e^{-b s²}: Wigner's surmise for a gap of mean 1.

    b = [Γ((β+2)/2)/Γ((β+1)/2)]². Exact for two eigenvalues, off by about one per cent for many.
    """
    s, beta = nonnegative("spacing", spacing), positive("beta", beta)
    b = _surmise_scale(beta)
    front = 2 * np.exp((beta + 1) / 2 * np.log(b) - gammaln((beta + 1) / 2))
    return front * s**beta * np.exp(-b * s**2)


def surmise_variance(beta: Real = 1) -> Values:
    """(β + 1)/(2b) - 1, the variance of the surmise: 0.27324, 0.17810, 0.10447 for β = 1, 2, 4."""
    beta = positive("beta", beta)
    return (beta + 1) / (2 * _surmise_scale(beta)) - 1


def mean_spacing_ratio(beta: float = 1) -> float:
    """E min(r, 1/r), r the ratio of two neighbouring gaps of n = 3 eigenvalues.

    By quadrature of the density (r + r²)^β/(1 + r + r²)^{1+3β/2} (Atas et al. 2013, recalled):
    4 - 2√3, 2√3/π - 1/2 and 32√3/15π - 1/2 for β = 1, 2, 4. For large matrices it is 0.5307,
    0.5996, 0.6744 (recalled); 2 ln 2 - 1 for independent levels.
    """
    beta = float(positive("beta", beta))

    def density(r):
        return (r + r * r) ** beta / (1 + r + r * r) ** (1 + 1.5 * beta)

    return quad(lambda r: r * density(r), 0, 1)[0] / quad(density, 0, 1)[0]


def number_variance(length: Real, beta: int = 1) -> Values:
    """Var of the number of eigenvalues in a stretch that holds `length` of them on average.

        β = 1: (2/π²)[ln 2πL + γ + 1 - π²/8],   β = 2: (1/π²)[ln 2πL + γ + 1],
        β = 4: (1/2π²)[ln 4πL + γ + 1 + π²/8]

    with γ Euler's constant; for L of one or more, in the bulk of large matrices.
    """
    length = positive("length", length)
    if beta not in (1, 2, 4):
        raise ValueError(f"`beta` must be 1, 2 or 4; got {beta}.")
    log = np.log((4 if beta == 4 else 2) * np.pi * length) + np.euler_gamma + 1
    shift = {1: -1, 2: 0, 4: 1}[int(beta)] * np.pi**2 / 8
    return 2 / (beta * np.pi**2) * (log + shift)


# ---- the largest eigenvalue

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(60)
_POINTS, _WEIGHTS = 8 * (_NODES + 1), 8 * _WEIGHTS


def tracy_widom_cdf(value: Real, beta: int = 1) -> Values:
    """F_β of the largest eigenvalue, centred and scaled as `largest_eigenvalue` says.

    Fredholm determinants of B_s(x, y) = Ai(x + y + s) on (0, ∞), by 60 Gauss-Legendre nodes:
    F_1(s) = det(1 - B_s), F_2(s) = det(1 - B_s) det(1 + B_s), and F_4 is the mean of the two
    factors at 2^{2/3} s: the scaling of the stochastic Airy operator for every β. (Tables of F_4
    have the argument 2^{1/6} s or 2^{2/3} s.)
    """
    if beta not in (1, 2, 4):
        raise ValueError(f"`beta` must be 1, 2 or 4; got {beta}.")
    s = np.asarray(value, float)
    check("value", s, s >= -10, "be at least -10, below which the law has no mass")
    s = s * 2 ** (2 / 3) if beta == 4 else s
    root = np.sqrt(_WEIGHTS)
    kernel = airy(_POINTS[:, None] + _POINTS[None, :] + s[..., None, None])[0]
    kernel = root[:, None] * kernel * root[None, :]
    identity = np.eye(len(root))
    minus, plus = np.linalg.det(identity - kernel), np.linalg.det(identity + kernel)
    return {1: minus, 2: minus * plus, 4: (minus + plus) / 2}[int(beta)]


@cache
def tracy_widom_moments(beta: int = 1) -> tuple[float, float]:
    """Mean and variance of `tracy_widom_cdf`, by Simpson's rule.

    -1.20653 and 1.60778 for β = 1, -1.77109 and 0.81319 for β = 2, -2.0552 and 0.41092 for β = 4.
    """
    low, high = -9.0, 7.0
    s = np.linspace(low, high, 161)
    cdf = tracy_widom_cdf(s, beta)
    # E s = high - ∫ F ds and E s² = high² - 2 ∫ s F ds, for mass between the ends.
    mean = high - simpson(cdf, x=s)
    return float(mean), float(high**2 - 2 * simpson(s * cdf, x=s) - mean**2)


def largest_eigenvalue(n: int, variance: Real, beta: int = 1) -> tuple[Values, Values]:
    """Mean and variance of the largest of n eigenvalues of a Gaussian matrix, for large n.

        λ_max = √(β v) [2 √(n + 1/2 - 1/β) + n^{-1/6} TW_β],   `variance` v = g²τ

    The shift 1/2 - 1/β of the centre (derived from the tridiagonal model) makes the means good to
    a few hundredths of a standard deviation at n = 50.
    """
    mean, spread = tracy_widom_moments(beta)
    scale = np.sqrt(beta * positive("variance", variance))
    centre = 2 * np.sqrt(n + 0.5 - 1 / beta)
    return scale * (centre + n ** (-1 / 6) * mean), scale**2 * n ** (-1 / 3) * spread
