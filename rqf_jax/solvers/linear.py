"""The exact step of a linear pull with additive noise."""

import diffrax
from jaxtyping import Array, Float

from .._sde import SDE
from ..drifts import Pull
from ..drifts.pull import decay, spread
from ..manifolds import AbstractLinearSpace
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
