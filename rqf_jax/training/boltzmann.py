"""Restricted Boltzmann machines, trained by persistent contrastive divergence."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from .._arguments import Key, finite, integer, is_concrete, scalar, square
from ..laws import AbstractLaw
from ._abstract import mean_product, normal, product, quadratic
from ._checks import drawing, examples
from ._descent import AbstractDescent
from .data import AbstractSource
from .injections import AbstractInjection

Machine = tuple[Float[Array, "hidden visible"], Float[Array, " visible"], Float[Array, " hidden"]]
"""(W, a, b), the weights of a machine with biases."""


class GaussianRBM(AbstractDescent):
    """A machine of Gaussian units that learns a covariance: the scalar field theory of the papers.

        p(v, h) ∝ exp(-μ²|v|²/2 - |h|²/2 + hᵀW v),   v alone has the precision μ² - WᵀW
        W ← W + α W (C - (1/B) Σ v vᵀ)

    The positive phase, with C the covariance of the data, is exact; the negative one is a mean over
    B persistent chains, which take `sweeps` sweeps v → h → v of block Gibbs sampling before every
    update. Squared singular values of W settle at μ² minus the eigenvalues of C⁻¹, those below μ².
    Degenerate ones stay apart by `theory.learning.machine_gap`.

    k sweeps are one draw: with M = WᵀW/μ² they take v to a Gaussian of mean M^k v and covariance
    (1 + M + … + M^{2k-1})/μ² (derived; a test compares them with the sweeps), so their number costs
    little. All chains start at v = (1, …, 1). Weights are W.

    **Arguments**

    - `covariance`: C (visible, visible), symmetric and positive.
    - `law`: the law of the first W (hidden, visible).
    - `mass`: μ > 0; `learning_rate`: α ≥ 0.
    - `batch`: the number B of chains; `sweeps`: k sweeps before every update.

    **Raises** ValueError for other values or shapes and for a covariance that is not symmetric and
    positive.

    **Example**

    >>> machine = rqf.training.GaussianRBM(
    ...     jnp.eye(2), rqf.laws.Normal((3, 2), 0.1), mass=2.0, learning_rate=0.1, batch=4
    ... )
    >>> rqf.training.train(machine, [0, 10], seeds=5, key=jax.random.key(0)).ys.shape
    (5, 2, 3, 2)

    Source: Aarts, Lucini & Park, arXiv:2407.16427, through its released program (read): 10 + 10
    units, C⁻¹ circulant with 6 on the diagonal and -1 beside it, μ = 3, k = 3, B = 16, α = 0.1, W
    of standard deviation 0.1.
    """

    covariance: Float[Array, "visible visible"]
    law: AbstractLaw
    mass: Float[Array, ""]
    learning_rate: Float[Array, ""]
    batch: int = eqx.field(static=True)
    sweeps: int = eqx.field(static=True)

    def __init__(
        self,
        covariance: Any,
        law: AbstractLaw,
        *,
        mass: Any,
        learning_rate: Any,
        batch: int,
        sweeps: int = 3,
    ):
        self.covariance = square("covariance")(covariance)
        if is_concrete(self.covariance):
            _check_positive("covariance", np.asarray(self.covariance, float))
        self.law = drawing(law, (None, self.covariance.shape[0]))
        self.mass = scalar("mass")(mass)
        if is_concrete(self.mass) and not self.mass > 0:
            raise ValueError(f"`mass` must be positive; got {float(self.mass):g}.")
        self.learning_rate = scalar("learning_rate", minimum=0)(learning_rate)
        self.batch = integer("batch", batch)
        self.sweeps = integer("sweeps", sweeps)

    @property
    def source(self) -> AbstractSource:
        """The chains."""
        return _GaussianChains(self)

    @property
    def injections(self) -> tuple[AbstractInjection, ...]:
        """None: the chains are random enough."""
        return ()

    def optimiser(self) -> optax.GradientTransformation:
        """Plain descent."""
        return optax.sgd(cast(Any, self.learning_rate))

    def loss(
        self, weights: Float[Array, "hidden visible"], batch: Float[Array, "visible batch"]
    ) -> Float[Array, ""]:
        """The energy of the chains over that of the data, ½ tr W ((1/B) Σ v vᵀ - C) Wᵀ."""
        return quadratic(weights, mean_product(batch.T, batch.T) - self.covariance)

    def sweep(
        self, weights: Float[Array, "hidden visible"]
    ) -> tuple[Float[Array, "visible visible"], Float[Array, "visible visible"]]:
        """M^k, and a root of the covariance of what k sweeps add."""
        step = product(weights.T, weights) / self.mass**2
        one = jnp.eye(step.shape[0], dtype=step.dtype)
        # S = 1 + M + … + M^{k-1}, then S + S M^k.
        power, total = step, one
        for _ in range(self.sweeps - 1):
            power, total = product(power, step), total + power
        return power, jnp.linalg.cholesky(total + product(total, power)) / self.mass


class _GaussianChains(AbstractSource):
    """Persistent chains of a Gaussian machine, the same number in every update."""

    machine: GaussianRBM

    @property
    def samples(self) -> None:
        """None: chains move on."""
        return None

    def start(self, key: Key, weights: Float[Array, "hidden visible"]) -> Array:
        """Chains of ones."""
        return jnp.ones((weights.shape[1], self.machine.batch), weights.dtype)

    def __call__(
        self, key: Key, number: Int[Array, ""], weights: PyTree, memory: Array
    ) -> tuple[Array, Array]:
        """All chains after their sweeps."""
        carried, root = self.machine.sweep(weights)
        draws = normal(key, memory.shape, memory.dtype)
        chains = product(carried, memory) + product(root, draws)
        return chains, chains


def _check_positive(name: str, matrix: Float[np.ndarray, "n n"]) -> None:
    skew = float(np.abs(matrix - matrix.T).max())
    if skew > 1e-5 * float(np.abs(matrix).max()):
        raise ValueError(f"`{name}` must be symmetric; got entries that differ by {skew:.3g}.")
    least = float(np.linalg.eigvalsh(matrix)[0])
    if not least > 0:
        raise ValueError(f"`{name}` must be positive definite; got the eigenvalue {least:.3g}.")


class BernoulliRBM(AbstractDescent):
    """A machine of binary units that learns binary data, such as images of digits.

        p(v, h) ∝ exp(hᵀW v + a·v + b·h),   v and h of zeros and ones
        W ← W + α [ (1/B) Σ p(v) vᵀ - (1/B) Σ p(v') v'ᵀ ],   p(v) = P(h = 1 | v)

    and the same for the biases a and b; v is a batch of B examples, drawn with replacement, and v'
    the state of B persistent chains, which take `sweeps` sweeps of block Gibbs sampling before
    every update. Chains start as random bits; a starts at the logit of the data's means, kept
    within [0.01, 0.99], and b at 0.

    Weights are (W, a, b).

    **Arguments**

    - `data`: (samples, visible), zeros and ones.
    - `law`: the law of the first W (hidden, visible).
    - `learning_rate`: α ≥ 0.
    - `batch`: the number B of examples and of chains; `sweeps`: sweeps before every update.

    **Raises** ValueError for other values or shapes and for a batch larger than the data set.

    **Example**

    >>> machine = rqf.training.BernoulliRBM(
    ...     [[0, 1], [1, 1]], rqf.laws.Normal((3, 2), 0.1), learning_rate=0.1, batch=2
    ... )
    >>> runs = rqf.training.train(machine, [0, 10], seeds=5, key=jax.random.key(0))
    >>> [part.shape for part in runs.ys]
    [(5, 2, 3, 2), (5, 2, 2), (5, 2, 3)]
    """

    data: Float[Array, "samples visible"]
    matrix_law: AbstractLaw
    learning_rate: Float[Array, ""]
    batch: int = eqx.field(static=True)
    sweeps: int = eqx.field(static=True)

    def __init__(
        self, data: Any, law: AbstractLaw, *, learning_rate: Any, batch: int, sweeps: int = 1
    ):
        self.batch = integer("batch", batch)
        array = finite("data", data)
        self.data = examples("data", array, array.shape[-1] if array.ndim else 0, self.batch)
        if is_concrete(self.data) and not np.isin(np.asarray(self.data), (0, 1)).all():
            values = np.asarray(self.data)
            bad = values[~np.isin(values, (0, 1))].flat[0]
            raise ValueError(f"`data` must be zeros and ones; got {bad:g}.")
        self.matrix_law = drawing(law, (None, self.data.shape[1]))
        self.learning_rate = scalar("learning_rate", minimum=0)(learning_rate)
        self.sweeps = integer("sweeps", sweeps)

    def law(self, key: Key) -> Machine:
        """A draw of W, the logits of the data's means, and zeros."""
        weights = self.matrix_law(key)
        means = jnp.clip(self.data.mean(0), 0.01, 0.99).astype(weights.dtype)
        logits = jnp.log(means) - jnp.log1p(-means)
        return weights, logits, jnp.zeros(weights.shape[0], weights.dtype)

    @property
    def source(self) -> AbstractSource:
        """Batches of the data, each with as many chains."""
        return _BinaryChains(self)

    @property
    def injections(self) -> tuple[AbstractInjection, ...]:
        """None: batches and chains are random enough."""
        return ()

    def optimiser(self) -> optax.GradientTransformation:
        """Plain descent."""
        return optax.sgd(cast(Any, self.learning_rate))

    def loss(self, weights: Machine, batch: tuple[Array, Array]) -> Float[Array, ""]:
        """The free energy of the data over that of the chains, F = -a·v - Σ ln(1 + e^{Wv + b})."""
        matrix, visible_bias, hidden_bias = weights
        seen, dreamt = batch
        both = jnp.concatenate([seen, dreamt])
        energies = -jnp.matmul(both, visible_bias, precision="highest") - _softplus(
            product(both, matrix.T) + hidden_bias[None]
        ).sum(1)
        return jnp.mean(energies[: len(seen)]) - jnp.mean(energies[len(seen) :])


class _BinaryChains(AbstractSource):
    """Examples of the data beside the persistent chains of a binary machine."""

    machine: BernoulliRBM

    @property
    def samples(self) -> None:
        """None: chains move on."""
        return None

    def start(self, key: Key, weights: Machine) -> Float[Array, "batch visible"]:
        """Chains of random bits."""
        matrix = weights[0]
        return _bits(key, jnp.full((self.machine.batch, matrix.shape[1]), 0.5, matrix.dtype))

    def __call__(
        self, key: Key, number: Int[Array, ""], weights: Machine, memory: Array
    ) -> tuple[tuple[Array, Array], Array]:
        """A batch, drawn with replacement, and all chains after their sweeps."""
        matrix, visible_bias, hidden_bias = weights
        data, chains = self.machine.data, memory
        batch_key, *keys = jax.random.split(key, 1 + 2 * self.machine.sweeps)
        chosen = jax.random.randint(batch_key, (self.machine.batch,), 0, data.shape[0])
        for up, down in zip(keys[::2], keys[1::2], strict=True):
            hidden = _bits(up, jax.nn.sigmoid(product(chains, matrix.T) + hidden_bias[None]))
            chains = _bits(down, jax.nn.sigmoid(product(hidden, matrix) + visible_bias[None]))
        return (data[chosen], chains), chains


def _bits(key: Key, means: Float[Array, "rows units"]) -> Float[Array, "rows units"]:
    """Independent zeros and ones with the given means."""
    return jax.random.bernoulli(key, means).astype(means.dtype)


@jax.custom_jvp
def _softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """ln(1 + e^x), with the derivative that needs no logarithm."""
    return jax.nn.softplus(x)


_softplus.defjvps(lambda dx, _, x: jax.nn.sigmoid(x) * dx)
