"""What estimators are given: times with an offset, precision, labels, and what is missing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic, ou_paths

import rqf_jax as rqf
from rqf_jax.inference import (
    fit_attention,
    fit_dyson,
    fit_matrix_ou,
    fit_noise,
    fit_noise_observed,
    fit_pairs,
    recover_noise,
)

TIMES = 1.5e-3 * np.arange(41)


@functools.cache
def tokens():
    sde, law = isotropic(1.0), rqf.laws.Uniform(3, 4)
    ts, key = jnp.asarray(TIMES), jax.random.key(5)
    return np.asarray(rqf.simulate(sde, law, ts, substeps=2, members=4, key=key).ys)


@functools.cache
def weights():
    return ou_paths(1, 4, 40, rate=100.0, s=0.8, h=TIMES[1])[0]


@functools.cache
def eigenvalues():
    rng = np.random.default_rng(0)
    walk = np.cumsum(np.sqrt(TIMES[1]) * rng.standard_normal((41, 4, 4)), 0)
    return np.linalg.eigvalsh(np.diag([0.0, 2, 4, 6]) + (walk + walk.swapaxes(1, 2)) / np.sqrt(2))


def attention(xs, ts, **options):
    drift = rqf.drifts.Attention(beta=1.0, strength=1.0)
    return fit_attention(xs, ts, attention=drift, **options)


def slow(fit, data, **options):
    return pytest.param(functools.partial(fit, **options), data, marks=pytest.mark.slow)


FITS = [
    slow(fit_noise, tokens),
    slow(fit_noise, tokens, antisymmetric=True),
    slow(fit_noise, tokens, method="robust"),
    (fit_pairs, tokens),
    slow(fit_noise_observed, tokens),
    slow(attention, tokens, noise=1.0),
    slow(attention, tokens, parameters=("strength", "beta")),
    (fit_matrix_ou, weights),
    (functools.partial(fit_matrix_ou, target=0.0, stationary=True), weights),
    slow(fit_matrix_ou, weights, stationary=True),
    (functools.partial(fit_dyson, rate=1.0, beta=1.0), eigenvalues),
    slow(fit_dyson, eigenvalues, rate=1.0),
    slow(fit_dyson, eigenvalues, beta=1.0),
    slow(fit_dyson, eigenvalues, rate=1.0, method="tamed"),
]


def numbers(fit):
    return np.array([*fit.estimate.values(), *fit.stderr.values()])


@pytest.mark.parametrize(("fit", "data"), FITS)
def test_neither_an_offset_of_time_nor_the_default_precision_changes_a_fit(unchecked, fit, data):
    expected = numbers(fit(data(), TIMES))
    with jax.enable_x64(False):
        for offset in (0.0, 1e2, 1e4, 1e6):
            np.testing.assert_allclose(numbers(fit(data(), TIMES + offset)), expected, rtol=1e-6)


def test_an_offset_of_time_changes_no_fit_in_single_precision(unchecked):
    with jax.enable_x64(False):
        xs = tokens().astype(np.float32)
        expected = numbers(fit_pairs(xs, TIMES))
        for offset in (1e2, 1e4, 1e6):
            np.testing.assert_allclose(numbers(fit_pairs(xs, TIMES + offset)), expected, rtol=1e-6)


@pytest.mark.slow
def test_the_recovered_noise_does_not_know_when_the_clock_began(unchecked):
    with jax.enable_x64(False):
        expected = recover_noise(tokens(), TIMES, symmetric=1.0).increments
        later = recover_noise(tokens(), TIMES + 1e6, symmetric=1.0).increments
        # They come back in the precision of the caller's other arrays.
        assert later.dtype == jnp.float32
        np.testing.assert_allclose(later, expected, atol=1e-6 * np.abs(expected).max())


def test_nearly_equal_tokens_are_told_apart_by_their_last_digits(unchecked):
    # A gap of 1e-9 is nothing in single precision; its logarithm moves as that of any other.
    x = tokens()
    near = x[:, :, :1] + 1e-9 * (x[:, :, 1:] - x[:, :, :1])
    pairs = np.concatenate([x[:, :, :1], near / np.linalg.norm(near, axis=-1, keepdims=True)], 2)
    with jax.enable_x64(False):
        fit = fit_pairs(pairs, TIMES)
    assert fit.steps_used == 160 and fit.estimate["symmetric"] > 0


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_a_long_record_in_single_precision_is_equally_spaced(unchecked, offset):
    steps, h = 30_000, 0.01
    w = ou_paths(1, 2, steps, rate=1.0, s=0.8, h=h)[0]
    ts = h * np.arange(steps + 1) + offset
    expected = numbers(fit_matrix_ou(w, ts))
    np.testing.assert_allclose(
        numbers(fit_matrix_ou(w, ts.astype(np.float32))), expected, rtol=1e-3
    )
    uneven = ts + 0.3 * h * (np.arange(steps + 1) % 2)
    with pytest.raises(ValueError, match="equally spaced"):
        fit_matrix_ou(w, uneven)


def test_labelled_arrays_know_their_times(unchecked):
    runs = rqf.Trajectories(jnp.asarray(TIMES), jnp.asarray(tokens()), jnp.zeros(4, int))
    state = runs.to_xarray()["state"]
    expected = numbers(fit_pairs(runs))
    np.testing.assert_array_equal(numbers(fit_pairs(state)), expected)
    turned = state.transpose("time", "dim", "member", "token").transpose(..., "token", "dim")
    np.testing.assert_array_equal(numbers(fit_pairs(turned)), expected)
    np.testing.assert_array_equal(
        numbers(fit_noise(state.isel(member=0))), numbers(fit_noise(tokens()[0], TIMES))
    )
    with pytest.raises(ValueError, match="dimension 'time'"):
        fit_pairs(state.isel(time=0))


@pytest.mark.parametrize("wrong", [None, "runs", 3.0, [[0.0]], object(), {"state": 1}])
@pytest.mark.parametrize(
    "fit", [fit_noise, fit_pairs, fit_noise_observed, recover_noise, fit_matrix_ou, fit_dyson]
)
def test_what_is_no_data_is_named(unchecked, fit, wrong):
    with pytest.raises(ValueError, match="`runs` must be `Trajectories`, an array"):
        fit(wrong, TIMES)
    with pytest.raises(ValueError, match="`times` must be a real number"):
        fit(tokens(), "now")


@pytest.mark.slow
def test_missing_tokens_do_not_trip_over_a_search_for_nan(unchecked):
    holes = np.array(tokens())
    holes[1, 3:9, 2] = np.nan
    for fit in (fit_noise, fit_pairs, fit_noise_observed, recover_noise):
        expected = jax.tree.leaves(vars(fit(holes, TIMES)).get("estimate", 0.0))
        jax.config.update("jax_debug_nans", True)
        try:
            found = jax.tree.leaves(vars(fit(holes, TIMES)).get("estimate", 0.0))
        finally:
            jax.config.update("jax_debug_nans", False)
        assert found == expected
