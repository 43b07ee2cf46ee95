"""Currents and entropy of dx = -A x dt + √(2D) dB: learning as a state out of equilibrium.

With A = ∇²L and D = αC/2B it is the limit of small α of `theory.sgd`, in time α times updates:
`drift` is A (n, n), whose eigenvalues have positive real parts, and `diffusion` D (n, n), symmetric
and positive. Functions compute in float64 and return float64 numbers or arrays; a bad argument
raises ValueError. Derived for this library; the theme is that of Adhikari, Kabakçıoğlu, Strang,
Yuret & Hinczewski, arXiv:2306.03521 (abstract read).
"""

import numpy as np
from jaxtyping import Float
from scipy import linalg

from .._arguments import Real
from ._contract import finite
from ._numbers import check, positive, positive_matrix, real, scalar, square_matrix

Matrix = Float[np.ndarray, "n n"]


@finite
def covariance(drift: Real, diffusion: Real) -> Matrix:
    """The stationary covariance Σ: A Σ + Σ Aᵀ = 2D. Raises ValueError for other matrices."""
    a, d = _process(drift, diffusion)
    sigma = linalg.solve_continuous_lyapunov(a, 2 * d)
    return (sigma + sigma.T) / 2


@finite
def current(drift: Real, diffusion: Real) -> Matrix:
    """Q = A Σ - D, antisymmetric: the stationary probability current is -p(x) Q Σ⁻¹ x.

    Zero if and only if A D is symmetric, which is detailed balance. Raises ValueError for other
    matrices.
    """
    a, d = _process(drift, diffusion)
    found = a @ covariance(a, d) - d
    return (found - found.T) / 2


@finite
def entropy_production(drift: Real, diffusion: Real) -> float:
    """tr D⁻¹ Q Σ⁻¹ Qᵀ = tr Aᵀ D⁻¹ A Σ - tr A, per unit time, of the stationary state.

    Zero for a gradient flow with equal noise in all directions, positive for descents whose noise
    has other axes than their Hessian. Raises ValueError for other matrices and where D is singular.
    """
    a, d = _process(drift, diffusion)
    q, sigma = current(a, d), covariance(a, d)
    return float(np.trace(np.linalg.solve(d, q) @ np.linalg.solve(sigma, q.T)))


@finite
def path_entropy(
    paths: Real, drift: Real, diffusion: Real, *, time: float
) -> Float[np.ndarray, " paths"]:
    """ln of the probability of each path over that of its reverse, in the stationary state.

    The total entropy that dx = -A x dt + √(2D) dB produces along a path seen every `time`. Its mean
    per time is `entropy_production` as `time` → 0, and E e^{-entropy} = 1 for every `time`.

    **Arguments** `paths`: (paths, times, n); `drift` and `diffusion`: A and D, D not singular;
    `time`: between two states, positive. **Returns** an array (paths,). **Raises**
    ValueError for arguments out of range. **Example**

    >>> print(rqf.theory.currents.path_entropy(np.ones((1, 3, 1)), np.eye(1), np.eye(1), time=0.1))
    [0.]
    """
    a, d = _process(drift, diffusion)
    x = np.asarray(real("paths", paths))
    if x.ndim != 3 or x.shape[2] != len(a):
        raise ValueError(f"`paths` must be of shape (paths, times, {len(a)}); got {x.shape}.")
    sigma = covariance(a, d)
    carried = linalg.expm(-a * scalar(positive, "time", time))
    inverse = np.linalg.inv(sigma - carried @ sigma @ carried.T)

    def weight(before, after):
        moved = after - before @ carried.T
        return -np.einsum("pti,ij,ptj->p", moved, inverse, moved) / 2

    ends = [np.einsum("pi,ij,pj->p", e, np.linalg.inv(sigma), e) / 2 for e in (x[:, 0], x[:, -1])]
    return ends[1] - ends[0] + weight(x[:, :-1], x[:, 1:]) - weight(x[:, 1:], x[:, :-1])


def _process(drift: Real, diffusion: Real) -> tuple[Matrix, Matrix]:
    a = square_matrix("drift", drift)
    rates = np.linalg.eigvals(a).real
    check("drift", rates, rates > 0, "have eigenvalues with positive real parts")
    return a, positive_matrix("diffusion", diffusion, len(a))
