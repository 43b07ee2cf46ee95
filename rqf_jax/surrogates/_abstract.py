"""A learned law of the next state, given the states before it."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._arguments import Key, described, floating, part, shown


class AbstractSurrogate(eqx.Module):
    """A map or a law that continues a path, with weights to be learned from paths.

    `objective` is what training makes small, on one window of a path. `begin` reads states of the
    past, and `step` draws the next one; between them travels a memory of fixed size, so that many
    long paths are one program. `size` is how many numbers a state has.
    """

    size: eqx.AbstractVar[int]

    __repr__ = described

    @abc.abstractmethod
    def objective(self, window: Float[Array, "times size"]) -> Float[Array, ""]:
        """A mean over the steps of a window: of nats, or of squared errors."""

    @abc.abstractmethod
    def begin(self, past: Float[Array, "times size"]) -> PyTree[Array]:
        """The memory after these states, the last of which is the present."""

    @abc.abstractmethod
    def step(self, key: Key, memory: PyTree[Array]) -> tuple[PyTree[Array], Float[Array, " size"]]:
        """The memory one step later, and the state there."""


def loss(surrogate: AbstractSurrogate, windows: Float[Array, "batch times size"]) -> Any:
    """The mean objective of a batch of windows: the loss of a `training.Process`.

    `surrogate` is one of `rqf_jax.surrogates`, `windows` an array as `windows` makes it. Returns
    one number. Raises ValueError for windows of states of another size.

    **Example**

    >>> flow = rqf.surrogates.AlmostLinear(1, latent=3, pieces=1, key=jax.random.key(0))
    >>> rqf.surrogates.loss(flow, jnp.zeros((2, 5, 1))).shape
    ()
    """
    part(AbstractSurrogate)("surrogate", surrogate)
    return jnp.mean(jax.vmap(surrogate.objective)(batch_of(surrogate, windows)))


def batch_of(surrogate: AbstractSurrogate, windows: Any) -> Float[Array, "batch times size"]:
    """`windows` as an array; ValueError unless their states are of the surrogate's size."""
    windows = floating("windows", windows)
    if windows.ndim != 3 or not windows.size or windows.shape[-1] != surrogate.size:
        raise ValueError(
            f"`windows` must have shape (batch, times, {surrogate.size}) for this `surrogate`; got "
            f"{shown(windows)}. `rqf_jax.surrogates.windows` cuts paths into windows."
        )
    return windows
