"""Shared matrix noise and private noise of each token: the stationary law of an overlap.

    dx_a = P ∂A x_a + τ P ∂W_a,   A as in `theory.sphere`, W_a independent Brownian motions of R^n

`sigma` is σ_s, `private` is τ (one-point generator of the private part (τ²/2) Δ), `dim` is n. The
stationary cot θ is √(1 + σ²/τ²) times that of two independent uniform tokens, which is Student's t
of n-1 degrees of freedom over √(n-1).

Every formula was derived for this library and is checked in its tests; none was found elsewhere.
"""

import math

import numpy as np
from scipy.special import betaln, hyp2f1

from .._arguments import integer
from ._numbers import Real, nonnegative, overlaps, positive
from ._rapidity import Values


def overlap_drift(overlap: Real, *, sigma: Real, private: Real, dim: int) -> Values:
    """-[σ²(1-r²) + (n-1)τ²] r, the Itô drift of an overlap r."""
    r = overlaps("overlap", overlap)
    pull = (integer("dim", dim, minimum=2) - 1) * nonnegative("private", private) ** 2
    return -(nonnegative("sigma", sigma) ** 2 * (1 - r**2) + pull) * r


def overlap_variance(overlap: Real, *, sigma: Real, private: Real) -> Values:
    """d<r>/dt = 2(1-r²)[σ²(1-r²) + τ²], the variance an overlap gains per unit time."""
    sine2 = 1 - overlaps("overlap", overlap) ** 2
    spread = nonnegative("sigma", sigma) ** 2 * sine2 + nonnegative("private", private) ** 2
    return 2 * sine2 * spread


def overlap_density(overlap: Real, *, sigma: Real, private: Real, dim: int) -> Values:
    """Stationary density of r at `overlap`, of integral one over (-1, 1):

        p(r) = τ (σ²+τ²)^{(n-1)/2}/B((n-1)/2, 1/2) (1-r²)^{(n-3)/2} (τ² + σ²(1-r²))^{-n/2}.

    Raises ValueError unless τ > 0; infinite at r = ±1 for n = 2.
    """
    r, n = overlaps("overlap", overlap), integer("dim", dim, minimum=2)
    s2, t2 = nonnegative("sigma", sigma) ** 2, positive("private", private) ** 2
    with np.errstate(divide="ignore"):
        log_sine2 = np.log1p(-(r**2))
        power = (n - 3) / 2 * log_sine2 if n != 3 else 0.0
    log_mass = betaln((n - 1) / 2, 0.5) - np.log(t2) / 2 - (n - 1) / 2 * np.log(s2 + t2)
    return np.exp(power - n / 2 * np.log(t2 + s2 * np.exp(log_sine2)) - log_mass)


def mean_squared_overlap(*, sigma: Real, private: Real, dim: int) -> Values:
    """Stationary E r² = 1 - E sin²θ."""
    return 1 - _sine_moment(2, sigma, private, dim)


def mean_sine(*, sigma: Real, private: Real, dim: int) -> Values:
    """Stationary E sin θ."""
    return _sine_moment(1, sigma, private, dim)


def _sine_moment(power: int, sigma: Real, private: Real, dim: int) -> Values:
    """E sin^pθ = (1-k)^{p/2} B(a+p/2, 1/2)/B(a, 1/2) ₂F₁(p/2, a+p/2; a+(p+1)/2; k).

    a = (n-1)/2, k = σ²/(σ²+τ²): sin²θ = (1-k) S/(1 - kS), with S = sin² of uniform tokens, which
    has the law Beta(a, 1/2).
    """
    a = (integer("dim", dim, minimum=2) - 1) / 2
    s2, t2 = nonnegative("sigma", sigma) ** 2, positive("private", private) ** 2
    half, total = power / 2, s2 + t2
    ratio = math.exp(betaln(a + half, 0.5) - betaln(a, 0.5))
    series = hyp2f1(half, a + half, a + half + 0.5, s2 / total)
    return (t2 / total) ** half * ratio * series
