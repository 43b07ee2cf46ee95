"""The exact law of the rapidity of a pair as a differentiable function of arrays."""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..observables._state import safe_sqrt

_NODES = 48
_ITERATIONS = 9


def log_density(
    u: Float[Array, "*pairs"], start: Float[Array, "*pairs"], clock: Float[Array, "*pairs"]
) -> Float[Array, "*pairs"]:
    """ln p(u) of the rapidity u at σ_s² t = `clock` > 0, from `start`.

    The formula of `theory.sphere.angle_density`, where (2/π) K(-y) = 1/M(1, √(1+y)) with M the
    arithmetic-geometric mean (Gauss), which has derivatives of every order. The absolute error is
    below 1e-9 for clocks up to 2, 1e-6 up to 4 (against `theory.sphere`; in float64).
    """
    dtype = u.dtype
    x, weights = np.polynomial.legendre.leggauss(_NODES)
    roots = 6.2 * (x + 1) / 2  # √x, cut where exp(-x) = 2e-17
    masses = jnp.asarray(2 * roots * np.exp(-(roots**2)) * 6.2 * weights / 2, dtype)
    size, size0, distance = jnp.abs(u), jnp.abs(start), jnp.abs(u - start)
    scale = 1 / ((1 + jnp.exp(-2 * size)) * (1 + jnp.exp(-2 * size0)))

    def add(average, node):
        root, mass = node
        reach = 4 * clock * root**2
        s = jnp.sqrt(distance**2 + reach)
        excess = reach / (s + distance)  # s - δ without cancellation
        rise = jnp.expm1(-excess) * jnp.expm1(-s - distance)
        y = jnp.exp(s - size - size0) * rise * scale
        return average + mass / _mean(1 + y), None

    nodes = (jnp.asarray(roots, dtype), masses)
    average = lax.scan(add, jnp.zeros_like(u), nodes)[0]
    gaussian = -(distance**2) / (4 * clock) - clock / 4 - jnp.log(4 * math.pi * clock) / 2
    return gaussian + (log_cosh(u) - log_cosh(start)) / 2 + jnp.log(average)


def log_cosh(u: Float[Array, "*pairs"]) -> Float[Array, "*pairs"]:
    """ln cosh u without overflow."""
    return jnp.logaddexp(u, -u) - math.log(2)


def rapidity(
    x: Float[Array, "*pairs dim"], y: Float[Array, "*pairs dim"]
) -> tuple[Float[Array, "*pairs"], Float[Array, "*pairs"]]:
    """u = artanh <x, y> = ln |x + y| - ln |x - y|, and the shorter of the two lengths.

    Chords keep the relative accuracy of small gaps; one of length 0 is held at ε/4.
    """
    least = float(jnp.finfo(x.dtype).eps) / 4
    far, near = (jnp.maximum(safe_sqrt(jnp.sum(d * d, -1)), least) for d in (x + y, x - y))
    return jnp.log(far) - jnp.log(near), jnp.minimum(far, near)


def _mean(square):
    """The arithmetic-geometric mean of 1 and the root of `square` ≥ 1."""
    a, b = jnp.ones_like(square), jnp.sqrt(square)
    for _ in range(_ITERATIONS):
        a, b = (a + b) / 2, jnp.sqrt(a * b)
    return a
