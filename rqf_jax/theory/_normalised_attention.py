"""Attention between tokens that keep their radii: orbits, exponents in ln r, thresholds, RoPE.

Conventions are those of `theory.normalisation`, which offers these functions; β multiplies overlaps
of directions, and the query, key and value matrices are the identity unless something else is said.
"""

import math

import numpy as np
from jaxtyping import Complex, Float
from scipy.optimize import root_scalar

from .._arguments import Real, fitting, one_of
from ._contract import finite
from ._normalised_laws import exponent, mean_squared_cosine
from ._numbers import check, count, nonnegative, overlaps, positive, real, scalar, size, vector
from ._special import Values


@finite
def simplex_slope(overlap: Real, *, beta: Real, tokens: int) -> Values:
    """dz/d ln r = 2(1-z)(1+(N-1)z)/(e^{β(1-z)} + (N-1)z), N tokens of one overlap z. [derived]

    The same curve under Pre-LN and Peri-LN; only r(t) differs. At β = 0 (1-z)r² is constant, as all
    differences of tokens are.
    """
    z, others = overlaps("overlap", overlap), count("tokens", tokens, minimum=2) - 1
    check("overlap", z, z >= -1 / others - 1e-5, "be at least -1/(N - 1)")
    return 2 * (1 - z) * (1 + others * z) / (np.exp(real("beta", beta) * (1 - z)) + others * z)


@finite
def self_similar_exponents(spectrum: Real, speed: Real) -> Float[np.ndarray, " modes"]:
    """μ/a: exponents in ln t under Pre-LN of an equilibrium of Post-LN. [derived]

    An equilibrium of the directions under Post-LN (spectrum μ, `multistability`) at which all
    tokens have one radial speed a = <θ_i, A_i> > 0 is under Pre-LN a solution r ≃ at. Ratios of
    radii have the exponent -1 besides.
    """
    return vector("spectrum", spectrum) / scalar(positive, "speed", speed)


@finite
def antipodal_exponent(beta: Real) -> Values:
    """2/(e^{2β} - 1): the defect angle of an antipodal pair grows as r to this, Pre-LN. [derived]

    1.1640, .3130 at β = 1/2, 1. Unstable for every β > 0, as under Post-LN.
    """
    return 2 / np.expm1(2 * np.asarray(positive("beta", beta)))


@finite
def antipodal_lifetime_exponent(beta: Real) -> Values:
    """(e^{2β} - 1)/2: a pair that misses antipodality by ε lives for ε^{-this}. [derived]"""
    return np.expm1(2 * np.asarray(positive("beta", beta))) / 2


@finite
def causal_exponents(tokens: int, *, fresh: bool = True) -> Float[np.ndarray, " tokens"]:
    """Exponents in ln r² of 1 - z_{1i}, i = 2, ..., N, under uniform causal attention. [derived]

    -(1 - 1/i²) for values drawn afresh in each layer, slowest -3/4 (unmasked -1), and -(1 - 1/i),
    slowest -1/2, for V = 1: the angle falls as r^{-1/2}.
    """
    i = np.arange(2.0, size("tokens", tokens, minimum=2) + 1)
    if not isinstance(fresh, bool):
        raise ValueError(f"`fresh` must be True or False; got {fresh!r}.")
    return -(1 - 1 / i**2) if fresh else -(1 - 1 / i)


# ---- random value matrices on what attention feeds them, two tokens


@finite
def random_value_exponent(beta: Real, *, dim: int) -> Values:
    """Exponent per clock of the defect of an antipodal pair under Pre-LN, fresh values. [derived]

    `exponent` of "pre" with k' = coth²β: stable where negative. +.333, +.090, -.108 for n = 4 and
    β = .9, 1.09, 1.4. Under Peri-LN it is never negative.
    """
    slope = 1 / np.tanh(np.asarray(positive("beta", beta))) ** 2
    check("beta", beta, slope < 1e300, "be at least 1e-150")
    return exponent("pre", dim, slope)


@finite
def critical_beta(dim: int, scheme: str = "pre") -> float:
    """β above which two tokens may end antipodal under fresh value matrices. [derived]

    "post": cosh 2β = n - 2 (`value_noise.critical_beta`). "pre": E(1-c²) = tanh²β with
    k' = coth²β in `mean_squared_cosine`: cosh 2β = 3.725, 5.562, 13.28, 29.14, 125.03 for n = 3, 4,
    8, 16, 64, about 2n - 3. Raises ValueError unless dim ≥ 3.
    """
    kind, n = one_of("post", "pre")("scheme", scheme), count("dim", dim, minimum=3)
    if kind == "post":
        return math.acosh(n - 2) / 2

    def excess(beta: float) -> float:
        square = np.tanh(beta) ** 2
        # E(1-c²) - tanh²β as a difference of two small numbers.
        return float(1 / np.cosh(beta) ** 2 - mean_squared_cosine(n, 1 / square))

    return float(root_scalar(excess, bracket=(1e-3, math.log(8.0 * n)), xtol=1e-14).root)


# ---- rotary positions


@finite
def rope_spectrum(
    squares: Real, frequencies: Real, *, beta: Real, tokens: int, causal: bool = False
) -> Complex[np.ndarray, " tokens"]:
    """eig(A) - 1: rates at consensus under rotary positions, each n - 1 times. [derived]

        A_ij = softmax_j(β Σ_m |θ_m|² cos((j-i)ω_m))

    Consensus stays an equilibrium, but its rates are 1 - μ_k of A and no longer all 1; they go to 0
    at large β. Under a causal mask they are 1 - a_ii.

    **Arguments**

    - `squares`: |θ_m|², squared lengths of the common direction in the planes that are turned.
    - `frequencies`: ω_m, radians per position, as many.
    - `beta`: β, one number.
    - `tokens`: N ≥ 2.
    - `causal`: whether token i sees only tokens j ≤ i.

    **Returns** the N numbers μ_k - 1, largest real part first; the first is 0.

    **Raises** ValueError for arguments out of range.

    **Example**

    >>> import numpy as np
    >>> from rqf_jax.theory import normalisation
    >>> turn = 2 * np.pi * 2 / 7
    >>> rates = -normalisation.rope_spectrum(1.0, turn, beta=5.0, tokens=7).real
    >>> [round(float(r), 4) for r in rates[[1, -1]]]
    [0.0919, 0.4435]
    """
    share, omega = vector("squares", squares), vector("frequencies", frequencies)
    check("squares", share, share >= 0, "be at least 0")
    if share.shape != omega.shape:
        shapes = f"{share.shape}; got {omega.shape}"
        raise ValueError(f"`frequencies` must have the shape of `squares`, {shapes}.")
    n, inverse = size("tokens", tokens, minimum=2, axes=2), scalar(nonnegative, "beta", beta)
    fitting("squares", (n, len(share)), 8)
    by_shift = np.cos(np.arange(n)[:, None] * omega) @ share
    shift = np.arange(n)[None, :] - np.arange(n)[:, None]
    scores = inverse * by_shift[np.abs(shift)]
    if causal:
        scores = np.where(shift <= 0, scores, -np.inf)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    rates = np.asarray(np.diag(weights) if causal else np.linalg.eigvals(weights), complex)
    return rates[np.argsort(-np.real(rates))] - 1
