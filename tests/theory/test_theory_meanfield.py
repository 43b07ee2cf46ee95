"""Mean-field and homogenised limits, annealed rates and counts, each by a second route."""

import math

import numpy as np
import pytest
from _ito import field_moves, gram_ito, unit_tokens
from scipy.integrate import quad
from scipy.special import ellipk, gamma, ive

from rqf_jax.theory import annealed, homogenised, meanfield, sphere, splits, value_noise


def height_law(dim):
    """Nodes and weights of one coordinate of a uniform point of the sphere, n ≥ 3."""
    angle, weights = np.polynomial.legendre.leggauss(400)
    angle = np.pi / 2 * (angle + 1)
    weights = weights * np.sin(angle) ** (dim - 2)
    return np.cos(angle), weights / weights.sum()


@pytest.mark.parametrize(
    ("dim", "expected"), [(2, 0.56516), (3, 0.36788), (4, 0.27150), (8, 0.13138), (64, 0.01574)]
)
def test_critical_noise_has_the_tabulated_values_its_bessel_form_and_its_average(dim, expected):
    assert meanfield.critical_noise(beta=1.0, dim=dim) == pytest.approx(expected, abs=5.1e-6)
    s, weights = height_law(dim)
    for beta in (0.0, 1.0, 3.7, -0.5):
        found = meanfield.critical_noise(beta=beta, coupling=1.3, dim=dim)
        # The linearised velocity of e^{β<x,y>} y is E e^{βs}(1-s²)/(n-1) of the perturbation.
        average = weights @ (np.exp(beta * s) * (1 - s**2)) / (dim - 1)
        assert found == pytest.approx(1.3 * average, rel=1e-10)
        if beta > 0:
            bessel = ive(dim / 2, beta) * math.exp(beta)
            closed = gamma(dim / 2) * 2 ** (dim / 2 - 1) * beta ** (-dim / 2) * bessel
            assert found == pytest.approx(1.3 * closed, rel=1e-10)
            coupling = beta ** (dim / 2) / (2 ** (dim / 2) * gamma(dim / 2) * bessel)
            critical = meanfield.critical_coupling(beta=beta, dim=dim)
            assert critical == pytest.approx(coupling, rel=1e-10)
    assert meanfield.critical_noise(beta=0.0, dim=dim) == pytest.approx(1 / dim, rel=1e-14)


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_a_small_mean_token_grows_at_the_growth_rate(noise):
    # On the sphere with density 1 + ε z, by a product rule.
    beta, coupling, eps = 1.7, 0.9, 1e-4
    height, weights = np.polynomial.legendre.leggauss(40)
    angle = 2 * np.pi * np.arange(80) / 80
    flat = np.sqrt(1 - height**2)[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    up = np.broadcast_to(height[:, None, None], (40, 80, 1))
    x = np.concatenate([flat, up], -1).reshape(-1, 3)
    mass = np.repeat(weights / 160, 80) * (1 + eps * x[:, 2])
    pulled = coupling * np.exp(beta * x @ x.T) @ (mass[:, None] * x)
    velocity = pulled[:, 2] - np.sum(pulled * x, axis=1) * x[:, 2]
    mean = mass @ x[:, 2]
    found = (mass @ velocity - 2 * noise * mean) / mean
    expected = meanfield.growth_rate(beta=beta, coupling=coupling, noise=noise, dim=3)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("dim", "expected"), [(2, 2.44692), (3, 1.81615), (4, 1.57526), (8, 1.26655), (64, 1.03149)]
)
def test_tricritical_beta_solves_its_equation_and_has_the_tabulated_values(dim, expected):
    found = meanfield.tricritical_beta(dim)
    assert found == pytest.approx(expected, abs=5.1e-6)
    ratio = ive(dim / 2 + 1, found) / ive(dim / 2, found)
    assert ratio == pytest.approx(1 / dim, rel=1e-11)


