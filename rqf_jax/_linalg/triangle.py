"""Triangular factors of many small matrices at once, without LAPACK.

On CPUs several devices that call LAPACK can wait for each other for ever, so that some must stand
aside (see `_ensemble/program`), and so can several such calls of one program on a machine with two
cores. Reflections and eliminations written as sums over whole arrays let all of them work.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def whitened(
    matrix: Float[Array, "n n"], right: Float[Array, "n m"]
) -> tuple[Float[Array, "n m"], Float[Array, ""]]:
    """L⁻¹ B and ln det A for a positive definite A = L Lᵀ; NaN for any other.

    Every solution that A = L Lᵀ is factorised for is a product of these: Bᵀ A⁻¹ B = (L⁻¹B)ᵀ L⁻¹B.
    """
    size = matrix.shape[0]
    below = jnp.arange(size)

    def eliminate(j, rows):
        row = rows[j] / jnp.sqrt(rows[j, j])
        # What is left of A stays symmetric: the column to eliminate is this row.
        factors = jnp.where(below > j, row[:size], 0)
        return (rows - jnp.outer(factors, row)).at[j].set(row)

    rows = lax.fori_loop(0, size, eliminate, jnp.concatenate([matrix, right], axis=1))
    return rows[:, size:], 2 * jnp.sum(jnp.log(jnp.diagonal(rows[:, :size])))


def triangle(a: Float[Array, "n m"]) -> Float[Array, "k m"]:
    """R of A = QR, upper triangular, where Q has k = min(n, m) orthonormal columns.

    Defined at any rank, since a column of zeros needs no reflection. A NaN of a column is one of R.
    """
    rank, rows = min(a.shape), jnp.arange(a.shape[0])

    def reflect(j, a):
        column = jnp.where(rows >= j, a[:, j], 0)
        pivot, square = column[j], jnp.sum(column * column)
        # A column of zeros stays, and has finite gradients.
        zero = square == 0
        length = jnp.sqrt(jnp.where(zero, 1, square))
        # Away from the pivot, so that nothing cancels.
        end = jnp.where(pivot > 0, -length, length)
        normal = jnp.where(zero, 0, jnp.where(rows == j, pivot - end, column))
        weights = jnp.sum(normal[:, None] * a, 0) / (end * (end - pivot))
        reflected = a - jnp.outer(normal, weights)
        below = (rows[:, None] > j) & (jnp.arange(a.shape[1])[None] == j)
        return jnp.where(below, 0, reflected)

    return lax.fori_loop(0, rank, reflect, a)[:rank]
