"""Tokens on the sphere moved by isotropic shared matrix noise: closed forms.

    dX = -P_X ∂A X (Stratonovich),  A = σ_s Q + σ_a R,  Q = (B + Bᵀ)/2,  R = (C - Cᵀ)/2

with independent matrices B, C of standard Brownian motions. `sigma` is σ_s everywhere: σ_s² is the
rate of synchronisation, a variance per unit time; time is dimensionless. Overlaps r = cos θ follow

    dr = -σ² r(1 - r²) dt + √2 σ (1 - r²) dW,   dθ = √2 σ sin θ dW,   du = σ² tanh u dt + √2 σ dW,

where u = artanh r, the *rapidity* of a pair: r = tanh u, sin θ = 1/cosh u, θ = 2 arctan e^{-u}.
Neither the dimension n nor σ_a enters, and time enters only as σ²t. The sign of A is immaterial.

Functions take numbers or arrays, broadcast them, compute in float64 with NumPy and SciPy, and
return a float64 number or array. A bad argument raises ValueError with its name, rule and value.

Sources. The model is Engel and Shalova's, arXiv:2603.06187 (abstract and first page read); Shalova,
arXiv:2608.16664 (read), takes Q = (B + Bᵀ)/√2, that is `sigma = 2**0.5` here, twice as fast.
Every formula below was derived for this library and is checked numerically in its tests, unless
its docstring names a source.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import digamma, gammaln, log_ndtr

from .._arguments import integer
from ._numbers import (
    ROUNDING,
    Real,
    angles,
    check,
    nonnegative,
    overlaps,
    positive,
    rapidity_of_angle,
    rapidity_of_overlap,
    square_matrix,
)
from ._rapidity import Values, expectation as _expectation, gudermann, log_cosh, log_density

Gram = Float[np.ndarray, "tokens tokens"]


def one_point_correlation(
    time: Real, *, symmetric: Real, antisymmetric: Real = 0.0, dim: int
) -> Values:
    """E<x_t, x_0> = exp(-(n - 1)(σ_s² + σ_a²) t / 4): each token is a Brownian motion.

    Its generator is (σ_s² + σ_a²)/4 times the Laplacian of S^{n-1} (arXiv:2608.16664, Theorem 3.1,
    for σ_s² = 2, σ_a = 0). `symmetric` is σ_s and `antisymmetric` σ_a. Raises ValueError unless
    time, σ_s, σ_a ≥ 0 and dim ≥ 1.
    """
    rate = (
        nonnegative("symmetric", symmetric) ** 2 + nonnegative("antisymmetric", antisymmetric) ** 2
    )
    return np.exp(-(integer("dim", dim) - 1) * rate * nonnegative("time", time) / 4)


def lyapunov_spectrum(dim: int, *, sigma: Real) -> Float[np.ndarray, " exponents"]:
    """λ_i = -i σ², i = 1, ..., n - 1: the Lyapunov exponents on S^{n-1}, largest first."""
    return -np.arange(1.0, integer("dim", dim, minimum=2)) * nonnegative("sigma", sigma) ** 2


def overlap_drift(overlap: Real, *, sigma: Real) -> Values:
    """-σ² r(1 - r²), the Itô drift of an overlap r (arXiv:2608.16664, Lemma 3.11 at γ = 0)."""
    r = overlaps("overlap", overlap)
    return -(nonnegative("sigma", sigma) ** 2) * r * (1 - r**2)


def overlap_variance(overlap: Real, *, sigma: Real) -> Values:
    """d<r>/dt = 2σ²(1 - r²)², the variance an overlap gains per unit time (same source)."""
    return 2 * nonnegative("sigma", sigma) ** 2 * (1 - overlaps("overlap", overlap) ** 2) ** 2


def gram_drift(gram: Real, *, sigma: Real) -> Gram:
    """-σ² G_ab (1 - G_ab²), the Itô drift of the Gram matrix; shape (tokens, tokens)."""
    g = _gram(gram)
    return -(nonnegative("sigma", sigma) ** 2) * g * (1 - g**2)


def gram_covariance(gram: Real, *, sigma: Real) -> Float[np.ndarray, "tokens tokens tokens tokens"]:
    """d<G_ab, G_cd>/dt, the covariance the Gram matrix gains per unit time, indices a b c d.

    With c(ab,cd) = (G_ac G_bd + G_ad G_bc)/2 it is σ² times

        4 c(ab,cd) - 2 G_cd [c(ab,cc) + c(ab,dd)] - 2 G_ab [c(aa,cd) + c(bb,cd)]
        + G_ab G_cd [c(aa,cc) + c(aa,dd) + c(bb,cc) + c(bb,dd)].
    """
    g = _gram(gram)
    pair = np.einsum("ac,bd->abcd", g, g) + np.einsum("ad,bc->abcd", g, g)
    left = np.einsum("cd,ac,bc->abcd", g, g, g) + np.einsum("cd,ad,bd->abcd", g, g, g)
    square = g**2
    ends = square[:, None, :, None] + square[:, None, None, :]
    ends = ends + ends.transpose(1, 0, 2, 3)
    rate = 2 * (pair - left - left.transpose(2, 3, 0, 1)) + np.einsum("ab,cd->abcd", g, g) * ends
    return nonnegative("sigma", sigma) ** 2 * rate


def mean_log_sine(time: Real, angle: Real, *, sigma: Real) -> Values:
    """E ln sin θ_t = ln sin θ_0 - σ²t, exact at all times; -inf from angle 0."""
    return -log_cosh(rapidity_of_angle("angle", angle)) - _clock(time, sigma)


def mean_log_det_gram(time: Real, gram: Real, *, sigma: Real) -> Values:
    """E ln det G(t) = ln det G(0) - k(k - 1) σ²t for k tokens, exact; -inf for dependent ones."""
    g = _gram(gram)
    sign, log_det = np.linalg.slogdet(g)
    # A singular matrix may have a determinant of either sign in rounded arithmetic.
    start = log_det if sign > 0 else -np.inf
    return start - len(g) * (len(g) - 1) * _clock(time, sigma)


def mean_log_sine_uniform(dim: int) -> float:
    """E ln sin θ = [ψ((n-1)/2) - ψ(n/2)]/2 for two independent uniform tokens, n ≥ 2."""
    n = integer("dim", dim, minimum=2)
    return float(digamma((n - 1) / 2) - digamma(n / 2)) / 2


def angle_density(angle: Real, time: Real, initial_angle: Real, *, sigma: Real) -> Values:
    """Density of θ_t at `angle` (per radian), from θ_0 = `initial_angle`; broadcasts.

    u_t is the signed distance of a Brownian motion of the hyperbolic plane (generator Δ) to a
    geodesic. Integrating the plane's heat kernel (classical, recalled) along that geodesic leaves
    one integral of a complete elliptic integral K. With t short for σ²t, δ = |u - u_0| and
    s² = δ² + 4tx,

        p(u) = (4πt)^{-1/2} e^{-δ²/4t - t/4} (cosh u/cosh u_0)^{1/2} ∫_0^∞ e^{-x} (2/π) K(-y) dx,
        y = sinh((s+δ)/2) sinh((s-δ)/2) / (cosh u cosh u_0),   K(-y) of parameter m = -y,

    and the density in θ is p(u) cosh u. The integrand is positive and smooth, so Gauss-Legendre
    nodes in √x give a relative error below 1e-10 for 1e-3 ≤ σ²t ≤ 50.

    So p is a Gaussian, tilted away from the equator, times a smooth factor that is 1 for small t.
    The density is 0 at θ = 0 and θ = π. Raises ValueError unless angles lie in [0, π], initial
    angles strictly inside (the others stay where they are) and σ²t > 0.
    """
    u, clock = rapidity_of_angle("angle", angle), _clock(time, sigma)
    start = rapidity_of_angle("initial_angle", initial_angle)
    check("initial_angle", initial_angle, np.isfinite(start), "lie strictly between 0 and pi")
    check("time", time, clock > 0, "be such that sigma**2 * time is positive")
    u, clock, start = np.broadcast_arrays(u, clock, start)
    density = np.zeros(u.shape)
    for t in np.unique(clock):
        here = (clock == t) & np.isfinite(u)
        exponent = log_density(u[here], start[here], t) + log_cosh(u[here])
        density[here] = np.exp(exponent)
    return density[()]


def expectation(
    function: Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]],
    time: Real,
    initial_angle: Real,
    *,
    sigma: Real,
    points: Sequence[float] = (),
) -> Values:
    """E f(u_t) from θ_0 = `initial_angle`, where u = artanh r is the rapidity; broadcasts.

    `function` acts elementwise on an array of rapidities: r = np.tanh(u), sin θ = 1/np.cosh(u),
    θ = 2 arctan(exp(-u)), ln sin θ = -ln cosh u. (An angle could not say how close to π it is.)
    If it is not smooth, `points` are the rapidities of its jumps and kinks.

    ∫ f(u) p(u) du with the density p of `angle_density`, by Gauss-Legendre panels that start and
    end at `points`. For a smooth f that is bounded or grows like a power of u, and
    1e-3 ≤ σ²t ≤ 50, the error is below 1e-9. Tokens at angle 0 or π, and all at σ²t = 0, stay.
    """
    start = rapidity_of_angle("initial_angle", initial_angle)
    return _expectation(function, _clock(time, sigma), start, points)


def mean_overlap(time: Real, overlap0: Real, *, sigma: Real) -> Values:
    """E r_t from r_0 = `overlap0`, by `expectation`."""
    return _expectation(np.tanh, _clock(time, sigma), rapidity_of_overlap("overlap0", overlap0))


def mean_squared_overlap(time: Real, overlap0: Real, *, sigma: Real) -> Values:
    """E r_t² from r_0 = `overlap0`, by `expectation`."""
    start = rapidity_of_overlap("overlap0", overlap0)
    return _expectation(lambda u: np.tanh(u) ** 2, _clock(time, sigma), start)


def positive_overlap_probability(time: Real, overlap0: Real, *, sigma: Real) -> Values:
    """P(r_t > 0) from r_0 = `overlap0` (1/2 counts for r_t = 0), by `expectation`."""
    start = rapidity_of_overlap("overlap0", overlap0)
    return _expectation(lambda u: (1 + np.sign(u)) / 2, _clock(time, sigma), start, (0.0,))


def mean_sine(time: Real, initial_angle: Real, *, sigma: Real) -> Values:
    """E sin θ_t from θ_0 = `initial_angle`, by `expectation`; it decays as t^{-3/2} e^{-σ²t/4}."""
    start = rapidity_of_angle("initial_angle", initial_angle)
    return _expectation(lambda u: np.exp(-log_cosh(u)), _clock(time, sigma), start)


def angle_variance(time: Real, initial_angle: Real, *, sigma: Real) -> Values:
    """Var θ_t from θ_0 = `initial_angle`, by `expectation`; its mean is θ_0 at all times."""
    start = rapidity_of_angle("initial_angle", initial_angle)
    clock, start = np.broadcast_arrays(_clock(time, sigma), start)
    # θ - π/2 = -gd(u) is odd and precise at both ends.
    second = _expectation(lambda u: gudermann(u) ** 2, clock, start)
    return np.maximum(second - gudermann(start) ** 2, 0.0)


def mean_synchronisation_time(angle: Real, threshold: Real, *, sigma: Real) -> Values:
    """E τ = ln(sin θ_0 / sin ε)/σ², τ the first time with sin θ ≤ sin ε; 0 if it holds at once.

    `threshold` is ε in (0, π/2]; sigma > 0.
    """
    start, barrier, rate = _passage(angle, threshold, sigma)
    return (log_cosh(barrier) - log_cosh(start)) / rate


def synchronisation_time_variance(angle: Real, threshold: Real, *, sigma: Real) -> Values:
    """Var τ = [2 ln(sin θ_0/sin ε) - (π/2 - ε)² + (π/2 - θ_0)²]/σ⁴, of the same τ.

    The second moment S solves S'' + tanh(u) S' = -2 E τ with S = 0 at the barrier (σ = 1), which
    integrates in closed form.
    """
    start, barrier, rate = _passage(angle, threshold, sigma)
    log_ratio = log_cosh(barrier) - log_cosh(start)
    return (2 * log_ratio - gudermann(barrier) ** 2 + gudermann(start) ** 2) / rate**2


def discrete_monitoring_shift(step: Real, *, sigma: Real) -> Values:
    """Mean delay of τ when θ is looked at only every h = `step`: 0.5826 √(2h)/σ.

    A Brownian motion of variance s² per unit time seen at steps h overshoots a barrier as if it
    stood -ζ(1/2)/√(2π) s √h = 0.5826 s √h further (Siegmund; Broadie, Glasserman and Kou;
    recalled). Here u has s = √2 σ and E τ grows by tanh(u)/σ² = cos ε/σ² per unit of u: multiply by
    cos ε unless ε is small. First order in √h, for σ² h ≪ 1 and tokens not starting at the barrier.
    """
    overshoot = 0.5825971579390107
    return overshoot * np.sqrt(2 * nonnegative("step", step)) / positive("sigma", sigma)


def aligned_probability(angle: Real) -> Values:
    """P(r_t → +1) = 1 - θ_0/π: θ is a bounded martingale that ends at 0 or π.

    Also stated by Koubbi et al., arXiv:2604.01978 (read in a transcription of its theorems).
    """
    return 1 - angles("angle", angle) / np.pi


def limiting_gram(gram: Real) -> Gram:
    """E G(∞) = (2/π) arcsin G(0), entry by entry (Grothendieck's identity)."""
    return 2 / np.pi * np.arcsin(_gram(gram))


def all_aligned_probability(gram: Real) -> float:
    """P(all tokens end in one cluster) = 2 P(g_1 > 0, ..., g_N > 0), g ~ N(0, G(0)).

    The tokens end as sign<w, x_a(0)> v with a uniform direction w: one random hyperplane splits
    them (Goemans and Williamson's rounding). N = 2: 1 - θ/π. N = 3: 1 - (θ_12 + θ_13 + θ_23)/2π.
    Equal overlaps ρ > -1/(N-1):

        2 ∫ φ(z) Φ(z √(ρ/(1-ρ)))^N dz   (√ imaginary for ρ < 0; absolute error below 1e-12).

    Otherwise SciPy's quasi-Monte Carlo for the multivariate normal, with a fixed generator, so the
    answer is reproducible; its absolute error is about 1e-5 at N = 8, 1e-4 at N = 64.
    """
    g = _gram(gram)
    tokens = len(g)
    overlaps = g[np.triu_indices(tokens, 1)]
    if tokens <= 3:
        # 1, 1 - θ/π and 1 - Σθ/2π are one formula.
        return float(1 - np.arccos(overlaps).sum() / (np.pi * max(tokens - 1, 1)))
    if np.ptp(overlaps) <= 1e-12:
        return _equal_overlap_orthant(tokens, float(overlaps.mean()))
    # Imported here because it costs half a second and little else needs it.
    from scipy.stats import multivariate_normal

    orthant = multivariate_normal.cdf(
        np.zeros(tokens),
        cov=g,  # pyright: ignore[reportArgumentType]
        allow_singular=True,
        abseps=1e-6,
        maxpts=100_000,
        rng=np.random.default_rng(0),
    )
    return float(2 * orthant)


def cluster_size_mean(tokens: int) -> float:
    """E N_+ = N/2, N_+ the size of a cluster chosen by a fair coin."""
    return integer("tokens", tokens) / 2


def cluster_size_variance(gram: Real) -> float:
    """Var N_+ = N/4 + (1/2π) Σ_{a≠b} arcsin G_ab(0)."""
    g = _gram(gram)
    off_diagonal = np.arcsin(g[~np.eye(len(g), dtype=bool)])
    return float(len(g) / 4 + off_diagonal.sum() / (2 * np.pi))


def cluster_size_distribution(tokens: int) -> Float[np.ndarray, " sizes"]:
    """P(N_+ = k), k = 0, ..., N: Binomial(N, 1/2) for independent uniform tokens, in every n."""
    tokens = integer("tokens", tokens)
    sizes = np.arange(tokens + 1)
    log_ways = gammaln(tokens + 1) - gammaln(sizes + 1) - gammaln(tokens - sizes + 1)
    return np.exp(log_ways - tokens * math.log(2))


def layer_log_sine_increment(dim: int) -> float:
    """E Δ ln sin θ = [ψ((n-1)/2) - ψ(n/2)]/2 for a layer of independent normal weights; exact."""
    return layer_log_det_increment(dim, 2) / 2


def layer_log_det_increment(dim: int, tokens: int) -> float:
    """E Δ ln det G = Σ_{j<k} ψ((n-j)/2) - k ψ(n/2) for k tokens and the same layer; exact.

    Raises ValueError unless 1 ≤ tokens ≤ dim.
    """
    n, k = integer("dim", dim), integer("tokens", tokens)
    if k > n:
        raise ValueError(f"`tokens` must be at most `dim` = {n}; got {k}.")
    return float(digamma((n - np.arange(k)) / 2).sum() - k * digamma(n / 2))


def residual_layer_log_sine_increment(step: Real, dim: int) -> Values:
    """E Δ ln sin θ = -h + h²(3n - 10)/2 + O(h³), A = I + √h B, B of standard normal entries.

    An expansion in the step h, asymptotic at fixed n: use it for n h ≪ 1.
    """
    h = nonnegative("step", step)
    return -h + h**2 * (3 * integer("dim", dim, minimum=2) - 10) / 2


def wide_layer_log_sine_increment(variance: Real, dim: int) -> Values:
    """E Δ ln sin θ = -(1/n) s²(1 + s²/2)/(1 + s²)² + O(1/n²), A = I + W, W_ij ~ N(0, s²/n).

    `variance` is s². The weights of one layer need not be small; the width n must be large.
    """
    s2 = nonnegative("variance", variance)
    return -s2 * (1 + s2 / 2) / (1 + s2) ** 2 / integer("dim", dim, minimum=2)


def symmetric_rank(tokens: int, dim: int) -> int:
    """k(k+1)/2 + k(n-k) - 1, k = min(N, n): the rank of σ_s noise at generic tokens.

    Orthogonal tokens lose one for each extra connected component of their graph of nonzero
    overlaps.
    """
    n = integer("dim", dim)
    k = min(integer("tokens", tokens), n)
    return k * (k + 1) // 2 + k * (n - k) - 1


def antisymmetric_rank(tokens: int, dim: int) -> int:
    """k(k-1)/2 + k(n-k), k = min(N, n): the rank of σ_a noise at generic tokens."""
    n = integer("dim", dim)
    k = min(integer("tokens", tokens), n)
    return k * (k - 1) // 2 + k * (n - k)


def full_rank(tokens: int, dim: int) -> int:
    """N(n-1) if N ≤ n, else n² - 1: the rank of noise with σ_s, σ_a > 0 at generic tokens."""
    n, tokens = integer("dim", dim), integer("tokens", tokens)
    return tokens * (n - 1) if tokens <= n else n * n - 1


def _equal_overlap_orthant(tokens: int, overlap: float) -> float:
    """2 P(g_1 > 0, ..., g_N > 0) for unit normals of one correlation."""
    decay = 1 + (tokens - 1) * min(overlap, 0.0)
    if overlap >= 1 - 1e-12 or decay <= 1e-12:
        return float(overlap > 0)
    slope = np.emath.sqrt(overlap / (1 - overlap))
    # The integrand is entire; it varies on the scales 1/|slope| near 0 and √(2/decay) far away, and
    # sinh spreads the points of the trapezoid rule over both.
    scale = max(abs(slope), 1.0)
    s, spacing = np.linspace(-1, 1, 4001, retstep=True)
    stretch = math.asinh(scale * 13 / math.sqrt(decay))
    z = np.sinh(stretch * s) / scale
    integrand = np.exp(tokens * log_ndtr(slope * z) - z**2 / 2).real * np.cosh(stretch * s)
    return float(2 * integrand.sum() * spacing * stretch / scale / math.sqrt(2 * math.pi))


def _clock(time: Real, sigma: Real) -> Values:
    """σ²t."""
    return nonnegative("sigma", sigma) ** 2 * nonnegative("time", time)


def _passage(angle: Real, threshold: Real, sigma: Real) -> tuple[Values, Values, Values]:
    """|u_0| stopped at the barrier artanh(cos ε), the barrier, and σ²."""
    barrier = rapidity_of_angle("threshold", threshold)
    valid = np.isfinite(barrier) & (barrier >= -ROUNDING)
    check("threshold", threshold, valid, "lie in (0, pi/2]")
    barrier = np.maximum(barrier, 0)
    start = np.minimum(np.abs(rapidity_of_angle("angle", angle)), barrier)
    return start, barrier, positive("sigma", sigma) ** 2


def _gram(gram: Real) -> Gram:
    """A checked copy, exactly symmetric with unit diagonal."""
    g = square_matrix("gram", gram)
    skew = np.abs(g - g.T).max()
    if skew > ROUNDING:
        raise ValueError(f"`gram` must be symmetric; got entries that differ by {skew:.3g}.")
    diagonal = np.diag(g)
    check("gram", diagonal, np.abs(diagonal - 1) <= ROUNDING, "have a unit diagonal")
    lowest = np.linalg.eigvalsh(g)[0]
    if lowest < -ROUNDING * len(g):
        raise ValueError(f"`gram` must be positive semidefinite; got an eigenvalue {lowest:.3g}.")
    g = np.clip((g + g.T) / 2, -1, 1)
    np.fill_diagonal(g, 1)
    return g
