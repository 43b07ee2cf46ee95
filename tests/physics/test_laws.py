"""Theorems about the initial laws."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _ensembles import assert_mean, unit_tokens

import rqf_jax as rqf
from rqf_jax.laws import Equiangular, Fixed, InSpan, Pair, Uniform, Zeros

KEY = jax.random.key(7)


def draws(law, count):
    """Independent states (count, tokens, dim)."""
    return np.asarray(jax.jit(jax.vmap(law))(jax.random.split(KEY, count)))


@pytest.mark.parametrize("dim", [3, *(pytest.param(dim, marks=pytest.mark.slow) for dim in (2, 8))])
def test_uniform_tokens_have_a_beta_distributed_coordinate(dim):
    x = draws(Uniform(2, dim), 50_000)
    # (1 + x_1)/2 has the Beta law with both parameters (n-1)/2 for the uniform law on S^{n-1}.
    beta = scipy.stats.beta((dim - 1) / 2, (dim - 1) / 2)
    for coordinate in (x[:, 0, 0], x[:, 1, -1], np.sum(x[:, 0] * x[:, 1], axis=-1)):
        five_scores = 2 * scipy.stats.norm.sf(5)
        assert scipy.stats.kstest((1 + coordinate) / 2, beta.cdf).pvalue > five_scores


@pytest.mark.parametrize(
    "dim", [1, 3, *(pytest.param(dim, marks=pytest.mark.slow) for dim in (2, 8))]
)
def test_uniform_tokens_are_isotropic_and_independent(dim):
    x = draws(Uniform(2, dim), 50_000)
    assert np.abs(np.linalg.norm(x, axis=-1) - 1).max() < 4e-15
    assert_mean(x, 0.0)
    assert_mean(np.einsum("mi,mj->mij", x[:, 0], x[:, 0]), np.eye(dim) / dim, bias=1e-15)
    assert_mean(np.einsum("mi,mj->mij", x[:, 0], x[:, 1]), 0.0)


def test_a_fixed_law_is_a_point_mass_with_the_dtype_of_its_point():
    for dtype in (np.float32, np.float64):
        x0 = unit_tokens(2, 3).astype(dtype)
        state = Fixed(x0)(KEY)
        assert state.dtype == dtype
        np.testing.assert_array_equal(state, x0)
    assert jnp.issubdtype(Fixed([[1, 0], [0, 1]])(KEY).dtype, jnp.floating)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_zeros_is_the_origin(shape):
    np.testing.assert_array_equal(Zeros(shape)(KEY), np.zeros(shape))


@pytest.mark.parametrize("dim", [2, 3, 8])
@pytest.mark.parametrize("angle", [0.0, 1e-8, 1.0, math.pi / 2, math.pi - 1e-8, math.pi])
def test_a_pair_has_its_angle_in_every_dimension(angle, dim):
    x, y = np.asarray(Pair(angle, dim)(KEY))
    assert x.shape == (dim,)
    measured = 2 * math.atan2(np.linalg.norm(x - y), np.linalg.norm(x + y))
    assert measured == pytest.approx(angle, rel=1e-14, abs=2e-16)


@pytest.mark.parametrize("angle", [0.0, 1.0, math.pi])
def test_a_pair_has_finite_derivatives_at_both_ends(angle):
    def state(angle):
        return Pair(angle, 3)(KEY)

    derivative = jax.jacfwd(state)(jnp.asarray(angle))
    expected = [[0, 0, 0], [-math.sin(angle), math.cos(angle), 0]]
    np.testing.assert_allclose(derivative, expected, atol=1e-15)


@pytest.mark.parametrize("extra", [0, 4])
@pytest.mark.parametrize(
    ("tokens", "overlap"),
    [(1, 0.3), (2, -1.0), (2, 0.0), (3, -0.5), (3, 0.9), (5, -0.25), (5, 1.0), (40, 0.5)],
)
def test_equiangular_tokens_have_one_overlap(tokens, overlap, extra):
    x = np.asarray(Equiangular(tokens, tokens + extra, overlap)(KEY))
    assert x.shape == (tokens, tokens + extra)
    expected = (1 - overlap) * np.eye(tokens) + overlap
    np.testing.assert_allclose(x @ x.T, expected, atol=8e-15)


def test_equiangular_overlaps_have_derivative_one_inside_the_range():
    def overlap(rho):
        x = Equiangular(3, 4, rho)(KEY)
        return jnp.sum(x[0] * x[1])

    for rho in (-0.3, 0.0, 0.7):
        assert float(jax.grad(overlap)(jnp.asarray(rho))) == pytest.approx(1, abs=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("tokens", "dim"), [(3, 8), (4, 4), (6, 3), (1, 5), (3, 1)])
def test_the_span_has_the_overlaps_of_the_tokens_in_the_least_dimension(tokens, dim, dtype):
    x = unit_tokens(tokens, dim).astype(dtype)
    state = InSpan(Fixed(x))(KEY)
    assert state.shape == (tokens, min(tokens, dim)) and state.dtype == dtype
    gram = np.asarray(state, np.float64) @ np.asarray(state, np.float64).T
    exact = x.astype(np.float64) @ x.astype(np.float64).T
    np.testing.assert_allclose(gram, exact, atol=1e-6 if dtype == "float32" else 1e-14)


def test_the_span_keeps_the_overlaps_of_dependent_tokens():
    x = np.repeat(unit_tokens(2, 6), 2, axis=0)
    state = np.asarray(InSpan(Fixed(x))(KEY))
    np.testing.assert_allclose(state @ state.T, x @ x.T, atol=1e-14)


def test_the_span_of_a_random_law_is_of_the_same_draw():
    inner = Uniform(3, 8)
    x, r = np.asarray(inner(KEY)), np.asarray(InSpan(inner)(KEY))
    np.testing.assert_allclose(r @ r.T, x @ x.T, atol=1e-14)


def test_a_law_is_a_function_of_its_key():
    law = Uniform(4, 3)
    np.testing.assert_array_equal(law(KEY), law(KEY))
    assert not np.any(np.asarray(law(KEY)) == np.asarray(law(jax.random.key(8))))


def test_parameters_of_laws_are_arrays_that_can_be_mapped_over():
    angles = jnp.linspace(0.1, 3.0, 7)
    states = jax.vmap(lambda angle: rqf.laws.Pair(angle, 2)(KEY))(angles)
    np.testing.assert_allclose(states[:, 1, 0], jnp.cos(angles), atol=1e-15)


class In32(rqf.laws.AbstractLaw):
    """The float32 draws of a law that has numbers of its own."""

    law: rqf.laws.AbstractLaw

    def __call__(self, key):
        single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), self.law)
        return single(key)


@pytest.mark.parametrize(
    "law",
    [
        rqf.laws.Normal((4, 3), 1.3),
        pytest.param(rqf.laws.GaussianEnsemble(6, 0.7, 2.5), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_both_precisions_start_alike(law):
    keys = jax.random.split(jax.random.key(0), 50)
    double, single = jax.vmap(law)(keys), jax.vmap(In32(law))(keys)
    assert double.dtype == jnp.float64 and single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, atol=2e-5)


def test_uniform_tokens_of_both_precisions_are_alike_and_unit_vectors():
    law, key = rqf.laws.Uniform(5, 4), jax.random.key(2)
    double = law(key)
    with jax.enable_x64(False):
        single = law(key)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, atol=2e-7)
    np.testing.assert_allclose(np.sum(np.asarray(double) ** 2, -1), 1, atol=1e-15)


def test_a_normal_state_lies_around_its_mean_in_the_precision_of_its_scale():
    mean, scale, many = np.array([3.0, -1.0]), jnp.float32(0.5), 4000
    law = rqf.laws.Normal((2,), scale, mean)
    drawn = jax.vmap(law)(jax.random.split(jax.random.key(0), many))
    assert drawn.dtype == jnp.float32
    z = (np.asarray(drawn, float).mean(0) - mean) / (0.5 / np.sqrt(many))
    assert np.abs(z).max() < 5
