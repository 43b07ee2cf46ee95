"""Equations of one and two numbers."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import scalar
from ._abstract import AbstractFlow, Exponents, coordinates


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


class LotkaVolterra(AbstractFlow):
    """Prey x and predators y, both positive, on closed orbits.

        ẋ = x (α - β y),   ẏ = y (δ x - γ)

    **Arguments**

    - `growth`: α > 0 of the prey; `predation`: β > 0, its losses by one predator.
    - `death`: γ > 0 of the predators; `feeding`: δ > 0, their growth by one prey.

    `invariant` is the same along an orbit, so that both exponents are 0.

    **Raises** ValueError for numbers that are not positive and, when called, for a state that is
    not two numbers.

    **Example**

    >>> flow = rqf.systems.LotkaVolterra()
    >>> bool(jnp.all(flow(0.0, jnp.array([flow.death / flow.feeding, 0.5])) == 0))
    True

    Source: Lotka (1910) and Volterra (1926).
    """

    growth: Float[Array, ""] = eqx.field(converter=scalar("growth", minimum=1e-30), default=2 / 3)
    predation: Float[Array, ""] = eqx.field(
        converter=scalar("predation", minimum=1e-30), default=4 / 3
    )
    death: Float[Array, ""] = eqx.field(converter=scalar("death", minimum=1e-30), default=1.0)
    feeding: Float[Array, ""] = eqx.field(converter=scalar("feeding", minimum=1e-30), default=1.0)

    reference: ClassVar[Exponents | None] = Exponents((0.0, 0.0), (0.0, 0.0), "orbits are closed")

    def __call__(self, t: Float[Array, ""], x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """The velocity."""
        prey, predators = coordinates(x, 2, "LotkaVolterra")
        return jnp.stack(
            [
                prey * (self.growth - self.predation * predators),
                predators * (self.feeding * prey - self.death),
            ]
        )

    def invariant(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        """H = δ x - γ ln x + β y - α ln y, which no time changes."""
        prey, predators = coordinates(x, 2, "LotkaVolterra")
        own = self.feeding * prey - self.death * jnp.log(prey)
        return own + self.predation * predators - self.growth * jnp.log(predators)

    @property
    def start(self) -> Float[Array, " 2"]:
        """Twice the prey of the state of rest, and its predators."""
        return jnp.stack([2 * self.death / self.feeding, self.growth / self.predation])

    @property
    def divergence(self) -> None:
        """None: it is α - β y + δ x - γ."""
        return None


class Duffing(AbstractFlow):
    """A beam that bends to either side, shaken in time: the state is (q, p).

        q̇ = p,   ṗ = -δ p - α q - β q³ + γ cos(ω t)

    **Arguments**

    - `damping`: δ ≥ 0.
    - `linear`: α, negative for two wells; `cubic`: β.
    - `amplitude`: γ, and `frequency`: ω in radians per unit time, of the force.

    The divergence is -δ. Exponents are of the two numbers, without the one of time, which is 0;
    they are known at 0.3, -1, 1, 0.5, 1.2.

    **Raises** ValueError for numbers that are not finite, a negative damping and, when called, for
    a state that is not two numbers.

    **Example**

    >>> flow = rqf.systems.Duffing()
    >>> [float(v) for v in flow(jnp.zeros(()), jnp.array([0.0, 0.0]))]
    [0.0, 0.5]

    Source: Duffing (1918); chaotic constants from Ueda's kind of studies, recalled.
    """

    damping: Float[Array, ""] = eqx.field(converter=scalar("damping", minimum=0), default=0.3)
    linear: Float[Array, ""] = eqx.field(converter=scalar("linear"), default=-1.0)
    cubic: Float[Array, ""] = eqx.field(converter=scalar("cubic"), default=1.0)
    amplitude: Float[Array, ""] = eqx.field(converter=scalar("amplitude"), default=0.5)
    frequency: Float[Array, ""] = eqx.field(converter=scalar("frequency"), default=1.2)

    reference: ClassVar[Exponents | None] = Exponents(
        (0.1057, -0.4057),
        (0.0014, 0.0014),
        "128 members over 1000 time units, Dopri5 with h = 1/20, float64",
    )

    def __call__(self, t: Float[Array, ""], x: Float[Array, " 2"]) -> Float[Array, " 2"]:
        """The velocity."""
        q, p = coordinates(x, 2, "Duffing")
        force = self.amplitude * jnp.cos(self.frequency * jnp.asarray(t, q.dtype))
        return jnp.stack([p, force - self.damping * p - self.linear * q - self.cubic * q**3])

    @property
    def start(self) -> Float[Array, " 2"]:
        """(1, 0)."""
        one = jnp.ones_like(self.damping)
        return jnp.stack([one, 0 * one])

    @property
    def divergence(self) -> Float[Array, ""]:
        """-δ."""
        return -self.damping
