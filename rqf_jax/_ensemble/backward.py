"""The derivative of a save interval that is a fused kernel, by kernels of its own.

Reverse mode needs the states from which the steps start, the last first. Kernels go through the
interval again: in about √S blocks of the S steps, of which the starts are kept, and in each block
step by step. At each of these states one kernel pulls cotangents back through a step; its program
is JAX's derivative of the step, taken apart like the step itself. XLA makes some two hundred
kernels of it for attention, and stores to memory between them.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jaxtyping import Array, Float, Int, UInt32

from .._fused.loop import Step
from .._fused.values import Unsupported

Rows = Float[Array, "numbers members"]

MOST_PARAMETERS = 256
"""The most numbers of an equation by which a kernel differentiates: each is a row of members."""


class Slopes(NamedTuple):
    """Derivatives with respect to what an interval is given."""

    rows: Rows
    parameters: Float[Array, " parameters"]
    start: Float[Array, ""]
    h: Float[Array, ""]


@functools.lru_cache(64)
def step_and_pull(step: Step) -> tuple[Step, Step]:
    """One step of a state with all that it hands on, and the pull-back of one step.

    The pull-back moves a state, its cotangents, and sums of derivatives: with respect to the
    parameters, the time, and the length of a step. Raises `Unsupported` for a state that is not
    float32 and for too many parameters.
    """
    given, (words, number, time, h, *moving) = _cut(step.step.in_avals, step.parameters)
    if any(aval.dtype != jnp.float32 for aval in moving):
        raise Unsupported("a solver that hands on what is not float32")
    if _size(given) > MOST_PARAMETERS:
        raise Unsupported(f"a derivative by more than {MOST_PARAMETERS} numbers")
    function, count = core.jaxpr_as_fun(step.step), len(moving)

    def nothing(*_):
        return []

    def pull(*inputs):
        parameters, (words, number, time, h, *rest) = _cut(inputs, step.parameters)
        moving, (above, sums) = rest[:count], _cut(rest[count:], count)

        def taken(parameters, time, h, moving):
            return function(*parameters, words, number, time, h, *moving)

        by_parameters, by_time, by_h, below = jax.vjp(taken, parameters, time, h, moving)[1](above)
        slopes = [*by_parameters, by_time, by_h]
        return [*moving, *below, *map(jnp.add, sums, slopes)]

    pulled = [*moving, *moving, *given, time, h]
    return (
        Step(jax.make_jaxpr(nothing)(*given, time, *moving), step.step, len(given)),
        Step(
            jax.make_jaxpr(nothing)(*given, time, *pulled),
            jax.make_jaxpr(pull)(*given, words, number, time, h, *pulled),
            len(given),
        ),
    )


def pull_back(
    step: Step,
    kernels: tuple[Any, Any],
    streams: UInt32[Array, "2 members"],
    rows: Rows,
    interval: tuple[Int[Array, ""], int, Float[Array, ""], Float[Array, ""]],
    parameters: Float[Array, " parameters"],
    above: Rows,
) -> Slopes:
    """Cotangents `above` of the states after an interval, pulled back to all that it was given.

    `kernels` are those of `step_and_pull`, and `interval` its first step's number, the number of
    steps, the start and the length of a step.
    """
    first, substeps, start, h = interval
    forward, back = kernels
    numbers, members = rows.shape
    known = _size(step.begin.in_avals[: step.parameters])

    def by(kernel, rows, place, count):
        steps = first + place, count, start + place.astype(h.dtype) * h, h
        return kernel.call(streams, rows, steps, parameters)

    def begun(rows, parameters, start):
        return jnp.concatenate([rows, _handed(step, rows, parameters, start)])

    def block(slopes, place, count, moving):
        """Slopes at the start of a block from those at its end, and the state at its start."""
        places = place + jnp.arange(count, dtype=jnp.int32)
        states = lax.scan(lambda x, at: (by(forward, x, at, 1), x), moving, places)[1]

        def one(slopes, xs):
            at, state = xs
            size = len(state)
            sums = jnp.zeros((known + 2, members), state.dtype)
            found = by(back, jnp.concatenate([state, slopes.rows, sums]), at, 1)
            sums = jnp.sum(found[2 * size :], 1)
            by_time, by_h = sums[known:]
            added = Slopes(
                found[size : 2 * size],
                slopes.parameters.at[:known].add(sums[:known]),
                slopes.start + by_time,
                slopes.h + by_h + at.astype(h.dtype) * by_time,
            )
            return added, None

        return lax.scan(one, slopes, (places, states), reverse=True)[0]

    moving, back_to_start = jax.vjp(begun, rows, parameters, start)
    handed = jnp.zeros((len(moving) - numbers, members), rows.dtype)
    none = jnp.zeros_like(start)
    slopes = Slopes(jnp.concatenate([above, handed]), jnp.zeros_like(parameters), none, none)

    count = math.isqrt(max(1, substeps))
    blocks, rest = divmod(substeps, count)
    places = count * jnp.arange(blocks, dtype=jnp.int32)
    last, starts = lax.scan(lambda x, at: (by(forward, x, at, count), x), moving, places)
    if rest:
        slopes = block(slopes, jnp.asarray(blocks * count, jnp.int32), rest, last)
    slopes = lax.scan(
        lambda slopes, xs: (block(slopes, xs[0], count, xs[1]), None),
        slopes,
        (places, starts),
        reverse=True,
    )[0]
    by_rows, by_parameters, by_start = back_to_start(slopes.rows)
    return Slopes(by_rows, slopes.parameters + by_parameters, slopes.start + by_start, slopes.h)


def _handed(
    step: Step, rows: Rows, parameters: Array, start: Array
) -> Float[Array, "handed members"]:
    """The numbers that a solver hands to the first step of each member, as rows."""
    begin = core.jaxpr_as_fun(step.begin)
    given, (_, *state) = _cut(step.begin.in_avals, step.parameters)

    def one(numbers):
        handed = begin(*_shaped(parameters, given), start, *_shaped(numbers, state))
        return jnp.concatenate([jnp.zeros(0, rows.dtype), *map(jnp.ravel, handed)])

    return jax.vmap(one, -1, -1)(rows)


def _cut(values: Sequence[Any], place: int) -> tuple[list[Any], list[Any]]:
    return list(values[:place]), list(values[place:])


def _size(avals: Sequence[Any]) -> int:
    return sum(math.prod(aval.shape) for aval in avals)


def _shaped(numbers: Float[Array, " numbers"], avals: Sequence[Any]) -> list[Array]:
    """Arrays of these shapes from the numbers of all of them."""
    out, place = [], 0
    for aval in avals:
        size = math.prod(aval.shape)
        out.append(numbers[place : place + size].reshape(aval.shape))
        place += size
    return out
