"""Stochastic gradient descent around a minimum: widths, and gaps of degenerate values.

`learning_rate` is α and `batch` is B: an update is w ← w - α (mean gradient of B examples). Where
α times the curvature is small, stationary laws depend on them through α/B alone, and gaps grow as
√(α/B): linear scaling. Functions compute in float64 and return float64 numbers or arrays; a bad
argument raises ValueError.

Formulas were derived for this library, except where a source is named, and are checked against
training runs in its tests. The experiments are those of Aarts, Lucini & Park, arXiv:2407.16427
(abstract and programs read).
"""

import numpy as np
from jaxtyping import Float
from scipy.optimize import nnls
from scipy.special import lambertw

from ._contract import finite
from ._numbers import Real, check, count, nonnegative, positive, real, scalar, vector
from ._rapidity import Values


@finite
def stationary_variance(
    curvature: Real, *, learning_rate: Real, gradient_variance: Real, momentum: Real = 0.0
) -> Values:
    """α c (1 + b)/(κ (1 - b) (2 (1 + b) - ακ)), the variance of a weight in a quadratic well.

    κ is the curvature, c the variance of one update's gradient, b the momentum of a heavy ball
    (m ← b m + gradient, w ← w - α m). Without momentum α c/(κ (2 - ακ)).

    **Arguments** `curvature`: κ > 0; `learning_rate`: α ≥ 0; `gradient_variance`: c ≥ 0;
    `momentum`: b in [0, 1). **Returns** a number or an array. **Raises** ValueError for arguments
    out of range. **Example**

    >>> print(np.round(rqf.theory.learning.stationary_variance(
    ...     1.0, learning_rate=0.1, gradient_variance=1.0
    ... ), 6))
    0.052632
    """
    kappa, alpha = positive("curvature", curvature), nonnegative("learning_rate", learning_rate)
    c, b = nonnegative("gradient_variance", gradient_variance), nonnegative("momentum", momentum)
    check("momentum", b, b < 1, "be below 1")
    rule = "keep the descent stable, below 2 (1 + `momentum`)/`curvature`"
    check("learning_rate", alpha, alpha * kappa < 2 * (1 + b), rule)
    return alpha * c * (1 + b) / (kappa * (1 - b) * (2 * (1 + b) - alpha * kappa))


@finite
def label_noise_imbalance(time: Real, imbalance: Real, *, feature: Real = 1.0) -> Values:
    """D e^{-x² t}: the imbalance u² - v² of a product x u v under label noise.

    `time` is t = α² σ² k after k updates with labels moved by normals of variance σ²; `feature` is
    x. The limit α → 0 at fixed t: slower than gradient time αk by the factor α.
    """
    decay = real("feature", feature) ** 2 * nonnegative("time", time)
    return real("imbalance", imbalance) * np.exp(-decay)


@finite
def dropout_ratio(time: Real, ratio: Real, *, target: Real = 1.0) -> Values:
    """[1 + (q⁻² - 1) e^{2yt}]^{-1/2}: what dropout makes of two units that share a target y > 0.

    q = (θ_1 - θ_2)/y in (0, 1] with θ_i = u_i v_i, balanced (u_i = v_i), θ_1 + θ_2 = y = `target`.
    `time` is t = α s k after k updates with factors of variance s on the units, p/(1 - p) if a unit
    is dropped with probability p. The limit s → 0 at fixed t, on the scale of gradient time αk.
    """
    q, y = positive("ratio", ratio), positive("target", target)
    check("ratio", q, q <= 1, "be at most 1")
    odds = np.log(np.expm1(-2 * np.log(q))) + 2 * y * nonnegative("time", time)
    return np.exp(-np.logaddexp(0.0, odds) / 2)


