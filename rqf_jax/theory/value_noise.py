"""Two tokens, or two clusters, under attention with random value matrices: closed forms.

    x_i ← normalise(x_i + √h V a_i),   a_i = Σ_j w_ij x_j,   V_kl independent of variance σ² a layer

with softmax weights and identity query and key matrices; in the limit h → 0, at time t = layers·h,

    dx_i = P dB a_i - ((n-1)/2) σ² |a_i|² x_i dt (Itô),   dB_kl of variance σ² dt.

`sigma` is σ, `beta` is β, `dim` is n. Two tokens of overlap r = tanh u follow, with
q = 1/(1 + cosh β(1-r)),

    dr = σ² (1-r²)[q(n-2+r) - r] dt + σ (1-r²) √(2(1-q)) dW,
    du = σ² [q(n-2) + (1-q) tanh u] dt + σ √(2(1-q)) dW.

`strength` adds the mean value matrix λI: λ times the attention of `theory.attention`.

Sources. The model is that of Fedorov, Sander, Elie, Marion and Laurière, arXiv:2601.21942
(abstract read). Its two thresholds, cosh 2β against n - 2 and ε² against 2e^{-β} for scalar noise,
are known to us second-hand; the formulas below were derived for this library, reproduce both
thresholds, and are checked in the tests. The drift agrees with that of Koubbi, Geshkovski and
Rigollet, arXiv:2604.01978 (read in a transcription of its theorems).
"""

import math

import numpy as np
from scipy.special import expit

from .._arguments import host
from ._contract import finite
from ._diffusion import mean_passage_time, probability_down
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
from .attention import softmax_weight, unnormalised_weight


@finite
def mixing(overlap: Real, *, beta: Real) -> Values:
    """q(r) = 2p(1-p) = 1/(1 + cosh β(1-r)), p the softmax weight of a token for itself."""
    p = softmax_weight(overlap, beta=beta)
    return 2 * p * (1 - p)


@finite
def overlap_drift(overlap: Real, *, beta: Real, dim: int, sigma: Real = 1.0) -> Values:
    """σ² (1-r²)[q(n-2+r) - r], the Itô drift of the overlap of two tokens.

    **Arguments** `overlap`: r in [-1, 1]; `beta`: β, any real number; `dim`: n, an integer of at
    least 2; `sigma`: σ ≥ 0. **Returns** a number or an array. **Raises** ValueError for arguments
    out of range. **Example**

    >>> print(np.round(rqf.theory.value_noise.overlap_drift(0.5, beta=1.0, dim=3), 6))
    0.153758
    """
    r, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    q = mixing(r, beta=beta)
    return nonnegative("sigma", sigma) ** 2 * (1 - r) * (1 + r) * (q * (n - 2 + r) - r)


@finite
def overlap_variance(overlap: Real, *, beta: Real, sigma: Real = 1.0) -> Values:
    """d<r>/dt = 2σ² (1-r²)² (1-q), the variance the overlap gains per unit time."""
    r = overlaps("overlap", overlap)
    spread = 1 - mixing(r, beta=beta)
    return 2 * nonnegative("sigma", sigma) ** 2 * ((1 - r) * (1 + r)) ** 2 * spread


@finite
def rapidity_drift(
    overlap: Real, *, beta: Real, dim: int, sigma: Real = 1.0, strength: Real = 0.0
) -> Values:
    """2λ w + σ² [q(n-2) + (1-q) r], the drift of u = artanh r at overlap r.

    At r = 1 it is λ + σ²(n-1)/2, the rate at which ln sin θ falls near alignment.

    **Arguments** `overlap`: r in [-1, 1]; `beta`: β, any real number; `dim`: n, an integer of at
    least 2; `sigma`: σ ≥ 0; `strength`: λ, any real number. **Returns** a number or an array.
    **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.value_noise.rapidity_drift(0.5, beta=1.0, dim=3), 6))
    0.735004
    """
    r, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    q = mixing(r, beta=beta)
    pull = 2 * real("strength", strength) * softmax_weight(r, beta=beta)
    return pull + nonnegative("sigma", sigma) ** 2 * (q * (n - 2) + (1 - q) * r)


@finite
def rapidity_variance(overlap: Real, *, beta: Real, sigma: Real = 1.0) -> Values:
    """d<u>/dt = 2σ² (1-q) at overlap r."""
    return 2 * nonnegative("sigma", sigma) ** 2 * (1 - mixing(overlap, beta=beta))


