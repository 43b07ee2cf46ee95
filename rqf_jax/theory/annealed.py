"""Expectations against almost sure rates for random quadratic forms: closed forms.

A pair of tokens synchronises almost surely at rate σ² (`sphere.mean_log_sine`), but means of sin θ
are carried by rare pairs that do not. Conventions are those of `theory.sphere`.

Sources. The bound is in the proof of Proposition 3.8 of Shalova, arXiv:2608.16664 (read). The rest
was derived for this library and is checked in its tests.
"""

import math

import numpy as np
from scipy.special import gamma, log_expit

from ._contract import finite
from ._numbers import Real, angles, check, nonnegative, overlaps, rapidity_of_angle
from ._rapidity import Values, log_cosh
from ._special import elliptic


@finite
def mean_cotangent(time: Real, angle: Real, *, sigma: Real) -> Values:
    """E cot θ_t = e^{2σ²t} cot θ_0, exact at all times. Raises ValueError unless 0 < θ_0 < π."""
    cotangent = _cotangent(angle)
    return np.sign(cotangent) * np.exp(2 * _clock(time, sigma) + np.log(np.abs(cotangent)))


@finite
def mean_squared_cotangent(time: Real, angle: Real, *, sigma: Real) -> Values:
    """E cot²θ_t = (cot²θ_0 + 1/3) e^{6σ²t} - 1/3, exact at all times; heavy tails when sampled."""
    clock = 6 * _clock(time, sigma)
    return np.exp(clock + 2 * np.log(np.abs(_cotangent(angle)))) + np.expm1(clock) / 3


@finite
def sine_moment_rate(power: Real, *, sigma: Real) -> Values:
    """Rate of decay of E sin^pθ: (p - p²)σ² for 0 ≤ p < 1/2, σ²/4 for p ≥ 1/2.

    The powers of time beside it are t^{-1/2} at p = 1/2 and t^{-3/2} for p > 1/2.
    """
    p = np.minimum(nonnegative("power", power), 0.5)
    return (p - p**2) * nonnegative("sigma", sigma) ** 2


@finite
def late_mean_sine(time: Real, angle: Real, *, sigma: Real) -> Values:
    """E sin θ_t ≈ C (σ²t)^{-3/2} e^{-σ²t/4} as σ²t → ∞, with K of parameter m and

        C = √(sin θ_0) [K(sin²(θ_0/2)) + K(cos²(θ_0/2))] (√π/4) (Γ(1/4)/Γ(3/4))²,

    14.38 at θ_0 = π/2. The convergence is slow: 4 % too large at σ²t = 400. Raises ValueError
    unless σ²t > 0 and 0 ≤ θ_0 ≤ π.
    """
    u, clock = rapidity_of_angle("angle", angle), _clock(time, sigma)
    check("time", time, clock > 0, "be such that `sigma`**2 `time` is positive")
    # The two complements 1 - m are expit(±2u); sin θ = 1/cosh u.
    inner = np.where(np.isfinite(u), u, 0.0)
    waves = elliptic(log_expit(2 * inner)) + elliptic(log_expit(-2 * inner))
    profile = np.where(np.isfinite(u), np.exp(-log_cosh(inner) / 2) * waves, 0.0)
    constant = math.sqrt(math.pi) / 4 * (gamma(0.25) / gamma(0.75)) ** 2
    return constant * profile * np.exp(-clock / 4 - 1.5 * np.log(clock))


@finite
def root_sine_bound(time: Real, overlap0: Real, *, sigma: Real) -> Values:
    """E(1 - r_t²)^{1/4} ≤ (1 - r_0²)^{1/4} e^{-σ²t/4}: E √sin θ_t is below this at all times."""
    r = overlaps("overlap0", overlap0)
    return ((1 - r) * (1 + r)) ** 0.25 * np.exp(-_clock(time, sigma) / 4)


@finite
def distance_bound(time: Real, *, sigma: Real) -> Values:
    """E dist(x_t, {±a}) ≤ (π/√2) e^{-σ²t/4}, the angle from the attractor {a, -a} (Prop. 3.8)."""
    return math.pi / math.sqrt(2) * np.exp(-_clock(time, sigma) / 4)


def _clock(time: Real, sigma: Real) -> Values:
    return (nonnegative("sigma", sigma) * np.sqrt(nonnegative("time", time))) ** 2


def _cotangent(angle: Real) -> Values:
    theta = angles("angle", angle)
    check("angle", angle, (theta > 0) & (theta < np.pi), "lie strictly between 0 and pi")
    return 1 / np.tan(theta)
