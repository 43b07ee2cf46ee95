"""Noise of the motion told from noise of the observation."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic

import rqf_jax as rqf
from rqf_jax.inference import fit_noise, fit_noise_observed

TOKENS, DIM, SIGMA, MEMBERS = 3, 4, 1.0, 8
TS = jnp.linspace(0.0, 0.24, 61)


@functools.cache
def seen(tau, antisymmetric=0.0, members=MEMBERS):
    """Paths, as observed with noise; equal starts that are well apart."""
    runs = rqf.simulate(
        isotropic(SIGMA, antisymmetric),
        rqf.laws.Equiangular(TOKENS, DIM, 0.1),
        TS,
        substeps=2,
        members=members,
        key=jax.random.key(5),
    )
    noise = tau * np.random.default_rng(0).standard_normal(runs.ys.shape)
    ys = np.asarray(runs.ys) + noise
    return ys / np.linalg.norm(ys, axis=-1, keepdims=True)


IN_A_PROCESS = """
import jax, rqf_jax as rqf
runs = rqf.simulate(
    rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(4, 6), [0.0, 0.1, 0.2, 0.3],
    substeps=2, members=12, key=jax.random.key(0),
)
print(rqf.inference.fit_noise_observed(runs).estimate["symmetric"])
"""


@pytest.mark.slow
def test_many_filters_at_once_do_not_wait_for_each_other_for_ever():
    # Batches of LAPACK calls in one program do, on a machine with two cores.
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"}
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert 0.8 < float(done.stdout) < 1.1


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


@pytest.mark.slow
def test_antisymmetric_noise_is_objected_to_and_symmetric_noise_is_not():
    # One path each: right fits at the level, and wrong ones, 40 % off, nearly always.
    def fits(antisymmetric, count):
        return [fit_noise_observed(y, TS) for y in seen(0.0316, antisymmetric, count)]

    right = np.array([fit.goodness["antisymmetric"][1] for fit in fits(0.0, 40)])
    assert_mean(right, 0.0)
    assert 0.5 < np.mean(right**2) < 1.7 and np.max(np.abs(right)) < 3.3
    wrong = fits(0.7, 10)
    assert np.mean([fit.estimate["symmetric"] for fit in wrong]) > 1.2
    assert np.mean([fit.goodness["antisymmetric"][1] > 1.96 for fit in wrong]) > 0.8
    pooled = fit_noise_observed(seen(0.0316, 0.7, 10), TS)
    assert len(pooled.warnings) == 1 and "fit_noise(antisymmetric=True)" in pooled.warnings[0]


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
