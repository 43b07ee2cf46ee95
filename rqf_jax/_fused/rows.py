"""Large arrays, row by row: a loop in the program in place of entries that are written out.

An operation on an array of `ROWS` entries or more is not done when it is met. It becomes `Rows`, a
function from the index of a row to that row, and operations on rows compose. A loop is written
where an array is needed as a whole: all rows are made, one a turn, and kept in memory, from where
entries are read when they are used. Attention makes one loop over its queries in this way.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .values import Lanes, Pair, known, over, part

ROWS = 128
"""Entries of an array from which on it is made row by row."""

_PRODUCTS = 512
"""Products in a product of matrices from which on it is made row by row."""


def work(equation: Any) -> int:
    """The number of entries that an operation makes, or of products in a product of matrices."""
    size = sum(math.prod(var.aval.shape) for var in equation.outvars)
    if equation.primitive.name == "dot_general":
        shape = equation.invars[0].aval.shape
        size *= math.prod(shape[axis] for axis in equation.params["dimension_numbers"][0][0])
    return size


class Rows:
    """An array that is made row by row along an axis: `row(at)` is that of the loop's index."""

    def __init__(self, shape: Sequence[int], axis: int, make: Callable[[Any], Lanes]):
        self.shape, self.axis, self._make = tuple(shape), axis, make
        self._last: tuple[Any, Any] = None, None
        self.whole: Lanes | None = None

    @property
    def count(self) -> int:
        """The number of rows."""
        return self.shape[self.axis]

    def row(self, at: Any) -> Lanes:
        """The row of the loop at hand; an array of one axis less."""
        if self._last[0] is not at:
            self._last = at, self._make(at)
        return self._last[1]


