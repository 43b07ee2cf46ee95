"""Restricted Boltzmann machines, trained by persistent contrastive divergence."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._arguments import finite, integer, is_concrete, scalar, square
from ..laws import AbstractLaw
from ._data import drawing, examples
from ._process import AbstractProcess, mean_product, normal, product


class GaussianRBM(AbstractProcess[tuple[Array, Array]]):
    """A machine of Gaussian units that learns a covariance: the scalar field theory of the papers.

        p(v, h) ∝ exp(-μ²|v|²/2 - |h|²/2 + hᵀW v),   v alone has the precision μ² - WᵀW
        W ← W + α W (C - (1/B) Σ v vᵀ)

    The positive phase, with C the covariance of the data, is exact; the negative one is a mean over
    B persistent chains, which take `sweeps` sweeps v → h → v of block Gibbs sampling before every
    update. Squared singular values of W settle at μ² minus the eigenvalues of C⁻¹, those below μ².
    Degenerate ones stay apart by `theory.learning.machine_gap`.

    k sweeps are one draw: with M = WᵀW/μ² they take v to a Gaussian of mean M^k v and covariance
    (1 + M + … + M^{2k-1})/μ² (derived; a test compares them with the sweeps), so their number costs
    little. All chains start at v = (1, …, 1).

    A state is (W, chains).

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
    >>> weights, chains = machine.start(jax.random.key(0))
    >>> weights.shape, chains.shape
    ((3, 2), (2, 4))

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

    def start(
        self, key: PRNGKeyArray
    ) -> tuple[Float[Array, "hidden visible"], Float[Array, "visible batch"]]:
        """A draw of the law, and chains of ones."""
        weights = self.law(key)
        return weights, jnp.ones((weights.shape[1], self.batch), weights.dtype)

    def update(
        self,
        key: PRNGKeyArray,
        number: Int[Array, ""],
        state: tuple[Float[Array, "hidden visible"], Float[Array, "visible batch"]],
    ) -> tuple[Float[Array, "hidden visible"], Float[Array, "visible batch"]]:
        """`sweeps` sweeps of all chains and one step up the likelihood."""
        weights, chains = state
        carried, root = self._sweeps(weights)
        draws = normal(key, chains.shape, chains.dtype)
        chains = product(carried, chains) + product(root, draws)
        excess = self.covariance - mean_product(chains.T, chains.T)
        return weights + self.learning_rate * product(weights, excess), chains

    def weights(
        self, state: tuple[Float[Array, "hidden visible"], Float[Array, "visible batch"]]
    ) -> Float[Array, "hidden visible"]:
        """W."""
        return state[0]

    def _sweeps(
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


def _check_positive(name: str, matrix: Float[np.ndarray, "n n"]) -> None:
    skew = float(np.abs(matrix - matrix.T).max())
    if skew > 1e-5 * float(np.abs(matrix).max()):
        raise ValueError(f"`{name}` must be symmetric; got entries that differ by {skew:.3g}.")
    least = float(np.linalg.eigvalsh(matrix)[0])
    if not least > 0:
        raise ValueError(f"`{name}` must be positive definite; got the eigenvalue {least:.3g}.")


class BernoulliRBM(AbstractProcess[tuple[Array, Array, Array, Array]]):
    """A machine of binary units that learns binary data, such as images of digits.

        p(v, h) ∝ exp(hᵀW v + a·v + b·h),   v and h of zeros and ones
        W ← W + α [ (1/B) Σ p(v) vᵀ - (1/B) Σ p(v') v'ᵀ ],   p(v) = P(h = 1 | v)

    and the same for the biases a and b; v is a batch of B examples, drawn with replacement, and v'
    the state of B persistent chains, which take `sweeps` sweeps of block Gibbs sampling before
    every update. Chains start as random bits; a starts at the logit of the data's means, kept
    within [0.01, 0.99], and b at 0.

    Weights are (W, a, b), and a state has the chains besides.

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
    >>> [part.shape for part in machine.weights(machine.start(jax.random.key(0)))]
    [(3, 2), (2,), (3,)]
    """

    data: Float[Array, "samples visible"]
    law: AbstractLaw
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
        self.law = drawing(law, (None, self.data.shape[1]))
        self.learning_rate = scalar("learning_rate", minimum=0)(learning_rate)
        self.sweeps = integer("sweeps", sweeps)

    def start(
        self, key: PRNGKeyArray
    ) -> tuple[
        Float[Array, "hidden visible"],
        Float[Array, " visible"],
        Float[Array, " hidden"],
        Float[Array, "batch visible"],
    ]:
        """A draw of the law, biases, and chains of random bits."""
        law_key, chain_key = jax.random.split(key)
        weights = self.law(law_key)
        hidden, visible = weights.shape
        means = jnp.clip(self.data.mean(0), 0.01, 0.99).astype(weights.dtype)
        chains = jax.random.bernoulli(chain_key, 0.5, (self.batch, visible))
        logits = jnp.log(means) - jnp.log1p(-means)
        return weights, logits, jnp.zeros(hidden, weights.dtype), chains.astype(weights.dtype)

    def update(
        self,
        key: PRNGKeyArray,
        number: Int[Array, ""],
        state: tuple[
            Float[Array, "hidden visible"],
            Float[Array, " visible"],
            Float[Array, " hidden"],
            Float[Array, "batch visible"],
        ],
    ) -> tuple[
        Float[Array, "hidden visible"],
        Float[Array, " visible"],
        Float[Array, " hidden"],
        Float[Array, "batch visible"],
    ]:
        """`sweeps` sweeps of all chains and one step up the likelihood."""
        weights, visible_bias, hidden_bias, chains = state
        batch_key, *keys = jax.random.split(key, 1 + 2 * self.sweeps)
        chosen = jax.random.randint(batch_key, (self.batch,), 0, self.data.shape[0])
        batch = self.data[chosen]

        def hidden_means(visible):
            return jax.nn.sigmoid(product(visible, weights.T) + hidden_bias[None])

        for up, down in zip(keys[::2], keys[1::2], strict=True):
            hidden = _bits(up, hidden_means(chains))
            chains = _bits(down, jax.nn.sigmoid(product(hidden, weights) + visible_bias[None]))
        seen, dreamt = hidden_means(batch), hidden_means(chains)
        change = mean_product(seen, batch) - mean_product(dreamt, chains)
        return (
            weights + self.learning_rate * change,
            visible_bias + self.learning_rate * (batch - chains).mean(0),
            hidden_bias + self.learning_rate * (seen - dreamt).mean(0),
            chains,
        )

    def weights(
        self,
        state: tuple[
            Float[Array, "hidden visible"],
            Float[Array, " visible"],
            Float[Array, " hidden"],
            Float[Array, "batch visible"],
        ],
    ) -> tuple[Float[Array, "hidden visible"], Float[Array, " visible"], Float[Array, " hidden"]]:
        """(W, a, b)."""
        return state[:3]


def _bits(key: PRNGKeyArray, means: Float[Array, "rows units"]) -> Float[Array, "rows units"]:
    """Independent zeros and ones with the given means."""
    return jax.random.bernoulli(key, means).astype(means.dtype)
