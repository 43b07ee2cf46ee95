"""Theorems about spectral statistics: Gaussian matrices, independent levels, planted signals."""

import math

import numpy as np
import pytest

from rqf_jax import analysis
from rqf_jax.theory import dyson, levels, outliers

N, MEMBERS = 60, 400


def gaussian_spectra():
    a = np.random.default_rng(0).standard_normal((MEMBERS, N, N))
    return np.linalg.eigvalsh((a + np.swapaxes(a, 1, 2)) / math.sqrt(2))


def independent_spectra():
    return np.sort(np.random.default_rng(1).uniform(size=(MEMBERS, N)), axis=1)


GAUSSIAN, INDEPENDENT = gaussian_spectra(), independent_spectra()
HOLED = np.where(np.arange(N) == 7, np.nan, GAUSSIAN)


def assert_near(found, expected, bias=0.0):
    value, error = found
    assert 0 < error and abs(value - expected) <= bias + 5 * error


def test_unfolding_by_the_ensemble_is_unfolding_by_the_semicircle():
    found = analysis.unfold(GAUSSIAN)
    expected = N * dyson.semicircle_cdf(GAUSSIAN, dyson.edge(1.0, g=1.0, n=N))
    assert np.all(np.diff(found, axis=1) > 0)
    # The density of 60 levels waves by some of a level around the semicircle.
    assert np.abs(found - expected).max() < 0.5
    assert np.diff(found[:, N // 4 : -N // 4]).mean() == pytest.approx(1, abs=0.005)
    # A wrong unfolding, by rank within a spectrum, has no variance; the surmise has its own.
    gaps = np.diff(found[:, N // 4 : -N // 4], axis=1)
    assert gaps.var() == pytest.approx(levels.surmise_variance(1), rel=0.1)


def test_spacing_ratios_tell_repelling_from_independent_levels():
    assert_near(analysis.mean_spacing_ratio(GAUSSIAN, bulk=0.5), 0.5307, bias=1e-3)
    assert_near(analysis.mean_spacing_ratio(INDEPENDENT), 2 * math.log(2) - 1)
    three = np.linalg.eigvalsh(
        [[[a, b, c], [b, d, e], [c, e, f]] for a, b, c, d, e, f in
         np.random.default_rng(2).standard_normal((4000, 6)) * [2**0.5, 1, 1, 2**0.5, 1, 2**0.5]]
    )  # fmt: skip
    assert_near(analysis.mean_spacing_ratio(three), levels.mean_spacing_ratio(1))


@pytest.mark.parametrize("length", [2.0, 5.0])
def test_number_variance_grows_as_a_logarithm_or_as_the_length(length):
    found = analysis.number_variance(analysis.unfold(GAUSSIAN), length)
    expected = levels.number_variance(length, 1)
    assert_near(found, expected, bias=0.1 * expected)
    free = analysis.number_variance(N * INDEPENDENT, length)
    # Of N levels, not of infinitely many: a binomial variance.
    assert_near(free, length * (1 - length / N))


def test_a_signal_in_noise_is_found_at_its_place_and_the_noise_has_its_variance():
    rows, columns, variance, signal = 300, 150, 0.04, 6.0
    w = math.sqrt(variance) * np.random.default_rng(3).standard_normal((rows, columns))
    noise = analysis.fit_marchenko_pastur(np.linalg.svd(w, compute_uv=False), rows)
    assert noise.outliers.size == 0 and noise.distance < 0.02
    assert noise.variance == pytest.approx(np.mean(w**2), rel=1e-12)
    w[0, 0] += signal
    fit = analysis.fit_marchenko_pastur(np.linalg.svd(w, compute_uv=False), rows)
    expected = outliers.rectangular_outlier(signal, rows, columns, variance)
    assert math.sqrt(fit.outliers.item()) == pytest.approx(
        expected,
        abs=3 * math.sqrt(variance),  # its fluctuation, at most √variance
    )
    assert fit.variance == pytest.approx(variance, rel=5 * math.sqrt(2 / (rows * columns)))
    assert fit.distance < 0.02
    # Independent singular values are not those of noise.
    other = analysis.fit_marchenko_pastur(np.random.default_rng(4).uniform(0.1, 1, 150), rows)
    assert other.distance > 0.05
    assert "outliers=1" in repr(fit)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [1, 8])
def test_a_matrix_of_low_rank_is_all_signal(rank, dtype):
    # What svd leaves of the other values is rounding, and follows no law.
    rng = np.random.default_rng(0)
    w = (rng.standard_normal((200, rank)) @ rng.standard_normal((rank, 100))).astype(dtype)
    fit = analysis.fit_marchenko_pastur(np.linalg.svd(w, compute_uv=False), 200)
    assert fit.outliers.size == rank and fit.variance == 0 and not np.any(fit.edges)
    few = analysis.fit_marchenko_pastur([0.0] * 8 + [5.0, 6.0], 20)
    np.testing.assert_array_equal(few.outliers, [25.0, 36.0])


BAD = {
    "one spectrum": (lambda: analysis.unfold(GAUSSIAN[0]), "`values` must be spectra", "(60,)"),
    "descending": (lambda: analysis.unfold(GAUSSIAN[:, ::-1]), "must ascend", "member 0"),
    "two levels": (lambda: analysis.mean_spacing_ratio(GAUSSIAN[:, :2]), "3 values", "(400, 2)"),
    "no bulk": (lambda: analysis.mean_spacing_ratio(GAUSSIAN, bulk=0.0), "`bulk` must be above 0"),
    "all and more": (lambda: analysis.mean_spacing_ratio(GAUSSIAN, bulk=2.0), "`bulk`", "[0, 1]"),
    "too long": (lambda: analysis.number_variance(GAUSSIAN, 31.0), "`length`", "at most 30", "31"),
    "wide": (lambda: analysis.fit_marchenko_pastur([1.0, 2.0], 1), "`rows`", "Transpose"),
    "nan levels": (lambda: analysis.unfold(HOLED), "`values` must be finite", "nan", "(0, 7)"),
    "nan values": (
        lambda: analysis.fit_marchenko_pastur(HOLED[1], N),
        "`values` must be finite",
        "nan at index (7,)",
    ),
    "no noise": (lambda: analysis.fit_marchenko_pastur([0.0, 0.0], 3), "`values`", "not all 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])
