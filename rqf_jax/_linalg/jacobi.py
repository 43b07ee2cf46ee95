"""Linear algebra of many small matrices at once, without LAPACK where they are tiny.

There it is slow, and its eigenvectors have no finite gradient where eigenvalues are equal. Batches
of different LAPACK calls in one program can also wait for each other for ever on a machine with two
cores (jaxlib 0.10.2, CPU: a batched QR beside a batched eigendecomposition): this is the only one.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_LARGEST = 8
"""From here on LAPACK is faster: twice at 11, 40 times at 63 (two CPU cores)."""


def eigh(matrix: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Eigenvalues, in no order, and eigenvectors (columns) of a symmetric matrix.

    Up to 8 x 8 by Jacobi's method, whose gradients are finite: rotations of n/2 disjoint pairs at a
    time; the pairs are neighbours, and between two rounds all but the first index change chairs, so
    that n - 1 rounds meet every pair (Brent & Luk 1985).
    """
    size = matrix.shape[0]
    if size == 1:
        return matrix[0], jnp.ones_like(matrix)
    if size > _LARGEST:
        return jnp.linalg.eigh(matrix)
    even = size + size % 2
    pad = even - size
    a = jnp.pad(matrix, ((0, pad), (0, pad)))
    u = jnp.eye(size, even, dtype=matrix.dtype)
    chairs = _chairs(even)

    def round_(_, state):
        a, u = state
        diagonal, beside = jnp.diagonal(a), jnp.diagonal(a[0::2, 1::2])
        done = beside == 0
        ratio = (diagonal[1::2] - diagonal[0::2]) / (2 * jnp.where(done, 1.0, beside))
        size_of = jnp.abs(ratio) + jnp.sqrt(1 + ratio * ratio)
        tangent = jnp.where(done, 0.0, jnp.where(ratio < 0, -1.0, 1.0) / size_of)
        cosine = lax.rsqrt(1 + tangent * tangent)
        sine = tangent * cosine
        a = _rotate(_rotate(a, cosine, sine).T, cosine, sine).T
        u = _rotate(u.T, cosine, sine).T
        return a[chairs][:, chairs], u[:, chairs]

    rounds = 1 if even == 2 else (even - 1) * (6 if even <= 4 else 8)
    a, u = lax.fori_loop(0, rounds, round_, (a, u))
    if not pad:
        return jnp.diagonal(a), u
    # The padded index never mixes with others; it is where the eigenvector is zero.
    order = jnp.argsort(jnp.sum(u * u, 0) < 0.5, stable=True)[:size]
    return jnp.diagonal(a)[order], u[:, order]


def inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of a 1 x 1 or 2 x 2 matrix, or of a symmetric one of any size."""
    if matrix.shape[0] == 1:
        return 1 / matrix
    if matrix.shape[0] == 2:
        (a, b), (c, d) = matrix
        return jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)
    values, vectors = eigh(matrix)
    return jnp.matmul(vectors / values[None, :], vectors.T, precision="highest")


def _rotate(rows, cosine, sine):
    first, second = rows[0::2], rows[1::2]
    c, s = cosine[:, None], sine[:, None]
    turned = jnp.stack([c * first - s * second, s * first + c * second], axis=1)
    return turned.reshape(rows.shape)


def _chairs(size: int) -> np.ndarray:
    """new[i] = old[chairs[i]]: upper chairs are even, lower ones odd, the first stays."""
    upper, lower = np.arange(0, size, 2), np.arange(1, size, 2)
    new_upper = np.concatenate([upper[:1], lower[:1], upper[1:-1]])
    new_lower = np.concatenate([lower[1:], upper[-1:]])
    if size == 2:
        return np.arange(2)
    return np.stack([new_upper, new_lower], axis=1).ravel()
