"""The exact step of a linear pull with additive noise, also between steps of a potential."""

import diffrax
from jaxtyping import Array, Float

from .._sde import SDE
from ..drifts import MatrixWell, Pull
from ..drifts.pull import decay, spread
from ..manifolds import AbstractLinearSpace, Hermitian, Symmetric
from ..noises import AbstractAdditiveNoise
from ._abstract import AbstractMemorylessSolver


class ExactOU(AbstractMemorylessSolver, diffrax.AbstractItoSolver):
    """The Ornstein-Uhlenbeck transition: exact in law for every step length.

        x ← T + e^{-κh} (x - T) + √((1 - e^{-2κh})/(2κh)) P g ΔB

    For `drifts.Pull` with additive noise of any covariance, in flat space or a linear subspace of
    it. One step between saves is enough; with several, the path at their ends is exact too, and
    the paths of different step lengths agree to strong order 1. Source: the variation of constants
    formula; the pull is a number, so it commutes with every noise.
    """

    def advance(
        self, sde: SDE, t, h, x: Float[Array, "*state"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "*state"]:
        """The Gaussian transition."""
        assert isinstance(sde.drift, Pull)
        kept = decay(sde.drift.rate, h) - 1
        deviation = sde.manifold.tangent(x, sde.drift.deviation(x))
        noise = sde.manifold.tangent(x, sde.noise(t, x, dw))
        return x + kept * deviation + spread(sde.drift.rate, h) * noise

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

    def advance(
        self, sde: SDE, t, h, x: Float[Array, "n n"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "n n"]:
        """The three steps."""
        drift = sde.drift
        assert isinstance(drift, MatrixWell)
        linear = SDE(drift.pull, sde.noise, sde.manifold)
        return drift.flow(ExactOU().advance(linear, t, h, drift.flow(x, h / 2), dw), h / 2)

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
