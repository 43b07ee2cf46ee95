"""Drifts with a stiff linear part that a change of basis makes diagonal."""

import abc

from jaxtyping import Array, Float, Shaped

from ..manifolds import State
from ._abstract import AbstractDrift


class AbstractSemilinear(AbstractDrift):
    """A drift f = L x + N(t, x) with L diagonal in some basis, such as Fourier's.

        v = modes(x),   modes(f) = rates v + nonlinear(t, v),   x = state(v)

    `solvers.ExponentialRungeKutta` is exact in L, however stiff it is. To add a drift, write one
    final class with these four methods. Modes may be complex.
    """

    @property
    @abc.abstractmethod
    def rates(self) -> Shaped[Array, "*modes"]:
        """The eigenvalues of L, in the order of the modes."""

    @abc.abstractmethod
    def modes(self, x: State) -> Shaped[Array, "*modes"]:
        """The coefficients of a state in the basis, linear in it."""

    @abc.abstractmethod
    def state(self, v: Shaped[Array, "*modes"]) -> State:
        """The state of coefficients."""

    @abc.abstractmethod
    def nonlinear(self, t: Float[Array, ""], v: Shaped[Array, "*modes"]) -> Shaped[Array, "*modes"]:
        """The coefficients of N(t, x), from those of x."""

    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """Both parts."""
        v = self.modes(x)
        return self.state(self.rates.astype(v.dtype) * v + self.nonlinear(t, v))


class Remainder(AbstractDrift):
    """The part N(t, x) of a semilinear drift by itself."""

    drift: AbstractSemilinear

    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """N(t, x)."""
        return self.drift.state(self.drift.nonlinear(t, self.drift.modes(x)))
