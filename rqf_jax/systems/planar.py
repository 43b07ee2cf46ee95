"""Equations of one and two numbers."""

import equinox as eqx
from jaxtyping import Array, Float

from .._arguments import scalar
from ._abstract import AbstractFlow


class DoubleWell(AbstractFlow):
    """Every number by itself in two wells, the places to jump between under noise.

        f = -U'(x),   U = barrier (1 - (x/position)²)²

    The standard values are f = x - x³. With the noise `noises.TokenNoise(sigma)` the stationary
    law is ∝ exp(-2U/sigma²), and jumps have Kramers' rate: `theory.wells`.

    `barrier` > 0 is the height of the hill between the wells, which are at ±`position`, > 0. Raises
    ValueError for other numbers.
    """

    barrier: Float[Array, ""] = eqx.field(converter=scalar("barrier", minimum=1e-30), default=0.25)
    position: Float[Array, ""] = eqx.field(converter=scalar("position", minimum=1e-15), default=1.0)

    def __call__(self, t: Float[Array, ""], x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """-U'."""
        steepness = 4 * self.barrier / self.position**2
        return steepness * x * (1 - (x / self.position) ** 2)

    @property
    def start(self) -> Float[Array, " 1"]:
        """One number, in the well on the right."""
        return self.position[None]

    @property
    def divergence(self) -> None:
        """None: the wells contract, and the hill expands."""
        return None
