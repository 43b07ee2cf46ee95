"""A training process: a start, an update, and the weights in between."""

import abc
import math
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._arguments import described
from .._brownian.path import draw, increment, stream

State = TypeVar("State")


class AbstractProcess(eqx.Module, Generic[State]):
    """Discrete learning of one seed: state ← update(state), again and again.

    The state is a pytree of arrays; besides the weights it may hold what goes on from one update
    to the next, such as chains or a momentum. `Process` makes one from a loss, data and an
    optimiser; write a class of your own only for rules that follow no gradient.
    """

    __repr__ = described

    @abc.abstractmethod
    def start(self, key: PRNGKeyArray) -> State:
        """The state before the first update."""

    @abc.abstractmethod
    def update(self, key: PRNGKeyArray, number: Int[Array, ""], state: State) -> State:
        """The state after update `number`, counted from 0; `key` belongs to it alone."""

    @abc.abstractmethod
    def weights(self, state: State) -> PyTree:
        """The weights in a state: what is saved."""


def normal(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Float[Array, "*shape"]:
    """Standard normals of one update: on a CPU several times faster than `jax.random.normal`."""
    if not shape:
        return normal(key, (1,), dtype)[0]
    # Narrow floats are rounded from float32, as the pairs are complex numbers.
    wide = dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.dtype(jnp.float32)
    # The key is spent here, so that its own words may key the numbers.
    plain = str(jax.random.key_impl(key)) == "threefry2x32"
    words = jax.random.key_data(key) if plain else stream(key)
    pairs = draw(words, jnp.zeros((), jnp.int32), 1, shape, wide)[0]
    return increment(pairs, jnp.ones((), wide), shape).astype(dtype)


def widest(arrays: Sequence[Array]) -> Any:
    """The dtype of most bytes among arrays of floats."""
    return max((array.dtype for array in arrays), key=lambda dtype: dtype.itemsize)


def normals_like(key: PRNGKeyArray, tree: PyTree) -> PyTree:
    """Independent standard normals in the place of every float of a pytree; other leaves stay."""
    leaves, structure = jax.tree.flatten(tree)
    places = [i for i, leaf in enumerate(leaves) if eqx.is_inexact_array(leaf)]
    draws = normal(key, (sum(leaves[i].size for i in places),), widest([leaves[i] for i in places]))
    start = 0
    for i in places:
        shape, size = leaves[i].shape, math.prod(leaves[i].shape)
        leaves[i] = draws[start : start + size].reshape(shape).astype(leaves[i].dtype)
        start += size
    return structure.unflatten(leaves)


def product(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    """a b in full precision."""
    return jnp.matmul(a, b, precision="highest")


def mean_product(a: Float[Array, "batch m"], b: Float[Array, "batch n"]) -> Float[Array, "m n"]:
    """The mean of a bᵀ over a batch of rows."""
    return product(a.T, b) / a.shape[0]


@jax.custom_jvp
def quadratic(w: Float[Array, "m n"], excess: Float[Array, "n n"]) -> Float[Array, ""]:
    """½ tr w e wᵀ for a symmetric e, whose gradient by w takes one product."""
    return jnp.sum(product(w, excess) * w) / 2


def _of_quadratic(primals, tangents):
    (w, excess), (dw, de) = primals, tangents
    turned = product(w, excess)
    change = jnp.zeros((), w.dtype)
    if not isinstance(dw, SymbolicZero):
        change += jnp.sum(turned * dw)
    if not isinstance(de, SymbolicZero):
        change += jnp.sum(product(w, de) * w) / 2
    return jnp.sum(turned * w) / 2, change


quadratic.defjvp(_of_quadratic, symbolic_zeros=True)
