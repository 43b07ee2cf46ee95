"""Theorems about the noises, exact ones: covariances and generators by enumerating the basis."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import matrix_units, unit_tokens

from rqf_jax.manifolds import Euclidean, Sphere
from rqf_jax.noises import Calculus, IsotropicNoise, NoNoise, SpanNoise, TokenNoise

STRENGTHS = [(1.0, 0.0), (0.0, 1.0), (0.7, 1.1)]
TIME = jnp.zeros(())


def covariance(noise, x):
    """Of the entries of the displacement of `x`, per unit time: J Jᵀ."""

    @jax.jit
    def squared(x):
        zero = jnp.zeros(noise.shape(x))
        jacobian = jax.jacfwd(lambda dw: noise(TIME, x, dw))(zero).reshape(x.size, -1)
        return jacobian @ jacobian.T

    return np.asarray(squared(x))


def ito_correction(noise, manifold, x):
    """½ Σ_j DV_j(x)[V_j(x)] for V_j = P g_j, which turns a Stratonovich drift into an Itô one."""
    basis = np.eye(math.prod(noise.shape(x))).reshape(-1, *noise.shape(x))

    @jax.jit
    def one(x, e):
        def field(y):
            return manifold.tangent(y, noise(TIME, y, e))

        return jax.jvp(field, (x,), (field(x),))[1]

    return sum(np.asarray(one(x, e)) for e in basis) / 2


@pytest.mark.parametrize(("symmetric", "antisymmetric"), STRENGTHS)
@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_matrix_has_the_stated_variances(symmetric, antisymmetric, dim):
    noise = IsotropicNoise(symmetric, antisymmetric)
    entries = np.asarray(jax.vmap(lambda e: noise.matrix(TIME, e))(jnp.asarray(matrix_units(dim))))
    # Cov(A_ij, A_kl) per unit time.
    covariance = np.einsum("mij,mkl->ijkl", entries, entries)
    one = np.eye(dim)
    same, swapped = np.einsum("ik,jl->ijkl", one, one), np.einsum("il,jk->ijkl", one, one)
    s2, a2 = symmetric**2, antisymmetric**2
    expected = (s2 + a2) / 2 * same + (s2 - a2) / 2 * swapped
    np.testing.assert_allclose(covariance, expected, atol=1e-14)


def test_equal_strengths_are_a_matrix_of_independent_entries():
    dw = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)))
    np.testing.assert_allclose(IsotropicNoise(0.3, 0.3).matrix(TIME, dw), 0.3 * dw, atol=1e-16)


@pytest.mark.parametrize(("symmetric", "antisymmetric"), STRENGTHS)
def test_the_law_of_matrix_noise_is_rotation_invariant(symmetric, antisymmetric):
    noise, x = IsotropicNoise(symmetric, antisymmetric), jnp.asarray(unit_tokens(3, 4))
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]
    turn = np.kron(np.eye(3), rotation)
    turned = covariance(noise, x @ jnp.asarray(rotation).T)
    np.testing.assert_allclose(turned, turn @ covariance(noise, x) @ turn.T, atol=1e-13)


@pytest.mark.parametrize(("symmetric", "antisymmetric"), STRENGTHS)
@pytest.mark.parametrize(("tokens", "dim"), [(1, 3), (3, 2), (3, 5)])
def test_the_ito_correction_of_matrix_noise_is_radial_on_the_sphere(
    symmetric, antisymmetric, tokens, dim
):
    noise, x = IsotropicNoise(symmetric, antisymmetric), jnp.asarray(unit_tokens(tokens, dim))
    expected = -(symmetric**2 + antisymmetric**2) * (dim - 1) / 4 * x
    np.testing.assert_allclose(ito_correction(noise, Sphere(), x), expected, atol=1e-13)
    assert noise.calculus(Sphere()) is Calculus.EITHER


@pytest.mark.parametrize(("symmetric", "antisymmetric"), STRENGTHS)
def test_the_ito_correction_of_matrix_noise_is_a_force_in_flat_space(symmetric, antisymmetric):
    noise, x = IsotropicNoise(symmetric, antisymmetric), jnp.asarray(unit_tokens(2, 3))
    s2, a2, dim = symmetric**2, antisymmetric**2, 3
    expected = (s2 * (dim + 1) - a2 * (dim - 1)) / 4 * x
    np.testing.assert_allclose(ito_correction(noise, Euclidean(), x), expected, atol=1e-13)
    assert noise.calculus(Euclidean()) is Calculus.STRATONOVICH


def test_isotropic_noise_of_one_strength_is_symmetric():
    for kind in (IsotropicNoise, SpanNoise):
        assert repr(kind(0.3)) == repr(kind(0.3, 0.0))


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_ito_correction_of_token_noise_is_radial_on_the_sphere_and_nothing_in_flat_space(dim):
    noise, x = TokenNoise(0.7), jnp.asarray(unit_tokens(3, dim))
    expected = -(0.7**2) * (dim - 1) / 2 * x
    np.testing.assert_allclose(ito_correction(noise, Sphere(), x), expected, atol=1e-14)
    np.testing.assert_array_equal(ito_correction(noise, Euclidean(), x), 0 * x)
    assert {noise.calculus(Sphere()), noise.calculus(Euclidean())} == {Calculus.EITHER}


@pytest.mark.parametrize(
    "noise", [IsotropicNoise(0.7, 1.1), SpanNoise(0.7, 1.1), TokenNoise(0.7), NoNoise()]
)
def test_a_displacement_is_linear_in_the_increment(noise):
    x = jnp.asarray(unit_tokens(2, 4))
    rng = np.random.default_rng(0)
    v, w = (jnp.asarray(rng.normal(size=noise.shape(x))) for _ in range(2))
    both = noise(TIME, x, 2 * v - 3 * w)
    assert both.shape == x.shape
    apart = 2 * noise(TIME, x, v) - 3 * noise(TIME, x, w)
    np.testing.assert_allclose(both, apart, atol=1e-13)


def test_matrix_noise_moves_every_token_by_minus_the_matrix():
    noise, x = IsotropicNoise(0.7, 1.1), jnp.asarray(unit_tokens(3, 4))
    dw = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)))
    matrix = np.asarray(noise.matrix(TIME, dw))
    expected = np.stack([-matrix @ token for token in np.asarray(x)])
    np.testing.assert_allclose(noise(TIME, x, dw), expected, atol=1e-14)


def test_token_noise_moves_every_coordinate_on_its_own():
    x = jnp.asarray(unit_tokens(3, 4))
    np.testing.assert_allclose(covariance(TokenNoise(0.7), x), 0.49 * np.eye(12), atol=1e-15)


def test_no_noise_draws_nothing_and_moves_nothing():
    x = jnp.asarray(unit_tokens(3, 4))
    assert NoNoise().shape(x) == (0,)
    np.testing.assert_array_equal(NoNoise()(TIME, x, jnp.zeros((0,))), 0 * x)
    assert NoNoise().calculus(Sphere()) is Calculus.EITHER


@pytest.mark.parametrize(("symmetric", "antisymmetric"), STRENGTHS)
@pytest.mark.parametrize(("tokens", "dim"), [(1, 2), (2, 3), (3, 8)])
def test_span_noise_has_the_covariance_of_isotropic_noise(symmetric, antisymmetric, tokens, dim):
    x = jnp.asarray(unit_tokens(tokens, dim))
    few, full = SpanNoise(symmetric, antisymmetric), IsotropicNoise(symmetric, antisymmetric)
    np.testing.assert_allclose(covariance(few, x), covariance(full, x), atol=1e-13)
    assert few.shape(x) == (tokens + dim, tokens)
    assert few.calculus(Sphere()) is Calculus.ITO


def test_span_noise_needs_fewer_tokens_than_dimensions():
    with pytest.raises(ValueError, match="fewer tokens than dimensions; got 3 tokens in dimension"):
        SpanNoise(1.0, 0.0).shape(jnp.eye(3))


def test_span_noise_is_a_noise_of_the_sphere():
    with pytest.raises(ValueError, match="noise of the sphere; got Euclidean"):
        SpanNoise(1.0, 0.0).calculus(Euclidean())


def gaussian_cubature(variables):
    """Nodes and weights of a standard normal expectation, exact to degree 5 (Stroud 1967)."""
    d = variables
    axes = math.sqrt(d + 2) * np.concatenate([np.eye(d), -np.eye(d)])
    pairs = []
    for i, j in itertools.combinations(range(d), 2):
        for signs in itertools.product((1, -1), repeat=2):
            node = np.zeros(d)
            node[[i, j]] = np.array(signs) * math.sqrt((d + 2) / 2)
            pairs.append(node)
    nodes = np.concatenate([np.zeros((1, d)), axes, np.array(pairs)])
    weights = np.array([2 * (d + 2)] + [(4 - d) / 2] * len(axes) + [1] * len(pairs)) / (d + 2) ** 2
    return nodes, weights


def generator(noise, x, function):
    """L f = ½ Σ_j V_j (V_j f) with V_j = P g_j, the Stratonovich generator on the sphere."""
    basis = jnp.asarray(matrix_units(x.shape[-1]))

    def image(y):
        def one(e):
            def field(z):
                return Sphere().tangent(z, noise(TIME, z, e))

            def derivative(z):
                return jax.jvp(function, (z,), (field(z),))[1]

            return jax.jvp(derivative, (y,), (field(y),))[1]

        return jnp.sum(jax.vmap(one)(basis)) / 2

    return image


def position_and_overlap(x):
    """A function that sees positions, overlaps and how they hang together."""
    return x[0, 0] ** 2 * x[1, 1] + 0.5 * jnp.sum(x[0] * x[1]) ** 3 + x[0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("symmetric", "antisymmetric"),
    [*(pytest.param(*pure, marks=pytest.mark.slow) for pure in STRENGTHS[:2]), STRENGTHS[2]],
)
@pytest.mark.parametrize("dim", [pytest.param(2, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(
    "degree", [2, *(pytest.param(degree, marks=pytest.mark.slow) for degree in (3, 4))]
)
def test_one_step_with_log_flow_misses_the_generator_by_the_third_power_of_the_step(
    symmetric, antisymmetric, dim, degree
):
    noise, x = IsotropicNoise(symmetric, antisymmetric), jnp.asarray(unit_tokens(2, dim, seed=3))
    nodes, weights = map(jnp.asarray, gaussian_cubature(dim * dim))

    @jax.jit
    def errors(steps):
        once = generator(noise, x, position_and_overlap)
        series = position_and_overlap(x), once(x), generator(noise, x, once)(x)

        def expectation(h, flow):
            def one(z):
                dw = jnp.sqrt(h) * z.reshape(dim, dim)
                omega = noise.log_flow(TIME, dw, h, degree) if flow else -noise.matrix(TIME, dw)
                omega = omega - jnp.trace(omega) / dim * jnp.eye(dim)
                image = term = x
                for k in range(1, degree + 1):
                    term = term @ omega.T / k
                    image = image + term
                return position_and_overlap(Sphere().project(image))

            return jnp.sum(weights * jax.vmap(one)(nodes))

        def error(h):
            exact = series[0] + h * series[1] + h**2 / 2 * series[2]
            return expectation(h, True) - exact, expectation(h, False) - exact

        return jax.vmap(error)(steps)

    steps = np.geomspace(0.001, 0.008, 4)
    corrected, plain = (np.log(np.abs(e)) for e in errors(jnp.asarray(steps)))
    order = np.polyfit(np.log(steps), corrected, 1)[0]
    assert 2.85 < order < 3.15
    if symmetric and degree == 4:
        # The correction is what does it.
        assert np.polyfit(np.log(steps), plain, 1)[0] < 2.15


@pytest.mark.parametrize(("symmetric", "antisymmetric"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
@pytest.mark.parametrize("degree", [2, 4])
def test_log_flow_has_finite_derivatives_with_respect_to_vanishing_strengths(
    symmetric, antisymmetric, degree
):
    dw = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))

    def size(strengths):
        return jnp.sum(IsotropicNoise(*strengths).log_flow(TIME, dw, jnp.asarray(0.1), degree) ** 2)

    gradient = jax.grad(size)((jnp.asarray(symmetric), jnp.asarray(antisymmetric)))
    assert np.all(np.isfinite(gradient))


def test_the_control_number_is_dimension_times_step_times_variance():
    control = IsotropicNoise(0.5, 2.0).control(6, jnp.asarray(0.1))
    assert float(control) == pytest.approx(6 * 0.1 * 4.25, rel=1e-15)
