"""Tokens on the sphere under attention, alone or with shared matrix noise: closed forms.

    dx_i = λ P Σ_j w_ij x_j dt + P ∂A x_i (Stratonovich),   A = σ_s Q + σ_a R as in `theory.sphere`,

with query, key and value matrices proportional to the identity. Softmax attention (SA) has
w_ij = e^{β<x_i,x_j>}/Σ_k e^{β<x_i,x_k>}, unnormalised attention (USA) w_ij = e^{β<x_i,x_j>}/N.
`strength` is λ, `sigma` is σ_s, `beta` is β. Which attention is a function, `softmax_weight` or
`unnormalised_weight`: the weight w(r) that a token gives to each of the others when all overlaps
are r. Two tokens with overlap r = cos θ = tanh u follow

    du = [2λ w(r) + σ² tanh u] dt + √2 σ dW,   dθ = -2λ w sin θ dt + √2 σ sin θ dW,

whatever the dimension. Conventions are those of `theory.sphere`.

Sources. Attention on the sphere is Geshkovski, Letrouit, Polyanskiy and Rigollet's,
arXiv:2312.10794 (recalled). Every formula below was derived for this library and is checked in its
tests; none was found in a source that could be read.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.integrate import solve_ivp
from scipy.special import betainc, entr, expit

from .._arguments import called, fitting, host, takes
from ._contract import extended, finite
from ._diffusion import NODES, WEIGHTS, probability_down
from ._numbers import (
    Real,
    check,
    count,
    nonnegative,
    overlaps,
    positive,
    rapidity_of_overlap,
    real,
    scalar,
)
from ._rapidity import Values

Weight = Callable[..., Values]


@finite
def softmax_weight(overlap: Real, *, beta: Real, tokens: int = 2) -> Values:
    """w(r) = e^{βr}/(e^β + (N-1) e^{βr}), the weight of each other token at common overlap r.

    For two tokens 1/(1 + e^{β(1-r)}). Raises ValueError unless r lies in [-1, 1], β is finite and
    tokens ≥ 2.
    """
    gap = real("beta", beta) * (1 - overlaps("overlap", overlap))
    others = count("tokens", tokens, minimum=2) - 1
    return expit(math.log(others) - gap) / others


@extended
def unnormalised_weight(overlap: Real, *, beta: Real, tokens: int = 2) -> Values:
    """w(r) = e^{βr}/N, the same weight without the softmax's denominator.

    Infinite where float64 ends, for βr above 709.
    """
    exponent = real("beta", beta) * overlaps("overlap", overlap)
    return np.exp(exponent) / count("tokens", tokens, minimum=2)


@finite
@takes(weight=called("an overlap and `beta`"), beta=real)
def overlap_drift(
    overlap: Real, weight: Weight, *, beta: Real, strength: Real, sigma: Real
) -> Values:
    """2λ w(r)(1 - r²) - σ² r(1 - r²), the Itô drift of the overlap of two tokens.

    Its variance per unit time is that without attention, `sphere.overlap_variance`.

    **Arguments** `overlap`: r in [-1, 1]; `weight`: w, `softmax_weight` or `unnormalised_weight`;
    `beta`: β, any real number; `strength`: λ, any real number; `sigma`: σ ≥ 0. **Returns** a number
    or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.attention.overlap_drift(
    ...     0.5, rqf.theory.attention.softmax_weight, beta=1.0, strength=1.0, sigma=1.0
    ... ), 6))
    0.191311
    """
    r = overlaps("overlap", overlap)
    pull = 2 * real("strength", strength) * weight(r, beta=beta)
    return (pull - nonnegative("sigma", sigma) ** 2 * r) * (1 - r) * (1 + r)


@finite
@takes(weight=called("an overlap and `beta`"), beta=real)
def rapidity_drift(
    overlap: Real, weight: Weight, *, beta: Real, strength: Real, sigma: Real
) -> Values:
    """2λ w(r) + σ² r, the drift of u = artanh r; its variance per unit time is 2σ².

    At r = 1 it is the rate at which ln sin θ falls near alignment, always positive for λ ≥ 0. Near
    r = -1 sin θ falls at minus this drift, σ² - 2λ w(-1): `antipodal_rate`.

    **Arguments** `overlap`: r in [-1, 1]; `weight`: w, `softmax_weight` or `unnormalised_weight`;
    `beta`: β, any real number; `strength`: λ, any real number; `sigma`: σ ≥ 0. **Returns** a number
    or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.attention.rapidity_drift(
    ...     0.5, rqf.theory.attention.softmax_weight, beta=1.0, strength=1.0, sigma=1.0
    ... ), 6))
    1.255081
    """
    r = overlaps("overlap", overlap)
    pull = 2 * real("strength", strength) * weight(r, beta=beta)
    return pull + nonnegative("sigma", sigma) ** 2 * r


@finite
@takes(weight=called("an overlap and `beta`"), beta=real)
def antipodal_rate(weight: Weight, *, beta: Real, strength: Real, sigma: Real) -> Values:
    """σ² - 2λ w(-1): ln sin θ falls at this rate near antipodal tokens; they attract if positive.

    2w(-1) is e^{-β} for USA and 2/(1 + e^{2β}) for SA.

    **Arguments** `weight`: w, `softmax_weight` or `unnormalised_weight`; `beta`: β, any real
    number; `strength`: λ, any real number; `sigma`: σ ≥ 0. **Returns** a number or an array.
    **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.attention.antipodal_rate(
    ...     rqf.theory.attention.softmax_weight, beta=0.0, strength=0.5, sigma=1.0
    ... ), 6))
    0.5
    """
    return -rapidity_drift(-1.0, weight, beta=beta, strength=strength, sigma=sigma)


@finite
@takes(weight=called("an overlap and `beta`"), beta=real)
def critical_strength(weight: Weight, *, beta: Real, sigma: Real) -> Values:
    """λ_c = σ²/2w(-1): σ² e^β for USA, σ² (1 + e^{2β})/2 for SA.

    Two tokens end antipodal with positive probability if λ < λ_c, and align almost surely if
    λ ≥ λ_c.
    """
    return nonnegative("sigma", sigma) ** 2 / (2 * weight(-1.0, beta=beta))


@finite
@takes(weight=called("an overlap and `beta`"), beta=partial(scalar, real))
def antipodal_probability(
    overlap0: Real, weight: Weight, *, beta: float, strength: float, sigma: float
) -> Values:
    """P(r → -1) from r_0 = `overlap0` for two tokens; 0 where λ ≥ `critical_strength`.

    With s' = sech(u) exp(-(2λ/σ²) ∫_0^u w(tanh v) dv, Feller's scale density, it is
    ∫_{u_0}^∞ s' du/∫ s' du, by quadrature with an absolute error below 1e-12, for an array of
    overlaps at once. λ may be negative; σ must be positive.

    **Arguments** `overlap0`: r_0 in [-1, 1]; `weight`: w, `softmax_weight` or
    `unnormalised_weight`; `beta`: β, any real number; `strength`: λ, any real number; `sigma`:
    σ > 0. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.attention.antipodal_probability(
    ...     [-0.5, 0.5], rqf.theory.attention.softmax_weight, beta=2.0, strength=0.5, sigma=1.0
    ... ), 6))
    [0.601948 0.23458 ]
    """
    ratio = 2 * scalar(real, "strength", strength) / scalar(positive, "sigma", sigma) ** 2
    start, inverse = rapidity_of_overlap("overlap0", overlap0), scalar(real, "beta", beta)
    if ratio == 0:
        return probability_down(np.zeros_like, start)
    return probability_down(lambda u: ratio * weight(np.tanh(u), beta=inverse), start)


@finite
def uniform_antipodal_probability(overlap0: Real, *, strength: Real, sigma: Real) -> Values:
    """P(r → -1) at β = 0, κ = λ/σ²: I_x((1 + κ)/2, (1 - κ)/2) at x = (1 - r_0)/2, 0 for κ ≥ 1.

    I is the regularised incomplete beta function. From r_0 = 0 it is
    (cos(πκ/2)/2π) [ψ((κ+3)/4) - ψ((κ+1)/4)]. Raises ValueError unless λ ≥ 0 and σ > 0.
    """
    x = (1 - overlaps("overlap0", overlap0)) / 2
    ratio = nonnegative("strength", strength) / positive("sigma", sigma) ** 2
    x, ratio = np.broadcast_arrays(x, ratio)
    kappa = np.minimum(ratio, 0.5)  # any value where the formula is not used
    kappa = np.where(ratio < 1, ratio, kappa)
    inside = np.where(ratio < 1, betainc((1 + kappa) / 2, (1 - kappa) / 2, x), 0.0)
    return np.where(x == 1, 1.0, inside)[()]


@finite
def softmax_split_rate(fraction: Real, *, beta: Real, strength: Real, sigma: Real = 0.0) -> Values:
    """g(f) - σ²: growth rate of the misalignment of two antipodal clusters, SA, any N.

        g(f) = λ [(1-f) e^{-β}/(f e^β + (1-f) e^{-β}) + f e^{-β}/((1-f) e^β + f e^{-β})],

    f = `fraction` of the tokens in one cluster. Positive: the split is unstable. f = 1/2 is
    -`antipodal_rate`: under SA only splits balanced enough survive. Raises ValueError unless
    0 ≤ f ≤ 1.

    **Arguments** `fraction`: f in [0, 1]; `beta`: β, any real number; `strength`: λ, any real
    number; `sigma`: σ ≥ 0. **Returns** a number or an array. **Raises** ValueError for arguments
    out of range. **Example**

    >>> print(np.round(rqf.theory.attention.softmax_split_rate(0.5, beta=1.0, strength=1.0), 6))
    0.238406
    """
    f = _fraction(fraction)
    beta = 2 * real("beta", beta)
    with np.errstate(divide="ignore"):
        odds = np.log(f) - np.log1p(-f)
    growth = expit(-beta - odds) + expit(odds - beta)
    return real("strength", strength) * growth - nonnegative("sigma", sigma) ** 2


@finite
def unnormalised_split_rate(*, beta: Real, strength: Real, sigma: Real = 0.0) -> Values:
    """λ e^{-β} - σ²: the same growth rate under USA, the same for every split."""
    growth = np.exp(-real("beta", beta))
    return real("strength", strength) * growth - nonnegative("sigma", sigma) ** 2


@finite
@takes(weight=called("an overlap and `beta`"), beta=real)
def equiangular_velocity(
    overlap: Real, weight: Weight, *, beta: Real, strength: Real = 1.0, tokens: int
) -> Values:
    """dγ/dt = 2λ ω(γ)(1 - γ)(1 + (N-1)γ), N tokens of one common overlap γ without noise.

    ω is the weight at overlap γ. Exact in every dimension that holds such tokens (n ≥ N - 1;
    γ ≥ -1/(N-1)).

    **Arguments** `overlap`: γ in [-1/(N-1), 1]; `weight`: w, `softmax_weight` or
    `unnormalised_weight`; `beta`: β, any real number; `strength`: λ, any real number; `tokens`: N,
    an integer. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.attention.equiangular_velocity(
    ...     0.5, rqf.theory.attention.softmax_weight, beta=1.0, tokens=4
    ... ), 6))
    0.537782
    """
    gamma = _simplex_overlap("overlap", overlap, tokens)
    rate = 2 * real("strength", strength) * weight(gamma, beta=beta, tokens=tokens)
    return rate * (1 - gamma) * (1 + (tokens - 1) * gamma)


@finite
@takes(weight=called("an overlap and `beta`"), beta=partial(scalar, real))
def equiangular_time(
    overlap0: Real,
    overlap: Real,
    weight: Weight,
    *,
    beta: float,
    strength: float = 1.0,
    tokens: int,
) -> Values:
    """Time in which the common overlap goes from γ_0 = `overlap0` to γ = `overlap`; broadcasts.

    With y = ln[(1 + (N-1)γ)/(1 - γ)] it is ∫ dy/(2Nλ ω), by quadrature. To γ = 1 - δ it is the time
    to merge within δ. Negative from the larger to the smaller overlap. Raises ValueError unless
    -1/(N-1) < γ < 1 and λ > 0.

    **Arguments** `overlap0`: γ_0, strictly between -1/(N-1) and 1; `overlap`: γ, strictly between
    -1/(N-1) and 1; `weight`: w, `softmax_weight` or `unnormalised_weight`; `beta`: β, any real
    number; `strength`: λ > 0; `tokens`: N, an integer. **Returns** a number or an array. **Raises**
    ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.attention.equiangular_time(
    ...     0.0, 0.9, rqf.theory.attention.softmax_weight, beta=1.0, tokens=4
    ... ), 6))
    2.115632
    """
    start = _simplex_rapidity("overlap0", overlap0, tokens)
    stop = _simplex_rapidity("overlap", overlap, tokens)
    check("overlap0", overlap0, np.isfinite(start), "lie strictly between -1/(N-1) and 1")
    check("overlap", overlap, np.isfinite(stop), "lie strictly between -1/(N-1) and 1")
    rate = 2 * tokens * scalar(positive, "strength", strength)
    start, stop = np.broadcast_arrays(start, stop)
    result = np.empty(start.shape)
    # 1/ω changes by a factor e^β while y changes by about 4.
    density = 1 + abs(scalar(real, "beta", beta)) / 4
    longest = float(np.max(np.abs(stop - start), initial=0.0)) * density
    fitting("beta", (math.ceil(longest) + 1, len(NODES)), 64)
    for index in np.ndindex(start.shape):
        a, b = start[index], stop[index]
        edges = np.linspace(a, b, int(np.ceil(abs(b - a) * density)) + 1)
        y = edges[:-1, None] + np.diff(edges)[:, None] * NODES
        slow = 1 / weight(_simplex_gamma(y, tokens), beta=beta, tokens=tokens)
        result[index] = np.diff(edges) @ (slow @ WEIGHTS) / rate
    return result[()]


@finite
@takes(weight=called("an overlap and `beta`"), beta=partial(scalar, real))
def equiangular_overlap(
    time: Real, overlap0: float, weight: Weight, *, beta: float, strength: float = 1.0, tokens: int
) -> Values:
    """γ(t) at every `time` from γ_0 = `overlap0`, by a solver of order 8 to a relative 1e-11.

    Two tokens at β = 0: tan(θ/2) = tan(θ_0/2) e^{-λt}.

    **Arguments** `time`: t ≥ 0; `overlap0`: γ_0 in [-1/(N-1), 1]; `weight`: w, `softmax_weight` or
    `unnormalised_weight`; `beta`: β, any real number; `strength`: λ, any real number; `tokens`: N,
    an integer. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.attention.equiangular_overlap(
    ...     [0.0, 1.0], 0.2, rqf.theory.attention.softmax_weight, beta=1.0, tokens=4
    ... ), 6))
    [0.2      0.712293]
    """
    times = np.asarray(nonnegative("time", time))
    start = float(_simplex_rapidity("overlap0", scalar(real, "overlap0", overlap0), tokens))
    rate = 2 * tokens * scalar(real, "strength", strength)
    if not np.isfinite(start) or not times.size or times.max() == 0:
        return np.broadcast_to(_simplex_gamma(start, tokens), times.shape)[()]
    moments, where = np.unique(times, return_inverse=True)
    inverse = scalar(real, "beta", beta)

    def velocity(_, y):
        rule = "be so small that the solver can follow the weights"
        check("beta", inverse, np.all(np.isfinite(y)), rule)
        # At |y| = 800 nothing is left of the distance from the end.
        pull = weight(_simplex_gamma(y, tokens), beta=inverse, tokens=tokens)
        speed = np.clip(rate * np.minimum(pull, 1e100), -1e20, 1e20)
        return np.where(np.abs(y) < 800, speed, 0.0)

    solution = solve_ivp(
        velocity,
        (0.0, moments[-1]),
        [start],
        method="DOP853",
        t_eval=moments,
        rtol=1e-11,
        atol=1e-11,
    )
    if not solution.success:
        raise ValueError(f"`time` must be in reach of the solver; got {moments[-1]:g}.")
    return _simplex_gamma(solution.y[0][where].reshape(times.shape), tokens)


@finite
def equiangular_entropy(overlap: Real, *, tokens: int) -> Values:
    """S = -Σ p ln p, p the eigenvalues of G/N for N tokens of one common overlap γ.

    They are (1 + (N-1)γ)/N once and (1-γ)/N, N-1 times: the von Neumann entropy of the uncentred
    covariance of the tokens, whose effective rank is e^S. 0 at consensus, ln N at γ = 0.
    """
    gamma = _simplex_overlap("overlap", overlap, tokens)
    shared, others = (1 + (tokens - 1) * gamma) / tokens, (1 - gamma) / tokens
    return entr(shared) + (tokens - 1) * entr(others)


def _fraction(fraction: Real) -> Values:
    f = host("fraction", fraction)
    check("fraction", f, (f >= 0) & (f <= 1), "lie in [0, 1]")
    return f


def _simplex_overlap(name: str, overlap: Real, tokens: int) -> Values:
    """An overlap that N unit vectors can share."""
    least = -1 / (count("tokens", tokens, minimum=2) - 1)
    gamma = overlaps(name, overlap)
    # A regular simplex may miss its overlap by a rounding error.
    check(name, gamma, gamma >= least - 1e-5, f"be at least -1/(N - 1) = {least:.6g}")
    return np.maximum(gamma, least)


def _simplex_rapidity(name: str, overlap: Real, tokens: int) -> Values:
    """y = ln[(1 + (N-1)γ)/(1-γ)], infinite at both ends; twice the rapidity for two tokens."""
    gamma = _simplex_overlap(name, overlap, tokens)
    with np.errstate(divide="ignore"):
        return np.log1p((tokens - 1) * gamma) - np.log1p(-gamma)


def _simplex_gamma(y: Values, tokens: int) -> Values:
    """γ = (e^y - 1)/(e^y + N - 1), without overflow."""
    up = expit(y - math.log(tokens - 1))
    return up - expit(math.log(tokens - 1) - y) / (tokens - 1)
