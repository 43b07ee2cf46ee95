"""Noises of weight matrices: any covariance, and a Gaussian matrix as its eigenvalues see it.

Independent entries need no class of their own: `TokenNoise(s)` moves every entry of a flat state
by s dB. On `manifolds.Euclidean` it is the noise of Ginibre matrices and of rectangular weights; on
`manifolds.Symmetric` and `manifolds.Hermitian`, with s = √2 g, that of the orthogonal and of the
unitary ensemble.
"""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from .._arguments import field, finite, is_concrete, one_of, scalar, sizes
from .._linalg.spectral import hermitian
from ..manifolds import AbstractLinearSpace, AbstractManifold
from ._abstract import AbstractAdditiveNoise, Calculus


class CorrelatedNoise(AbstractAdditiveNoise):
    """Additive noise of any covariance, given by its sources.

        dx = Σ_k F[..., k] dB_k,   covariance C = Σ_k F[..., k] ⊗ F[..., k] per unit time

    `factor` is F of shape (*state, sources). The noise of stochastic gradient descent has one
    source for every sample: with learning rate α, batch |B| and deviations ε_k = ∇ℓ_k - ∇L of N
    samples, F[..., k] = √(α/(|B| N)) ε_k in the time αk (times √((N-|B|)/(N-1)) for batches drawn
    without replacement), and C is never written down. `covariance_factor` makes F of a C.

    Raises ValueError for a factor without a source axis or not finite and, when called, one that
    does not match the state's shape.
    """

    factor: Float[Array, "..."]

    def __init__(self, factor: Any):
        self.factor = finite("factor", factor)
        if self.factor.ndim < 2:
            raise ValueError(
                f"`factor` must have shape (*state, sources); got shape {self.factor.shape}."
            )

    def shape(self, x: Float[Array, "*state"]) -> tuple[int, ...]:
        """(sources,)."""
        if self.factor.shape[:-1] != x.shape:
            raise ValueError(
                f"`factor` must have shape (*state, sources) for states of shape {x.shape}; got "
                f"{self.factor.shape}."
            )
        return self.factor.shape[-1:]

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "*state"], dw: Float[Array, " sources"]
    ) -> Float[Array, "*state"]:
        """Σ_k F[..., k] dB_k."""
        return jnp.matmul(self.factor, dw, precision="highest")

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Constant: the readings agree in linear spaces, and not where the projection turns."""
        flat = isinstance(manifold, AbstractLinearSpace)
        return Calculus.EITHER if flat else Calculus.STRATONOVICH


def covariance_factor(covariance: Any, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """A factor F of shape (*shape, numbers) with F Fᵀ = `covariance`, for `CorrelatedNoise`.

    `covariance` is a matrix over the entries of a state of `shape` in row-major order, variance
    per unit time; it may be singular. F is its symmetric square root. Raises ValueError unless the
    matrix is known (not traced), symmetric, positive semidefinite and of the right size.
    """
    matrix, size = finite("covariance", covariance), math.prod(sizes("shape", shape))
    if not is_concrete(matrix):
        raise ValueError("`covariance` must be known, not traced; trace a `factor` instead.")
    if matrix.shape != (size, size):
        raise ValueError(
            f"`covariance` must have shape {(size, size)} for states of shape {shape}; got "
            f"{matrix.shape}."
        )
    dense = np.asarray(matrix, float)
    largest = float(np.abs(dense).max(initial=0))
    # Rounding of a float32 matrix of this size.
    tolerance = 1e-6 * max(size, 10) * largest
    skew = float(np.abs(dense - dense.T).max())
    if skew > tolerance:
        raise ValueError(f"`covariance` must be symmetric; got entries that differ by {skew:.3g}.")
    values, vectors = np.linalg.eigh((dense + dense.T) / 2)
    if values[0] < -tolerance:
        raise ValueError(
            f"`covariance` must be positive semidefinite; got an eigenvalue {values[0]:.3g}."
        )
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return jnp.asarray(root.reshape(*shape, size), matrix.dtype)


class SpectralNoise(AbstractAdditiveNoise):
    """A Gaussian matrix as eigenvalues see it: by its diagonal in their own basis.

        dλ_i = √2 g dB_ii

    Off the diagonal the matrix dB acts at second order, which is the repulsion of
    `drifts.Coulomb(beta g²)`; `solvers.MatrixJump` uses all of it and is exact. `beta` is 1 for
    real symmetric matrices, 2 for Hermitian ones. g² is variance per unit time.

    Raises ValueError for g < 0 and for another `beta`.
    """

    g: Float[Array, ""] = eqx.field(converter=scalar("g", minimum=0))
    beta: int = eqx.field(static=True, converter=field("beta", one_of(1, 2)))

    def shape(self, x: Float[Array, " n"]) -> tuple[int, ...]:
        """(n, n)."""
        return (x.size, x.size)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, " n"], dw: Float[Array, "n n"]
    ) -> Float[Array, " n"]:
        """√2 g times the diagonal of dB."""
        return math.sqrt(2) * self.g * jnp.diagonal(dw)

    def matrix(self, dw: Float[Array, "n n"]) -> Float[Array, "n n"] | Complex[Array, "n n"]:
        """The Gaussian matrix: variance 2g² on the diagonal, β g² off it, per unit time."""
        scaled = math.sqrt(2) * self.g * dw
        return hermitian(scaled) if self.beta == 2 else (scaled + scaled.T) / 2

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Constant, so the readings agree."""
        return Calculus.EITHER
