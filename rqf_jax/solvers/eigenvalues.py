"""Steps of eigenvalues that keep their order, whatever the step length."""

import math
from typing import ClassVar

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._arguments import is_concrete
from .._linalg.spectral import eigenvalues
from .._sde import SDE
from ..drifts import Coulomb
from ..drifts.pull import decay, inverse_gaps, spread
from ..manifolds import WeylChamber
from ..noises import AbstractAdditiveNoise, SpectralNoise
from ._abstract import AbstractMemorylessSolver

_ITERATIONS = 50


class MatrixJump(AbstractMemorylessSolver, diffrax.AbstractItoSolver):
    """A Gaussian matrix is added to the diagonal matrix of eigenvalues, which are found anew.

        λ ← eigenvalues( e^{-κh} diag(λ) + √((1 - e^{-2κh})/(2κh)) G ),   G the noise's matrix

    Exact in law for Dyson's motion of β = 1 and 2 with a linear pull, for every step length,
    because the law of G does not change with the basis. With a potential beside the pull, half a
    step of its flow before and after (Strang splitting): weak order 2. For `drifts.Coulomb` with
    `noises.SpectralNoise`.
    """

    explicit: ClassVar[bool] = False

    def advance(
        self, sde: SDE, t, h, x: Float[Array, " n"], dw: Float[Array, "n n"]
    ) -> Float[Array, " n"]:
        """Half the potential's flow, the jump, half the flow."""
        drift, noise = sde.drift, sde.noise
        assert isinstance(drift, Coulomb) and isinstance(noise, SpectralNoise)
        if drift.potential is not None:
            x = drift.potential.flow(x, h / 2)
        jump = noise.matrix(spread(drift.rate, h) * dw)
        kept = jnp.diag(decay(drift.rate, h) * x).astype(jump.dtype)
        x = eigenvalues(kept + jump)
        return x if drift.potential is None else drift.potential.flow(x, h / 2)

    def misfit(self, sde: SDE) -> str | None:
        """Anything but the Coulomb gas of a Gaussian matrix, at its own temperature."""
        reason = _not_a_gas(sde)
        if reason is not None:
            return reason
        if not isinstance(sde.noise, SpectralNoise):
            return f"{type(sde.noise).__name__} is not the noise of a matrix (beta = 1 or 2)"
        assert isinstance(sde.drift, Coulomb)
        strength, g = sde.drift.strength, sde.noise.g
        if is_concrete((strength, g)):
            due = sde.noise.beta * np.asarray(g, float) ** 2
            if not np.allclose(np.asarray(strength, float), due, rtol=1e-5, atol=0):
                return f"its repulsion must be beta g² = {due}; got {strength}"
        return None

    def order(self, terms):
        """2 with a potential."""
        return 2

    def strong_order(self, terms):
        """0: a step forgets the eigenvectors, so that paths of different steps do not meet."""
        return 0


class BackwardEuler(AbstractMemorylessSolver, diffrax.AbstractItoSolver):
    """Repulsion and confinement at the end of the step: one point in the chamber, for any β ≥ 1.

        x = λ + g ΔB + h f(x),   the minimum over x_1 < … < x_n of
        ½|x - λ - g ΔB|² + h Σ_i U(x_i) - h β g² Σ_{i<j} ln(x_j - x_i)

    The function is strictly convex and infinite at the walls, so the point exists, is unique and
    keeps the order for every h (existence for such schemes: Ngo & Taguchi, AAP 2020, abstract
    read). Newton's method finds it in three to eight iterations; derivatives are those of the
    implicit function. A member for which 50 iterations do not suffice becomes NaN. Weak order 1;
    strong order 1 for β ≥ 2 and about 0.8 for β = 1 (measured).

    For `drifts.Coulomb` with additive noise on `manifolds.WeylChamber`.
    """

    explicit: ClassVar[bool] = False

    def advance(
        self, sde: SDE, t, h, x: Float[Array, " n"], dw: Float[Array, "*noise"]
    ) -> Float[Array, " n"]:
        """The root of x - λ - g ΔB - h f(x) in the chamber."""
        drift, target = sde.drift, x + sde.noise(t, x, dw)
        assert isinstance(drift, Coulomb)

        def residual(y):
            return y - target - h * drift(t, y)

        def solve(residual, start):
            return _newton(residual, lambda y: _hessian(drift, h, y), start, h * drift.strength)

        return lax.custom_root(residual, x, solve, _solve_linear)

    def misfit(self, sde: SDE) -> str | None:
        """Anything but a Coulomb gas with additive noise."""
        reason = _not_a_gas(sde)
        if reason is None and not isinstance(sde.noise, AbstractAdditiveNoise):
            return f"{type(sde.noise).__name__} is not additive"
        return reason

    def order(self, terms):
        """1."""
        return 1

    def strong_order(self, terms):
        """1 for β ≥ 2."""
        return 1


def _not_a_gas(sde: SDE) -> str | None:
    if not isinstance(sde.drift, Coulomb):
        return f"{type(sde.drift).__name__} is not the repulsion of eigenvalues"
    if not isinstance(sde.manifold, WeylChamber):
        return f"{type(sde.manifold).__name__} is not the chamber of ordered eigenvalues"
    return None


def _hessian(drift: Coulomb, h, x: Float[Array, " n"]) -> Float[Array, "n n"]:
    """1 + h U'' on the diagonal, and the Laplacian of the weights h β g²/(x_i - x_j)²."""
    weights = h * drift.strength * inverse_gaps(x) ** 2
    curvature = jax.jvp(drift.confinement, (x,), (jnp.ones_like(x),))[1]
    return jnp.diag(1 + h * curvature + jnp.sum(weights, 1)) - weights


def _newton(residual, hessian, start: Float[Array, " n"], barrier: Float[Array, ""]):
    """The root by Newton steps that go 0.8 of the way to the nearest wall at most."""
    # Gaps are first opened to √barrier, about what the repulsion of a step makes of them: from
    # gaps that are much smaller, the linear systems cannot be solved in float32.
    gaps = jnp.maximum(jnp.diff(start), jnp.sqrt(barrier))
    opened = jnp.concatenate([jnp.zeros_like(start[:1]), jnp.cumsum(gaps)])
    x = opened + jnp.mean(start - opened)
    # The error after a step of Newton decrement δ is of order δ².
    enough = 4 * math.sqrt(jnp.finfo(start.dtype).eps)

    scale = jnp.where(barrier > 0, barrier, 1.0)

    def unfinished(state):
        return (state[1] > enough) & (state[2] < _ITERATIONS)

    def iterate(state):
        x, _, count = state
        force = residual(x)
        step = -jnp.linalg.solve(hessian(x), force)
        gap, closing = jnp.diff(x), -jnp.diff(step)
        wall = jnp.min(jnp.where(closing > 0, gap / jnp.where(closing > 0, closing, 1.0), jnp.inf))
        decrement = jnp.sqrt(jnp.abs(jnp.sum(step * force)) / scale)
        return x + jnp.minimum(1.0, 0.8 * wall) * step, decrement, count + 1

    infinite = jnp.full((), jnp.inf, x.dtype)
    x, decrement, _ = lax.while_loop(unfinished, iterate, (x, infinite, 0))
    return jnp.where(decrement <= enough, x, jnp.nan)


def _solve_linear(linear, y: Float[Array, " n"]) -> Float[Array, " n"]:
    return jnp.linalg.solve(jax.jacobian(linear)(jnp.zeros_like(y)), y)
