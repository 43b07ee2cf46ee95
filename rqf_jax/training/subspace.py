"""Weights that learn in a random subspace: θ = θ₀ + P z, of which only z learns."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._arguments import Key, described, function_of, integer
from ._abstract import normal, widest
from .data import drawn


class Coordinates(eqx.Module):
    """Weights θ₀ + P z: `z`, the start θ₀ and the directions, the columns of P."""

    z: Float[Array, " dimension"]
    start: PyTree
    directions: Float[Array, "weights dimension"]

    def whole(self) -> PyTree:
        """θ₀ + P z, in the shapes of the start."""
        leaves, structure = jax.tree.flatten(self.start)
        moved, first = jnp.matmul(self.directions, self.z, precision="highest"), 0
        for i, leaf in enumerate(leaves):
            if eqx.is_inexact_array(leaf):
                size = math.prod(leaf.shape)
                part = moved[first : first + size].reshape(leaf.shape)
                leaves[i], first = leaf + part.astype(leaf.dtype), first + size
        return structure.unflatten(leaves)


class Subspace(eqx.Module):
    """A law of weights that learn in `dimension` random directions around a draw θ₀ of `law`.

        θ = θ₀ + P z,   z = 0 at the start, P of independent normal entries of variance 1/dim θ

    For `Process`: its loss and its saved weights see θ, and its optimiser z alone. Each seed draws
    its own directions. The least dimension that learns a task is the intrinsic dimension of its
    landscape.

    **Arguments** `law`: a function from a key to weights; `dimension`: of z, at most the number of
    weights. **Raises** ValueError for other values.

    Source: Li, Farkhoor, Liu & Yosinski, arXiv:1804.08838 (recalled).
    """

    law: Callable[[Key], PyTree]
    dimension: int = eqx.field(static=True)

    __repr__ = described

    def __init__(self, law: Callable[[Key], PyTree], dimension: int):
        self.law = function_of("a key")("law", law)
        learning, _, _ = divided(drawn(law))
        count = sum(math.prod(one.shape) for one in jax.tree.leaves(learning))
        self.dimension = integer("dimension", dimension, maximum=max(1, count))

    def __call__(self, key: Key) -> Coordinates:
        """A start, and directions through it."""
        own, directions = jax.random.split(key)
        start = self.law(own)
        arrays = [leaf for leaf in jax.tree.leaves(start) if eqx.is_inexact_array(leaf)]
        count, dtype = sum(leaf.size for leaf in arrays), widest(arrays)
        p = normal(directions, (count, self.dimension), dtype) / math.sqrt(count)
        return Coordinates(jnp.zeros(self.dimension, dtype), start, p)


def divided(weights: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """The float arrays of weights that learn, those that do not, and all that is no array."""

    def learns(node: Any) -> Any:
        if not isinstance(node, Coordinates):
            return jnp.issubdtype(node.dtype, jnp.inexact)
        return eqx.tree_at(lambda one: one.z, jax.tree.map(lambda _: False, node), True)

    arrays, rest = eqx.partition(
        weights, lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
    )
    mask = jax.tree.map(learns, arrays, is_leaf=lambda node: isinstance(node, Coordinates))
    point, frozen = eqx.partition(arrays, mask)
    return point, frozen, rest


def assembled(point: PyTree, frozen: PyTree, rest: PyTree) -> PyTree:
    """The weights from their three parts, with every subspace's θ₀ + P z in its place."""
    return jax.tree.map(
        lambda node: node.whole() if isinstance(node, Coordinates) else node,
        eqx.combine(point, frozen, rest),
        is_leaf=lambda node: isinstance(node, Coordinates),
    )
