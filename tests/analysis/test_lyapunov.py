"""Lyapunov exponents: closed forms in standard errors, and a second route to every number."""

import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic

import rqf_jax as rqf
from rqf_jax.analysis import (
    LyapunovSpectrum,
    common_noise,
    kaplan_yorke_dimension,
    line_distance,
    lyapunov_spectrum,
    two_point_exponent,
)
from rqf_jax.laws import Fixed, Uniform

FLAT = rqf.manifolds.Euclidean()
TIMES = jnp.linspace(0.0, 16.0, 17)


class Lorenz(rqf.drifts.AbstractDrift):
    """The Lorenz system with the classical parameters."""

    def __call__(self, t, x):
        a, b, c = x
        return jnp.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c])


class Geometric(rqf.noises.AbstractNoise):
    """g(x) ∘ dB = sigma x ∘ dB, one Brownian motion."""

    sigma: float

    def shape(self, x):
        return (1,)

    def __call__(self, t, x, dw):
        return self.sigma * x * dw[0]

    def calculus(self, manifold):
        return rqf.noises.Calculus.STRATONOVICH


def assert_exponents(spectrum, expected):
    np.testing.assert_array_less(
        np.abs(np.asarray(spectrum.exponents) - expected), 5 * np.asarray(spectrum.stderr)
    )


def spectrum_of_one_token(
    sde,
    ts,
    dim=5,
    solver=rqf.solvers.ProjectiveFlow(level=1),  # noqa: B008
    members=100,
):
    # One polynomial instead of a choice of three: the derivative compiles twice as fast.
    return lyapunov_spectrum(
        sde,
        Uniform(tokens=1, dim=dim),
        ts,
        substeps=16,
        members=members,
        key=jax.random.key(3),
        solver=solver,
    )


@pytest.fixture(scope="module")
def one_point():
    return [spectrum_of_one_token(isotropic(1.0, other), TIMES) for other in (0.0, 0.8)]


@pytest.mark.slow
def test_shared_symmetric_noise_has_exponents_minus_i_sigma_squared(one_point):
    spectrum = one_point[0]
    assert spectrum.exponents.shape == (4,)
    assert_exponents(spectrum, [-1, -2, -3, -4])
    # The leading growth is that of ln sin θ: variance 2 σ² t, so this error is known too.
    error = math.sqrt(2 / (16 * 100))
    assert abs(float(spectrum.stderr[0]) / error - 1) < 0.35
    assert np.all(np.asarray(spectrum.stderr) < 0.05)


@pytest.mark.slow
def test_shared_symmetric_noise_in_four_dimensions_with_the_default_solver():
    spectrum = spectrum_of_one_token(isotropic(1.0), TIMES, dim=4, solver=None, members=1500)
    assert_exponents(spectrum, [-1, -2, -3])
    np.testing.assert_allclose(spectrum.exponents, [-1, -2, -3], rtol=0.03)


@pytest.mark.slow
def test_antisymmetric_noise_leaves_the_exponents_alone(one_point):
    assert_exponents(one_point[1], [-1, -2, -3, -4])
    assert not np.allclose(one_point[0].growths, one_point[1].growths)


def test_sigma_is_a_clock(one_point):
    fast = spectrum_of_one_token(isotropic(2.0, 1.6), TIMES / 4)
    np.testing.assert_allclose(fast.exponents, 4 * one_point[1].exponents, rtol=1e-10)


@pytest.mark.slow
def test_forcing_lowers_all_exponents_alike():
    # σ_s = 1 and forcing g: λ_i = -i σ_s² - g² (n-1)/2.
    spectrum = lyapunov_spectrum(
        rqf.models.forced_rqf(sigma=1.0, forcing=0.7),
        Uniform(tokens=1, dim=3),
        TIMES,
        substeps=96,
        members=600,
        key=jax.random.key(7),
    )
    np.testing.assert_array_less(
        np.abs(np.asarray(spectrum.exponents) - [-1.49, -2.49]),
        0.03 + 5 * np.asarray(spectrum.stderr),
    )
    np.testing.assert_allclose(spectrum.exponents, [-1.49, -2.49], rtol=0.05)


@pytest.mark.slow
def test_distinct_tokens_have_the_exponents_of_one_token_each():
    spectrum = lyapunov_spectrum(
        isotropic(1.0),
        Uniform(tokens=2, dim=2),
        TIMES,
        substeps=8,
        members=60,
        key=jax.random.key(5),
        discard=4,
    )
    assert spectrum.exponents.shape == (2,)
    total, error = spectrum.total
    assert abs(total + 2) < 5 * error
    # Tokens that synchronise share their growth, so the two exponents become one.
    assert_exponents(spectrum, [-1, -1])


