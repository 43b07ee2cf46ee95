"""Rules of operations that move data: they write nothing, and happen while a program is built."""

import abc
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

from .values import Lanes, Pair, array_of, cell, known, numbers, objects, over, part

_FEW = 8
"""With up to this many places, choices find one that is not known."""


class Moving(abc.ABC):
    """Methods `_name(*arrays, **parameters)`, one for each primitive."""

    ops: Any

    @abc.abstractmethod
    def each(self, primitive: Any, params: dict[str, Any], *xs: Lanes) -> Lanes:
        """An elementwise primitive."""

    def chosen(self, index: Lanes, count: int, make: Callable[[int], Lanes]) -> Lanes:
        """`make` of an index that is kept from 0 to `count` - 1, by choices if it is not known."""
        if known(index[()]):
            return make(min(max(int(index[()]), 0), count - 1))
        out = make(0)
        for place in range(1, count):
            reached = self.each(lax.ge_p, {}, index, cell(np.dtype(index[()].dtype).type(place)))
            out = self.each(lax.select_n_p, {}, reached, out, make(place))
        return out

    # ---- complex numbers, which only carry the two normals of a pair

    def _complex(self, x, y):
        return over(Pair, x, y)

    def _real(self, x):
        return over(lambda z: z.real, x)

    def _imag(self, x):
        return over(lambda z: z.imag, x)

    # ---- moving data

    def _broadcast_in_dim(self, x, *_, shape, broadcast_dimensions, **__):
        middle = [1] * len(shape)
        for axis, where in enumerate(broadcast_dimensions):
            middle[where] = x.shape[axis]
        return np.broadcast_to(x.reshape(middle), shape)

    def _reshape(self, x, *_, new_sizes, **__):
        return x.reshape(new_sizes)

    def _squeeze(self, x, *, dimensions):
        return np.squeeze(x, tuple(dimensions))

    def _expand_dims(self, x, *, dimensions):
        return np.expand_dims(x, tuple(dimensions))

    def _transpose(self, x, *, permutation):
        return np.transpose(x, permutation)

    def _rev(self, x, *, dimensions):
        return np.flip(x, tuple(dimensions))

    def _slice(self, x, *, start_indices, limit_indices, strides):
        strides = strides or (1,) * x.ndim
        return x[tuple(map(slice, start_indices, limit_indices, strides))]

    def _split(self, x, *, sizes, axis):
        return np.split(x, np.cumsum(sizes)[:-1], axis)

    def _dynamic_slice(self, x, *starts, slice_sizes):
        for axis, (start, size) in enumerate(zip(starts, slice_sizes, strict=True)):
            x = self.along(x, axis, start, size)
        return x

    def along(self, x: Lanes, axis: int, start: Lanes, size: int) -> Lanes:
        """The part of `x` from `start` on, which is kept to where a part of that size is."""
        count = x.shape[axis] - size + 1
        if known(start[()]) or count <= _FEW:
            return self.chosen(
                start, count, lambda place: np.take(x, range(place, place + size), axis)
            )
        kind = np.dtype(start[()].dtype).type
        start = self.each(lax.clamp_p, {}, cell(kind(0)), start, cell(kind(count - 1)))
        columns = np.moveaxis(x, axis, 0)
        out = np.empty((size, *columns.shape[1:]), object)
        for rest in np.ndindex(*columns.shape[1:]):
            out[(slice(None), *rest)] = self.ops.part(
                list(columns[(slice(None), *rest)]), start[()], size
            )
        return np.moveaxis(out, 0, axis)

    def _dynamic_update_slice(self, x, update, *starts):
        def at(*places):
            axis = len(places)
            if axis < x.ndim:
                count = x.shape[axis] - update.shape[axis] + 1
                return self.chosen(starts[axis], count, lambda place: at(*places, place))
            out = x.copy()
            sides = zip(places, update.shape, strict=True)
            out[tuple(slice(place, place + size) for place, size in sides)] = update
            return out

        return at()

    def _gather(self, x, indices, *, dimension_numbers, slice_sizes, mode, fill_value, **_):
        if not all(map(known, indices.flat)):
            return self.gathered(x, indices, dimension_numbers, slice_sizes, mode, fill_value)
        # Where each entry comes from is found by gathering places, by JAX's own rules.
        places = np.arange(x.size, dtype=np.int32).reshape(x.shape)
        with jax.ensure_compile_time_eval():
            found = lax.gather(
                places, numbers(indices), dimension_numbers, slice_sizes, mode=mode, fill_value=-1
            )
        found = np.asarray(found)
        out = x.reshape(-1)[found]
        if (found < 0).any():
            out[found < 0] = _filling(x, fill_value)
        return out

    def gathered(self, x, indices, dimension_numbers, slice_sizes, mode, fill_value):
        """Parts of `x` at places that are not known: one after the other."""
        d, batch = dimension_numbers, indices.shape[:-1]
        lost = sorted([*d.collapsed_slice_dims, *d.operand_batching_dims])
        out = np.empty((*batch, *np.delete(slice_sizes, lost)), object)
        for at in np.ndindex(*batch):
            one = x[
                tuple(
                    slice(size)
                    if i not in {*d.start_index_map, *d.operand_batching_dims}
                    else slice(None)
                    for i, size in enumerate(slice_sizes)
                )
            ]
            for axis, where in zip(
                d.operand_batching_dims, d.start_indices_batching_dims, strict=True
            ):
                one = np.take(one, [at[where]], axis)
            inside = cell(np.bool_(True))
            for axis, start in zip(d.start_index_map, map(part, indices[at]), strict=True):
                most = cell(np.dtype(start[()].dtype).type(x.shape[axis] - slice_sizes[axis]))
                least = cell(np.zeros_like(most[()])[()])
                for test, end in ((lax.ge_p, least), (lax.le_p, most)):
                    inside = self.each(lax.and_p, {}, inside, self.each(test, {}, start, end))
                one = self.along(one, int(axis), start, int(slice_sizes[axis]))
            one = np.squeeze(one, tuple(lost))
            if mode == lax.GatherScatterMode.FILL_OR_DROP:
                fill = cell(_filling(x, fill_value))
                one = self.each(lax.select_n_p, {}, inside, fill, one)
            out[at] = one[()]
        rest = [axis for axis in range(out.ndim) if axis not in d.offset_dims]
        return np.moveaxis(out, range(out.ndim), [*rest, *d.offset_dims])

    def _scatter(self, x, indices, updates, *, dimension_numbers, mode, **_):
        def found(one, two):
            return lax.scatter(one, numbers(indices), two, dimension_numbers, mode=mode)

        # Numbers that stand for the entries of both show which of them ends up where.
        here = np.arange(x.size + updates.size, dtype=np.int32)
        with jax.ensure_compile_time_eval():
            places = found(here[: x.size].reshape(x.shape), here[x.size :].reshape(updates.shape))
        return np.concatenate([x.reshape(-1), updates.reshape(-1)])[np.asarray(places)]

    def _scatter_add(self, x, indices, updates, *, dimension_numbers, mode, **_):
        def found(one):
            none = np.zeros(x.shape, np.int32)
            return lax.scatter_add(none, numbers(indices), one, dimension_numbers, mode=mode)

        # A one in the place of each update shows where it is added.
        ones = np.eye(updates.size, dtype=np.int32).reshape(-1, *updates.shape)
        with jax.ensure_compile_time_eval():
            places = np.asarray(jax.vmap(found)(ones)).reshape(updates.size, x.size)
        out = x.reshape(-1).copy()
        for update, place in np.argwhere(places):
            added = self.each(lax.add_p, {}, cell(out[place]), cell(updates.flat[update]))
            out[place] = added[()]
        return out.reshape(x.shape)

    def _tile(self, x, *, reps):
        return np.tile(x, reps)

    def _concatenate(self, *xs, dimension):
        return np.concatenate(xs, dimension)

    def _stack(self, *xs, **axis):
        return np.stack(xs, *axis.values())

    def _unstack(self, x, **axis):
        return [part(one) for one in np.moveaxis(x, next(iter(axis.values())), 0)]

    def _pad(self, x, fill, *, padding_config):
        sides = list(zip(x.shape, padding_config, strict=True))
        added = [(max(lo, 0), max(hi, 0), gap) for _, (lo, hi, gap) in sides]
        inner = [n + max(0, n - 1) * gap for n, (_, _, gap) in sides]
        shape = tuple(lo + m + hi for m, (lo, hi, _) in zip(inner, added, strict=True))
        out = array_of([fill[()]] * math.prod(shape), shape)
        places = zip(inner, added, strict=True)
        out[tuple(slice(lo, lo + m, gap + 1) for m, (lo, _, gap) in places)] = x
        # Less than nothing on a side takes entries away.
        ends = zip(out.shape, (config for _, config in sides), strict=True)
        return out[tuple(slice(max(-lo, 0), n - max(-hi, 0)) for n, (lo, hi, _) in ends)]

    def _empty2(self, *, dtype, **_):
        return cell(np.dtype(dtype).type(0))

    def _iota(self, *, dtype, shape, dimension, **_):
        one = np.arange(shape[dimension], dtype=dtype)
        place = [-1 if axis == dimension else 1 for axis in range(len(shape))]
        return objects(np.broadcast_to(one.reshape(place), shape))


def _filling(x: Lanes, fill_value: Any) -> Any:
    """The number in the place of entries that are not there, by JAX's rules."""
    kind = np.dtype(x.flat[0].dtype)
    if fill_value is None:
        if kind.kind == "f":
            fill_value = np.nan
        elif kind.kind == "b":
            fill_value = True
        else:
            fill_value = np.iinfo(kind).min if kind.kind == "i" else np.iinfo(kind).max
    return kind.type(fill_value)