@finite
def antipodal_rate(*, beta: Real, dim: int, sigma: Real = 1.0, strength: Real = 0.0) -> Values:
    """σ² [(1-q) - q(n-2)] - 2λ/(1 + e^{2β}), q = 1/(1 + cosh 2β): attraction of antipodal tokens.

    ln sin θ falls at this rate near r = -1. Without λ it is positive if cosh 2β > n - 2.

    **Arguments** `beta`: β, any real number; `dim`: n, an integer of at least 2; `sigma`: σ ≥ 0;
    `strength`: λ, any real number. **Returns** a number or an array. **Raises** ValueError for
    arguments out of range. **Example**

    >>> print(np.round(rqf.theory.value_noise.antipodal_rate(beta=1.0, dim=3), 6))
    0.580026
    """
    return -rapidity_drift(-1.0, beta=beta, dim=dim, sigma=sigma, strength=strength)


@finite
def critical_beta(dim: int) -> float:
    """β_c = arcosh(n-2)/2: two tokens may end antipodal if β > β_c, and align a.s. otherwise.

    Raises ValueError unless dim ≥ 3; in two dimensions they may end antipodal at every β.
    """
    return math.acosh(count("dim", dim, minimum=3) - 2) / 2


@finite
def antipodal_probability(overlap0: Real, *, beta: float, dim: int) -> Values:
    """P(r → -1) from r_0 = `overlap0` for two tokens; 0 where cosh 2β ≤ n - 2.

    ∫_{r_0}^1 Φ/∫_{-1}^1 Φ,  Φ(r) = (1-r²)^{-1/2} exp(-(n-2) ∫_0^r sech(β(1-ρ))/(1-ρ²) dρ),

    by quadrature with an absolute error below 1e-12, for an array of overlaps at once. It does not
    depend on σ. For n = 2 it is θ_0/π at every β.
    """
    extra, inverse = count("dim", dim, minimum=2) - 2, scalar(real, "beta", beta)
    start = rapidity_of_overlap("overlap0", overlap0)

    def pull(u: np.ndarray) -> np.ndarray:
        e = np.exp(-abs(inverse) * 2 * expit(-2 * u))
        return extra * 2 * e / (1 + e**2)

    return probability_down(pull, start)


@finite
def cluster_overlap_drift(
    overlap: Real, fraction: Real, *, beta: Real, dim: int, sigma: Real = 1.0
) -> Values:
    """Itô drift of the overlap r of two clusters with fractions f and 1-f of the tokens.

        σ² (1-r) {(1+r)[m(n-2+r) - r] - (n-1) r D},   D = (p_1-p_2)²,   m = p_1 + p_2 - 2p_1p_2,

    p_1 = f/(f + (1-f) e^{-β(1-r)}) the softmax weight of the first cluster for itself and p_2 that
    of the second. At r = -1 it is 2(n-1) σ² D: antipodal clusters stay antipodal only if f = 1/2.
    Raises ValueError unless 0 < f < 1.

    **Arguments** `overlap`: r in [-1, 1]; `fraction`: f in (0, 1); `beta`: β, any real number;
    `dim`: n, an integer of at least 2; `sigma`: σ ≥ 0. **Returns** a number or an array. **Raises**
    ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.value_noise.cluster_overlap_drift(
    ...     0.5, 0.3, beta=1.0, dim=3
    ... ), 6))
    0.172237
    """
    r, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    m, imbalance = _cluster_mixing(r, fraction, beta)
    slope = (1 + r) * (m * (n - 2 + r) - r) - (n - 1) * r * imbalance
    return nonnegative("sigma", sigma) ** 2 * (1 - r) * slope


@finite
def cluster_overlap_variance(
    overlap: Real, fraction: Real, *, beta: Real, sigma: Real = 1.0
) -> Values:
    """d<r>/dt = 2σ² (1-r)²(1+r) [(1+r)(1-m) + D] for two clusters.

    **Arguments** `overlap`: r in [-1, 1]; `fraction`: f in (0, 1); `beta`: β, any real number;
    `sigma`: σ ≥ 0. **Returns** a number or an array. **Raises** ValueError for arguments out of
    range. **Example**

    >>> print(np.round(rqf.theory.value_noise.cluster_overlap_variance(0.5, 0.3, beta=1.0), 6))
    0.613797
    """
    r = overlaps("overlap", overlap)
    m, imbalance = _cluster_mixing(r, fraction, beta)
    spread = (1 + r) * (1 - m) + imbalance
    return 2 * nonnegative("sigma", sigma) ** 2 * (1 - r) ** 2 * (1 + r) * spread


