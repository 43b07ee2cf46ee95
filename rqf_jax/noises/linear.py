"""Noise proportional to the state."""

import equinox as eqx
from jaxtyping import Array, Float

from .._arguments import scalar
from ..manifolds import AbstractManifold
from ._abstract import AbstractNoise, Calculus


class LinearNoise(AbstractNoise):
    """Every entry is multiplied by a random factor of its own.

        dx_i = sigma x_i ∘ dB_i   (Itô: plus sigma² x_i dt/2)

    An Itô equation with drift b has b - sigma² x/2 as its drift here. Under a linear drift a x an
    entry decays or grows at the almost sure rate a, and its p-th moment at p a + p² sigma²/2.
    sigma² is variance of ln |x| per unit time.

    Raises ValueError if sigma is negative or not a finite scalar.
    """

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def shape(self, x: Float[Array, "*state"]) -> tuple[int, ...]:
        """That of the state."""
        return x.shape

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "*state"], dw: Float[Array, "*state"]
    ) -> Float[Array, "*state"]:
        """sigma x dB, entry by entry."""
        return self.sigma * x * dw

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Its Itô correction is sigma² x/2."""
        return Calculus.STRATONOVICH
