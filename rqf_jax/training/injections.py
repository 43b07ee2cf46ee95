"""Sources of noise in the gradient of an update: labels, batches, gates, weights, plain noise.

An injection changes the draw from which the loss of one update is made. Several may be given; the
law does not depend on their order.
"""

import abc
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._arguments import Key, described, each, integer, number, part, scalar
from ._data import check_batch
from .networks import AbstractNetwork


class Draw(eqx.Module):
    """The loss of one update: (1/2n) Σ (f(w, x_i, g_i) - y_i)² + <tilt, w>.

    `number` is that of the update, and `order` a key that a seed has for all its updates.
    """

    weights: Float[Array, "..."]
    inputs: Float[Array, "n features"]
    targets: Float[Array, " n"]
    gates: Float[Array, "n units"]
    tilt: Float[Array, "..."]
    number: Int[Array, ""]
    order: Key

    def loss(self, network: AbstractNetwork) -> Float[Array, ""]:
        """The loss, a function of the weights."""
        outputs = jax.vmap(network, (None, 0, 0))(self.weights, self.inputs, self.gates)
        return jnp.mean((outputs - self.targets) ** 2) / 2 + jnp.sum(self.tilt * self.weights)

    def rows(self, chosen: Int[Array, " batch"]) -> "Draw":
        """The same with some of the examples."""
        kept = self.inputs[chosen], self.targets[chosen], self.gates[chosen]
        return eqx.tree_at(lambda draw: (draw.inputs, draw.targets, draw.gates), self, kept)


def _probability(rate: Any) -> Float[Array, ""]:
    return number(minimum=0, below=1)("rate", rate)


class AbstractInjection(eqx.Module):
    """A way in which the loss of an update is random."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(self, key: Key, draw: Draw) -> Draw:
        """The changed draw."""


class AbstractBatch(AbstractInjection):
    """A way to choose `batch` of the examples."""

    batch: eqx.AbstractVar[int]


class LabelNoise(AbstractInjection):
    """y_i + σ ξ_i, fresh standard normals for every example and update."""

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def __call__(self, key: Key, draw: Draw) -> Draw:
        """Other labels."""
        noise = jax.random.normal(key, draw.targets.shape, draw.targets.dtype)
        return eqx.tree_at(lambda draw: draw.targets, draw, draw.targets + self.sigma * noise)


class WithReplacement(AbstractBatch):
    """A batch of independent examples: gradients of covariance C/B."""

    batch: int = eqx.field(static=True, converter=partial(integer, "batch"))

    def __call__(self, key: Key, draw: Draw) -> Draw:
        """Some examples, perhaps some twice."""
        return draw.rows(jax.random.randint(key, (self.batch,), 0, draw.targets.size))


class WithoutReplacement(AbstractBatch):
    """A batch of different examples, anew in every update: covariance (C/B) (N - B)/(N - 1)."""

    batch: int = eqx.field(static=True, converter=partial(integer, "batch"))

    def __call__(self, key: Key, draw: Draw) -> Draw:
        """Some examples, none twice."""
        return draw.rows(jax.random.permutation(key, draw.targets.size)[: self.batch])


class Reshuffled(AbstractBatch):
    """Batches that go through all examples, in a new random order in every epoch.

    Whole batches only: what is left over at the end of an order waits for another.
    """

    batch: int = eqx.field(static=True, converter=partial(integer, "batch"))

    def __call__(self, key: Key, draw: Draw) -> Draw:
        """The next examples in this epoch's order."""
        epoch, turn = jnp.divmod(draw.number, draw.targets.size // self.batch)
        order = jax.random.permutation(jax.random.fold_in(draw.order, epoch), draw.targets.size)
        return draw.rows(jax.lax.dynamic_slice_in_dim(order, turn * self.batch, self.batch))


class Dropout(AbstractInjection):
    """Gates 1 + η on the units of every example, of mean 1 and variance p/(1 - p).

    A unit is dropped with probability p, the `rate`, and multiplied by 1/(1 - p) otherwise.
    """

    rate: Float[Array, ""] = eqx.field(converter=_probability)

    def __call__(self, key: Key, draw: Draw) -> Draw:
        """Other gates."""
        gates = draw.gates * _mask(key, self.rate, draw.gates)
        return eqx.tree_at(lambda draw: draw.gates, draw, gates)


class DropConnect(AbstractInjection):
    """Weights w (1 + η), one η for each weight and update, with the law of `Dropout`."""

    rate: Float[Array, ""] = eqx.field(converter=_probability)

    def __call__(self, key: Key, draw: Draw) -> Draw:
        """Other weights, through which the gradient passes."""
        weights = draw.weights * _mask(key, self.rate, draw.weights)
        return eqx.tree_at(lambda draw: draw.weights, draw, weights)


class Langevin(AbstractInjection):
    """σ ξ on the gradient, standard normals ξ: stochastic gradient Langevin dynamics."""

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def __call__(self, key: Key, draw: Draw) -> Draw:
        """A tilted loss."""
        noise = jax.random.normal(key, draw.weights.shape, draw.weights.dtype)
        return eqx.tree_at(lambda draw: draw.tilt, draw, draw.tilt + self.sigma * noise)


def checked_injections(injections: Any, samples: int) -> tuple[AbstractInjection, ...]:
    """Injections that suit a data set; ValueError otherwise."""
    found = each(part(AbstractInjection), least=0)("injections", injections)
    for injection in found:
        if isinstance(injection, AbstractBatch):
            check_batch(injection.batch, samples)
    return found


def _mask(key: Key, rate: Float[Array, ""], like: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """0 with probability `rate`, and 1/(1 - rate) otherwise."""
    kept = jax.random.bernoulli(key, 1 - rate, like.shape)
    return jnp.where(kept, 1 / (1 - rate), 0.0)
