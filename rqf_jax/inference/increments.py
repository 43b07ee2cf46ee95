"""From two states to a tangent vector: what moved, and where it is to be looked at.

All functions act row by row on unit vectors: a pair of states (tokens, dim), or many.
"""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import floating
from ..observables._state import safe_sqrt

LARGEST_ANGLE = 2.5
"""The angle (radians) of one step beyond which half-angle increments no longer grow."""

_SHORTEST_SUM = 4 * math.cos(LARGEST_ANGLE / 2) ** 2


def half_angle(
    x: Float[Array, "*rows dim"], y: Float[Array, "*rows dim"]
) -> tuple[Float[Array, "*rows dim"], Float[Array, "*rows dim"]]:
    """The midpoints of the arcs from x_a to y_a, and the half-angle increments there.

        m_a = (x_a + y_a)/|x_a + y_a|,   v_a = 2 (y_a - x_a)/|x_a + y_a|,   |v_a| = 2 tan(θ_a/2)

    v_a is tangent at m_a and odd under reversal of time. For one Brownian token of rate p the mean
    of |v_a|² is (n-1)(p/2) dt [1 + p dt/4 + …] in every dimension n, where P dX is too short by
    n p dt/4 and the logarithm by (n-2) p dt/12 (derived by expansion; checked in the tests). At
    angles above `LARGEST_ANGLE` the increment is held at 2 tan(1.25).
    """
    x, y = _alike(x, y)
    total, difference = x + y, y - x
    square = jnp.sum(total * total, -1, keepdims=True)
    middle = total / safe_sqrt(jnp.where(square == 0, 1.0, square))
    chord = jnp.sum(difference * difference, -1, keepdims=True)
    # Past the largest angle the chord is scaled down as well, so that only the direction is left.
    far = square < _SHORTEST_SUM
    held = (4 - _SHORTEST_SUM) / jnp.where(far, chord, 1.0)
    scale = jnp.where(far, held / _SHORTEST_SUM, 1 / jnp.where(far, 1.0, square))
    return middle, 2 * difference * jnp.sqrt(scale)


def logarithm(
    x: Float[Array, "*rows dim"], y: Float[Array, "*rows dim"]
) -> Float[Array, "*rows dim"]:
    """The tangent vector at x_a of length θ_a that points along the arc to y_a.

        log_x y = θ P_x y/|P_x y|,   θ = 2 atan2(|y - x|, |y + x|)

    Under pure noise its mean given x is zero exactly, at every step length. Antipodal pairs, which
    have no direction, give 0.
    """
    x, y = _alike(x, y)
    tangent = y - jnp.sum(x * y, -1, keepdims=True) * x
    length = jnp.sum(tangent * tangent, -1, keepdims=True)
    chord = jnp.sum((y - x) ** 2, -1, keepdims=True)
    total = jnp.sum((y + x) ** 2, -1, keepdims=True)
    angle = 2 * jnp.atan2(safe_sqrt(chord), safe_sqrt(total))
    still = length == 0
    return tangent * (angle / jnp.sqrt(jnp.where(still, 1.0, length)))


def _alike(x: Any, y: Any) -> tuple[Float[Array, "*rows dim"], Float[Array, "*rows dim"]]:
    """Two states of the same shape."""
    x, y = floating("x", x), floating("y", y)
    if not x.ndim or x.shape != y.shape:
        raise ValueError(
            "`x` and `y` must be unit vectors (..., dim) of one shape; got "
            f"{x.shape} and {y.shape}."
        )
    return x, y
