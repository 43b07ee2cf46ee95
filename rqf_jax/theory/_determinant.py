"""ln det e^{a_i b_j} of ascending a and b, to rounding: the determinant of Karlin and McGregor.

The matrix is totally positive, and its determinant is positive however close the points are, but
float64 loses it: for a dozen points its smallest singular value is below 1e-20 of the largest.
Where float64 does not suffice Python's decimal arithmetic does, with as many digits as it takes.
"""

import decimal
import math
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import gammaln

from ._special import Values

Points = Float[np.ndarray, "*batch n"]

# Above it decimal arithmetic takes minutes.
MOST = 64


def log_vandermonde(points: Points) -> Values:
    """Σ_{i<j} ln(x_j - x_i)."""
    i, j = np.triu_indices(points.shape[-1], 1)
    return np.log(points[..., j] - points[..., i]).sum(-1)


def log_ratio(
    x: Float[np.ndarray, "*#batch n"],
    y: Float[np.ndarray, "*#batch n"],
    kept: Float[np.ndarray, "*#batch"],
    width: Float[np.ndarray, "*#batch"],
) -> Float[np.ndarray, "*batch"]:
    """ln[det e^{-(a_i - b_j)²/2}/(Δ(a) Δ(b))], a = `kept` x/`width`, b = y/`width`.

    -Σ_{k<n} ln k! - Σ b²/2 as a → 0. Leading axes are broadcast. Raises ValueError if there are
    more than 64 points, so close that float64 does not suffice.
    """
    n = x.shape[-1]
    batch = np.broadcast_shapes(x.shape[:-1], y.shape[:-1], kept.shape, width.shape)
    x, y = (np.broadcast_to(points, (*batch, n)) for points in (x, y))
    kept, width = np.broadcast_to(kept, batch), np.broadcast_to(width, batch)
    result = np.empty(batch)
    for index in np.ndindex(batch):
        scale, unit = float(kept[index]), float(width[index])
        a, b = scale * x[index] / unit, y[index] / unit
        largest = np.max(np.abs(a - a.mean())) * np.max(np.abs(b - b.mean()))
        # The second order around the limit is below the rounding of the answer.
        if largest * n**2 < 1e-9:
            shared = a.sum() * b.sum() / n - np.sum(a**2 + b**2) / 2
            result[index] = shared - gammaln(np.arange(1, n + 1)).sum()
            continue
        found = _floating(scale * np.diff(x[index]) / unit, np.diff(y[index]) / unit)
        if found is None:
            found = _exact(x[index], y[index], scale, unit)
        found = found - np.sum((a - b) ** 2) / 2
        spread = log_vandermonde(x[index]) + log_vandermonde(y[index])
        result[index] = found - spread - n * (n - 1) / 2 * (math.log(scale) - 2 * math.log(unit))
    return result


def _scaled(da: Any, db: Any, zero: Any) -> list[list[Any]]:
    """Minus the exponents of the matrix whose rows and columns are scaled to a diagonal of ones.

    With Δu_k = Δa_k (b_k + b_{k+1})/2 as the logarithms of the rows' factors the entry (i, j),
    i < j, is exp(-Σ_{i≤k<j} Δa_k [b_j - (b_k + b_{k+1})/2]), a sum of positive terms, and likewise
    below the diagonal.
    """
    n = len(da) + 1
    exponents = [[zero] * n for _ in range(n)]
    for i in range(n):
        right = left = zero
        reach_right = reach_left = zero
        # Away from the diagonal: every step adds Δb to the distance of all the steps before.
        for j in range(i + 1, n):
            right = right + reach_right * db[j - 1] + da[j - 1] * db[j - 1] / 2
            reach_right = reach_right + da[j - 1]
            exponents[i][j] = right
        for j in range(i - 1, -1, -1):
            left = left + reach_left * db[j] + da[j] * db[j] / 2
            reach_left = reach_left + da[j]
            exponents[i][j] = left
    return exponents


def _floating(da: np.ndarray, db: np.ndarray) -> float | None:
    """ln det of the scaled matrix in float64, or None where rounding would be seen."""
    exponents = np.minimum(np.array(_scaled(da, db, np.float64(0))), 800.0)
    matrix = np.exp(-exponents)
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    # How much relative errors of the entries move the logarithm.
    moved = np.sum(np.abs(matrix * inverse.T) * (1 + exponents))
    if not moved * 2e-16 < 1e-13:
        return None
    sign, log_det = np.linalg.slogdet(matrix)
    return float(log_det) if sign > 0 else None


def _exact(x: np.ndarray, y: np.ndarray, kept: float, width: float) -> float:
    """The same by elimination in decimal arithmetic, with digits added until they suffice."""
    if len(x) > MOST:
        raise ValueError(
            f"`start` must have at most {MOST} eigenvalues where they are this close; got {len(x)}."
        )
    digits = 40
    while (found := _eliminated(x, y, kept, width, digits)) is None:
        digits = digits * 8 // 5
    return found


def _eliminated(
    x: np.ndarray, y: np.ndarray, kept: float, width: float, digits: int
) -> float | None:
    """ln det from the pivots, all positive in exact arithmetic; None if the digits do not suffice.

    Elimination without exchanges moves entries of a totally positive matrix by a few units of the
    last digit. A pivot then keeps the digits that it has not lost against the one it came from,
    but for the size of the inverse beside it, at most 4^n.
    """
    context = decimal.Context(prec=digits, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])
    with decimal.localcontext(context):
        unit = decimal.Decimal(width)
        one = [decimal.Decimal(kept) * decimal.Decimal(float(value)) / unit for value in x]
        other = [decimal.Decimal(float(value)) / unit for value in y]
        da, db = ([q - p for p, q in pairwise(points)] for points in (one, other))
        rows = [[(-e).exp() for e in row] for row in _scaled(da, db, decimal.Decimal(0))]
        total = decimal.Decimal(0)
        least = decimal.Decimal(10) ** (17 + math.ceil(0.6 * len(rows)) - digits)
        for k, pivots in enumerate(rows):
            pivot = pivots[k]
            if not pivot > least:
                return None
            total += pivot.ln()
            for row in rows[k + 1 :]:
                factor = row[k] / pivot
                for column in range(k + 1, len(row)):
                    row[column] -= factor * pivots[column]
        return float(total)
