"""Covariances of isotropic random fields on the sphere: functions κ of the overlap of two tokens.

A field F on the sphere with E F_i(x) F_j(y) = κ(<x, y>) δ_ij moves all tokens at once; the layers
of a random network at initialisation are such fields. Their κ are made here once, from the
activation function, as a power series with positive coefficients.
"""

import abc
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._arguments import described, finite, integer, is_concrete, one_of, part, scalar
from ._special import horner, sine, unit_overlap

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "AbstractKernel",
    "Activation",
    "PowerSeries",
    "UnitOutput",
]


def __dir__() -> list[str]:
    return __all__


Activation = Literal["relu", "tanh", "gelu", "silu", "sigmoid"]

_SERIES, _NODES = 48, 200


class AbstractKernel(eqx.Module):
    """A covariance κ of an isotropic field, a function of the overlap r in [-1, 1]."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """κ(r), entry by entry; differentiable on all of [-1, 1]."""


class PowerSeries(AbstractKernel):
    """κ(r) = Σ_k c_k r^k with c_k ≥ 0.

    These are the covariances that exist on spheres of every dimension (Schoenberg's theorem,
    recalled). c_0 is the variance of a common bias, c_1 that of a matrix with independent entries.
    `coefficients` is (c_0, c_1, …). Raises ValueError unless it is one axis of finite numbers ≥ 0.
    """

    coefficients: Float[Array, " degrees"]

    def __init__(self, coefficients: Any):
        self.coefficients = finite("coefficients", coefficients)
        if self.coefficients.ndim != 1 or self.coefficients.size < 1:
            raise ValueError(
                "`coefficients` must be one axis of at least one number; got shape "
                f"{self.coefficients.shape}."
            )
        if is_concrete(self.coefficients) and np.min(np.asarray(self.coefficients)) < 0:
            raise ValueError(
                "`coefficients` must be at least 0, or |κ(r)| exceeds κ(1) in some dimension; got "
                f"{np.min(np.asarray(self.coefficients)):g}."
            )

    def __call__(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Σ_k c_k r^k."""
        return horner(self.coefficients, r)


