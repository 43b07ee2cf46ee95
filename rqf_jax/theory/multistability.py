"""Linear stability of equilibria of softmax attention with general matrices: closed forms.

    dx_i/dt = P Σ_j a_ij V x_j,   a_ij = softmax_j(x_iᵀ M x_j),   M = QᵀK with β and 1/√d inside

At a real eigenvector v of V every pattern x_i = ±v is an equilibrium for every M, and the softmax
does not contribute to its linearisation. `plus` and `minus` are the numbers p, q of tokens at v and
-v, `eigenvalue` is that of v, `others` are the other n-1 eigenvalues of V (they may be complex),
`alignment` is κ = vᵀMv. Spectra have N(n-1) entries, the tangent space of N spheres.

Sources. The model and its classes of equilibria are Altafini's, arXiv:2511.11553 (abstract read).
The spectra and thresholds were derived for this library and are checked in its tests.
"""

import math

import numpy as np
from jaxtyping import Complex, Float
from scipy.special import expit

from .._arguments import fitting, host, shown
from ._contract import extended, finite
from ._numbers import Real, check, count, real, scalar, size, square_matrix

Spectrum = Complex[np.ndarray, " modes"]


@finite
def split_spectrum(
    plus: int, minus: int, *, eigenvalue: float, others: object, alignment: float
) -> Spectrum:
    """The eigenvalues of the linearisation at p tokens v and q tokens -v.

    With a_± = p e^κ/(p e^κ + q e^{-κ}) (p and q exchanged for -), m_± = 2a_± - 1, for every other
    eigenvalue λ_l: -λm_+ (p-1 times), -λm_- (q-1 times), and the two eigenvalues of

        [[λ_l a_+ - λm_+, λ_l (1-a_+)], [λ_l (1-a_-), λ_l a_- - λm_-]].

    Consensus (q = 0): -λ and λ_l - λ whatever κ. Balanced (p = q): -λ tanh κ, λ_l - λ tanh κ and
    (λ_l - λ) tanh κ. Raises ValueError unless p ≥ 1 and q ≥ 0.

    **Arguments** `plus`: p, an integer; `minus`: q, an integer of at least 0; `eigenvalue`: λ, that
    of v; `others`: the other eigenvalues λ_l of V, along one axis; `alignment`: κ, the inverse
    temperature times vᵀMv. **Returns** an array (eigenvalues,). **Raises** ValueError for arguments
    out of range. **Example**

    >>> print(np.round(rqf.theory.multistability.split_spectrum(
    ...     2, 1, eigenvalue=1.0, others=[0.5], alignment=1.0
    ... ).real, 6))
    [-0.873242 -0.166333 -0.419077]
    """
    p, q = count("plus", plus), count("minus", minus, minimum=0)
    rate, kappa = scalar(real, "eigenvalue", eigenvalue), scalar(real, "alignment", alignment)
    rest = _eigenvalues(others)
    odds = math.log(p / q) if q else math.inf
    own, opposite = expit(2 * kappa + odds), expit(2 * kappa - odds) if q else 0.0
    # The weights 1 - a± of the other side, without cancellation.
    from_own, from_opposite = expit(-2 * kappa - odds), expit(odds - 2 * kappa)
    up = rate * math.tanh(kappa + odds / 2)
    down = rate * math.tanh(kappa - odds / 2)
    fitting(("plus", "minus"), (p + q, len(rest)), 16)
    within = np.repeat(rest, p - 1) * 0 - up
    if not q:
        return np.concatenate([within, rest - up])
    apart = np.repeat(rest, q - 1) * 0 - down
    # The eigenvalues of a 2 x 2 matrix from its trace and determinant.
    first, last = rest * own - up, rest * opposite - down
    half = (first + last) / 2
    root = np.sqrt(((first - last) / 2) ** 2 + rest**2 * from_own * from_opposite)
    return np.concatenate([within, apart, half + root, half - root])


