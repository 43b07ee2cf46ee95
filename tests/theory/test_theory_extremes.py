"""Closed forms far from the usual arguments: limits, cancellations, wrong types, sizes."""

import inspect
import math

import numpy as np
import pytest
from _campaign import draw, public, verdict
from mpmath import mp

from rqf_jax import theory
from rqf_jax.theory import (
    anisotropic,
    annealed,
    attention,
    circle,
    dyson,
    forcing,
    learning,
    levels,
    linear_networks,
    mamba,
    meanfield,
    multistability,
    outliers,
    private_noise,
    spectra,
    sphere,
    splits,
    value_noise,
)

FORMS = dict(public())


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(120):
        yield


# ---- the contract


@pytest.mark.parametrize("name", FORMS)
def test_extreme_and_wrong_arguments_give_numbers_or_an_error_that_names_them(name, unchecked):
    rng = np.random.default_rng([2026, sorted(FORMS).index(name)])
    for _ in range(12):
        arguments = draw(rng, FORMS[name])
        assert verdict(FORMS[name], arguments) is None, arguments


def test_every_public_function_of_theory_keeps_the_contract():
    for module in (m for m in vars(theory).values() if inspect.ismodule(m)):
        if module.__name__.rpartition(".")[2].startswith("_"):
            continue
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                assert name.startswith("_") or hasattr(value, "contract"), (module, name)


def test_an_error_speaks_in_the_name_of_the_function_that_was_called():
    with pytest.raises(
        ValueError, match=r"^`antipodal_rate` has no finite value .* sigma = 1e\+300"
    ):
        attention.antipodal_rate(attention.softmax_weight, beta=1.0, strength=1.0, sigma=1e300)
    with pytest.raises(ValueError, match=r"^Arguments of `overlap_drift` must have shapes"):
        sphere.overlap_drift([0.1, 0.2], sigma=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="`weight` must be a function"):
        attention.overlap_drift(0.1, 3.0, beta=1.0, strength=1.0, sigma=1.0)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda n: sphere.lyapunov_spectrum(n, sigma=1.0), "dim"),
        (lambda n: sphere.cluster_size_distribution(n), "tokens"),
        (lambda n: mamba.decay_constants(n, product=-1.0, decay=1.0), "tokens"),
        (lambda n: multistability.polygon_spectrum(n, beta=1.0), "tokens"),
        (lambda n: spectra.mean_log_det(2**53, min(n, 2**53), 1.0), "columns"),
        (lambda n: splits.attainable_splits(n, n), "tokens"),
    ],
)
def test_sizes_are_bounded_before_anything_is_allocated(call, name):
    for size in (10**15, 10**400):
        with pytest.raises(ValueError, match=f"`{name}` must"):
            call(size)


# ---- determinants and differences of near-equal numbers


def karlin_mcgregor(end, start, time, g, rate):
    end, start = ([mp.mpf(float(x)) for x in points] for points in (end, start))
    n, rate = len(end), mp.mpf(rate)
    kept, variance = mp.exp(-rate * time), mp.mpf(g) ** 2 * (1 - mp.exp(-2 * rate * time)) / rate
    matrix = mp.matrix(n, n)
    for i in range(n):
        for j in range(n):
            z = (end[j] - kept * start[i]) ** 2 / (2 * variance)
            matrix[i, j] = mp.exp(-z) / mp.sqrt(2 * mp.pi * variance)

    def spread(x):
        return mp.fprod(x[j] - x[i] for i in range(n) for j in range(i + 1, n))

    grown = rate * time * n * (n - 1) / 2
    return float(grown + mp.log(spread(end) / spread(start) * mp.det(matrix)))


@pytest.mark.parametrize(
    "n, time", [(12, 6.0), (12, 4.0), (12, 0.3), (8, 6.0), (8, 8.0), (3, 0.01)]
)
def test_transition_densities_are_exact_when_eigenvalues_nearly_meet(n, time):
    start = np.sort(np.sqrt(n) * np.cos(np.pi * (np.arange(n) + 0.5) / n))
    end = start * 1.02 + 0.03
    found = dyson.log_transition_density(end, start, time, g=0.5, rate=1.0)
    assert found == pytest.approx(karlin_mcgregor(end, start, time, 0.5, 1.0), rel=1e-13)
    end[1] = end[0] + 1e-13
    found = dyson.log_transition_density(end, start, time, g=0.5, rate=1.0)
    assert found == pytest.approx(karlin_mcgregor(end, start, time, 0.5, 1.0), rel=1e-13)


