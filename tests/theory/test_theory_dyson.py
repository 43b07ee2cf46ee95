"""Closed forms of Dyson's motion and of neighbouring eigenvalues, against samples and integrals.

Samples come from NumPy alone: the matrix itself (β = 1, 2), or the tridiagonal matrix whose
eigenvalues have the same law for every β.
"""

import math

import numpy as np
import pytest
import scipy.stats
from _ensembles import assert_mean, tridiagonal
from scipy.integrate import cumulative_trapezoid, quad
from scipy.linalg import eigh_tridiagonal

from rqf_jax.theory import dyson, levels

G, TIME = 0.8, 0.6


def eigenvalues(n, beta, variance, members, seed=0):
    diagonal, off = tridiagonal(n, beta, variance, members, seed)
    if n > 50:
        pairs = zip(diagonal, off, strict=True)
        return np.array([eigh_tridiagonal(d, e, eigvals_only=True) for d, e in pairs])
    dense = np.zeros((members, n, n))
    i = np.arange(n)
    dense[:, i, i] = diagonal
    dense[:, i[1:], i[:-1]] = off
    return np.linalg.eigvalsh(dense)


def noise(rng, members, n, beta, variance):
    """Gaussian matrices with variance 2v on the diagonal and β v off it."""
    a = rng.normal(size=(members, n, n))
    a = a + 1j * rng.normal(size=a.shape) if beta == 2 else a
    return math.sqrt(variance / 2) * (a + a.conj().transpose(0, 2, 1))


def jump(start, beta, *, rate, steps, members, seed=0):
    """Eigenvalues after `steps` matrix transitions of the pulled motion from diag(start)."""
    rng, n = np.random.default_rng(seed), len(start)
    x = np.tile(np.asarray(start, float), (members, 1))
    for h in steps:
        matrices = noise(rng, members, n, beta, G**2 * dyson.effective_time(h, rate))
        matrices[:, range(n), range(n)] += math.exp(-rate * h) * x
        x = np.linalg.eigvalsh(matrices)
    return x


