"""Orders of convergence: strong, weak and, without noise, those of an ordinary solver.

Weak errors are not sampled. The expectation over one step is a Gaussian integral, done by
quadrature with the solver's own step, and the expectation over many steps follows from it by
rotation invariance: E<x_k, x_0> = (E<x_1, x_0>)^k.
"""

import functools
import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import gaussian_nodes, isotropic, matrix_units, slope, unit_tokens
from jax.scipy.linalg import expm
from jaxtyping import Array, Float
from scipy.linalg import expm as expm_numpy

import rqf_jax as rqf
from rqf_jax.noises import IsotropicNoise
from rqf_jax.solvers import GeodesicEuler, GeodesicHeun, ProjectiveFlow
from rqf_jax.theory import sphere

SPHERE = rqf.manifolds.Sphere()
SOLVERS = {s.__name__: s() for s in (ProjectiveFlow, GeodesicEuler, GeodesicHeun)}
MIXTURES = [(0.8, 0.6), (1.0, 0.0), (0.0, 1.0), (0.5, 1.2)]


# ---- strong order


@functools.cache
def strong_errors(symmetric, antisymmetric):
    """Root mean square distance of each solver's states at T = 1 to those of 4096 steps."""
    members, cells, finest = 2048, 16, 256
    levels = (1, 2, 4, 8, 16)
    sde = isotropic(symmetric, antisymmetric)
    x0 = jnp.asarray(unit_tokens(2, 3))
    # Members last: then a step is arithmetic on long rows.
    start = jnp.broadcast_to(x0[..., None], (2, 3, members))

    def advance(solver, h):
        step = jax.vmap(
            lambda x, dw: solver.advance(sde, jnp.zeros(()), jnp.asarray(h), x, dw), (-1, -1), -1
        )
        return lambda x, dw: (step(x, dw), None)

    def cell(states, key):
        dw = math.sqrt(1 / (cells * finest)) * jax.random.normal(key, (finest, 3, 3, members))
        reference, coarse = states
        reference, _ = jax.lax.scan(
            advance(ProjectiveFlow(), 1 / (cells * finest)), reference, dw
        )
        sums = {n: dw.reshape(n, finest // n, 3, 3, members).sum(1) for n in levels}
        coarse = {
            (name, n): jax.lax.scan(advance(SOLVERS[name], 1 / (cells * n)), x, sums[n])[0]
            for (name, n), x in coarse.items()
        }
        return (reference, coarse), None

    @jax.jit
    def run(key):
        coarse = {(name, n): start for name in SOLVERS for n in levels}
        keys = jax.random.split(key, cells)
        (reference, coarse), _ = jax.lax.scan(cell, (start, coarse), keys)
        return {
            k: jnp.sqrt(jnp.mean(jnp.sum((x - reference) ** 2, axis=(0, 1))))
            for k, x in coarse.items()
        }

    errors = jax.device_get(run(jax.random.key(0)))
    steps = 1 / (cells * np.array(levels))
    return steps, {name: np.array([errors[name, n] for n in levels]) for name in SOLVERS}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_converges_to_one_limit_at_strong_order_one_half(name):
    steps, errors = strong_errors(1.0, 0.0)
    assert slope(steps, errors[name]) == pytest.approx(0.5, abs=0.05)
