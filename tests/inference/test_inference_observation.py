"""Noise of the motion told from noise of the observation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic

import rqf_jax as rqf
from rqf_jax.inference import fit_noise, fit_noise_observed

TOKENS, DIM, SIGMA, MEMBERS = 3, 4, 1.0, 8
TS = jnp.linspace(0.0, 0.24, 61)


@functools.cache
def seen(tau):
    """Paths, as observed with noise; equal starts that are well apart."""
    runs = rqf.simulate(
        isotropic(SIGMA),
        rqf.laws.Equiangular(TOKENS, DIM, 0.1),
        TS,
        substeps=2,
        members=MEMBERS,
        key=jax.random.key(5),
    )
    noise = tau * np.random.default_rng(0).standard_normal(runs.ys.shape)
    ys = np.asarray(runs.ys) + noise
    return ys / np.linalg.norm(ys, axis=-1, keepdims=True)


# tau² over the variance of a step per direction: 0.5 and 5.
@pytest.mark.slow
@pytest.mark.parametrize("tau", [0.0316, pytest.param(0.1, marks=pytest.mark.slow)])
def test_both_noises_are_found(tau):
    result = fit_noise_observed(seen(tau), TS)
    for name, truth in (("symmetric", SIGMA), ("observation", tau)):
        assert abs(result.estimate[name] - truth) < 4 * result.stderr[name], str(result)
        low, high = result.interval(0.9999)[name]
        assert low < truth < high
    assert not result.warnings
    assert abs(result.goodness["innovations"][1]) < 5


@pytest.mark.slow
def test_without_it_the_observation_is_taken_for_motion():
    # P13: 1 + 4 tau²/(p dt) for the naive estimate, more for the whitened one.
    blind = fit_noise(seen(0.0316), TS).estimate["symmetric"] ** 2
    assert blind > 1.8
    assert abs(fit_noise_observed(seen(0.0316), TS).estimate["symmetric"] - 1) < 0.1


@pytest.mark.slow
def test_rounding_is_taken_for_noise_of_the_observation():
    ys = np.round(np.asarray(seen(0.0)), 1)
    ys = ys / np.linalg.norm(ys, axis=-1, keepdims=True)
    blind, result = fit_noise(ys, TS), fit_noise_observed(ys, TS)
    assert blind.estimate["symmetric"] - SIGMA > 10 * blind.stderr["symmetric"]
    assert abs(result.estimate["symmetric"] - SIGMA) < 4 * result.stderr["symmetric"]


@pytest.mark.slow
def test_missing_tokens_are_not_used():
    ys = np.array(seen(0.0316))
    ys[:, 10:30, 1] = np.nan
    result = fit_noise_observed(ys, TS)
    assert "160 tokens are missing" in result.warnings[0]
    assert abs(result.estimate["symmetric"] - SIGMA) < 4 * result.stderr["symmetric"]
    whole = fit_noise_observed(seen(0.0316), TS)
    assert result.stderr["symmetric"] > whole.stderr["symmetric"]


@pytest.mark.slow
def test_exact_observations_are_named():
    result = fit_noise_observed(seen(0.0), TS)
    assert "cannot be told from 0" in result.warnings[0]
    assert abs(result.estimate["symmetric"] - SIGMA) < 5 * result.bound["symmetric"] + 0.05


def test_bad_data_are_one_clear_error():
    ys = np.random.default_rng(0).standard_normal((MEMBERS, TS.size, TOKENS, DIM))
    ys = ys / np.linalg.norm(ys, axis=-1, keepdims=True)
    missing = np.array(ys)
    missing[0, 0, 0] = np.nan
    for data, times, words in (
        (ys[:, :2], TS[:2], "`times` must be at least 3"),
        (missing, TS, "no missing token at the first time"),
        (np.tile(ys, (1, 1, 30, 1)), TS, "tokens · dim at most 256; got 90 · 4"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_noise_observed(data, times)
