"""The laws of tokens under attention and the noises of layers, by ensembles against closed forms.

Ensemble means must lie within five standard errors of theory, at fixed keys; where a limit t → ∞ is
compared or a first-order step is used, the bias that is allowed for it is stated.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, chords_to_pole, isotropic

import rqf_jax as rqf
from rqf_jax.drifts import Attention, NoDrift, UnnormalisedAttention
from rqf_jax.laws import Fixed, Pair, Uniform
from rqf_jax.layers import RandomLinear, Residual
from rqf_jax.noises import HarmonicNoise, IsotropicNoise, ScalarNoise, Sum, TokenNoise
from rqf_jax.observables import angles, overlaps
from rqf_jax.theory import (
    anisotropic,
    annealed,
    attention,
    circle,
    fields,
    forcing,
    homogenised,
    meanfield,
    private_noise,
    value_noise,
)

SPHERE = rqf.manifolds.Sphere()
RIGHT_ANGLE = math.pi / 2


def ensemble(sde, law, ts, *, substeps, members, save=overlaps):
    """Saved values of all members, (members, times, ...)."""
    runs = rqf.simulate(
        sde, law, jnp.asarray(ts, float), substeps=substeps, members=members,
        key=jax.random.key(0), save=save,
    )  # fmt: skip
    return np.asarray(runs.ys)


# ---- attention and a common random matrix


NOISY = {
    "softmax": (rqf.models.noisy_attention, attention.softmax_weight),
    "unnormalised": (rqf.models.noisy_unnormalised_attention, attention.unnormalised_weight),
}


@pytest.mark.parametrize(
    ("kind", "strength", "beta", "start"),
    [
        ("softmax", 2.0, 1.0, 0.0),
        pytest.param("softmax", 2.0, 1.0, -0.5, marks=pytest.mark.slow),
        pytest.param("unnormalised", 0.5, 0.0, 0.0, marks=pytest.mark.slow),
        pytest.param("unnormalised", 0.5, 1.0, 0.0, marks=pytest.mark.slow),
        pytest.param("unnormalised", 2.0, 1.0, 0.0, marks=pytest.mark.slow),
    ],
)
def test_two_tokens_end_opposite_with_the_probability_of_the_quadrature(
    kind, strength, beta, start
):
    model, weight = NOISY[kind]
    law = Pair(math.acos(start), 2)
    r = ensemble(model(beta, 1.0, strength), law, [0.0, 10.0, 20.0], substeps=1000, members=5000)[
        ..., 0
    ]
    expected = attention.antipodal_probability(
        start, weight, beta=beta, strength=strength, sigma=1.0
    )
    # One in a hundred is decided between T = 10 and 20, and far fewer later.
    assert np.mean(np.sign(r[:, 1]) != np.sign(r[:, 2])) < 0.02
    assert_mean(r[:, 2] < 0, float(expected), bias=3e-3, scores=4)


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.2, 5.0])
@pytest.mark.parametrize("kind", ["softmax", "unnormalised"])
def test_opposite_tokens_separate_or_not_at_the_stated_rate(kind, strength):
    # ln |x + y| near an antipodal pair: mean slope 2 λ w(-1) - σ².
    model, weight = NOISY[kind]
    beta, sigma, time = 0.8, 0.9, 2.0
    law = Pair(math.pi - 1e-7, 3)
    theta = ensemble(
        model(beta, sigma, strength), law, [0.0, time], substeps=100, members=16_000, save=angles
    )[..., 0]
    change = np.log(np.pi - theta[:, 1]) - np.log(np.pi - theta[:, 0])
    rate = -attention.antipodal_rate(weight, beta=beta, strength=strength, sigma=sigma)
    assert np.mean(change) / time == pytest.approx(float(rate), rel=0.05)
    assert_mean(change / time, float(rate), bias=2e-3)


# ---- random value matrices


@pytest.mark.slow
@pytest.mark.parametrize("dim", [3, 4, 6, 10])
def test_two_tokens_between_random_value_matrices_end_opposite_with_the_stated_probability(dim):
    for beta in (0.7, 1.0, 1.5, 2.0, 3.0, 5.0):
        # Layers of step 0.02 to t = 12; close to cosh 2β = n - 2 pairs take ten times as long.
        depth = 6000 if (dim, beta) == (4, 0.7) else 600
        layer = Residual(RandomLinear(1.0, Attention(beta)), 0.02)
        for start in (0.0, -0.5) if (dim, beta) == (3, 1.0) else (0.0,):
            runs = rqf.propagate(
                layer, Pair(math.acos(start), dim), depth, members=5000, key=jax.random.key(0),
                every=depth, save=overlaps,
            )  # fmt: skip
            expected = value_noise.antipodal_probability(start, beta=beta, dim=dim)
            assert_mean(np.asarray(runs.ys[:, 1, 0]) < 0, float(expected), bias=0.01, scores=4)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0, -0.5])
def test_on_the_circle_two_tokens_end_opposite_as_their_angle_over_pi_at_every_temperature(beta):
    sde, law = rqf.models.stochastic_transformer(beta), Pair(math.acos(0.4), 2)
    r = ensemble(sde, law, [0.0, 30.0], substeps=3000, members=10_000)[:, 1, 0]
    assert_mean(r < 0, math.acos(0.4) / math.pi, scores=4)


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "beta"), [(3, 1.0), (5, 0.5)])
def test_opposite_tokens_of_the_stochastic_transformer_part_at_the_stated_rate(dim, beta):
    # u = artanh r near -1: drift q (n-2) - (1-q), so ln |x + y| has minus the rate of attraction.
    sde, law = rqf.models.stochastic_transformer(beta), Pair(math.pi - 1e-6, dim)
    theta = ensemble(sde, law, [0.0, 1.0], substeps=400, members=50_000, save=angles)[..., 0]
    change = np.log(np.pi - theta[:, 1]) - np.log(np.pi - theta[:, 0])
    rate = -value_noise.antipodal_rate(beta=beta, dim=dim)
    assert np.mean(change) == pytest.approx(float(rate), rel=0.05)
    assert_mean(change, float(rate), bias=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plus", "minus", "stated", "time", "members"),
    [(3, 1, 3.86, 50, 4000), (3, 2, 13.76, 120, 1500)],
)
def test_an_unbalanced_split_of_the_stochastic_transformer_escapes_in_the_stated_time(
    plus, minus, stated, time, members
):
    # n = 4, β = 1.5: mean time to r ≥ 0, looked at every 0.05 and so seen late by about half of it.
    e = np.eye(1, 4)
    law = Fixed(np.concatenate([e] * plus + [-e] * minus))
    ts = np.linspace(0.0, time, 20 * time + 1)
    r = ensemble(
        rqf.models.stochastic_transformer(1.5), law, ts, substeps=5, members=members,
        save=lambda x: jnp.sum(x[0] * x[-1]),
    )  # fmt: skip
    escaped = (r >= 0).any(axis=1)
    assert escaped.mean() > 0.999
    first = np.where(escaped, ts[np.argmax(r >= 0, axis=1)] - 0.025, time)
    expected = value_noise.cluster_escape_time(plus / (plus + minus), beta=1.5, dim=4)
    assert float(expected) == pytest.approx(stated, abs=0.005)
    assert np.mean(first) == pytest.approx(stated, rel=0.1)
    assert_mean(first, float(expected), bias=0.02 * stated)


@pytest.mark.slow
def test_a_balanced_split_of_the_stochastic_transformer_outlives_unbalanced_ones():
    # n = 4, β = 1.5, until T = 30: 3 + 1 tokens have met after 3.9 in the mean, 2 + 2 stay.
    e = np.eye(1, 4)
    sde, kept = rqf.models.stochastic_transformer(1.5), {}
    for plus in (2, 3):
        law = Fixed(np.concatenate([e] * plus + [-e] * (4 - plus)))
        r = ensemble(
            sde, law, [0.0, 30.0], substeps=3000, members=400, save=lambda x: jnp.sum(x[0] * x[3])
        )
        kept[plus] = np.mean(r[:, -1] < -0.99)
    assert kept[2] > 0.95
    assert kept[3] < 0.05


@pytest.mark.parametrize(("epsilon2", "end"), [(0.8, 1), (2.0, -1)])
def test_a_scalar_random_value_decides_for_one_end_at_the_threshold(epsilon2, end):
    # ε² = 2 e^(-β) = 1.213 at β = 0.5. The rapidity is a random walk with a small drift, so that a
    # few members in a hundred are still on the wrong side at T = 30.
    field = UnnormalisedAttention(0.5)
    assert (epsilon2 < value_noise.critical_scalar_variance(0.5)) == (end > 0)
    sde = rqf.SDE(field, ScalarNoise(field, math.sqrt(epsilon2)), SPHERE)
    r = ensemble(sde, Pair(RIGHT_ANGLE, 3), [0.0, 80.0], substeps=8000, members=400)[:, 1, 0]
    assert np.mean(np.sign(r) == end) > 0.95


# ---- biases, private noise, anisotropy


@pytest.mark.slow
def test_forced_tokens_are_brownian_on_the_stated_clock():
    sde = rqf.models.forced_rqf(0.9, 0.5)
    law, ts = Fixed(np.eye(3)[:1]), [0.0, 0.4, 1.0]
    found = ensemble(sde, law, ts, substeps=40, members=10_000, save=chords_to_pole)
    expected = forcing.one_point_correlation(ts[1:], symmetric=0.9, forcing=0.5, dim=3)
    assert_mean(found[:, 1:], expected, bias=2e-3)


@pytest.mark.slow
def test_an_opposite_pair_merges_in_the_mean_time_of_the_quadrature():
    # n = 3, σ_s² = 2, γ = forcing = 0.1: 15.54 to 1 - r = 1e-3, started at r = -1.
    sde, law = rqf.models.forced_rqf(math.sqrt(2), 0.1), Pair(math.pi - 1e-3, 3)
    ts = np.linspace(0.0, 150.0, 3001)
    r = ensemble(sde, law, ts, substeps=4, members=2500)[..., 0]
    passed = r >= 0.999
    first = np.where(passed.any(axis=1), np.argmax(passed, axis=1), len(ts) - 1)
    expected = forcing.mean_merge_time(sigma=math.sqrt(2), forcing=0.1, dim=3)
    assert np.mean(ts[first]) == pytest.approx(float(expected), rel=0.1)
    assert_mean(ts[first], float(expected), bias=0.03 * float(expected))


@pytest.mark.slow
def test_common_and_private_noise_balance_in_the_stated_stationary_law():
    noise = Sum(IsotropicNoise(1.0, 0.0), TokenNoise(math.sqrt(0.2)))
    r = ensemble(
        rqf.SDE(NoDrift(), noise, SPHERE), Uniform(2, 3), [0.0, 8.0], substeps=400, members=100_000
    )[:, 1, 0]
    options = {"sigma": 1.0, "private": math.sqrt(0.2), "dim": 3}
    for values, expected in (
        (r**2, private_noise.mean_squared_overlap(**options)),
        (np.sqrt(1 - r**2), private_noise.mean_sine(**options)),
    ):
        assert np.mean(values) == pytest.approx(float(expected), rel=0.01)


@pytest.mark.slow
def test_random_linear_layers_with_anisotropic_weights_have_the_stated_invariant_law():
    rows, columns = np.diag([3.0, 1.0, 0.4]), np.diag([0.5, 1.0, 2.5])
    sde = rqf.models.random_linear_layers(np.sqrt(rows), np.sqrt(columns))
    x = ensemble(
        sde, Uniform(1, 3), [0.0, 3.0], substeps=300, members=200_000, save=lambda x: x[0] ** 2
    )
    expected = np.diag(anisotropic.second_moment(rows, columns))
    np.testing.assert_allclose(np.mean(x[:, 1], axis=0), expected, rtol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("harmonic", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_tokens_that_see_a_harmonic_close_their_gap_or_go_round(harmonic):
    gap = 1.2 / harmonic
    sde = rqf.SDE(NoDrift(), HarmonicNoise(harmonic, 1.0), SPHERE)
    law, time = Pair(gap, 2), 8.0 / harmonic**2
    theta = ensemble(sde, law, [0.0, time], substeps=800, members=6000, save=angles)[:, 1, 0]
    # A pair ends a multiple of 2π/k apart: 0 if the gap closed, the first if it went round.
    nearest = np.round(theta / (2 * math.pi / harmonic))
    assert_mean(nearest == 0, float(circle.closing_probability(gap, harmonic)), bias=4e-3)
    log_sine = np.log(np.abs(np.sin(harmonic * theta / 2)))
    # A geodesic step of a driftless angle errs by O(h) in the rate.
    expected = float(circle.mean_log_sine(time, gap, harmonic))
    assert_mean(log_sine, expected, bias=0.01 * abs(expected))


# ---- early moments


@pytest.mark.slow
def test_cotangents_of_the_angle_grow_exponentially():
    # Heavy tails: early times and the exact flow's weak order 2.
    ts, angle = np.array([0.0, 0.05, 0.1]), 1.1
    theta = ensemble(isotropic(1.0), Pair(angle, 3), ts, substeps=5, members=100_000, save=angles)[
        :, 1:, 0
    ]
    cot = 1 / np.tan(theta)
    assert_mean(cot, annealed.mean_cotangent(ts[1:], angle, sigma=1.0))
    assert_mean(cot**2, annealed.mean_squared_cotangent(ts[1:], angle, sigma=1.0))


@pytest.mark.slow
def test_mean_roots_of_the_sine_stay_below_their_bound():
    ts = np.array([0.0, 0.5, 1.0, 3.0])
    theta = ensemble(isotropic(1.0), Pair(1.1, 3), ts, substeps=8, members=4000, save=angles)[
        :, 1:, 0
    ]
    mean = np.sqrt(np.sin(theta))
    bound = annealed.root_sine_bound(ts[1:], math.cos(1.1), sigma=1.0)
    error = mean.std(axis=0) / math.sqrt(len(mean))
    assert np.all(mean.mean(axis=0) <= bound + 5 * error)


# ---- many tokens


class Tilted(rqf.laws.AbstractLaw):
    """Uniform tokens, each moved a little towards the first axis: a mode of degree one."""

    angle: jax.Array

    def __call__(self, key):
        return SPHERE.project(Uniform(2000, 3)(key) + self.angle * jnp.eye(1, 3))


def height(x):
    """First coordinate of the mean token."""
    return jnp.mean(x, axis=0)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("ratio", "sign"), [(0.5, 1), (1.6, -1)])
def test_a_small_mean_token_grows_or_decays_at_the_linear_rate_of_the_mean_field(ratio, sign):
    # The same members with and without a tilt, under the same noise: what is left of the tilt.
    beta = 1.0
    noise = ratio * float(meanfield.critical_noise(beta=beta, dim=3))
    sde, ts = rqf.models.mean_field_attention(beta, noise), np.linspace(0.0, 2.0, 3)
    tilted, uniform = (
        ensemble(sde, Tilted(jnp.asarray(angle)), ts, substeps=40, members=4, save=height)
        for angle in (0.05, 0.0)
    )
    left = np.mean(tilted - uniform, axis=0)
    found = np.log(left[1:] / left[0]) / ts[1:]
    expected = float(meanfield.growth_rate(beta=beta, noise=noise, dim=3))
    assert np.sign(expected) == sign
    np.testing.assert_allclose(found, expected, rtol=0.1)


# ---- fields: perceptrons and homogenised attention


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "gelu"])
def test_close_tokens_in_a_random_perceptron_part_at_the_exponent_of_its_kernel(activation):
    dim, time = 5, 3.0
    kernel = rqf.kernels.MLP(activation, dim)
    value, slope = jax.value_and_grad(kernel)(jnp.asarray(1.0))
    expected = fields.lyapunov_spectrum(dim, value=float(value), slope=float(slope))[0]
    theta = ensemble(
        rqf.models.mlp_flow(activation, dim), Pair(1e-4, dim), [0.0, time],
        substeps=60, members=4000, save=angles,
    )[..., 0]  # fmt: skip
    assert_mean(np.log(theta[:, 1] / theta[:, 0]) / time, expected, bias=1e-3)


@pytest.mark.slow
def test_homogenised_attention_without_keys_has_the_generator_of_a_shared_mean():
    # By Dynkin's formula r_T - r_0 less the integral of its drift is a martingale from zero.
    dim, ts = 6, np.linspace(0.0, 4.0, 81)
    sde = rqf.models.homogenised_attention(
        1.0, dim, key_variance=0.0, samples=1, key=jax.random.key(1)
    )
    r = ensemble(sde, Pair(1.2, dim), ts, substeps=2, members=8000)[..., 0]
    square = (1 + r) / 2
    gone = np.trapezoid(homogenised.uniform_overlap_drift(r, square, dim=dim), ts, axis=1)
    spread = np.trapezoid(homogenised.uniform_overlap_variance(r, square, dim=dim), ts, axis=1)
    martingale = r[:, -1] - r[:, 0] - gone
    assert_mean(martingale, 0.0, bias=2e-3)
    assert_mean(martingale**2 - spread, 0.0, bias=2e-3)
    assert np.mean(gone) > 0.2
