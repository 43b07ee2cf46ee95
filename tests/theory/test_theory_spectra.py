"""Closed forms of singular values, outliers and linear networks, against samples and descent."""

import math

import numpy as np
import pytest
from _ensembles import assert_mean, tridiagonal
from scipy.linalg import eigh_tridiagonal

from rqf_jax.theory import dyson, linear_networks, outliers, spectra


def bidiagonal(rows, columns, beta, variance, members, seed=0):
    """Squared singular values (members, columns), ascending, for any β."""
    rng = np.random.default_rng(seed)
    n, i = columns, np.arange(columns)
    dense = np.zeros((members, n, n))
    dense[:, i, i] = np.sqrt(variance * rng.chisquare(beta * (rows - i), size=(members, n)))
    dense[:, i[1:], i[:-1]] = np.sqrt(variance * rng.chisquare(beta * i[:0:-1], (members, n - 1)))
    return np.linalg.svd(dense, compute_uv=False)[:, ::-1] ** 2


def gaussian(rows, columns, variance, members, seed=0):
    rng = np.random.default_rng(seed)
    return math.sqrt(variance) * rng.normal(size=(members, rows, columns))


@pytest.mark.parametrize("beta", [1, 2, 2.5, 4])
def test_laguerre_moments_from_zero_are_those_of_the_bidiagonal_matrix(beta):
    rows, columns, variance = 7, 4, 0.5
    x = bidiagonal(rows, columns, beta, variance, 20_000)
    options = (rows, columns, variance, beta)
    total = np.sum(x, 1)
    assert_mean(total, spectra.square_sum_mean(*options))
    assert_mean(
        (total - spectra.square_sum_mean(*options)) ** 2, spectra.square_sum_variance(*options)
    )
    assert_mean(np.sum(x**2, 1), spectra.fourth_moment(*options))
    assert_mean(np.sum(np.log(x), 1), spectra.mean_log_det(*options))


def test_laguerre_moments_are_those_of_a_rectangular_matrix():
    w = gaussian(7, 4, 0.5, 20_000)
    x = np.linalg.svd(w, compute_uv=False) ** 2
    assert_mean(np.sum(x**2, 1), spectra.fourth_moment(7, 4, 0.5))
    assert_mean(np.sum(np.log(x), 1), spectra.mean_log_det(7, 4, 0.5))


def test_the_fourth_moment_about_a_mean_is_that_of_its_singular_values():
    signals = np.array([1.5, 0.6])
    w = gaussian(5, 3, 0.3, 20_000)
    w[:, range(2), range(2)] += signals
    x = np.linalg.svd(w, compute_uv=False) ** 2
    assert_mean(np.sum(x**2, 1), spectra.fourth_moment_about(signals, 5, 3, 0.3))
    assert spectra.fourth_moment_about([], 5, 3, 0.3) == spectra.fourth_moment(5, 3, 0.3)


def test_mean_characteristic_polynomial_of_squares_from_anywhere():
    start, rows, variance = np.array([0.3, 0.8, 1.5]), 5, 0.2
    w = gaussian(rows, 3, variance, 20_000)
    w[:, range(3), range(3)] += start
    x = np.linalg.svd(w, compute_uv=False) ** 2
    polynomials = np.array([np.poly(row)[::-1] for row in x])
    exact = spectra.mean_characteristic_polynomial(start**2, rows, variance)
    assert_mean(polynomials[:, :-1], exact[:-1])
    assert exact[-1] == pytest.approx(1, rel=1e-12)


@pytest.mark.slow
def test_mean_characteristic_polynomial_of_complex_squares_from_anywhere():
    # A complex entry has variance `variance` in each of its two parts.
    start, rows, variance = np.array([0.3, 0.8, 1.5]), 5, 0.2
    parts = gaussian(rows, 3, variance, 40_000).reshape(2, -1, rows, 3)
    w = parts[0] + 1j * parts[1]
    w[:, range(3), range(3)] += start
    x = np.linalg.svd(w, compute_uv=False) ** 2
    polynomials = np.array([np.poly(row)[::-1] for row in x])
    exact = spectra.mean_characteristic_polynomial(start**2, rows, variance, beta=2)
    assert_mean(polynomials[:, :-1], exact[:-1])


@pytest.mark.slow
def test_the_largest_singular_value_is_tracy_widom():
    rows, columns, variance = 100, 50, 0.5
    x = np.linalg.svd(gaussian(rows, columns, variance, 4000), compute_uv=False)[:, 0] ** 2
    centre, scale = spectra.largest_singular_square(rows, columns)
    assert_mean((x / variance - centre) / scale, -1.20653, bias=0.03)


