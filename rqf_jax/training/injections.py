"""Sources of noise in the gradient of an update: batches, labels, gates, weights, plain noise.

An injection changes the draw from which the gradient of one update is made. Several may be given;
the batch is chosen first, and the law does not depend on the order of the others. With `common`, a
key, all seeds draw the same noise: the same minibatches, or the same masks.
"""

import abc
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .._arguments import Key, described, each, integer, number, part, scalar
from .._ensemble.validity import shapes_of
from ._abstract import normals_like
from ._checks import check_batch
from .data import common_key


class Draw(eqx.Module):
    """The gradient of one update: that of the loss of `weights` on `batch`, plus `tilt`.

    `weights` are a function of the weights that learn, and the gradient passes through it; `tilt`
    is of the shape of what learns, or None.
    """

    weights: PyTree
    batch: PyTree
    tilt: PyTree

    def tilted(self, size: Float[Array, ""], noise: PyTree) -> "Draw":
        """The same with `size` times some noise added to the gradient."""
        more = jax.tree.map(lambda leaf: size.astype(leaf.dtype) * leaf, noise)
        tilt = more if self.tilt is None else jax.tree.map(jnp.add, self.tilt, more)
        return Draw(self.weights, self.batch, tilt)


class AbstractInjection(eqx.Module):
    """A way in which the gradient of an update is random; `common` makes it one for all seeds."""

    common: Key | None = eqx.field(default=None, converter=common_key, kw_only=True)

    __repr__ = described

    @property
    def white(self) -> Float[Array, ""] | None:
        """σ, if all that it does is to add σ times fresh standard normals to the gradient."""
        return None

    @abc.abstractmethod
    def start(self, point: PyTree, samples: int | None) -> PyTree:
        """The memory before the first update, for weights like `point`, which learn."""

    @abc.abstractmethod
    def __call__(
        self, key: Key, number: Int[Array, ""], draw: Draw, point: PyTree, memory: PyTree
    ) -> tuple[Draw, PyTree]:
        """The changed draw of update `number`, and the memory after it."""


class AbstractIndependentInjection(AbstractInjection):
    """An injection that draws independently in every update, and remembers nothing."""

    @abc.abstractmethod
    def change(self, key: Key, draw: Draw, point: PyTree) -> Draw:
        """The changed draw."""

    def start(self, point: PyTree, samples: int | None) -> tuple[()]:
        """Nothing."""
        return ()

    def __call__(
        self, key: Key, number: Int[Array, ""], draw: Draw, point: PyTree, memory: tuple[()]
    ) -> tuple[Draw, tuple[()]]:
        """The changed draw."""
        return self.change(key, draw, point), memory


# ---- batches


class AbstractBatch(AbstractInjection):
    """A way to choose `batch` of the examples."""

    batch: int = eqx.field(static=True, converter=partial(integer, "batch"))

    @abc.abstractmethod
    def share(self, samples: int) -> float:
        """The covariance that adds up over many updates, in units of that of one gradient."""


def _rows(draw: Draw, chosen: Int[Array, " batch"]) -> Draw:
    """The same draw with some of the examples."""
    batch = jax.tree.map(lambda leaf: leaf[chosen], draw.batch)
    return Draw(draw.weights, batch, draw.tilt)


def _count(draw: Draw) -> int:
    return jax.tree.leaves(draw.batch)[0].shape[0]


class WithReplacement(AbstractBatch, AbstractIndependentInjection):
    """A batch of independent examples: gradients of covariance C/B."""

    def share(self, samples: int) -> float:
        """1/B."""
        return 1 / self.batch

    def change(self, key: Key, draw: Draw, point: PyTree) -> Draw:
        """Some examples, perhaps some twice."""
        return _rows(draw, jax.random.randint(key, (self.batch,), 0, _count(draw)))


class WithoutReplacement(AbstractBatch, AbstractIndependentInjection):
    """A batch of different examples, anew in every update: covariance (C/B) (N - B)/(N - 1)."""

    def share(self, samples: int) -> float:
        """(N - B)/(B (N - 1))."""
        return (samples - self.batch) / max(1, samples - 1) / self.batch

    def change(self, key: Key, draw: Draw, point: PyTree) -> Draw:
        """Some examples, none twice."""
        return _rows(draw, jax.random.permutation(key, _count(draw))[: self.batch])


