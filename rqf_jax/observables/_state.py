"""The check of a state that every observable makes, and a norm with a gradient at zero."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import floating


def one_state(x: Any, name: str = "x") -> Float[Array, "tokens dim"]:
    """`x` as a float array of one state; ValueError if it has other axes or no entries."""
    state = floating(name, x)
    if state.ndim != 2 or 0 in state.shape:
        raise ValueError(
            f"`{name}` must be one state (tokens, dim); got shape {state.shape}. "
            "Map over members and times with `runs.observe` or `jax.vmap`."
        )
    return state


def safe_sqrt(square: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Square root whose derivative at exactly 0 is 0 instead of infinity; NaN stays NaN.

    The inner `where` keeps the infinite slope out of the backward pass: an outer one alone would
    multiply it by zero.
    """
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))
