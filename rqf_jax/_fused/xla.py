"""The same step in XLA alone, for devices that no kernel is made for here.

An entry of a state is an array over members, and a step is arithmetic on such arrays: nothing in it
is moved, reduced or multiplied as a matrix. For a GPU XLA makes one kernel of a step of up to some
thousand operations, and another for the number of the step. It takes only so many arrays in a
kernel, so that they travel in pairs, as complex numbers.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from .lanes import evaluate
from .loop import Step, split
from .values import ArrayOps, Unsupported, array_of, cell


def check(step: Step) -> None:
    """`Unsupported` if an operation has no rule, or if there are too many for XLA."""
    if any(aval.dtype != jnp.float32 for aval in step.step.out_avals):
        raise Unsupported("a solver that hands on what is not float32")
    shapes = [aval.shape for aval in step.begin.in_avals[: step.parameters]]
    size, number = sum(map(math.prod, step.shapes)), jax.ShapeDtypeStruct((), jnp.float32)
    jax.eval_shape(
        functools.partial(advance, step, substeps=1),
        jax.ShapeDtypeStruct((2, 1), jnp.uint32),
        jax.ShapeDtypeStruct((size, 1), jnp.float32),
        jax.ShapeDtypeStruct((), jnp.int32),
        number,
        number,
        jax.ShapeDtypeStruct((sum(map(math.prod, shapes)),), jnp.float32),
    )


def advance(
    step: Step,
    words: UInt32[Array, "2 members"],
    xs: Float[Array, "numbers members"],
    first: Int[Array, ""],
    start: Float[Array, ""],
    h: Float[Array, ""],
    parameters: Float[Array, " parameters"],
    *,
    substeps: int,
) -> Float[Array, "numbers members"]:
    """States after one save interval."""
    ops, shape = ArrayOps(), xs.shape[1:]

    def each(number):
        return jnp.broadcast_to(number, shape)

    shapes = [aval.shape for aval in step.begin.in_avals[: step.parameters]]
    # Arrays before the loop: XLA makes another kernel of arithmetic on single numbers in it.
    first, start, h = map(each, (first, start, h))
    given = split(list(map(each, parameters)), shapes)
    streams, x = array_of(list(words), (2,)), split(list(xs), step.shapes)
    moving = [*x, *evaluate(ops, step.begin, *given, cell(start), *x)]
    carried = [part.shape for part in moving]

    def one(number, pairs):
        moving = split(_apart(pairs, sum(map(math.prod, carried))), carried)
        time = start + number.astype(h.dtype) * h
        at = map(cell, (first + number, time, h))
        return _paired(evaluate(ops, step.step, *given, streams, *at, *moving), shape)

    pairs = lax.fori_loop(0, substeps, one, _paired(moving, shape))
    return jnp.stack(_apart(pairs, len(xs)))


def _paired(arrays: list[Any], shape: tuple[int, ...]) -> list[Array]:
    """All entries of arrays, two in each complex array over members."""
    flat = [jnp.broadcast_to(value, shape) for array in arrays for value in array.flat]
    half = (len(flat) + 1) // 2
    return [lax.complex(flat[i], flat[min(half + i, len(flat) - 1)]) for i in range(half)]


def _apart(pairs: list[Array], count: int) -> list[Array]:
    """The first of the entries again."""
    return [*map(lax.real, pairs), *map(lax.imag, pairs)][:count]