@finite
def teacher_gap(*, learning_rate: float, batch: int, noise: float) -> float:
    """The mean gap of the two singular values of a `training.TeacherStudent` of a teacher c·1.

    √(π v/2) with v the variance of D_11 - D_22, D = W - c·1, in the stationary state of

        D ← D (1 - α Ĉ) - α A S/√B,   Ĉ = (1/B) Σ x xᵀ

    whose second moments solve a linear equation. For large B it is √π A √(α/B)/√(1 - α/2): linear
    scaling with its first correction. Redrawn inputs.
    """
    alpha = scalar(positive, "learning_rate", learning_rate)
    strength = scalar(nonnegative, "noise", noise)
    b, one = count("batch", batch), np.eye(2)
    # Pairs of indices on one row: E Ĉ_kl Ĉ_pq and E S_ik S_jl are sums of products of deltas.
    straight = np.einsum("kl,pq->klpq", one, one)
    crossed = np.einsum("kp,lq->klpq", one, one) + np.einsum("kq,lp->klpq", one, one)
    # One step takes moments m to (1 - α L) m + α K: L and K are found without a subtraction.
    pull = 2 * straight - alpha * (straight + crossed / b)
    kick = alpha * strength**2 / b * (np.einsum("ij,kl->ikjl", one, one)
                                      + np.einsum("il,jk->ikjl", one, one))  # fmt: skip
    # Moments E D_ik D_jl: the step acts on the second index of each D.
    linear = np.einsum("ia,jb,pkql->ikjlapbq", one, one, pull).reshape(16, 16)
    rates = np.linalg.eigvals(linear).real
    if rates.min() <= 0 or alpha * rates.max() >= 2:
        raise ValueError(
            f"`learning_rate` must keep the descent stable; got {alpha:g} for a batch of {b}."
        )
    moments = np.linalg.solve(linear, kick.reshape(16)).reshape(2, 2, 2, 2)
    variance = moments[0, 0, 0, 0] + moments[1, 1, 1, 1] - 2 * moments[0, 0, 1, 1]
    return float(np.sqrt(np.pi / 2 * variance))


@finite
def machine_gap(
    precision: Real, *, mass: Real, learning_rate: Real, batch: int, sweeps: int | None = None
) -> Values:
    """√(2π α x/B), x = μ² - κ: the mean gap of a doubly degenerate value of a `GaussianRBM`.

    κ is the eigenvalue of C⁻¹, the precision of the data. With `sweeps` k the chains' memory is
    added, a factor √((1 + ρ)/(1 - ρ)), ρ = (x/μ²)^{2k}. The limit of small α/B: at α/B = 1/160
    gaps of ten units are some 5 to 10 per cent smaller, as the well is not harmonic and levels
    repel those of other modes.

    **Arguments** `precision`: κ, above 0 and below μ²; `mass`: μ > 0; `learning_rate`: α ≥ 0;
    `batch`: B, an integer; `sweeps`: k, an integer. **Returns** a number or an array. **Raises**
    ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.learning.machine_gap(
    ...     4.0, mass=3.0, learning_rate=0.1, batch=16
    ... ), 6))
    0.443113
    """
    x, square = _square(precision, mass), positive("mass", mass) ** 2
    alpha, b = positive("learning_rate", learning_rate), count("batch", batch)
    gap = np.sqrt(2 * np.pi * alpha * x / b)
    if sweeps is None:
        return gap
    # ρ = (1 - κ/μ²)^{2k}, of which 1 - ρ may be all that matters.
    memory = 2 * count("sweeps", sweeps) * np.log1p(-positive("precision", precision) / square)
    return gap * np.sqrt((1 + np.exp(memory)) / -np.expm1(memory))


@finite
def machine_shift(
    precisions: Real, *, mass: Real, learning_rate: Real, batch: int
) -> Float[np.ndarray, " n"]:
    """The shift by noise of the mean squared singular values of a `GaussianRBM` from x = μ² - κ.

    To first order in α/B, for precisions κ_i of all n modes, x_i = μ² - κ_i, i in the same order:

        -(μ²/x_i) Q_i + (α/2B) [1 + (κ_i/x_i) Σ_j x_j/κ_j + Σ_{κ_j≠κ_i} (x_i + x_j)/(x_i - x_j)],
        Q_i = (α/2B) [Σ_j (x_i + x_j)/κ_j + 2x_i/κ_i]

    the well's anharmonicity, Itô's correction, and the repulsion of other modes; that within a
    degenerate group moves its mean nowhere. For chains without memory, so many sweeps: at 3 of them
    the value of κ = 4 in the papers' machine was found 0.003κ off. Modes closer than their noise
    need more than the first order.

    **Arguments** `precisions`: κ_i, above 0 and below μ², along one axis; `mass`: μ > 0;
    `learning_rate`: α > 0; `batch`: B, an integer. **Returns** an array (modes,). **Raises**
    ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.learning.machine_shift(
    ...     [4.0, 5.0], mass=3.0, learning_rate=0.1, batch=16
    ... ), 6))
    [-0.001875 -0.055312]
    """
    kappa, square = vector("precisions", precisions), scalar(positive, "mass", mass) ** 2
    valid = (kappa > 0) & (kappa < square)
    check("precisions", kappa, valid, "be positive and below the squared `mass`")
    x = square - kappa
    unit = scalar(positive, "learning_rate", learning_rate) / (2 * count("batch", batch))
    sums = x[:, None] + x[None, :]
    width = unit * (np.sum(sums / kappa[None, :], 1) + 2 * x / kappa)
    apart = x[:, None] - x[None, :]
    same = np.abs(apart) <= 1e-9 * square
    repulsion = np.sum(np.where(same, 0.0, sums / np.where(same, 1.0, apart)), 1)
    return -square / x * width + unit * (1 + kappa / x * np.sum(x / kappa) + repulsion)


