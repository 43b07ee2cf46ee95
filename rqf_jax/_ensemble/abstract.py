"""An ensemble apart from how many members it has, of equations and of learning alike."""

import abc
import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree

from .._arguments import Key
from .kinds import kind_of, once_for_each_kind

P = TypeVar("P", bound="AbstractProblem")


class Saves(Protocol):
    """When members are saved."""

    @property
    def intervals(self) -> int:
        """The number of intervals between saves."""
        ...


class AbstractBatch(eqx.Module):
    """Members that are together in memory, and how they move from one save to the next.

    A state of the batch has one more axis than that of a member: `axis`.
    """

    axis: eqx.AbstractVar[int]

    def enter(self, x: PyTree[Array]) -> PyTree[Array]:
        """States (members, ...) with the members' axis where this batch has it."""
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, self.axis), x)

    def leave(self, x: PyTree[Array]) -> PyTree[Array]:
        """The way back of `enter`."""
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, self.axis, 0), x)

    @abc.abstractmethod
    def advance(self, index: Int[Array, ""], x: PyTree[Array]) -> PyTree[Array]:
        """States one save interval later than save `index`."""

    @abc.abstractmethod
    def sound(self, x: PyTree[Array]) -> Bool[Array, ""]:
        """True for a member's state in which no number that counts is NaN or infinite."""

    def finite(self, x: PyTree[Array], axis: int | None = None) -> Bool[Array, " members"]:
        """The members whose states are sound."""
        return jax.vmap(self.sound, self.axis if axis is None else axis)(x)


class AbstractProblem(eqx.Module):
    """An ensemble apart from how many members it has: a start, a motion, and what is saved.

    `law` and `save` are functions of one key and of one state. With `points`, so many ensembles
    that differ in values alone: every array has one more axis, the first.
    """

    law: eqx.AbstractVar[Callable[[Key], PyTree]]
    save: eqx.AbstractVar[Callable[[PyTree], PyTree]]
    times: eqx.AbstractVar[Any]
    key: eqx.AbstractVar[Array]
    points: eqx.AbstractVar[int | None]

    @abc.abstractmethod
    def checked(self: P) -> P:
        """The same, completed; ValueError for parts that do not fit. Nothing is compiled."""

    @abc.abstractmethod
    def look_at(self, member: int) -> None:
        """Look at the initial state of one member; ValueError if it is not possible."""

    @abc.abstractmethod
    def sound(self, x: PyTree[Array]) -> Bool[Array, ""]:
        """True for an initial state that is possible."""

    @abc.abstractmethod
    def batch(self, noise_keys: Array) -> AbstractBatch:
        """Members with these keys, together."""

    @abc.abstractmethod
    def batch_size(self, members: int) -> int:
        """Equal batches of members, as few as fit a CPU's cache."""

    @abc.abstractmethod
    def solved(self: P) -> P:
        """The same with everything that is chosen by default."""

    @abc.abstractmethod
    def closed(self: P) -> P:
        """The same with everything in it that is to be differentiated."""

    @classmethod
    def stack(cls: type[P], problems: Sequence[P]) -> P:
        """All of these, which must be of one `structure`, as one."""
        parts = [eqx.partition(problem, eqx.is_array) for problem in problems]
        arrays = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(arrays for arrays, _ in parts))
        return dataclasses.replace(eqx.combine(arrays, parts[0][1]), points=len(problems))

    @property
    def first(self: P) -> P:
        """The first of the points, or the problem itself."""
        if self.points is None:
            return self
        arrays, static = eqx.partition(self, eqx.is_array)
        one = eqx.combine(jax.tree.map(lambda leaf: leaf[0], arrays), static)
        return dataclasses.replace(one, points=None)

    @property
    def state(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Shape and dtype of one state."""
        one = self.first
        return shape_of_start(one.law, one.key)

    @property
    def structure(self) -> Hashable:
        """All that a program is compiled for: everything but the values of arrays."""
        return kind_of(self)

    def outputs(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The saved values of one member, (times, ...) each, found without compiling."""
        one = self.first
        ys = eqx.filter_eval_shape(lambda p: p.save(p.law(p.key)), one)
        times = one.times.intervals + 1
        return jax.tree.map(lambda y: jax.ShapeDtypeStruct((times, *y.shape), y.dtype), ys)


def is_finite(x: PyTree) -> Bool[Array, ""]:
    """True if no float of a pytree is NaN or infinite."""
    # 0 · x is 0 for finite and NaN for other numbers: one pass, and no overflow of sums.
    leaves = [leaf for leaf in jax.tree.leaves(x) if eqx.is_inexact_array(leaf)]
    bad = [jnp.isnan(jnp.sum(0 * leaf)) for leaf in leaves]
    return ~jnp.any(jnp.stack(bad)) if bad else jnp.asarray(True)


@once_for_each_kind
def shape_of_start(law: Callable[[Key], PyTree], key: Key) -> PyTree[jax.ShapeDtypeStruct]:
    """Shape and dtype of the state that a law draws."""
    drawn = eqx.filter_eval_shape(law, key)
    # Nothing of the devices among which this was first asked.
    return jax.tree.map(
        lambda leaf: (
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
            if isinstance(leaf, jax.ShapeDtypeStruct)
            else leaf
        ),
        drawn,
    )
