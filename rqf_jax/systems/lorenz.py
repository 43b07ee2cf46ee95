"""Lorenz's two models of the weather."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import integer, scalar
from ._abstract import AbstractFlow, Exponents, coordinates


class Lorenz63(AbstractFlow):
    """Convection with three numbers (x, y, z).

        ẋ = σ (y - x),   ẏ = x (ρ - z) - y,   ż = x y - β z

    **Arguments**

    - `sigma`: σ, Prandtl's number.
    - `rho`: ρ, Rayleigh's number over its critical value.
    - `beta`: β, from the aspect of the cells.

    The divergence is -(σ + 1 + β) everywhere, and (x, y, z) → (-x, -y, z) is a symmetry. Exponents
    are known at 10, 28, 8/3.

    **Raises** ValueError for numbers that are not finite and, when called, for a state that is not
    three numbers.

    **Example**

    >>> flow = rqf.systems.Lorenz63()
    >>> print(flow(0.0, jnp.array([1.0, 1.0, 1.0]))[:2], round(float(flow.divergence), 4))
    [ 0. 26.] -13.6667

    Source: Lorenz, J. Atmos. Sci. 20 (1963).
    """

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma"), default=10.0)
    rho: Float[Array, ""] = eqx.field(converter=scalar("rho"), default=28.0)
    beta: Float[Array, ""] = eqx.field(converter=scalar("beta"), default=8 / 3)

    reference: ClassVar[Exponents | None] = Exponents(
        (0.9039, 0.0002, -14.5708),
        (0.0008, 0.0003, 0.0008),
        "128 members over 300 time units, Dopri5 with h = 1/64, float64",
    )

    def __call__(self, t: Float[Array, ""], x: Float[Array, " 3"]) -> Float[Array, " 3"]:
        """The velocity."""
        a, b, c = coordinates(x, 3, "Lorenz63")
        return jnp.stack([self.sigma * (b - a), a * (self.rho - c) - b, a * b - self.beta * c])

    @property
    def start(self) -> Float[Array, " 3"]:
        """(1, 1, ρ - 1), between the rolls; some paths from there spiral for 50 units of time."""
        return jnp.stack([jnp.ones_like(self.rho), jnp.ones_like(self.rho), self.rho - 1])

    @property
    def divergence(self) -> Float[Array, ""]:
        """-(σ + 1 + β)."""
        return -(self.sigma + 1 + self.beta)


class Lorenz96(AbstractFlow):
    """Waves on a circle of latitude, N numbers in a ring.

        ẋ_i = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F

    The product term keeps Σ x_i², so that every state falls into the ball |x| ≤ F √N; the
    divergence is -N everywhere. `size` is N ≥ 4, `forcing` F; exponents are known at 10 and 8.

    Raises ValueError for N < 4 and, when called, for a state that is not N numbers.
    Source: Lorenz (1996); read in Lorenz & Emanuel, J. Atmos. Sci. 55 (1998), recalled.
    """

    size: int = eqx.field(static=True)
    forcing: Float[Array, ""]

    reference: ClassVar[Exponents | None] = Exponents(
        (1.186, 0.700, 0.097, -0.010, -0.431, -0.871, -1.323, -1.935, -2.815, -4.597),
        (0.008, 0.007, 0.006, 0.003, 0.007, 0.007, 0.006, 0.008, 0.011, 0.013),
        "64 members over 200 time units, Dopri5 with h = 1/50, float64",
    )

    def __init__(self, size: int = 10, forcing: Any = 8.0):
        self.size = integer("size", size, minimum=4)
        self.forcing = scalar("forcing")(forcing)

    def __call__(self, t: Float[Array, ""], x: Float[Array, " N"]) -> Float[Array, " N"]:
        """The velocity."""
        if jnp.shape(x) != (self.size,):
            raise ValueError(f"`x` must have shape ({self.size},); got shape {jnp.shape(x)}.")
        return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + self.forcing

    @property
    def start(self) -> Float[Array, " N"]:
        """The state x_i = F of rest, which is unstable for F > 8/9, pushed at one place."""
        rest = jnp.full(self.size, self.forcing)
        return rest.at[0].add(1)

    @property
    def divergence(self) -> Float[Array, ""]:
        """-N."""
        return jnp.full_like(self.forcing, -self.size)
