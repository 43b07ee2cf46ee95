"""Data that break a rule of the noise fit: what is seen, by how much, and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic

import rqf_jax as rqf
from rqf_jax.inference import fit_noise, half_angle, logarithm
from rqf_jax.inference._likelihood import information
from rqf_jax.inference._steps import whitened_steps

pytestmark = pytest.mark.slow


def paths(sde, law, ts, members, substeps=4, seed=1):
    key = jax.random.key(seed)
    return rqf.simulate(sde, law, ts, substeps=substeps, members=members, key=key)


def warned(result, words):
    return any(words in warning for warning in result.warnings)


def test_a_nearly_orthogonal_pair_has_no_infinite_variance():
    # The minimum-norm noise divides by the overlap: its variance is that of 1/overlap².
    angles = np.pi / 2 + 0.02 * np.random.default_rng(0).standard_normal(60)
    estimates = []
    for seed, angle in enumerate(angles):
        law, ts = rqf.laws.Pair(angle, 4), 0.001 * jnp.arange(21.0)
        runs = paths(isotropic(1.0), law, ts, 1, seed=seed)
        result = fit_noise(runs)
        assert result.stderr["symmetric"] < 1.15 * result.bound["symmetric"]
        estimates.append((result.estimate["symmetric"] - 1) / result.stderr["symmetric"])
    assert_mean(estimates, 0.0)
    assert_mean(np.square(estimates), 1.0)


def test_as_many_tokens_as_dimensions_are_as_good_as_those_that_are_used():
    # Unprotected, the whitening of nearly dependent tokens had 5000 times the error.
    runs = paths(isotropic(1.0), rqf.laws.Uniform(8, 8), 0.01 * jnp.arange(41.0), 60)
    scores = []
    for ys in runs.ys:
        result = fit_noise(ys, runs.ts)
        assert 4 < result.tokens_used < 8 and result.dof_used < result.dof_available
        scores.append((result.estimate["symmetric"] ** 2 - 1) / np.sqrt(2 / result.dof_used))
    assert_mean(scores, 0.0)
    assert_mean(np.square(scores), 1.0, bias=0.1)


def test_tokens_beyond_the_dimension_and_copies_add_nothing():
    # P11: the rank is that of `dim` tokens, and a copy is never looked at.
    ys = np.array(paths(isotropic(1.0), rqf.laws.Uniform(6, 3), 0.001 * jnp.arange(11.0), 3).ys)
    dt, theta = jnp.full(10, 0.001), jnp.zeros(1)

    def known(xs):
        steps = whitened_steps(jnp.asarray(xs), dt, None, jnp.asarray(1.0))
        return np.asarray(steps.whitened.dof), float(information(theta, steps)[0, 0])

    dof, _ = known(ys)
    np.testing.assert_array_equal(dof, rqf.theory.sphere.symmetric_rank(3, 3))
    few = ys[:, :, :2]
    copies = np.concatenate([few, few, -few], axis=2)
    assert known(copies)[1] == pytest.approx(known(few)[1], rel=1e-8)


def test_pairs_synchronise_at_the_rate_of_the_noise_until_single_precision_ends():
    # P21: the mean of |u| grows like p t; at p t = 8 about half of the overlaps are 1.
    ts = jnp.asarray([0.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    x, y = np.moveaxis(paths(isotropic(1.0), rqf.laws.Uniform(2, 3), ts, 2000, 80).ys, 2, 0)
    u = np.log(np.linalg.norm(x + y, axis=-1) / np.linalg.norm(x - y, axis=-1))
    growth = np.polyfit(np.asarray(ts)[1:], np.abs(u[:, 1:]).T, 1)[0]
    assert_mean(growth, 1.0, bias=0.02)
    overlap = np.sum(x * y, -1)[:, 4].astype(np.float32)
    assert abs(np.mean(np.abs(overlap) == 1) - 0.46) < 0.1


def test_a_high_dimension_leaves_six_per_cent_where_other_increments_leave_more():
    # G3: n p dt = 2.5 at n = 256.
    dim, dt = 256, 0.01
    runs = paths(isotropic(1.0), rqf.laws.Uniform(4, dim), dt * jnp.arange(11.0), 4)
    x, y = (part.reshape(-1, dim) for part in (runs.ys[:, :-1], runs.ys[:, 1:]))

    def bias(v):
        return float(2 * jnp.mean(jnp.sum(v * v, -1)) / ((dim - 1) * dt)) - 1

    plain = bias(y - jnp.sum(x * y, -1, keepdims=True) * x)
    exact = 2 / (dim * dt) * (1 - np.exp(-dim * dt / 2)) - 1
    assert plain == pytest.approx(exact, abs=0.02)
    ours = fit_noise(runs).estimate["symmetric"] ** 2 - 1
    assert abs(ours) < 0.06 < abs(bias(logarithm(x, y))) < abs(plain)
    assert abs(bias(half_angle(x, y)[1])) < 0.06


def test_random_volatility_and_heavy_tails_show_in_the_scatter_of_steps():
    # Told equal times, geometric gaps are steps of a random volatility, with exponential tails.
    fine = paths(isotropic(1.0), rqf.laws.Uniform(3, 5), 0.002 * jnp.arange(201.0), 20, 2).ys
    keep = np.sort(np.random.default_rng(2).choice(201, 41, replace=False))
    result = fit_noise(fine[:, keep], 0.01 * jnp.arange(41.0))
    assert result.goodness["scatter of steps"][1] > 5 and warned(result, "heavy tails")
    ratio, score = fit_noise(fine[:, ::5], 0.01 * jnp.arange(41.0)).goodness["scatter of steps"]
    assert abs(ratio - 1) < 0.2 and abs(score) < 4


def test_attention_that_is_ignored_adds_its_length_in_the_metric_of_the_noise():
    # P22: σ̂² - σ² = dt |b|²/dof with |b|² = bᵀ C⁺ b, C the covariance of all tokens at σ = 1.
    dt, drift, law = 0.01, rqf.drifts.Attention(1.0, 10.0), rqf.laws.Uniform(4, 8)
    pulled = rqf.models.noisy_attention(beta=1.0, sigma=1.0, strength=10.0)
    runs, still = (paths(sde, law, dt * jnp.arange(6.0), 1500) for sde in (pulled, isotropic(1.0)))
    # The same noise drives both.
    seen, without = (fit_noise(run).estimate["symmetric"] ** 2 for run in (runs, still))
    xs = np.asarray(runs.ys[:200, :-1]).reshape(-1, 4, 8)
    sphere = rqf.manifolds.Sphere()
    pulls = jax.vmap(lambda x: sphere.tangent(x, drift(jnp.zeros(()), x)))(jnp.asarray(xs))
    tangent = np.eye(8) - xs[..., :, None] * xs[..., None, :]
    across = np.einsum("kaij,kbj->kabi", tangent, xs)
    both = np.einsum("kaij,kbjl->kabil", tangent, tangent)
    overlaps = np.einsum("kai,kbi->kab", xs, xs)
    covariance = overlaps[..., None, None] * both + np.einsum("kabi,kbaj->kabij", across, across)
    covariance = covariance.transpose(0, 1, 3, 2, 4).reshape(-1, 32, 32) / 2
    inverse = np.linalg.pinv(covariance, rcond=1e-4, hermitian=True)
    b = np.asarray(pulls).reshape(-1, 32)
    predicted = dt * np.mean(np.einsum("ki,kij,kj->k", b, inverse, b)) / 25
    assert predicted / 1.5 < seen - without < 1.5 * predicted


@pytest.mark.parametrize("antisymmetric", [0.3, 1.0])
def test_steps_too_coarse_for_two_strengths_are_named(antisymmetric):
    # n dt (σ_s² + σ_a²) of 2 and 4; without the warning σ_a would be a precise 0.
    law, ts = rqf.laws.Uniform(4, 8), 0.25 * jnp.arange(13.0)
    runs = paths(isotropic(1.0, antisymmetric), law, ts, 200, 8)
    result = fit_noise(runs, antisymmetric=True)
    wrong = abs(result.estimate["antisymmetric"] - antisymmetric)
    named = warned(result, "could not be removed")
    assert wrong < 4 * result.stderr["antisymmetric"] or named
    assert named or not antisymmetric


@pytest.mark.parametrize("antisymmetric", [0.0, 1.0])
def test_large_pools_of_common_noise_are_not_objected_to(antisymmetric):
    # Eight pools of 80,000 steps; all have the numbers of one simulation in common.
    law, ts = rqf.laws.Uniform(4, 8), 0.01 * jnp.arange(41.0)
    scores = []
    for seed in range(8):
        runs = paths(isotropic(1.0, antisymmetric), law, ts, 2000, 4, seed=100 + seed)
        result = fit_noise(runs, antisymmetric=antisymmetric > 0)
        scores.append([result.goodness[k][1] for k in ("in / out of span", "scatter of steps")])
    # Eight squares of mean 1: five times the error of their mean at most.
    assert np.abs(scores).max() < 4
    assert np.all(np.mean(np.square(scores), 0) < 1 + 5 / 2)
    # They differ from each other by the data, not by the simulation.
    assert np.all(np.std(scores, 0) > 0.4)