def test_tricritical_beta_exists_in_very_large_dimensions():
    assert meanfield.tricritical_beta(5000) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_the_order_parameter_is_the_mean_of_its_own_von_mises_fisher_law(dim):
    noise = np.array([0.02, 0.1, 0.999 / dim])
    found = meanfield.order_parameter(noise=noise, dim=dim)
    s, weights = height_law(dim)
    for d, m in zip(noise, found, strict=True):
        tilted = weights * np.exp(m * (s - 1) / d)
        assert tilted @ s / tilted.sum() == pytest.approx(m, rel=1e-9)
    assert np.all(np.diff(found) < 0)
    ordered = meanfield.order_parameter(coupling=[1.0, 0.5, 0.0], noise=1 / dim, dim=dim)
    np.testing.assert_array_equal(ordered, 0.0)
    # The transition is continuous: m² ~ (κ/nD - 1) n² (n+2)/(κ/D)³.
    near = meanfield.order_parameter(noise=(1 - 1e-6) / dim, dim=dim)
    assert near**2 == pytest.approx(1e-6 * (dim + 2) / dim, rel=1e-4)


def test_the_resultant_is_smooth_where_its_two_forms_meet():
    k = np.array([299.0, 299.999, 300.001, 301.0])
    np.testing.assert_allclose(meanfield.resultant(k, 3), 1 / np.tanh(k) - 1 / k, rtol=1e-12)
    assert meanfield.resultant(0.0, 5) == 0
    assert meanfield.resultant(1e6, 3) == pytest.approx(1 - 1e-6, rel=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 6])
def test_homogenised_overlaps_have_their_ito_coefficients(dim):
    x = unit_tokens(2, dim)
    r = x[0] @ x[1]
    fed = np.random.default_rng(2).standard_normal((2, dim))
    products = fed @ fed.T
    drift, _ = gram_ito(x, field_moves(products / dim, dim))
    found = homogenised.overlap_drift(r, products[0, 1], products[0, 0], products[1, 1], dim=dim)
    assert found == pytest.approx(drift[0, 1], abs=1e-12)
    # At β = 0 both are fed one vector.
    moves = np.einsum("i,mj->mij", np.ones(2), 0.7 * np.eye(dim)) / math.sqrt(dim)
    drift, covariance = gram_ito(x, moves)
    found = homogenised.uniform_overlap_drift(r, 0.49, dim=dim)
    assert found == pytest.approx(drift[0, 1], abs=1e-12)
    found = homogenised.uniform_overlap_variance(r, 0.49, dim=dim)
    assert found == pytest.approx(covariance[0, 1, 0, 1], abs=1e-12)


def test_homogenised_simplex_tokens_are_two_tokens_under_value_noise():
    r = np.linspace(-1, 1, 7)
    for beta in (0.0, 1.5):
        common = value_noise.mixing(r, beta=beta)
        for dim in (2, 3, 50):
            found = homogenised.simplex_drift(r, 1 - common, common, dim=dim)
            options = {"beta": beta, "dim": dim, "sigma": dim**-0.5}
            expected = value_noise.overlap_drift(r, **options)
            np.testing.assert_allclose(found, expected, atol=1e-12)
        wide = homogenised.wide_simplex_drift(r, 1 - common, common)
        found = homogenised.simplex_drift(r, 1 - common, common, dim=10**9)
        np.testing.assert_allclose(found, wide, atol=1e-8)


def test_homogenised_tokens_that_attend_to_themselves_follow_random_quadratic_forms():
    r = np.linspace(-1, 1, 7)
    for dim in (2, 3, 768):
        found = homogenised.overlap_drift(r, r, 1.0, 1.0, dim=dim)
        sigma = homogenised.low_temperature_sigma(dim)
        np.testing.assert_allclose(found, sphere.overlap_drift(r, sigma=sigma), atol=1e-12)


