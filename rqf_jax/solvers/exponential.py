"""Runge-Kutta steps that are exact in a stiff linear part."""

import math

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from .._sde import SDE
from ..drifts.semilinear import AbstractSemilinear, Remainder
from ..manifolds import AbstractLinearSpace, State
from ..noises import NoNoise
from ._abstract import AbstractStandaloneSolver

_TERMS = 14
"""Terms of the power series of φ_k, which is used for |z| < 1."""


class ExponentialRungeKutta(AbstractStandaloneSolver, diffrax.AbstractItoSolver):
    """Exponential time differencing of order 4, for `drifts.AbstractSemilinear` without noise.

        a = E v + Q N(v),   b = E v + Q N(a),   c = E a + Q (2 N(b) - N(v)),
        v ← e^z v + h [ (φ₁ - 3φ₂ + 4φ₃) N(v) + (2φ₂ - 4φ₃) (N(a) + N(b)) + (4φ₃ - φ₂) N(c) ]

    with z = rates h, E = e^{z/2}, Q = (h/2) φ₁(z/2), φ_k = φ_k(z): exact for N = 0, whatever the
    step. Source: Cox & Matthews, J. Comput. Phys. 176 (2002), in the φ functions of Kassam &
    Trefethen, SIAM J. Sci. Comput. 26 (2005), recalled; φ_k by power series near 0 here.
    """

    def advance(self, sde: SDE, t, h, x: State, dw: Float[Array, "*noise"]) -> State:
        """The four stages, in the basis of the linear part."""
        drift = sde.drift
        assert isinstance(drift, AbstractSemilinear)
        v, middle, end = drift.modes(x), t + h / 2, t + h
        # Modes may be complex where rates and the step are real.
        z, h = (drift.rates * h).astype(v.dtype), jnp.asarray(h, v.dtype)
        half, whole = jnp.exp(z / 2), jnp.exp(z)
        q = h / 2 * phi(z / 2)[0]
        first, second, third = phi(z)
        force = drift.nonlinear(t, v)
        a = half * v + q * force
        force_a = drift.nonlinear(middle, a)
        force_b = drift.nonlinear(middle, half * v + q * force_a)
        force_c = drift.nonlinear(end, half * a + q * (2 * force_b - force))
        gain = (first - 3 * second + 4 * third) * force
        gain += (2 * second - 4 * third) * (force_a + force_b) + (4 * third - second) * force_c
        return sde.manifold.project(drift.state(whole * v + h * gain))

    def explicit_part(self, sde: SDE) -> SDE:
        """The equation without its linear part, of which a step is exact."""
        assert isinstance(sde.drift, AbstractSemilinear)
        return SDE(Remainder(sde.drift), sde.noise, sde.manifold)

    def misfit(self, sde: SDE) -> str | None:
        """Anything but a semilinear drift without noise in a linear space."""
        if not isinstance(sde.drift, AbstractSemilinear):
            return f"{type(sde.drift).__name__} has no linear part that is diagonal in some basis"
        if not isinstance(sde.noise, NoNoise):
            return f"{type(sde.noise).__name__} is a noise"
        if not isinstance(sde.manifold, AbstractLinearSpace):
            return f"{type(sde.manifold).__name__} is not a linear space"
        return None

    def order(self, terms):
        """4."""
        return 4

    def strong_order(self, terms):
        """1."""
        return 1


def phi(z: Shaped[Array, "*modes"]) -> tuple[Shaped[Array, "*modes"], ...]:
    """φ₁, φ₂ and φ₃ of z: φ₀ = e^z and φ_{k+1} = (φ_k - 1/k!)/z."""
    small = jnp.abs(z) < 1
    far, near = jnp.where(small, 1, z), jnp.where(small, z, 0)
    found, last = [], jnp.exp(far)
    for k in (1, 2, 3):
        last = (last - 1 / math.factorial(k - 1)) / far
        series = jnp.zeros_like(near)
        for j in reversed(range(_TERMS)):
            series = series * near + 1 / math.factorial(k + j)
        found.append(jnp.where(small, series, last))
    return tuple(found)
