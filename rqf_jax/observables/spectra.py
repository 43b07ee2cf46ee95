"""Spectra of a weight matrix, and functions of one spectrum.

Eigenvalues and singular values are ascending. Their gradients are finite at degenerate spectra:
exact for symmetric functions of the values, and along one of the possible bases otherwise.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from .._arguments import calling, floating, function_of, integer
from .._linalg import spectral as _spectral
from ._state import without_infinities

# ---- of a matrix


def spectrum(x: Float[Array, "n n"]) -> Float[Array, " n"]:
    """The eigenvalues of a symmetric matrix (of the symmetric part of any other).

    Raises ValueError if `x` is not one square matrix.
    """
    return _spectral.eigenvalues(_symmetric(x))


def hermitian(x: Float[Array, "n n"]) -> Complex[Array, "n n"]:
    """The complex matrix that a state of `manifolds.Hermitian` stands for.

    H = (x + xᵀ)/2 + i (x - xᵀ)/2

    Raises ValueError if `x` is not one square matrix.
    """
    return _spectral.hermitian(_square(x))


def hermitian_spectrum(x: Float[Array, "n n"]) -> Float[Array, " n"]:
    """The eigenvalues of `hermitian(x)`.

    Raises ValueError if `x` is not one square matrix.
    """
    return _spectral.eigenvalues(hermitian(x))


def singular_values(x: Float[Array, "m n"]) -> Float[Array, " least"]:
    """The min(m, n) singular values of a matrix.

    Raises ValueError if `x` is not one matrix.
    """
    return _spectral.singular_values(_matrix(x))


def stable_rank(x: Float[Array, "m n"]) -> Float[Array, ""]:
    """|x|_F²/|x|², the sum of squared singular values in units of the largest; 0 for x = 0.

    Raises ValueError if `x` is not one matrix.
    """
    squares = singular_values(x) ** 2
    zero = squares[-1] == 0
    return jnp.where(zero, 0.0, jnp.sum(squares) / jnp.where(zero, 1.0, squares[-1]))


def outlier_overlap(x: Float[Array, "n n"], direction: Any) -> Float[Array, ""]:
    """<v, u>² of the leading eigenvector v of a symmetric matrix with a unit vector u.

    The gradient grows as 1/(λ_1 - λ_2) and is finite where the two are equal. Raises ValueError if
    `x` is not one square matrix or `direction` not one vector of its size.
    """
    x, direction = _symmetric(x), _direction("direction", direction, x.shape[0])
    return jnp.sum(_spectral.eigenvectors(x)[1][:, -1] * direction) ** 2


def singular_overlaps(x: Float[Array, "m n"], left: Any, right: Any) -> Float[Array, " 2"]:
    """Squared overlaps of the leading left and right singular vectors with two unit vectors.

    For x = 0, which has none, one of them is that of some vector and the other 0. Raises
    ValueError if `x` is not one matrix or the vectors are not of its sizes.
    """
    x = _matrix(x)
    ends = [_direction(*end) for end in (("left", left, x.shape[0]), ("right", right, x.shape[1]))]
    # The leading vector on the smaller side, and what the matrix makes of it on the other.
    wide = x.shape[0] < x.shape[1]
    tall, (far, near) = (x.T, ends[::-1]) if wide else (x, ends)
    vector = _spectral.eigenvectors(jnp.matmul(tall.T, tall, precision="highest"))[1][:, -1]
    image = jnp.matmul(tall, vector, precision="highest")
    length = jnp.sum(image**2)
    zero = length == 0
    other = jnp.where(zero, 0.0, jnp.sum(image * far) ** 2 / jnp.where(zero, 1.0, length))
    own = jnp.sum(vector * near) ** 2
    return jnp.stack([own, other] if wide else [other, own])


def matrix_function(
    x: Float[Array, "n n"], function: Callable[[Float[Array, " n"]], Float[Array, " n"]]
) -> Float[Array, "n n"]:
    """V f(Λ) Vᵀ of a symmetric matrix V Λ Vᵀ, f an elementwise function.

    What to differentiate instead of eigenvectors: the gradient is finite and exact at degenerate
    eigenvalues. Raises ValueError if `x` is not one square matrix.
    """
    matrix = _symmetric(x)
    function_of("an array of eigenvalues")("function", function)
    with calling("function", "be a function of an array of eigenvalues"):
        return _spectral.spectral_function(function, matrix)


# ---- of a spectrum


def gaps(values: Float[Array, " n"]) -> Float[Array, " pairs"]:
    """λ_{i+1} - λ_i of ascending values.

    Raises ValueError unless `values` are at least two along one axis.
    """
    return jnp.diff(_spectrum(values, 2))


def spacing_ratios(values: Float[Array, " n"]) -> Float[Array, " triples"]:
    """min(S_i, S_{i+1})/max(S_i, S_{i+1}) of neighbouring gaps, in [0, 1]; 0 where both are 0.

    It needs no unfolding; the mean is `theory.levels.mean_spacing_ratio` for three values, and
    `theory.levels.bulk_spacing_ratio` in the middle of many. Raises ValueError unless `values` are
    at least three along one axis.
    """
    spacing = jnp.diff(_spectrum(values, 3))
    larger = jnp.maximum(spacing[1:], spacing[:-1])
    zero = larger == 0
    ratio = jnp.minimum(spacing[1:], spacing[:-1]) / jnp.where(zero, 1.0, larger)
    return jnp.where(zero, 0.0, ratio)


def power_sums(values: Float[Array, " n"], order: int = 4) -> Float[Array, " order"]:
    """p_k = Σ λ_i^k for k = 1, ..., `order`.

    Raises ValueError unless `values` are along one axis and order ≥ 1.
    """
    values = _spectrum(values, 1)
    return jnp.stack(
        [jnp.sum(values**k) for k in range(1, integer("order", order, maximum=1000) + 1)]
    )


# ---- arguments


def _matrix(x: Any) -> Float[Array, "m n"]:
    matrix = floating("x", x)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"`x` must be one matrix; got shape {matrix.shape}. Map over members and times with "
            "`runs.observe` or `jax.vmap`."
        )
    return without_infinities(matrix)


def _square(x: Any) -> Float[Array, "n n"]:
    matrix = _matrix(x)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"`x` must be a square matrix; got shape {matrix.shape}.")
    return matrix


def _symmetric(x: Any) -> Float[Array, "n n"]:
    matrix = _square(x)
    return (matrix + matrix.T) / 2


def _spectrum(values: Any, least: int) -> Float[Array, " n"]:
    array = floating("values", values)
    if array.ndim != 1 or array.size < least:
        raise ValueError(
            f"`values` must be one spectrum of at least {least}; got shape {array.shape}. Map over "
            "members and times with `runs.observe` or `jax.vmap`."
        )
    return without_infinities(array)


def _direction(name: str, value: Any, size: int) -> Float[Array, " n"]:
    vector = floating(name, value)
    if vector.shape != (size,):
        raise ValueError(f"`{name}` must be a vector of {size}; got shape {vector.shape}.")
    return vector
