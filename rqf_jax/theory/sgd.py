"""Stochastic gradient descent in linear problems: exact moments, loss curves, stability, currents.

`learning_rate` is α and `batch` is B: an update is w ← w - α (mean gradient of B examples), its
gradient at the minimum of covariance C/B. Everything here holds at any α; `theory.currents` has
the limit of small ones.

Functions compute in float64 and return float64 numbers or arrays; a bad argument raises ValueError.
Formulas were derived for this library, except where a source is named, and are checked against
descents in its tests.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.sparse.linalg import LinearOperator, eigsh

from .._arguments import Real, flag
from ._contract import finite
from ._numbers import (
    SYMMETRY,
    check,
    count,
    nonnegative,
    positive,
    positive_matrix,
    real,
    scalar,
    vector,
)

Matrix = Float[np.ndarray, "n n"]


# ---- around a minimum


@finite
def stationary_covariance(
    hessian: Real, noise: Real, *, learning_rate: float, batch: int = 1, momentum: float = 0.0
) -> Matrix:
    """The covariance Σ of weights around a minimum: H Σ + Σ H - α H Σ H = (α/B) C.

    With momentum b (m ← b m + gradient, w ← w - α m), Σ is the part of w in the stationary
    covariance of (w, m). Without momentum Σ keeps the fluctuation-dissipation relation
    E w·∇L = (α/2) E|gradient|² at any α.

    **Arguments**

    - `hessian`: H (n, n), symmetric and positive; `noise`: C (n, n), that of one example.
    - `learning_rate`: α > 0, stable: below 2(1 + b)/λ for all eigenvalues λ of H.
    - `batch`: B, an integer; `momentum`: b in [0, 1).

    **Returns** an array (n, n). **Raises** ValueError for arguments out of range. **Example**

    >>> print(rqf.theory.sgd.stationary_covariance(np.eye(1), np.eye(1), learning_rate=0.5))
    [[0.33333333]]
    """
    values, axes = _modes("hessian", hessian)
    c = positive_matrix("noise", noise, values.size)
    alpha, b = scalar(positive, "learning_rate", learning_rate), _momentum(momentum)
    _check_stable(values, alpha, b)
    turned = axes.T @ c @ axes / count("batch", batch)
    # In the eigenbasis of H pairs of modes are by themselves: X = M_i X M_jᵀ + K_ij.
    step = np.empty((values.size, 2, 2))
    step[:, 0, 0], step[:, 0, 1], step[:, 1, 0], step[:, 1, 1] = (
        1 - alpha * values,
        -alpha * b,
        values,
        b,
    )
    kick = np.outer([-alpha, 1.0], [-alpha, 1.0]).reshape(4)
    pairs = np.einsum("iab,jcd->ijacbd", step, step).reshape(*turned.shape, 4, 4)
    first = np.linalg.solve(np.eye(4) - pairs, turned[..., None, None] * kick[:, None])[..., 0, 0]
    return axes @ first @ axes.T


@finite
def epoch_variance(
    curvature: Real, *, learning_rate: Real, variance: Real, samples: int, replacement: bool
) -> Real:
    """The variance of a weight at the ends of epochs of n single examples, L_i = κ w²/2 - e_i w.

    With a = 1 - ακ, and σ² the mean of e_i² (which sum to zero):

        with replacement      α² σ²/(1 - a²), in every update
        in random orders      α² σ² n/(n - 1) [Σ a^{2m} - (Σ a^m)²/n]/(1 - a^{2n}),  m = 0, …, n - 1

    The second is α³ κ σ² n(n + 1)/24 for small α: an order that leaves no example out
    takes most of its noise back.

    **Arguments** `curvature`: κ > 0; `learning_rate`: α > 0, below 2/κ; `variance`: σ² ≥ 0 of the
    examples' gradients; `samples`: n ≥ 2; `replacement`: True or False. **Returns** a number or an
    array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.sgd.epoch_variance(
    ...     1.0, learning_rate=0.1, variance=1.0, samples=8, replacement=False
    ... ), 5))
    0.00327
    """
    kappa, alpha = positive("curvature", curvature), positive("learning_rate", learning_rate)
    square, n = nonnegative("variance", variance), count("samples", samples, minimum=2)
    rule = "keep the descent stable, below 2/`curvature`"
    check("learning_rate", alpha, alpha * kappa < 2, rule)
    # 1 - a² and 1 - a^{2n} without a subtraction of near numbers.
    once = alpha * kappa * (2 - alpha * kappa)
    if flag("replacement", replacement):
        return alpha**2 * square / once
    a = 1 - alpha * kappa
    with np.errstate(divide="ignore"):  # ln a² is -∞ where an epoch forgets all, and a^{2n} 0
        lost = -np.expm1(n * np.log1p(-once))
    powers = np.asarray(a)[..., None] ** np.arange(n)
    # Σ a^{2m} - (Σ a^m)²/n is the sum of squares about their mean.
    spread = np.sum((powers - powers.mean(-1, keepdims=True)) ** 2, -1)
    return alpha**2 * square * n / (n - 1) * spread / lost


# ---- stability


@finite
def stability_radius(
    hessians: Real, *, learning_rate: float, batch: int = 1, replacement: bool = True
) -> float:
    """ρ(T), T(Σ) = E (1 - αH_B) Σ (1 - αH_B): the factor of second moments in one update.

    H_B is the mean Hessian of a batch. A minimum that fits every example is stable in mean square
    if ρ(T) ≤ 1. T keeps positive matrices positive and is self-adjoint, so that ρ is its largest
    eigenvalue.

    **Arguments** `hessians`: (N, n, n), that of every example, symmetric and positive;
    `learning_rate`: α ≥ 0; `batch`: B, an integer; `replacement`: draw batches with replacement.
    **Returns** a number. **Raises** ValueError for arguments out of range. **Example**

    >>> print(rqf.theory.sgd.stability_radius(np.ones((1, 1, 1)), learning_rate=0.5))
    0.25
    """
    h, mean = _examples(hessians)
    alpha = scalar(nonnegative, "learning_rate", learning_rate)
    pair = _pair(h, mean, count("batch", batch), flag("replacement", replacement))

    def moved(s: Matrix) -> Matrix:
        return s - alpha * (mean @ s + s @ mean) + alpha**2 * pair(s)

    return _largest(moved, len(mean))


@finite
def critical_rate(hessians: Real, *, batch: int = 1, replacement: bool = True) -> float:
    """The largest α at which ρ(T) ≤ 1, see `stability_radius`: 2/max ⟨Σ, E H_B Σ H_B⟩/⟨Σ, H Σ⟩.

    For batches of one and Hessians of rank one, those of least squares, α tr H ≤ 2 (take Σ = 1);
    full batches need only α λ_max(H) ≤ 2.

    **Arguments** `hessians`, `batch` and `replacement` as of `stability_radius`. **Returns** a
    number. **Raises** ValueError for arguments out of range, and if all Hessians are zero.
    **Example**

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> print(np.round(rqf.theory.sgd.critical_rate(x[:, :, None] * x[:, None, :]), 6))
    2.0

    Source: Wu & Su, arXiv:2305.17490 (abstract and introduction read); the quotient is ours.
    """
    h, mean = _examples(hessians)
    values, axes = np.linalg.eigh(mean)
    seen = values > SYMMETRY * max(values[-1], 0.0)
    if not seen.any():
        raise ValueError("`hessians` must not all be zero; got zeros.")
    # Positive Hessians are zero where their mean is.
    axes, values = axes[:, seen], values[seen]
    h, mean = axes.T @ h @ axes, np.diag(values)
    pair = _pair(h, mean, count("batch", batch), flag("replacement", replacement))
    weight = np.sqrt(2 / (values[:, None] + values[None, :]))
    return 2 / _largest(lambda s: weight * pair(weight * s), values.size)


@finite
def gaussian_critical_rate(eigenvalues: Real, *, batch: int = 1) -> float:
    """The largest stable α of regression with fresh Gaussian inputs.

    It solves Σ (α/B) λ/(2 - α(1 + 1/B)λ) = 1. λ are the eigenvalues of the inputs' covariance;
    2/(n + 2) for n of them equal to 1 and B = 1, and 2/λ_max for B → ∞. Raises ValueError for
    eigenvalues that are not positive.
    """
    values, b = _spectrum(eigenvalues), count("batch", batch)
    share = values / values.max()

    def excess(gap):
        # α = (1 - gap) 2/((1 + 1/B) λ_max), of which the gap may be all that matters.
        return np.sum((1 - gap) * share / ((1 - share) + share * gap)) / (b + 1) - 1

    gap = cast(float, brentq(excess, 0.5 / (b + 1), 1.0, xtol=1e-300))
    return (1 - gap) * 2 / ((1 + 1 / b) * values.max())


# ---- regression with fresh data


@finite
def moments(
    eigenvalues: Real,
    start: Real,
    updates: Sequence[int],
    *,
    learning_rate: float,
    batch: int = 1,
    noise: Real = 0.0,
) -> Float[np.ndarray, "times n"]:
    """E d_k² of the distances from the best weights, along the axes of the inputs' covariance.

    Least squares with fresh Gaussian inputs of covariance eigenvalues λ and labels with noise σ²:

        E d_k² ← [1 - 2αλ_k + α²(1 + 1/B) λ_k²] E d_k² + (α²/B) λ_k (Σ_j λ_j E d_j² + σ²)

    exactly, for every dimension and any spectrum; the sum of λ_k E d_k²/2 is the excess loss.

    **Arguments**

    - `eigenvalues`: λ > 0, along one axis; `start`: the first E d_k² ≥ 0, as many.
    - `updates`: numbers of updates, whole and at least 0.
    - `learning_rate`: α ≥ 0; `batch`: B; `noise`: σ² ≥ 0.

    **Returns** an array (times, n). **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.sgd.moments(
    ...     [2.0, 1.0, 0.3], np.ones(3), [60], learning_rate=0.1, batch=4, noise=0.5
    ... ), 4))
    [[0.0076 0.0072 0.0334]]

    Source: the ancestor at finite dimension of Atanasov, Bordelon, Zavatone-Veth, Paquette &
    Pehlevan, arXiv:2502.05074 (abstract read).
    """
    values, first = _spectrum(eigenvalues), vector("start", nonnegative("start", start))
    if first.shape != values.shape:
        raise ValueError(
            f"`start` must be {values.size} numbers, one for each of `eigenvalues`; got "
            f"{first.size}."
        )
    numbers = vector("updates", real("updates", updates))
    check(
        "updates", numbers, (numbers >= 0) & (numbers == np.floor(numbers)), "be whole, at least 0"
    )
    alpha, b = scalar(nonnegative, "learning_rate", learning_rate), count("batch", batch)
    noise = scalar(nonnegative, "noise", noise)
    # The step is a symmetric matrix, all of whose powers have its eigenvectors.
    step = np.diag(-2 * alpha * values + alpha**2 * (1 + 1 / b) * values**2)
    step += alpha**2 / b * np.outer(values, values)
    rates, axes = np.linalg.eigh(step)
    kept = (1 + rates) ** numbers[:, None]
    # (kept - 1)/rates, without a subtraction of near numbers where rates are small.
    slow, still = np.abs(rates) < 0.5, rates == 0
    grown = np.where(slow, np.expm1(numbers[:, None] * np.log1p(rates * slow)), kept - 1)
    summed = np.where(still, numbers[:, None], grown / np.where(still, 1.0, rates))
    kick = alpha**2 / b * noise * values
    return (kept * (axes.T @ first) + summed * (axes.T @ kick)) @ axes.T


@finite
def random_features(
    features: Real, teacher: Real, *, noise: Real = 0.0
) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"], float]:
    """Eigenvalues, start and noise with which `moments` describes regression on random features.

    A student Σ w_i φ_i with φ = F x learns t·x + noise from standard normal x. Gaussian features
    split the target in their best fit and an independent rest, which is noise to the student:
    λ are the eigenvalues of F Fᵀ and σ² = noise + |t|² - t·Fᵀ(F Fᵀ)⁻¹F t. The student starts at 0.

    **Arguments** `features`: F (p, d) of rank p ≤ d; `teacher`: t (d,); `noise`: the labels'
    variance, ≥ 0. **Returns** (λ, the first E d_k², σ²). **Raises** ValueError for other values.
    **Example**

    >>> values, start, noise = rqf.theory.sgd.random_features([[1.0, 0.0]], [3.0, 4.0])
    >>> print(values, start, round(float(noise), 6))
    [1.] [9.] 16.0
    """
    f, t = np.asarray(real("features", features)), vector("teacher", teacher)
    if f.ndim != 2 or f.shape[1] != t.size:
        raise ValueError(
            f"`features` must be of shape (p, {t.size}), columns for the numbers of `teacher`; got "
            f"{f.shape}."
        )
    _, singular, right = np.linalg.svd(f, full_matrices=False)
    if f.shape[0] > f.shape[1]:
        raise ValueError(f"`features` must have at most {t.size} rows, p ≤ d; got {f.shape[0]}.")
    check("features", singular, singular > 1e-10 * singular[0], "have full rank")
    seen = right @ t
    rest = float(np.sum((t - right.T @ seen) ** 2))
    noise = scalar(nonnegative, "noise", noise) + rest
    return singular**2, (seen / singular) ** 2, noise


# ---- checks


def _modes(name: str, value: Real) -> tuple[Float[np.ndarray, " n"], Matrix]:
    values, axes = np.linalg.eigh(positive_matrix(name, value))
    check(name, values, values > 0, "have positive eigenvalues")
    return values, axes


def _spectrum(eigenvalues: Real) -> Float[np.ndarray, " n"]:
    return vector("eigenvalues", positive("eigenvalues", eigenvalues))


def _momentum(momentum: float) -> np.float64:
    b = scalar(nonnegative, "momentum", momentum)
    check("momentum", b, b < 1, "be below 1")
    return b


def _check_stable(values: Float[np.ndarray, " n"], alpha: float, b: float) -> None:
    check("learning_rate", alpha, alpha * values.max() < 2 * (1 + b), "keep the descent stable")


def _examples(hessians: Real) -> tuple[Float[np.ndarray, "samples n n"], Matrix]:
    h = np.asarray(real("hessians", hessians))
    if h.ndim != 3 or h.shape[1] != h.shape[2] or not h.size:
        raise ValueError(f"`hessians` must be of shape (N, n, n); got {h.shape}.")
    h = np.stack([positive_matrix("hessians", one) for one in h])
    return h, h.mean(0)


def _pair(h: Float[np.ndarray, "samples n n"], mean: Matrix, b: int, replacement: bool):
    """Σ → E H_B Σ H_B for batches of b of the examples."""
    n = len(h)
    if not replacement:
        check("batch", b, b <= n, f"be at most the {n} examples there are")

    def moved(s: Matrix) -> Matrix:
        same, other = np.mean(h @ s @ h, 0), mean @ s @ mean
        if not replacement and n > 1:
            other = (n * other - same) / (n - 1)
        return same / b + (1 - 1 / b) * other

    return moved


def _largest(operator, n: int) -> float:
    """The largest eigenvalue of a self-adjoint map of symmetric matrices (n, n)."""

    def flat(s):
        s = s.reshape(n, n)
        return operator((s + s.T) / 2).reshape(-1)

    if n < 4:
        return float(np.linalg.eigvalsh(np.stack([flat(e) for e in np.eye(n * n)]))[-1])
    # SciPy's types know the operator without its arguments.
    whole = cast(Any, LinearOperator)((n * n, n * n), matvec=flat, dtype=float)
    return float(eigsh(whole, k=1, which="LA", v0=np.eye(n).reshape(-1), tol=0)[0][0])
