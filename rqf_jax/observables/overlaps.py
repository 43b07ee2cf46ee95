"""Pairs of tokens: overlaps, angles, the volume they span, and the side of the hyperplane."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._linalg.triangle import triangle
from ._state import for_all, one_state, safe_sqrt


def gram(x: Float[Array, "tokens dim"]) -> Float[Array, "tokens tokens"]:
    """The Gram matrix of the tokens.

    G_ab = <x_a, x_b>

    Raises ValueError if `x` is not one state (tokens, dim).
    """
    x = one_state(x)
    return jnp.matmul(x, x.T, precision="highest")


def overlaps(x: Float[Array, "tokens dim"]) -> Float[Array, " pairs"]:
    """The overlap of every pair of tokens, in the order (0,1), (0,2), ..., (N-2,N-1).

    G_ab = <x_a, x_b> = (s - d) / (s + d),  d = |x_a - x_b|^2,  s = |x_a + x_b|^2

    This is the upper triangle of `gram`, row by row (numpy.triu_indices(N, 1)), and exactly the
    cosine of `angles`. The quotient of chords stands in for the dot product because near-parallel
    tokens lose nothing in the difference, the rounding of the tokens' lengths enters only squared
    (for rows that are not of unit length it is 2<x_a,x_b> / (|x_a|^2 + |x_b|^2)), and the result
    never leaves [-1, 1]: coincident tokens give 1 and antipodal ones -1 exactly.

    Raises ValueError if `x` is not one state (tokens, dim).
    """
    difference, total = _squared_chords(one_state(x))
    return (total - difference) / (total + difference)


def angles(x: Float[Array, "tokens dim"]) -> Float[Array, " pairs"]:
    """The angle of every pair of tokens in [0, pi], in the order of `overlaps`.

    theta_ab = 2 atan2(|x_a - x_b|, |x_a + x_b|)

    Small angles, and small distances from pi, keep their relative accuracy, which
    arccos <x_a, x_b> loses below sqrt(eps). The angle has a cone's tip at coincident tokens
    (a minimum) and at antipodal ones (a maximum); the gradient returned there is 0, which belongs
    to the sub- and the superdifferential respectively.

    Raises ValueError if `x` is not one state (tokens, dim).
    """
    difference, total = _squared_chords(one_state(x))
    return 2 * jnp.atan2(safe_sqrt(difference), safe_sqrt(total))


def log_det_gram(x: Float[Array, "tokens dim"]) -> Float[Array, ""]:
    """The logarithm of the determinant of the Gram matrix, twice the log-volume of the tokens.

    ln det G = 2 sum_i ln |R_ii|,  X^T = Q R

    The factor R is taken from the tokens: its error is eps * cond(X), while det G would carry
    eps * cond(X)^2, so that float32 would see nothing at cond(X) = 1e4. The value is -inf when the
    tokens are dependent to rounding (some |R_ii| <= 4 eps |x_i|; for a pair, sin theta below 5e-7
    in float32) and when N > n. The gradient, 2 tr(X^+ dX), is finite where the value is.

    Raises ValueError if `x` is not one state (tokens, dim).
    """
    x = one_state(x)
    tokens, dim = x.shape
    if tokens > dim:
        return for_all(-jnp.inf, x)
    r = triangle(x.T)
    heights, lengths = jnp.abs(jnp.diagonal(r)), jnp.sqrt(jnp.sum(x * x, -1))
    dependent = jnp.any(heights <= 4 * jnp.finfo(x.dtype).eps * lengths)
    return jnp.where(dependent, -jnp.inf, 2 * jnp.sum(jnp.log(heights)))


def cluster_signs(x: Float[Array, "tokens dim"]) -> Float[Array, " tokens"]:
    """The side of each token in two antipodal clusters, seen from token 0: +1 or -1.

    s_a = sign <x_a, x_0>,  with sign 0 = +1

    The size of token 0's cluster is (N + sum_a s_a) / 2. The gradient is zero.

    Raises ValueError if `x` is not one state (tokens, dim).
    """
    x = one_state(x)
    overlap = jnp.matmul(x, x[0], precision="highest")
    # jnp.sign rather than a comparison: a NaN must not become a cluster.
    return jnp.where(overlap == 0, 1.0, jnp.sign(overlap))


def _squared_chords(
    x: Float[Array, "tokens dim"],
) -> tuple[Float[Array, " pairs"], Float[Array, " pairs"]]:
    """|x_a - x_b|^2 and |x_a + x_b|^2 of every pair.

    Summed one coordinate at a time: XLA would write the (pairs, dim) differences to memory, which
    is ten times slower. Recomputing a coordinate in the backward pass keeps that true of gradients.
    """
    tokens, dim = x.shape
    zeros = jnp.zeros((tokens, tokens), x.dtype)
    sums, _ = jax.lax.scan(_add_coordinate, (zeros, zeros), x.T, unroll=min(8, dim))
    rows, columns = np.triu_indices(tokens, 1)
    pairs = rows * tokens + columns
    return sums[0].reshape(-1)[pairs], sums[1].reshape(-1)[pairs]


# At module level, so that a call outside jit finds the scan compiled by the call before it.
@jax.checkpoint
def _add_coordinate(sums, coordinate):
    a, b = coordinate[:, None], coordinate[None, :]
    return (sums[0] + (a - b) ** 2, sums[1] + (a + b) ** 2), None