def test_the_mean_overlap_at_high_temperature_is_logistic():
    times, step = np.array([0.0, 0.5, 3.0]), 1e-5
    for start in (0.0, 0.01, 0.4, 1.0):
        found = homogenised.mean_overlap(times, start)
        assert found[0] == start
        ahead, behind = (homogenised.mean_overlap(times + 1 + h, start) for h in (step, -step))
        u = homogenised.mean_overlap(times + 1, start)
        np.testing.assert_allclose((ahead - behind) / (2 * step), u * (1 - u), atol=1e-9)
    # It is `wide_simplex_drift` for the moments f = g = 1/N of uniform attention, N → ∞.
    u = np.array([0.2, 0.9])
    np.testing.assert_allclose(homogenised.wide_simplex_drift(u, 0.0, 0.0), u * (1 - u))


@pytest.mark.parametrize("angle", [0.4, math.pi / 2, 2.5])
def test_cotangents_have_their_exact_means(angle):
    time, sigma = np.array([0.05, 0.2]), 1.2
    mean = sphere.expectation(np.sinh, time, angle, sigma=sigma)
    found = annealed.mean_cotangent(time, angle, sigma=sigma)
    np.testing.assert_allclose(found, mean, rtol=1e-8, atol=1e-9)
    square = sphere.expectation(lambda u: np.sinh(u) ** 2, time, angle, sigma=sigma)
    found = annealed.mean_squared_cotangent(time, angle, sigma=sigma)
    np.testing.assert_allclose(found, square, rtol=1e-8)


def test_the_late_mean_sine_has_the_constant_of_its_integral():
    def wave(u):
        return ellipk((1 - math.tanh(u)) / 2) + ellipk((1 + math.tanh(u)) / 2)

    half = quad(lambda u: wave(u) / math.sqrt(math.cosh(u)), 0, 15, limit=200)[0]
    half += quad(
        lambda u: (u + 2 * math.log(2) + math.pi / 2) * math.sqrt(2) * math.exp(-u / 2), 15, 90
    )[0]
    for angle in (math.pi / 2, 0.6):
        u0 = math.atanh(math.cos(angle))
        expected = wave(u0) * half / (2 * math.sqrt(math.pi * math.cosh(u0)))
        found = annealed.late_mean_sine(1.0, angle, sigma=1.0) * math.exp(0.25)
        assert found == pytest.approx(expected, rel=1e-7)
    found = annealed.late_mean_sine(1.0, math.pi / 2, sigma=1.0) * math.exp(0.25)
    assert found == pytest.approx(14.3836, abs=5e-5)


def test_the_mean_sine_approaches_its_late_form_slowly():
    # t^{3/2} e^{t/4} E sin θ is 8.73 at t = 25; the late form exceeds it by about 17/t.
    time = np.array([25.0, 50.0])
    exact = sphere.mean_sine(time, math.pi / 2, sigma=1.0)
    assert exact[0] * 125 * math.exp(6.25) == pytest.approx(8.73, abs=5e-3)
    late = annealed.late_mean_sine(time, math.pi / 2, sigma=1.0)
    gaps = (late / exact - 1) * time
    assert gaps[1] == pytest.approx(gaps[0], rel=0.02)
    ends = annealed.late_mean_sine(1.0, [0.0, math.pi], sigma=1.0)
    np.testing.assert_array_equal(ends, 0.0)
    pair = annealed.late_mean_sine(1.0, [0.3, math.pi - 0.3], sigma=1.0)
    assert pair[0] == pytest.approx(pair[1], rel=1e-12)


@pytest.mark.parametrize("power", [0.2, 0.5, 1.0])
def test_sine_moments_decay_at_their_annealed_rate(power):
    time = np.array([30.0, 40.0, 50.0])
    moments = sphere.expectation(lambda u: np.cosh(u) ** -power, time, 1.2, sigma=1.0)
    prefactor = {0.2: 0.0, 0.5: -0.5, 1.0: -1.5}[power]
    slopes = -np.diff(np.log(moments * time**-prefactor)) / 10
    rate = annealed.sine_moment_rate(power, sigma=1.0)
    assert rate == pytest.approx({0.2: 0.16, 0.5: 0.25, 1.0: 0.25}[power])
    assert abs(slopes[1] - rate) < 0.01
    assert abs(slopes[1] - rate) <= abs(slopes[0] - rate) + 1e-12


