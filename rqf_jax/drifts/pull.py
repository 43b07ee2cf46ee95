"""The drifts of weight matrices and of their eigenvalues: a linear pull, and a Coulomb gas."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import finite, maybe, part, scalar
from ..potentials import AbstractPotential
from ._abstract import AbstractDrift


def decay(rate: Float[Array, ""], h: Float[Array, ""]) -> Float[Array, ""]:
    """e^{-κh}, what a pull leaves of a deviation after a time h."""
    return jnp.exp(-rate * h)


def spread(rate: Float[Array, ""], h: Float[Array, ""]) -> Float[Array, ""]:
    """√((1 - e^{-2κh})/(2κh)): a pull's factor on Gaussian noise that entered during a time h."""
    x = 2 * rate * h
    # The quotient is analytic in x; the series keeps value and gradient exact at x = 0.
    small = x < 1e-3
    safe = jnp.where(small, 1.0, x)
    return jnp.sqrt(jnp.where(small, 1 - x / 2 + x**2 / 6, -jnp.expm1(-safe) / safe))


class Pull(AbstractDrift):
    """A linear pull to a target: weight decay, or gradient descent on a quadratic loss.

        f = -rate (x - target)

    With additive noise this is an Ornstein-Uhlenbeck process, which `solvers.ExactOU` steps without
    error. `rate` ≥ 0 is per unit time; `target` is one state, or a number for all entries.

    Raises ValueError for a negative rate, a target that is not finite and, when called, one that
    has not the state's shape.
    """

    rate: Float[Array, ""] = eqx.field(converter=scalar("rate", minimum=0))
    target: Float[Array, "..."]

    def __init__(self, rate: Any, target: Any = 0.0):
        self.rate = rate
        self.target = finite("target", target)

    def __call__(self, t: Float[Array, ""], x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """-rate (x - target)."""
        return -self.rate * self.deviation(x)

    def deviation(self, x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """x - target."""
        if self.target.shape not in ((), x.shape):
            raise ValueError(
                f"`target` must have the shape of a state, {x.shape}; got {self.target.shape}."
            )
        return x - self.target


class Coulomb(AbstractDrift):
    """Eigenvalues that repel each other in a well: a gas of charges on the line.

        f_i = strength Σ_{j≠i} 1/(λ_i - λ_j) - rate λ_i - V'(λ_i)

    With noise √2 g dB_i and strength = β g² this is Dyson's motion, stationary with density
    Π|λ_i - λ_j|^β exp(-Σ U(λ_i)/g²), U = rate λ²/2 + V. The state is the vector of eigenvalues in
    strictly ascending order. `strength` and `rate` are ≥ 0; `potential` is V, one of
    `rqf_jax.potentials`, or None.

    Raises ValueError for negative numbers and for a potential of another kind.
    """

    strength: Float[Array, ""] = eqx.field(converter=scalar("strength", minimum=0))
    rate: Float[Array, ""] = eqx.field(converter=scalar("rate", minimum=0))
    potential: AbstractPotential | None

    def __init__(self, strength: Any, rate: Any = 0.0, potential: AbstractPotential | None = None):
        self.strength = strength
        self.rate = rate
        self.potential = maybe(part(AbstractPotential))("potential", potential)

    def __call__(self, t: Float[Array, ""], x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Repulsion, pull and the force of the potential."""
        return self.strength * jnp.sum(inverse_gaps(x), 1) - self.confinement(x)

    def confinement(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """rate λ + V'(λ), for each eigenvalue by itself."""
        pull = self.rate * x
        return pull if self.potential is None else pull + self.potential.slope(x)


class TwoLayer(AbstractDrift):
    """Gradient descent of a linear network with one hidden layer.

        f_U = -rate (U Vᵀ - T) V,   f_V = -rate (U Vᵀ - T)ᵀ U

    The negative gradient of rate |U Vᵀ - T|²/2. `target` is T, m × n; the state is U over V, an
    array (m + n, hidden). Raises ValueError for a negative rate, a target that is no matrix and,
    when called, a state of another size.
    """

    rate: Float[Array, ""] = eqx.field(converter=scalar("rate", minimum=0))
    target: Float[Array, "m n"]

    def __init__(self, rate: Any, target: Any):
        self.rate = rate
        self.target = finite("target", target)
        if self.target.ndim != 2:
            raise ValueError(f"`target` must be a matrix; got shape {self.target.shape}.")

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "both hidden"]
    ) -> Float[Array, "both hidden"]:
        """Both layers' velocities, one over the other."""
        rows, columns = self.target.shape
        if x.ndim != 2 or x.shape[0] != rows + columns:
            raise ValueError(
                f"`x` must have {rows + columns} rows, those of both layers; got shape {x.shape}."
            )
        left, right = x[:rows], x[rows:]
        error = jnp.matmul(left, right.T, precision="highest") - self.target
        moved = [
            jnp.matmul(error, right, precision="highest"),
            jnp.matmul(error.T, left, precision="highest"),
        ]
        return -self.rate * jnp.concatenate(moved)


def inverse_gaps(x: Float[Array, " n"]) -> Float[Array, "n n"]:
    """1/(λ_i - λ_j), with zeros on the diagonal."""
    self_pair = jnp.eye(x.size, dtype=bool)
    return jnp.where(self_pair, 0.0, 1 / jnp.where(self_pair, 1.0, x[:, None] - x[None, :]))