@pytest.mark.parametrize("beta", [0.5, 1, 2, 4, 10])
def test_moments_from_zero_are_those_of_the_tridiagonal_matrix(beta):
    n, rate = 5, 0.7
    x = eigenvalues(n, beta, G**2 * dyson.effective_time(TIME, rate), 20_000)
    options = dict(g=G, rate=rate, n=n)
    square = np.sum(x**2, 1)
    assert_mean(np.sum(x, 1) ** 2, dyson.trace_variance(TIME, **options))
    assert_mean(square, dyson.square_sum_mean(TIME, beta=beta, **options))
    centred = square - dyson.square_sum_mean(TIME, beta=beta, **options)
    assert_mean(centred**2, dyson.square_sum_variance(TIME, beta=beta, **options))
    assert_mean(np.sum(x**4, 1), dyson.fourth_moment(TIME, beta=beta, **options))
    cdf = dyson.square_sum_cdf(square, TIME, beta=beta, **options)
    assert scipy.stats.kstest(cdf, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("beta", [1, 2])
def test_square_sum_has_its_noncentral_law_after_unequal_steps_from_anywhere(beta):
    start, rate = [-1.0, -0.2, 0.4, 1.3], 0.5
    x = jump(start, beta, rate=rate, steps=(0.2, 0.5), members=10_000)
    options = dict(g=G, rate=rate, n=4, beta=beta)
    square, norm = np.sum(x**2, 1), np.dot(start, start)
    cdf = dyson.square_sum_cdf(square, 0.7, norm, **options)
    assert scipy.stats.kstest(cdf, "uniform").pvalue > 1e-4
    assert_mean(square, dyson.square_sum_mean(0.7, norm, **options))
    centred = square - dyson.square_sum_mean(0.7, norm, **options)
    assert_mean(centred**2, dyson.square_sum_variance(0.7, norm, **options))


@pytest.mark.slow
def test_moments_of_many_matrices_from_zero_are_theirs_to_a_percent():
    for rate in (0.0, 0.7):
        options = {"g": G, "rate": rate, "n": 4}
        variance = G**2 * dyson.effective_time(TIME, rate)
        x = eigenvalues(4, 3, variance, 200_000)
        assert np.var(np.sum(x, 1)) == pytest.approx(
            float(dyson.trace_variance(TIME, **options)), rel=0.016
        )
        squares = float(dyson.square_sum_mean(TIME, **options, beta=3))
        assert np.mean(np.sum(x**2, 1)) == pytest.approx(squares, rel=0.01)
        fourth = float(dyson.fourth_moment(TIME, **options, beta=3))
        assert np.mean(np.sum(x**4, 1)) == pytest.approx(fourth, rel=0.01)


@pytest.mark.parametrize("beta", [2.5, 4])
def test_mean_characteristic_polynomial_from_zero_holds_for_any_index(beta):
    variance = G**2 * dyson.effective_time(TIME, 0.4)
    polynomials = np.array([np.poly(row)[::-1] for row in eigenvalues(4, beta, variance, 20_000)])
    exact = dyson.mean_characteristic_polynomial(np.zeros(4), TIME, g=G, rate=0.4, beta=beta)
    assert_mean(polynomials[:, :-1], exact[:-1])


@pytest.mark.parametrize("beta", [1, 2])
def test_mean_characteristic_polynomial_solves_the_heat_equation_from_anywhere(beta):
    start = [-1.5, -0.3, 0.2, 1.7]
    x = jump(start, beta, rate=0.4, steps=(TIME,), members=20_000)
    polynomials = np.array([np.poly(row)[::-1] for row in x])
    exact = dyson.mean_characteristic_polynomial(start, TIME, g=G, rate=0.4, beta=beta)
    assert_mean(polynomials[:, :-1], exact[:-1])
    assert exact[-1] == 1


def test_mean_characteristic_polynomial_from_zero_is_hermites():
    # He_n(z/σ) σⁿ with σ² = β g² t, here 1.
    exact = dyson.mean_characteristic_polynomial(np.zeros(4), 0.5, g=1.0, beta=2)
    np.testing.assert_allclose(exact, [3, 0, -6, 0, 1], atol=1e-14)


@pytest.mark.parametrize("beta", [1, 2])
@pytest.mark.parametrize("start", [0.0, 0.7])
def test_gap_of_two_eigenvalues_is_a_bessel_process(beta, start):
    gaps = np.diff(jump([0.0, start], beta, rate=0.9, steps=(TIME,), members=10_000, seed=3))[:, 0]
    grid = np.linspace(0, 12, 12_001)
    density = dyson.gap_density(grid, TIME, start, g=G, rate=0.9, beta=beta)
    cdf = cumulative_trapezoid(density, grid, initial=0)
    assert abs(cdf[-1] - 1) < 1e-6
    assert scipy.stats.kstest(np.interp(gaps, grid, cdf), "uniform").pvalue > 1e-4
    if start == 0:
        mean = np.trapezoid(grid * density, grid)
        assert mean == pytest.approx(dyson.mean_gap(TIME, g=G, rate=0.9, beta=beta), rel=1e-6)
        scaled = levels.surmise_density(grid / mean, beta) / mean
        np.testing.assert_allclose(density, scaled, atol=1e-9)


def test_gap_density_is_continuous_in_a_start_that_closes():
    grid = np.linspace(0.1, 3, 30)
    near = dyson.gap_density(grid, TIME, 1e-5, g=G, beta=3)
    np.testing.assert_allclose(near, dyson.gap_density(grid, TIME, g=G, beta=3), rtol=1e-8)


def test_stationary_gap_has_mean_g_root_pi_over_kappa():
    gap = dyson.mean_gap(math.inf, g=G, rate=0.7)
    assert gap == pytest.approx(G * math.sqrt(math.pi / 0.7), rel=1e-12)


@pytest.mark.slow
def test_two_stationary_levels_have_the_gap_of_the_surmise():
    gap = np.diff(eigenvalues(2, 1, G**2 / (2 * 0.7), 200_000, seed=4))[:, 0]
    mean = dyson.mean_gap(math.inf, g=G, rate=0.7)
    assert_mean(gap, mean)
    assert_mean(gap**2, 4 / math.pi * mean**2)


@pytest.mark.parametrize("beta", [4, *(pytest.param(b, marks=pytest.mark.slow) for b in (2, 3))])
def test_inverse_square_gaps_balance_the_pull(beta):
    n, rate = 4, 1.3
    x = eigenvalues(n, beta, G**2 / (2 * rate), 20_000 if beta == 4 else 200_000, seed=5)
    inverse = 1 / (x[:, :, None] - x[:, None, :] + np.diag([np.inf] * n))
    expected = dyson.inverse_square_gaps(g=G, rate=rate, n=n, beta=beta)
    found = np.sum(inverse**2, (1, 2))
    if beta == 4:  # below, the variance is infinite
        assert_mean(found, expected)
    assert found.mean() == pytest.approx(expected, rel=0.03)
    assert np.sum(np.sum(inverse, 2) ** 2, 1).mean() == pytest.approx(expected, rel=0.03)
    assert np.isinf(dyson.inverse_square_gaps(g=G, rate=rate, n=n, beta=1))


def test_the_pulled_motion_is_the_free_one_at_the_effective_time():
    assert dyson.effective_time(0.4) == 0.4
    assert dyson.effective_time(0.4, 1e-9) == pytest.approx(0.4, rel=1e-8)
    assert dyson.effective_time(math.inf, 2.0) == 0.25
    np.testing.assert_allclose(
        dyson.edge([0.3, 0.9], g=G, rate=0.5, n=7, beta=2),
        2 * G * np.sqrt(14 * (1 - np.exp([-0.3, -0.9]))),
    )


def test_eigenvalues_of_a_large_matrix_fill_the_semicircle():
    n, variance = 300, 0.3
    x = eigenvalues(n, 1, variance, 4)
    edge = dyson.edge(variance, g=1.0, n=n)
    share = np.sort(dyson.semicircle_cdf(x.ravel(), edge))
    assert np.abs(share - (np.arange(share.size) + 0.5) / share.size).max() < 0.006
    # Its moments are m₂ = (edge/2)² and m₄ = 2 m₂², but for 1/n.
    assert np.mean(x**2) == pytest.approx(edge**2 / 4, rel=0.01)
    assert np.mean(x**4) == pytest.approx(edge**4 / 8, rel=0.02)
    grid = np.linspace(-edge, edge, 20_001)
    density = dyson.semicircle_density(grid, edge)
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(
        cumulative_trapezoid(density, grid, initial=0), dyson.semicircle_cdf(grid, edge), atol=1e-5
    )


@pytest.mark.slow
def test_two_bands_have_their_edges_and_merge_in_time():
    n, a, members = 400, 1.0, 8
    g = 1 / math.sqrt(n)
    merging = dyson.merging_time(a, g=g, n=n)
    rng = np.random.default_rng(2)
    for share in (0.2, 0.4, 0.7, 3.0):
        x = noise(rng, members, n, 1, g**2 * share * merging)
        x[:, range(n), range(n)] += np.repeat([-a, a], n // 2)
        x = np.linalg.eigvalsh(x)
        inner, outer = dyson.band_edges(share * merging, a, g=g, n=n)
        assert (x[:, -1] - x[:, 0]).mean() / 2 == pytest.approx(outer, rel=0.03)
        # Levels of finite matrices lie inside their band, by some n^{-2/3} = 0.018.
        assert (x[:, n // 2] - x[:, n // 2 - 1]).mean() / 2 == pytest.approx(inner, abs=0.03 * a)
        assert (inner > 0) == (share < 1)
    np.testing.assert_allclose(dyson.band_edges(merging, a, g=g, n=n)[0], 0, atol=1e-12)


@pytest.mark.slow
def test_hermitian_transition_density_has_mass_one_and_obeys_chapman_kolmogorov():
    start, options = [-0.4, 0.5], dict(g=G, rate=0.6)
    grid = np.linspace(-4, 4, 33)
    spacing = grid[1] - grid[0]
    pairs = [(a, b) for i, a in enumerate(grid) for b in grid[i + 1 :]]
    first = [math.exp(dyson.log_transition_density(list(p), start, 0.3, **options)) for p in pairs]
    assert sum(first) * spacing**2 == pytest.approx(1, abs=1e-6)
    end = [0.1, 0.9]
    second = [math.exp(dyson.log_transition_density(end, list(p), 0.4, **options)) for p in pairs]
    both = math.exp(dyson.log_transition_density(end, start, 0.7, **options))
    assert np.dot(first, second) * spacing**2 == pytest.approx(both, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"g": 1.04 * G}, {"rate": 0.9}, {"time": 0.33}])
def test_ratios_of_hermitian_transition_densities_have_mean_one(change):
    # E_p[q/p] = 1 for every law q, if p is the law of the sample and both have mass one.
    start, options = [-0.7, 0.1, 0.9], dict(time=0.3, g=G, rate=0.6)
    end = jump(start, 2, rate=0.6, steps=[0.3], members=40_000)
    p, q = (dyson.log_transition_density(end, start, **o) for o in (options, options | change))
    ratio = np.exp(q - p)
    assert ratio.std() > 0.05
    assert_mean(ratio, 1.0)
    # Of other samples it is not.
    other = jump(start, 2, rate=0.6, steps=[0.4], members=40_000)
    p, q = (dyson.log_transition_density(other, start, **o) for o in (options, options | change))
    assert abs(np.exp(q - p).mean() - 1) > 0.01


def test_hermitian_transition_density_is_the_law_of_the_gap_and_the_trace():
    # n = 2: the trace is Gaussian and independent of the gap, (μ_1, μ_2) -> (trace, gap) volume 1.
    start, end, rate, time = [-0.2, 0.9], [0.1, 1.4], 0.8, 0.5
    mean = math.exp(-rate * time) * sum(start)
    trace = scipy.stats.norm.pdf(
        sum(end), mean, math.sqrt(dyson.trace_variance(time, g=G, rate=rate, n=2))
    )
    gap = dyson.gap_density(end[1] - end[0], time, start[1] - start[0], g=G, rate=rate, beta=2)
    joint = dyson.log_transition_density(end, start, time, g=G, rate=rate)
    assert joint == pytest.approx(math.log(2 * trace * gap), abs=1e-12)


def test_eigenvectors_turn_at_the_sum_of_inverse_square_gaps():
    x, h, n = np.array([-2.0, -0.8, 0.1, 1.0, 2.5]), 1e-4, 5
    matrices = noise(np.random.default_rng(1), 20_000, n, 1, G**2 * h)
    matrices[:, range(n), range(n)] += x
    vectors = np.linalg.eigh(matrices)[1]
    lost = (1 - vectors[:, range(n), range(n)] ** 2) / h
    assert_mean(lost, dyson.eigenvector_decay(x, g=G), bias=2e-3)


# ---- neighbours


@pytest.mark.parametrize(("beta", "variance"), [(1, 0.27324), (2, 0.17810), (4, 0.10447)])
def test_surmise_has_mass_and_mean_one_and_its_variance(beta, variance):
    moments = [
        quad(lambda s, k=k: s**k * levels.surmise_density(s, beta), 0, 12)[0] for k in range(3)
    ]
    np.testing.assert_allclose(moments[:2], 1, rtol=1e-9)
    assert moments[2] - 1 == pytest.approx(levels.surmise_variance(beta), rel=1e-8)
    # Mehta's numbers, as tabulated.
    assert levels.surmise_variance(beta) == pytest.approx(variance, abs=5e-6)


@pytest.mark.parametrize(
    ("beta", "value"),
    [
        (1, 4 - 2 * math.sqrt(3)),
        (2, 2 * math.sqrt(3) / math.pi - 0.5),
        (4, 32 * math.sqrt(3) / (15 * math.pi) - 0.5),
        (2.5, None),
    ],
)
def test_mean_spacing_ratio_of_three_eigenvalues(beta, value):
    expected = levels.mean_spacing_ratio(beta)
    if value is not None:
        assert expected == pytest.approx(value, abs=1e-9)
    gaps = np.diff(eigenvalues(3, beta, 1.0, 20_000, seed=7))
    assert_mean(gaps.min(1) / gaps.max(1), expected)


@pytest.mark.parametrize(
    ("beta", "mean", "variance"),
    [(1, -1.20653, 1.60778), (2, -1.77109, 0.81319), (4, -2.3069 * 2 ** (-1 / 6), 0.41092)],
)
def test_tracy_widom_moments_are_the_tabulated_ones(beta, mean, variance):
    found = levels.tracy_widom_moments(beta)
    np.testing.assert_allclose(found, (mean, variance), atol=4e-5)


@pytest.mark.parametrize(
    ("beta", "members"),
    [
        *((beta, 4_000) for beta in (1, 2, 4)),
        *(pytest.param(beta, 40_000, marks=pytest.mark.slow) for beta in (1, 2, 4)),
    ],
)
def test_the_largest_eigenvalue_of_fifty_is_tracy_widom(beta, members):
    n, variance = 50, 0.7
    diagonal, off = tridiagonal(n, beta, variance, members, seed=9)
    largest = np.array(
        [
            eigh_tridiagonal(d, e, eigvals_only=True, select="i", select_range=(n - 1, n - 1))[0]
            for d, e in zip(diagonal, off, strict=True)
        ]
    )
    mean, spread = levels.largest_eigenvalue(n, variance, beta)
    assert_mean(largest, mean, bias=0.03 * math.sqrt(spread))
    assert largest.var() == pytest.approx(spread, rel=0.12 if members < 10_000 else 0.05)


@pytest.mark.parametrize("beta", [1, 2, 4])
def test_number_variance_of_a_large_matrix_is_logarithmic(beta):
    n, members, length = 200, 200, 5.0
    x = eigenvalues(n, beta, 1 / n, members, seed=11)
    level = n * dyson.semicircle_cdf(x, dyson.edge(1 / n, g=1.0, n=n, beta=beta))
    windows = np.arange(0.3 * n, 0.7 * n, length)
    counts = np.sum(
        (level[:, None, :] >= windows[:, None]) & (level[:, None, :] < windows[:, None] + length),
        -1,
    )
    # Windows of one matrix are nearly independent: 3200 counts, variance to 2.5 per cent.
    assert counts.var() == pytest.approx(levels.number_variance(length, beta), rel=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dyson.edge(-1.0, g=1.0, n=3), "`time` must be at least 0; got -1"),
        (lambda: dyson.edge(np.inf, g=1.0, n=3), "`time` must be finite where `rate` is 0"),
        (lambda: dyson.edge(1.0, g=1.0, n=0), "`n` must be at least 1; got 0"),
        (lambda: dyson.edge(1.0, g=-1.0, n=3), "`g` must be finite and at least 0; got -1"),
        (lambda: dyson.edge(1.0, g=1.0, n=3, beta=0), "`beta` must be finite and positive; got 0"),
        (lambda: dyson.square_sum_cdf(1.0, 0.0, g=1.0, n=3), "`time` must be positive; got 0"),
        (
            lambda: dyson.log_transition_density([1.0, 0.0], [0.0, 1.0], 1.0, g=1.0),
            "`end` must be strictly ascending, with positive steps; got -1",
        ),
        (
            lambda: dyson.log_transition_density([0.0], [0.0, 1.0], 1.0, g=1.0),
            "`end` must be as many as `start`; got 1 and 2",
        ),
        (lambda: dyson.eigenvector_decay([1.0, 1.0], g=1.0), "`eigenvalues` must differ"),
        (lambda: levels.number_variance(1.0, 3), "`beta` must be 1, 2 or 4; got 3"),
        (lambda: levels.tracy_widom_cdf(-11.0), "`value` must be at least -10"),
        (lambda: levels.surmise_density(-1.0), "`spacing` must be finite and at least 0; got -1"),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
