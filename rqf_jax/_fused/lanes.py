"""The interpreter: evaluates a jaxpr of small arrays as arithmetic on lanes.

Moving data (slices, reshapes, concatenations) happens while the program is built, reductions and
products of matrices are written out entry by entry, and elementwise arithmetic is all that is left.
Large arrays are made row by row in loops of the program (`rows`), and so are long loops of the
step itself.

A primitive without a rule raises `Unsupported`, and so does a program of too many operations.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core

from . import functions
from .moving import Moving
from .rows import ByRows, work
from .values import (
    Lanes,
    Ops,
    Pair,
    Unsupported,
    array_of,
    cell,
    folded,
    known,
    objects,
    over,
    part,
    simplified,
)

UNROLLED = 2_000
"""The most operations in all turns of a loop that are written out; a longer one stays a loop."""

_TURNS, _STAGES = 64, 8_000
"""The most turns, and operations in them, of an open loop that are written out if they are sure."""

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
    "custom_vmap_call": "call",
}
_PROGRAMS_OF_JAX = {
    **dict.fromkeys(
        ["maybe_set", "select_if_vmap", "unvmap_all", "unvmap_any", "unvmap_max"], "impl"
    ),
    "call_hi_primitive": "to_lojax",
}
"""Operations that are functions of JAX for one member, and the attribute that has the function:
those of Equinox, and of JAX from 0.12 on such as `searchsorted`."""

_SAME = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "nonbatchable"}
_TOTAL = {"eq_to": lax.eq_p, "lt_to": lax.lt_p, "le_to": lax.le_p}
"""Comparisons that order all floats, and the same for other numbers."""

_ALSO = {"add_any": lax.add_p}
"""Operations of JAX's derivatives under another name."""


def evaluate(ops: Ops, closed: Any, *args: Lanes) -> list[Lanes]:
    """The outputs of a closed jaxpr for arguments that are arrays of lane values.

    Raises `Unsupported` for a primitive without a rule.
    """
    interpreter = _Interpreter(ops)
    return interpreter.wholes(interpreter.run(closed.jaxpr, closed.consts, args))