@pytest.mark.slow
def test_a_linear_equation_has_exponent_a_minus_half_sigma_squared_on_its_own_path():
    # Itô dx = a x dt + sigma x dB, written in Stratonovich form.
    a, sigma = 0.3, 0.8
    drift = rqf.drifts.Linear(jnp.full((1, 1), a - sigma**2 / 2))
    sde, law = rqf.SDE(drift, Geometric(sigma), FLAT), Fixed(jnp.ones((1, 1)))
    ts = jnp.linspace(0.0, 4.0, 5)
    options = {"substeps": 24, "members": 64, "key": jax.random.key(1)}
    spectrum = lyapunov_spectrum(sde, law, ts, **options)
    assert_exponents(spectrum, [a - sigma**2 / 2])
    np.testing.assert_allclose(spectrum.stderr, sigma / math.sqrt(4 * 64), rtol=0.35)
    # The linear flow's growth is that of the trajectory which `simulate` gives to each member.
    runs = rqf.simulate(sde, law, ts, **options)
    growth = jnp.diff(jnp.log(runs.ys[:, :, 0, 0]), axis=1)
    np.testing.assert_allclose(spectrum.growths[:, :, 0], growth, atol=1e-12)
    np.testing.assert_allclose(spectrum.finite_time[:, :, 0], growth, atol=1e-12)


@pytest.mark.slow
def test_a_linear_flow_has_the_real_parts_of_its_eigenvalues_and_their_sum_is_the_trace():
    matrix = jnp.asarray([[0.2, 1.0, 0.0], [-1.0, 0.2, 0.5], [0.0, 0.0, -1.0]])
    spectrum = lyapunov_spectrum(
        rqf.SDE(rqf.drifts.Linear(matrix), rqf.noises.NoNoise(), FLAT),
        Fixed(jnp.ones((1, 3))),
        jnp.linspace(0.0, 20 * math.pi, 41),
        substeps=40,
        members=1,
        key=jax.random.key(0),
        solver=diffrax.Tsit5(),
        discard=8,
    )
    # Over whole periods of the rotation the pair's growth has no oscillating part.
    np.testing.assert_allclose(spectrum.exponents, [0.2, 0.2, -1.0], atol=2e-3)
    np.testing.assert_allclose(spectrum.total[0], -0.6, atol=1e-7)


@pytest.mark.slow
def test_lorenz_has_the_exponents_of_the_literature_and_the_exact_divergence():
    spectrum = lyapunov_spectrum(
        rqf.SDE(Lorenz(), rqf.noises.NoNoise(), FLAT),
        Fixed(jnp.ones(3)),
        jnp.linspace(0.0, 1000.0, 1001),
        substeps=200,
        members=1,
        key=jax.random.key(0),
        solver=diffrax.Tsit5(),
        discard=20,
    )
    assert abs(spectrum.total[0] + 41 / 3) < 1e-5
    assert abs(spectrum.exponents[0] / 0.9056 - 1) < 0.02
    assert abs(spectrum.exponents[1]) < 0.01
    assert abs(spectrum.kaplan_yorke - 2.062) < 0.005
    assert_exponents(spectrum, [0.9056, 0.0, -14.572])


@pytest.mark.slow
def test_the_largest_exponents_can_be_had_alone():
    sde = rqf.SDE(rqf.drifts.NoDrift(), Geometric(1.0), FLAT)
    options = {"substeps": 4, "members": 2, "key": jax.random.key(0)}
    law, ts = Fixed(jnp.ones((2, 2))), jnp.linspace(0.0, 2.0, 5)
    whole = lyapunov_spectrum(sde, law, ts, **options)
    part = lyapunov_spectrum(sde, law, ts, exponents=2, **options)
    assert whole.exponents.shape == (4,)
    np.testing.assert_allclose(part.growths, whole.growths[:, :, :2], rtol=1e-10)


def test_a_two_point_exponent_is_the_slope_of_the_logarithm_of_the_distance():
    ts = jnp.asarray([0.0, 1.0, 3.0])
    rates = np.array([-1.0, -2.0, -3.0])
    apart = np.exp(rates[:, None] * np.asarray(ts))[:, :, None]
    first, second = (
        rqf.Trajectories(ts, jnp.asarray(s * apart), jnp.zeros(3, int)) for s in (1, 2)
    )
    rate, error = two_point_exponent(first, second, start=1)
    assert rate == pytest.approx(-2)
    assert error == pytest.approx(1 / math.sqrt(3))


@pytest.mark.slow
def test_two_tokens_under_the_same_noise_approach_at_the_rate_sigma_squared():
    sde, ts = isotropic(0.8), jnp.linspace(0.0, 4.0, 9)
    options = {"substeps": 8, "members": 400, "key": jax.random.key(2)}
    first, second = (
        rqf.simulate(sde, Fixed(jnp.asarray([x])), ts, **options)
        for x in ([1.0, 0.0, 0.0], [0.6, 0.8, 0.0])
    )
    rate, error = two_point_exponent(first, second, distance=line_distance)
    assert abs(rate + 0.64) < 5 * error
    assert error < 0.05


def test_batch_means_of_independent_growths_have_the_error_of_the_mean():
    growths = np.random.default_rng(0).standard_normal((1, 1600, 1))
    spectrum = LyapunovSpectrum(jnp.linspace(0.0, 400.0, 1601), jnp.asarray(growths))
    np.testing.assert_allclose(spectrum.stderr, math.sqrt(1600) / 400, rtol=0.4)
    assert np.isnan(LyapunovSpectrum(jnp.arange(4.0), spectrum.growths[:, :3]).stderr[0])