class MLP(AbstractKernel):
    """The field of a wide perceptron with one hidden layer at initialisation.

        F(x) = m^(-1/2) Σ_j w_j φ(u_j·x/√d + b_j) + c,   κ(r) = E φ(ξ) φ(η) + σ_W²,
        Var ξ = Var η = v = 1/d + σ_U²,   Cov(ξ, η) = r/d + σ_U²

    with standard normal w_j, u_j, Var b_j = σ_U², Var c = σ_W² and width m → ∞. relu has a closed
    form (Cho & Saul's arc-cosine kernel, recalled); for the others κ is the power series of the
    Hermite coefficients of φ, by Gauss-Hermite quadrature, which is short for v up to 1 (error 1e-8
    and less) and just long enough at 4 (tanh: 3e-5).

    **Arguments**

    - `activation`: φ, one of relu, tanh, gelu, silu, sigmoid.
    - `dim`: d.
    - `bias_in`, `bias_out`: σ_U ≥ 0 and σ_W ≥ 0.

    **Raises** ValueError for another activation, dim < 1, biases that are not finite or negative,
    and v > 4 if φ is not relu.

    **Example**

    >>> kernel = rqf.kernels.MLP("relu", 4)
    >>> print(round(float(kernel(jnp.ones(()))), 6))  # E φ(ξ)² = v/2 with v = 1/4
    0.125

    Source: Agazzi, Bruno, Mosig García, Saviozzi & Romito, arXiv:2604.26898 (theory part read).
    """

    activation: Activation = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    bias_in: Float[Array, ""] = eqx.field(converter=scalar("bias_in", minimum=0))
    bias_out: Float[Array, ""] = eqx.field(converter=scalar("bias_out", minimum=0))

    def __init__(self, activation: Activation, dim: int, bias_in: Any = 0.0, bias_out: Any = 0.0):
        self.activation = one_of(*ACTIVATIONS)("activation", activation)
        self.dim = integer("dim", dim, maximum=2**31 - 1)
        self.bias_in = bias_in
        self.bias_out = bias_out

    def __check_init__(self):
        if self.activation != "relu" and is_concrete(self.bias_in):
            variance = 1 / self.dim + float(self.bias_in) ** 2
            if variance > 4 * (1 + 1e-6):
                raise ValueError(
                    "`bias_in` must leave 1/dim + bias_in² at most 4, beyond which the series is "
                    f"too short; got {variance:g}."
                )

    def __call__(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """E φ(ξ) φ(η) + σ_W²."""
        shared = self.bias_in.astype(r.dtype) ** 2
        variance = 1 / self.dim + shared
        correlation = (r / self.dim + shared) / variance
        constant = self.bias_out.astype(r.dtype) ** 2
        if self.activation == "relu":
            return variance / 2 * _arc_cosine(correlation) + constant
        coefficients = _hermite_squares(ACTIVATIONS[self.activation], jnp.sqrt(variance))
        return horner(coefficients, correlation) + constant


class UnitOutput(AbstractKernel):
    """The field of a random branch whose outputs are divided by their lengths.

        κ(r) = f_n(k(r))/n,   k(r) = κ_0(r)/κ_0(1),
        f_n(z) = E <N(u), N(v)> = z (2/n)[Γ((n+1)/2)/Γ(n/2)]² ₂F₁(1/2, 1/2; n/2+1; z²)

    for normals u, v of R^n with E u_i v_j = z δ_ij. Outputs of unit length are no Gaussian field,
    but in the limit of short steps only their covariance matters. f_n(1) = 1, and its slope there
    is (n-1)/(n-2), infinite for n = 2. `kernel` is κ_0, `dim` is n ≥ 2. f_n and its slope are fits,
    right to 1e-11 in float64 and to rounding in float32, relative to themselves; to 4e-9 the slope
    for n = 2 within 1e-8 of 1.

    Raises ValueError if `kernel` is not one of `rqf_jax.kernels`, or dim < 2. [derived]
    """

    kernel: AbstractKernel
    dim: int = eqx.field(static=True)

    def __init__(self, kernel: AbstractKernel, dim: int):
        self.kernel = part(AbstractKernel)("kernel", kernel)
        self.dim = integer("dim", dim, minimum=2, maximum=2**31 - 1)

    def __call__(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """f_n(κ_0(r)/κ_0(1))/n."""
        inverse = 1 / self.kernel(jnp.ones((), r.dtype))
        return unit_overlap(self.kernel(r) * inverse, self.dim) * (1 / self.dim)


ACTIVATIONS: dict[str, Callable] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "gelu": lambda u: jax.nn.gelu(u, approximate=False),
    "silu": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
}


@functools.cache
def _hermite_functions() -> tuple[np.ndarray, np.ndarray]:
    """Nodes z, and w_i he_k(z_i)/√k! for Σ_i: the k-th normalised Hermite coefficient."""
    z, w = np.polynomial.hermite_e.hermegauss(_NODES)
    rows = [np.ones_like(z), z]
    for k in range(1, _SERIES - 1):
        rows.append((z * rows[k] - math.sqrt(k) * rows[k - 1]) / math.sqrt(k + 1))
    return z, np.array(rows) * (w / w.sum())


def _hermite_squares(phi: Callable, scale: Float[Array, ""]) -> Float[Array, " degrees"]:
    """c_k = (E φ(s Z) he_k(Z)/√k!)², so that E φ(s Z) φ(s Z') = Σ c_k ρ^k (Mehler)."""
    nodes, functionals = (jnp.asarray(array, scale.dtype) for array in _hermite_functions())
    return jnp.matmul(functionals, phi(scale * nodes), precision="highest") ** 2


@jax.custom_jvp
def _arc_cosine(rho: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """(√(1-ρ²) + ρ (π - θ)) / π with ρ = cos θ: twice E relu(ξ) relu(η) for unit variances."""
    height = sine(rho)
    return (height + rho * (math.pi - jnp.atan2(height, rho))) / math.pi


@_arc_cosine.defjvp
def _arc_cosine_slope(primals, tangents):
    # By hand, because the two terms have infinite slopes at the ends that cancel.
    (rho,), (change,) = primals, tangents
    return _arc_cosine(rho), (math.pi - jnp.atan2(sine(rho), rho)) / math.pi * change
