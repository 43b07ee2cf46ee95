"""Strange attractors of three numbers."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import scalar
from ._abstract import AbstractFlow, Exponents, coordinates


class Rossler(AbstractFlow):
    """A band that stretches and folds, the simplest continuous chaos.

        ẋ = -y - z,   ẏ = x + a y,   ż = b + z (x - c)

    `a`, `b`, `c` are the constants; exponents are known at 0.2, 0.2, 5.7. The exponents sum to
    a - c + E x. Raises ValueError for numbers that are not finite and, when called, for a state
    that is not three numbers. Source: Rössler, Phys. Lett. A 57 (1976).
    """

    a: Float[Array, ""] = eqx.field(converter=scalar("a"), default=0.2)
    b: Float[Array, ""] = eqx.field(converter=scalar("b"), default=0.2)
    c: Float[Array, ""] = eqx.field(converter=scalar("c"), default=5.7)

    reference: ClassVar[Exponents | None] = Exponents(
        (0.0705, 0.0008, -5.3970),
        (0.0010, 0.0010, 0.0012),
        "32 members over 1000 time units, Dopri5 with h = 1/50, float64",
    )

    def __call__(self, t: Float[Array, ""], x: Float[Array, " 3"]) -> Float[Array, " 3"]:
        """The velocity."""
        first, second, third = coordinates(x, 3, "Rossler")
        return jnp.stack(
            [-second - third, first + self.a * second, self.b + third * (first - self.c)]
        )

    @property
    def start(self) -> Float[Array, " 3"]:
        """(1, 1, 0), inside the band."""
        one = jnp.ones_like(self.a)
        return jnp.stack([one, one, 0 * one])

    @property
    def divergence(self) -> None:
        """None: it is a - c + x."""
        return None


class Thomas(AbstractFlow):
    """A particle in a lattice of forces, with a symmetry that turns the three axes.

        ẋ = sin y - b x,   ẏ = sin z - b y,   ż = sin x - b z

    `friction` is b; the divergence is -3b, and exponents are known at 0.18. Raises ValueError
    for a negative number and, when called, for a state that is not three numbers.
    Source: Thomas, Int. J. Bifurcation Chaos 9 (1999), recalled.
    """

    friction: Float[Array, ""] = eqx.field(converter=scalar("friction", minimum=0), default=0.18)

    reference: ClassVar[Exponents | None] = Exponents(
        (0.0348, 0.0000, -0.5748),
        (0.0008, 0.0002, 0.0008),
        "64 members over 2000 time units, Dopri5 with h = 1/10, float64",
    )

    def __call__(self, t: Float[Array, ""], x: Float[Array, " 3"]) -> Float[Array, " 3"]:
        """The velocity."""
        first, second, third = coordinates(x, 3, "Thomas")
        return jnp.stack([jnp.sin(second), jnp.sin(third), jnp.sin(first)]) - self.friction * x

    @property
    def start(self) -> Float[Array, " 3"]:
        """(1.1, 1.1, -0.01), off the diagonal, which no orbit leaves."""
        return jnp.asarray([1.1, 1.1, -0.01], self.friction.dtype)

    @property
    def divergence(self) -> Float[Array, ""]:
        """-3b."""
        return -3 * self.friction
