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

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from .._arguments import called, fitting, host, takes
from ._clusters import (
    Gram,
    _equal_overlap_orthant as _equal_overlap_orthant,
    all_aligned_probability as all_aligned_probability,
    checked_gram,
    cluster_size_distribution as cluster_size_distribution,
    cluster_size_mean as cluster_size_mean,
    cluster_size_variance as cluster_size_variance,
    limiting_gram as limiting_gram,
)
from ._contract import extended, finite
from ._diffusion import NODES, WEIGHTS
from ._layers import (
    antisymmetric_rank as antisymmetric_rank,
    full_rank as full_rank,
    layer_log_det_increment as layer_log_det_increment,
    layer_log_sine_increment as layer_log_sine_increment,
    mean_log_sine_uniform as mean_log_sine_uniform,
    residual_layer_log_sine_increment as residual_layer_log_sine_increment,
    symmetric_rank as symmetric_rank,
    wide_layer_log_sine_increment as wide_layer_log_sine_increment,
)
from ._numbers import (
    ROUNDING,
    Real,
    angles,
    check,
    count,
    nonnegative,
    overlaps,
    positive,
    rapidity_of_angle,
    rapidity_of_overlap,
    scalar,
    size,
)
from ._rapidity import (
    LATEST,
    expectation as _expectation,
    gudermann,
    log_cosh,
    log_density,
    moved_expectation,
)
from ._special import Values, sinh_excess


@finite
def one_point_correlation(
    time: Real, *, symmetric: Real, antisymmetric: Real = 0.0, dim: int
) -> Values:
    """E<x_t, x_0> = exp(-(n - 1)(σ_s² + σ_a²) t / 4): each token is a Brownian motion.

    Its generator is (σ_s² + σ_a²)/4 times the Laplacian of S^{n-1} (arXiv:2608.16664, Theorem 3.1,
    for σ_s² = 2, σ_a = 0). `symmetric` is σ_s and `antisymmetric` σ_a. Raises ValueError unless
    time, σ_s, σ_a ≥ 0 and dim ≥ 1.

    **Arguments** `time`: t ≥ 0; `symmetric`: σ_s ≥ 0; `antisymmetric`: σ_a ≥ 0; `dim`: n, an
    integer. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.sphere.one_point_correlation(1.0, symmetric=1.0, dim=3), 6))
    0.606531
    """
    rate = (
        nonnegative("symmetric", symmetric) ** 2 + nonnegative("antisymmetric", antisymmetric) ** 2
    )
    return np.exp(-(count("dim", dim) - 1) * rate * nonnegative("time", time) / 4)


@finite
def lyapunov_spectrum(dim: int, *, sigma: Real) -> Float[np.ndarray, " exponents"]:
    """λ_i = -i σ², i = 1, ..., n - 1: the Lyapunov exponents on S^{n-1}, largest first."""
    return -np.arange(1.0, size("dim", dim, minimum=2)) * scalar(nonnegative, "sigma", sigma) ** 2


@finite
def overlap_drift(overlap: Real, *, sigma: Real) -> Values:
    """-σ² r(1 - r²), the Itô drift of an overlap r (arXiv:2608.16664, Lemma 3.11 at γ = 0)."""
    r = overlaps("overlap", overlap)
    return -(nonnegative("sigma", sigma) ** 2) * r * (1 - r) * (1 + r)


@finite
def overlap_variance(overlap: Real, *, sigma: Real) -> Values:
    """d<r>/dt = 2σ²(1 - r²)², the variance an overlap gains per unit time (same source)."""
    r = overlaps("overlap", overlap)
    return 2 * nonnegative("sigma", sigma) ** 2 * ((1 - r) * (1 + r)) ** 2


@finite
def gram_drift(gram: Real, *, sigma: Real) -> Gram:
    """-σ² G_ab (1 - G_ab²), the Itô drift of the Gram matrix; shape (tokens, tokens)."""
    g = checked_gram(gram)
    return -(scalar(nonnegative, "sigma", sigma) ** 2) * g * (1 - g) * (1 + g)


