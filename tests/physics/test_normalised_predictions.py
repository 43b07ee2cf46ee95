"""Predictions about tokens with radii against simulations with the wrappers of the library."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic

import rqf_jax as rqf
from rqf_jax.drifts import Attention, Linear, NoDrift
from rqf_jax.kernels import PowerSeries
from rqf_jax.laws import Fixed
from rqf_jax.manifolds import Euclidean, Sphere
from rqf_jax.models import in_log_time, normalised
from rqf_jax.noises import AbstractNoise, Calculus, IsotropicNoise, KernelNoise
from rqf_jax.observables import angles, cosines, directions, radii
from rqf_jax.theory import normalisation

KEY = jax.random.key(0)
pytestmark = pytest.mark.slow


def pair(angle, dim, other=1.0, dtype=jnp.float32):
    """Two tokens with radii 1 and `other`, in single precision, whose steps are fused kernels."""
    x = np.zeros((2, dim))
    x[0, 0], x[1, :2] = 1, [other * math.cos(angle), other * math.sin(angle)]
    return Fixed(jnp.asarray(x, dtype))


def pre(noise=None, drift=None):
    """Matrices with independent entries, and a drift, under Pre-LN."""
    noise = IsotropicNoise(1.0, 1.0) if noise is None else noise
    return normalised(rqf.SDE(NoDrift() if drift is None else drift, noise, Sphere()), "pre")


def pair_numbers(x):
    """Overlap, its square, ln sin φ, and mean ln r of a pair."""
    z, angle = cosines(x)[0], angles(directions(x))[0]
    return jnp.stack([z, z * z, jnp.log(jnp.sin(angle)), jnp.mean(jnp.log(radii(x)))])


@pytest.mark.parametrize("dim, other", normalisation.MEASURED_PAIRS)
def test_pairs_have_the_numbers_of_the_table(dim, other):
    # On a clock on which a step is short beside the radii, extrapolated in the step.
    table = normalisation.MEASURED_PAIRS[dim, other]
    ts = [0.0, *(math.log1p(t) for t in table)]

    def means(substeps):
        runs = rqf.simulate(
            in_log_time(pre()), pair(math.pi / 3, dim, other), ts, substeps=substeps,
            members=150_000, key=jax.random.key(substeps), save=pair_numbers,
        )  # fmt: skip
        return np.asarray(runs.ys, float)[:, 1:, :3].mean(0)

    found = 2 * means(256) - means(128)
    np.testing.assert_allclose(found, list(table.values()), atol=0.015)


def test_pairs_end_aligned_with_the_probability_of_wide_tokens():
    # ln t = 60 at n = 8, from z_0 = 1/2: .602, not the .667 of the sphere.
    runs = rqf.simulate(
        in_log_time(pre()), pair(math.pi / 3, 8), [0.0, 60.0], substeps=1200, members=40_000,
        key=KEY, save=cosines,
    )  # fmt: skip
    aligned = np.mean(np.asarray(runs.ys)[:, 1, 0] > 0)
    assert aligned == pytest.approx(float(normalisation.aligned_probability(0.5, "pre")), abs=0.01)


class OwnClock(AbstractNoise):
    """A noise in the clock of a pair, ds = dt/r_1r_2."""

    noise: AbstractNoise

    def shape(self, x):
        return self.noise.shape(x)

    def __call__(self, t, x, dw):
        return jnp.sqrt(jnp.prod(radii(x))) * self.noise(t, x, dw)

    def calculus(self, manifold):
        return Calculus.ITO


@pytest.mark.parametrize("scheme", normalisation.INDEX)
def test_wide_tokens_obey_the_law_of_their_number_a(scheme):
    # n = 32, s = 1 from z_0 = 0, n h = 1/64; a branch of unit output has κ(1) = 1/n.
    dim, clock = 32, 1.0
    model = rqf.SDE(NoDrift(), KernelNoise(PowerSeries([0.0, 1.0])), Sphere())
    sde = normalised(model, scheme)
    if scheme in ("ngpt", "peri"):
        clock = clock * dim
    sde = rqf.SDE(sde.drift, OwnClock(sde.noise), sde.manifold)
    runs = rqf.simulate(
        sde, pair(math.pi / 2, dim), [0.0, clock], substeps=2048, members=6000, key=KEY,
        save=cosines,
    )  # fmt: skip
    expected = normalisation.wide_expectation(np.square, 1.0, 0.0, scheme)
    assert np.mean(np.asarray(runs.ys, float)[:, 1, 0] ** 2) == pytest.approx(expected, abs=0.02)


def test_close_pairs_meet_as_a_power_of_depth():
    # ln sin φ falls by E c²/2 per ln t, n = 8, from near consensus, ln t = 20 to 40.
    runs = rqf.simulate(
        in_log_time(pre()), pair(1e-3, 8, dtype=jnp.float64), [0.0, 20.0, 40.0], substeps=400,
        members=3000, key=KEY, save=pair_numbers,
    )  # fmt: skip
    slope = np.diff(np.asarray(runs.ys)[:, 1:, 2], axis=1).mean() / 20
    assert slope == pytest.approx(float(normalisation.depth_exponent(8)), abs=0.004)


def test_decay_makes_close_pairs_meet_at_a_rate():
    n, decay = 6, 0.5
    sde = rqf.SDE(Linear(-decay * jnp.eye(n)), pre().noise, Euclidean())
    runs = rqf.simulate(
        sde, pair(1e-3, n, dtype=jnp.float64), [0.0, 10.0, 40.0], substeps=1000, members=1500,
        key=KEY, save=pair_numbers,
    )  # fmt: skip
    rates = np.diff(np.asarray(runs.ys)[:, 1:, 2], axis=1)[:, 0] / 30
    assert_mean(rates, -normalisation.decayed_rate(decay, n), scores=3)


def test_attention_under_common_noise_has_no_antipodal_phase():
    # λ = 2, β = 1, σ = 1, n = 4 from z_0 = 0: on the sphere .1123 end opposite and stay so.
    sde = in_log_time(pre(drift=Attention(1.0, 2.0)))
    times = [10.0, 1e2, 1e3, 1e4, 1e5]
    expected = np.array([0.1085, 0.0425, 0.0083, 0.0015, 0.0])
    members, others = 16_000, 4000
    runs = rqf.simulate(
        sde, pair(math.pi / 2, 4), [0.0, *np.log1p(times)], substeps=200, members=members,
        key=KEY, save=cosines,
    )  # fmt: skip
    opposite = (np.asarray(runs.ys)[:, 1:, 0] < 0).mean(0)
    # Two samples of one probability: that of both together has the variance of their difference.
    both = (members * opposite + others * expected) / (members + others)
    error = np.sqrt(both * (1 - both) * (1 / members + 1 / others))
    assert opposite[-1] < opposite[-2] < 2.5e-3
    assert np.all(np.abs(opposite - expected) < 4 * error)


@pytest.mark.parametrize("beta", [0.9, 1.09, 1.4])
def test_antipodal_pairs_under_fresh_values_part_below_the_threshold_of_pre(beta):
    # Exponents per clock, n = 4, where ln r grows by (n-2)/2 = 1 per clock.
    sde = in_log_time(normalised(rqf.models.stochastic_transformer(beta), "pre"))
    law = pair(math.pi - 1e-6, 4, dtype=jnp.float64)
    runs = rqf.simulate(
        sde, law, [0.0, 4.0, 18.0], substeps=700, members=1500, key=KEY, save=pair_numbers
    )
    change = np.diff(np.asarray(runs.ys)[:, 1:], axis=1)[:, 0]
    clock = change[:, 3].mean()
    rate = normalisation.random_value_exponent(beta, dim=4)
    assert_mean(change[:, 2] - rate * change[:, 3], 0.0, scores=4)
    assert clock > 5 and (rate > 0) == (beta < normalisation.critical_beta(4))


def test_symmetric_noise_alone_has_its_own_exponent():
    # σ_a = 0 at n = 8: ln sin φ per ln t.
    n = 8
    sde = in_log_time(normalised(isotropic(1.0, 0.0), "pre"))
    runs = rqf.simulate(
        sde, pair(1e-3, n, dtype=jnp.float64), [0.0, 10.0, 40.0], substeps=600, members=1500,
        key=KEY, save=pair_numbers,
    )  # fmt: skip
    slopes = np.diff(np.asarray(runs.ys)[:, 1:, 2], axis=1)[:, 0] / 30
    rate = normalisation.matrix_exponent(symmetric=1.0, antisymmetric=0.0, dim=n)
    assert_mean(slopes, rate / ((n - 1) / 2 - 1), scores=4)