@finite
def cluster_escape_time(
    fraction: float,
    *,
    beta: float,
    dim: int,
    sigma: float = 1.0,
    overlap0: Real = -1.0,
    overlap: float = 0.0,
) -> Values:
    """Mean first time with r ≥ `overlap` of two clusters from r_0 = `overlap0`, an array or not.

    The quadrature of the scale and speed densities, to a relative 1e-9. As f → 1/2 antipodal
    clusters live for a time proportional to |p_1 - p_2|^{-(1 - (n-2)/cosh 2β)} if cosh 2β > n - 2
    (the difference at r = -1), and otherwise for a bounded time. Raises ValueError unless
    0 < f < 1, f ≠ 1/2 (balanced clusters may never part), σ > 0 and -1 < `overlap` < 1.

    **Arguments** `fraction`: f in (0, 1), not 1/2; `beta`: β, any real number; `dim`: n, an integer
    of at least 2; `sigma`: σ > 0; `overlap0`: r_0 in [-1, 1]; `overlap`: r, strictly between -1 and
    1. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.value_noise.cluster_escape_time(0.3, beta=1.0, dim=5), 6))
    1.414357
    """
    rate, n = scalar(positive, "sigma", sigma) ** 2, count("dim", dim, minimum=2)
    stop = scalar(rapidity_of_overlap, "overlap", overlap)
    check("overlap", overlap, math.isfinite(stop), "lie strictly between -1 and 1")
    fraction, beta = scalar(real, "fraction", fraction), scalar(real, "beta", beta)
    imbalance = float(_cluster_mixing(np.asarray(-1.0), fraction, beta)[1])
    check("fraction", fraction, scalar(real, "fraction", fraction) != 0.5, "differ from 1/2")
    rule = "leave the clusters, by `fraction` too, a time to part within float64"
    check("beta", beta, imbalance > 1e-300, rule)
    start = rapidity_of_overlap("overlap0", overlap0)

    def coefficients(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, rise = np.tanh(u), 2 * expit(2 * u)
        m, d = _cluster_mixing(r, fraction, beta)
        return r * (1 - m) + m * (n - 2) - (n - 3) * r * d / rise, (1 - m) + d / rise

    times = mean_passage_time(
        lambda u: coefficients(u)[0],
        lambda u: coefficients(u)[1],
        start,
        stop,
        bottom=min(math.log(imbalance) / 2, stop) - 20,
    )
    return times / rate


@finite
def scalar_rapidity_drift(overlap: Real, *, beta: Real, epsilon: Real) -> Values:
    """2w(1 - ε² e^β/2), w = e^{βr}/2: drift of u when the value is the number 1 + ε·noise, USA.

    Two tokens, dx_i = P Σ_j (e^{β<x_i,x_j>}/2) x_j (dt + ε dW) with one W, as an Itô layer.
    """
    # e^{βr} - ε² e^{β(1+r)}/2, in which the factor e^β alone may overflow.
    inverse, r = real("beta", beta), overlaps("overlap", overlap)
    damping = nonnegative("epsilon", epsilon) ** 2 * np.exp(inverse * (1 + r)) / 2
    return np.exp(inverse * r) - damping


@finite
def scalar_rapidity_variance(overlap: Real, *, beta: Real, epsilon: Real) -> Values:
    """d<u>/dt = (2wε)², w = e^{βr}/2, of the same model."""
    return (2 * unnormalised_weight(overlap, beta=beta) * nonnegative("epsilon", epsilon)) ** 2


@finite
def critical_scalar_variance(beta: Real) -> Values:
    """ε² = 2e^{-β}: below it the two tokens of that model align a.s., above it they end antipodal.

    At equality u is a martingale of growing bracket and settles nowhere. The threshold is
    Proposition 1 of arXiv:2601.21942 (second-hand).
    """
    return 2 * np.exp(-real("beta", beta))


def _cluster_mixing(r: Values, fraction: Real, beta: Real) -> tuple[Values, Values]:
    """m = p_1 + p_2 - 2p_1p_2 and D = (p_1 - p_2)²."""
    f = host("fraction", fraction)
    check("fraction", f, (f > 0) & (f < 1), "lie strictly between 0 and 1")
    gap = real("beta", beta) * (1 - r)
    odds = np.log(f) - np.log1p(-f)
    own, other = expit(gap + odds), expit(gap - odds)
    # p_1 - p_2 without cancellation near f = 1/2.
    apart = expit(gap + odds) * expit(odds - gap) * -np.expm1(-2 * odds)
    return own + other - 2 * own * other, apart**2
