"""Private noise beside shared noise: coefficients, the stationary law and its moments."""

import math

import numpy as np
import pytest
from _ito import (
    matrix_moves,
    overlap_ito,
    symmetric_basis,
    unit_tokens,
)
from scipy.integrate import quad
from scipy.stats import t as student

from rqf_jax.theory import private_noise

DIMS = pytest.mark.parametrize("dim", [2, 3, 5, 8])
SIGMA, PRIVATE = 1.1, 0.6


@DIMS
def test_private_noise_has_its_ito_coefficients_and_no_stationary_current(dim):
    x = unit_tokens(2, dim, seed=5)
    r = x[0] @ x[1]
    own = np.zeros((2, dim, 2, dim))
    own[0, :, 0], own[1, :, 1] = PRIVATE * np.eye(dim), PRIVATE * np.eye(dim)
    moves = np.concatenate([SIGMA * matrix_moves(x, symmetric_basis(dim)), own.reshape(-1, 2, dim)])
    drift, variance = overlap_ito(x, moves)
    options = {"sigma": SIGMA, "private": PRIVATE}
    found = private_noise.overlap_drift(r, **options, dim=dim)
    assert found == pytest.approx(drift, abs=1e-12)
    assert private_noise.overlap_variance(r, **options) == pytest.approx(variance, abs=1e-12)

    def weighted(r):
        density = private_noise.overlap_density(r, **options, dim=dim)
        return private_noise.overlap_variance(r, **options) * density / 2

    points, step = np.linspace(-0.9, 0.9, 7), 1e-6
    slope = (weighted(points + step) - weighted(points - step)) / (2 * step)
    density = private_noise.overlap_density(points, **options, dim=dim)
    flow = private_noise.overlap_drift(points, **options, dim=dim) * density
    np.testing.assert_allclose(slope, flow, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("dim", "sigma2", "private2", "square", "sine"),
    [(3, 1.0, 0.2, 0.5827, 0.5806), (5, 1.0, 0.05, 0.6292, 0.5442), (2, 1.0, 0.3, 0.6755, 0.4752)],
)
def test_private_noise_moments_are_those_of_the_density_and_of_the_table(
    dim, sigma2, private2, square, sine
):
    options = {"sigma": math.sqrt(sigma2), "private": math.sqrt(private2), "dim": dim}

    def average(function):
        def integrand(angle):
            density = private_noise.overlap_density(math.cos(angle), **options)
            return function(angle) * math.sin(angle) * density

        return quad(integrand, 0, math.pi, epsabs=1e-12)[0]

    assert average(lambda _: 1.0) == pytest.approx(1, rel=1e-9)
    found = private_noise.mean_squared_overlap(**options)
    assert found == pytest.approx(square, abs=5.1e-5)
    assert found == pytest.approx(average(lambda angle: math.cos(angle) ** 2), rel=1e-9)
    found = private_noise.mean_sine(**options)
    assert found == pytest.approx(sine, abs=5.1e-5)
    assert found == pytest.approx(average(math.sin), rel=1e-9)
    # cot θ is Student's t, scaled.
    scale = math.sqrt((1 + sigma2 / private2) / (dim - 1))
    cotangent = np.array([-3.0, 0.2, 1.5])
    expected = student.pdf(cotangent / scale, dim - 1) / scale
    angle = np.arctan2(1, cotangent)
    density = private_noise.overlap_density(np.cos(angle), **options)
    np.testing.assert_allclose(density * np.sin(angle) ** 3, expected, rtol=1e-10)


def test_private_noise_alone_makes_tokens_independent_and_uniform():
    options = {"sigma": 0.0, "private": 0.7}
    assert private_noise.mean_squared_overlap(**options, dim=6) == pytest.approx(1 / 6)
    flat = private_noise.overlap_density([-0.9, 0.1, 1.0], **options, dim=3)
    np.testing.assert_allclose(flat, 0.5, rtol=1e-12)
