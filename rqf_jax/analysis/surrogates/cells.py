"""A law in cells: Ulam's transition matrix, its invariant density and its second eigenvalue."""

import math
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Complex, Float, Int
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ..._arguments import data, integer, one_of, real
from ._record import Series, scales, series_of

_GROUPS = 8
"""Members, or parts of their times, are left out in so many groups, one at a time."""
_MOST = 4000
"""The most cells of which a matrix is made."""


class TransitionMatrix(eqx.Module):
    """Probabilities to go from cell to cell in one lag, estimated by counts.

    `matrix` (cells, cells), rows sum to 1; `density` (cells,) the invariant probabilities of cells;
    `eigenvalues` by size, the first is 1. `cells` (cells, dim) are places in the grid of `edges`.
    `pairs` of states were counted, and `left_out` ones were outside of the grid, in cells that
    are not visited again, or held a gap. `lag` is in units of time. `second_stderr` is the standard
    error of |second| by leaving out members, NaN where they are too few.
    """

    matrix: Float[np.ndarray, "cells cells"]
    density: Float[np.ndarray, " cells"]
    eigenvalues: Complex[np.ndarray, " cells"]
    cells: Int[np.ndarray, "cells dim"]
    edges: tuple[Float[np.ndarray, " edges"], ...]
    pairs: int
    left_out: int
    lag: float
    second_stderr: float

    @property
    def second(self) -> complex:
        """The eigenvalue of the second largest size: the slowest decay of correlations."""
        return complex(self.eigenvalues[1]) if len(self.eigenvalues) > 1 else 0j

    @property
    def time_scale(self) -> float:
        """-lag/ln |second|, after which the start is forgotten by a factor e."""
        size = abs(self.second)
        if size == 0:
            return 0.0
        return -self.lag / math.log(size) if size < 1 else math.inf

    def __repr__(self) -> str:
        return (
            f"TransitionMatrix(cells={len(self.cells)}, pairs={self.pairs}, "
            f"left_out={self.left_out}, lag={self.lag:g}, |second|={abs(self.second):.5g} ± "
            f"{self.second_stderr:.2g}, time_scale={self.time_scale:.5g})"
        )


def transition_matrix(
    runs: Any,
    *,
    bins: int,
    box: Any = None,
    lag: int = 1,
    step: float = 1.0,
    gaps: str = "raise",
) -> TransitionMatrix:
    """Ulam's matrix of a flow or map from pairs of states, `lag` saves apart.

        T_ij = P(x(t + lag) in cell j | x(t) in cell i),   density T = density

    Cells that no pair leads into and out of again are left out: what remains is the largest set
    of cells in which each is reached from each. For a map hand over pairs (members, 2, dim) of
    states and their images.

    **Arguments**

    - `runs`: `Trajectories` or an array ([members,] times, dim), at equal steps.
    - `bins`: cells of every coordinate.
    - `box`: (dim, 2), the lower and upper end of the grid in each coordinate; that of the states by
      default.
    - `lag`: in saves.
    - `step`: the time between two saves of an array; `Trajectories` know their own.
    - `gaps`: "raise" for states with a NaN, or "skip" the pairs that hold one.

    **Returns** a `TransitionMatrix`. **Raises** ValueError for other shapes and numbers, unequal
    steps, series that are not longer than the lag, a coordinate that is constant, a box without
    states, and more than 4000 cells that are visited.

    **Example**

    >>> x = (np.arange(4096) + 0.5) / 4096
    >>> pairs = np.stack([x, 2 * x % 1], 1)[..., None]
    >>> found = rqf.analysis.surrogates.transition_matrix(pairs, bins=8, box=[[0.0, 1.0]])
    >>> np.allclose(found.density, 1 / 8, atol=1e-12)
    True

    Source: Ulam (1960), recalled.
    """
    bins, lag = integer("bins", bins, minimum=2, maximum=10**6), integer("lag", lag, maximum=10**9)
    skip = one_of("raise", "skip")("gaps", gaps) == "skip"
    length = real("step", step, minimum=1e-30)
    xs = series_of("runs", runs)
    if xs.shape[1] <= lag:
        raise ValueError(f"`runs` must be longer than `lag`, {lag} saves; got {xs.shape[1]}.")
    if hasattr(runs, "ts"):
        steps = np.diff(np.asarray(runs.ts, float))
        length = float(steps.mean())
        if not np.all(np.abs(steps - length) <= 1e-3 * length):
            raise ValueError(
                f"`runs` must be saved at equal steps; got steps from {steps.min():.6g} to "
                f"{steps.max():.6g}."
            )
    if not skip and np.isnan(xs).any():
        raise ValueError('`runs` must not be NaN. Pass gaps="skip" to leave such pairs out.')
    edges = _edges(xs, bins, box)
    numbers = _numbers(xs, edges, bins)
    first, second = numbers[:, :-lag], numbers[:, lag:]
    groups = _groups(xs.shape[0], xs.shape[1] - lag)
    inside = (first >= 0) & (second >= 0)
    if not inside.any():
        raise ValueError("`runs` must have states that follow each other in `box`; got none.")
    known, places = np.unique(np.stack([first[inside], second[inside]]), return_inverse=True)
    rows, columns = places.reshape(2, -1)
    counts = csr_array((np.ones(rows.size), (rows, columns)), shape=(known.size, known.size))
    labels = connected_components(counts, connection="strong")[1]
    largest = int(np.argmax(np.bincount(labels[rows], labels[rows] == labels[columns])))
    kept = np.flatnonzero(labels == largest)
    if kept.size > _MOST:
        raise ValueError(f"`bins` must visit at most {_MOST} cells; got {kept.size}. Take fewer.")
    place = np.full(known.size, -1)
    place[kept] = np.arange(kept.size)
    rows, columns = place[rows], place[columns]
    alive = (rows >= 0) & (columns >= 0)
    rows, columns, group = rows[alive], columns[alive], groups[inside][alive]
    if not rows.size:
        raise ValueError("`runs` must come back to some cell; got none. Take fewer `bins`.")
    matrix, eigenvalues, density = _solved(rows, columns, kept.size)
    cells = np.stack(np.unravel_index(known[kept], (bins,) * xs.shape[2]), 1)
    stderr = _stderr(rows, columns, group, kept.size)
    return TransitionMatrix(
        matrix, density, eigenvalues, cells, edges, rows.size, first.size - rows.size,
        lag * length, stderr,
    )  # fmt: skip


