"""Special functions that steps need: differentiable, and short enough for a fused kernel."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import hyp2f1

_NODES = 200


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def unit_overlap(z: Float[Array, "*shape"], dim: int) -> Float[Array, "*shape"]:
    """f_n(z) of `kernels.UnitOutput`: the mean cosine of two normal vectors, for dim = n."""
    return z * _unit_output_series(z, dim, slope=False)


@unit_overlap.defjvp
def _unit_overlap_slope(dim: int, primals: tuple, tangents: tuple):
    (z,), (change,) = primals, tangents
    return unit_overlap(z, dim), _unit_output_series(z, dim, slope=True) * change


def _unit_output_series(z: Float[Array, "*shape"], dim: int, *, slope: bool):
    """f_n(z)/z or f_n'(z) by the series that is short in this dimension."""
    in_sine, smooth, rough = _unit_output_coefficients(dim, slope, str(z.dtype))
    # Values, which are made in every step, need no guard at |z| = 1: F has no term in sin φ.
    root = sine if slope else lambda z: jnp.sqrt(jnp.abs(1 - z * z))
    u = root(z) if in_sine else z * z
    total = horner(jnp.asarray(smooth, z.dtype), 2 * u - 1)
    if rough:
        u = jnp.maximum(u, jnp.finfo(z.dtype).tiny)
        logarithm = u ** (dim - 2 * slope) * jnp.log(u)
        total += logarithm * horner(jnp.asarray(rough, z.dtype), 2 * u - 1)
    return total


@functools.cache
def _unit_output_coefficients(dim: int, slope: bool, dtype: str):
    """A variable u = z² or sin φ, z = cos φ, and polynomials p and q in 2u - 1: p + u^m log(u) q.

        f_n(z)/z = F(1/2, z²)/F(1/2, 1),   f_n'(z) = F(3/2, z²)/F(1/2, 1),
        F(b, y) = ₂F₁(1/2, b; n/2+1; y)

    are functions of sin²φ plus sin^m φ, times log sin φ in even n, m = n or n - 2. They are fitted
    by the first of three forms that needs few terms: in z² for large n, in sin φ, and with the
    logarithm.
    """
    tolerance = max(float(np.finfo(dtype).eps) / 4, 2e-12)
    angle = np.pi * (np.arange(_NODES) + 0.5) / _NODES
    t = np.cos(angle)
    u, one = (1 + t) / 2, np.ones(_NODES)
    rough = u ** (dim - 2 * slope) * np.log(u)
    for in_sine, factors, most in ((False, [one], 16), (True, [one], 24), (True, [one, rough], 16)):
        y = 1 - u * u if in_sine else u
        values = _hypergeometric(1.5 if slope else 0.5, dim, y) / _hypergeometric(0.5, dim, 1.0)
        for length in range(2, most + 1):
            basis = np.polynomial.chebyshev.chebvander(t, length - 1)
            columns = np.hstack([(f / values)[:, None] * basis for f in factors])
            found = np.linalg.lstsq(columns, one, rcond=None)[0]
            if np.abs(columns @ found - 1).max() < tolerance:
                break
        else:
            continue
        break
    series = map(np.polynomial.chebyshev.cheb2poly, np.split(found, len(factors)))
    smooth, *others = (tuple(c.tolist()) for c in series)
    return in_sine, smooth, others[0] if others else ()


def _hypergeometric(b: float, dim: int, y: Any) -> Any:
    """₂F₁(1/2, b; dim/2+1; y) on [0, 1]."""
    c = dim / 2 + 1
    if dim <= 40:
        return hyp2f1(0.5, b, c, y)
    term = total = np.ones_like(y)
    for k in range(40):
        term = term * y * ((0.5 + k) * (b + k) / ((c + k) * (k + 1)))
        total = total + term
    return total


def horner(
    coefficients: Float[Array, " degrees"], r: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Σ_k coefficients_k r^k."""
    total = jnp.full_like(r, coefficients[-1])
    for k in reversed(range(coefficients.size - 1)):
        total = total * r + coefficients[k].astype(r.dtype)
    return total


def sine(rho: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """√(1 - rho²), with finite slopes; overlaps of unit vectors may exceed 1 by rounding."""
    square = (1 - rho) * (1 + rho)
    inside = square > 0
    return jnp.where(inside, jnp.sqrt(jnp.where(inside, square, 1)), 0)
