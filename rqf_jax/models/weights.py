"""Weight matrices and their eigenvalues."""

import math
from typing import Any

import numpy as np

from .._arguments import finite, is_concrete, maybe, nonnegative, one_of, part, scalar, takes
from .._sde import SDE
from ..drifts import Coulomb, MatrixWell, Pull, TwoLayer
from ..manifolds import Euclidean, Hermitian, Symmetric, WeylChamber
from ..noises import SpectralNoise, TokenNoise
from ..potentials import AbstractPotential


@takes(
    g=nonnegative,
    rate=nonnegative,
    beta=one_of(1, 2, remedy="`dyson_eigenvalues` has any other."),
    target=finite,
    potential=maybe(part(AbstractPotential)),
)
def dyson(
    g: Any,
    rate: Any = 0.0,
    beta: int = 1,
    target: Any = 0.0,
    potential: AbstractPotential | None = None,
) -> SDE:
    """A random symmetric (beta = 1) or Hermitian (beta = 2) matrix, pulled to a target, in a well.

        dH = -rate (H - target) dt - V'(H) dt + dN,
        E|dN_ij|² = beta g² dt off the diagonal, dN_ii² = 2g² dt

    Its eigenvalues are Dyson's motion (`theory.dyson` has the clock); from zero and without a
    potential they fill a semicircle of radius `theory.dyson.edge`, and the step is exact in law for
    every length, so that `substeps=1` does. With a potential, which acts on the eigenvalues as in
    `dyson_eigenvalues`, steps have weak order 2 (`solvers.Strang`).

    **Arguments**

    - `g`: strength ≥ 0 of the noise; g² is variance per unit time.
    - `rate`: pull ≥ 0 to the target per unit time.
    - `beta`: 1 or 2. A Hermitian state is one real matrix, see `manifolds.Hermitian`.
    - `target`: a number for all entries or one matrix (n, n), symmetric for beta = 1.
    - `potential`: V, one of `rqf_jax.potentials`; none by default.

    **Returns** an `SDE` whose state is a matrix (n, n).

    **Raises** ValueError for negative g or rate, another beta, a target that is not symmetric, and
    a potential of another kind.

    **Example**

    >>> rqf.models.dyson(1.0, rate=0.5)
    SDE(drift=Pull(rate=0.5, target=0), noise=TokenNoise(sigma=1.41421), manifold=Symmetric())
    """
    if target.shape[:1] != target.shape[1:]:
        raise ValueError(f"`target` must be a number or a square matrix; got shape {target.shape}.")
    pull, sigma = Pull(rate, target), math.sqrt(2) * g
    drift = pull if potential is None else MatrixWell(potential, rate, target, beta=beta)
    if beta == 2:
        return SDE(drift, TokenNoise(sigma), Hermitian())
    if is_concrete(pull.target):
        known = np.asarray(pull.target, float)
        skew = float(np.abs(known - known.T).max(initial=0))
        if skew > 1e-5:
            raise ValueError(f"`target` must be symmetric; got entries that differ by {skew:.3g}.")
    return SDE(drift, TokenNoise(sigma), Symmetric())


@takes(g=nonnegative, rate=nonnegative, potential=maybe(part(AbstractPotential)))
def dyson_eigenvalues(
    g: Any, rate: Any = 0.0, beta: Any = 1, potential: AbstractPotential | None = None
) -> SDE:
    """Dyson's motion of n ordered eigenvalues for any beta ≥ 1, in a well.

        dλ_i = -rate λ_i dt - V'(λ_i) dt + beta g² Σ_{j≠i} dt/(λ_i - λ_j) + √2 g dB_i

    Below beta = 1 eigenvalues would collide.

    **Arguments**

    - `g`: strength ≥ 0 of the noise; g² is variance per unit time.
    - `rate`: linear pull ≥ 0 to zero per unit time.
    - `beta`: any number ≥ 1. Given as the number 1 or 2 it has an exact step,
      `solvers.MatrixJump` (without a potential), for which the noise is a whole matrix; every other
      number, and an array, has `solvers.BackwardEuler`.
    - `potential`: V, one of `rqf_jax.potentials`; none by default.

    **Returns** an `SDE` whose state is the vector of eigenvalues, strictly ascending;
    `laws.GaussianEnsemble` draws them.

    **Raises** ValueError for negative g or rate and for beta < 1.

    **Example**

    >>> type(rqf.solvers.default(rqf.models.dyson_eigenvalues(1.0, rate=1.0, beta=2))).__name__
    'MatrixJump'
    """
    strength = scalar("beta", minimum=1)(beta) * g**2
    if is_concrete(strength) and not np.isfinite(np.asarray(strength)):
        raise ValueError(f"`beta` and `g` must have a finite beta g²; got {beta!r} and {float(g)}.")
    matrix = isinstance(beta, int | float) and beta in (1, 2)
    noise = SpectralNoise(g, int(beta)) if matrix else TokenNoise(math.sqrt(2) * g)
    return SDE(Coulomb(strength, rate, potential), noise, WeylChamber())


@takes(s=nonnegative, rate=nonnegative)
def ginibre(s: Any, rate: Any = 0.0) -> SDE:
    """A real matrix of any shape with independent entries, pulled to zero.

        dW = -rate W dt + s dB

    Square ones have complex eigenvalues that fill a disc of radius √(n v), v the variance of an
    entry (Ginibre); singular values are Laguerre's process. s² is variance per unit time. Raises
    ValueError for negative s or rate.
    """
    return SDE(Pull(rate), TokenNoise(s), Euclidean())


@takes(s=nonnegative, rate=nonnegative, teacher=finite)
def weight_ou(s: Any, rate: Any, teacher: Any) -> SDE:
    """A weight matrix of m ≥ n that learns a teacher under noise.

        dW = -rate (W - teacher) dt + s dB,   W and teacher of shape (m, n)

    Gradient descent of a linear layer on whitened inputs. Singular values follow Laguerre's
    process; those of the teacher emerge at `theory.outliers.rectangular_emergence_time`. The step
    is exact in law. Raises ValueError for negative s or rate, and unless m ≥ n.
    """
    teacher = finite("teacher", teacher)
    if teacher.ndim != 2 or teacher.shape[0] < teacher.shape[1]:
        raise ValueError(
            "`teacher` must be a matrix with at least as many rows as columns; got shape "
            f"{teacher.shape}. Transpose it."
        )
    return SDE(Pull(rate, teacher), TokenNoise(s), Euclidean())


@takes(s=nonnegative, teacher=finite, rate=nonnegative)
def two_layer(s: Any, teacher: Any, rate: Any = 1.0) -> SDE:
    """Two coupled weight matrices that learn the product of a teacher under noise.

        dU = -rate (U Vᵀ - teacher) V dt + s dB,   dV = -rate (U Vᵀ - teacher)ᵀ U dt + s dB'

    Gradient descent of |U Vᵀ - teacher|²/2, a linear network with one hidden layer on whitened
    inputs (W₂ = U, W₁ = Vᵀ); teacher is m × n. The state is U over V, an array (m + n, hidden).
    Without noise UᵀU - VᵀV is conserved and modes follow `theory.linear_networks`. Raises
    ValueError for negative s or rate, and for a teacher that is no matrix.
    """
    if teacher.ndim != 2:
        raise ValueError(f"`teacher` must be a matrix; got shape {teacher.shape}.")
    return SDE(TwoLayer(rate, teacher), TokenNoise(s), Euclidean())
