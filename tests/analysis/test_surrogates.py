"""Theorems about measures of a learned law: closed forms, nulls, detuned systems, bad input."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.analysis.surrogates import (
    correlation_dimension,
    forecast_error,
    map_exponents,
    mixture_divergence,
    spectral_distance,
    state_space_divergence,
    transition_matrix,
    valid_prediction_time,
)

KEY = jax.random.key(0)
rng = np.random.default_rng(5)


def lorenz(rho=28.0, seed=0):
    """48 members on the attractor, in float32 where steps are one kernel."""
    with jax.enable_x64(False):
        flow = rqf.systems.Lorenz63(rho=rho)
        sde = rqf.SDE(flow, rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
        runs = rqf.simulate(
            sde, flow.law(8.0), np.arange(0.0, 40.0, 0.1), substeps=8, members=48,
            key=jax.random.key(seed), solver=diffrax.Dopri5(),
        )  # fmt: skip
        return np.asarray(runs.ys, float)[:, 100:]


@pytest.fixture(scope="module")
def attractors():
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    try:
        return {
            "truth": lorenz(),
            "same": [lorenz(seed=seed) for seed in (1, 2, 3)],
            "near": [lorenz(30.0, seed) for seed in (1, 2, 3)],
            "far": [lorenz(35.0, seed) for seed in (1, 2, 3)],
        }
    finally:
        jax.config.update("jax_numpy_dtype_promotion", "strict")


DISTANCES = {
    "bins": state_space_divergence,
    "mixtures": lambda a, b: mixture_divergence(a, b, key=KEY),
    "spectra": spectral_distance,
}


@pytest.mark.parametrize("distance", DISTANCES.values(), ids=DISTANCES)
def test_a_law_is_as_far_from_itself_as_the_null_and_farther_when_detuned(attractors, distance):
    truth = attractors["truth"]
    assert abs(distance(truth, truth).value) < 1e-7
    same, near, far = (distance(truth, attractors[name]) for name in ("same", "near", "far"))
    assert abs(same.value - same.null) < 5 * np.hypot(same.stderr, same.null_stderr)
    assert near.value - near.null > 5 * near.stderr
    assert far.value - near.value > 5 * np.hypot(near.stderr, far.stderr)


def test_the_divergence_of_gaussians_is_half_the_square_of_their_distance():
    shape, shift, width = (64, 8000, 1), 0.8, 0.3
    x, y = rng.normal(size=shape), rng.normal(size=shape) + shift
    found = state_space_divergence(x, y, bins=60)
    assert abs(found.value / (shift**2 / 2) - 1) < 0.02
    # Of mixtures, with the width beside the variance 1.
    smooth = mixture_divergence(
        x, y, key=KEY, width=width, centres=2000, samples=2000
    )  # fmt: skip
    expected = shift**2 / (2 * (1 + width**2))
    spread = np.sqrt(2 * expected) / np.sqrt(2000)
    assert abs(smooth.value - expected) < 5 * spread


def test_states_outside_of_the_box_and_gaps_are_seen():
    x = rng.normal(size=(16, 400, 2))
    gone, holes = x.copy(), x.copy()
    gone[:, 200:] = np.inf
    holes[3, 5, 1] = np.nan
    assert state_space_divergence(x, gone, bins=10).value > 0.5
    assert np.isclose(state_space_divergence(x, x + 100.0, bins=5).halves.mean(), 0, atol=0.1)
    assert state_space_divergence(x, x + 100.0, bins=5).value > 5
    found = state_space_divergence(x, holes, bins=10, gaps="skip")
    assert found.skipped == 1 and 0 <= found.value < 0.02
    for call in (state_space_divergence, lambda a, b: mixture_divergence(a, b, key=KEY)):
        with pytest.raises(ValueError, match=r"`models\[0\]` must not be NaN.*member 3, time 5"):
            call(x, holes)


def test_the_distance_of_spectra_is_that_of_their_closed_forms():
    count, times, a = 64, 4096, 0.8
    noise = rng.normal(size=(2, count, times + 200))
    red = np.zeros_like(noise[0])
    for t in range(1, times + 200):
        red[:, t] = a * red[:, t - 1] + noise[0, :, t]
    w = np.arange(1, times // 2 + 1) / times * 2 * np.pi
    p = 1 / (1 - 2 * a * np.cos(w) + a**2)
    expected = np.sqrt(1 - np.sum(np.sqrt(p / p.sum() / w.size)))
    found = spectral_distance(noise[1, :, 200:, None], red[:, 200:, None], smoothing=4.0)
    assert abs(found.value / expected - 1) < 0.02
    angles = 2 * np.pi * np.arange(256) / 256 + np.arange(8)[:, None]
    one, other = (np.sin(k * angles)[..., None] for k in (10, 40))
    assert spectral_distance(one, other).value > 0.95
    assert spectral_distance(one, 0 * one + 3.0).value == 1.0


def test_errors_that_grow_exponentially_pass_the_threshold_when_they_should():
    rate, first, ts = 0.9, 1e-3, np.linspace(0.0, 12.0, 24001)
    truth = rng.normal(size=(6, 1, 2)) + 3 * np.sin(ts + np.arange(6)[:, None])[..., None]
    limit = 0.4 * np.linalg.norm(truth.std((0, 1)))
    wrong = truth.copy()
    wrong[..., 0] += first * np.exp(rate * ts)
    found = valid_prediction_time(truth, [wrong, wrong, truth], ts, exponent=rate)
    assert np.allclose(found.seeds[:2], np.log(limit / first), atol=2e-3)
    assert np.isclose(found.seeds[2], rate * 12) and found.censored == 6
    assert 0 <= found.null < 1.5
    lost = truth.copy()
    lost[:, 100:] = np.nan
    assert np.isclose(valid_prediction_time(truth, lost, ts, exponent=1.0).value, ts[100])


def test_the_symmetric_error_of_a_forecast_that_is_twice_the_truth_is_two_thirds_of_a_hundred():
    truth = rng.normal(size=(5, 20, 3))
    assert np.isclose(forecast_error(truth, [2 * truth, 3 * truth]).seeds[0], 200 / 3)
    assert np.isclose(forecast_error(truth, -truth).value, 200)
    assert forecast_error(truth, truth).value == 0
    assert forecast_error(0 * truth + [1.0, 2.0, 0.0] + truth, truth).null > 20


def test_dimensions_of_a_circle_of_noise_and_of_the_lorenz_attractor(attractors):
    angles = rng.uniform(0, 2 * np.pi, size=(8, 1000))
    circle = np.stack([np.cos(angles), np.sin(angles), 0 * angles + rng.normal() * angles], 2)
    for points, dimension in ((circle, 1), (rng.normal(size=(8, 1000, 2)), 2)):
        found = correlation_dimension(points)
        assert abs(found.value - dimension) < 0.1
        assert found.stderr < 0.1 and 0 < found.low < found.high
    found = correlation_dimension(attractors["truth"], window=50)
    assert abs(found.value - 2.05) < 0.1


def henon(x):
    return jnp.stack([1 - 1.4 * x[0] ** 2 + x[1], 0.3 * x[0]])


def test_exponents_of_maps_are_those_of_their_derivatives():
    starts = 0.1 * jax.random.normal(KEY, (32, 2))
    found = map_exponents(henon, starts, steps=2000, step=0.1, discard=100)
    assert abs(found.exponents[0] / 10 - 0.4192) < 5 * found.stderr[0] / 10  # of the literature
    assert np.isclose(found.total[0] / 10, np.log(0.3), atol=1e-10) and found.ts[-1] == 200
    doubling = map_exponents(rqf.systems.Doubling(), jnp.array([[0.3]]), steps=20)
    assert np.isclose(doubling.exponents[0], np.log(2), atol=1e-12)
    matrix = jnp.array([[1.2, 1.0], [0.0, 0.5]])
    found = map_exponents(lambda x: matrix @ x, starts[:2], steps=400, discard=100)
    assert np.allclose(found.exponents, np.log([1.2, 0.5]), atol=1e-10)
    with pytest.raises(rqf.NonFiniteError, match="2 of 2 orbits"):
        map_exponents(lambda x: x**3, 3 + jnp.ones((2, 1)), steps=50)


def test_the_matrix_of_the_doubling_map_has_the_uniform_density_and_of_a_rotation_its_phases():
    x = (np.arange(4800) + 0.5) / 4800
    pairs = np.stack([x, 2 * x % 1], 1)[..., None]
    found = transition_matrix(pairs, bins=48, box=[[0.0, 1.0]])
    assert np.max(np.abs(found.density - 1 / 48)) < 1e-10
    # Each cell is mapped on two.
    assert np.allclose(np.sort(found.matrix, 1)[:, -2:], 0.5, atol=0.011)
    turned = np.stack([x, (x + 5 / 48) % 1], 1)[..., None]
    found = transition_matrix(turned, bins=48, box=[[0.0, 1.0]])
    assert np.allclose(found.eigenvalues**48, 1, atol=1e-8)
    assert np.allclose(np.abs(found.eigenvalues), 1) and found.time_scale > 1e6


def test_the_second_eigenvalue_of_a_double_well_is_its_rate_of_jumps(as_a_user):
    sigma, lag, step = 0.5, 8, 0.25
    well, ts = rqf.systems.DoubleWell(), np.arange(0.0, 301.0, step)
    sde = rqf.SDE(well, rqf.noises.TokenNoise(sigma), rqf.manifolds.Euclidean())
    law = rqf.laws.Normal((1,))
    runs = rqf.simulate(sde, law, ts, substeps=16, members=400, key=KEY, solver=diffrax.ShARK())
    found = transition_matrix(runs, bins=40, box=[[-2.0, 2.0]], lag=lag)
    # The generator of the diffusion on a grid, whose second eigenvalue is the rate.
    x, h = np.linspace(-2.5, 2.5, 401, retstep=True)
    mid = (x[1:] + x[:-1]) / 2
    weight = np.exp(-2 * rqf.theory.wells.height(mid, barrier=0.25) / sigma**2)
    p = np.exp(-2 * rqf.theory.wells.height(x) / sigma**2)
    flow = sigma**2 / 2 / h**2 * weight
    matrix = np.diag(flow, 1) + np.diag(flow, -1)
    matrix -= np.diag(matrix.sum(1))
    scaled = matrix / np.sqrt(np.outer(p, p))
    rate = -np.sort(np.linalg.eigvalsh(scaled))[-2]
    error = found.second_stderr / abs(found.second) / (lag * step)
    # Cells blur the eigenfunction, which shortens the time by less than a part in a hundred.
    assert abs(1 / found.time_scale - rate) < 5 * error + 0.01 * rate
    centres = (found.edges[0][1:] + found.edges[0][:-1])[found.cells[:, 0]] / 2
    expected = rqf.theory.wells.density(centres, sigma) * 0.1
    assert np.sum(np.abs(found.density - expected)) < 0.1


def test_cells_that_are_not_visited_again_and_gaps_are_left_out_and_counted():
    x = np.tile(np.array([0.9, 0.1, 0.3, 0.1, 0.3, 0.1, 0.3, 5.0]), (8, 1))[..., None]
    found = transition_matrix(x, bins=5, box=[[0.0, 1.0]])
    assert found.pairs == 8 * 5 and found.left_out == 8 * 2 and found.density.tolist() == [0.5, 0.5]
    x[:, 3] = np.nan
    with pytest.raises(ValueError, match=r'`runs` must not be NaN\. Pass gaps="skip"'):
        transition_matrix(x, bins=5)
    found = transition_matrix(x, bins=5, box=[[0.0, 1.0]], gaps="skip")
    assert found.pairs == 8 * 3 and found.left_out == 8 * 4


def test_input_that_does_not_fit_is_named():
    x, t = rng.normal(size=(10, 40, 2)), np.arange(40.0)
    flat = np.stack([x[..., 0], 0 * x[..., 0] + 2], 2)
    bad = np.where(np.arange(40)[:, None] == 7, np.nan, x)
    uneven = np.append(t[:-1], 60.0)
    for call, match in (
        (lambda: state_space_divergence(flat, x), "coordinate 1 is constant, at 2. Leave it out"),
        (lambda: state_space_divergence(x, []), "`models` must be at least one; got none"),
        (lambda: state_space_divergence(x, x[..., :1]), "`models` must have 2 coordinates"),
        (lambda: state_space_divergence(x, x, bins=10**5), "`bins` must be fewer: 100000 in each"),
        (lambda: state_space_divergence(x[:1, :10], x), r"`truth` must have 8 members or 16 times"),
        (lambda: state_space_divergence(x, x, gaps="mask"), "`gaps` must be raise or skip"),
        (lambda: spectral_distance(bad, x), r"`truth` must be finite, because this measure needs"),
        (lambda: spectral_distance(x, x[:, :30]), r"`models\[0\]` must have the 40 times"),
        (lambda: spectral_distance(x[:, :9], x[:, :9]), "`truth` must be at least 16 times long"),
        (lambda: spectral_distance(x, x, times=uneven), "`times` must be equally spaced"),
        (
            lambda: valid_prediction_time(x, x, exponent=1.0),
            "`times` must be given when `truth` is an array",
        ),
        (lambda: valid_prediction_time(x, x, t, exponent=0.0), "`exponent` must be at least"),
        (lambda: valid_prediction_time(x[:1], x[:1], t, exponent=1.0), "at least 2 members"),
        (lambda: forecast_error(x, x[:, 1:]), r"`forecasts\[0\]` must have the shape of `truth`"),
        (lambda: correlation_dimension(x[:, :20]), "`runs` must be at least 800 states; got 200"),
        (lambda: correlation_dimension(np.tile(flat, (1, 9, 1))), "`runs` must vary in every coo"),
        (lambda: correlation_dimension(x, low=0.5, high=0.1), "`low` must be below `high`"),
        (lambda: map_exponents(lambda x: x[:1], x[0], steps=3), "`map` must return a state of"),
        (lambda: map_exponents(jnp.sin, x[0], steps=3, discard=3), "`discard` must be at most 2"),
        (lambda: transition_matrix(x, bins=4, lag=40), "`runs` must be longer than `lag`, 40"),
        (lambda: transition_matrix(x, bins=4, box=[[1.0, 0.0]] * 2), "`box` must be a lower and"),
        (
            lambda: transition_matrix(x, bins=4, box=[[8.0, 9.0]] * 2),
            "`runs` must have states that follow",
        ),
        (lambda: transition_matrix(flat, bins=4), "`runs` must vary in every coordinate"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
