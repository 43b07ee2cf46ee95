"""The continuous limit of a descent: gradient flow, and the noise of its gradient."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._arguments import Key, part, scalar
from .._sde import SDE
from ..drifts import AbstractDrift
from ..laws import AbstractLaw
from ..manifolds import AbstractManifold, Euclidean, State
from ..noises import AbstractNoise, Calculus, NoNoise
from ._descent import AbstractDescent
from .data import Whole
from .injections import AbstractBatch


class FirstWeights(AbstractLaw):
    """The first weights of a descent, as a law for `simulate`: their arrays of floats alone."""

    process: AbstractDescent

    def __check_init__(self):
        part(AbstractDescent)("process", self.process)

    def __call__(self, key: Key) -> PyTree[Float[Array, "..."]]:
        """A draw."""
        return self.process.start(key).point


def limit(process: AbstractDescent, *, learning_rate: Any) -> SDE:
    """The equation that a descent follows for small learning rates; its time is α times updates.

        dw = -∇L(w) dt + √(α C(w)/B + α σ²) dB,   the covariance of the gradient's noise at every w

    L is the loss of all examples, C the covariance of the gradients of single ones, B the batch,
    with the factor (N - B)/(N - 1) without replacement, and σ the strength of `Langevin` noise.
    Batches in a random or fixed order take back their noise within an epoch, to this order in α, so
    that their limit is the gradient flow, as without batches. The twins part where α tr ∇²L is not
    small: `theory.sgd.stationary_covariance` of the one, `theory.currents.covariance` with
    D = αC/2B of the other.

    Start it from `FirstWeights(process)`. For noise that moves weights along minima see
    `slow_flow`.

    **Arguments**

    - `process`: a `Process`, or another descent, of one data set, without a subspace, whose
      injections are batches and `Langevin` noise. The loss is a mean over examples.
    - `learning_rate`: α ≥ 0, of the process's plain descent; α/(1 - b) with momentum b.

    **Returns** an `SDE` in flat space, in Itô's sense, with the float arrays of weights as states.

    **Raises** ValueError for processes of another kind.

    **Example**

    >>> import optax
    >>> process = rqf.training.Process(
    ...     rqf.training.LeastSquares(lambda w, x: (w - x)[:, None]), rqf.laws.Zeros((1,)),
    ...     jnp.array([-1.0, 1.0]), optimiser=optax.sgd(0.1),
    ...     injections=[rqf.training.injections.WithReplacement(1)],
    ... )
    >>> sde = rqf.training.limit(process, learning_rate=0.1)
    >>> float(sde.drift(0.0, jnp.array([3.0]))[0])
    -3.0
    """
    part(AbstractDescent)("process", process)
    rate = scalar("learning_rate", minimum=0)(learning_rate)
    if not isinstance(process.source, Whole):
        raise ValueError(
            "`process` must have one data set, the same for all seeds; got "
            f"{type(process.source).__name__}."
        )
    if jax.tree.leaves(eqx.filter_eval_shape(process.start, jax.random.key(0)).frozen):
        raise ValueError("`process` must have weights that all learn; got some that do not.")
    share, white = 0.0, []
    for one in process.injections:
        if isinstance(one, AbstractBatch):
            share = one.share(_samples(process))
        elif one.white is not None:
            white.append(rate * one.white**2)
        else:
            raise ValueError(
                "`process` must have no injections but batches and Langevin noise; got "
                f"{type(one).__name__}. See `slow_flow` for some others."
            )
    if not share and not white:
        return SDE(Descent(process), NoNoise(), Euclidean())
    noise = GradientNoise(process, rate * share, jnp.sqrt(sum(white, jnp.zeros_like(rate))))
    return SDE(Descent(process), noise, Euclidean())


class Descent(AbstractDrift):
    """-∇L(w), of all examples."""

    process: AbstractDescent

    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """The velocity at weights x."""
        slope = jax.grad(lambda w: _loss(self.process, w, _examples(self.process)))(x)
        return jax.tree.map(jnp.negative, slope)


class GradientNoise(AbstractNoise):
    """√temperature Σ_i (∇L_i - ∇L) dB_i/√N over N examples, plus sigma dB on every weight.

    The first part has the covariance temperature · C, without a root of C.
    """

    process: AbstractDescent
    temperature: Float[Array, ""]
    sigma: Float[Array, ""]

    def shape(self, x: State) -> tuple[int, ...]:
        """One number for each example, and one for each weight."""
        samples = _samples(self.process)
        return (samples + sum(leaf.size for leaf in jax.tree.leaves(x)),)

    def __call__(self, t: Float[Array, ""], x: State, dw: Float[Array, " numbers"]) -> State:
        """The displacement of weights x."""
        samples, examples = _samples(self.process), _examples(self.process)
        share = dw[:samples] - jnp.sum(dw[:samples]) / max(1, samples)

        def tilted(w):
            if not samples:
                return jnp.zeros((), dw.dtype)
            alone = jax.vmap(
                lambda one: _loss(self.process, w, jax.tree.map(lambda leaf: leaf[None], one))
            )(examples)
            return jnp.vdot(share, alone, precision="highest")

        moved, start = jax.grad(tilted)(x), samples
        size = jnp.sqrt(self.temperature / max(1, samples))
        leaves, structure = jax.tree.flatten(moved)
        for i, leaf in enumerate(leaves):
            own = dw[start : start + leaf.size].reshape(leaf.shape)
            leaves[i], start = size * leaf + self.sigma * own, start + leaf.size
        return structure.unflatten(leaves)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Itô's: an update's noise is drawn for the weights before it."""
        return Calculus.ITO


def _examples(process: AbstractDescent) -> PyTree:
    return cast(Whole, process.source).examples


def _samples(process: AbstractDescent) -> int:
    return cast(Whole, process.source).samples or 0


def _loss(process: AbstractDescent, point: PyTree, batch: PyTree) -> Float[Array, ""]:
    """The loss of the weights whose learning arrays are given."""
    nothing = jax.tree.map(lambda _: None, point)
    return process.loss(process.assembled(point, nothing), batch)