@finite
def gram_covariance(gram: Real, *, sigma: Real) -> Float[np.ndarray, "tokens tokens tokens tokens"]:
    """d<G_ab, G_cd>/dt, the covariance the Gram matrix gains per unit time, indices a b c d.

    With c(ab,cd) = (G_ac G_bd + G_ad G_bc)/2 it is σ² times

        4 c(ab,cd) - 2 G_cd [c(ab,cc) + c(ab,dd)] - 2 G_ab [c(aa,cd) + c(bb,cd)]
        + G_ab G_cd [c(aa,cc) + c(aa,dd) + c(bb,cc) + c(bb,dd)].
    """
    g = checked_gram(gram)
    fitting("gram", (len(g),) * 4, 8)
    pair = np.einsum("ac,bd->abcd", g, g) + np.einsum("ad,bc->abcd", g, g)
    left = np.einsum("cd,ac,bc->abcd", g, g, g) + np.einsum("cd,ad,bd->abcd", g, g, g)
    square = g**2
    ends = square[:, None, :, None] + square[:, None, None, :]
    ends = ends + ends.transpose(1, 0, 2, 3)
    rate = 2 * (pair - left - left.transpose(2, 3, 0, 1)) + np.einsum("ab,cd->abcd", g, g) * ends
    return nonnegative("sigma", sigma) ** 2 * rate


@extended
def mean_log_sine(time: Real, angle: Real, *, sigma: Real) -> Values:
    """E ln sin θ_t = ln sin θ_0 - σ²t, exact at all times; -inf from angle 0."""
    return -log_cosh(rapidity_of_angle("angle", angle)) - _clock(time, sigma)


@extended
def mean_log_det_gram(time: Real, gram: Real, *, sigma: Real) -> Values:
    """E ln det G(t) = ln det G(0) - k(k - 1) σ²t for k tokens, exact; -inf for dependent ones."""
    g = checked_gram(gram)
    sign, log_det = np.linalg.slogdet(g)
    # A singular matrix may have a determinant of either sign in rounded arithmetic.
    start = log_det if sign > 0 else -np.inf
    return start - len(g) * (len(g) - 1) * _clock(time, sigma)


@finite
def angle_density(angle: Real, time: Real, initial_angle: Real, *, sigma: Real) -> Values:
    """Density of θ_t at `angle` (per radian), from θ_0 = `initial_angle`; broadcasts.

    u_t is the signed distance of a Brownian motion of the hyperbolic plane (generator Δ) to a
    geodesic. Integrating the plane's heat kernel (classical, recalled) along that geodesic leaves
    one integral of a complete elliptic integral K. With t short for σ²t, δ = |u - u_0| and
    s² = δ² + 4tx,

        p(u) = (4πt)^{-1/2} e^{-δ²/4t - t/4} (cosh u/cosh u_0)^{1/2} ∫_0^∞ e^{-x} (2/π) K(-y) dx,
        y = sinh((s+δ)/2) sinh((s-δ)/2) / (cosh u cosh u_0),   K(-y) of parameter m = -y,

    and the density in θ is p(u) cosh u. The integrand is positive and smooth, so Gauss-Legendre
    nodes in √x give a relative error below 1e-10 for σ²t ≤ 50.

    So p is a Gaussian, tilted away from the equator, times a smooth factor that is 1 for small t.
    The density is 0 at θ = 0 and θ = π. Raises ValueError unless angles lie in [0, π], initial
    angles strictly inside (the others stay where they are) and σ²t > 0.

    **Arguments** `angle`: θ in [0, π]; `time`: t > 0; `initial_angle`: θ_0, strictly between 0 and
    π; `sigma`: σ > 0. **Returns** a number or an array. **Raises** ValueError for arguments out of
    range. **Example**

    >>> print(np.round(rqf.theory.sphere.angle_density(1.0, 1.0, 1.0, sigma=1.0), 6))
    0.222202
    """
    u, clock = rapidity_of_angle("angle", angle), _clock(time, sigma)
    start = rapidity_of_angle("initial_angle", initial_angle)
    check("initial_angle", initial_angle, np.isfinite(start), "lie strictly between 0 and pi")
    check("time", time, clock > 0, "be such that `sigma`**2 `time` is positive")
    u, clock, start = np.broadcast_arrays(u, clock, start)
    density = np.zeros(u.shape)
    for t in np.unique(clock):
        here = (clock == t) & np.isfinite(u)
        # Past this clock no angle but 0 and π has a density that float64 can hold.
        if t < 1e4 and here.any():
            shift = u[here] - start[here]
            density[here] = np.exp(log_density(start[here], shift, t) + log_cosh(u[here]))
    return density[()]


