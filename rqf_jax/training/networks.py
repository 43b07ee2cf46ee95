"""Small networks whose noisy descent has closed forms: one array of weights, one number out."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import described


class AbstractNetwork(eqx.Module):
    """A function f(w, x) of one array of weights and one example, with gates on its units."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(
        self,
        weights: Float[Array, "..."],
        x: Float[Array, " features"],
        gates: Float[Array, " units"],
    ) -> Float[Array, ""]:
        """The output; a unit's activity is multiplied by its gate, which is 1 without dropout."""

    @abc.abstractmethod
    def units(self, weights: Float[Array, "..."]) -> int:
        """The number of units that have gates."""


class Regression(AbstractNetwork):
    """f = Σ w_i x_i g_i, one weight for each feature; the gates are on the inputs."""

    def __call__(
        self,
        weights: Float[Array, " features"],
        x: Float[Array, " features"],
        gates: Float[Array, " features"],
    ) -> Float[Array, ""]:
        """Σ w_i x_i g_i."""
        return jnp.sum(weights * x * gates)

    def units(self, weights: Float[Array, " features"]) -> int:
        """The number of features."""
        return weights.shape[0]


class Diagonal(AbstractNetwork):
    """f = Σ u_i v_i x_i g_i, two layers of one weight a feature; weights are u over v.

    With one feature x = 1 it is the product u v, whose minima of (uv - y)² are a hyperbola.
    """

    def __call__(
        self,
        weights: Float[Array, "2 features"],
        x: Float[Array, " features"],
        gates: Float[Array, " features"],
    ) -> Float[Array, ""]:
        """Σ u_i v_i x_i g_i."""
        return jnp.sum(weights[0] * weights[1] * x * gates)

    def units(self, weights: Float[Array, "2 features"]) -> int:
        """The number of features."""
        return weights.shape[1]