class Reshuffled(AbstractBatch):
    """Batches that go through all examples, in a new random order in every epoch.

    Whole batches only: what is left over at the end of an order waits for another.
    """

    def share(self, samples: int) -> float:
        """0: the rest of an epoch takes the noise back."""
        return 0.0

    def start(self, point: PyTree, samples: int | None) -> Int[Array, " samples"]:
        """An order that the first update replaces."""
        assert samples is not None
        return jnp.arange(samples, dtype=jnp.int32)

    def __call__(
        self,
        key: Key,
        number: Int[Array, ""],
        draw: Draw,
        point: PyTree,
        memory: Int[Array, " samples"],
    ) -> tuple[Draw, Int[Array, " samples"]]:
        """The next examples in this epoch's order."""
        turn = jnp.mod(number, memory.size // self.batch)
        # All seeds are at the same update, so that an order is drawn once an epoch, not in vain.
        order = jax.lax.cond(turn == 0, lambda: jax.random.permutation(key, memory), lambda: memory)
        chosen = jax.lax.dynamic_slice_in_dim(order, turn * self.batch, self.batch)
        return _rows(draw, chosen), order


class InOrder(AbstractBatch):
    """Batches in the order of the data, over and over; what is left over at the end is unused."""

    def share(self, samples: int) -> float:
        """0: the rest of an epoch takes the noise back."""
        return 0.0

    def start(self, point: PyTree, samples: int | None) -> tuple[()]:
        """Nothing."""
        return ()

    def __call__(
        self, key: Key, number: Int[Array, ""], draw: Draw, point: PyTree, memory: tuple[()]
    ) -> tuple[Draw, tuple[()]]:
        """The next examples."""
        first = jnp.mod(number, _count(draw) // self.batch) * self.batch
        batch = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, first, self.batch), draw.batch
        )
        return Draw(draw.weights, batch, draw.tilt), memory


# ---- noise on the batch and on the weights


def _targets(batch: PyTree) -> PyTree:
    """The second entry of a batch."""
    return batch[1]


def _gates(batch: PyTree) -> PyTree:
    """The third entry of a batch."""
    return batch[2]


def _replaced(
    injection: AbstractInjection,
    where: Callable[[PyTree], PyTree],
    draw: Draw,
    change: Callable[[PyTree], PyTree],
) -> Draw:
    """The draw with a part of its batch changed, if it has that part and noise can move it."""
    name = type(injection).__name__
    try:
        part = where(draw.batch)
        floats = [eqx.is_inexact_array(leaf) for leaf in jax.tree.leaves(part)]
        batch = eqx.tree_at(where, draw.batch, part) if all(floats) else None
    except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        raise ValueError(
            f"`data` must have the part where {name} acts, by default the second entry for labels "
            f"and the third for gates; got {shapes_of(draw.batch)}. Choose arrays by `where`."
        ) from error
    if batch is None:
        raise ValueError(
            f"`data` must hold floats where {name} acts; got {shapes_of(part)}. Make them floats, "
            "or choose other arrays by `where`."
        )
    return Draw(draw.weights, eqx.tree_at(where, batch, change(part)), draw.tilt)


def _probability(rate: Any) -> Float[Array, ""]:
    return number(minimum=0, below=1)("rate", rate)


class LabelNoise(AbstractIndependentInjection):
    """y_i + σ ξ_i, fresh standard normals for every example and update.

    `where` takes a batch and returns its labels: by default its second entry, of (inputs, targets).
    """

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))
    where: Callable[[PyTree], PyTree] = eqx.field(default=_targets, static=True, kw_only=True)

    def change(self, key: Key, draw: Draw, point: PyTree) -> Draw:
        """Other labels."""

        def noisy(labels: PyTree) -> PyTree:
            noise = normals_like(key, labels)
            return jax.tree.map(lambda y, xi: y + self.sigma.astype(y.dtype) * xi, labels, noise)

        return _replaced(self, self.where, draw, noisy)


class Dropout(AbstractIndependentInjection):
    """Gates 1 + η on the units of every example, of mean 1 and variance p/(1 - p).

    A unit is dropped with probability p, the `rate`, and multiplied by 1/(1 - p) otherwise. `where`
    takes a batch and returns the arrays that are multiplied: by default its third entry, gates. For
    a network of your own add an array of ones to the data and multiply the units by it in the loss,
    or choose the inputs.
    """

    rate: Float[Array, ""] = eqx.field(converter=_probability)
    where: Callable[[PyTree], PyTree] = eqx.field(default=_gates, static=True, kw_only=True)

    def change(self, key: Key, draw: Draw, point: PyTree) -> Draw:
        """Other gates."""
        return _replaced(self, self.where, draw, partial(_masked, key, self.rate))


