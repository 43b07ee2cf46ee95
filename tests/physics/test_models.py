"""Theorems about the models: which equation each of them is, on which clock."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, chords_to_pole

import rqf_jax as rqf


def test_the_random_quadratic_form_is_symmetric_matrix_noise_alone_on_the_sphere():
    sde = rqf.models.random_quadratic_form(sigma=0.7)
    assert isinstance(sde.drift, rqf.drifts.NoDrift)
    assert isinstance(sde.manifold, rqf.manifolds.Sphere)
    x = jnp.asarray([[0.6, 0.8, 0.0], [0.0, 0.6, -0.8]])
    dw = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))
    expected = -0.7 * x @ (dw + dw.T) / 2
    np.testing.assert_allclose(sde.noise(jnp.zeros(()), x, dw), expected, atol=1e-15)


@pytest.mark.slow
def test_at_sigma_root_two_one_token_is_a_standard_brownian_motion_on_the_sphere():
    dim, ts = 3, jnp.array([0.0, 0.25, 1.0])
    runs = rqf.simulate(
        rqf.models.random_quadratic_form(sigma=math.sqrt(2)),
        rqf.laws.Fixed(jnp.eye(dim)[:1]),
        ts,
        substeps=32,
        members=10_000,
        key=jax.random.key(1),
        save=chords_to_pole,
    )
    # Generator Δ/2, and Δ has the eigenvalue -(n-1) on coordinates, -2n on x_1² - 1/n.
    decay = np.exp(-(dim - 1) / 2 * ts)
    assert_mean(runs.ys[:, 1:], decay[1:], bias=1e-4)
    square = 1 / dim + (1 - 1 / dim) * np.exp(-dim * ts)
    assert_mean(runs.ys[:, 1:] ** 2, square[1:], bias=3e-4)


def test_sigma_is_an_array_that_can_be_mapped_over():
    sigmas = jnp.array([0.0, 0.5, 1.0])
    sdes = jax.vmap(rqf.models.random_quadratic_form)(sigmas)
    np.testing.assert_array_equal(sdes.noise.symmetric, sigmas)


def test_a_negative_sigma_is_refused():
    with pytest.raises(ValueError, match=r"`sigma` must be at least 0; got -1\."):
        rqf.models.random_quadratic_form(sigma=-1.0)
