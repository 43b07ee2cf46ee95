"""The interpreter: evaluates a jaxpr of tiny arrays as arithmetic on lanes.

Every array becomes a NumPy array of objects, one lane value an entry. Moving data (slices,
reshapes, concatenations, reductions, products of matrices) then happens while the program is
built, and elementwise arithmetic is all that is left of it. `Ops` says what a lane value is: an
array over members (`ArrayOps`, for tests), or a name in an LLVM program (`llvm.Emitter`). Values
that are known while building are NumPy scalars, and arithmetic on them is done at once.

A primitive without a rule raises `Unsupported`, and so does a program above `LIMIT` operations.
"""

import abc
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.extend import core

from . import functions

LIMIT = 20_000
"""The most operations on lanes in one step; beyond that a compiler takes longer than it saves."""

Lanes = np.ndarray
"""An array of objects, one lane value an entry."""


class Unsupported(Exception):
    """This step cannot be a fused kernel; the message says why."""


class Pair(NamedTuple):
    """A complex lane value."""

    real: Any
    imag: Any


class Ops(abc.ABC):
    """Arithmetic on lane values."""

    @abc.abstractmethod
    def apply(self, primitive: Any, params: dict[str, Any], *args: Any) -> Any:
        """One elementwise primitive on lane values, of which one at least is not known."""


class ArrayOps(Ops):
    """Lane values are JAX arrays over members."""

    def apply(self, primitive, params, *args):
        """The primitive itself, on arrays of one shape."""
        shape = next(a.shape for a in args if np.ndim(a))
        return primitive.bind(*(a if np.ndim(a) else lax.full(shape, a) for a in args), **params)