def test_transition_densities_become_stationary():
    start = np.array([-2.0, -0.5, 0.3, 1.9])
    end = np.array([-1.1, -0.2, 0.1, 2.0])
    late = [
        dyson.log_transition_density(end, start, t, g=0.5, rate=1.0) for t in (60.0, 1e4, np.inf)
    ]
    # Eigenvalues of the Gaussian unitary ensemble of variance 2g²τ on the diagonal, τ = 1/2κ.
    v = 0.25
    weight = -4 / 2 * math.log(2 * math.pi) - math.log(2) - math.log(6) - 8 * math.log(v)
    gaps = [end[j] - end[i] for i in range(4) for j in range(i + 1, 4)]
    stationary = weight - np.sum(end**2) / (2 * v) + 2 * np.sum(np.log(gaps))
    np.testing.assert_allclose(late, stationary, rtol=1e-13)


def test_transition_densities_are_in_detailed_balance():
    # Detailed balance: p(μ|λ) e^{-V(λ)} Δ(λ)² is symmetric.
    rng = np.random.default_rng(0)
    one, other = np.sort(rng.uniform(-9, 9, (2, 16)), axis=-1)
    there = dyson.log_transition_density(one, other, 0.7, g=1.0, rate=0.5)
    back = dyson.log_transition_density(other, one, 0.7, g=1.0, rate=0.5)

    def weight(x):
        i, j = np.triu_indices(len(x), 1)
        return 2 * np.log(x[j] - x[i]).sum() - np.sum(x**2) / 4

    # v = 2g²/2κ = 2 and so x²/2v.
    assert there - back == pytest.approx(weight(one) - weight(other), rel=1e-11)


@pytest.mark.parametrize("columns, moment", [((1e4, 1e-4), 0.99990001), ((1e9, 1.0), None)])
@pytest.mark.parametrize("rows", [(1.0, 1.0), (9.0, 0.1)])
def test_two_dimensional_moments_hold_for_any_condition_number(columns, moment, rows):
    found = anisotropic.second_moment(np.diag(rows), np.diag(columns))
    exact = math.sqrt(columns[0]) / (math.sqrt(columns[0]) + math.sqrt(columns[1]))
    assert found[1, 1] == pytest.approx(exact, rel=1e-12)
    assert np.trace(found) == pytest.approx(1, rel=1e-14)
    if moment:
        assert exact == pytest.approx(moment, rel=1e-7)


def test_moments_in_three_dimensions_are_those_of_the_density():
    # By quadrature in the azimuth and the height, in which x = (s cos φ, s sin φ, z).
    rows, columns = np.diag([4.0, 1.0, 0.3]), np.diag([1.0, 8.0, 0.2])
    z, w = np.polynomial.legendre.leggauss(400)
    phi = 2 * np.pi * (np.arange(400) + 0.5) / 400
    s = np.sqrt(1 - z**2)
    x = np.stack(
        np.broadcast_arrays(s[:, None] * np.cos(phi), s[:, None] * np.sin(phi), z[:, None]), -1
    )
    mass = anisotropic.density(x, rows, columns) * w[:, None] / 800
    assert mass.sum() == pytest.approx(1, rel=1e-9)
    expected = np.einsum("zp,zpi,zpj->ij", mass, x, x)
    np.testing.assert_allclose(anisotropic.second_moment(rows, columns), expected, atol=1e-9)
    hard = anisotropic.second_moment(np.diag([1e6, 1.0, 1e-3]), np.diag([1.0, 1e-8, 1e3]))
    assert np.trace(hard) == pytest.approx(1, abs=1e-8)


def test_effective_times_have_their_limits():
    found = dyson.effective_time(
        [0.0, 1e-300, 0.5, 3.0, 5.0, np.inf], [0.9, 1.0, 0.9, 0.9, 1e-320, 2.0]
    )
    exact = [0.0, 1e-300, -math.expm1(-0.9) / 1.8, -math.expm1(-5.4) / 1.8, 5.0, 0.25]
    np.testing.assert_allclose(found, exact, rtol=1e-14)