def test_drift_of_singular_values_under_noise_of_any_covariance():
    values, rows, columns, h = np.array([2.0, 1.2, 0.5]), 4, 3, 2e-4
    rng = np.random.default_rng(2)
    root = 0.4 * rng.normal(size=(rows * columns, rows * columns))
    covariance = (root @ root.T).reshape(rows, columns, rows, columns)
    start = np.zeros((rows, columns))
    start[range(columns), range(columns)] = values
    step = (rng.normal(size=(100_000, rows * columns)) @ root.T * math.sqrt(h)).reshape(
        -1, rows, columns
    )
    # Antithetic steps leave the drift without its martingale.
    ends = [np.linalg.svd(start + sign * step, compute_uv=False) for sign in (1, -1)]
    assert_mean((sum(ends) / 2 - values) / h, spectra.singular_value_drift(values, covariance))
    variation = np.einsum("iiii->i", covariance[:columns, :, :columns])
    assert_mean(((ends[0] - ends[1]) / 2) ** 2 / h, variation)


def test_isotropic_noise_drifts_as_laguerre_and_symmetric_noise_as_dyson():
    s, rows, columns = np.array([0.4, 1.1, 1.9]), 5, 3
    unit = np.einsum("ab,ij->aibj", np.eye(rows), np.eye(columns))
    others = [np.delete(s, i) for i in range(columns)]
    laguerre = [
        ((rows - columns) / x + sum(1 / (x - y) + 1 / (x + y) for y in ys)) / 2
        for x, ys in zip(s, others, strict=True)
    ]
    np.testing.assert_allclose(spectra.singular_value_drift(s, unit), laguerre)
    square = np.einsum("ab,ij->aibj", np.eye(3), np.eye(3))
    symmetric = square + np.einsum("aj,ib->aibj", np.eye(3), np.eye(3))
    dyson_drift = [sum(1 / (x - y) for y in ys) for x, ys in zip(s, others, strict=True)]
    np.testing.assert_allclose(spectra.singular_value_drift(s, symmetric), dyson_drift)


def test_a_large_rectangular_matrix_fills_the_marchenko_pastur_law():
    rows, columns, variance = 400, 100, 0.5
    x = np.linalg.svd(gaussian(rows, columns, variance, 8), compute_uv=False) ** 2
    low, high = spectra.marchenko_pastur_edges(rows, columns, variance)
    grid = np.linspace(low, high, 20_001)
    density = spectra.marchenko_pastur_density(grid, rows, columns, variance)
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)]) * (grid[1] - grid[0])
    assert cdf[-1] == pytest.approx(1, abs=1e-5)
    assert np.trapezoid(grid * density, grid) == pytest.approx(rows * variance, rel=1e-4)
    share = np.sort(np.interp(x.ravel(), grid, cdf))
    assert np.abs(share - (np.arange(share.size) + 0.5) / share.size).max() < 0.015
    centre, scale = spectra.largest_singular_square(rows, columns)
    assert_mean((x[:, 0] / variance - centre) / scale, -1.20653, bias=0.05)
    # m₂/m₁² = 1 + n/m + 1/m, exactly.
    expected = spectra.fourth_moment(rows, columns, 1.0) / columns / rows**2
    assert expected == pytest.approx(1 + columns / rows + 1 / rows, rel=1e-12)


# ---- outliers


def spiked(signal, n, variance, members, seed):
    """Largest eigenvalues, and the squared overlaps of their vectors with the signal."""
    diagonal, off = tridiagonal(n, 1, variance, members, seed)
    diagonal[:, 0] += signal
    pairs = zip(diagonal, off, strict=True)
    found = [eigh_tridiagonal(d, e, select="i", select_range=(n - 1, n - 1)) for d, e in pairs]
    return np.array([w[0] for w, _ in found]), np.array([v[0, 0] ** 2 for _, v in found])


@pytest.mark.slow
def test_a_symmetric_signal_has_an_outlier_above_the_threshold_only():
    n, variance = 300, 1 / 300
    assert outliers.threshold(n, variance) == pytest.approx(1)
    for signal, tolerance in ((0.6, 0.02), (1.6, 0.003)):
        value, overlap = spiked(signal, n, variance, 4000, seed=4)
        assert value.mean() == pytest.approx(outliers.outlier(signal, n, variance), rel=tolerance)
        assert overlap.mean() == pytest.approx(outliers.overlap(signal, n, variance), abs=0.03)
    assert outliers.overlap(0.6, n, variance) == 0
    assert outliers.outlier(0.6, n, variance) == pytest.approx(2)