_ELEMENTWISE = {
    *("add", "sub", "mul", "div", "rem", "neg", "abs", "sign", "square", "integer_pow"),
    *("max", "min", "clamp", "floor", "ceil", "round", "sqrt", "rsqrt", "is_finite", "select_n"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "not"),
    *("shift_left", "shift_right_logical", "shift_right_arithmetic"),
    *("convert_element_type", "bitcast_convert_type"),
}
_CALLS = {
    **dict.fromkeys(["pjit", "jit", "checkpoint", "remat2"], "jaxpr"),
    **dict.fromkeys(["closed_call", "core_call", "custom_jvp_call"], "call_jaxpr"),
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
_SAME = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision"}


def evaluate(ops: Ops, closed: Any, *args: Lanes) -> list[Lanes]:
    """The outputs of a closed jaxpr for arguments that are arrays of lane values.

    Raises `Unsupported` for a primitive without a rule.
    """
    return _Interpreter(ops).run(closed.jaxpr, closed.consts, args)


def objects(array: Any) -> Lanes:
    """An array of numbers that are known as an array of lane values."""
    array = np.asarray(array)
    out = np.empty(array.shape, object)
    for place in np.ndindex(*array.shape):
        out[place] = array[place]
    return out


def known(value: Any) -> bool:
    """Whether a lane value is a number that is known while the program is built."""
    return isinstance(value, np.generic)


class _Interpreter:
    def __init__(self, ops: Ops):
        self.ops = ops
        self.count = 0

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Lanes]) -> list[Lanes]:
        values: dict[Any, Lanes] = {}

        def read(var):
            return objects(var.val) if isinstance(var, core.Literal) else values[var]

        values.update(zip(jaxpr.constvars, map(objects, consts), strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))
        for equation in jaxpr.eqns:
            out = self.equation(equation, [read(var) for var in equation.invars])
            out = out if equation.primitive.multiple_results else [out]
            values.update(zip(equation.outvars, out, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def closed(self, jaxpr: Any, args: Sequence[Lanes]) -> list[Lanes]:
        """A jaxpr inside another one, closed or open."""
        return self.run(getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ()), args)

    def equation(self, equation: Any, xs: list[Lanes]) -> Any:
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            return self.closed(params[_CALLS[name]], xs)
        if name in _SAME:
            return xs if equation.primitive.multiple_results else xs[0]
        if name in _ELEMENTWISE:
            params = {k: v for k, v in params.items() if k != "sharding"}
            if name == "convert_element_type":
                params["sharding"] = None
            return self.each(equation.primitive, params, *xs)
        if name in functions.PROGRAMS:
            if any(x.dtype != np.float32 for x in (v.aval for v in equation.invars)):
                raise Unsupported(f"`{name}` of {equation.invars[0].aval.dtype}")
            program = functions.program(name)
            return _map(lambda *lane: self.closed(program, list(map(_cell, lane)))[0][()], *xs)
        rule = getattr(self, f"_{name}", None)
        if rule is None:
            raise Unsupported(f"the operation `{name}`")
        return rule(*xs, **params)

    def each(self, primitive: Any, params: dict[str, Any], *xs: Lanes) -> Lanes:
        """An elementwise primitive."""
        return _map(functools.partial(self.apply, primitive, params), *xs)

    def apply(self, primitive: Any, params: dict[str, Any], *args: Any) -> Any:
        """The same for one lane value of each argument."""
        if any(isinstance(a, Pair) for a in args):
            raise Unsupported(f"`{primitive.name}` of complex numbers")
        if all(map(known, args)):
            return _folded(primitive, params, args)
        simpler = _simplified(primitive.name, args)
        if simpler is not None:
            return simpler
        self.count += 1
        if self.count > LIMIT:
            raise Unsupported(f"a step of more than {LIMIT} operations")
        return self.ops.apply(primitive, params, *args)

    # ---- complex numbers, which only carry the two normals of a pair

    def _complex(self, x, y):
        return _map(Pair, x, y)

    def _real(self, x):
        return _map(lambda z: z.real, x)

    def _imag(self, x):
        return _map(lambda z: z.imag, x)

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
        at = _places(starts, x.shape, slice_sizes)
        return x[tuple(slice(a, a + size) for a, size in zip(at, slice_sizes, strict=True))]

    def _dynamic_update_slice(self, x, update, *starts):
        at, out = _places(starts, x.shape, update.shape), x.copy()
        out[tuple(slice(a, a + size) for a, size in zip(at, update.shape, strict=True))] = update
        return out

    def _gather(self, x, indices, *, dimension_numbers, slice_sizes, mode, fill_value, **_):
        # Where each entry comes from is found by gathering places, by JAX's own rules.
        at = _numbers(indices)
        places = np.arange(x.size, dtype=np.int32).reshape(x.shape)
        with jax.ensure_compile_time_eval():
            found = lax.gather(places, at, dimension_numbers, slice_sizes, mode=mode, fill_value=-1)
        found = np.asarray(found)
        if (found < 0).any():
            raise Unsupported("an index out of range")
        return x.reshape(-1)[found]

    def _scatter(self, x, indices, updates, *, dimension_numbers, mode, **_):
        def found(one, two):
            return lax.scatter(one, _numbers(indices), two, dimension_numbers, mode=mode)

        # Numbers that stand for the entries of both show which of them ends up where.
        here = np.arange(x.size + updates.size, dtype=np.int32)
        with jax.ensure_compile_time_eval():
            places = found(here[: x.size].reshape(x.shape), here[x.size :].reshape(updates.shape))
        return np.concatenate([x.reshape(-1), updates.reshape(-1)])[np.asarray(places)]

    def _concatenate(self, *xs, dimension):
        return np.concatenate(xs, dimension)

    def _stack(self, *xs, **axis):
        return np.stack(xs, *axis.values())

    def _unstack(self, x, **axis):
        return [_part(part) for part in np.moveaxis(x, next(iter(axis.values())), 0)]

    def _pad(self, x, fill, *, padding_config):
        if any(low < 0 or high < 0 for low, high, _ in padding_config):
            raise Unsupported("negative padding")
        sides = list(zip(x.shape, padding_config, strict=True))
        out = np.full([n + lo + hi + max(0, n - 1) * gap for n, (lo, hi, gap) in sides], None)
        out[...] = fill[()]
        out[tuple(slice(lo, lo + n * (gap + 1) - gap, gap + 1) for n, (lo, _, gap) in sides)] = x
        return out

    def _iota(self, *, dtype, shape, dimension, **_):
        one = np.arange(shape[dimension], dtype=dtype)
        place = [-1 if axis == dimension else 1 for axis in range(len(shape))]
        return objects(np.broadcast_to(one.reshape(place), shape))

    # ---- reductions and products, as chains of elementwise operations

    def fold(self, primitive: Any, x: Lanes, axes: Sequence[int], empty: Any) -> Lanes:
        """The reduction of `x` over `axes`; `empty` where there is nothing to reduce."""
        x = np.moveaxis(x, axes, range(len(axes)))
        x = x.reshape((math.prod(x.shape[: len(axes)]), *x.shape[len(axes) :]))
        if not len(x):
            return np.full(x.shape[1:], empty, object)
        return functools.reduce(functools.partial(self.each, primitive, {}), map(_part, x))

    def _reduce_sum(self, x, *, axes, **_):
        return self.fold(lax.add_p, x, axes, np.float32(0))

    def _reduce_prod(self, x, *, axes, **_):
        return self.fold(lax.mul_p, x, axes, np.float32(1))

    def _reduce_max(self, x, *, axes, **_):
        return self.fold(lax.max_p, x, axes, np.float32(-np.inf))

    def _reduce_min(self, x, *, axes, **_):
        return self.fold(lax.min_p, x, axes, np.float32(np.inf))

    def _reduce_and(self, x, *, axes, **_):
        return self.fold(lax.and_p, x, axes, np.bool_(True))

    def _reduce_or(self, x, *, axes, **_):
        return self.fold(lax.or_p, x, axes, np.bool_(False))

    def _cumsum(self, x, *, axis, reverse):
        x = np.moveaxis(x, axis, 0)
        add = functools.partial(self.each, lax.add_p, {})
        x = x[::-1] if reverse else x
        x = np.stack(list(itertools.accumulate(map(_part, x), add)))
        return np.moveaxis(x[::-1] if reverse else x, 0, axis)

    def _dot_general(self, a, b, *, dimension_numbers, **_):
        (sum_a, sum_b), (batch_a, batch_b) = dimension_numbers
        a, batch, free_a = _ordered(a, batch_a, sum_a)
        b, _, free_b = _ordered(b, batch_b, sum_b)
        out = np.empty((a.shape[0], a.shape[1], b.shape[1]), object)
        for k, i, j in np.ndindex(*out.shape):
            products = self.each(lax.mul_p, {}, a[k, i], b[k, j])
            out[k, i, j] = self.fold(lax.add_p, products, (0,), np.float32(0))[()]
        return out.reshape((*batch, *free_a, *free_b))

    # ---- control flow: loops of known length are unrolled, branches are both computed

    def _scan(self, *xs, jaxpr, length, reverse, num_consts, num_carry, **_):
        consts, carry = xs[:num_consts], list(xs[num_consts : num_consts + num_carry])
        rows, stacked = xs[num_consts + num_carry :], []
        if not length:
            raise Unsupported("a loop without steps")
        for step in range(length)[:: -1 if reverse else 1]:
            out = self.closed(jaxpr, [*consts, *carry, *(_part(row[step]) for row in rows)])
            carry = out[:num_carry]
            stacked.append(out[num_carry:])
        stacked = stacked[::-1] if reverse else stacked
        return [*carry, *(np.stack(parts) for parts in zip(*stacked, strict=True))]

    def _cond(self, index, *xs, branches, **_):
        if known(index[()]):
            return self.closed(branches[min(max(int(index[()]), 0), len(branches) - 1)], xs)
        if len(branches) != 2:
            raise Unsupported("a choice of three or more that depends on the state")
        no, yes = (self.closed(branch, xs) for branch in branches)
        test = self.each(lax.ne_p, {}, index, _cell(np.int32(0)))
        choose = functools.partial(self.each, lax.select_n_p, {}, test)
        return list(map(choose, no, yes))

    def _platform_index(self, *, platforms, **_):
        places = [i for i, names in enumerate(platforms) if names is None or "cpu" in names]
        return _cell(np.int32(places[0]))


def _part(value: Any) -> Lanes:
    """An entry or a part of an array of lane values, as an array of lane values."""
    return value if isinstance(value, np.ndarray) else _cell(value)


def _cell(value: Any) -> Lanes:
    out = np.empty((), object)
    out[()] = value
    return out


def _map(function: Callable[..., Any], *xs: Lanes) -> Lanes:
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    out = np.empty(shape, object)
    xs = tuple(np.broadcast_to(x, shape) for x in xs)
    for place in np.ndindex(*shape):
        out[place] = function(*(x[place] for x in xs))
    return out


def _simplified(name: str, args: Sequence[Any]) -> Any:
    """What arithmetic with 0 and 1 comes to; None where it has to be done.

    0 · x is left alone, which is not 0 for NaN and infinity.
    """
    if name == "add" and known(args[1]) and args[1] == 0:
        return args[0]
    if name == "add" and known(args[0]) and args[0] == 0:
        return args[1]
    if name == "sub" and known(args[1]) and args[1] == 0:
        return args[0]
    if name == "mul" and known(args[1]) and args[1] == 1:
        return args[0]
    if name == "mul" and known(args[0]) and args[0] == 1:
        return args[1]
    if name == "div" and known(args[1]) and args[1] == 1:
        return args[0]
    if name == "select_n" and known(args[0]):
        return args[1 + int(args[0])]
    return None


def _places(starts: Sequence[Lanes], shape: Sequence[int], sizes: Sequence[int]) -> list[int]:
    return [
        min(max(int(_numbers(start)), 0), n - size)
        for start, n, size in zip(starts, shape, sizes, strict=True)
    ]


def _numbers(indices: Lanes) -> np.ndarray:
    if not all(map(known, indices.flat)):
        raise Unsupported("an index that depends on the state")
    return np.array(indices.tolist(), np.int32).reshape(indices.shape)


def _ordered(x: Lanes, batch: Sequence[int], summed: Sequence[int]):
    """`x` as (batch, free, summed), and the sizes of its batch and free axes."""
    free = [axis for axis in range(x.ndim) if axis not in {*batch, *summed}]
    shapes = [tuple(x.shape[axis] for axis in axes) for axes in (batch, free, summed)]
    ordered = np.transpose(x, [*batch, *free, *summed]).reshape([*map(math.prod, shapes)])
    return ordered, shapes[0], shapes[1]


_NUMPY: dict[str, Callable[..., Any]] = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative},
    **{"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor},
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal},
    **{"gt": np.greater, "ge": np.greater_equal},
}


def _folded(primitive: Any, params: dict[str, Any], args: Sequence[Any]) -> Any:
    """The number that an operation on known numbers gives, as XLA has it."""
    if primitive.name in _NUMPY:
        with np.errstate(all="ignore"):
            return _NUMPY[primitive.name](*args)
    with jax.ensure_compile_time_eval():
        return np.asarray(primitive.bind(*args, **params))[()]