@pytest.mark.parametrize("overlap", [-0.95, 0.0, 0.5])
def test_root_sines_and_distances_stay_below_their_bounds(overlap):
    time, sigma, angle = np.array([0.01, 0.3, 2.0, 10.0, 40.0]), 2**0.5, math.acos(overlap)
    roots = sphere.expectation(lambda u: np.cosh(u) ** -0.5, time, angle, sigma=sigma)
    bound = annealed.root_sine_bound(time, overlap, sigma=sigma)
    assert np.all(roots <= bound)
    assert bound[0] == pytest.approx((1 - overlap**2) ** 0.25 * math.exp(-0.005), rel=1e-12)

    def to_axis(u):
        angle = 2 * np.arctan(np.exp(-np.abs(u)))
        return np.minimum(angle, math.pi - angle)

    distances = sphere.expectation(to_axis, time, angle, sigma=sigma, points=(0.0,))
    assert np.all(distances <= annealed.distance_bound(time, sigma=sigma))
    # In the source's clock σ² = 2 the exponent is t/2.
    first = annealed.distance_bound(1.0, sigma=sigma)
    assert first == pytest.approx(math.pi / math.sqrt(2) * math.exp(-0.5), rel=1e-14)


@pytest.mark.parametrize(("tokens", "dim"), [(3, 2), (5, 2), (5, 3), (4, 6)])
def test_hyperplanes_make_every_attainable_split_and_no_other(tokens, dim):
    x = unit_tokens(tokens, dim, seed=3)
    normals = np.random.default_rng(0).standard_normal((20_000, dim))
    signs = normals @ x.T > 0
    signs = signs ^ signs[:, :1]
    assert len(np.unique(signs, axis=0)) == splits.attainable_splits(tokens, dim)
    if dim >= tokens:
        assert splits.attainable_splits(tokens, dim) == splits.ergodic_measures(tokens)


def test_tokens_lie_in_a_half_space_as_often_as_a_hyperplane_leaves_them_on_one_side():
    # On the circle N tokens lie on a half circle with probability N/2^{N-1}.
    for tokens in (2, 3, 7):
        found = splits.half_space_probability(tokens, 2)
        assert found == pytest.approx(tokens / 2 ** (tokens - 1), rel=1e-14)
    assert splits.half_space_probability(4, 4) == 1
    # Uniform tokens end in one cluster with probability 2^{1-N}: one of the ergodic measures.
    single = sphere.cluster_size_distribution(5)
    assert single[0] + single[-1] == pytest.approx(1 / splits.ergodic_measures(5), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: meanfield.critical_noise(beta=1.0, dim=1), "`dim` must be at least 2; got 1"),
        (
            lambda: meanfield.order_parameter(noise=0.0, dim=3),
            "`noise` must be finite and positive; got 0.0",
        ),
        (lambda: meanfield.resultant(-1.0, 3), "`concentration` must be .* at least 0; got -1.0"),
        (
            lambda: homogenised.mean_overlap(1.0, -0.2),
            "`mean_overlap0` must be finite and at least 0; got -0.2",
        ),
        (
            lambda: homogenised.simplex_drift(0.1, -1.0, 0.2, dim=3),
            "`own` must be finite and at least 0; got -1.0",
        ),
        (
            lambda: annealed.mean_cotangent(1.0, 0.0, sigma=1.0),
            "`angle` must lie strictly between 0 and pi; got 0.0",
        ),
        (
            lambda: annealed.late_mean_sine(0.0, 1.0, sigma=1.0),
            r"`time` must be such that `sigma`\*\*2 `time` is positive; got 0.0",
        ),
        (lambda: annealed.sine_moment_rate(-0.1, sigma=1.0), "`power` must be .*; got -0.1"),
        (lambda: splits.attainable_splits(0, 3), "`tokens` must be at least 1; got 0"),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
