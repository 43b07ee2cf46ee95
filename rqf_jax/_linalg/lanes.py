"""Products and sums over small axes, which choose their form by themselves.

In tiny dimensions members are the lanes of the arrays. There a batch of dot products would be a
loop of tiny calls, and a reduction over an axis between others half as fast as adding its slices.
So up to `LIMIT` a product is written out entry by entry, and above it is one call.
"""

import functools
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from .unrolled import LIMIT, Unrolled

_FEW = 8
"""The most numbers whose sum is written out."""


def is_tiny(size: int) -> bool:
    """True if matrices of this size are written out entry by entry."""
    return size <= LIMIT


def in_lanes(matrix: Float[Array, "n n"]) -> Any:
    """The matrix in the form that polynomials in it are fastest in: they are @, +, -, * and .T."""
    return Unrolled.of(matrix) if is_tiny(max(matrix.shape)) else matrix


def halves(
    pairs: Complex[Array, "*half"], scale: Float[Array, ""], rows: int
) -> Float[Array, "rows *rest"]:
    """Scaled real parts over scaled imaginary parts, the first `rows` of them."""
    if pairs.ndim == 2 and is_tiny(max(rows, pairs.shape[1])):
        # Entry by entry, so that XLA sees through to the numbers; it does not through slices of
        # the real part, and a vmapped step takes twice as long.
        first = [[scale * z.real for z in row] for row in Unrolled.of(pairs).rows]
        second = [[scale * z.imag for z in row] for row in Unrolled.of(pairs).rows]
        return Unrolled((first + second)[:rows]).array()
    return jnp.concatenate([scale * pairs.real, scale * pairs.imag])[:rows]


def product(first: Any, *others: Any) -> Any:
    """The matrix product in the form of the smallest sizes, in full precision."""
    factors = (first, *others)
    if any(isinstance(factor, Unrolled) for factor in factors):
        rows = [f if isinstance(f, Unrolled) else Unrolled.of(f) for f in factors]
        return functools.reduce(lambda a, b: a @ b, rows)
    return functools.reduce(lambda a, b: jnp.matmul(a, b, precision="highest"), factors)


def transform(
    matrix: Unrolled | Float[Array, "dim dim"], x: Float[Array, "tokens dim"]
) -> Float[Array, "tokens dim"]:
    """The matrix applied to every row of `x`, in full precision."""
    if not isinstance(matrix, Unrolled):
        if x.shape[-1] > LIMIT:
            return jnp.matmul(x, matrix.T, precision="highest")
        matrix = Unrolled.of(matrix)
    return jnp.stack(matrix.columns(x), axis=-1)


def row_dots(a: Float[Array, "*rows dim"], b: Float[Array, "*rows dim"]) -> Float[Array, "*rows 1"]:
    """<a, b> of every row.

    In tiny dimensions XLA would reduce over a middle axis of the batch, and where `a` was stacked
    from columns choose a column for every number it adds: up to 7 times slower.
    """
    dim = a.shape[-1]
    if dim > LIMIT:
        return jnp.sum(a * b, -1, keepdims=True)
    return sum(a[..., k : k + 1] * b[..., k : k + 1] for k in range(dim))  # pyright: ignore


def gram(x: Float[Array, "some dim"], y: Float[Array, "tokens dim"]) -> Float[Array, "some tokens"]:
    """<x_i, y_j>."""
    if y.shape[-1] > LIMIT:
        return jnp.matmul(x, y.T, precision="highest")
    return sum(x[:, k, None] * y[None, :, k] for k in range(y.shape[-1]))  # pyright: ignore


def weighted_sum(
    weights: Float[Array, "some tokens"], values: Float[Array, "tokens dim"]
) -> Float[Array, "some dim"]:
    """Σ_j w_ij v_j."""
    tokens, dim = values.shape
    if dim > LIMIT:
        return jnp.matmul(weights, values, precision="highest")
    if tokens > _FEW:
        columns = [jnp.sum(weights * values[None, :, k], axis=1) for k in range(dim)]
    else:
        columns = [
            sum(weights[:, j] * values[j, k] for j in range(tokens))  # pyright: ignore
            for k in range(dim)
        ]
    return jnp.stack(columns, axis=-1)


def softmax_mean(
    scores: Float[Array, "some tokens"], values: Float[Array, "tokens dim"]
) -> Float[Array, "some dim"]:
    """Σ_j softmax_j(s_ij) v_j."""
    weights = jnp.exp(scores - lax.stop_gradient(_row_max(scores)))
    return weighted_sum(weights, values) / _row_sum(weights)


def _row_max(x: Float[Array, "rows columns"]) -> Float[Array, "rows 1"]:
    # Written out it is 3 times faster for 2 to 4 columns, not for 8.
    if x.shape[-1] > LIMIT:
        return jnp.max(x, axis=-1, keepdims=True)
    return functools.reduce(jnp.maximum, (x[:, j, None] for j in range(x.shape[-1])))


def _row_sum(x: Float[Array, "rows columns"]) -> Float[Array, "rows 1"]:
    if x.shape[-1] > _FEW:
        return jnp.sum(x, axis=-1, keepdims=True)
    return sum(x[:, j, None] for j in range(x.shape[-1]))  # pyright: ignore
