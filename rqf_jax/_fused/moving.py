"""Rules of operations that move data: they write nothing, and happen while a program is built."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import lax

from .values import Lanes, Pair, Unsupported, cell, known, numbers, objects, over, part


class Moving(abc.ABC):
    """Methods `_name(*arrays, **parameters)`, one for each primitive."""

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

            def at(place, x=x, axis=axis, size=size):
                return np.take(x, range(place, place + size), axis)

            x = self.chosen(start, x.shape[axis] - size + 1, at)
        return x

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
        # Where each entry comes from is found by gathering places, by JAX's own rules.
        at = numbers(indices)
        places = np.arange(x.size, dtype=np.int32).reshape(x.shape)
        with jax.ensure_compile_time_eval():
            found = lax.gather(places, at, dimension_numbers, slice_sizes, mode=mode, fill_value=-1)
        found = np.asarray(found)
        if (found < 0).any():
            raise Unsupported("an index out of range")
        return x.reshape(-1)[found]

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
            places = np.asarray(jax.vmap(found)(ones)).reshape(updates.size, -1)
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
        out = np.full([lo + m + hi for m, (lo, hi, _) in zip(inner, added, strict=True)], None)
        out[...] = fill[()]
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