class _Interpreter(Moving, ByRows):
    def __init__(self, ops: Ops):
        self.ops: Any = ops
        self.count = 0

    def run(self, jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        values: dict[Any, Any] = {}

        def read(var):
            if isinstance(var, core.Literal):
                return objects(np.asarray(var.val, var.aval.dtype))  # pyright: ignore
            return values[var]

        values.update(zip(jaxpr.constvars, map(objects, consts), strict=True))
        values.update(zip(jaxpr.invars, args, strict=True))
        for equation in jaxpr.eqns:
            out = self.equation(equation, [read(var) for var in equation.invars])
            out = out if equation.primitive.multiple_results else [out]
            values.update(zip(equation.outvars, out, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def closed(self, jaxpr: Any, args: Sequence[Any]) -> list[Any]:
        """A jaxpr inside another one, closed or open."""
        return self.run(getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ()), args)

    def equation(self, equation: Any, xs: list[Any]) -> Any:
        if equation.primitive.name in _ALSO:
            equation = equation.replace(primitive=_ALSO[equation.primitive.name])
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            return self.closed(params[_CALLS[name]], xs)
        if name in _SAME:
            return xs if equation.primitive.multiple_results else xs[0]
        if name in _PROGRAMS_OF_JAX:
            given = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
            function = getattr(equation.primitive, _PROGRAMS_OF_JAX[name])
            program = jax.make_jaxpr(functools.partial(function, **params))(*given)
            out = self.closed(program, xs)
            return out if equation.primitive.multiple_results else out[0]
        elementwise = name in _ELEMENTWISE or name in functions.PROGRAMS
        rows = self.by_rows(equation, elementwise, xs)
        if rows is not None:
            return rows
        xs = self.wholes(xs)
        if elementwise:
            return self.elementwise(equation, xs)
        rule = getattr(self, f"_{name.replace('-', '_')}", None)
        if rule is None:
            raise Unsupported(f"the operation `{name}`")
        return rule(*xs, **params)

    def elementwise(self, equation: Any, xs: Sequence[Lanes]) -> Lanes:
        """An elementwise operation, by its primitive or by the arithmetic of its function."""
        name = equation.primitive.name
        kind = equation.invars[0].aval.dtype if equation.invars else None
        if name in _TOTAL and kind != np.float32:
            return self.each(_TOTAL[name], {}, *xs)
        if name in functions.PROGRAMS:
            if kind != np.float32:
                raise Unsupported(f"`{name}` of {kind}")
            if self.ops.functions:
                return self.each(equation.primitive, equation.params, *xs)
            program = functions.program(name)
            return over(lambda *lane: self.closed(program, list(map(cell, lane)))[0][()], *xs)
        params = {k: v for k, v in equation.params.items() if k != "sharding"}
        if name == "convert_element_type":
            params["sharding"] = None
        return self.each(equation.primitive, params, *xs)

    def each(self, primitive: Any, params: dict[str, Any], *xs: Lanes) -> Lanes:
        """An elementwise primitive."""
        return over(functools.partial(self.apply, primitive, params), *xs)

    def apply(self, primitive: Any, params: dict[str, Any], *args: Any) -> Any:
        """The same for one lane value of each argument."""
        if any(isinstance(a, Pair) for a in args):
            raise Unsupported(f"`{primitive.name}` of complex numbers")
        if all(map(known, args)):
            return folded(primitive, params, args)
        simpler = simplified(primitive.name, args)
        if simpler is not None:
            return simpler
        self.count += 1
        if self.count > self.ops.most:
            raise Unsupported(f"a step of more than {self.ops.most} operations")
        return self.ops.apply(primitive, params, *args)

    # ---- reductions and products, as chains of elementwise operations

    def fold(self, primitive: Any, x: Lanes, axes: Sequence[Any], empty: Any) -> Lanes:
        """The reduction of `x` over `axes`; `empty` where there is nothing to reduce."""
        x = np.moveaxis(x, axes, range(len(axes)))
        x = x.reshape((math.prod(x.shape[: len(axes)]), *x.shape[len(axes) :]))
        if not len(x):
            return array_of([empty] * math.prod(x.shape[1:]), x.shape[1:])
        return functools.reduce(functools.partial(self.each, primitive, {}), map(part, x))

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
        x = np.stack(list(itertools.accumulate(map(part, x), add)))
        return np.moveaxis(x[::-1] if reverse else x, 0, axis)

    def _dot_general(self, a, b, *, dimension_numbers, preferred_element_type=None, **_):
        (sum_a, sum_b), (batch_a, batch_b) = dimension_numbers
        a, b = (self.converted(x, preferred_element_type) for x in (a, b))
        times, plus, nothing = lax.mul_p, lax.add_p, np.float32(0)
        if a.size and a.flat[0].dtype == np.dtype(bool):
            times, plus, nothing = lax.and_p, lax.or_p, np.bool_(False)
        a, batch, free_a = _ordered(a, batch_a, sum_a)
        b, _, free_b = _ordered(b, batch_b, sum_b)
        out = np.empty((a.shape[0], a.shape[1], b.shape[1]), object)
        for k, i, j in np.ndindex(*out.shape):
            products = self.each(times, {}, a[k, i], b[k, j])
            out[k, i, j] = self.fold(plus, products, (0,), nothing)[()]
        return out.reshape((*batch, *free_a, *free_b))

    def converted(self, x: Lanes, kind: Any) -> Lanes:
        """`x` with entries of this kind; as it is for None."""
        if kind is None or not x.size or x.flat[0].dtype == kind:
            return x
        params = {"new_dtype": np.dtype(kind), "weak_type": False, "sharding": None}
        return self.each(lax.convert_element_type_p, params, x)

    # ---- control flow: short loops are written out, and branches are both computed

    def _scan(self, *xs, jaxpr, length, reverse, **others):
        num_consts, num_carry = _sizes_of_scan(others)
        consts, carry = xs[:num_consts], list(xs[num_consts : num_consts + num_carry])
        rows, stacked = xs[num_consts + num_carry :], []
        if not length:
            raise Unsupported("a loop without steps")
        if self.ops.loops and length * _entries(jaxpr.jaxpr) > UNROLLED:
            return self.loop(jaxpr, length, reverse, consts, carry, rows)
        for step in range(length)[:: -1 if reverse else 1]:
            out = self.closed(jaxpr, [*consts, *carry, *(part(row[step]) for row in rows)])
            out = self.wholes(out)
            carry = out[:num_carry]
            stacked.append(out[num_carry:])
        stacked = stacked[::-1] if reverse else stacked
        return [*carry, *(np.stack(parts) for parts in zip(*stacked, strict=True))]

    def loop(self, jaxpr, length, reverse, consts, carry, rows):
        """A scan as a loop of the program, with rows read from memory and written to it."""
        rows, kept = [self.rowwise(row, 0) for row in rows], []

        def turn(at, values):
            at = self.ops.backwards(at, length) if reverse else at
            given = [*consts, *_shaped(values, carry), *(row.row(at) for row in rows)]
            out = self.wholes(self.closed(jaxpr, given))
            for number, array in enumerate(out[len(carry) :]):
                if len(kept) == number:
                    kept.append((self.ops.room(length * array.size, array.flat[0]), array.shape))
                for place, value in enumerate(array.flat):
                    self.ops.store(kept[number][0], self.ops.place(at, place, array.size), value)
            return _flat(out[: len(carry)])

        values = self.ops.carry(length, _flat(carry), turn)
        stacked = []
        for room, shape in kept:
            array = np.empty((length, *shape), object)
            array.reshape(-1)[:] = [room.at(place) for place in range(array.size)]
            stacked.append(array)
        return [*_shaped(values, carry), *stacked]

    def _while(self, *xs, cond_jaxpr, body_jaxpr, cond_nconsts, body_nconsts):
        first, second = cond_nconsts, cond_nconsts + body_nconsts
        carry = xs[second:]
        values, turns, before = _flat(carry), _TURNS, self.count

        def test(values):
            given = [*xs[:first], *_shaped(values, carry)]
            (more,) = self.wholes(self.closed(cond_jaxpr, given))
            if more.shape:
                raise Unsupported("a loop that ends for one number of a state before another")
            return more[()]

        def turn(values):
            given = [*xs[first:second], *_shaped(values, carry)]
            return _flat(self.wholes(self.closed(body_jaxpr, given)))

        # Turns that are taken in any case are written out, such as all stages of a method.
        while known(goes := test(values)):
            if not goes:
                return _shaped(values, carry)
            if not turns or self.count - before > _STAGES:
                break
            values, turns = turn(values), turns - 1
        if not self.ops.loops:
            raise Unsupported("a loop whose length depends on the state")
        return _shaped(self.ops.again(values, test, turn), carry)

    def _cond(self, index, *xs, branches, **_):
        if known(index[()]):
            return self.closed(branches[min(max(int(index[()]), 0), len(branches) - 1)], xs)
        ways = [self.wholes(self.closed(branch, xs)) for branch in branches]
        return [
            self.chosen(index, len(ways), lambda i, of=of: of[i]) for of in zip(*ways, strict=True)
        ]

    def _polynomial(self, x, *coefficients, **_):
        total, *others = reversed(coefficients)
        for one in others:
            total = self.each(lax.add_p, {}, self.each(lax.mul_p, {}, total, x), one)
        return total

    def _reduce_precision(self, x, *, exponent_bits, mantissa_bits, **_):
        if exponent_bits < 8 or mantissa_bits < 23:
            raise Unsupported("rounding to fewer bits")
        return x

    def _platform_index(self, *, platforms, **_):
        places = [i for i, names in enumerate(platforms) if names is None or "cpu" in names]
        return cell(np.int32(places[0]))


def _ordered(x: Lanes, batch: Sequence[int], summed: Sequence[int]):
    """`x` as (batch, free, summed), and the sizes of its batch and free axes."""
    free = [axis for axis in range(x.ndim) if axis not in {*batch, *summed}]
    shapes = [tuple(x.shape[axis] for axis in axes) for axes in (batch, free, summed)]
    ordered = np.transpose(x, [*batch, *free, *summed]).reshape([*map(math.prod, shapes)])
    return ordered, shapes[0], shapes[1]


def _flat(arrays: Sequence[Lanes]) -> list[Any]:
    return [value for array in arrays for value in array.flat]


def _sizes_of_scan(parameters: dict[str, Any]) -> tuple[int, int]:
    """The numbers of arrays that a scan keeps and that it carries; jax 0.12 nests them."""
    if "ft_in" in parameters:
        consts, carry, _ = parameters["ft_in"].unpack()
        return len(consts), len(carry)
    return parameters["num_consts"], parameters["num_carry"]


def _shaped(values: Sequence[Any], like: Sequence[Lanes]) -> list[Lanes]:
    """Arrays of these lane values, of the shapes of others."""
    ends, out = np.cumsum([0, *(array.size for array in like)]), []
    for low, array in zip(ends, like, strict=False):
        out.append(array_of(values[low : low + array.size], array.shape))
    return out


def _entries(jaxpr: Any) -> int:
    """About how many operations a jaxpr is, written out."""
    total = 0
    for equation in jaxpr.eqns:
        inner = [getattr(p, "jaxpr", p) for p in equation.params.values()]
        inside = sum(_entries(p) for p in inner if hasattr(p, "eqns"))
        total += inside * equation.params.get("length", 1)
        total += work(equation)
    return total
