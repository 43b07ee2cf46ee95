"""Flows of reference: a few numbers on an attractor, with or without noise."""

import abc
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ... import noises, systems
from ..._sde import SDE
from ...manifolds import Euclidean
from ...systems import Exponents
from ...theory import wells
from ._section import AbstractModel, ConfigError, NonNegative, State
from .closed_forms import STATIONARY, ClosedForms
from .states import NUMBERS

Positive = Annotated[float, Field(gt=0)]


class AbstractSystem(AbstractModel):
    """A flow of `rqf_jax.systems` beside the same noise for every number."""

    state: ClassVar[State] = NUMBERS
    needs_space: ClassVar[str | None] = "its state has no tokens"

    noise: NonNegative = 0.0
    """Strength of the noise, independent for every number, per square root of unit time."""

    @abc.abstractmethod
    def flow(self, dim: int) -> systems.AbstractFlow:
        """The drift, for so many numbers where it takes any."""

    def sde(self, dim: int) -> SDE:
        """The flow with its noise; ConfigError for another number of coordinates than it has."""
        flow = self.flow(dim)
        if not isinstance(flow, systems.DoubleWell) and flow.start.size != dim:
            name = self.name  # pyright: ignore[reportAttributeAccessIssue]
            raise ConfigError(
                f"law: must draw {flow.start.size} numbers, as many as {name} moves; got {dim}."
            )
        noise = noises.TokenNoise(self.noise) if self.noise else noises.NoNoise()
        return SDE(flow, noise, Euclidean())

    def closed_forms(self, dim: int) -> ClosedForms:
        """The exponents that were measured at the standard constants, and what they sum to."""
        flow = self.flow(dim)
        known = flow.exponents if not self.noise else None
        notes = ()
        if flow.divergence is not None:
            notes = (f"All Lyapunov exponents must sum to {float(flow.divergence):.6g}.",)
        return ClosedForms(exponents=known, notes=notes)


class Lorenz63(AbstractSystem):
    """`rqf_jax.systems.Lorenz63`: convection with three numbers, the butterfly."""

    name: Literal["lorenz_63"]
    """The model."""
    sigma: float = 10.0
    """Prandtl's number."""
    rho: float = 28.0
    """Rayleigh's number over its critical value."""
    beta: float = 8 / 3
    """From the aspect of the cells."""

    def flow(self, dim: int) -> systems.AbstractFlow:
        """The drift."""
        return systems.Lorenz63(self.sigma, self.rho, self.beta)


class Lorenz96(AbstractSystem):
    """`rqf_jax.systems.Lorenz96`: waves on a circle, as many numbers as the law draws."""

    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"normal": {"mean": [9.0] + [8.0] * 9}}
    )

    name: Literal["lorenz_96"]
    """The model."""
    forcing: float = 8.0
    """The force at every place."""

    def flow(self, dim: int) -> systems.AbstractFlow:
        """The drift; ConfigError for fewer than 4 numbers."""
        if dim < 4:
            raise ConfigError(f"law: must draw at least 4 numbers for lorenz_96; got {dim}.")
        return systems.Lorenz96(dim, self.forcing)


class KuramotoSivashinsky(AbstractSystem):
    """`rqf_jax.systems.KuramotoSivashinsky`: a wave on a ring, at as many points as the law has."""

    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"normal": {"mean": [0.0], "size": 192, "scale": 1.0}}
    )
    interval: ClassVar[float] = 1 / 32

    name: Literal["kuramoto_sivashinsky"]
    """The model."""
    advection: float = 100 / 16
    """Strength of the product of the wave and its slope, by which long waves feed short ones."""
    instability: NonNegative = 100 / 16**2
    """Growth of a wave by the square of its number."""
    viscosity: Positive = 100 / 16**4
    """Decay of a wave by the fourth power of its number."""

    def flow(self, dim: int) -> systems.AbstractFlow:
        """The drift; ConfigError for an odd number of points, or fewer than 8."""
        if dim < 8 or dim % 2:
            raise ConfigError(
                f"law: must draw an even number of at least 8 numbers for kuramoto_sivashinsky; "
                f"got {dim}."
            )
        numbers = self.advection, self.instability, self.viscosity
        return systems.KuramotoSivashinsky(dim, *numbers)


class Rossler(AbstractSystem):
    """`rqf_jax.systems.Rossler`: a band that stretches and folds."""

    name: Literal["rossler"]
    """The model."""
    a: float = 0.2
    """Growth of the rotation."""
    b: float = 0.2
    """Source of the third number."""
    c: float = 5.7
    """Place of the fold."""

    def flow(self, dim: int) -> systems.AbstractFlow:
        """The drift."""
        return systems.Rossler(self.a, self.b, self.c)


class Thomas(AbstractSystem):
    """`rqf_jax.systems.Thomas`: a particle in a lattice of forces."""

    name: Literal["thomas"]
    """The model."""
    friction: NonNegative = 0.18
    """Rate at which friction stops it, per unit time."""

    def flow(self, dim: int) -> systems.AbstractFlow:
        """The drift."""
        return systems.Thomas(self.friction)


class DoubleWell(AbstractSystem):
    """`rqf_jax.systems.DoubleWell`: numbers that jump between two wells."""

    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"normal": {"mean": [1.0]}}
    )

    name: Literal["double_well"]
    """The model."""
    noise: NonNegative = 0.7
    """Strength of the noise, independent for every number, per square root of unit time."""
    barrier: Positive = 0.25
    """Height of the hill between the wells."""
    position: Positive = 1.0
    """The wells are at this place and opposite of it."""

    def flow(self, dim: int) -> systems.AbstractFlow:
        """The drift."""
        return systems.DoubleWell(self.barrier, self.position)

    def closed_forms(self, dim: int) -> ClosedForms:
        """E x² of the stationary law and the exponent under one noise, once a well is forgotten."""
        if not self.noise:
            return ClosedForms()
        shape = {"barrier": self.barrier, "position": self.position}
        square = wells.moment(2, self.noise, **shape)
        exponent = wells.exponent(self.noise, **shape)
        # Within a well, where x² forgets its start; jumps leave it as it is.
        from_here = STATIONARY * self.position**2 / (4 * self.barrier)
        return ClosedForms(
            means={"x_squared": lambda time: square if time >= from_here else math.nan},
            exponents=Exponents((exponent,) * dim, (0.0,) * dim, "the stationary law"),
            notes=(
                f"A number jumps to the other well after {self._mean_time(shape):.4g} on average.",
            ),
        )

    def _mean_time(self, shape: dict[str, float]) -> float:
        return wells.passage_time(-self.position, self.position, self.noise, **shape)