def test_differences_of_digammas_keep_their_digits():
    for n in (2, 3, 50, 10**6, 10**12):
        exact = (mp.psi(0, mp.mpf(n - 1) / 2) - mp.psi(0, mp.mpf(n) / 2)) / 2
        assert sphere.mean_log_sine_uniform(n) == pytest.approx(float(exact), rel=1e-13)
        if n > 4:
            exact = sum(mp.psi(0, mp.mpf(n - j) / 2) for j in range(5)) - 5 * mp.psi(
                0, mp.mpf(n) / 2
            )
            assert sphere.layer_log_det_increment(n, 5) == pytest.approx(float(exact), rel=1e-13)


def test_synchronisation_times_keep_their_digits_near_the_equator():
    for start, stop in ((1e-4, 3e-4), (1e-7, 1e-3), (0.2, 0.9)):
        angle, threshold = (2 * math.atan(math.exp(-u)) for u in (start, stop))
        a, b = (mp.log(mp.cot(mp.mpf(x) / 2)) for x in (angle, threshold))
        ratio = mp.log(mp.cosh(b) / mp.cosh(a))
        gd = [2 * mp.atan(mp.tanh(u / 2)) for u in (a, b)]
        mean = sphere.mean_synchronisation_time(angle, threshold, sigma=1.0)
        assert mean == pytest.approx(float(ratio), rel=1e-11)
        found = sphere.synchronisation_time_variance(angle, threshold, sigma=1.0)
        assert found == pytest.approx(float(2 * ratio - gd[1] ** 2 + gd[0] ** 2), rel=1e-8)


def test_variances_of_an_angle_keep_their_digits_at_short_times():
    for time in (1e-15, 1e-10, 1e-6):
        found = sphere.angle_variance(time, 0.7, sigma=1.0)
        assert found == pytest.approx(2 * time * math.sin(0.7) ** 2, rel=10 * time + 1e-9)


def test_small_differences_elsewhere_keep_their_digits():
    t = outliers.emergence_time(1.0, g=1e-7, rate=1.0, n=3)
    assert t == pytest.approx(3e-14, rel=1e-12)
    assert levels.surmise_variance(1e9) == pytest.approx(0.5e-9, rel=1e-8)
    assert dyson.mean_gap(1.0, g=1.0, beta=1e12) == pytest.approx(2e6, rel=1e-11)
    gap = learning.teacher_gap(learning_rate=1e-13, batch=10**9, noise=1.0)
    assert gap == pytest.approx(math.sqrt(math.pi * 1e-22), rel=1e-8)
    wide = learning.machine_gap(1e-12, mass=1.0, learning_rate=1e-3, batch=10, sweeps=1)
    assert wide == pytest.approx(math.sqrt(2e-4 * math.pi) * 1e6, rel=1e-9)
    assert linear_networks.balanced_time(1e-3 + 1e-17, 1e-3, target=1.0) == pytest.approx(
        (1e-3 + 1e-17 - 1e-3) / 2e-3, rel=2e-3, abs=0
    )
    edges = spectra.marchenko_pastur_edges(10**12 + 1, 10**12, 1.0)
    assert edges[0] == pytest.approx(0.25e-12, rel=1e-9)
    inner, outer = dyson.band_edges(1e-30, 1.0, g=1.0, n=1)
    assert inner == pytest.approx(1) and outer == pytest.approx(1)
    escape = dyson.band_edges(1 - 1e-9, 1.0, g=1.0, n=1)[0]
    assert escape == pytest.approx(2 / 3 / math.sqrt(3) * 1e-9**1.5, rel=1e-6)


# ---- limits


