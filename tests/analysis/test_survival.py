"""Censored times: against the exponential law, SciPy's curve, and the theory of two tokens."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic
from scipy.stats import CensoredData, ecdf

import rqf_jax as rqf
from rqf_jax.analysis import Durations, exponential_rate, first_above, first_below, kaplan_meier
from rqf_jax.theory import sphere

RATE, END = 0.7, 2.0


def exponential(count, seed=0):
    """Exponential times, censored at random times and at the end of the run."""
    rng = np.random.default_rng(seed)
    times = rng.exponential(1 / RATE, count)
    limits = np.minimum(rng.exponential(3.0, count), END)
    return Durations(np.minimum(times, limits), times <= limits)


def test_the_curve_is_the_survival_function_of_an_exponential_law():
    curve = kaplan_meier(exponential(2000))
    expected = np.exp(-RATE * curve.times)
    inside = (curve.times > 0.05) & (curve.times < 1.95)
    scores = (curve.survival - expected) / curve.stderr
    assert np.max(np.abs(scores[inside])) < 5
    assert abs(curve.median / (math.log(2) / RATE) - 1) < 0.1
    mean, error = curve.restricted_mean(1.5)
    assert abs(mean - (1 - math.exp(-RATE * 1.5)) / RATE) < 5 * error


@pytest.mark.slow
def test_standard_errors_are_the_spread_of_repeated_estimates():
    curves = [kaplan_meier(exponential(200, seed)) for seed in range(1000, 1400)]
    at = [np.searchsorted(curve.times, 1.0) - 1 for curve in curves]
    values = [curve.survival[i] for curve, i in zip(curves, at, strict=True)]
    errors = [curve.stderr[i] for curve, i in zip(curves, at, strict=True)]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)
    means, spread = np.array([curve.restricted_mean(1.0) for curve in curves]).T
    assert np.mean(spread) == pytest.approx(np.std(means), rel=0.15)
    covered = [
        curve.lower[i] <= math.exp(-RATE) <= curve.upper[i]
        for curve, i in zip(curves, at, strict=True)
    ]
    assert 0.92 < np.mean(covered) < 0.98


def test_curve_and_interval_are_those_of_scipy():
    durations = exponential(60)
    curve = kaplan_meier(durations, confidence=0.9)
    data = CensoredData(
        uncensored=durations.times[durations.observed], right=durations.times[~durations.observed]
    )
    reference = ecdf(data).sf
    low, high = reference.confidence_interval(0.9, method="log-log")
    events = np.isin(reference.quantiles, curve.times)
    np.testing.assert_allclose(curve.survival, reference.probabilities[events], atol=1e-14)
    np.testing.assert_allclose(curve.lower, low.probabilities[events], atol=1e-14)
    np.testing.assert_allclose(curve.upper, high.probabilities[events], atol=1e-14)


def test_without_censoring_the_errors_are_binomial_and_the_curve_ends_at_zero():
    times = np.arange(1.0, 11.0)
    curve = kaplan_meier(Durations(times, np.ones(10, bool)))
    p = 1 - times / 10
    np.testing.assert_allclose(curve.survival, p, atol=1e-14)
    np.testing.assert_allclose(curve.stderr, np.sqrt(p * (1 - p) / 10), atol=1e-14)
    assert curve.lower[-1] == 0 and np.isnan(curve.upper[-1])
    mean, error = curve.restricted_mean(10.0)
    assert mean == pytest.approx(5.5)
    # The last member's end carries no error in Greenwood's formula.
    assert error == pytest.approx(times.std() / math.sqrt(10), rel=1e-6)


@pytest.mark.slow
def test_the_rate_of_an_exponential_law_and_the_coverage_of_its_interval():
    estimates = [exponential_rate(exponential(50, seed)) for seed in range(600)]
    rates = np.array([e.rate for e in estimates])
    errors = np.array([e.stderr for e in estimates])
    # The maximum likelihood estimate is biased by about 1/d of itself.
    assert rates.mean() == pytest.approx(RATE, rel=0.05)
    assert errors.mean() == pytest.approx(rates.std(), rel=0.12)
    covered = np.mean([e.lower <= RATE <= e.upper for e in estimates])
    assert 0.94 <= covered <= 0.99


def test_a_rate_is_within_its_error_and_its_interval():
    estimate = exponential_rate(exponential(2000))
    assert abs(estimate.rate - RATE) < 5 * estimate.stderr
    assert estimate.stderr == pytest.approx(estimate.rate / math.sqrt(estimate.events))
    assert estimate.lower < RATE < estimate.upper


def test_no_event_is_no_rate_but_an_upper_limit():
    estimate = exponential_rate(Durations(np.ones(10), np.zeros(10, bool)))
    assert (estimate.rate, estimate.lower, estimate.events) == (0.0, 0.0, 0)
    # P(no event) = exp(-10 rate) is 2.5 % there.
    assert estimate.upper == pytest.approx(-math.log(0.025) / 10)
    curve = kaplan_meier(Durations(np.ones(10), np.zeros(10, bool)))
    assert curve.restricted_mean(1.0) == (1.0, 0.0)
    assert math.isinf(curve.median)


def test_passages_are_read_off_the_saves_and_failed_members_are_censored():
    ts = jnp.asarray([1.0, 2.0, 4.0, 8.0])
    ys = jnp.asarray(
        [[5.0, 3.0, 1.0, 3.0], [0.0, 9, 9, 9], [9.0, 9, 9, 9], [9.0, 9.0, jnp.nan, jnp.nan]]
    )
    runs = rqf.Trajectories(ts, ys, jnp.asarray([0, 0, 0, 2]))
    below = first_below(runs, 1.0)
    np.testing.assert_array_equal(below.times, [3.0, 0.0, 7.0, 1.0])
    np.testing.assert_array_equal(below.observed, [True, True, False, False])
    above = first_above(runs, 9.0)
    np.testing.assert_array_equal(above.times, [7.0, 1.0, 0.0, 0.0])
    np.testing.assert_array_equal(above.observed, [False, True, True, True])
    assert repr(below) == "Durations(members=4, observed=2)"


def sine(x: jax.Array) -> jax.Array:
    """sin θ of two tokens."""
    return jnp.abs(jnp.sin(rqf.observables.angles(x)[0]))


@pytest.mark.slow
def test_two_tokens_synchronise_in_the_mean_time_of_theory():
    step, threshold = 0.02, 0.5
    runs = rqf.simulate(
        isotropic(1.0),
        rqf.laws.Pair(angle=math.pi / 2, dim=2),
        jnp.arange(0.0, 6.0 + step / 2, step),
        substeps=1,
        members=1000,
        key=jax.random.key(3),
        save=sine,
    )
    curve = kaplan_meier(first_below(runs, math.sin(threshold)))
    mean, error = curve.restricted_mean(5.9)
    late = sphere.discrete_monitoring_shift(step, sigma=1.0) * math.cos(threshold)
    expected = sphere.mean_synchronisation_time(math.pi / 2, threshold, sigma=1.0) + late
    assert abs(mean - expected) < 5 * error + 0.01
    variance = sphere.synchronisation_time_variance(math.pi / 2, threshold, sigma=1.0)
    assert error == pytest.approx(math.sqrt(variance / 1000), rel=0.2)


def test_estimates_print_with_their_errors():
    durations = exponential(100)
    assert "95% [" in repr(exponential_rate(durations))
    assert repr(kaplan_meier(durations)).startswith("SurvivalCurve(")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Durations([-1.0], [True]), "`times` must be one axis of times ≥ 0"),
        (
            lambda: Durations([1.0], [1.0]),
            "`observed` must be 1 booleans, one for each of `times`; got float64",
        ),
        (lambda: kaplan_meier(exponential(5), confidence=1), r"`confidence` must be in \(0, 1\)"),
        (
            lambda: kaplan_meier(Durations([1.0, 2.0], [True, False])).restricted_mean(99),
            r"`horizon` must be in \(0, 2\]; got 99",
        ),
        (lambda: exponential_rate(Durations([0.0], [True])), "`durations` must have a time above"),
        (
            lambda: first_below(
                rqf.Trajectories(jnp.arange(2.0), jnp.ones((1, 2, 3)), jnp.zeros(1, int)), 0.0
            ),
            "`runs.ys` must be one number for every member and time",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
