"""Two tokens with radii under fresh random layers: Post-LN, nGPT, Pre-LN and Peri-LN in one family.

A token is x = rθ, |θ| = 1. Every layer adds a branch that sees θ, with weights drawn afresh,

    A = σ_s Q + σ_a R as in `theory.sphere`,   or a Gaussian field of covariance κ(<θ, θ'>),

and a scheme is two switches: does the stream keep its radius, and is the branch's output
normalised.

    renormalised stream: "post" x ← N(x + hF(x)),    "ngpt" x ← N(x + α(N(F) - x))
    kept radius:         "pre"  x ← x + hF(N(x)),    "peri" x ← x + hN(F(N(x)))

z = <θ_1, θ_2> is the overlap of a pair, η = ln(r_1/r_2), and its clock is ds = dt/(r_1 r_2). Fresh
weights act on the state before the layer: stochastic integrals are Itô's in the ambient space.
LayerNorm without a gain is RMSNorm in dimension n - 1.

Sources, by the tags in the docstrings. [read] in the source; [recalled]; [derived] for this library
and checked in its tests by computations that do not use it. Nothing of the pair's law under Pre- or
Peri-LN was found in a paper.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import chndtr, gammainc, hyp2f1

from .._arguments import Real, called, takes
from ._contract import finite
from ._normalised_attention import (
    antipodal_exponent as antipodal_exponent,
    antipodal_lifetime_exponent as antipodal_lifetime_exponent,
    causal_exponents as causal_exponents,
    critical_beta as critical_beta,
    random_value_exponent as random_value_exponent,
    rope_spectrum as rope_spectrum,
    self_similar_exponents as self_similar_exponents,
    simplex_slope as simplex_slope,
)
from ._normalised_laws import (
    INDEX as INDEX,
    aligned_probability as aligned_probability,
    decayed_rate as decayed_rate,
    depth_exponent as depth_exponent,
    exponent as exponent,
    matrix_exponent as matrix_exponent,
    mean_squared_cosine as mean_squared_cosine,
    wide_expectation as wide_expectation,
    wide_overlap_drift as wide_overlap_drift,
)
from ._numbers import check, count, nonnegative, overlaps, positive, real
from ._special import Values, gamma_defect

MEASURED_PAIRS = {
    (4, 1): {1: (0.366, 0.572, -0.662), 10: (0.287, 0.744, -1.231), 100: (0.246, 0.828, -1.762)},
    (4, 2): {1: (0.356, 0.468, -0.458), 10: (0.267, 0.684, -0.984), 100: (0.222, 0.798, -1.536)},
    (8, 1): {1: (0.401, 0.457, -0.434), 10: (0.346, 0.577, -0.693), 100: (0.311, 0.656, -0.941)},
    (8, 2): {1: (0.374, 0.378, -0.316), 10: (0.314, 0.522, -0.566), 100: (0.278, 0.620, -0.821)},
}
"""(E z, E z², E ln sin φ) under Pre-LN by (n, r_2) and time, σ_s = σ_a = 1, r_1 = 1, z_0 = 1/2.

