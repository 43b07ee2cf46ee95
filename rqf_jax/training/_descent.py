"""The one mechanism of all descents: a random gradient, an optimiser of optax, and a memory."""

import abc
from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from .._arguments import Key
from ._abstract import AbstractProcess
from .data import AbstractSource
from .injections import AbstractInjection, Draw
from .subspace import assembled, divided

_SOURCE = 2**32 - 1
"""A number with which nobody else folds the key of a start, so that a law may have the key."""


class Learner(eqx.Module):
    """One seed of a descent: the weights that learn, and all that goes on between updates."""

    point: PyTree
    """The numbers that learn: the weights' float arrays, or their coordinates in a subspace."""
    frozen: PyTree
    """The other arrays of the weights."""
    optimiser: PyTree
    source: PyTree
    injections: tuple[PyTree, ...]


class AbstractDescent(AbstractProcess[Learner]):
    """Descent of one random gradient an update, by any optimiser of optax.

    A subclass has four parts: `law`, a function from a key to the first weights; `source`, the
    examples; `injections`, how the gradient is random besides; and `optimiser`, a transformation of
    optax or a function of nothing that makes one. `loss` is a function of weights and examples.
    """

    law: eqx.AbstractVar[Callable[[Key], PyTree]]
    source: eqx.AbstractVar[AbstractSource]
    injections: eqx.AbstractVar[tuple[AbstractInjection, ...]]
    optimiser: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def loss(self, weights: PyTree, batch: PyTree) -> Any:
        """The loss of weights on the examples of one update."""

    def start(self, key: PRNGKeyArray) -> Learner:
        """A draw of the law, an optimiser at rest, and a source before its first examples."""
        weights = self.law(key)
        point, frozen, _ = divided(weights)
        return Learner(
            point,
            frozen,
            self._transformation().init(point),
            self.source.start(jax.random.fold_in(key, _SOURCE), weights),
            tuple(one.start(point, self.source.samples) for one in self.injections),
        )

    def update(self, key: PRNGKeyArray, number: Int[Array, ""], state: Learner) -> Learner:
        """One step of the optimiser along the gradient of one draw."""
        value, source = self.drawn(key, number, state)
        graded = jax.value_and_grad(value, has_aux=True)
        (loss, (tilt, memories)), gradient = graded(state.point)
        if tilt is not None:
            gradient = jax.tree.map(jnp.add, gradient, tilt)
        # optax counts in integers and multiplies with floats, whatever the caller's promotion
        # rules; and its types know arrays and containers, and no modules.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            optimiser = optax.with_extra_args_support(self._transformation())
            change, memory = optimiser.update(
                cast(Any, gradient),
                state.optimiser,
                cast(Any, state.point),
                value=loss,
                grad=gradient,
                value_fn=lambda point: value(point)[0],
            )
            point = optax.apply_updates(cast(Any, state.point), change)
        return Learner(point, state.frozen, memory, source, memories)

    def drawn(
        self, key: PRNGKeyArray, number: Int[Array, ""], state: Learner
    ) -> tuple[Callable[[PyTree], Any], PyTree]:
        """The loss of one update, a function of what learns, and the memory of the source after it.

        The function returns besides the loss all that is added to its gradient, and the memories of
        the injections.
        """
        examples, source = self.source(
            _key(self.source, key, 0, number), number, self.weights(state), state.source
        )

        def value(point):
            draw = Draw(self.assembled(point, state.frozen), examples, None)
            memories = []
            for i, injection in enumerate(self.injections):
                own = _key(injection, key, 1 + i, number)
                draw, memory = injection(own, number, draw, point, state.injections[i])
                memories.append(memory)
            return self.loss(draw.weights, draw.batch), (draw.tilt, tuple(memories))

        return value, source

    def weights(self, state: Learner) -> PyTree:
        """The weights, as the law draws them."""
        return self.assembled(state.point, state.frozen)

    def assembled(self, point: PyTree, frozen: PyTree) -> PyTree:
        """The weights, from their arrays that learn and those that do not."""
        # What is no array, such as the activation of a network, is the same in every draw.
        drawn = eqx.filter_eval_shape(self.law, jax.random.key(0))
        return assembled(point, frozen, divided(drawn)[2])

    def _transformation(self) -> optax.GradientTransformation:
        made = isinstance(self.optimiser, optax.GradientTransformation)
        return self.optimiser if made else self.optimiser()


def _key(part: AbstractSource | AbstractInjection, key: Key, place: int, number: Any) -> Key:
    """The key of one part of an update: its own of this seed, or one that all seeds have."""
    if part.common is None:
        return jax.random.fold_in(key, place)
    # Two parts that are given one key draw different numbers.
    return jax.random.fold_in(jax.random.fold_in(part.common, place), number)
