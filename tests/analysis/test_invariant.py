"""Tests of uniformity: closed forms, size and power; the splits that shared noise makes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic, unit_tokens
from scipy.stats import chi2, chisquare

import rqf_jax as rqf
from rqf_jax.analysis import (
    ChiSquareTest,
    ClusterCount,
    bingham,
    occupancy,
    rayleigh,
    sign_pattern,
    uniformity,
)


def uniform(rng, points, dim):
    x = rng.standard_normal((points, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rejections(test, sample, replicas=1000):
    rng = np.random.default_rng(0)
    return np.mean([test(sample(rng)).p_value < 0.05 for _ in range(replicas)])


@pytest.mark.parametrize("dim", [2, 3, 5])
def test_degrees_one_and_two_are_the_classical_statistics(dim):
    x, count = unit_tokens(30, dim), 30
    first, second = rayleigh(x), bingham(x)
    mean, moment = x.mean(0), x.T @ x / count
    assert first.statistic == pytest.approx(dim * count * mean @ mean)
    assert first.degrees_of_freedom == dim
    axial = dim * (dim + 2) / 2 * count * (np.sum(moment**2) - 1 / dim)
    assert second.statistic == pytest.approx(axial)
    assert second.degrees_of_freedom == (dim - 1) * (dim + 2) // 2
    both = uniformity(x)
    assert both.statistic == pytest.approx(first.statistic + second.statistic)
    assert both.p_value == pytest.approx(chi2.sf(both.statistic, both.degrees_of_freedom))


def test_on_the_circle_a_degree_is_a_fourier_mode():
    x = unit_tokens(40, 2)
    mode = np.mean((x[:, 0] + 1j * x[:, 1]) ** 3)
    test = uniformity(x, degrees=[3])
    assert test.statistic == pytest.approx(2 * 40 * abs(mode) ** 2)
    assert test.degrees_of_freedom == 2


def test_the_sum_over_pairs_does_not_depend_on_the_blocks_it_is_made_in():
    x = uniform(np.random.default_rng(1), 3000, 3)
    assert rayleigh(x).statistic == pytest.approx(3 * 3000 * np.sum(x.mean(0) ** 2))


@pytest.mark.parametrize(
    "degrees", [(1, 2, 3), *(pytest.param(d, marks=pytest.mark.slow) for d in ((1,), (2,)))]
)
def test_uniform_points_are_rejected_at_the_nominal_rate(degrees):
    rate = rejections(lambda x: uniformity(x, degrees=degrees), lambda rng: uniform(rng, 100, 3))
    assert 0.03 < rate < 0.07


def test_a_preferred_direction_and_a_preferred_axis_are_found_and_told_apart():
    def polar(rng):
        x = rng.standard_normal((100, 3)) + np.array([0.6, 0, 0])
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def axial(rng):
        return polar(rng) * rng.choice([-1, 1], (100, 1))

    def strong_axial(rng):
        x = rng.standard_normal((100, 3)) * [2, 1, 1]
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    assert rejections(rayleigh, polar, 200) > 0.95
    assert rejections(bingham, strong_axial, 200) > 0.95
    # A random sign leaves nothing for Rayleigh's test to see, whatever the axis.
    assert rejections(rayleigh, axial) < 0.10


# ---- what shared noise leaves


@pytest.fixture(scope="module")
def splits():
    law = rqf.laws.Equiangular(tokens=3, dim=3, overlap=0.5)
    ts = jnp.asarray([0.0, 0.1, 24.0])
    return rqf.simulate(isotropic(1.0), law, ts, substeps=48, members=1500, key=jax.random.key(4))


@pytest.mark.slow
def test_the_splits_of_three_tokens_are_occupied_as_one_random_hyperplane_says(splits):
    patterns = np.asarray(splits.observe(sign_pattern))[:, -1]
    counts = np.bincount(patterns, minlength=4)
    # P(one cluster) = 2/(N+1) at overlap 1/2; the other three are alike.
    assert occupancy(counts, [1 / 2, 1 / 6, 1 / 6, 1 / 6]).p_value > 1e-3
    assert occupancy(counts).p_value < 1e-10
    clusters = np.asarray(splits.observe(ClusterCount(1.0)))[:, -1]
    np.testing.assert_array_equal(clusters, 1 + (patterns > 0))


def test_independent_tokens_reach_all_splits_alike():
    law = rqf.laws.Uniform(tokens=4, dim=3)
    patterns = jax.jit(jax.vmap(lambda key: sign_pattern(law(key))))
    keys = jax.random.split(jax.random.key(0), 4000)
    counts = np.bincount(np.asarray(patterns(keys)), minlength=8)
    assert counts.size == 8
    assert occupancy(counts).p_value > 1e-3


@pytest.mark.slow
def test_one_token_forgets_its_start_and_becomes_uniform(splits):
    assert uniformity(splits.ys[:, -1, 0]).p_value > 1e-3
    assert rayleigh(splits.ys[:, 1, 0]).p_value < 1e-10


def test_a_sign_pattern_reads_the_tokens_as_bits():
    x = jnp.asarray([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-0.6, 0.8]])
    assert int(sign_pattern(x)) == 0b101


# ---- occupancy


def test_occupancy_is_pearsons_statistic():
    counts, p = [10, 20, 30], np.array([0.2, 0.3, 0.5])
    expected = chisquare(counts, 60 * p)
    test = occupancy(counts, p)
    assert test.statistic == pytest.approx(expected.statistic)
    assert test.p_value == pytest.approx(expected.pvalue)
    assert occupancy([1, 0, 3], [0.5, 0, 0.5]).degrees_of_freedom == 1
    assert occupancy([1, 1, 3], [0.5, 0, 0.5]).p_value == 0


def test_a_test_says_what_it_tested():
    assert repr(ChiSquareTest(3.841459, 1, "a coin")) == (
        "ChiSquareTest(a coin: χ² = 3.841 on 1 degrees of freedom, p = 0.05)"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniformity(np.ones((3, 2))), "`x` must have unit rows, to 1e-05"),
        (lambda: uniformity(np.ones(3)), "`x` must be points .* got shape"),
        (lambda: uniformity(np.eye(3), degrees=(1, 1)), "`degrees` must be distinct"),
        (lambda: uniformity(np.eye(3), degrees=(0,)), r"`degrees\[0\]` must be at least 1; got 0"),
        (lambda: occupancy([1]), "`counts` must be one axis of 2 or more"),
        (lambda: occupancy([1, -1]), "`counts` must be integers"),
        (lambda: occupancy([1, 1], [0.5, 0.4]), "`probabilities` must be ≥ 0 and sum to 1"),
        (lambda: occupancy([1, 1], [1.0]), "`probabilities` must be 2 numbers"),
        (lambda: sign_pattern(jnp.ones((40, 2))), "`x` must have at most 31 tokens; got 40"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_normal_law_of_large_samples_is_the_stated_one():
    # Degree 3 in three dimensions: 2 q + 1 = 7 harmonics.
    test = uniformity(unit_tokens(50, 3), degrees=(3,))
    assert test.degrees_of_freedom == 7
    assert math.isclose(test.p_value, chi2.sf(test.statistic, 7))
