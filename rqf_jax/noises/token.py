"""Noise of its own for every token (or for every entry of a flat state)."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import scalar
from ..manifolds import AbstractManifold
from ._abstract import AbstractAdditiveNoise, Calculus


class TokenNoise(AbstractAdditiveNoise):
    """Independent Brownian motion of every token.

        dx_a = sigma P_{x_a} ∘ dW_a,   W_a independent standard Brownian motions in R^n

    On the sphere each token is Brownian with generator (sigma²/2) Δ, so that
    E<x_t, x_0> = exp(-(n-1) sigma² t / 2); on flat space it is additive noise. `sigma²` is
    variance per unit time and ambient direction.

    Raises ValueError if `sigma` is negative or not a finite scalar.
    """

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def shape(self, x: Float[Array, "*state"]) -> tuple[int, ...]:
        """The shape of the state."""
        return x.shape

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "*state"], dw: Float[Array, "*state"]
    ) -> Float[Array, "*state"]:
        """sigma dW."""
        return self.sigma * dw

    @property
    def isotropic(self) -> bool:
        """True: normal vectors have no axis."""
        return True

    def covariance(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens tokens"]:
        """sigma² of every token with itself."""
        return self.sigma**2 * jnp.eye(x.shape[0], dtype=x.dtype)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Constant in flat space, rotation invariant on the sphere: the readings agree."""
        return Calculus.EITHER
