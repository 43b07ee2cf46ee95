"""One token under anisotropic matrix noise: its drift, density and second moment."""

import numpy as np
import pytest
from _ito import (
    full_basis,
    ito,
    matrix_moves,
    unit_tokens,
)

from rqf_jax.theory import anisotropic

ROWS, COLUMNS = np.diag([3.0, 1.0, 0.4]), np.diag([0.5, 1.0, 2.5])


def random_matrix(dim, seed):
    root = np.random.default_rng(seed).standard_normal((dim, dim))
    return root @ root.T + 0.3 * np.eye(dim)


def root_of(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def anisotropic_moves(x, rows, columns):
    left, right = root_of(rows), root_of(columns)
    return matrix_moves(x, np.array([left @ e @ right for e in full_basis(len(rows))]))


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_anisotropic_noise_has_its_drift(dim):
    x, c, d = unit_tokens(3, dim), random_matrix(dim, 1), random_matrix(dim, 2)
    expected = ito(x, anisotropic_moves(x, c, d))[0]
    np.testing.assert_allclose(anisotropic.drift(x, c, d), expected, atol=1e-11)


def sphere_grid(dim, size=80):
    """Points and weights of a product rule for the uniform law on the circle or the sphere."""
    longitude = 2 * np.pi * np.arange(2 * size) / (2 * size)
    circle_points = np.stack([np.cos(longitude), np.sin(longitude)], axis=1)
    if dim == 2:
        return circle_points, np.full(2 * size, 1 / (2 * size))
    height, weights = np.polynomial.legendre.leggauss(size)
    radius = np.sqrt(1 - height**2)
    flat = radius[:, None, None] * circle_points
    up = np.broadcast_to(height[:, None, None], (*flat.shape[:2], 1))
    points = np.concatenate([flat, up], axis=-1).reshape(-1, 3)
    return points, np.repeat(weights / 2, 2 * size) / (2 * size)


@pytest.mark.parametrize("dim", [2, 3])
def test_the_anisotropic_density_is_stationary_and_gives_the_second_moment(dim):
    c, d = random_matrix(dim, 3), random_matrix(dim, 4)
    x, weights = sphere_grid(dim)
    weights = weights * anisotropic.density(x, c, d)
    assert weights.sum() == pytest.approx(1, rel=1e-10)
    moment = np.einsum("k,ki,kj->ij", weights, x, x)
    np.testing.assert_allclose(anisotropic.second_moment(c, d), moment, rtol=1e-8, atol=1e-10)
    # The generator of every quadratic and quartic monomial has mean zero.
    moved = anisotropic.drift(x, c, d)
    tangent = np.eye(dim) - x[:, :, None] * x[:, None, :]
    spread = np.sum(x * (x @ d), axis=1)[:, None, None] * (tangent @ c @ tangent)
    for i in range(dim):
        for j in range(dim):
            change = moved[:, i] * x[:, j] + x[:, i] * moved[:, j] + spread[:, i, j]
            assert weights @ change == pytest.approx(0, abs=1e-10)
            product, gradient = x[:, i] * x[:, j], np.zeros_like(x)
            gradient[:, i] += x[:, j]
            gradient[:, j] += x[:, i]
            turned = np.einsum("ki,kij,kj->k", gradient, spread, gradient)
            assert weights @ (2 * product * change + turned) == pytest.approx(0, abs=1e-10)


def test_anisotropic_second_moments_have_the_tabulated_values():
    # A weighted sample of 2e6 points has .5047, .3188, .1765.
    found = anisotropic.second_moment(ROWS, COLUMNS)
    np.testing.assert_allclose(np.diag(found), [0.50495, 0.31858, 0.17647], atol=1e-5)
    np.testing.assert_allclose(found - np.diag(np.diag(found)), 0, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 7])
def test_anisotropic_laws_that_are_uniform(dim):
    x = unit_tokens(4, dim)
    np.testing.assert_allclose(anisotropic.density(x, np.eye(dim), 2 * np.eye(dim)), 1, rtol=1e-9)
    moment = anisotropic.second_moment(3 * np.eye(dim), np.eye(dim))
    np.testing.assert_allclose(moment, np.eye(dim) / dim, atol=1e-10)
    if dim == 2:
        found = anisotropic.density(x, random_matrix(2, 5), np.eye(2))
        np.testing.assert_allclose(found, 1, rtol=1e-12)


def test_anisotropic_moments_turn_with_the_matrices_and_have_trace_one():
    for dim in (4, 9):
        c, d = random_matrix(dim, 6), random_matrix(dim, 7)
        turn = np.linalg.qr(np.random.default_rng(8).standard_normal((dim, dim)))[0]
        moment = anisotropic.second_moment(c, d)
        turned = anisotropic.second_moment(turn @ c @ turn.T, turn @ d @ turn.T)
        np.testing.assert_allclose(turned, turn @ moment @ turn.T, atol=1e-10)
        assert np.trace(moment) == pytest.approx(1, abs=1e-10)