@pytest.mark.parametrize(
    ("exponents", "dimension"),
    [
        ([0.9056, 0.0, -14.572], 2 + 0.9056 / 14.572),
        ([-1.0, -2.0], 0.0),
        ([-1.0, 2.0], 2.0),
        ([-3.0, 1.0, 1.0], 2 + 2 / 3),
    ],
)
def test_kaplan_yorke_dimension(exponents, dimension):
    assert kaplan_yorke_dimension(exponents) == pytest.approx(dimension)


def test_a_spectrum_prints_as_a_table(one_point):
    lines = repr(one_point[0]).splitlines()
    assert len(lines) == 5
    assert "over members" in lines[0]
    assert lines[1].split()[0] == "1" and "±" in lines[1]


@pytest.mark.slow
def test_single_precision_states_stay_in_single_precision():
    spectrum = lyapunov_spectrum(
        rqf.SDE(rqf.drifts.NoDrift(), Geometric(1.0), FLAT),
        Fixed(jnp.ones((2, 2), jnp.float32)),
        jnp.linspace(0.0, 2.0, 5),
        substeps=4,
        members=2,
        key=jax.random.key(0),
    )
    assert spectrum.growths.dtype == jnp.float32
    # Times are those that were given, in double precision.
    assert spectrum.ts.dtype == np.float64
    assert np.all(np.isfinite(spectrum.exponents))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"discard": 4}, "`discard` must leave one of the 4 save intervals; got 4"),
        ({"exponents": 3}, "`exponents` must be at most the dimension 2 of the flow; got 3"),
        ({"exponents": 0}, "`exponents` must be at least 1; got 0"),
        ({"substeps": 0}, "`substeps` must be at least 1; got 0"),
    ],
)
def test_bad_arguments_of_a_spectrum_are_named(change, message):
    options = {"substeps": 4, "members": 2, "key": jax.random.key(0)} | change
    with pytest.raises(ValueError, match=message):
        lyapunov_spectrum(
            isotropic(1.0), Uniform(tokens=1, dim=3), jnp.linspace(0.0, 2.0, 5), **options
        )


def test_a_noise_that_is_drawn_for_one_state_has_no_flow():
    sde = rqf.SDE(
        rqf.drifts.NoDrift(),
        rqf.noises.Sum(rqf.noises.BiasNoise(1.0), rqf.noises.SpanNoise(1.0, 0.0)),
        rqf.manifolds.Sphere(),
    )
    options = {"substeps": 4, "key": jax.random.key(0)}
    law, ts = Uniform(tokens=1, dim=3), jnp.linspace(0.0, 2.0, 5)
    with pytest.raises(ValueError, match="moves all states alike; got SpanNoise"):
        lyapunov_spectrum(sde, law, ts, members=2, **options)
    with pytest.raises(ValueError, match="moves all states alike; got SpanNoise"):
        common_noise(sde, law, ts, points=2, **options)


def test_bad_arguments_of_a_two_point_exponent_are_named():
    ys = jnp.ones((2, 3, 1))
    runs = rqf.Trajectories(jnp.arange(3.0), ys, jnp.zeros(2, int))
    later = rqf.Trajectories(jnp.arange(3.0) + 1, ys, runs.status)
    with pytest.raises(ValueError, match="`second` must have the times"):
        two_point_exponent(runs, later)
    with pytest.raises(ValueError, match="`start` must be less than 2; got 2"):
        two_point_exponent(runs, runs, start=2)
    with pytest.raises(ValueError, match="must not have merged; got distance 0 for member 0"):
        two_point_exponent(runs, runs)


def test_a_growth_that_is_not_finite_is_an_error():
    sde = rqf.SDE(rqf.drifts.Linear(jnp.full((1, 1), 1e200)), rqf.noises.NoNoise(), FLAT)
    with pytest.raises(rqf.NonFiniteError, match="2 of 2 members"):
        lyapunov_spectrum(
            sde,
            Fixed(jnp.ones((1, 1))),
            jnp.arange(3.0),
            substeps=2,
            members=2,
            key=jax.random.key(0),
        )


@pytest.mark.slow
def test_random_value_matrices_on_single_tokens_are_full_matrix_noise():
    # The field f_i = x_i makes `ValueNoise` the matrix noise with σ_s = σ_a = sigma.
    class Identity(rqf.drifts.AbstractDrift):
        def __call__(self, t, x):
            return x

    noise = rqf.noises.ValueNoise(Identity(), sigma=0.8)
    spectrum = lyapunov_spectrum(
        rqf.SDE(rqf.drifts.NoDrift(), noise, rqf.manifolds.Sphere()),
        Uniform(tokens=1, dim=3),
        TIMES,
        substeps=192,
        members=100,
        key=jax.random.key(8),
    )
    np.testing.assert_array_less(
        np.abs(np.asarray(spectrum.exponents) - [-0.64, -1.28]),
        0.03 + 5 * np.asarray(spectrum.stderr),
    )
    assert np.all(np.asarray(spectrum.stderr) < 0.04)
