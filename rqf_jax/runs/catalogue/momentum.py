"""Models with momentum: a particle in a bath, and optimisers that do not forget their velocity."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ... import models, potentials
from ..._sde import SDE
from ._section import AbstractModel, NonNegative, State
from .closed_forms import STATIONARY, ClosedForms
from .states import PARTICLES

_NO_TOKENS = "its state has no tokens"
_POTENTIALS = {"quadratic": potentials.Quadratic, "quartic": potentials.Quartic}

Potential = Annotated[Literal["quadratic", "quartic"], Field(examples=["quadratic"])]
Positive = Annotated[float, Field(gt=0)]


def _gradient(potential: str, strength: float) -> Any:
    return _POTENTIALS[potential](strength).slope


class UnderdampedLangevin(AbstractModel):
    """`rqf_jax.models.underdamped_langevin`: a particle in a potential, in contact with a bath."""

    state: ClassVar[State] = PARTICLES
    needs_space: ClassVar[str | None] = _NO_TOKENS

    name: Literal["underdamped_langevin"]
    """The model."""
    potential: Potential
    """The potential of every coordinate: "quadratic" is strength q²/2, "quartic" strength q⁴/4."""
    strength: Annotated[NonNegative, Field(examples=[4.0])]
    """Its strength."""
    friction: Annotated[NonNegative, Field(examples=[4.0])]
    """Rate at which friction stops the particle, per unit time."""
    temperature: Annotated[NonNegative, Field(examples=[1.0])]
    """Temperature of the bath, an energy."""
    mass: Positive = 1.0
    """Mass of the particle."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.underdamped_langevin(
            _gradient(self.potential, self.strength),
            friction=self.friction,
            temperature=self.temperature,
            mass=self.mass,
        )

    def closed_forms(self, dim: int) -> ClosedForms:
        """E q² and E p² of Boltzmann's law, once the particle has forgotten its start."""
        if not (self.strength > 0 and self.friction > 0 and self.temperature > 0):
            return ClosedForms()
        square = self.temperature / self.strength
        if self.potential == "quartic":
            square = 2 * math.gamma(0.75) / math.gamma(0.25) * math.sqrt(square)
        # Of the spring that has the same E q²; a spring is its own.
        stiffness = self.temperature / square
        slowest = self.friction / 2 - math.sqrt(
            max(0.0, self.friction**2 / 4 - stiffness / self.mass)
        )
        from_here = STATIONARY / slowest

        def lasting(value: float):
            return lambda time: value if time >= from_here else math.nan

        means = {"q_squared": lasting(square), "p_squared": lasting(self.mass * self.temperature)}
        return ClosedForms(
            means=means, notes=(f"The particle has forgotten its start at t = {from_here:.4g}.",)
        )


class AbstractOptimiser(AbstractModel):
    """An optimiser with momentum in continuous time, on a strongly convex loss."""

    state: ClassVar[State] = PARTICLES
    needs_space: ClassVar[str | None] = _NO_TOKENS

    potential: Potential
    """The loss of every coordinate: "quadratic" is strength q²/2, "quartic" strength q⁴/4."""
    strength: Annotated[NonNegative, Field(examples=[4.0])]
    """Its strength."""
    convexity: Annotated[NonNegative, Field(examples=[1.0])]
    """The least curvature of the loss that the optimiser is told."""
    step: NonNegative = 0.0
    """Step length of the optimiser; 0 is the limit of short steps, the same for both optimisers."""


class HeavyBall(AbstractOptimiser):
    """`rqf_jax.models.heavy_ball`: Polyak's heavy ball in continuous time."""

    name: Literal["heavy_ball"]
    """The model."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        gradient = _gradient(self.potential, self.strength)
        return models.heavy_ball(gradient, convexity=self.convexity, step=self.step)

    def closed_forms(self, dim: int) -> ClosedForms:
        """The rate at which the position falls to the minimum."""
        return _rate(self.potential, self.strength, self.convexity, 0.0, self.step)


class Nesterov(AbstractOptimiser):
    """`rqf_jax.models.nesterov`: Nesterov's accelerated gradient, for a strongly convex loss."""

    name: Literal["nesterov"]
    """The model."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        gradient = _gradient(self.potential, self.strength)
        return models.nesterov(gradient, convexity=self.convexity, step=self.step)

    def closed_forms(self, dim: int) -> ClosedForms:
        """The rate at which the position falls to the minimum."""
        return _rate(self.potential, self.strength, self.convexity, self.step, self.step)


def _rate(
    potential: str, curvature: float, convexity: float, bend: float, step: float
) -> ClosedForms:
    """The rate of q'' + (2√μ + √bend h) q' + (1 + √(μ step)) h q = 0."""
    if potential != "quadratic":
        return ClosedForms()
    damping = math.sqrt(convexity) + math.sqrt(bend) * curvature / 2
    square = (1 + math.sqrt(convexity * step)) * curvature
    rate = damping - math.sqrt(max(0.0, damping**2 - square))
    return ClosedForms(notes=(f"The position falls to the minimum at the rate {rate:.4g}.",))