class DropConnect(AbstractIndependentInjection):
    """Weights w (1 + η), one η for each weight and update, with the law of `Dropout`."""

    rate: Float[Array, ""] = eqx.field(converter=_probability)

    def change(self, key: Key, draw: Draw, point: PyTree) -> Draw:
        """Other weights, through which the gradient passes."""
        return Draw(_masked(key, self.rate, draw.weights), draw.batch, draw.tilt)


class ParameterNoise(AbstractIndependentInjection):
    """The gradient at w + σ ξ, fresh standard normals for every weight and update.

    On average the descent of E L(w + σξ) = L + (σ²/2) tr ∇²L + …: it leaves sharp minima.
    """

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def change(self, key: Key, draw: Draw, point: PyTree) -> Draw:
        """Other weights."""
        arrays, rest = eqx.partition(draw.weights, eqx.is_inexact_array)
        moved = jax.tree.map(
            lambda w, xi: w + self.sigma.astype(w.dtype) * xi, arrays, normals_like(key, arrays)
        )
        return Draw(eqx.combine(moved, rest), draw.batch, draw.tilt)


# ---- noise on the gradient


class Langevin(AbstractIndependentInjection):
    """σ ξ on the gradient, standard normals ξ: stochastic gradient Langevin dynamics."""

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    @property
    def white(self) -> Float[Array, ""]:
        """σ."""
        return self.sigma

    def change(self, key: Key, draw: Draw, point: PyTree) -> Draw:
        """A tilted gradient."""
        return draw.tilted(self.sigma, normals_like(key, point))


class AntiCorrelated(AbstractInjection):
    """σ (ξ_k - ξ_{k-1}) on the gradient, ξ_{-1} = 0: noise that the next update takes back.

    With w ← w - α gradient, z = w + ασ ξ_{k-1} obeys z ← z - α ∇L(z - ασ ξ_{k-1}): the noise never
    adds up, and z descends as under `ParameterNoise` of strength ασ, away from sharp minima.

    Source: Orvieto, Kersting, Proske, Bach & Lucchi, arXiv:2202.02831 (recalled).
    """

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def start(self, point: PyTree, samples: int | None) -> PyTree:
        """No noise."""
        return jax.tree.map(jnp.zeros_like, point)

    def __call__(
        self, key: Key, number: Int[Array, ""], draw: Draw, point: PyTree, memory: PyTree
    ) -> tuple[Draw, PyTree]:
        """A tilted gradient, and its noise."""
        noise = normals_like(key, point)
        return draw.tilted(self.sigma, jax.tree.map(jnp.subtract, noise, memory)), noise


def checked_injections(injections: Any, samples: int | None) -> tuple[AbstractInjection, ...]:
    """Injections that suit a source of examples, batches first; ValueError otherwise."""
    found = each(part(AbstractInjection), least=0)("injections", injections)
    batches = [one for one in found if isinstance(one, AbstractBatch)]
    if len(batches) > 1:
        raise ValueError(f"`injections` must choose batches at most once; got {len(batches)}.")
    for one in batches:
        if samples is None:
            raise ValueError(
                "`injections` must choose no batch of examples that are drawn afresh, or of none; "
                f"got {one}. Give the size of a batch to the law of the data."
            )
        check_batch(one.batch, samples)
    return (*batches, *(one for one in found if not isinstance(one, AbstractBatch)))


def _masked(key: Key, rate: Float[Array, ""], tree: PyTree) -> PyTree:
    """Every float times 0 with probability `rate`, and times 1/(1 - rate) otherwise."""
    leaves, structure = jax.tree.flatten(tree)
    for i, leaf in enumerate(leaves):
        if eqx.is_inexact_array(leaf):
            kept = jax.random.bernoulli(jax.random.fold_in(key, i), 1 - rate, leaf.shape)
            leaves[i] = leaf * jnp.where(kept, 1 / (1 - rate), 0.0).astype(leaf.dtype)
    return structure.unflatten(leaves)
