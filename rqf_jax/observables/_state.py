"""The checks that every observable makes, and a norm with a gradient at zero."""

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
    return without_infinities(state)


def without_infinities(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` with NaN for infinite entries, so that no quotient makes a plausible number of them."""
    return jnp.where(jnp.isfinite(x), x, jnp.nan)


def for_all(value: float, x: Float[Array, "*shape"]) -> Float[Array, ""]:
    """`value`, the same for every state `x` of numbers; NaN if an entry is NaN."""
    return jnp.where(jnp.any(jnp.isnan(x)), jnp.nan, jnp.asarray(value, x.dtype))


def safe_sqrt(square: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Square root whose derivative at exactly 0 is 0 instead of infinity; NaN stays NaN.

    The inner `where` keeps the infinite slope out of the backward pass: an outer one alone would
    multiply it by zero.
    """
    zero = square == 0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))