@extended
@takes(function=called("an array of rapidities"))
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
    σ²t ≤ 50, the error is below 1e-9; later the same for functions that are smooth on the scale of
    √t where |u| is of the order of t. Tokens at angle 0 or π, and all at σ²t = 0, stay. Infinite
    where `function` is.

    **Arguments** `function`: f, a function of an array of rapidities, entry by entry; `time`:
    t ≥ 0; `initial_angle`: θ_0 in [0, π]; `sigma`: σ ≥ 0; `points`: the rapidities of jumps and
    kinks of f, along one axis. **Returns** a number or an array. **Raises** ValueError for
    arguments out of range. **Example**

    >>> print(np.round(rqf.theory.sphere.expectation(np.tanh, 1.0, 1.0, sigma=1.0), 6))
    0.413788
    """
    start = rapidity_of_angle("initial_angle", initial_angle)
    kinks, clock = np.ravel(host("points", points)), _clock(time, sigma)
    check("points", kinks, np.isfinite(kinks), "be finite")
    check("time", clock, clock <= LATEST, "be such that `sigma`**2 `time` is at most 1e20")
    found = np.asarray(_expectation(function, clock, start, kinks))
    moving = np.isfinite(start) & (clock > 0)
    check("function", found, np.isfinite(found) | ~moving, "be finite at all rapidities")
    return found[()]


@finite
def mean_overlap(time: Real, overlap0: Real, *, sigma: Real) -> Values:
    """E r_t from r_0 = `overlap0`, by `expectation`."""
    return _expectation(np.tanh, _clock(time, sigma), rapidity_of_overlap("overlap0", overlap0))


@finite
def mean_squared_overlap(time: Real, overlap0: Real, *, sigma: Real) -> Values:
    """E r_t² from r_0 = `overlap0`, by `expectation`."""
    start = rapidity_of_overlap("overlap0", overlap0)
    return _expectation(lambda u: np.tanh(u) ** 2, _clock(time, sigma), start)


@finite
def positive_overlap_probability(time: Real, overlap0: Real, *, sigma: Real) -> Values:
    """P(r_t > 0) from r_0 = `overlap0` (1/2 counts for r_t = 0), by `expectation`."""
    start = rapidity_of_overlap("overlap0", overlap0)
    return _expectation(lambda u: (1 + np.sign(u)) / 2, _clock(time, sigma), start, (0.0,))


@finite
def mean_sine(time: Real, initial_angle: Real, *, sigma: Real) -> Values:
    """E sin θ_t from θ_0 = `initial_angle`, by `expectation`; it decays as t^{-3/2} e^{-σ²t/4}."""
    start = rapidity_of_angle("initial_angle", initial_angle)
    return _expectation(lambda u: np.exp(-log_cosh(u)), _clock(time, sigma), start)


@finite
def angle_variance(time: Real, initial_angle: Real, *, sigma: Real) -> Values:
    """Var θ_t from θ_0 = `initial_angle`, by `expectation`; its mean is θ_0 at all times."""
    start = rapidity_of_angle("initial_angle", initial_angle)
    # E (θ_t - θ_0)², in which nothing cancels at small times.
    return moved_expectation(lambda u, shift: _turn(u, shift) ** 2, _clock(time, sigma), start)


@finite
def mean_synchronisation_time(angle: Real, threshold: Real, *, sigma: Real) -> Values:
    """E τ = ln(sin θ_0 / sin ε)/σ², τ the first time with sin θ ≤ sin ε; 0 if it holds at once.

    `threshold` is ε in (0, π/2]; sigma > 0.
    """
    start, barrier, rate = _passage(angle, threshold, sigma)
    return _log_ratio(start, barrier) / rate


@finite
def synchronisation_time_variance(angle: Real, threshold: Real, *, sigma: Real) -> Values:
    """Var τ = [2 ln(sin θ_0/sin ε) - (π/2 - ε)² + (π/2 - θ_0)²]/σ⁴, of the same τ.

    The second moment S solves S'' + tanh(u) S' = -2 E τ with S = 0 at the barrier (σ = 1), which
    integrates in closed form.
    """
    start, barrier, rate = _passage(angle, threshold, sigma)
    start, barrier = np.broadcast_arrays(start, barrier)
    whole = 2 * _log_ratio(start, barrier) - gudermann(barrier) ** 2 + gudermann(start) ** 2
    # Its derivative by the barrier is 2 sech(u) (sinh u - gd u); the difference cancels near 0.
    low, high = np.minimum(start, 1.0), np.minimum(barrier, 1.0)
    u = low[..., None] + (high - low)[..., None] * NODES
    near = (high - low) * ((2 / np.cosh(u) * sinh_excess(u)) @ WEIGHTS)
    return np.where(barrier < 1, near, np.maximum(whole, 0.0))[()] / rate / rate


@finite
def discrete_monitoring_shift(step: Real, *, sigma: Real) -> Values:
    """Mean delay of τ when θ is looked at only every h = `step`: 0.5826 √(2h)/σ.

    A Brownian motion of variance s² per unit time seen at steps h overshoots a barrier as if it
    stood -ζ(1/2)/√(2π) s √h = 0.5826 s √h further (Siegmund; Broadie, Glasserman and Kou;
    recalled). Here u has s = √2 σ and E τ grows by tanh(u)/σ² = cos ε/σ² per unit of u: multiply by
    cos ε unless ε is small. First order in √h, for σ² h ≪ 1 and tokens not starting at the barrier.
    """
    overshoot = 0.5825971579390107
    return overshoot * np.sqrt(2 * nonnegative("step", step)) / positive("sigma", sigma)


@finite
def aligned_probability(angle: Real) -> Values:
    """P(r_t → +1) = 1 - θ_0/π: θ is a bounded martingale that ends at 0 or π.

    Also stated by Koubbi et al., arXiv:2604.01978 (read in a transcription of its theorems).
    """
    return 1 - angles("angle", angle) / np.pi


def _log_ratio(start: Values, barrier: Values) -> Values:
    """ln(cosh b/cosh a) for 0 ≤ a ≤ b, precise where both are small and where they are close."""
    # cosh b/cosh a = 1 + 2 sinh((b+a)/2) sinh((b-a)/2)/cosh a.
    near = np.where(barrier < 20, barrier, 0.0)
    first = np.where(barrier < 20, start, 0.0)
    rise = 2 * np.sinh((near + first) / 2) * np.sinh((near - first) / 2) / np.cosh(first)
    far = barrier - start + np.log1p(np.exp(-2 * barrier)) - np.log1p(np.exp(-2 * start))
    return np.where(barrier < 20, np.log1p(rise), far)[()]


def _turn(u: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """gd(u + shift) - gd(u), without cancellation."""
    middle = u + shift / 2
    near = 2 * np.arctan(np.sinh(shift / 2) / np.cosh(middle))
    wide = np.abs(shift) > 2
    return np.where(wide, gudermann(u + shift) - gudermann(u), near)


def _clock(time: Real, sigma: Real) -> Values:
    """σ²t."""
    return (nonnegative("sigma", sigma) * np.sqrt(nonnegative("time", time))) ** 2


def _passage(angle: Real, threshold: Real, sigma: Real) -> tuple[Values, Values, Values]:
    """|u_0| stopped at the barrier artanh(cos ε), the barrier, and σ²."""
    barrier = rapidity_of_angle("threshold", threshold)
    valid = np.isfinite(barrier) & (barrier >= -ROUNDING)
    check("threshold", threshold, valid, "lie in (0, pi/2]")
    barrier = np.maximum(barrier, 0)
    start = np.minimum(np.abs(rapidity_of_angle("angle", angle)), barrier)
    return start, barrier, positive("sigma", sigma) ** 2