@finite
def pattern_spectrum(
    value: Real, query_key: Real, direction: Real, *, plus: int, minus: int
) -> Spectrum:
    """`split_spectrum` at an eigenvector v = `direction` of V = `value`, with M = `query_key`.

    Raises ValueError unless the matrices are square of one size and v is an eigenvector of V.

    **Arguments** `value`: V, a square matrix; `query_key`: M, a square matrix of the size of V;
    `direction`: v, an eigenvector of V; `plus`: p, an integer; `minus`: q, an integer of at least
    0. **Returns** an array (eigenvalues,). **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.multistability.pattern_spectrum(
    ...     np.eye(2), np.eye(2), [1.0, 0.0], plus=2, minus=1
    ... ).real, 6))
    [-0.873242  0.276393  0.      ]
    """
    matrix, logits = square_matrix("value", value), square_matrix("query_key", query_key)
    if matrix.shape != logits.shape:
        shapes = f"{matrix.shape}; got {logits.shape}"
        raise ValueError(f"`query_key` must have the shape of `value`, {shapes}.")
    v = host("direction", direction)
    if v.shape != (len(matrix),) or not np.linalg.norm(v) > 0:
        raise ValueError(f"`direction` must be a nonzero vector of {len(matrix)} numbers; got {v}.")
    v = v / np.linalg.norm(v)
    rate = v @ matrix @ v
    residual = np.abs(matrix @ v - rate * v).max()
    near = residual <= 1e-5 * np.abs(matrix).max()
    check("direction", residual, near, "be an eigenvector of `value`, |Vv - λv| = 0")
    spectrum = np.linalg.eigvals(matrix)
    others = np.delete(spectrum, np.argmin(np.abs(spectrum - rate)))
    return split_spectrum(
        plus, minus, eigenvalue=float(rate), others=others, alignment=float(v @ logits @ v)
    )


@extended
def critical_alignment(eigenvalue: float, others: object) -> float:
    """κ* = artanh(max(0, max_l Re λ_l)/|λ|), signed as λ: a balanced split is stable beyond it.

    For λ > 0 stable if κ > κ*, and only for the leading eigenvalue (else infinite). For λ < 0
    stable if κ < κ*, and only for the most negative one. Raises ValueError for λ = 0.
    """
    rate, rest = scalar(real, "eigenvalue", eigenvalue), np.real(_eigenvalues(others))
    check("eigenvalue", rate, rate != 0, "differ from 0")
    ratio = max(0.0, rest.max(initial=0.0)) / abs(rate)
    extreme = bool(np.all(np.sign(rate) * (rate - rest) > 0))
    threshold = math.atanh(ratio) if extreme and ratio < 1 else math.inf
    return math.copysign(threshold, rate)


@finite
def unbalanced_alignment_bound(plus: int, minus: int) -> float:
    """½|ln(p/q)|: for smaller κ a split on λ > 0 is unstable, with two tokens or more a side."""
    return abs(math.log(count("plus", plus) / count("minus", minus))) / 2


@finite
def polygon_spectrum(tokens: int, *, beta: Real) -> Float[np.ndarray, " tokens"]:
    """Eigenvalues at the regular N-gon on the circle, V = I, M = βI, for modes 0, ..., N-1:

        λ_k = Σ_m a_m (cos φ_m - β sin² φ_m)(cos kφ_m - 1),   φ_m = 2πm/N,

    a_m the softmax weights e^{β cos φ_m}/Z. Mode 0 is the rotation. For V = -I they change sign.
    """
    n, inverse = size("tokens", tokens, minimum=2), scalar(real, "beta", beta)
    phase = 2 * np.pi * np.arange(n) / n
    logits = inverse * np.cos(phase)
    weights = np.exp(logits - logits.max())
    weights = weights / weights.sum()
    force = weights * (np.cos(phase) - inverse * np.sin(phase) ** 2)
    waves = np.fft.fft(force).real
    return waves - waves[0]


def _eigenvalues(others: object) -> Spectrum:
    wrong = f"`others` must be a vector of numbers, real or complex; got {shown(others)}."
    try:
        known = np.asarray(others)
        rest = np.atleast_1d(known.astype(complex))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(wrong) from None
    if isinstance(others, np.ma.MaskedArray) or known.dtype.kind not in "biufc" or rest.ndim != 1:
        raise ValueError(wrong)
    check("others", rest, np.isfinite(rest), "be finite")  # pyright: ignore[reportArgumentType]
    return rest
