"""Shared matrix noise and private noise of each token: the stationary law of an overlap.

    dx_a = P ∂A x_a + τ P ∂W_a,   A as in `theory.sphere`, W_a independent Brownian motions of R^n

`sigma` is σ_s, `private` is τ (one-point generator of the private part (τ²/2) Δ), `dim` is n. The
stationary cot θ is √(1 + σ²/τ²) times that of two independent uniform tokens, which is Student's t
of n-1 degrees of freedom over √(n-1).

Every formula was derived for this library and is checked in its tests; none was found elsewhere.
"""

import math
from collections.abc import Callable

import numpy as np

from ._contract import extended, finite
from ._diffusion import nodes, totals
from ._numbers import Real, count, nonnegative, overlaps, positive
from ._special import Values, log_gamma_step


@finite
def overlap_drift(overlap: Real, *, sigma: Real, private: Real, dim: int) -> Values:
    """-[σ²(1-r²) + (n-1)τ²] r, the Itô drift of an overlap r.

    **Arguments** `overlap`: r in [-1, 1]; `sigma`: σ ≥ 0; `private`: τ ≥ 0, the strength of the
    noise of each token; `dim`: n, an integer of at least 2. **Returns** a number or an array.
    **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.private_noise.overlap_drift(
    ...     0.5, sigma=1.0, private=0.5, dim=3
    ... ), 6))
    -0.625
    """
    r = overlaps("overlap", overlap)
    pull = (count("dim", dim, minimum=2) - 1) * nonnegative("private", private) ** 2
    return -(nonnegative("sigma", sigma) ** 2 * (1 - r) * (1 + r) + pull) * r


@finite
def overlap_variance(overlap: Real, *, sigma: Real, private: Real) -> Values:
    """d<r>/dt = 2(1-r²)[σ²(1-r²) + τ²], the variance an overlap gains per unit time."""
    r = overlaps("overlap", overlap)
    sine2 = (1 - r) * (1 + r)
    spread = nonnegative("sigma", sigma) ** 2 * sine2 + nonnegative("private", private) ** 2
    return 2 * sine2 * spread


@extended
def overlap_density(overlap: Real, *, sigma: Real, private: Real, dim: int) -> Values:
    """Stationary density of r at `overlap`, of integral one over (-1, 1):

        p(r) = τ (σ²+τ²)^{(n-1)/2}/B((n-1)/2, 1/2) (1-r²)^{(n-3)/2} (τ² + σ²(1-r²))^{-n/2}.

    Raises ValueError unless τ > 0; infinite at r = ±1 for n = 2.

    **Arguments** `overlap`: r in [-1, 1]; `sigma`: σ ≥ 0; `private`: τ > 0; `dim`: n, an integer of
    at least 2. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.private_noise.overlap_density(
    ...     0.5, sigma=1.0, private=0.5, dim=3
    ... ), 6))
    0.3125
    """
    r, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    log_s2 = 2 * np.log(nonnegative("sigma", sigma))
    log_t2 = 2 * np.log(positive("private", private))
    log_sine2 = np.log1p(-r) + np.log1p(r)
    power = (n - 3) / 2 * log_sine2 if n != 3 else 0.0
    a = (n - 1) / 2
    # B(a, 1/2) = √π Γ(a)/Γ(a + 1/2); ratios of τ², σ² + τ² and τ² + σ² sin²θ are of order one.
    whole, here = np.logaddexp(log_s2, log_t2), np.logaddexp(log_t2, log_s2 + log_sine2)
    front = log_gamma_step(a) - math.log(math.pi) / 2
    return np.exp(power + front + (log_t2 - here) / 2 + a * (whole - here))


@finite
def mean_squared_overlap(*, sigma: Real, private: Real, dim: int) -> Values:
    """Stationary E r², of rounding error for every n ≥ 2, however small τ is."""
    return _mean(lambda sine, cosine, q: (cosine / np.hypot(cosine, q * sine)) ** 2,
                 sigma, private, dim)  # fmt: skip


@finite
def mean_sine(*, sigma: Real, private: Real, dim: int) -> Values:
    """Stationary E sin θ, with the same accuracy."""
    return _mean(lambda sine, cosine, q: q * sine / np.hypot(cosine, q * sine),
                 sigma, private, dim)  # fmt: skip


def _mean(function: Callable[..., np.ndarray], sigma: Real, private: Real, dim: int) -> Values:
    """E f(sin ψ, cos ψ, q), ψ the angle of two uniform tokens and q = τ/√(σ²+τ²).

    tan θ = q tan ψ, and x = π/2 - ψ has a density proportional to cos^{n-2}x. By panels that shrink
    towards x = 0, where q and 1/√n are scales.
    """
    n = count("dim", dim, minimum=2)
    s, t = np.broadcast_arrays(nonnegative("sigma", sigma), positive("private", private))
    result = np.empty(s.shape)
    for index in np.ndindex(s.shape):
        q = max(t[index] / np.hypot(s[index], t[index]), 1e-300)
        least = 1e-3 * min(q, n**-0.5)
        steps = math.ceil(-math.log2(least)) + 2
        edges = np.concatenate([[0.0], np.geomspace(least, np.pi / 2, steps)])
        x = nodes(edges)
        sine, cosine = np.cos(x), np.sin(x)
        weight = np.exp((n - 2) * np.log(sine)) if n > 2 else np.ones_like(x)
        mean = totals(edges, weight * function(sine, cosine, q)).sum()
        result[index] = mean / totals(edges, weight).sum()
    return result[()]