@pytest.mark.slow
def test_pairs_settle_at_late_times():
    for time in (60.0, 400.0, 1e4, 1e12, 1e300):
        assert sphere.mean_squared_overlap(time, 0.5, sigma=1.0) == pytest.approx(1, abs=1e-6)
        assert sphere.mean_overlap(time, 0.5, sigma=1.0) == pytest.approx(1 / 3, abs=1e-6)
        found = sphere.positive_overlap_probability(time, 0.5, sigma=1.0)
        assert found == pytest.approx(2 / 3, abs=1e-6)
    for time in (1e-300, 1e-30, 1e-12):
        assert sphere.mean_overlap(time, 0.5, sigma=1.0) == pytest.approx(0.5, abs=1e-11)
    for time in (30.0, 200.0, 700.0):
        late = sphere.expectation(
            lambda u: np.logaddexp(u, -u) - math.log(2), time, np.pi / 2, sigma=1.0
        )
        assert late == pytest.approx(time, rel=1e-11)
    # (4 % at σ²t = 400, as `late_mean_sine` says, and less later.)
    ratio = annealed.late_mean_sine(2000.0, 1.0, sigma=1.0) / sphere.mean_sine(
        2000.0, 1.0, sigma=1.0
    )
    assert ratio == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("sigma", "private", "dim", "sine", "square"),
    [(1.0, 0.3, 1000, 0.994085, None), (3.0, 0.01, 1000, None, 0.878395),
     (1.0, 1e-7, 5, 2.4257e-6, 0.99999976)],
)  # fmt: skip
def test_private_noise_in_any_dimension_and_of_any_strength(sigma, private, dim, sine, square):
    if sine is not None:
        found = private_noise.mean_sine(sigma=sigma, private=private, dim=dim)
        assert found == pytest.approx(sine, rel=1e-4 if private < 1e-3 else 1e-6)
    if square is not None:
        found = private_noise.mean_squared_overlap(sigma=sigma, private=private, dim=dim)
        assert found == pytest.approx(square, abs=1e-6)


@pytest.mark.parametrize("dim", [2, 3, 8, 40])
def test_private_noise_agrees_with_the_integral_of_its_density(dim):
    u = np.linspace(-18, 18, 4001)
    r = np.tanh(u)
    density = private_noise.overlap_density(r, sigma=1.3, private=0.2, dim=dim) / np.cosh(u) ** 2
    step = u[1] - u[0]
    assert density.sum() * step == pytest.approx(1, rel=1e-6)
    found = private_noise.mean_squared_overlap(sigma=1.3, private=0.2, dim=dim)
    assert found == pytest.approx((r**2 * density).sum() * step, rel=1e-6)


@pytest.mark.parametrize("beta, slope", [(1, -1), (2, 0), (4, 1)])
def test_number_variance_is_exact_from_short_to_long_stretches(beta, slope):
    short = np.array([1e-300, 1e-6])
    np.testing.assert_allclose(levels.number_variance(short, beta), short, rtol=2e-6)
    assert np.all(np.asarray(levels.number_variance([0.01, 0.1, 1.0, 10.0], beta)) > 0)
    for length in (50.0, 1e4, 1e5, 1e12):
        log = math.log((4 if beta == 4 else 2) * math.pi * length) + np.euler_gamma + 1
        late = 2 / (beta * math.pi**2) * (log + slope * math.pi**2 / 8)
        assert levels.number_variance(length, beta) == pytest.approx(
            late, rel=3e-2 / length + 1e-12
        )
    # Dyson's two-level cluster function, β = 2, by quadrature: L - 2 ∫ (L - r) Y(r) dr.
    length = 1.7
    x, w = np.polynomial.legendre.leggauss(60)
    r, w = (x + 1) * length / 2, w * length / 2
    exact = length - 2 * np.sum(w * (length - r) * np.sinc(r) ** 2)
    assert levels.number_variance(length, 2) == pytest.approx(exact, rel=1e-13)


def test_spacing_laws_of_large_beta_are_narrow():
    assert levels.mean_spacing_ratio(1) == pytest.approx(4 - 2 * math.sqrt(3), rel=1e-12)
    assert levels.bulk_spacing_ratio(1) == 0.5307 < levels.mean_spacing_ratio(1)
    # The density falls as e^{-3β(1-r)²/8}: ln r has the variance 4/3β.
    for beta in (5e4, 1e8, 1e14):
        width = math.sqrt(2 / math.pi * 4 / 3 / beta)
        assert 1 - levels.mean_spacing_ratio(beta) == pytest.approx(width, rel=0.01)
    for beta in (500.0, 5000.0, 1e4, 1e12):
        at = levels.surmise_density(1.0, beta)
        assert at == pytest.approx(math.sqrt(beta / math.pi), rel=2 / beta + 1e-3)
        assert dyson.gap_density(
            dyson.mean_gap(2.0, g=0.5, beta=beta), 2.0, g=0.5, beta=beta
        ) == pytest.approx(at / dyson.mean_gap(2.0, g=0.5, beta=beta), rel=1e-9)


