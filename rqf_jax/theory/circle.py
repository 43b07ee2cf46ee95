"""Points on the circle moved by the k-th harmonic of shared noise: closed forms.

    dφ = cos(kφ) ∂B¹ + sin(kφ) ∂B²   (Stratonovich; B¹, B² shared by all points)

`harmonic` is k. Each φ is a standard Brownian motion; the gap δ between two neighbours stays in
[0, 2π/k] and ψ = kδ/2 follows dψ = k sin ψ dW, the angle of `theory.sphere` with σ = k/√2. So every
closed form there holds for ψ, and the limit is a set of k equidistant points.

Sources. Shalova, arXiv:2608.16664, section 4 (read), has the model, the attractor and the bound
C e^{-k²t/8}; the rest was derived for this library.
"""

import math

import numpy as np

from .._arguments import host
from ._contract import extended, finite
from ._numbers import Real, check, count, nonnegative, rapidity_of_angle, real
from ._rapidity import Values, log_cosh


@finite
def one_point_correlation(time: Real, amplitudes: Real = 1.0) -> Values:
    """E cos(φ_t - φ_0) = exp(-Σ_i γ_i² t/2) for a cascade of harmonics with `amplitudes` γ_i.

    Raises ValueError unless time ≥ 0.
    """
    clock = np.sum(real("amplitudes", amplitudes) ** 2)
    return np.exp(-clock * nonnegative("time", time) / 2)


@finite
def sphere_sigma(harmonic: int) -> float:
    """k/√2: with this `sigma` the angle of `theory.sphere` is ψ = kδ/2."""
    return count("harmonic", harmonic) / math.sqrt(2)


@finite
def half_phase(gap: Real, harmonic: int) -> Values:
    """ψ = kδ/2 in [0, π] of gaps δ in [0, 2π/k]. Raises ValueError for other gaps."""
    k = count("harmonic", harmonic)
    delta = host("gap", gap)
    widest = 2 * math.pi / k
    inside = (delta >= 0) & (delta <= widest + 1e-5)
    check("gap", delta, inside, f"lie in [0, 2 pi/`harmonic`] = [0, {widest:.6g}]")
    return np.minimum(k * delta / 2, np.pi)


@finite
def closing_probability(gap: Real, harmonic: int) -> Values:
    """P(δ → 0) = 1 - kδ_0/2π; otherwise the gap opens to 2π/k."""
    return 1 - half_phase(gap, harmonic) / np.pi


@extended
def mean_log_sine(time: Real, gap: Real, harmonic: int) -> Values:
    """E ln sin(kδ_t/2) = ln sin(kδ_0/2) - k²t/2, exact; -inf from δ = 0 and δ = 2π/k."""
    start = -log_cosh(rapidity_of_angle("gap", half_phase(gap, harmonic)))
    return start - almost_sure_rate(harmonic) * nonnegative("time", time)


@finite
def almost_sure_rate(harmonic: int) -> float:
    """k²/2: sin(kδ/2) decays as e^{-k²t/2} almost surely."""
    return count("harmonic", harmonic) ** 2 / 2


@finite
def annealed_rate(harmonic: int) -> float:
    """k²/8: its mean decays as t^{-3/2} e^{-k²t/8} (the exponent of the source's bound)."""
    return count("harmonic", harmonic) ** 2 / 8
