import abc
import enum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import described
from ..manifolds import AbstractManifold, State


class Calculus(enum.Enum):
    """The kind of solver that converges to the Stratonovich equation with a noise."""

    STRATONOVICH = "a Stratonovich solver (GeodesicHeun, or any of diffrax's)"
    """The general case: the noise coefficient must be seen twice in a step."""

    EITHER = "any solver"
    """The Itô and the Stratonovich reading agree on this manifold."""

    ITO = "GeodesicEuler or ProjectedEuler"
    """The increment is drawn for the state at the start of a step and is good for that state
    alone, so a step may use it once."""

    LAYER = "ProjectedEuler"
    """The same, and what projecting back on the manifold adds at second order is a part of the
    equation."""


class AbstractNoise(eqx.Module):
    """The response of one state to the increment of a Brownian motion.

    To add a noise, write one final class with these three methods; a solver never sees a
    (state x noise) matrix, only the displacement. `calculus` returns `Calculus.STRATONOVICH` for
    every noise that is a function of t, x and dw. The others are `EITHER`, where no Itô correction
    appears on the manifold, and `ITO` or `LAYER`, where what is drawn is good for the state at the
    start of a step alone.

    **Example** of noise along the mean token, g(x) dB = strength * mean(x) dB:

    >>> import equinox as eqx
    >>> class AlongTheMean(rqf.noises.AbstractNoise):
    ...     strength: jax.Array = eqx.field(converter=jnp.asarray)
    ...
    ...     def shape(self, x):  # one Brownian motion for all tokens
    ...         return (1,)
    ...
    ...     def __call__(self, t, x, dw):
    ...         return jnp.broadcast_to(self.strength * dw[0] * x.mean(axis=0), x.shape)
    ...
    ...     def calculus(self, manifold):
    ...         return rqf.noises.Calculus.STRATONOVICH
    >>> AlongTheMean(0.5)
    AlongTheMean(strength=0.5)
    """

    __repr__ = described

    @abc.abstractmethod
    def shape(self, x: State) -> tuple[int, ...]:
        """The shape of the standard Brownian motion that drives a state like `x`."""

    @abc.abstractmethod
    def __call__(self, t: Float[Array, ""], x: State, dw: Float[Array, "*noise"]) -> State:
        """The ambient displacement of one state by the increment `dw`; linear in `dw`."""

    @property
    def spans(self) -> bool:
        """True if the overlaps of tokens move by the same law in every dimension that holds them.

        Then `laws.InSpan` may replace tokens by their coordinates in their span. False unless a
        noise says so.
        """
        return False

    @property
    def isotropic(self) -> bool:
        """True if tokens have one covariance S in all directions, E dx_ai dx_bj = S_ab δ_ij dt.

        Then the noise has a method `covariance(t, x)` that returns S, and `UnitOutput` may
        normalise the outputs. False unless a noise says so.
        """
        return False

    @abc.abstractmethod
    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """The kind of solver that this noise needs on `manifold`."""


class AbstractAdditiveNoise(AbstractNoise):
    """A noise g ∘ dB that is the same at every time and state: g(t, x) = g."""


class NoNoise(AbstractAdditiveNoise):
    """g = 0: the equation is an ordinary differential equation."""

    @property
    def spans(self) -> bool:
        """True: nothing is drawn."""
        return True

    def shape(self, x: State) -> tuple[int, ...]:
        """No Brownian motion at all: shape (0,)."""
        return (0,)

    def __call__(self, t: Float[Array, ""], x: State, dw: Float[Array, "*noise"]) -> State:
        """Zero displacement."""
        return jax.tree.map(jnp.zeros_like, x)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """An ordinary differential equation has no Itô correction."""
        return Calculus.EITHER
