"""Tokens moved by one random Gaussian vector field of isotropic covariance: closed forms.

    dx_a = P F(x_a) √dt (Itô layers, a fresh F each),   E F_i(x) F_j(y) = κ(<x,y>) δ_ij,

a perceptron at initialisation (κ of `rqf_jax.kernels`), a full random matrix (κ(r) = r), a random
bias (κ = 1). `dim` is n, `value` is κ(1), `slope` is κ'(1). Conventions are those of
`theory.sphere`.

Sources. Agazzi, Bruno, Mosig García, Saviozzi and Romito, arXiv:2604.26898 (read), state the limit
and the first Lyapunov exponent, after Raimond. The rest was derived for this library and is checked
in its tests.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from .._arguments import called, takes
from ._contract import finite
from ._numbers import Real, count, nonnegative, overlaps, real, scalar, size
from ._rapidity import Values

Kernel = Callable[[Values], Values]


@finite
def one_point_correlation(time: Real, *, value: Real, dim: int) -> Values:
    """E<x_t, x_0> = exp(-(n-1) κ(1) t/2): each token is a Brownian motion, generator (κ(1)/2) Δ.

    Raises ValueError unless time, κ(1) ≥ 0 and dim ≥ 1.
    """
    rate = (count("dim", dim) - 1) * nonnegative("value", value) / 2
    return np.exp(-rate * nonnegative("time", time))


@finite
@takes(kernel=called("an overlap"))
def overlap_drift(overlap: Real, kernel: Kernel, *, dim: int) -> Values:
    """(n-2+r²) κ(r) - (n-1) r κ(1), the Itô drift of an overlap r; `kernel` is κ."""
    r, n = overlaps("overlap", overlap), count("dim", dim, minimum=2)
    return (n - 2 + r**2) * kernel(r) - (n - 1) * r * kernel(np.asarray(1.0))


@finite
@takes(kernel=called("an overlap"))
def overlap_variance(overlap: Real, kernel: Kernel) -> Values:
    """d<r>/dt = 2(1-r²)(κ(1) - r κ(r)), the variance an overlap gains per unit time."""
    r = overlaps("overlap", overlap)
    return 2 * (1 - r) * (1 + r) * (kernel(np.asarray(1.0)) - r * kernel(r))


@finite
def lyapunov_spectrum(dim: int, *, value: float, slope: float) -> Float[np.ndarray, " exponents"]:
    """λ_i = [(n-1-2i) κ'(1) - (n-1) κ(1)]/2, i = 1, ..., n-1, largest first.

    The first, [(n-3) κ'(1) - (n-1) κ(1)]/2, is in arXiv:2604.26898. Tokens synchronise where it is
    negative. Raises ValueError unless κ(1), κ'(1) ≥ 0 and dim ≥ 2.
    """
    n = size("dim", dim, minimum=2)
    stretch = (n - 1 - 2 * np.arange(1.0, n)) * scalar(nonnegative, "slope", slope)
    return (stretch - (n - 1) * scalar(nonnegative, "value", value)) / 2


@finite
def energy_rate(dim: int, *, value: Real, slope: Real) -> Values:
    """λ̄ = (n-1) κ'(1) - (n-3) κ(1): mean energy dissipates if it is negative.

    For n > 3 and a field that is not odd (arXiv:2604.26898).
    """
    n = count("dim", dim, minimum=2)
    return (n - 1) * real("slope", slope) - (n - 3) * real("value", value)