def test_gaps_of_large_beta_obey_chapman_and_kolmogorov():
    options = {"g": 0.5, "rate": 0.3, "beta": 5000.0}
    middle, step = np.linspace(40.0, 90.0, 4001, retstep=True)
    first = dyson.gap_density(middle, 0.5, 62.0, **options)
    second = dyson.gap_density(75.0, 1.0, middle, **options)
    whole = dyson.gap_density(75.0, 1.5, 62.0, **options)
    assert np.sum(first * second) * step == pytest.approx(whole, rel=1e-8)


def test_tokens_of_state_space_models_at_tiny_steps():
    found = mamba.decay_constants(2, product=-1.0, decay=1.0, step_bias=-800.0)
    assert found[0] == pytest.approx(math.exp(400) / math.sqrt(2), rel=1e-12)
    assert found[1] == pytest.approx(math.sqrt(0.5), rel=1e-12)


def test_thresholds_at_extreme_inverse_temperatures():
    weight = attention.unnormalised_weight
    sure = attention.antipodal_probability(
        [-0.5, 0.0, 0.5], weight, beta=1e4, strength=1.0, sigma=1.0
    )
    # Tokens that turn towards each other are pulled at once; others stay on their side.
    # The scale between 0 and where the pull e^{1e4 r} wins is (ln 1e4 - γ)/1e4, of the angle's π/2.
    slip = (math.log(1e4) - np.euler_gamma) / 1e4
    expected = [(np.pi / 6 + slip) / (np.pi / 2 + slip), slip / (np.pi / 2 + slip), 0]
    np.testing.assert_allclose(sure, expected, atol=1e-6)
    assert value_noise.antipodal_probability(0.3, beta=1.0, dim=6) == 0
    assert value_noise.scalar_rapidity_drift(-1.0, beta=1e4, epsilon=1.0) == pytest.approx(-0.5)
    angles = np.array([np.pi, 2.0])
    weak = forcing.weak_merge_time(
        sigma=1.0, forcing=0.1, dim=5, overlap0=np.cos(angles), overlap=0.9
    )
    stop = math.acos(0.9)
    assert weak[1] / weak[0] == pytest.approx((2.0 - stop) / (np.pi - stop), rel=1e-12)


def test_mean_field_order_in_large_dimensions_and_at_strong_coupling():
    for dim, k in ((3, 1e-3), (3, 40.0), (1000, 900.0), (2000, 3e3)):
        exact = mp.besseli(mp.mpf(dim) / 2, k) / mp.besseli(mp.mpf(dim) / 2 - 1, k)
        assert meanfield.resultant(k, dim) == pytest.approx(float(exact), rel=1e-13)
    order = meanfield.order_parameter(coupling=1e12, noise=1.0, dim=4)
    assert 1 - order == pytest.approx(1.5e-12, rel=1e-3)
    critical = meanfield.critical_noise(beta=1e-3, dim=10**9)
    assert critical == pytest.approx(1e-9, rel=1e-12)
    # For n = 3 the Bessel function is elementary.
    beta = 600.0
    exact = beta**3 / (2 * (beta * math.cosh(beta) - math.sinh(beta)))
    found = meanfield.critical_coupling(beta=beta, dim=3)
    assert found == pytest.approx(exact, rel=1e-12)
    assert meanfield.critical_coupling(beta=1e4, dim=3) == 0


def test_half_spaces_of_any_number_of_tokens():
    for tokens, dim in ((1, 1), (7, 3), (60, 30)):
        exact = splits.attainable_splits(tokens, dim) / splits.ergodic_measures(tokens)
        assert splits.half_space_probability(tokens, dim) == pytest.approx(exact, rel=1e-12)
    assert splits.half_space_probability(2 * 10**12, 10**12) == pytest.approx(0.5, abs=1e-5)


def test_a_closing_and_an_opened_gap_have_no_sine():
    for harmonic in (1, 3):
        for gap in (0.0, 2 * np.pi / harmonic):
            assert circle.mean_log_sine(1.0, gap, harmonic) == -np.inf
