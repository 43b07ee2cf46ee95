"""The engine: a batch of members through all save times, and its derivatives.

The outer loop is a scan on the save index k = 0, 1, …, K, an integer: at each k the states are
saved and moved to the next save time, by a batch, such as `interval.Batch` of an equation. The real
times are looked up, so that irregular save times cost nothing and no number of saves is too large
for a float. Forward mode goes through the scan as it is. Reverse mode keeps nothing of the forward
pass: it starts again from the keys, for a part of the members at a time, and holds about 2 √K
states of each.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree, UInt32

from .abstract import AbstractBatch, AbstractProblem
from .compiled import compiled
from .interval import Batch, rematerialised
from .members import member_keys
from .problem import Problem
from .validity import noise_shape

PART_NUMBERS = 2**15
"""How many numbers of states and noise a CPU takes back at a time in reverse mode."""

FEW_SAVES = 16
"""Up to so many saves reverse mode keeps the state at each; of more, at some."""

Status = Int[Array, " members"]
"""For each member 0, or the first save after the initial one that is not finite."""


@compiled
def ensemble(
    problem: AbstractProblem, first: UInt32[Array, ""], members: int, batch_size: int, reverse: bool
) -> tuple[PyTree[Array], Status]:
    """Saved values and status of members first, …, first + members - 1, batch after batch.

    With `reverse` the derivative is by reverse mode alone, in little memory.
    """
    problem, sizes = problem.closed(), (members, batch_size)
    return _reversible(problem, first, sizes) if reverse else _batches(problem, first, sizes)[:2]


@compiled
def segment(
    problem: AbstractProblem,
    first: UInt32[Array, ""],
    sizes: tuple[int, int, int],
    interval: tuple[Int[Array, ""], Int[Array, ""]],
    x: PyTree[Array],
    status: Status,
) -> tuple[PyTree[Array], Status, PyTree[Array]]:
    """Saved values from one save to another; status and states of the members there.

    `sizes` are the numbers of members, of members in a batch and of intervals, `interval` is the
    indices of the two saves. `x` and `status` are the members' at the first of them; at 0 their law
    is asked instead. There is room for so many intervals, and saves after the last are copies of
    it: one program does all segments of a path.
    """
    members, batch_size, most = sizes
    start, stop = interval

    def batch(ids, x, status):
        law_keys, noise_keys = jax.vmap(member_keys, in_axes=(None, 0))(problem.key, ids)
        x = lax.cond(start == 0, lambda: jax.vmap(problem.law)(law_keys), lambda: x)
        batch = problem.batch(noise_keys)
        ys, x, status, _ = _path(problem, batch, batch.enter(x), status, (start, stop, most))
        return ys, status, batch.leave(x)

    return in_batches(batch, first, (members, batch_size), x, status)


def _batches(
    problem: AbstractProblem, first: UInt32[Array, ""], sizes: tuple[int, int]
) -> tuple[PyTree[Array], Status, Status]:
    """Saved values, status, and status of the states alone, a batch at a time."""

    def batch(ids):
        batch, x = _begin(problem, ids)
        none, last = jnp.zeros(ids.size, jnp.int32), problem.times.intervals
        ys, _, status, fate = _path(problem, batch, x, none, (0, last, last))
        return ys, status, fate

    return in_batches(batch, first, sizes)


def _begin(
    problem: AbstractProblem, ids: UInt32[Array, " members"]
) -> tuple[AbstractBatch, PyTree[Array]]:
    """The members `ids` as a batch, and their initial states."""
    law_keys, noise_keys = jax.vmap(member_keys, in_axes=(None, 0))(problem.key, ids)
    batch = problem.batch(noise_keys)
    return batch, batch.enter(jax.vmap(problem.law)(law_keys))


def _path(
    problem: AbstractProblem,
    batch: AbstractBatch,
    x: PyTree[Array],
    status: Status,
    interval: tuple[Int[Array, ""] | int, Int[Array, ""] | int, int],
) -> tuple[PyTree[Array], PyTree[Array], Status, Status]:
    """Saved values of a batch, and its states, status and the states' own status at the end.

    `interval` is the first and the last save, and for how many intervals there is room.
    """
    start, stop, most = interval

    def visit(carry, offset):
        x, status, fate = carry
        index = start + offset
        saved = jax.vmap(problem.save, in_axes=batch.axis)(x)
        sound = batch.finite(x)
        fate = _marked(fate, index, sound)
        # An observable may be infinite, as the logarithm of a volume of 0 is; NaN is a failure.
        status = _marked(status, index, sound & without_nan(saved))
        x = lax.cond(index < stop, lambda x: batch.advance(index, x), lambda x: x, x)
        return (x, status, fate), saved

    carry, offsets = (x, status, status), jnp.arange(most + 1, dtype=jnp.int32)
    (x, status, fate), ys = lax.scan(rematerialised(visit), carry, offsets)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), ys), x, status, fate


def without_nan(saved: PyTree[Array]) -> Bool[Array, " members"]:
    """The members of whose saved floats none is NaN."""
    leaves = [leaf for leaf in jax.tree.leaves(saved) if eqx.is_inexact_array(leaf)]
    nan = [jnp.isnan(leaf).reshape(leaf.shape[0], -1).any(axis=1) for leaf in leaves]
    members = jax.tree.leaves(saved)[0].shape[0]
    return ~jnp.any(jnp.stack(nan), axis=0) if nan else jnp.ones(members, bool)


def _marked(status: Status, index: Int[Array, ""], sound: Bool[Array, " members"]) -> Status:
    # Of an initial state that is no number the next one is none either.
    return jnp.where((status == 0) & (index > 0) & ~sound, index, status)


def in_batches(
    batch: Callable, first: UInt32[Array, ""], sizes: tuple[int, int], *given: PyTree[Array]
) -> PyTree[Array]:
    """`batch`, a function of members' ids and of what is `given` for each, over all members."""
    members, batch_size = sizes
    one = jnp.arange(batch_size, dtype=jnp.uint32)
    if batch_size == members:
        return batch(first + one, *given)
    batches = math.ceil(members / batch_size)
    whole = batches * batch_size

    def split(leaf):
        spare = jnp.broadcast_to(leaf[-1:], (whole - members, *leaf.shape[1:]))
        return jnp.concatenate([leaf, spare]).reshape(batches, batch_size, *leaf.shape[1:])

    starts = first + batch_size * jnp.arange(batches, dtype=jnp.uint32)
    given = jax.tree.map(split, given)
    stacked = lax.map(lambda xs: batch(xs[0] + one, *xs[1]), (starts, given))
    return jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:])[:members], stacked)


