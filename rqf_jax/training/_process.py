"""A training process: a start, an update, and the weights in between."""

import abc
from typing import Generic, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._arguments import described
from .._brownian.path import draw, increment, stream

State = TypeVar("State")


class AbstractProcess(eqx.Module, Generic[State]):
    """Discrete learning of one seed: state ← update(state), again and again.

    The state is a pytree of arrays; besides the weights it may hold what goes on from one update
    to the next, such as chains or a momentum.
    """

    __repr__ = described

    @abc.abstractmethod
    def start(self, key: PRNGKeyArray) -> State:
        """The state before the first update."""

    @abc.abstractmethod
    def update(self, key: PRNGKeyArray, number: Int[Array, ""], state: State) -> State:
        """The state after update `number`, counted from 0; `key` belongs to it alone."""

    @abc.abstractmethod
    def weights(self, state: State) -> PyTree[Float[Array, "..."]]:
        """The weights in a state: what is saved."""


def normal(key: PRNGKeyArray, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "*shape"]:
    """Standard normals of one update: on a CPU several times faster than `jax.random.normal`."""
    pairs = draw(stream(key), jnp.zeros((), jnp.int32), 1, shape, dtype)[0]
    return increment(pairs, jnp.ones((), dtype), shape)


def product(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """a b in full precision."""
    return jnp.matmul(a, b, precision="highest")


def mean_product(a: Float[Array, "batch m"], b: Float[Array, "batch n"]) -> Float[Array, "m n"]:
    """The mean of a bᵀ over a batch of rows."""
    return product(a.T, b) / a.shape[0]
