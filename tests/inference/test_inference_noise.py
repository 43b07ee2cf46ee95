"""Noise strengths from trajectories: right within their errors, and never silently wrong."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _ensembles import isotropic

import rqf_jax as rqf
from rqf_jax.inference import FitResult, IdentifiabilityError, fit_noise

TOKENS, DIM, TIMES, MEMBERS, SIGMA = 3, 5, 21, 50, 1.3
TS = jnp.linspace(0.0, 0.2, TIMES)


@functools.cache
def runs(antisymmetric=0.0, ts=None, tokens=TOKENS, dim=DIM, solver=None):
    return rqf.simulate(
        isotropic(SIGMA, antisymmetric),
        rqf.laws.Uniform(tokens, dim),
        TS if ts is None else jnp.asarray(ts),
        substeps=1 if solver else 4,
        members=MEMBERS,
        key=jax.random.key(11),
        solver=solver,
    )


@functools.cache
def fit(antisymmetric=0.0):
    return fit_noise(runs(antisymmetric), antisymmetric=antisymmetric > 0)


def assert_right(result, name="symmetric", value=SIGMA, scores=4.0):
    assert abs(result.estimate[name] - value) < scores * result.stderr[name], str(result)


def warned(result, words):
    return any(words in warning for warning in result.warnings)


@pytest.mark.slow
def test_the_strength_of_symmetric_noise_is_found_at_the_bound():
    result = fit()
    assert_right(result)
    assert 0.95 < result.stderr["symmetric"] / result.bound["symmetric"] < 1.15
    assert not result.warnings
    # 5 in the span, 6 out of it, in every step.
    assert result.dof_available == 11 * MEMBERS * (TIMES - 1)
    assert 0.9 * result.dof_available < result.dof_used <= result.dof_available
    assert 0.9 < result.null_ratio < 1.1
    assert all(abs(score) < 4 for _, score in result.goodness.values())


@pytest.mark.slow
def test_the_interval_is_that_of_chi_square():
    result = fit()
    degrees = 2 / (2 * result.stderr["symmetric"] / result.estimate["symmetric"]) ** 2
    for level in (0.5, 0.95):
        low, high = result.interval(level)["symmetric"]
        for end, tail in ((low, (1 + level) / 2), (high, (1 - level) / 2)):
            q = degrees * (result.estimate["symmetric"] / end) ** 2
            assert scipy.stats.chi2.cdf(q, degrees) == pytest.approx(tail, abs=1e-9)


@pytest.mark.slow
def test_both_strengths_are_found_together():
    result = fit(0.6)
    assert_right(result)
    assert_right(result, "antisymmetric", 0.6)
    for name, (low, high) in result.interval(0.9999).items():
        assert low < {"symmetric": SIGMA, "antisymmetric": 0.6}[name] < high
        assert result.stderr[name] < 1.3 * result.bound[name]
    # Taken for symmetric noise alone, the null space gives it away.
    blind = fit_noise(runs(0.6))
    assert blind.null_ratio > 3 and warned(blind, "antisymmetric=True")


@pytest.mark.slow
def test_no_antisymmetric_noise_is_told_from_none():
    result = fit_noise(runs(), antisymmetric=True)
    low, high = result.interval()["antisymmetric"]
    # The commutators of the symmetric noise look like this much, and are not mistaken for it.
    floor = SIGMA**2 * math.sqrt(0.01 * (DIM + 2) / 8)
    assert low == 0 and high < 0.7 * floor
    assert warned(result, "cannot be told from 0")
    assert_right(result)


@pytest.mark.parametrize(("step", "members"), [(0.25, 50)])
def test_coarse_steps_leave_no_bias(step, members):
    coarse = runs(ts=tuple(step / SIGMA**2 * np.arange(TIMES)))
    result = fit_noise(coarse)
    assert_right(result)
    assert warned(result, "degrees of freedom were dropped") and warned(result, "fit_pairs")
    assert result.dof_used < 0.7 * result.dof_available
    assert all(abs(score) < 4 for _, score in result.goodness.values())


@pytest.mark.slow
def test_synchronised_members_are_pooled_and_what_was_dropped_is_said():
    ts, law = jnp.linspace(0.0, 6.0, 61), rqf.laws.Uniform(tokens=64, dim=3)
    sde = rqf.models.random_quadratic_form(sigma=1.0)
    late = rqf.simulate(sde, law, ts, substeps=2, members=100, key=jax.random.key(0))
    result = fit_noise(late)
    assert_right(result, value=1.0)
    assert result.tokens_available == 64 and 1 < result.tokens_used < 2.5
    assert "warning: " in str(result) and "symmetric" in str(result)


@pytest.mark.slow
def test_equal_and_opposite_tokens_change_nothing_and_are_named():
    ys = runs().ys
    doubled = jnp.concatenate([ys, ys[:, :, :1], -ys[:, :, 1:2]], axis=2)
    result = fit_noise(doubled, TS)
    # They enter the first guess, which decides how close is too close; no step is counted twice.
    shift = result.estimate["symmetric"] - fit().estimate["symmetric"]
    assert abs(shift) < 0.01 * fit().stderr["symmetric"]
    assert result.dof_used == pytest.approx(fit().dof_used, rel=1e-3)
    assert warned(result, "equal or opposite")


@pytest.mark.slow
def test_missing_tokens_are_left_out_step_by_step():
    there = np.random.default_rng(0).random((MEMBERS, TIMES, TOKENS)) > 0.2
    by_mask = fit_noise(runs().ys, TS, mask=there)
    by_nan = fit_noise(jnp.where(there[..., None], runs().ys, jnp.nan), TS)
    assert by_mask.estimate == pytest.approx(by_nan.estimate, rel=1e-12)
    assert_right(by_nan)
    assert warned(by_nan, f"{np.sum(~there)} tokens are missing")
    # Two tokens in three steps out of five at best.
    assert by_nan.dof_used < 0.75 * fit().dof_used
    assert by_nan.stderr["symmetric"] > fit().stderr["symmetric"]


def test_steps_of_any_lengths_are_taken_for_what_they_are():
    lengths = 0.01 * np.exp(np.random.default_rng(1).normal(0, 1, TIMES - 1))
    ts = np.concatenate([[0.0], np.cumsum(np.minimum(lengths, 0.03))])
    uneven = runs(ts=tuple(ts))
    assert_right(fit_noise(uneven))
    # Taken for equal, they scatter by more than one strength allows.
    assert warned(fit_noise(uneven.ys, TS * uneven.ts[-1] / TS[-1]), "`times` are wrong")


@pytest.mark.slow
def test_noise_of_its_own_for_every_token_is_seen():
    sde = rqf.SDE(rqf.drifts.NoDrift(), rqf.noises.TokenNoise(1.0), rqf.manifolds.Sphere())
    law = rqf.laws.Uniform(TOKENS, DIM)
    alone = rqf.simulate(sde, law, TS, substeps=4, members=MEMBERS, key=jax.random.key(2))
    result = fit_noise(alone)
    assert result.null_ratio > 5 and warned(result, "noise of its own")


def test_one_step_per_observation_is_seen():
    discrete = fit_noise(runs(solver=rqf.solvers.GeodesicHeun()))
    assert discrete.null_ratio < 0.3 and warned(discrete, "one step per observation")


def test_observation_noise_is_seen():
    noise = 0.05 * np.random.default_rng(3).standard_normal(runs().ys.shape)
    result = fit_noise(rqf.manifolds.Sphere().project(runs().ys + noise), TS)
    assert result.goodness["lag-1 correlation"][1] < -5
    assert warned(result, "as if observed with noise") and warned(result, "fit_noise_observed")
    assert fit().goodness["lag-1 correlation"][1] > -4


def test_rounded_numbers_are_seen_where_they_matter():
    assert warned(fit_noise(np.round(runs().ys, 2), TS, normalise="project"), "rounded to about")
    ts = TS / 100
    half = np.asarray(runs(ts=tuple(np.asarray(ts))).ys.astype(jnp.bfloat16), float)
    assert warned(fit_noise(half, ts, normalise="project"), "rounded to about")
    fine = fit_noise(np.round(runs().ys, 4), TS)
    assert not warned(fine, "rounded")
    assert fine.estimate["symmetric"] == pytest.approx(fit().estimate["symmetric"], rel=1e-3)


def test_tokens_that_keep_their_direction_of_motion_are_not_taken_for_noise_alone():
    # Half of every increment is that of the step before.
    ys, kept = np.array(runs().ys), np.zeros((MEMBERS, TOKENS, DIM))
    path = [ys[:, 0]]
    for step in np.moveaxis(np.diff(ys, axis=1), 1, 0):
        kept = kept / 2 + step
        x = path[-1] + kept - np.sum(kept * path[-1], -1, keepdims=True) * path[-1]
        path.append(x / np.linalg.norm(x, axis=-1, keepdims=True))
    result = fit_noise(np.stack(path, 1), TS)
    lag, score = result.goodness["lag-1 correlation"]
    assert lag > 0.3 and score > 5
    assert warned(result, "positively correlated: something else than noise moves")


@pytest.mark.slow
def test_single_precision_gives_the_same_numbers():
    found = fit_noise(np.asarray(runs().ys, np.float32), np.asarray(TS, np.float32))
    assert found.estimate["symmetric"] == pytest.approx(fit().estimate["symmetric"], abs=0.01)
    assert_right(found)


@pytest.mark.slow
def test_the_robust_likelihood_is_an_inverse_gamma_density():
    result = fit_noise(runs(), method="robust")
    assert_right(result)
    density = result.log_density()
    # As many degrees of freedom as have the error of the fit.
    n = result.estimate["symmetric"] ** 2 / (2 * result.stderr["symmetric"] ** 2)
    assert 0.8 * result.dof_used < n < result.dof_used
    values = [float(density({"symmetric": sigma})) for sigma in (1.0, 1.3, 1.7)]
    squares = np.array([1.0, 1.3, 1.7]) ** 2
    shape = np.stack([-n / 2 * np.log(squares), -n / 2 / squares], axis=1)
    # value = -n/2 (ln p + p̂/p) + constant: three values fix p̂, and leave one check.
    scale = (values[1] - values[0] - (shape[1, 0] - shape[0, 0])) / (shape[1, 1] - shape[0, 1])
    predicted = shape[2, 0] - shape[0, 0] + scale * (shape[2, 1] - shape[0, 1])
    assert values[2] - values[0] == pytest.approx(predicted, rel=1e-9)
    assert math.sqrt(scale) == pytest.approx(result.estimate["symmetric"], rel=1e-3)


@pytest.mark.slow
def test_one_token_shows_the_sum_of_the_squares_only():
    ys = runs().ys[:, :, :1]
    result = fit_noise(ys, TS)
    assert_right(result)
    assert "sum" in result.identifiability and math.isnan(result.null_ratio)
    with pytest.raises(IdentifiabilityError, match=r"symmetric² \+ antisymmetric²"):
        fit_noise(ys, TS, antisymmetric=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ys: (ys, None), r"`times` must be given"),
        (lambda ys: (ys, TS[::-1]), r"strictly increasing; got 0.2 then"),
        (lambda ys: (ys, TS.at[3].set(TS[2])), r"strictly increasing; got .* at index 2"),
        (lambda ys: (ys, TS[1:]), r"`times` must have shape \(21,\)"),
        (lambda ys: (ys[:, :1], TS[:1]), r"at least 2, for one step; got 1"),
        (lambda ys: (ys * 1.01, TS), r"unit tokens, to 0.001; got one that is off by 0.01"),
        (lambda ys: (ys.at[3, 4, 1].set(0.0), TS), r"zero vectors"),
        (lambda ys: (ys.at[3, 4, 1].set(jnp.inf), TS), r"finite, or NaN where missing"),
        (lambda ys: (jnp.full_like(ys, jnp.nan), TS), r"all are missing"),
        (lambda ys: (jnp.broadcast_to(ys[:, :1], ys.shape), TS), r"must hold tokens that move"),
        (lambda ys: (ys[..., :1], TS), r"dim at least 2"),
        (lambda ys: (ys[0, 0], TS), r"must be of shape"),
        (lambda ys: ("runs.npz", TS), r"`Trajectories`, an array"),
        (lambda ys: (np.zeros((3, 21, 2, 4), int), TS), r"must hold floats"),
    ],
)
def test_bad_data_are_one_clear_error(change, words):
    with pytest.raises(ValueError, match=words):
        fit_noise(*change(runs().ys))


def test_bad_options_are_one_clear_error():
    for options, words in (
        ({"method": "best"}, r"`method` must be qmle or robust; got 'best'"),
        ({"normalise": "yes"}, r"`normalise` must be raise or project; got 'yes'"),
        ({"times": TS}, r"`times` must be left out"),
        ({"mask": np.ones((2, 2), bool)}, r"`mask` must fit"),
        ({"mask": np.ones(3)}, r"`mask` must be an array of booleans"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_noise(runs(), **options)
    with pytest.raises(ValueError, match="`level` must lie strictly between 0 and 1; got 95"):
        fit().interval(95)


def test_lengths_do_not_matter_where_directions_are_asked_for():
    lengths = np.random.default_rng(4).uniform(1, 1.3, runs().ys.shape[:-1])[..., None]
    found = fit_noise(runs().ys * lengths, TS, normalise="project")
    # Rounding decides which of equally long tokens is chosen first, and so which is left out.
    assert found.estimate == pytest.approx(fit().estimate, abs=0.1 * fit().stderr["symmetric"])


def test_a_turn_by_more_than_the_largest_angle_is_named():
    ys = np.array(runs().ys)
    ys[5, 10:] = -ys[5, 10:]
    assert warned(fit_noise(ys, TS), "in one step: the steps are too coarse")


def test_the_printed_table_says_what_a_reader_needs():
    text = str(fit())
    for words in ("estimate", "95 % interval", "degrees of freedom", "null ratio", "qmle"):
        assert words in text
    assert isinstance(fit(), FitResult)