# ---- reverse mode: a part of the members at a time, so that what a step leaves behind for its
# derivative, many times what the step itself needs, is held for few of them and in a core's cache.


@eqx.filter_custom_vjp
def _reversible(problem, first, sizes):
    """Saved values and status."""
    return _batches(problem, first, sizes)[:2]


@_reversible.def_fwd
def _forward(perturbed, problem, first, sizes):
    ys, status, fate = _batches(problem, first, sizes)
    return (ys, status), fate


@_reversible.def_bwd
def _backward(fate, cotangents, perturbed, problem, first, sizes):
    """The gradient with respect to the perturbed arrays of `problem`, a sum over parts."""
    members, batch_size = sizes
    part = _part_size(problem, batch_size)
    parts = math.ceil(members / part)
    arrays, rest = eqx.partition(problem, perturbed)
    above, poisoned = _of_sound_states(cotangents[0], fate)
    above = jax.tree.map(
        lambda leaf: jnp.pad(
            leaf, [(0, parts * part - members)] + [(0, 0)] * (leaf.ndim - 1)
        ).reshape(parts, part, *leaf.shape[1:]),
        above,
    )

    def add_part(total, xs):
        place, above = xs
        # The spare ones at the end are the last member again, and add nothing to the gradient.
        places = jnp.minimum(place + jnp.arange(part, dtype=jnp.uint32), members - 1)

        def values(arrays):
            ys = _sound_path(eqx.combine(arrays, rest), first + places, fate[places])
            return jax.tree.map(lambda y, g: None if g is None else y, ys, above, is_leaf=_is_none)

        (gradient,) = jax.vjp(values, arrays)[1](above)
        return jax.tree.map(jnp.add, total, gradient), None

    zero = jax.tree.map(jnp.zeros_like, arrays)
    places = part * jnp.arange(parts, dtype=jnp.uint32)
    gradient = lax.scan(add_part, zero, (places, above))[0]
    return jax.tree.map(lambda leaf: jnp.where(poisoned, jnp.nan, leaf), gradient)


