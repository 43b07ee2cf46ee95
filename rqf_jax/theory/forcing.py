"""Random quadratic forms with a random bias shared by all tokens: closed forms.

    dX = P_X ∂A X + g P_X ∂W (Stratonovich),   A as in `theory.sphere`, W a Brownian motion of R^n.

`sigma` is σ_s, `forcing` is g, `dim` is n, and γ² = 2g²/σ_s². The overlap z of two tokens follows

    L = (1-z)[g²(n-2-z) - σ²z(1+z)] ∂_z + (1-z)²(1+z)[σ²(1+z) + g²] ∂_z².

Sources. Shalova, arXiv:2608.16664 (read), with σ_s² = 2 and g = γ there, so that its time is σ²/2
times the time here. The exponents, the scale density and the merge times were derived for this
library and are checked in its tests.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from ._contract import finite
from ._diffusion import mean_passage_time
from ._numbers import (
    Real,
    check,
    count,
    nonnegative,
    overlaps,
    positive,
    rapidity_of_overlap,
    scalar,
    size,
)
from ._rapidity import Values
from ._special import log_gamma_step


@finite
def one_point_correlation(
    time: Real, *, symmetric: Real, antisymmetric: Real = 0.0, forcing: Real, dim: int
) -> Values:
    """E<x_t, x_0> = exp(-(n-1)(σ_s² + σ_a² + 2g²) t/4); Theorem 3.1 there for σ_s² = 2, σ_a = 0.

    Raises ValueError unless time, σ_s, σ_a, g ≥ 0 and dim ≥ 1.

    **Arguments** `time`: t ≥ 0; `symmetric`: σ_s ≥ 0; `antisymmetric`: σ_a ≥ 0; `forcing`: g ≥ 0;
    `dim`: n, an integer. **Returns** a number or an array. **Raises** ValueError for arguments out
    of range. **Example**

    >>> print(np.round(rqf.theory.forcing.one_point_correlation(
    ...     1.0, symmetric=1.0, forcing=0.5, dim=3
    ... ), 6))
    0.472367
    """
    rate = (
        nonnegative("symmetric", symmetric) ** 2
        + nonnegative("antisymmetric", antisymmetric) ** 2
        + 2 * nonnegative("forcing", forcing) ** 2
    )
    return np.exp(-(count("dim", dim) - 1) * rate * nonnegative("time", time) / 4)


@finite
def overlap_drift(overlap: Real, *, sigma: Real, forcing: Real, dim: int) -> Values:
    """(1-z)[g²(n-2-z) - σ²z(1+z)], the Itô drift of an overlap z (Lemma 3.11 there).

    **Arguments** `overlap`: z in [-1, 1]; `sigma`: σ ≥ 0; `forcing`: g ≥ 0; `dim`: n, an integer of
    at least 2. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.forcing.overlap_drift(0.5, sigma=1.0, forcing=0.5, dim=3), 6))
    -0.3125
    """
    z, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    push = nonnegative("forcing", forcing) ** 2 * (n - 2 - z)
    return (1 - z) * (push - nonnegative("sigma", sigma) ** 2 * z * (1 + z))


@finite
def overlap_variance(overlap: Real, *, sigma: Real, forcing: Real) -> Values:
    """d<z>/dt = 2(1-z)²(1+z)[σ²(1+z) + g²], the variance it gains per unit time (same source)."""
    z = overlaps("overlap", overlap)
    spread = nonnegative("sigma", sigma) ** 2 * (1 + z) + nonnegative("forcing", forcing) ** 2
    return 2 * (1 - z) ** 2 * (1 + z) * spread


@finite
def lyapunov_spectrum(dim: int, *, sigma: Real, forcing: Real) -> Float[np.ndarray, " exponents"]:
    """λ_i = -iσ² - g²(n-1)/2, i = 1, ..., n-1: the Lyapunov exponents, largest first."""
    n = size("dim", dim, minimum=2)
    common = nonnegative("forcing", forcing) ** 2 * (n - 1) / 2
    return -np.arange(1.0, n) * nonnegative("sigma", sigma) ** 2 - common


@finite
def scale_density(overlap: Real, *, sigma: Real, forcing: Real, dim: int) -> Values:
    """s'(z) up to a constant, w = 1 + z (Feller's scale of the overlap):

        w^{-(n-1)/2} (2-w)^{[γ²(n-3) - 4]/(2(4+γ²))} (2w + γ²)^{2(n-2)/(4+γ²)}.

    Not integrable at w = 0, for n ≥ 3: tokens never become antipodal. Raises ValueError unless
    -1 < z < 1, σ > 0.

    **Arguments** `overlap`: z, strictly between -1 and 1; `sigma`: σ > 0; `forcing`: g ≥ 0; `dim`:
    n, an integer of at least 2. **Returns** a number or an array. **Raises** ValueError for
    arguments out of range. **Example**

    >>> print(np.round(rqf.theory.forcing.scale_density(0.5, sigma=1.0, forcing=0.5, dim=3), 6))
    1.583098
    """
    z, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    check("overlap", overlap, np.abs(z) < 1, "lie strictly between -1 and 1")
    square = 2 * (nonnegative("forcing", forcing) / positive("sigma", sigma)) ** 2
    w = 1 + z
    log_density = -(n - 1) / 2 * np.log(w)
    log_density = log_density + (square * (n - 3) - 4) / (2 * (4 + square)) * np.log1p(-z)
    log_density = log_density + 2 * (n - 2) / (4 + square) * np.log(2 * w + square)
    return np.exp(log_density)


@finite
def mean_merge_time(
    *, sigma: float, forcing: float, dim: int, overlap0: Real = -1.0, overlap: float = 0.999
) -> Values:
    """Mean first time with z ≥ `overlap` from z_0 = `overlap0`; broadcasts over z_0.

    The quadrature of the scale and speed densities, to a relative 1e-9. Raises ValueError unless
    σ ≥ 0, g > 0 and -1 < `overlap` < 1.

    **Arguments** `sigma`: σ ≥ 0; `forcing`: g > 0; `dim`: n, an integer of at least 2; `overlap0`:
    z_0 in [-1, 1]; `overlap`: z, strictly between -1 and 1. **Returns** a number or an array.
    **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.forcing.mean_merge_time(sigma=1.0, forcing=0.5, dim=3), 6))
    4.935525
    """
    push = scalar(positive, "forcing", forcing)
    # In units of 1/g², with σ²/g².
    rate = (scalar(nonnegative, "sigma", sigma) / push) ** 2
    check("forcing", forcing, rate < np.inf, "be at least 1e-154 of `sigma`")
    n, stop = count("dim", dim, minimum=2), scalar(rapidity_of_overlap, "overlap", overlap)
    check("overlap", overlap, math.isfinite(stop), "lie strictly between -1 and 1")
    start = rapidity_of_overlap("overlap0", overlap0)
    # Below it σ²(1 + z) is 1e-17 of g².
    bottom = min(-math.log(max(rate, 1.0)) / 2, stop) - 20
    times = mean_passage_time(
        lambda u: rate * np.tanh(u) + (n - 2 + np.tanh(u)) / (2 * expit(2 * u)),
        lambda u: rate + 1 / (2 * expit(2 * u)),
        start,
        stop,
        bottom=bottom,
    )
    return times / push**2


@finite
def weak_merge_time(
    *, sigma: Real, forcing: Real, dim: int, overlap0: Real = -1.0, overlap: Real = 1.0
) -> Values:
    """(2/σ²)(π/4γ) B((n-1)/2, 1/2) (θ_0 - θ)/π, the limit of `mean_merge_time` as γ → 0.

    B is Euler's beta function, θ_0 and θ < θ_0 are the angles of the two overlaps. Unforced tokens
    come to θ or turn antipodal, the latter with probability (θ_0 - θ)/(π - θ); then they wait for
    an about exponential time that grows as 1/γ, not as 1/γ². Raises ValueError unless σ, g > 0.

    **Arguments** `sigma`: σ > 0; `forcing`: g > 0; `dim`: n, an integer of at least 2; `overlap0`:
    z_0 in [-1, 1]; `overlap`: z in [-1, 1], at which the time ends. **Returns** a number or an
    array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.forcing.weak_merge_time(sigma=1.0, forcing=0.1, dim=3), 6))
    22.214415
    """
    s, g = positive("sigma", sigma), positive("forcing", forcing)
    n = count("dim", dim, minimum=2)
    start, stop = np.arccos(overlaps("overlap0", overlap0)), np.arccos(overlaps("overlap", overlap))
    # B(a, 1/2) = √π Γ(a)/Γ(a + 1/2).
    waiting = np.pi / (2 * math.sqrt(2) * s * g) * math.sqrt(np.pi)
    waiting = waiting * np.exp(-log_gamma_step((n - 1) / 2))
    return waiting * np.maximum(start - stop, 0) / np.pi


@finite
def distance_bound(time: Real, *, sigma: Real, forcing: Real, dim: int) -> Values:
    """E dist ≤ π exp(-σ²g²(n-1)t/(2σ² + g²)), the angle from the attractor (Theorem 3.4 there).

    In the clock of the source π e^{-λt}, λ = 2γ²(n-1)/(γ²+4).

    **Arguments** `time`: t ≥ 0; `sigma`: σ ≥ 0; `forcing`: g ≥ 0; `dim`: n, an integer of at least
    2. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.forcing.distance_bound(1.0, sigma=1.0, forcing=0.5, dim=3), 6))
    2.515591
    """
    s, g = nonnegative("sigma", sigma), nonnegative("forcing", forcing)
    # Neither the product of the squares nor their sum, which may leave float64.
    total = np.hypot(math.sqrt(2) * s, g)
    root = s * (g / np.where(total > 0, total, 1.0))
    rate = root**2 * (count("dim", dim, minimum=2) - 1)
    return np.pi * np.exp(-rate * nonnegative("time", time))