@finite
def machine_relaxation(precision: Real, *, mass: Real, learning_rate: Real) -> Values:
    """2αx/κ², the rate per update at which a squared singular value returns to x = μ² - κ."""
    x = _square(precision, mass)
    kappa = positive("precision", precision)
    return 2 * positive("learning_rate", learning_rate) * (x / kappa) / kappa


@finite
def collapse_gap(bits: int) -> float:
    """p ln 2, the gap of two logits above which a softmax of p significant bits is exactly one.

    Then the cross entropy and its gradient by the right logit are exactly zero: 16.64 in float32
    (24 bits), 36.74 in float64 (53), 7.62 in float16 (11) and 5.55 in bfloat16 (8). Raises
    ValueError unless `bits` is a whole number of at least 1.

    Source: the theme is that of Prieto et al., arXiv:2501.04697 (recalled); the threshold is ours.
    """
    return float(count("bits", bits) * np.log(2.0))


@finite
def max_margin(examples: Real) -> tuple[Float[np.ndarray, " features"], float]:
    """(w, γ): the direction of the largest margin γ = min_i y_i w·x_i, and that margin.

    A homogeneous model that has fitted its data keeps growing: under gradient flow of the cross
    entropy the direction tends to w, and |w| grows by 1/γ for each factor e of time (the model's
    degree 1; known, recalled). `examples` are the rows y_i x_i, signs ±1 times inputs. Raises
    ValueError for data that no w separates.

    >>> w, margin = rqf.theory.learning.max_margin([[1.0, 1.0], [1.0, -1.0]])
    >>> print(np.round(w, 6) + 0.0, round(margin, 6))
    [1. 0.] 1.0
    """
    rows = np.asarray(real("examples", examples))
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"`examples` must be (samples, features); got shape {rows.shape}.")
    # The shortest w with X w ≥ 1 is a residual of non-negative least squares (Lawson & Hanson).
    scale = np.abs(rows).max() or 1.0
    system = np.vstack([rows.T / scale, np.ones(len(rows))])
    weights, _ = nnls(system, np.append(np.zeros(rows.shape[1]), 1.0))
    far = 1 - weights.sum()
    if far <= 1e-12:
        raise ValueError("`examples` must be separable: no direction has a positive margin.")
    w = rows.T @ weights / scale / far
    length = np.sqrt(w @ w)
    return w / length, float(scale / length)


@finite
def activation_curve(
    time: Real, *, amplitude: Real, decay: Real, growth: Real, offset: Real, level: Real = 0.0
) -> Values:
    """A e^{-λx} ln x + K, x = γt + t₀: the size of massive activations along training.

    **Arguments** `time`: t ≥ 0; `amplitude`: A; `decay`: λ ≥ 0; `growth`: γ ≥ 0; `offset`: t₀ > 0;
    `level`: K. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.learning.activation_curve(
    ...     1.0, amplitude=2.0, decay=0.0, growth=1.0, offset=1.0
    ... ), 6))
    1.386294

    Source: "Hidden dynamics of massive activations", arXiv:2508.03616, equations 9-13 (read).
    """
    x = nonnegative("growth", growth) * nonnegative("time", time) + positive("offset", offset)
    fall = np.exp(-nonnegative("decay", decay) * x)
    return real("amplitude", amplitude) * fall * np.log(x) + real("level", level)


@finite
def activation_peak(*, decay: Real, growth: Real, offset: Real) -> Values:
    """(e^{W(1/λ)} - t₀)/γ, when `activation_curve` peaks, W Lambert's function.

    Negative if the peak came before the start.

    **Arguments** `decay`: λ > 0; `growth`: γ > 0; `offset`: t₀ > 0. **Returns** a number or an
    array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.learning.activation_peak(
    ...     decay=0.1, growth=1.0, offset=1.0
    ... ), 6))
    4.728926
    """
    # x ln x = 1/λ where the derivative is zero.
    x = np.exp(np.real(lambertw(1 / positive("decay", decay))))
    return (x - positive("offset", offset)) / positive("growth", growth)


def _square(precision: Real, mass: Real) -> Values:
    kappa, square = positive("precision", precision), positive("mass", mass) ** 2
    check("precision", kappa, kappa < square, "be below the squared `mass`")
    return square - kappa
