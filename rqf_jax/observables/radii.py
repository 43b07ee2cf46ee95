"""Tokens that keep their radii: lengths, directions, and pairs of either."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._state import one_state, safe_sqrt
from .overlaps import overlaps


def radii(x: Float[Array, "tokens dim"]) -> Float[Array, " tokens"]:
    """|x_a| of every token.

    The gradient at a token that is 0 is returned as 0 (a subgradient). Raises ValueError if `x` is
    not one state (tokens, dim).
    """
    x = one_state(x)
    return safe_sqrt(jnp.sum(x * x, -1))


def directions(x: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
    """x_a/|x_a| of every token: a state on the sphere, for observables of unit tokens.

    `angles(directions(x))` keeps the relative accuracy of small angles. NaN for a token that is 0.
    Raises ValueError if `x` is not one state (tokens, dim).
    """
    return one_state(x) / radii(x)[:, None]


def cosines(x: Float[Array, "tokens dim"]) -> Float[Array, " pairs"]:
    """<x_a, x_b>/|x_a||x_b| of every pair of tokens, in the order of `overlaps`.

    NaN for pairs with a token that is 0. Raises ValueError if `x` is not one state (tokens, dim).
    """
    return overlaps(directions(x))


def log_radius_ratio(x: Float[Array, "tokens dim"]) -> Float[Array, " pairs"]:
    """ln |x_a|/|x_b| of every pair of tokens a < b, in the order of `overlaps`.

    This is η of `theory.normalisation`. Infinite for pairs with one token that is 0, NaN for two.
    Raises ValueError if `x` is not one state (tokens, dim).
    """
    logarithms = jnp.log(radii(x))
    first, second = np.triu_indices(logarithms.size, 1)
    return logarithms[first] - logarithms[second]
