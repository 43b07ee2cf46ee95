"""Two descents with the same batches and different first weights: do they forget the difference?

Least squares with fresh Gaussian inputs of covariance κ 1: differences obey d ← (1 - α Ĉ) d,
Ĉ = (1/B) Σ x xᵀ, whatever the labels and their noise. `learning_rate` is α, `batch` is B, `dim` the
number n of weights, `curvature` κ. Functions compute in float64; a bad argument raises ValueError.

Derived for this library and checked against descents in its tests.
"""

from typing import cast

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import gammaln

from ._contract import finite
from ._numbers import count, positive, scalar

_REACH = 9.0
"""Chi variables are nowhere farther from the root of their degrees of freedom."""


@finite
def exponent(
    *, learning_rate: float, batch: int = 1, dim: int = 1, curvature: float = 1.0
) -> float:
    """λ₁ = ½ E ln[(1 - aS)² + a² S C/B] per update, a = ακ: the largest Lyapunov exponent.

    S is χ²_B/B and C is χ²_{n-1}, independent: no direction is special, so that ln |d| is a sum of
    independent terms, ln |(1 - αĈ)e| for any unit vector e. For one weight and B = 1 it is
    E ln|1 - ακx²|; for B → ∞ ln|1 - ακ|. Copies synchronise almost surely if λ₁ < 0, and in mean
    square only below `sgd.gaussian_critical_rate`, which is smaller.

    The sum of all n exponents, E ln|det(1 - αĈ)|, is for B = 1 that of one weight at the learning
    rate nα and the batch n.

    **Arguments** `learning_rate`: α > 0; `batch`: B, an integer; `dim`: n, an integer;
    `curvature`: κ > 0. **Returns** a number. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(round(rqf.theory.synchronisation.exponent(learning_rate=0.1), 6))
    -0.124672
    """
    a = scalar(positive, "learning_rate", learning_rate)
    a = a * scalar(positive, "curvature", curvature)
    b, n = count("batch", batch), count("dim", dim)
    total = 0.0
    # B S = v², split where 1 - aS changes its sign: there is a logarithm's singularity.
    low, high = _range(b)
    zero = np.sqrt(b / a)
    inside = low < zero < high
    for first, last in ((low, zero), (zero, high)) if inside else ((low, high),):
        v, past, before, weight = _nodes(first, last)
        s = v**2 / b
        # 1 - aS by the distance from its zero, where that is an end.
        off = -past if first == zero else before if last == zero else zero - v
        straight = (a / b * off * (v + zero)) ** 2
        if n == 1:
            inner = _half_log(straight, -2 * a * s + (a * s) ** 2)
        else:
            w, _, _, share = _nodes(*_range(n - 1))
            side = a**2 * (s / b)[:, None] * w**2
            change = (-2 * a * s + (a * s) ** 2)[:, None] + side
            inner = _half_log(straight[:, None] + side, change) @ (share * _chi(w, n - 1))
        total += float(np.sum(weight * _chi(v, b) * inner))
    return total


@finite
def critical_rate(*, batch: int = 1, dim: int = 1, curvature: float = 1.0) -> float:
    """The learning rate above which copies part, λ₁ = 0; see `exponent`.

    Above `sgd.gaussian_critical_rate`, between the two copies meet almost surely while their mean
    square distance grows. Raises ValueError for arguments out of range.
    """
    kappa = scalar(positive, "curvature", curvature)
    b, n = count("batch", batch), count("dim", dim)
    low = 2 * b / (n + b + 1)  # `sgd.gaussian_critical_rate` of n equal eigenvalues

    def rate(a):
        return exponent(learning_rate=a, batch=b, dim=n)

    high = 2 * low
    while rate(high) < 0:
        low, high = high, 2 * high
    return cast(float, brentq(rate, low, high, xtol=1e-13)) / kappa


def _range(degrees: int) -> tuple[float, float]:
    root = float(np.sqrt(degrees))
    return max(0.0, root - _REACH), root + _REACH


def _chi(v: Float[np.ndarray, " nodes"], degrees: int) -> Float[np.ndarray, " nodes"]:
    """The density of a chi variable."""
    log = (degrees - 1) * np.log(v) - v**2 / 2
    return np.exp(log - (degrees / 2 - 1) * np.log(2) - gammaln(degrees / 2))


def _half_log(whole: Float[np.ndarray, "..."], change: Float[np.ndarray, "..."]):
    """½ ln of 1 + change = whole, of which one is exact where the other is not."""
    small = np.abs(change) < 0.5
    return np.where(small, np.log1p(np.where(small, change, 0.0)), np.log(whole)) / 2


def _nodes(first: float, last: float):
    """Nodes, their distances from both ends, and weights; ends may have logarithms (tanh-sinh)."""
    t = np.linspace(-4.2, 4.2, 169)
    p, q = (1 / (1 + np.exp(-sign * np.pi * np.sinh(t))) for sign in (1, -1))
    length = last - first
    weight = length * p * q * np.pi * np.cosh(t) * (t[1] - t[0])
    return first + length * p, length * p, length * q, weight