def _edges(xs: Series, bins: int, box: Any) -> tuple[np.ndarray, ...]:
    """The edges of the cells of every coordinate."""
    if box is None:
        try:
            scales(np.where(np.isinf(xs), np.nan, xs))
        except ValueError as error:
            raise ValueError(str(error).replace("`truth`", "`runs`")) from None
        finite = np.where(np.isfinite(xs), xs, np.nan)
        ends = np.stack([np.nanmin(finite, (0, 1)), np.nanmax(finite, (0, 1))], 1)
    else:
        ends = data("box", box)
        if ends.shape != (xs.shape[2], 2) or not np.all(ends[:, 0] < ends[:, 1]):
            raise ValueError(
                f"`box` must be a lower and a higher number for each of {xs.shape[2]} coordinates; "
                f"got {ends.tolist() if ends.size < 9 else ends.shape}."
            )
    if float(bins) ** len(ends) >= 2**62:
        raise ValueError(f"`bins` must make fewer than 2⁶² cells in {len(ends)} coordinates.")
    return tuple(np.linspace(low, high, bins + 1) for low, high in ends)


def _numbers(xs: Series, edges: tuple[np.ndarray, ...], bins: int) -> Int[np.ndarray, "m t"]:
    """The number of the cell of every state; -1 outside and for NaN."""
    number, inside = np.zeros(xs.shape[:2], np.int64), np.ones(xs.shape[:2], bool)
    for x, edge in zip(np.moveaxis(xs, 2, 0), edges, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            inside &= (x >= edge[0]) & (x <= edge[-1])
        index = np.clip(np.searchsorted(edge, x, side="right") - 1, 0, bins - 1)
        number = number * bins + index
    return np.where(inside, number, -1)


def _groups(members: int, times: int) -> Int[np.ndarray, "members times"]:
    """The group of every pair: members together or, where they are few, parts of the times."""
    if members >= _GROUPS:
        return np.broadcast_to((np.arange(members) * _GROUPS // members)[:, None], (members, times))
    return np.broadcast_to(np.arange(times) * _GROUPS // times, (members, times))


def _solved(rows: np.ndarray, columns: np.ndarray, size: int):
    """Matrix, eigenvalues by size, and invariant density."""
    counts = np.zeros((size, size))
    np.add.at(counts, (rows, columns), 1.0)
    total = counts.sum(1)
    matrix = counts / np.where(total > 0, total, 1)[:, None]
    values = np.linalg.eigvals(matrix)
    values = values[np.argsort(-np.abs(values))]
    # density (T - 1) = 0 with sum 1, which has one solution where each cell is reached from each.
    system = np.vstack([matrix.T - np.eye(size), np.ones(size)])
    density = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)[0]
    return matrix, values.astype(complex), np.maximum(density, 0)


def _stderr(rows: np.ndarray, columns: np.ndarray, group: np.ndarray, size: int) -> float:
    """The jackknife error of |second|, over groups of pairs; NaN for matrices that are large."""
    present = np.unique(group)
    if size > 400 or size < 2 or present.size < 2:
        return math.nan
    found = []
    for one in present:
        left = group != one
        counts = np.zeros((size, size))
        np.add.at(counts, (rows[left], columns[left]), 1.0)
        total = counts.sum(1)
        alive = np.flatnonzero(total > 0)
        matrix = counts[np.ix_(alive, alive)] / total[alive, None]
        found.append(np.sort(np.abs(np.linalg.eigvals(matrix)))[-2] if alive.size > 1 else 0.0)
    count = len(found)
    return float(math.sqrt((count - 1) * np.var(found)))
