"""The dimension of an attractor, from distances of its points."""

import math
from typing import Any

import equinox as eqx
import numpy as np
from scipy.optimize import brentq

from ..._arguments import integer, real
from ._record import Series, scales, series_of, whole

_GROUPS = 8
"""Points are divided in so many groups, each with its estimate."""
_LEAST = 100
"""The least number of points of a group."""


class Dimension(eqx.Module):
    """A dimension with its standard error over groups of points, and the distances it is of.

    `value` and `stderr` are the mean and its error; `low` and `high` bound the distances, in the
    units of the states.
    """

    value: float
    stderr: float
    low: float
    high: float

    def __repr__(self) -> str:
        return (
            f"Dimension({self.value:.4g} ± {self.stderr:.2g}, distances {self.low:.3g} … "
            f"{self.high:.3g})"
        )


def correlation_dimension(
    runs: Any,
    *,
    low: float = 0.0005,
    high: float = 0.01,
    window: int = 1,
    points: int = 8000,
) -> Dimension:
    """The correlation dimension of Grassberger & Procaccia, by maximum likelihood.

        P(|x - y| < r) ∝ r^D between two quantiles a < b of the distances,
        Σ ln(b/r) / n = 1/D - L/(e^{DL} - 1),   L = ln(b/a)

    Points are taken evenly from all states and divided in 8 groups, whose scatter gives the error;
    pairs of one member that are near in time are left out, because they lie on one path.

    **Arguments**

    - `runs`: `Trajectories` or an array ([members,] times, dim), on the attractor.
    - `low`, `high`: fractions 0 < low < high ≤ 1 of the distances, counted from the smallest.
    - `window`: pairs of one member at fewer saves' distance than it are left out.
    - `points`: so many at most.

    **Returns** a `Dimension`. **Raises** ValueError for other shapes and numbers, entries that are
    not finite, a constant coordinate, and fewer than 800 states.

    **Example**

    >>> x = np.random.default_rng(0).normal(size=(8, 500, 2))
    >>> found = rqf.analysis.surrogates.correlation_dimension(x)
    >>> abs(found.value - 2) < 0.15
    True

    Source: Grassberger & Procaccia, Physica D 9 (1983); the likelihood between two bounds is that
    of Takens (1985), derived here.
    """
    a, b = real("low", low, minimum=1e-6, maximum=1), real("high", high, minimum=1e-6, maximum=1)
    if not a < b:
        raise ValueError(f"`low` must be below `high`; got {a:g} and {b:g}.")
    window = integer("window", window, minimum=0, maximum=10**9)
    most = integer("points", points, minimum=_GROUPS * _LEAST, maximum=10**5)
    xs = whole("runs", series_of("runs", runs))
    _check_varies(xs)
    states = xs.shape[0] * xs.shape[1]
    if states < _GROUPS * _LEAST:
        raise ValueError(f"`runs` must be at least {_GROUPS * _LEAST} states; got {states}.")
    chosen = np.linspace(0, states - 1, min(most, states)).astype(int)
    chosen = np.random.default_rng(0).permutation(chosen)
    found, bounds = [], []
    for group in np.array_split(chosen, _GROUPS):
        distances = _distances(xs, group, window)
        if distances.size < 100:
            raise ValueError(
                f"`window` must leave at least 100 pairs of points; got {distances.size} with "
                f"{window}."
            )
        ends = np.quantile(distances, [a, b])
        inside = distances[(distances > ends[0]) & (distances <= ends[1])]
        found.append(_likeliest(float(np.mean(np.log(ends[1] / inside))), *ends))
        bounds.append(ends)
    values, (nearest, farthest) = np.array(found), np.mean(bounds, 0)
    stderr = float(values.std(ddof=1) / math.sqrt(_GROUPS))
    return Dimension(float(values.mean()), stderr, float(nearest), float(farthest))


def _check_varies(xs: Series) -> None:
    try:
        scales(xs)
    except ValueError as error:
        raise ValueError(str(error).replace("`truth`", "`runs`")) from None


def _distances(xs: Series, group: np.ndarray, window: int) -> np.ndarray:
    """Distances of all pairs of a group that do not lie on one piece of a path."""
    member, time = np.divmod(group, xs.shape[1])
    points = xs[member, time]
    first, second = np.triu_indices(len(group), 1)
    apart = (member[first] != member[second]) | (np.abs(time[first] - time[second]) >= window)
    first, second = first[apart], second[apart]
    found = np.linalg.norm(points[first] - points[second], axis=1)
    return found[found > 0]


def _likeliest(mean: float, low: float, high: float) -> float:
    """D with 1/D - L/(e^{DL} - 1) = mean; 0 where the points are fewer than any dimension gives."""
    length = math.log(high / low)

    def excess(dimension: float) -> float:
        # Of a uniform law of ln r as D → 0.
        if dimension * length < 1e-8:
            return length / 2 - mean
        return 1 / dimension - length / math.expm1(min(dimension * length, 700)) - mean

    found = brentq(excess, 0, 1e4) if excess(0) > 0 else 0.0
    return float(found)  # pyright: ignore[reportArgumentType]
