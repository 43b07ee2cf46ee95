"""Gradient descent with injected noise, and the slow flow that it follows along its minima."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .._arguments import finite, number, part, scalar
from .._sde import SDE
from ..drifts import AbstractDrift
from ..laws import AbstractLaw
from ..manifolds import Euclidean
from ..noises import NoNoise
from ._checks import drawing
from ._descent import AbstractDescent
from .data import AbstractSource, Whole
from .injections import (
    AbstractBatch,
    AbstractInjection,
    DropConnect,
    Dropout,
    LabelNoise,
    checked_injections,
)
from .networks import AbstractNetwork


class NoisyDescent(AbstractDescent):
    """Heavy-ball gradient descent of squared errors, with noise injected into every update.

        m ← b m + ∇L(w, η),   w ← w - α m,   L = (1/2n) Σ (f(w, x_i) - y_i)²

    η is what the `injections` draw (see `training.injections`); none is plain gradient descent.
    Where the network fits all data, w drifts slowly along the minima of L: see `slow_flow`.

    **Arguments**

    - `network`: f, one of `training.networks`; `law` draws the first w.
    - `inputs` (n, features), `targets` (n,): the data.
    - `learning_rate`: α ≥ 0.
    - `injections`: a tuple of `training.injections`.
    - `momentum`: b in [0, 1).

    **Raises** ValueError for other values or shapes and a batch larger than the data set.

    **Example**

    >>> process = rqf.training.NoisyDescent(
    ...     rqf.training.networks.Regression(), rqf.laws.Zeros((1,)), [[1.0], [1.0]], [2.0, 2.0],
    ...     learning_rate=0.5,
    ... )
    >>> runs = rqf.training.train(process, [0, 1, 2], seeds=1, key=jax.random.key(0))
    >>> [round(float(w), 6) for w in runs.ys[0, :, 0]]
    [0.0, 1.0, 1.5]

    Source: the framework of Shalova, Schlichting & Peletier, arXiv:2404.12293 (abstract read).
    """

    network: AbstractNetwork
    law: AbstractLaw
    inputs: Float[Array, "n features"]
    targets: Float[Array, " n"]
    learning_rate: Float[Array, ""]
    momentum: Float[Array, ""]
    injections: tuple[AbstractInjection, ...]

    def __init__(
        self,
        network: AbstractNetwork,
        law: AbstractLaw,
        inputs: Any,
        targets: Any,
        *,
        learning_rate: Any,
        injections: tuple[AbstractInjection, ...] = (),
        momentum: Any = 0.0,
    ):
        part(AbstractNetwork)("network", network)
        self.network = network
        self.law = drawing(law)
        self.inputs = finite("inputs", inputs)
        self.targets = finite("targets", targets)
        if self.inputs.ndim != 2 or self.targets.shape != self.inputs.shape[:1]:
            raise ValueError(
                "`inputs` and `targets` must be of shapes (n, features) and (n,); got "
                f"{self.inputs.shape} and {self.targets.shape}."
            )
        self.learning_rate = scalar("learning_rate", minimum=0)(learning_rate)
        self.momentum = number(minimum=0, below=1)("momentum", momentum)
        self.injections = checked_injections(injections, self.targets.size)

    @property
    def source(self) -> AbstractSource:
        """Inputs, targets, and gates that are open."""

        def gates(key):
            return jnp.ones((self.targets.size, self.network.units(self.law(key))))

        shape = eqx.filter_eval_shape(gates, jax.random.key(0)).shape
        return Whole((self.inputs, self.targets, jnp.ones(shape, self.inputs.dtype)))

    def optimiser(self) -> optax.GradientTransformation:
        """A heavy ball."""
        return optax.sgd(cast(Any, self.learning_rate), cast(Any, self.momentum))

    def loss(
        self, weights: Float[Array, "..."], batch: tuple[Array, Array, Array]
    ) -> Float[Array, ""]:
        """Half the mean squared error."""
        inputs, targets, gates = batch
        outputs = jax.vmap(self.network, (None, 0, 0))(weights, inputs, gates)
        return jnp.mean((outputs - targets) ** 2) / 2


def slow_flow(process: NoisyDescent) -> SDE:
    """The flow along the minima that a noisy descent follows for small α; time counts updates.

    With P the projector on the directions in which no output changes,

        dw/dk = -rate P ∇R(w)

    Label noise:   rate α²σ²,       R = (1/4B) mean_i |∇_w f_i|²   (flatter minima)
    Dropout:       rate α p/(1-p),  R = (1/2) mean_i Σ_j (∂f_i/∂g_j)²
    DropConnect:   rate α p/(1-p),  R = (1/2) mean_i Σ_j (w_j ∂f_i/∂w_j)²

    with B the examples of an update. So per gradient time αk label noise is slower the smaller α,
    and dropout is not: the two clocks. Momentum b replaces α by α/(1 - b). Batches alone leave
    every minimum where it is, and no flow is known here for `Langevin` noise.

    Start it on a minimum and `simulate` it: `simulate(slow_flow(process), Fixed(w), updates, ...)`.
    Raises ValueError unless there is one injection of the three, with or without a batch.

    Source: the two time scales are those of Shalova, Schlichting & Peletier, arXiv:2404.12293
    (abstract read); label noise as Li, Wang & Arora 2021 (recalled); formulas derived and checked
    against the descent.
    """
    part(NoisyDescent)("process", process)
    batches = [each.batch for each in process.injections if isinstance(each, AbstractBatch)]
    others = [each for each in process.injections if not isinstance(each, AbstractBatch)]
    if len(others) != 1 or not isinstance(others[0], LabelNoise | Dropout | DropConnect):
        names = ", ".join(type(each).__name__ for each in process.injections) or "none"
        raise ValueError(
            "`process` must have one injection of LabelNoise, Dropout and DropConnect, besides "
            f"batches; got {names}."
        )
    batch = min([process.targets.size, *batches])
    return SDE(SlowDrift(process, others[0], batch), NoNoise(), Euclidean())


class SlowDrift(AbstractDrift):
    """-rate P ∇R(w), the velocity of `slow_flow`."""

    process: NoisyDescent
    injection: LabelNoise | Dropout | DropConnect
    batch: int = eqx.field(static=True)

    def __call__(self, t: Float[Array, ""], x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """The velocity at weights x, per update."""
        gradient = jax.grad(self._penalty)(x).reshape(-1)
        jacobian = self._output_gradients(x).reshape(self.process.targets.size, -1)
        seen = jnp.matmul(jacobian, gradient, precision="highest")
        normal = jnp.matmul(jnp.linalg.pinv(jacobian), seen, precision="highest")
        return -self._rate() * (gradient - normal).reshape(x.shape)

    def _rate(self) -> Float[Array, ""]:
        step = self.process.learning_rate / (1 - self.process.momentum)
        if isinstance(self.injection, LabelNoise):
            return (step * self.injection.sigma) ** 2
        return step * self.injection.rate / (1 - self.injection.rate)

    def _penalty(self, weights: Float[Array, "*state"]) -> Float[Array, ""]:
        """R, from the outputs' derivatives by what the injection makes random."""
        if isinstance(self.injection, LabelNoise):
            gradients = self._output_gradients(weights)
            return jnp.sum(gradients**2) / (4 * self.batch * self.process.targets.size)
        if isinstance(self.injection, Dropout):
            gradients = self._by_example(1, weights)
        else:
            gradients = weights[None] * self._output_gradients(weights)
        return jnp.sum(gradients**2) / (2 * self.process.targets.size)

    def _output_gradients(self, weights: Float[Array, "*state"]) -> Float[Array, "n *state"]:
        return self._by_example(0, weights)

    def _by_example(self, argument: int, weights: Float[Array, "*state"]) -> Float[Array, "n ..."]:
        """Gradients of all outputs by the weights (0) or the gates (1)."""
        network = self.process.network
        gates = jnp.ones(network.units(weights), weights.dtype)

        def output(weights, gates, x):
            return network(weights, x, gates)

        return jax.vmap(jax.grad(output, argument), (None, None, 0))(
            weights, gates, self.process.inputs
        )
