"""The projective flow: shared matrix noise on the sphere, exactly as a linear map."""

import math
from typing import cast

import diffrax
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._sde import SDE
from .._unrolled import LIMIT, Unrolled, transform
from ..drifts import NoDrift
from ..manifolds import Sphere
from ..noises import AbstractMatrixNoise
from ._abstract import AbstractGeometricSolver

_EFFORT = ((0.125, 0, 4), (1.0, 1, 6), (math.inf, 3, 12))
"""Up to this control number, so many squarings, or this Taylor degree, are enough."""


class ProjectiveFlow(AbstractGeometricSolver, diffrax.AbstractStratonovichSolver):
    """Shared matrix noise as the normalised flow of a linear equation.

    dX = -P_X ∂A X on the sphere is what dY = -∂A Y looks like after normalising, so one step is

        x_a ← exp(Ω) x_a / |exp(Ω) x_a|,   Ω = `noise.log_flow(t, ΔB, h)`,

    one random linear map for all tokens. Weak order 2, strong order 1/2. A drift is added by
    Strang splitting: half a step of drift (midpoint rule), noise, half a step of drift.

    As the map is rotation invariant in law, three identities hold for EVERY step length: the mean
    angle of two tokens is conserved, P(two tokens end aligned) = 1 - θ/π, and E ln det G is
    linear in time. What h changes is the clock: keep the control number n h (sigma_s² +
    sigma_a²) below 1; above 2 `rqf_jax.simulate` warns.

    The exponential is a polynomial in Ω (a truncation keeps the three identities, being still one
    rotation-invariant map): for N ≥ n, and where n is tiny, exp(Ω) by scaling and squaring, else
    a Taylor polynomial applied to the tokens, of the degree that the control number asks for.

    Source: the projectivised linear flow is classical (see Engel & Shalova, arXiv:2603.06187, for
    this equation); the coefficients of Ω are derived in `IsotropicNoise.log_flow`.
    """

    def advance(
        self,
        sde: SDE,
        t,
        h,
        x: Float[Array, "tokens dim"],
        dw: Float[Array, "dim dim"],
    ) -> Float[Array, "tokens dim"]:
        """Half a drift step, the linear map, half a drift step."""
        with jax.default_matmul_precision("highest"):
            x = _drift(sde, t, h / 2, x)
            noise, dim = cast(AbstractMatrixNoise, sde.noise), x.shape[-1]
            if dim <= LIMIT:
                x = _unrolled_flow(noise.log_flow(t, Unrolled.of(dw), h), x)
            else:
                x = _flow(noise.log_flow(t, dw, h), x, noise.control(dim, h))
            x = sde.manifold.project(x)
            return _drift(sde, t + h / 2, h / 2, x)

    def misfit(self, sde: SDE) -> str | None:
        """Anything but a shared matrix noise on the sphere."""
        if not isinstance(sde.noise, AbstractMatrixNoise):
            return f"{type(sde.noise).__name__} is not one matrix shared by all tokens"
        if not isinstance(sde.manifold, Sphere):
            return f"{type(sde.manifold).__name__} is not the sphere"
        return None

    def order(self, terms):
        """2 without noise."""
        return 2

    def strong_order(self, terms):
        """1/2."""
        return 0.5


def _drift(sde: SDE, t, h, x: Float[Array, "*state"]) -> Float[Array, "*state"]:
    """The midpoint rule along geodesics, over a step h."""
    if isinstance(sde.drift, NoDrift):
        return x
    manifold = sde.manifold
    middle = manifold.retract(x, manifold.tangent(x, sde.drift(t, x) * (h / 2)))
    return manifold.retract(x, manifold.tangent(x, sde.drift(t + h / 2, middle) * h))


def _unrolled_flow(omega: Unrolled, x: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
    """exp(Ω) x_a for every token, entry by entry."""
    squarings = _EFFORT[-1][1]
    exponential = _polynomial(
        omega * 2.0**-squarings, Unrolled.of(jnp.eye(x.shape[-1], dtype=x.dtype))
    )
    for _ in range(squarings):
        exponential = exponential @ exponential
    return transform(exponential, x)


def _flow(
    omega: Float[Array, "dim dim"], x: Float[Array, "tokens dim"], control: Float[Array, ""]
) -> Float[Array, "tokens dim"]:
    """exp(Ω) x_a for every token, with no more products than the control number asks for."""
    tokens, dim = x.shape

    def with_effort(squarings, degree):
        if tokens >= dim:
            return lambda: transform(_exponential(omega, squarings), x)
        return lambda: _taylor(omega, x, degree)

    level = sum((control > bound).astype(jnp.int32) for bound, _, _ in _EFFORT[:-1])
    return lax.switch(level, [with_effort(*effort) for _, *effort in _EFFORT])


def _polynomial(omega, identity):
    """1 + Ω + Ω²/2 + Ω³/6 + Ω⁴/24 with two products."""
    square = omega @ omega
    return identity + omega + square @ (identity * 0.5 + omega * (1 / 6) + square * (1 / 24))


def _exponential(omega, squarings: int):
    """exp(Ω) ≈ p(Ω / 2^s)^(2^s)."""
    result = _polynomial(omega * 2.0**-squarings, jnp.eye(omega.shape[0], dtype=omega.dtype))
    for _ in range(squarings):
        result = result @ result
    return result


def _taylor(omega, x, degree: int):
    """Σ Ω^k x / k! for k up to `degree`."""
    total = term = x
    for k in range(1, degree + 1):
        term = (term @ omega.T) * (1 / k)
        total = total + term
    return total
