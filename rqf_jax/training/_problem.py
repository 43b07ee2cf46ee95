"""Many seeds of a training process as an ensemble: what `train` and runs on disk both advance."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Key as Keys, PyTree

from .._arguments import Key, closes_over_traced, function_of, host, hurried, is_concrete, part
from .._ensemble.abstract import AbstractBatch, AbstractProblem, is_finite
from .._ensemble.members import member_keys, typed_key
from .._ensemble.validity import checked_process
from ._abstract import AbstractProcess

CACHE_BYTES = 2**17
"""The states that are updated at a time: with what is made of them on the way, a core's cache."""


class Counts(eqx.Module):
    """The numbers of updates after which weights are saved."""

    at: Int[Array, "*points saves"]

    @classmethod
    def of(cls, updates: Any) -> "Counts":
        """The numbers `updates`; ValueError unless they increase from 0."""
        counts = counted(updates)
        if counts[0] != 0:
            raise ValueError(f"`updates` must start with 0; got {counts[0]}.")
        return cls(jnp.asarray(counts, jnp.int32))

    @property
    def intervals(self) -> int:
        """The number of intervals between saves."""
        return self.at.shape[-1] - 1


class Training(AbstractProblem):
    """Seeds of a process from 0 updates on, saved after `times`: the arguments of `train`.

    `look` is what to keep of the weights. A state is that of the process.
    """

    process: AbstractProcess
    times: Counts
    key: Key
    look: Callable[[PyTree], PyTree]
    points: int | None = eqx.field(static=True)

    def __init__(
        self,
        process: AbstractProcess,
        times: Counts,
        key: Key,
        look: Callable[[PyTree], PyTree],
        points: int | None = None,
    ):
        self.process, self.times, self.key = process, times, key
        self.look, self.points = look, points

    @property
    def law(self) -> Callable[[Key], PyTree]:
        """The state of a seed before its first update."""
        return self.process.start

    @property
    def save(self) -> Callable[[PyTree], PyTree]:
        """What is kept of a state."""
        return self._seen

    def _seen(self, state: PyTree) -> PyTree:
        return self.look(self.process.weights(state))

    def checked(self) -> "Training":
        """The same in the float type of its states; ValueError for parts that do not fit."""
        part(AbstractProcess)("process", self.process)
        function_of("the weights")("save", self.look)
        key = typed_key(self.key)
        return Training(checked_process(self.process, key, self.look), self.times, key, self.look)

    def look_at(self, member: int) -> None:
        """ValueError if the first weights of a seed are NaN or infinite."""
        if not is_concrete(self) or closes_over_traced(_sound_at, self, np.uint32(member)):
            return
        if not _sound_at(self, np.uint32(member)):
            raise ValueError(f"`process` must start from finite weights; seed {member} does not.")

    def sound(self, x: PyTree[Array]) -> Bool[Array, ""]:
        """True for weights that are finite."""
        return is_finite(self.process.weights(x))

    def batch(self, noise_keys: Keys[Array, " seeds"]) -> "Seeds":
        """Seeds with these keys, together."""
        return Seeds(self.process, self.times.at, noise_keys)

    def batch_size(self, members: int) -> int:
        """Equal batches of seeds, as few as fit a CPU's cache."""
        if jax.default_backend() != "cpu":
            return members
        return equal_batches(self.state, members)

    def solved(self) -> "Training":
        """The same: a process has its own steps."""
        return self

    def closed(self) -> "Training":
        """The same: runs of processes are not differentiated."""
        return self


class Seeds(AbstractBatch):
    """Seeds of a process that are updated together."""

    process: AbstractProcess
    updates: Int[Array, " saves"]
    keys: Keys[Array, " seeds"]
    axis: int = eqx.field(static=True)

    def __init__(
        self,
        process: AbstractProcess,
        updates: Int[Array, " saves"],
        keys: Keys[Array, " seeds"],
    ):
        self.process, self.updates, self.keys, self.axis = process, updates, keys, 0

    def sound(self, x: PyTree[Array]) -> Bool[Array, ""]:
        """True for weights that are finite; a memory of an optimiser may begin as infinite."""
        return is_finite(self.process.weights(x))

    def advance(self, index: Int[Array, ""], x: PyTree[Array]) -> PyTree[Array]:
        """States one save interval later than save `index`."""
        return updated(self.process, self.keys, x, self.updates[index], self.updates[index + 1])


def updated(
    process: AbstractProcess,
    keys: Keys[Array, " seeds"],
    states: PyTree[Array],
    first: Int[Array, ""],
    last: Int[Array, ""],
) -> PyTree[Array]:
    """The states of some seeds after the updates first, …, last - 1."""

    def one(number, states):
        def of_a_seed(key, state):
            return process.update(jax.random.fold_in(key, number), number, state)

        return jax.vmap(of_a_seed)(keys, states)

    return lax.fori_loop(first, last, one, states)


def equal_batches(state: PyTree[jax.ShapeDtypeStruct], seeds: int) -> int:
    """Seeds in each of equal batches, as few as fit a CPU's cache."""
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    limit = max(1, CACHE_BYTES // max(1, size))
    return math.ceil(seeds / math.ceil(seeds / limit))


def counted(updates: Any) -> np.ndarray:
    """Numbers of updates on the host; ValueError unless they increase, from 0 at least."""
    host("updates", updates)
    counts = np.asarray(updates)
    if counts.ndim != 1 or counts.size < 2 or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(
            "`updates` must be at least 2 whole numbers along one axis; got dtype "
            f"{counts.dtype} and shape {counts.shape}."
        )
    if counts[0] < 0 or counts[-1] >= 2**31:
        raise ValueError(f"`updates` must be from 0 to 2³¹ - 1; got {counts[0]} to {counts[-1]}.")
    wrong = np.flatnonzero(np.diff(counts) <= 0)
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"`updates` must be strictly increasing; got {counts[i]} then {counts[i + 1]} at index "
            f"{i}."
        )
    return counts


@hurried
def _sound_at(problem: Training, member: Any) -> Bool[Array, ""]:
    return problem.sound(problem.law(member_keys(problem.key, member)[0]))
