"""Triangular factors without LAPACK: the Gram matrix that one keeps, and the other solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rqf_jax._linalg.triangle import triangle, whitened

KEY = jax.random.key(3)


@pytest.mark.parametrize("shape", [(3, 8), (5, 5), (8, 3)])
def test_the_triangle_is_that_of_lapack_but_for_signs(shape):
    a = jax.random.normal(jax.random.key(0), shape)
    r, expected = triangle(a), np.linalg.qr(np.asarray(a), mode="r")
    assert r.shape == (min(shape), shape[1])
    assert np.all(np.tril(r, -1) == 0)
    np.testing.assert_allclose(np.abs(r), np.abs(expected), atol=1e-13)


@pytest.mark.slow
def test_dependent_columns_keep_their_overlaps_and_gradients_stay_finite():
    # Three equal columns and one opposite, then new directions that need the rows left over.
    first, others = jnp.eye(3)[0], jax.random.normal(jax.random.key(1), (4, 3))
    a = jnp.concatenate([jnp.stack([first, first, first, -first]), others]).T
    r = triangle(a)
    np.testing.assert_allclose(r.T @ r, a.T @ a, atol=1e-14)
    assert np.all(triangle(jnp.zeros((3, 4))) == 0)
    for point in (a, jnp.zeros((3, 4))):
        assert np.all(np.isfinite(jax.grad(lambda x: jnp.sum(triangle(x) ** 2))(point)))


@pytest.mark.parametrize("size", [1, 5, 37])
def test_whitened_columns_solve_with_a_positive_definite_matrix(size):
    factor, right = (jax.random.normal(key, (size, 3)) for key in jax.random.split(KEY))
    a = jnp.eye(size) + jnp.matmul(factor, factor.T)
    white, log_det = jax.jit(whitened)(a, right)
    np.testing.assert_allclose(white.T @ white, right.T @ np.linalg.solve(a, right), atol=1e-13)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(a)[1], rtol=1e-13)
    assert np.isnan(jax.jit(whitened)(-a, right)[1])


def test_the_norm_has_its_own_gradient_through_the_reflections():
    a = jax.random.normal(jax.random.key(2), (4, 3))
    gradient = jax.grad(lambda x: jnp.sum(triangle(x) ** 2))(a)
    np.testing.assert_allclose(gradient, 2 * a, atol=1e-13)
