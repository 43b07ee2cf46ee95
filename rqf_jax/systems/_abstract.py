import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import described, is_concrete
from ..drifts import AbstractDrift
from ..laws import Normal


class Exponents(eqx.Module):
    """Lyapunov exponents that were measured, all or the largest few, each with one `stderr`.

    `values` and `stderr` are per unit time of a flow and per step of a map; `source` says by what
    they were found.
    """

    values: tuple[float, ...]
    stderr: tuple[float, ...]
    source: str = eqx.field(static=True)


class AbstractFlow(AbstractDrift):
    """The drift of an equation of reference, with what is known of it.

    All constants have standard values, `reference` holds exponents that were measured at these.
    """

    reference: ClassVar[Exponents | None] = None
    """Exponents at the standard constants, of which a subclass that knows some has a tuple."""

    @property
    @abc.abstractmethod
    def start(self) -> Float[Array, "*state"]:
        """A state from which the flow finds its attractor, where it has one."""

    @property
    @abc.abstractmethod
    def divergence(self) -> Float[Array, ""] | None:
        """∇·f, where it is the same in all states: the sum of all exponents. None elsewhere."""

    @property
    def exponents(self) -> Exponents | None:
        """Measured exponents, if the constants are the standard ones and some were measured."""
        if self.reference is None or not is_concrete(self):
            return None
        return self.reference if _equal(self, type(self)()) else None

    def law(self, scale: Any = 0.1) -> Normal:
        """Initial states around `start`: independent normal numbers of standard deviation `scale`.

        Raises ValueError for a negative `scale`.
        """
        return Normal(self.start.shape, scale, self.start)


def _equal(flow: eqx.Module, other: eqx.Module) -> bool:
    """True if all constants agree to rounding in the coarser type of the two."""
    ours, static = eqx.partition(flow, eqx.is_array)
    theirs, same = eqx.partition(other, eqx.is_array)
    if not eqx.tree_equal(static, same):
        return False
    pairs = zip(_leaves(ours), _leaves(theirs), strict=True)
    return all(np.allclose(a, b, rtol=1e-6, atol=0) for a, b in pairs)


def _leaves(module: Any) -> list[np.ndarray]:
    return [np.asarray(leaf, float) for leaf in jax.tree.leaves(module)]


def coordinates(x: Float[Array, "*state"], size: int, name: str) -> list[Float[Array, ""]]:
    """The numbers of a state, as many as a flow has; ValueError for a state of another shape."""
    if jnp.shape(x) != (size,):
        raise ValueError(f"`x` must have shape ({size},) for {name}; got shape {jnp.shape(x)}.")
    return [x[i] for i in range(size)]


class AbstractMap(eqx.Module):
    """A map x → T(x) of one state, iterated in steps of 1; see `orbit`."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """The next state."""

    @property
    @abc.abstractmethod
    def exponent(self) -> Float[Array, ""]:
        """The Lyapunov exponent per step, in closed form."""