class ByRows:
    """Rules `rows_name(equation, *arrays)` of operations on `Rows`, for each primitive.

    A rule gives None where the operation needs whole arrays.
    """

    ops: Any

    def by_rows(self, equation: Any, elementwise: bool, xs: Sequence[Any]) -> Any:
        """The result of an operation row by row; None where it is to be written out."""
        name = equation.primitive.name
        rule = getattr(self, f"rows_{name}", self.rows_of_each if elementwise else None)
        if not self.ops.loops or rule is None:
            return None
        if any(isinstance(x, Rows) for x in xs) or self.is_large(equation, xs):
            return rule(equation, *xs)
        return None

    @staticmethod
    def is_large(equation: Any, xs: Sequence[Lanes]) -> bool:
        """True for an operation on arrays that would be long if it were written out."""
        least = _PRODUCTS if equation.primitive.name == "dot_general" else ROWS
        return work(equation) >= least and not all(all(map(known, x.flat)) for x in xs)

    def whole(self, x: Any) -> Lanes:
        """An array whose rows, if it has been rows, are in memory now."""
        return self.wholes([x])[0]

    def wholes(self, xs: Sequence[Any]) -> list[Lanes]:
        """The same for several, of which equally many rows are made in one loop."""
        waiting: dict[int, list[Rows]] = {}
        for x in xs:
            if isinstance(x, Rows) and x.whole is None:
                waiting.setdefault(x.count, []).append(x)
        for count, some in waiting.items():
            rooms: list[list[Any]] = [[] for _ in some]

            def keep(at, some=some, rooms=rooms):
                rows = [x.row(at) for x in some]
                for mine, row, x in zip(rooms, rows, some, strict=True):
                    self._keep(mine, row, x.count, at)

            self.ops.repeat(count, keep)
            for x, mine in zip(some, rooms, strict=True):
                x.whole = _stored(mine, x)
        return [x.whole if isinstance(x, Rows) else x for x in xs]  # pyright: ignore

    def _keep(self, rooms: list[Any], row: Lanes, count: int, at: Any) -> None:
        """Write a row to memory, which is taken for the first of them."""
        for place, value in enumerate(row.flat):
            parts = value if isinstance(value, Pair) else (value,)
            if not rooms:
                rooms.extend(self.ops.room(count * row.size, one) for one in parts)
            for room, one in zip(rooms, parts, strict=True):
                self.ops.store(room, self.ops.place(at, place, row.size), one)

    def rowwise(self, x: Any, axis: int) -> Rows:
        """An array as rows along this axis."""
        if isinstance(x, Rows) and x.axis == axis:
            return x
        x = self.whole(x)
        columns = np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1).T
        rest = [*x.shape[:axis], *x.shape[axis + 1 :]]
        if isinstance(x.flat[0], Pair):
            sides = [[self._entries([z[i] for z in column]) for column in columns] for i in (0, 1)]
            entries = [lambda at, a=a, b=b: Pair(a(at), b(at)) for a, b in zip(*sides, strict=True)]
        else:
            entries = [self._entries(list(column)) for column in columns]

        def make(at):
            row = np.empty(len(entries), object)
            row[:] = [entry(at) for entry in entries]
            return row.reshape(rest)

        return Rows(x.shape, axis, make)

    def _entries(self, column: list[Any]) -> Callable[[Any], Any]:
        """The entry of a column at the index of a loop."""
        first, ops = column[0], self.ops
        if all(value is first for value in column):
            return lambda at: first
        if all(map(known, column)):
            if all(value == first for value in column):
                return lambda at: first
            if first.dtype.kind in "iu" and np.ptp(np.diff(np.array(column, np.int64))) == 0:
                step = int(column[1]) - int(first)
                return lambda at: ops.spread(ops.place(at, int(first), step), str(first.dtype))
        room, start, step = ops.kept(column)
        return lambda at: ops.load(room, ops.place(at, start, step))

    # ---- rules

    def rows_of_each(self, equation, *xs):
        """An elementwise operation."""
        return self._each_row(equation, xs, lambda rows: self.elementwise(equation, rows))  # pyright: ignore

    def _each_row(self, equation, xs, function):
        shape = equation.outvars[0].aval.shape
        axes = [x.axis for x in xs if isinstance(x, Rows)]
        axis = axes[0] if axes else _first(shape)
        rows = [self.rowwise(x, axis) if x.shape else x for x in xs]

        def make(at):
            return function([x.row(at) if isinstance(x, Rows) else x for x in rows])

        return Rows(shape, axis, make)

    def rows_complex(self, equation, *xs):
        """Pairs of normals: both are used, and so made at once."""
        return self.whole(self._each_row(equation, xs, lambda rows: over(Pair, *rows)))

    def rows_broadcast_in_dim(self, equation, x, *_):
        """Copies of an array."""
        shape, dims = equation.outvars[0].aval.shape, equation.params["broadcast_dimensions"]
        axis = dims[x.axis] if isinstance(x, Rows) else _first(shape)
        if not isinstance(x, Rows) and x.size == 1:
            return None
        if axis in dims:
            source = dims.index(axis)
            same = x.shape[source] == shape[axis]
            x = self.rowwise(x, source) if same else np.squeeze(self.whole(x), source)
            dims = [d for d in dims if d != axis]
        dims = [d - (d > axis) for d in dims]
        rest = [*shape[:axis], *shape[axis + 1 :]]

        def make(at):
            row = x.row(at) if isinstance(x, Rows) else x
            return self._broadcast_in_dim(row, shape=rest, broadcast_dimensions=dims)  # pyright: ignore

        return Rows(shape, axis, make)

    def rows_transpose(self, equation, x):
        """Axes in another order."""
        if not isinstance(x, Rows):
            return None
        order = equation.params["permutation"]
        rest = [p - (p > x.axis) for p in order if p != x.axis]
        shape = [x.shape[p] for p in order]
        return Rows(shape, order.index(x.axis), lambda at: np.transpose(x.row(at), rest))

    def rows_reshape(self, equation, x, *_):
        """Another shape, if the rows stay whole."""
        if not isinstance(x, Rows):
            return None
        shape, before = equation.outvars[0].aval.shape, math.prod(x.shape[: x.axis])
        for axis, size in enumerate(shape):
            if size == x.count and math.prod(shape[:axis]) == before:
                return Rows(shape, axis, lambda at: x.row(at).reshape(np.delete(shape, axis)))  # noqa: B023
        return None

    rows_squeeze = rows_expand_dims = rows_reshape

    def rows_slice(self, equation, x):
        """A part of every row."""
        low, high, step = (
            equation.params[name] for name in ("start_indices", "limit_indices", "strides")
        )
        if not isinstance(x, Rows) or (low[x.axis], high[x.axis]) != (0, x.count):
            return None
        parts = list(map(slice, low, high, step or [1] * len(low)))
        if parts.pop(x.axis).step != 1:
            return None
        shape = equation.outvars[0].aval.shape
        return Rows(shape, x.axis, lambda at: part(x.row(at)[tuple(parts)]))

    def rows_concatenate(self, equation, *xs):
        """Rows side by side."""
        dimension = equation.params["dimension"]
        axes = {x.axis for x in xs if isinstance(x, Rows)}
        if len(axes) != 1 or dimension in axes:
            return None
        (axis,) = axes
        rows = [self.rowwise(x, axis) for x in xs]
        along = dimension - (dimension > axis)
        shape = equation.outvars[0].aval.shape
        return Rows(shape, axis, lambda at: np.concatenate([x.row(at) for x in rows], along))

    def rows_stack(self, equation, *xs):
        """Rows side by side along an axis of their own."""
        axes = {x.axis for x in xs if isinstance(x, Rows)}
        if len(axes) != 1:
            return None
        (axis,), new = axes, equation.params["axis"]
        rows = [self.rowwise(x, axis) for x in xs]
        along, axis = new - (new > axis), axis + (new <= axis)
        shape = equation.outvars[0].aval.shape
        return Rows(shape, axis, lambda at: np.stack([x.row(at) for x in rows], along))

    def _reduced(self, equation, x):
        """A sum or extreme: within rows as part of the loop, over rows after it."""
        axes, rule = equation.params["axes"], getattr(self, f"_{equation.primitive.name}")
        if not isinstance(x, Rows):
            return None
        inner = [axis for axis in axes if axis != x.axis]
        within = [axis - (axis > x.axis) for axis in inner]
        if inner:
            shape = [size for axis, size in enumerate(x.shape) if axis not in inner]
            axis = x.axis - sum(axis < x.axis for axis in inner)
            of = x
            x = Rows(shape, axis, lambda at: rule(of.row(at), axes=within))
        return rule(self.whole(x), axes=(x.axis,)) if len(inner) < len(axes) else x

    rows_reduce_sum = rows_reduce_max = rows_reduce_min = rows_reduce_prod = _reduced
    rows_reduce_and = rows_reduce_or = _reduced

    def rows_dot_general(self, equation, a, b):
        """A product of matrices: a row of the result from a row of the left factor."""
        (sum_a, sum_b), (batch_a, batch_b) = equation.params["dimension_numbers"]
        shape = equation.outvars[0].aval.shape
        if not shape or not math.prod(shape):
            return None
        free = [axis for axis in range(len(a.shape)) if axis not in {*sum_a, *batch_a}]
        if batch_a:
            a, b = self.rowwise(a, batch_a[0]), self.rowwise(b, batch_b[0])
            batch_a, batch_b = batch_a[1:], batch_b[1:]
        elif free:
            a, b = self.rowwise(a, free[0]), self.whole(b)
        else:
            rest = [axis for axis in range(len(b.shape)) if axis not in sum_b]
            a, b = self.whole(a), self.rowwise(b, rest[0])

        def numbered(x, axes):
            return [axis - (axis > x.axis) for axis in axes] if isinstance(x, Rows) else axes

        numbers = (
            (numbered(a, sum_a), numbered(b, sum_b)),
            (numbered(a, batch_a), numbered(b, batch_b)),
        )

        def make(at):
            factors = (x.row(at) if isinstance(x, Rows) else x for x in (a, b))
            return self._dot_general(*factors, **equation.params | {"dimension_numbers": numbers})  # pyright: ignore

        return Rows(shape, 0, make)


def _stored(rooms: Sequence[Any], x: Rows) -> Lanes:
    """An array of which all rows are in memory."""
    flat = np.empty(math.prod(x.shape), object)
    for place in range(flat.size):
        values = [room.at(place) for room in rooms]
        flat[place] = Pair(*values) if len(values) > 1 else values[0]
    return np.moveaxis(flat.reshape([x.count, *np.delete(x.shape, x.axis)]), 0, x.axis)


def _first(shape: Sequence[int]) -> int:
    """The first axis that is more than one entry long."""
    return next(axis for axis, size in enumerate(shape) if size > 1)
