"""Cells of a box: states as whole numbers, a few for each coordinate."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._arguments import Key, described, field, host, integer, number, shown, whole
from ._windows import states


def numbers(name: str) -> Callable[[Any], tuple[float, ...]]:
    """A field converter: finite numbers (size,), at least one, which no training moves."""

    def convert(value: Any) -> tuple[float, ...]:
        array = np.asarray(host(name, value), float)
        if array.ndim != 1 or not array.size or not np.isfinite(array).all():
            raise ValueError(
                f"`{name}` must hold finite numbers, one for each coordinate; got {shown(value)}."
            )
        return tuple(array.tolist())

    return convert


class Grid(eqx.Module):
    """A box cut into equal cells along each coordinate.

    The cell of a state is a tuple of whole numbers, one for each coordinate, counted from 0. States
    outside of the box are in the nearest cell.

    **Arguments**

    - `low`, `high`: the box (size,), with low < high in every coordinate.
    - `cells`: how many cells a coordinate has, at least 2.

    **Raises** ValueError for a box without volume, numbers that are not finite, and few cells.

    **Example**

    >>> grid = rqf.surrogates.Grid([0.0, -1.0], [1.0, 1.0], 4)
    >>> grid.cell(jnp.array([0.3, 0.9])).tolist()
    [1, 3]
    """

    low: tuple[float, ...] = eqx.field(static=True, converter=numbers("low"))
    high: tuple[float, ...] = eqx.field(static=True, converter=numbers("high"))
    cells: int = eqx.field(static=True, converter=field("cells", whole(minimum=2)))

    __repr__ = described

    def __check_init__(self):
        if len(self.low) != len(self.high):
            raise ValueError(
                f"`low` and `high` must be as long as each other; got {len(self.low)} and "
                f"{len(self.high)} numbers."
            )
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low < high:
                raise ValueError(
                    f"`high` must be above `low` in every coordinate; got {high} and {low} in "
                    f"coordinate {i}."
                )

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return len(self.low)

    @property
    def width(self) -> Float[Array, " size"]:
        """The sides of a cell."""
        return (jnp.asarray(self.high) - jnp.asarray(self.low)) / self.cells

    def cell(self, x: Float[Array, "*many size"]) -> Int[Array, "*many size"]:
        """The cell of each state."""
        low, width = self._rows(x.shape)
        place = jnp.floor((x - low.astype(x.dtype)) / width.astype(x.dtype))
        return jnp.clip(place, 0, self.cells - 1).astype(jnp.int32)

    def centre(self, cell: Int[Array, "*many size"]) -> Float[Array, "*many size"]:
        """The middle of each cell."""
        return self._point(cell, 0.5)

    def inside(self, key: Key, cell: Int[Array, " size"]) -> Float[Array, " size"]:
        """A uniform point of a cell."""
        return self._point(cell, jax.random.uniform(key, (self.size,), self.width.dtype))

    def _rows(self, shape):
        return tuple(jnp.broadcast_to(row, shape) for row in (jnp.asarray(self.low), self.width))

    def _point(self, cell, share):
        low, width = (
            jnp.broadcast_to(row, cell.shape) for row in (jnp.asarray(self.low), self.width)
        )
        return low + (cell.astype(width.dtype) + share) * width

    def refined(self, factor: int = 2) -> "Grid":
        """The same box with so many times as many cells along each coordinate."""
        return Grid(self.low, self.high, integer("factor", factor, minimum=2) * self.cells)


def grid_of(paths: Any, cells: int, *, margin: Any = 0.05) -> Grid:
    """The grid whose box holds all states of paths.

    **Arguments**

    - `paths`: states (..., size); NaN is left out.
    - `cells`: how many cells a coordinate has.
    - `margin`: how far the box reaches beyond the states, as a share of their range in each
      coordinate, at least 0. Margins of more than one cell would be cells that no state is in, and
      are refused.

    **Raises** ValueError for paths without a finite state, a coordinate that is constant, and a
    margin that makes empty cells.

    **Example**

    >>> rqf.surrogates.grid_of(np.array([[0.0], [10.0]]), 10, margin=0.0).width.tolist()
    [1.0]
    """
    array = states("paths", paths)
    cells = integer("cells", cells, minimum=2)
    margin = float(number(minimum=0)("margin", margin))
    if array.ndim < 2 or not array.shape[-1]:
        raise ValueError(f"`paths` must have shape (..., size); got shape {array.shape}.")
    known = array.reshape(-1, array.shape[-1])
    known = known[~np.isnan(known).any(axis=1)]
    if not len(known):
        raise ValueError("`paths` must hold a state without NaN; got none.")
    low, high = known.min(axis=0), known.max(axis=0)
    flat = np.flatnonzero(low == high)
    if flat.size:
        i = int(flat[0])
        raise ValueError(
            f"`paths` must move in every coordinate; coordinate {i} is {low[i]} in all states. "
            "Leave it out."
        )
    if margin * cells > 1 + 2 * margin:
        raise ValueError(
            f"`margin` must be at most one cell; got {margin:g} of the range with {cells} `cells`, "
            f"which leaves cells at the rim empty. Take at most {1 / (cells - 2):.3g}."
        )
    reach = margin * (high - low)
    return Grid(low - reach, high + reach, cells)