def _of_sound_states(
    cotangents: PyTree[Array | None], fate: Status
) -> tuple[PyTree[Array | None], Bool[Array, ""]]:
    """Cotangents of the saves before a member failed; whether others are not zero.

    A loss that leaves failed members out has no derivative with respect to them: their cotangents
    are 0, or NaN where 0 met what is saved of them. Any other says that the loss does depend on
    them. It is no number then, and neither is its gradient.
    """

    def dead(leaf):
        saves = jnp.arange(leaf.shape[1], dtype=jnp.int32)
        lost = (fate[:, None] > 0) & (saves[None] >= fate[:, None])
        return lost.reshape(lost.shape + (1,) * (leaf.ndim - 2))

    leaves = jax.tree.leaves(cotangents)
    poisoned = [jnp.any(dead(leaf) & (leaf != 0) & ~jnp.isnan(leaf)) for leaf in leaves]
    kept = jax.tree.map(lambda leaf: jnp.where(dead(leaf), 0, leaf), cotangents)
    return kept, jnp.any(jnp.stack(poisoned)) if poisoned else jnp.asarray(False)


def _sound_path(problem: Problem, ids: UInt32[Array, " members"], fate: Status) -> PyTree[Array]:
    """Saved values of members with known `fate`, of which none becomes NaN or infinite.

    A member that fails follows, from the save before, one that does not: what is saved of it is
    wrong from there on, and has no part in a gradient, where 0 times infinity would be NaN. The
    states of a few saves are all kept; of more, those of √K, and those between them are computed
    again.
    """
    batch, x = _begin(problem, ids)
    assert isinstance(batch, Batch)
    last = problem.times.intervals
    x = _led(batch, x, batch.finite(x))[1]

    def visit(x, index):
        saved = jax.vmap(problem.save, in_axes=batch.axis)(x)
        sound = (fate == 0) | (index + 1 < fate)

        def advance(x):
            led, x = _led(batch, x, sound)
            return led.reversible(index, x)

        return lax.cond((index < last) & jnp.any(sound), advance, lambda x: x, x), saved

    def some_visits(x, start):
        return lax.scan(rematerialised(visit), x, start + offsets)

    few = last < FEW_SAVES
    some = last + 1 if few else math.isqrt(last) + 1
    offsets = jnp.arange(some, dtype=jnp.int32)
    starts = some * jnp.arange(math.ceil((last + 1) / some), dtype=jnp.int32)
    _, ys = lax.scan(some_visits if few else rematerialised(some_visits), x, starts)
    count = starts.size * some  # not -1: a saved array may have the size 0
    ys = jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:])[: last + 1], ys)
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), ys)


def _led(
    batch: Batch, x: PyTree[Array], sound: Bool[Array, " members"]
) -> tuple[Batch, PyTree[Array]]:
    """The batch and its states, with the first `sound` member in the place of all that are not."""
    own = jnp.arange(sound.size, dtype=jnp.int32)
    places = jnp.where(sound, own, jnp.argmax(sound).astype(jnp.int32))
    streams, x = lax.cond(
        jnp.all(sound), lambda: (batch.streams, x), lambda: batch.taken(x, places)
    )
    return eqx.tree_at(lambda b: b.streams, batch, streams), x


def _part_size(problem: Problem, batch_size: int) -> int:
    """Equal parts of a batch, as few as keep to `PART_NUMBERS`; other devices take it whole."""
    if jax.default_backend() != "cpu":
        return batch_size
    state = problem.state
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state))
    numbers += math.prod(noise_shape(problem.sde.noise, state))
    limit = max(1, PART_NUMBERS // max(1, numbers))
    return math.ceil(batch_size / math.ceil(batch_size / limit))


def _is_none(leaf) -> bool:
    return leaf is None
