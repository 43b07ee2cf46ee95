"""Gradient flow, with or without the part that changes the size of weights."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._arguments import flag, function_of
from ..manifolds import State
from ._abstract import AbstractDrift


class Descent(AbstractDrift):
    """The velocity of gradient flow, dw/dt = -∇L(w), or of its part across the weights.

        dw/dt = -(g - (w·g) w/|w|²),   g = ∇L(w),   with `perpendicular`, array by array

    The second keeps |w| of every array: a loss falls only by the directions of weights, as on a
    product of spheres, and logits cannot grow for ever.

    **Arguments** `gradient`: ∇L, a function of weights; `perpendicular`: True or False. **Raises**
    ValueError for other values. **Example**

    >>> drift = rqf.drifts.Descent(lambda w: jnp.array([1.0, 2.0]), perpendicular=True)
    >>> [float(v) for v in drift(jnp.zeros(()), jnp.array([3.0, 3.0]))]
    [0.5, -0.5]

    Source: the ⊥-gradient is that of Prieto et al., arXiv:2501.04697 (its optimiser's code read).
    """

    gradient: Callable[[PyTree], PyTree]
    perpendicular: bool = eqx.field(static=True)

    def __init__(self, gradient: Callable[[PyTree], PyTree], *, perpendicular: bool = False):
        self.gradient = function_of("weights")("gradient", gradient)
        self.perpendicular = flag("perpendicular", perpendicular)

    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """The velocity of weights x."""
        slope: Any = self.gradient(x)
        if self.perpendicular:
            slope = jax.tree.map(across, slope, x)
        return jax.tree.map(jnp.negative, slope)


def across(v: Float[Array, "*shape"], w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The part of v that is perpendicular to w; all of it if w is zero."""
    square = jnp.sum(w * w)
    return v - jnp.sum(w * v) / jnp.where(square == 0, 1.0, square) * w
