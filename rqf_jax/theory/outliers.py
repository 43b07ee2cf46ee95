"""A signal of rank one in the spectrum of a noisy matrix, and when it first shows.

Symmetric: H = θ u uᵀ + noise of variance v off the diagonal and 2v on it, n × n. Rectangular:
W = ℓ u wᵀ + independent entries of variance v, m × n. For large matrices an eigenvalue leaves the
bulk if and only if the signal is above a threshold, and then carries part of its direction (Baik,
Ben Arous & Péché; Benaych-Georges & Nadakuditi; recalled). Below the threshold the largest value is
the edge of the bulk and the overlap 0, which is what the functions return.

A weight matrix pulled to a teacher, dW = -κ(W - T) dt + noise, has such a signal at every time,
θ = τ(1 - e^{-κt}) for a teacher of strength τ, so its outlier *emerges* at a time t* (derived for
this library). `rate` is κ; noise is g² (symmetric, `dyson` clock) or s² per entry and unit time.

Functions compute in float64 and return float64 numbers or arrays; a bad argument raises ValueError.
"""

import math

import numpy as np

from ._contract import extended, finite
from ._numbers import Real, count, nonnegative, positive
from ._rapidity import Values
from .spectra import shape

# ---- symmetric matrices


@finite
def threshold(n: int, variance: Real) -> Values:
    """√(n v), the strength from which a symmetric signal has an outlier."""
    return np.sqrt(count("n", n) * nonnegative("variance", variance))


@finite
def outlier(signal: Real, n: int, variance: Real) -> Values:
    """θ + n v/θ, the largest eigenvalue; the edge 2√(n v) for signals below the threshold."""
    theta, least = positive("signal", signal), threshold(n, variance)
    return np.where(theta > least, theta + least * (least / theta), 2 * least)[()]


@finite
def overlap(signal: Real, n: int, variance: Real) -> Values:
    """1 - n v/θ², the squared overlap of its eigenvector with u; 0 below the threshold."""
    share = threshold(n, variance) / positive("signal", signal)
    return np.maximum((1 - share) * (1 + share), 0.0)


@extended
def emergence_time(
    teacher: Real, *, g: Real, rate: Real, n: int, initial_variance: Real = 0.0
) -> Values:
    """t*, when the outlier of a pulled symmetric matrix leaves the bulk; infinite if it never does.

    With q = e^{-κt*} the root of τ²(1-q)² = n [v₀q² + g²(1-q²)/2κ]; from zero,
    t* = (2/κ) artanh(n g²/(2κτ²)). `initial_variance` is v₀ of the independent Gaussian start.

    **Arguments** `teacher`: the strength τ > 0 of the target; `g`: g ≥ 0; `rate`: κ > 0, the pull
    per unit time; `n`: the size of the matrix; `initial_variance`: v₀ ≥ 0. **Returns** a number or
    an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.outliers.emergence_time(9.0, g=1.0, rate=1.0, n=4), 6))
    0.049393
    """
    n, strength = count("n", n), positive("teacher", teacher)
    return _emergence(
        n * nonnegative("initial_variance", initial_variance) / strength / strength,
        n * (nonnegative("g", g) / strength) ** 2,
        positive("rate", rate),
    )


# ---- rectangular matrices


@finite
def rectangular_threshold(rows: int, columns: int, variance: Real) -> Values:
    """√v (m n)^{1/4}, the strength from which a rectangular signal has an outlier."""
    m, n = shape(rows, columns)
    return np.sqrt(nonnegative("variance", variance)) * (m * n) ** 0.25


@finite
def rectangular_outlier(signal: Real, rows: int, columns: int, variance: Real) -> Values:
    """√((ℓ² + vm)(ℓ² + vn))/ℓ, the largest singular value; the edge √v(√m + √n) below threshold.

    **Arguments** `signal`: ℓ > 0; `rows`: m, an integer; `columns`: n, an integer of at most m;
    `variance`: v ≥ 0, of an entry. **Returns** a number or an array. **Raises** ValueError for
    arguments out of range. **Example**

    >>> print(np.round(rqf.theory.outliers.rectangular_outlier(3.0, 5, 3, 0.5), 6))
    3.662877
    """
    (m, n), v = shape(rows, columns), nonnegative("variance", variance)
    signal = positive("signal", signal)
    above = signal > rectangular_threshold(m, n, v)
    root = np.sqrt(v)
    out = np.hypot(signal, root * np.sqrt(m)) * (np.hypot(signal, root * np.sqrt(n)) / signal)
    return np.where(above, out, root * (np.sqrt(m) + np.sqrt(n)))[()]


@finite
def rectangular_overlaps(
    signal: Real, rows: int, columns: int, variance: Real
) -> tuple[Values, Values]:
    """Squared overlaps of the singular vectors with u in R^m and w in R^n.

    With l = ℓ²/v: (l² - mn)/(l(l + m)) and (l² - mn)/(l(l + n)); 0 below the threshold.

    **Arguments** `signal`: ℓ > 0; `rows`: m, an integer; `columns`: n, an integer of at most m;
    `variance`: v > 0, of an entry. **Returns** both, each a number. **Raises** ValueError for
    arguments out of range. **Example**

    >>> print(np.round(rqf.theory.outliers.rectangular_overlaps(3.0, 5, 3, 0.5), 6))
    [0.746377 0.81746 ]
    """
    m, n = shape(rows, columns)
    signal = positive("signal", signal)
    share = rectangular_threshold(m, n, positive("variance", variance)) / signal
    excess = np.maximum((1 - share) * (1 + share) * (1 + share**2), 0.0)
    # m/l = (threshold/ℓ)² √(m/n).
    return excess / (1 + share**2 * np.sqrt(m / n)), excess / (1 + share**2 * np.sqrt(n / m))


@extended
def rectangular_emergence_time(
    teacher: Real, *, s: Real, rate: Real, rows: int, columns: int, initial_variance: Real = 0.0
) -> Values:
    """t* of a pulled rectangular matrix: `emergence_time` with √(mn) for n; infinite if never.

    **Arguments** `teacher`: the strength τ > 0 of the target; `s`: s ≥ 0, the strength of the
    noise; `rate`: κ > 0, the pull per unit time; `rows`: m, an integer; `columns`: n, an integer of
    at most m; `initial_variance`: v₀ ≥ 0. **Returns** a number or an array. **Raises** ValueError
    for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.outliers.rectangular_emergence_time(
    ...     9.0, s=1.0, rate=1.0, rows=5, columns=3
    ... ), 6))
    0.047824
    """
    m, n = shape(rows, columns)
    root, strength = math.sqrt(m * n), positive("teacher", teacher)
    return _emergence(
        root * nonnegative("initial_variance", initial_variance) / strength / strength,
        root * (nonnegative("s", s) / strength) ** 2,
        positive("rate", rate),
    )


def _emergence(start: Values, noise: Values, rate: Values) -> Values:
    """-ln q/κ for the root q < 1 of (1-q)² = start q² + end (1-q²), end = noise/2κ.

    For end ≥ 1 the right side is the larger for all q; else (1-end)/(1 + √(end² + start (1-end)))
    is the only root in (0, 1).
    """
    end = np.asarray(noise / (2 * rate))
    left = np.maximum(1 - end, 0.0)
    lost = end + np.hypot(end, np.sqrt(start * left))
    return np.where(left > 0, np.log1p(lost / left), np.inf)[()] / rate
