"""Exact steps of linear drifts: alone, with additive noise, and between steps of a potential."""

from typing import ClassVar

import diffrax
from jaxtyping import Array, Float

from .._linalg.exponential import flow
from .._sde import SDE
from ..drifts import Linear, MatrixWell, Pull
from ..drifts.pull import decay, spread
from ..manifolds import AbstractLinearSpace, Euclidean, Hermitian, Sphere, Symmetric
from ..noises import AbstractAdditiveNoise, NoNoise
from ._abstract import AbstractMemorylessSolver


class LinearFlow(AbstractMemorylessSolver, diffrax.AbstractItoSolver):
    """The flow of a linear drift without noise: exact for every step length.

        x_a ← exp(V h) x_a in flat space,   x_a ← exp(V h) x_a / |exp(V h) x_a| on the sphere

    So an antisymmetric V keeps lengths and overlaps to rounding, and the Oja flow ends in the
    leading eigenvector however long a step is. For `drifts.Linear` with `noises.NoNoise`. Source:
    classical; the normalised flow solves dX = P_X V X dt by the product rule.
    """

    explicit: ClassVar[bool] = False

    def advance(
        self, sde: SDE, t, h, x: Float[Array, "tokens dim"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "tokens dim"]:
        """exp(V h) applied to every token."""
        assert isinstance(sde.drift, Linear)
        return flow(sde.drift.matrix_for(x) * h, x, sde.manifold.project)

    def misfit(self, sde: SDE) -> str | None:
        """Anything but a linear drift without noise, in flat space or on the sphere."""
        if not isinstance(sde.drift, Linear):
            return f"{type(sde.drift).__name__} is not linear"
        if not isinstance(sde.noise, NoNoise):
            return f"{type(sde.noise).__name__} is a noise"
        if not isinstance(sde.manifold, Euclidean | Sphere):
            return f"{type(sde.manifold).__name__} is neither flat space nor the sphere"
        return None

    def order(self, terms):
        """Exact."""
        return 2

    def strong_order(self, terms):
        """Exact."""
        return 1


class ExactOU(AbstractMemorylessSolver, diffrax.AbstractItoSolver):
    """The Ornstein-Uhlenbeck transition: exact in law for every step length.

        x ← T + e^{-κh} (x - T) + √((1 - e^{-2κh})/(2κh)) P g ΔB

    For `drifts.Pull` with additive noise of any covariance, in flat space or a linear subspace of
    it. One step between saves is enough; with several, the path at their ends is exact too, and
    the paths of different step lengths agree to strong order 1. Source: the variation of constants
    formula; the pull is a number, so it commutes with every noise.
    """

    explicit: ClassVar[bool] = False

    def advance(
        self, sde: SDE, t, h, x: Float[Array, "*state"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "*state"]:
        """The Gaussian transition."""
        assert isinstance(sde.drift, Pull)
        kept = decay(sde.drift.rate, h) - 1
        deviation = sde.manifold.tangent(x, sde.drift.deviation(x))
        noise = sde.manifold.tangent(x, sde.noise(t, x, dw))
        return sde.manifold.retract(x, kept * deviation + spread(sde.drift.rate, h) * noise)

    def misfit(self, sde: SDE) -> str | None:
        """Anything but a pull with additive noise in a linear space."""
        if not isinstance(sde.drift, Pull):
            return f"{type(sde.drift).__name__} is not a linear pull"
        if not isinstance(sde.noise, AbstractAdditiveNoise):
            return f"{type(sde.noise).__name__} is not additive"
        if not isinstance(sde.manifold, AbstractLinearSpace):
            return f"{type(sde.manifold).__name__} is not a linear space"
        return None

    def order(self, terms):
        """Exact."""
        return 2

    def strong_order(self, terms):
        """1, beside the same path in smaller steps."""
        return 1


class Strang(AbstractMemorylessSolver, diffrax.AbstractItoSolver):
    """Half a step of a potential's flow, the step of `ExactOU`, half a step of the flow again.

    Weak order 2 (Strang), and stable for every step length where the flow is: the noise is never
    multiplied by the force. Strong order 1. For `drifts.MatrixWell` with additive noise on
    `manifolds.Symmetric` (beta = 1) or `manifolds.Hermitian` (beta = 2).
    """

    explicit: ClassVar[bool] = False

    def advance(
        self, sde: SDE, t, h, x: Float[Array, "n n"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "n n"]:
        """The three steps."""
        drift = sde.drift
        assert isinstance(drift, MatrixWell)
        linear = SDE(drift.pull, sde.noise, sde.manifold)
        x = ExactOU().advance(linear, t, h, drift.flow(x, h / 2), dw)
        return sde.manifold.project(drift.flow(x, h / 2))

    def misfit(self, sde: SDE) -> str | None:
        """Anything but a matrix in a well with additive noise, in the space of its kind."""
        if not isinstance(sde.drift, MatrixWell):
            return f"{type(sde.drift).__name__} is not the well of a matrix"
        if not isinstance(sde.noise, AbstractAdditiveNoise):
            return f"{type(sde.noise).__name__} is not additive"
        space = Symmetric if sde.drift.beta == 1 else Hermitian
        if not isinstance(sde.manifold, space):
            return f"{type(sde.manifold).__name__} is not {space.__name__}"
        return None

    def order(self, terms):
        """2."""
        return 2

    def strong_order(self, terms):
        """1."""
        return 1
