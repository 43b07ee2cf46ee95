"""Eigenvalues and singular values whose gradients are finite at degenerate spectra.

A derivative through eigenvectors has factors 1/(λ_i - λ_j). That of the eigenvalues alone needs
none: dλ_i = v_i* dA v_i, in any orthonormal basis that the factorisation returns. At a degenerate
point it is the derivative along one of many bases, and exact for symmetric functions of the
spectrum.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Inexact, PyTree

from . import bisection as _sturm


def hermitian(x: Float[Array, "n n"]) -> Complex[Array, "n n"]:
    """(x + xᵀ)/2 + i (x - xᵀ)/2."""
    return jax.lax.complex((x + x.T) / 2, (x - x.T) / 2)


@jax.custom_jvp
def eigenvalues(matrix: Inexact[Array, "n n"]) -> Float[Array, " n"]:
    """The eigenvalues of a symmetric or Hermitian matrix, ascending."""
    if jnp.iscomplexobj(matrix):
        return jnp.linalg.eigvalsh(matrix, symmetrize_input=False)
    return _sturm.eigenvalues(matrix)


@eigenvalues.defjvp
def _eigenvalues_jvp(primals, tangents):
    (matrix,), (change,) = primals, tangents
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    moved = jnp.matmul(change, vectors, precision="highest")
    return values, jnp.sum(jnp.real(jnp.conj(vectors) * moved), 0)


@jax.custom_jvp
def singular_values(matrix: Float[Array, "m n"]) -> Float[Array, " least"]:
    """The min(m, n) singular values, ascending."""
    return jnp.linalg.svd(matrix, compute_uv=False)[::-1]


@singular_values.defjvp
def _singular_values_jvp(primals, tangents):
    (matrix,), (change,) = primals, tangents
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    moved = jnp.matmul(left.T, change, precision="highest")
    return values[::-1], jnp.sum(moved * right, 1)[::-1]


@jax.custom_jvp
def eigenvectors(matrix: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Ascending eigenvalues of a symmetric matrix, and its eigenvectors as columns.

    Vectors of equal eigenvalues are not turned into each other by the derivative: what does not
    depend on the choice of a basis among them has its exact derivative, and the rest a finite one.
    """
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    return values, vectors


@eigenvectors.defjvp
def _eigenvectors_jvp(primals, tangents):
    (matrix,), (change,) = primals, tangents
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    moved = _in_basis(vectors, change)
    gaps = values[None, :] - values[:, None]
    apart = jnp.abs(gaps) > 8 * jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values))
    turn = jnp.where(apart, moved / jnp.where(apart, gaps, 1.0), 0.0)
    return (values, vectors), (
        jnp.diagonal(moved),
        jnp.matmul(vectors, turn, precision="highest"),
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def spectral_function(
    function: Callable[..., Float[Array, " n"]], matrix: Inexact[Array, "n n"], *parameters: PyTree
) -> Inexact[Array, "n n"]:
    """V f(Λ) V* of a symmetric or Hermitian matrix V Λ V*; f(Λ, *parameters) is elementwise."""
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    return _diagonal_in(vectors, function(values, *parameters))


@spectral_function.defjvp
def _spectral_function_jvp(function, primals, tangents):
    # Daleckii and Krein: divided differences, which are derivatives where eigenvalues are equal.
    (matrix, *parameters), (change, *changes) = primals, tangents
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    images, turned = jax.jvp(lambda *p: function(values, *p), tuple(parameters), tuple(changes))
    gaps = values[None, :] - values[:, None]
    scale = jnp.max(jnp.abs(values))
    apart = jnp.abs(gaps) > jnp.finfo(values.dtype).eps ** 0.5 * scale
    middles = ((values[None, :] + values[:, None]) / 2).reshape(-1)
    ones = jnp.ones_like(middles)
    slopes = jax.jvp(lambda x: function(x, *parameters), (middles,), (ones,))[1].reshape(gaps.shape)
    quotients = (images[None, :] - images[:, None]) / jnp.where(apart, gaps, 1.0)
    moved = jnp.where(apart, quotients, slopes).astype(vectors.dtype) * _in_basis(vectors, change)
    outer = jnp.matmul(vectors, moved, precision="highest")
    by_matrix = jnp.matmul(outer, jnp.conj(vectors.T), precision="highest")
    return _diagonal_in(vectors, images), by_matrix + _diagonal_in(vectors, turned)


def _diagonal_in(vectors: Inexact[Array, "n n"], values: Float[Array, " n"]):
    """V diag(values) V*."""
    scaled = vectors * values[None, :].astype(vectors.dtype)
    return jnp.matmul(scaled, jnp.conj(vectors.T), precision="highest")


def _in_basis(
    vectors: Inexact[Array, "n n"], change: Inexact[Array, "n n"]
) -> Inexact[Array, "n n"]:
    """V* A V."""
    half = jnp.matmul(jnp.conj(vectors.T), change, precision="highest")
    return jnp.matmul(half, vectors, precision="highest")