Simulated with 1 000 000 pairs (2 000 000 in the second row), extrapolated in the step; standard
errors at most .002, .001, .003. A simulation that shares no code with it, 800 000 pairs
extrapolated to second order, has E ln sin φ = -1.537 with standard error .004 at n = 4, r_2 = 2 and
t = 100.
"""

# ---- a pair of tokens that keep their radii


@finite
def pair_drift(
    overlap: Real, log_ratio: Real, *, symmetric: Real, antisymmetric: Real, dim: int
) -> tuple[Values, Values]:
    """Drifts of η and of z per unit of the clock ds = dt/(r_1 r_2), under Pre-LN. [derived]

        -D sinh η,   -z [σ_s²(1-z²) + (n-1)α(cosh η - 1)],   D = (n-1)α - σ_s²,
        α = (σ_s² + σ_a²)/2

    The pair is autonomous in (η, z). At η = 0 the overlap is that of `theory.sphere`, but η does
    not stay 0, and unequal radii push z to 0: Pre-LN is no time change of the sphere.

    **Arguments**

    - `overlap`: z in [-1, 1].
    - `log_ratio`: η, any number.
    - `symmetric`, `antisymmetric`: σ_s and σ_a, standard deviations per √time.
    - `dim`: n ≥ 2.

    **Returns** the two drifts, of the broadcast shape.

    **Raises** ValueError for arguments out of range, and where float64 ends (|η| above 700).

    **Example**

    >>> from rqf_jax.theory import normalisation
    >>> drifts = normalisation.pair_drift(0.5, 0.0, symmetric=1.0, antisymmetric=1.0, dim=8)
    >>> float(drifts[1])
    -0.375
    """
    z, eta = overlaps("overlap", overlap), real("log_ratio", log_ratio)
    square, alpha, n = _strengths(symmetric, antisymmetric, dim)
    # cosh η - 1 without cancellation.
    apart = (n - 1) * alpha * 2 * np.sinh(eta / 2) ** 2
    return (
        -((n - 1) * alpha - square) * np.sinh(eta),
        -z * (square * (1 - z) * (1 + z) + apart),
    )


@finite
def pair_variance(
    overlap: Real, log_ratio: Real, *, symmetric: Real, antisymmetric: Real
) -> tuple[Values, Values]:
    """Variances that η and z gain per unit of the clock, under Pre-LN; no covariance. [derived]

        2σ_s²(cosh η - z²),   2(1-z²) [σ_s²(1-z²) + α(cosh η - 1)],   α = (σ_s² + σ_a²)/2

    **Arguments** `overlap` = z in [-1, 1], `log_ratio` = η, and the strengths `symmetric` = σ_s and
    `antisymmetric` = σ_a; the dimension does not enter.

    **Returns** the two variances, of the broadcast shape.

    **Raises** ValueError for arguments out of range, and where float64 ends.

    **Example**

    >>> from rqf_jax.theory import normalisation
    >>> variances = normalisation.pair_variance(0.5, 0.0, symmetric=1.0, antisymmetric=1.0)
    >>> float(variances[1])
    1.125
    """
    z, eta = overlaps("overlap", overlap), real("log_ratio", log_ratio)
    square, alpha, _ = _strengths(symmetric, antisymmetric, 2)
    apart, sine2 = 2 * np.sinh(eta / 2) ** 2, (1 - z) * (1 + z)
    return 2 * square * (apart + sine2), 2 * sine2 * (square * sine2 + alpha * apart)


@finite
@takes(kernel=called("an overlap"))
def kernel_pair(
    overlap: Real, radii: Sequence[float], kernel: Callable[..., Values], *, dim: int
) -> tuple[Values, ...]:
    """Drift and variance of η, then of z, per unit time, for a field of covariance κ. [derived]

        η: (n-2)κ_1(r_1^{-2} - r_2^{-2})/2,   v = κ_1(r_1^{-2} + r_2^{-2}) - 2zκ(z)/r_1r_2
        z: (n-2+z²)κ(z)/r_1r_2 - (n-1)κ_1 z(r_1^{-2} + r_2^{-2})/2,   (1-z²) v

    with κ_1 = κ(1), a branch of fresh Gaussian weights under Pre-LN, and with
    `unit_output_kernel` in place of κ under Peri-LN.

    **Arguments**

    - `overlap`: z in [-1, 1].
    - `radii`: r_1 and r_2, positive.
    - `kernel`: κ, a function of an overlap.
    - `dim`: n ≥ 2.

    **Returns** four numbers or arrays.

    **Raises** ValueError for arguments out of range, or if `radii` are not two.

    **Example**

    >>> from rqf_jax.theory import normalisation
    >>> found = normalisation.kernel_pair(0.5, (1.0, 1.0), lambda z: z, dim=8)
    >>> [float(x) for x in found]
    [0.0, 1.5, -0.375, 1.125]
    """
    z, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    if not isinstance(radii, tuple | list) or len(radii) != 2:
        raise ValueError("`radii` must be two radii.")
    one, other = (1 / positive("radii", r) for r in radii)
    here, there = kernel(np.asarray(1.0)), kernel(z)
    mean, product = (one**2 + other**2) / 2, one * other
    variance = 2 * (here * mean - z * there * product)
    drift = (n - 2) * here * (one - other) * (one + other) / 2
    pull = (n - 2 + z**2) * there * product - (n - 1) * here * z * mean
    return drift, variance, pull, (1 - z) * (1 + z) * variance


@finite
def log_sine_drift(
    overlap: Real, log_ratio: Real, *, symmetric: Real, antisymmetric: Real, dim: int
) -> Values:
    """-σ_s² + α(cosh η - 1)[(n-2)z² - 1]/(1-z²): drift of ln sin φ per clock. [derived]

    On the sphere it is -σ_s² at every overlap.

    **Arguments** `overlap` = z in (-1, 1), `log_ratio` = η, the strengths `symmetric` = σ_s and
    `antisymmetric` = σ_a, and `dim` = n ≥ 2.

    **Returns** the drift, of the broadcast shape.

    **Raises** ValueError for arguments out of range.

    **Example**

    >>> from rqf_jax.theory import normalisation
    >>> options = {"symmetric": 1.0, "antisymmetric": 1.0, "dim": 8}
    >>> float(normalisation.log_sine_drift(0.3, 0.0, **options))
    -1.0
    """
    z, eta = overlaps("overlap", overlap), real("log_ratio", log_ratio)
    check("overlap", z, np.abs(z) < 1, "lie strictly between -1 and 1")
    square, alpha, n = _strengths(symmetric, antisymmetric, dim)
    apart = 2 * np.sinh(eta / 2) ** 2
    return -square + alpha * apart * ((n - 2) * z**2 - 1) / ((1 - z) * (1 + z))


def _strengths(symmetric: Real, antisymmetric: Real, dim: int) -> tuple[Values, Values, int]:
    square = nonnegative("symmetric", symmetric) ** 2
    alpha = (square + nonnegative("antisymmetric", antisymmetric) ** 2) / 2
    return square, alpha, count("dim", dim, minimum=2)


# ---- one token


@finite
def squared_radius_mean(time: Real, start: Real = 0.0, *, value: Real, dim: int) -> Values:
    """E r² = r_0² + nκ(1)t under Pre-LN, at any step size: r²/κ(1)t is noncentral χ²_n. [derived]

    One token under a field of covariance κ is exactly a Brownian motion of R^n of variance κ(1)
    per unit time.

    **Arguments** `time` and `start` = r_0² at least 0; `value` = κ(1) at least 0; `dim` = n.

    **Returns** the mean, of the broadcast shape.

    **Raises** ValueError for arguments out of range.

    **Example**

    >>> from rqf_jax.theory import normalisation
    >>> float(normalisation.squared_radius_mean(2.5, 1.0, value=1.0, dim=8))
    21.0
    """
    spread = count("dim", dim) * nonnegative("value", value) * nonnegative("time", time)
    return nonnegative("start", start) + spread


@finite
def squared_radius_variance(time: Real, start: Real = 0.0, *, value: Real, dim: int) -> Values:
    """Var r² = 2nκ(1)²t² + 4κ(1)t r_0², of the same token. [derived]

    **Arguments** `time` and `start` = r_0² at least 0; `value` = κ(1) at least 0; `dim` = n.

    **Returns** the variance, of the broadcast shape.

    **Raises** ValueError for arguments out of range.

    **Example**

    >>> from rqf_jax.theory import normalisation
    >>> float(normalisation.squared_radius_variance(2.5, 1.0, value=1.0, dim=8))
    110.0
    """
    spread = nonnegative("value", value) * nonnegative("time", time)
    return 2 * spread * (count("dim", dim) * spread + 2 * nonnegative("start", start))


@finite
def squared_radius_cdf(
    square: Real, time: Real, start: Real = 0.0, *, value: Real, dim: int
) -> Values:
    """P(r² ≤ `square`), r²/κ(1)t being noncentral χ²_n of parameter r_0²/κ(1)t. [derived]

    **Arguments** `square` = r² and `start` = r_0², `time` and `value` = κ(1) positive; `dim` = n.

    **Returns** probabilities, of the broadcast shape.

    **Raises** ValueError for arguments out of range.

    **Example**

    >>> from rqf_jax.theory import normalisation
    >>> round(float(normalisation.squared_radius_cdf(2.0, 1.0, value=1.0, dim=2)), 6)
    0.632121
    """
    scale, n = positive("value", value) * positive("time", time), count("dim", dim)
    x, apart = nonnegative("square", square) / scale, nonnegative("start", start) / scale
    return np.where(apart > 0, chndtr(x, float(n), apart), gammainc(n / 2, x / 2))[()]


@finite
def matrix_squared_radius_mean(
    time: Real, start: Real = 0.0, *, symmetric: Real, antisymmetric: Real, dim: int
) -> Values:
    """E r² = r_0² + [σ_s² + (n-1)α] t, matrix noise under Pre-LN in Itô's sense. [derived]

    Stratonovich's reading would give r_0² + nσ_s²t: on the sphere the two agree, here they do not
    unless σ_s = σ_a.

    **Arguments** `time`, `start` = r_0² and the strengths `symmetric` = σ_s, `antisymmetric` = σ_a
    at least 0; `dim` = n ≥ 2.

    **Returns** the mean, of the broadcast shape.

    **Raises** ValueError for arguments out of range.

    **Example**

    >>> from rqf_jax.theory import normalisation
    >>> options = {"symmetric": 1.0, "antisymmetric": 0.0, "dim": 6}
    >>> float(normalisation.matrix_squared_radius_mean(1.0, 1.0, **options))
    4.5
    """
    square, alpha, n = _strengths(symmetric, antisymmetric, dim)
    growth = (square + (n - 1) * alpha) * nonnegative("time", time)
    return nonnegative("start", start) + growth


# ---- outputs of unit length


@finite
def unit_output_kernel(overlap: Real, *, dim: int) -> Values:
    """n E<N(Wθ), N(Wθ')>/n = f_n(z), the covariance of outputs of unit length. [derived]

        f_n(z) = z (2/n)[Γ((n+1)/2)/Γ(n/2)]² ₂F₁(1/2, 1/2; n/2+1; z²)

    A branch of normalised kernel k has f_n(k(z))/n in place of κ. f_n(1) = 1 and its slope there is
    (n-1)/(n-2).
    """
    z, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    if n <= 40:
        series = hyp2f1(0.5, 0.5, n / 2 + 1, z**2)
    else:  # the power series of a wide layer, whose terms fall by z²/n at least at first
        term = series = np.ones_like(z)
        for k in range(40):
            term = term * z**2 * ((k + 0.5) / (n / 2 + 1 + k)) * ((k + 0.5) / (k + 1))
            series = series + term
    return z * np.exp(-2 * gamma_defect(n / 2)) * series