@pytest.mark.slow
def test_a_rectangular_signal_has_an_outlier_above_the_threshold_only():
    rows, columns, variance = 400, 200, 1 / 400
    for signal in (0.5, 1.5):
        w = gaussian(rows, columns, variance, 24, seed=6)
        w[:, 0, 0] += signal
        u, s, vt = np.linalg.svd(w, full_matrices=False)
        expected = outliers.rectangular_outlier(signal, rows, columns, variance)
        assert s[:, 0].mean() == pytest.approx(expected, rel=0.01)
        left, right = outliers.rectangular_overlaps(signal, rows, columns, variance)
        assert np.mean(u[:, 0, 0] ** 2) == pytest.approx(left, abs=0.03)
        assert np.mean(vt[:, 0, 0] ** 2) == pytest.approx(right, abs=0.03)
    assert right > left > 0.5


@pytest.mark.parametrize("initial", [0.0, 1.5 / 300])
def test_the_outlier_emerges_when_the_signal_reaches_the_threshold(initial):
    n, g, rate, teacher = 300, math.sqrt(0.6 / 300), 1.2, 1.3
    time = outliers.emergence_time(teacher, g=g, rate=rate, n=n, initial_variance=initial)
    variance = initial * np.exp(-2 * rate * time) + g**2 * dyson.effective_time(time, rate)
    signal = teacher * (1 - np.exp(-rate * time))
    assert signal == pytest.approx(outliers.threshold(n, variance), rel=1e-12)
    if initial == 0:
        closed = 2 / rate * math.atanh(n * g**2 / (2 * rate * teacher**2))
        assert time == pytest.approx(closed, rel=1e-12)
    s = g * math.sqrt(n / math.sqrt(200 * 450))
    same = outliers.rectangular_emergence_time(
        teacher,
        s=s,
        rate=rate,
        rows=450,
        columns=200,
        initial_variance=initial * n / math.sqrt(200 * 450),
    )
    assert same == pytest.approx(time, rel=1e-12)


def test_a_weak_teacher_never_has_an_outlier():
    options = dict(g=1.0, rate=0.5, n=4)
    assert np.isinf(outliers.emergence_time(2.0, **options))
    assert np.isfinite(outliers.emergence_time(2.01, **options))
    # Without noise the outlier of a cold start is there at once.
    assert outliers.emergence_time(2.0, g=0.0, rate=0.5, n=4) == 0


# ---- linear networks


def descend(a, b, target, step, count):
    for _ in range(count):
        error = target - a * b
        a, b = a + step * error * b, b + step * error * a
    return a * b


@pytest.mark.parametrize("imbalance", [0.0, 0.8])
@pytest.mark.parametrize("time", [0.5, 2.0])
def test_modes_are_the_limit_of_gradient_descent(imbalance, time):
    target, a = 1.7, 0.3
    b = math.sqrt(a**2 + imbalance)
    if imbalance:
        exact = linear_networks.unbalanced_mode(time, a * b, target=target, imbalance=imbalance)
    else:
        exact = linear_networks.balanced_mode(time, a * b, target=target)
    errors = [descend(b, a, target, time / k, k) - exact for k in (4000, 8000)]
    assert abs(errors[1]) < 2e-3
    # First order in the step: extrapolated, nothing is left.
    assert abs(2 * errors[1] - errors[0]) < 2e-6


def test_unbalanced_modes_cross_zero_and_reach_the_balanced_ones():
    options = dict(target=1.7, scale=2.0)
    times = np.linspace(0, 4, 9)
    start = linear_networks.unbalanced_mode(times, -0.4, imbalance=0.5, **options)
    assert start[0] == pytest.approx(-0.4) and start[-1] > 1.6 and np.all(np.diff(start) > 0)
    np.testing.assert_allclose(
        linear_networks.unbalanced_mode(times, 0.1, imbalance=1e-7, **options),
        linear_networks.balanced_mode(times, 0.1, **options),
        rtol=1e-6,
    )
    assert linear_networks.balanced_mode(1e4, 0.1, **options) == 1.7
    reached = linear_networks.balanced_mode(1.3, 0.1, **options)
    assert linear_networks.balanced_time(reached, 0.1, **options) == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: spectra.fourth_moment(3, 4, 1.0),
            "`rows` must be at least `columns`; got 3 and 4. Transpose the matrix.",
        ),
        (
            lambda: spectra.singular_value_drift([1.0, 1.0], np.zeros((3, 2, 3, 2))),
            "`values` must differ",
        ),
        (
            lambda: spectra.singular_value_drift([1.0, 2.0], np.zeros((3, 3, 3, 3))),
            "`covariance` must have shape (m, 2, m, 2) for 2 `values`; got (3, 3, 3, 3)",
        ),
        (lambda: outliers.outlier(0.0, 3, 1.0), "`signal` must be finite and positive; got 0"),
        (
            lambda: outliers.rectangular_outlier(1.0, 2, 3, 1.0),
            "`rows` must be at least `columns`; got 2 and 3. Transpose the matrix.",
        ),
        (
            lambda: linear_networks.balanced_time(2.0, 0.1, target=1.0),
            "`end` must lie between `start` and `target`; got 2",
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value)
