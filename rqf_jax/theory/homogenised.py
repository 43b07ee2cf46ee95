"""Transformers whose attention weights are drawn afresh in every layer: closed forms of the limit.

    dx_i = P dB a_i - ((n-1)/2n) |a_i|² x_i dt (Itô),   dB_kl of variance dt/n,

where a_i are the averages of the tokens that attention feeds to the value matrix, and squares and
products of them are averaged over the random query and key matrices. `dim` is n.

Sources. Koubbi, Geshkovski and Rigollet, arXiv:2604.01978, in a public transcription of its
theorems (read; the paper itself was not). The overlap's variance and the case β = 0 at finite n
were derived for this library; all are checked in its tests.
"""

import numpy as np

from ._contract import finite
from ._numbers import Real, check, count, nonnegative, overlaps, real
from ._rapidity import Values


@finite
def overlap_drift(
    overlap: Real, product: Real, square: Real, other_square: Real, *, dim: int
) -> Values:
    """((n-2+r²)/n) s_ij - ((n-1)/2n) r (s_ii + s_jj), the Itô drift of an overlap r.

    For the tokens i and j `product` is s_ij = E<a_i, a_j>, `square` is s_ii and `other_square` is
    s_jj.

    **Arguments** `overlap`: r in [-1, 1]; `product`: s_ij, any real number; `square`: s_ii ≥ 0;
    `other_square`: s_jj ≥ 0; `dim`: n, an integer of at least 2. **Returns** a number or an array.
    **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.homogenised.overlap_drift(0.5, 0.5, 0.6, 0.6, dim=3), 6))
    0.008333
    """
    r, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    squares = nonnegative("square", square) + nonnegative("other_square", other_square)
    return (n - 2 + r**2) / n * real("product", product) - (n - 1) / (2 * n) * r * squares


@finite
def simplex_drift(overlap: Real, own: Real, common: Real, *, dim: int) -> Values:
    """((n-2+γ²)/n)(γ + (1-γ)g) - ((n-1)/n) γ(γ + (1-γ)f), tokens of one common overlap γ.

    `own` is f = E Σ_k π_ik² and `common` is g = E Σ_k π_ik π_jk, moments of the attention weights
    π. The source displays the limit of large n, `wide_simplex_drift`.

    **Arguments** `overlap`: γ in [-1, 1]; `own`: f ≥ 0; `common`: g ≥ 0; `dim`: n, an integer of at
    least 2. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.homogenised.simplex_drift(0.5, 0.5, 0.2, dim=3), 6))
    0.0
    """
    gamma = overlaps("overlap", overlap)
    f, g = nonnegative("own", own), nonnegative("common", common)
    product, square = gamma + (1 - gamma) * g, gamma + (1 - gamma) * f
    check("own", f, square >= 0, "make the squared length γ + (1-γ)f at least 0")
    return overlap_drift(gamma, product, square, square, dim=dim)


@finite
def wide_simplex_drift(overlap: Real, own: Real, common: Real) -> Values:
    """b(γ) = γ + (1-γ)g - γ(γ + (1-γ)f), the limit n → ∞ of `simplex_drift`."""
    gamma = overlaps("overlap", overlap)
    f, g = nonnegative("own", own), nonnegative("common", common)
    return gamma + (1 - gamma) * g - gamma * (gamma + (1 - gamma) * f)


@finite
def mean_overlap(time: Real, mean_overlap0: Real) -> Values:
    """u(t) = u_0/(u_0 + (1-u_0) e^{-t}), high temperature: m = N^{-2} Σ_ij <x_i, x_j> follows it.

    The logistic equation u' = u(1-u), for n → ∞ and β → 0. Raises ValueError unless 0 ≤ u_0 ≤ 1
    and time ≥ 0.
    """
    u = nonnegative("mean_overlap0", overlaps("mean_overlap0", mean_overlap0))
    return u / (u + (1 - u) * np.exp(-nonnegative("time", time)))


@finite
def low_temperature_sigma(dim: int) -> float:
    """n^{-1/2}: overlaps follow the law of `theory.sphere` with this σ at low temperature.

    Each token attends to itself (a_i = x_i), so overlaps are frozen for t ≪ n and move as under
    random quadratic forms on the clock t/n.
    """
    return count("dim", dim) ** -0.5


@finite
def uniform_overlap_drift(overlap: Real, square: Real, *, dim: int) -> Values:
    """(s/n)(1-r)(n-2-r), β = 0: all tokens feel their mean, of squared length `square` = s."""
    r, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    return nonnegative("square", square) / n * (1 - r) * (n - 2 - r)


@finite
def uniform_overlap_variance(overlap: Real, square: Real, *, dim: int) -> Values:
    """d<r>/dt = (2s/n)(1-r²)(1-r) at β = 0."""
    r, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    return 2 * nonnegative("square", square) / n * (1 - r**2) * (1 - r)
