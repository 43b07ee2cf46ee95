import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import described
from ..manifolds import State


class AbstractDrift(eqx.Module):
    """The deterministic velocity f(t, x) of one state x at time t."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """Ambient velocity of one state; the SDE projects it on the tangent space."""

    @property
    def spans(self) -> bool:
        """True if the velocity is made of the tokens and their overlaps alone, in any dimension.

        Then `laws.InSpan` may replace tokens by their coordinates in their span. False unless a
        drift says so.
        """
        return False


class NoDrift(AbstractDrift):
    """f = 0: motion by noise alone (solvers skip it, it costs nothing)."""

    @property
    def spans(self) -> bool:
        """True."""
        return True

    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """Zero velocity."""
        return jax.tree.map(jnp.zeros_like, x)
