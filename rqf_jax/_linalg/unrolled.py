"""Small matrices as Python tuples of scalars, so that a vmapped product is plain arithmetic.

XLA runs a batch of 3 x 3 products as a loop of tiny calls. Written out entry by entry, with the
batch as the last axis, the same product is a chain of multiply-adds over contiguous lanes that
fuses with its neighbours: 5 to 10 times faster on a CPU. The program grows with the cube of the
size, so this is for `LIMIT` and below.
"""

from typing import TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

LIMIT = 4
"""The largest dimension that is written out; at 8 the program takes a minute to compile."""


class Unrolled:
    """A matrix as rows of scalars, with what a polynomial in it needs: @, +, -, * and .T."""

    def __init__(self, rows):
        self.rows = [list(row) for row in rows]

    @classmethod
    def of(cls, matrix: Inexact[Array, "n m"]) -> "Unrolled":
        """The entries of `matrix`."""
        n, m = matrix.shape
        return cls([[matrix[i, j] for j in range(m)] for i in range(n)])

    def array(self) -> Float[Array, "n m"]:
        """The entries as one array again."""
        return jnp.stack([jnp.stack(row) for row in self.rows])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.rows), len(self.rows[0])

    @property
    def T(self) -> "Unrolled":
        """The transpose."""
        return Unrolled(zip(*self.rows, strict=True))

    def __matmul__(self, other: "Unrolled") -> "Unrolled":
        columns = other.T.rows
        return Unrolled([[_dot(row, column) for column in columns] for row in self.rows])

    def __add__(self, other: "Unrolled") -> "Unrolled":
        pairs = zip(self.rows, other.rows, strict=True)
        return Unrolled([[a + b for a, b in zip(p, q, strict=True)] for p, q in pairs])

    def __mul__(self, factor: Float[Array, ""] | float) -> "Unrolled":
        return Unrolled([[a * factor for a in row] for row in self.rows])

    def columns(self, x: Float[Array, "tokens m"]) -> list[Float[Array, " tokens"]]:
        """The matrix applied to every row of `x`, one array for each coordinate."""
        image = self @ Unrolled([[column] for column in x.T])
        return [column for (column,) in image.rows]

    def __neg__(self) -> "Unrolled":
        return self * -1.0


Matrix = TypeVar("Matrix", Array, Unrolled)
"""A square matrix: an array, or, in tiny dimensions, rows of scalars."""


def _dot(a, b):
    total = a[0] * b[0]
    for p, q in zip(a[1:], b[1:], strict=True):
        total = total + p * q
    return total
