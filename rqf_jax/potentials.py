"""Potentials that confine numbers, each by itself: eigenvalues, or a particle's coordinates."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._arguments import described, scalar

__all__ = [
    "AbstractPotential",
    "Quadratic",
    "Quartic",
]


def __dir__() -> list[str]:
    return __all__


class AbstractPotential(eqx.Module):
    """A convex function V of one number. To add one, write one final class with these two methods.

    `slope` is what `solvers.BackwardEuler` asks for, `flow` what the splitting of
    `solvers.MatrixJump` does.
    """

    __repr__ = described

    @abc.abstractmethod
    def slope(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """V'(x), elementwise and nondecreasing."""

    @abc.abstractmethod
    def flow(self, x: Float[Array, " n"], h: Float[Array, ""]) -> Float[Array, " n"]:
        """The point that dx/dt = -V'(x) reaches from `x` in a time h, elementwise."""


class Quadratic(AbstractPotential):
    """V = strength x²/2, a spring.

    `strength` is its stiffness. Raises ValueError if it is negative or not a finite scalar.
    """

    strength: Float[Array, ""] = eqx.field(converter=scalar("strength", minimum=0))

    def __init__(self, strength: Any = 1.0):
        self.strength = strength

    def slope(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """strength x."""
        return self.strength * x

    def flow(self, x: Float[Array, " n"], h: Float[Array, ""]) -> Float[Array, " n"]:
        """e^(-strength h) x."""
        return jnp.exp(-self.strength * h) * x


class Quartic(AbstractPotential):
    """V = strength x⁴/4.

    Raises ValueError if `strength` is negative or not a finite scalar.
    """

    strength: Float[Array, ""] = eqx.field(converter=scalar("strength", minimum=0))

    def __init__(self, strength: Any = 1.0):
        self.strength = strength

    def slope(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """strength x³."""
        return self.strength * x**3

    def flow(self, x: Float[Array, " n"], h: Float[Array, ""]) -> Float[Array, " n"]:
        """x/√(1 + 2 strength x² h)."""
        return x / jnp.sqrt(1 + 2 * self.strength * h * x**2)
