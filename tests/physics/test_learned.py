"""Learnable equations: stable whatever their parameters are, and right where a closed form is."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from _ensembles import assert_mean

import rqf_jax as rqf

KEY = jax.random.key(0)
KINDS = {
    "langevin": rqf.models.neural_langevin,
    "linear noise": rqf.models.neural_linear_noise,
    "geometric": rqf.models.neural_geometric,
}


def wild_network(network, scale=1e3):
    """The same velocity field with weights that no fit would reach."""
    weights, rest = eqx.partition(network.network, eqx.is_inexact_array)
    loud = eqx.combine(jax.tree.map(lambda leaf: scale * leaf, weights), rest)
    return eqx.tree_at(lambda n: n.network, network, loud)


def simulated(sde, start, ts, substeps, members=2000):
    law = rqf.laws.Fixed(jnp.asarray(start))
    return np.asarray(
        rqf.simulate(sde, law, ts, substeps=substeps, members=members, key=jax.random.key(1)).ys
    )


@pytest.mark.slow
def test_second_moments_stay_bounded_for_any_weights():
    rate, sigma, bound = 2.0, 0.7, 1.5
    sde = rqf.models.neural_langevin((2, 1), rate=rate, sigma=sigma, bound=bound, key=KEY)
    sde = eqx.tree_at(lambda s: s.drift.drifts[1], sde, replace_fn=wild_network)
    x = simulated(sde, [[0.0], [0.5]], jnp.asarray([0.0, 1.0, 5.0]), 50)
    squares = x[:, 1:] ** 2
    limit = (bound / rate) ** 2 + sigma**2 / rate
    assert np.all(squares.mean(0) < limit + 5 * squares.std(0) / math.sqrt(len(x)))
    # The network does push: far more than the noise's own variance, near the limit of the bound.
    assert squares[:, -1].mean() > 0.5 * limit


@pytest.mark.slow
def test_numbers_of_a_geometric_equation_keep_their_sign_and_their_bound():
    sde = rqf.models.neural_geometric((3,), sigma=0.5, bound=0.8, key=KEY)
    sde = eqx.tree_at(lambda s: s.drift.rates, sde, replace_fn=wild_network)
    start = np.array([2.0, -1.0, 0.0])
    x = simulated(sde, start, jnp.asarray([0.0, 1.0]), 100)
    assert np.all(np.sign(x) == np.sign(start))
    # ln |x/x_0| is within the bound of a normal with variance σ².
    logs = np.log(np.abs(x[:, -1, :2] / start[:2]))
    assert np.all(np.abs(logs.mean(0)) < 0.8 + 5 * 0.5 / math.sqrt(len(x)))


def test_linear_noise_with_a_constant_growth_is_a_geometric_brownian_motion():
    growth, sigma, time = 0.4, 0.6, 1.0
    drift = rqf.drifts.Geometric(rqf.drifts.Constant([growth]))
    sde = rqf.SDE(drift, rqf.noises.LinearNoise(sigma), rqf.manifolds.Euclidean())
    x = simulated(sde, [[1.5]], jnp.asarray([0.0, time]), 100, members=20_000)[:, -1, 0, 0]
    logs = np.log(x / 1.5)
    assert_mean(logs, growth * time, bias=1e-3)
    assert_mean((logs - logs.mean()) ** 2, sigma**2 * time, bias=2e-3)
    # The p-th moment grows at p a + p² σ²/2, here of p = 1: the Itô correction.
    assert_mean(x, 1.5 * math.exp(growth + sigma**2 / 2), bias=4e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_finite_gradients_through_the_solver(kind):
    sde = KINDS[kind]((2, 1), width=8, depth=1, key=KEY)
    loss = rqf.losses.SimulatedMoments(
        rqf.laws.Fixed(jnp.ones((2, 1))),
        jnp.asarray([0.0, 0.5]),
        jnp.ones((2, 2, 1)),
        substeps=8,
        members=8,
    )
    result = rqf.fit(sde, loss, where=lambda s: (s.drift, s.noise), steps=20, key=KEY)
    assert float(result.history[-1]) < float(result.history[0])


class DoubleWell(rqf.drifts.AbstractDrift):
    """f(x) = x - x³."""

    def __call__(self, t, x):
        return x - x**3


def learned(true, shape, step, substeps, steps, spread):
    """A Langevin network fitted to 100 paths of `true`, its gain on it in nats, and the steps."""
    ts, law = step * jnp.arange(21.0), rqf.laws.Normal(shape, spread)
    runs = rqf.simulate(true, law, ts, substeps=substeps, members=100, key=jax.random.key(0))
    loss = rqf.losses.TransitionLikelihood(runs)
    sde = rqf.models.neural_langevin(shape, sigma=0.5, key=KEY)
    result = rqf.fit(sde, loss, where=lambda s: (s.drift, s.noise), steps=steps, key=KEY)
    nats = 2000 * (float(eqx.filter_jit(loss)(true, KEY)) - float(result.history[-1]))
    before, after = (np.asarray(x).reshape(-1, *shape) for x in (runs.ys[:, :-1], runs.ys[:, 1:]))
    return result.sde, nats, before, after


def velocities(sde, states):
    return np.asarray(jax.vmap(lambda x: sde.drift(jnp.zeros(()), x))(jnp.asarray(states)))


@pytest.mark.slow
def test_a_learned_drift_of_a_linear_equation_is_the_regression():
    """Two numbers that turn: the likelihood is exact, and its linear maximum a regression."""
    matrix, step, sigma = np.array([[-1.0, 0.8], [-0.8, -1.0]]), 0.25, 0.8
    # The law of the start is the stationary one, σ²/2 for each number.
    true = rqf.SDE(
        rqf.drifts.Linear(matrix), rqf.noises.TokenNoise(sigma), rqf.manifolds.Euclidean()
    )
    sde, nats, x, y = learned(true, (1, 2), step, 16, 300, sigma / math.sqrt(2))
    x, y = x[:, 0], y[:, 0]
    regression = scipy.linalg.logm(np.linalg.lstsq(x, y)[0]).real.T / step
    slope = np.linalg.lstsq(x, velocities(sde, x[:, None])[:, 0])[0].T
    # As for the rate of one number (exact for a pull): √((e^(2κh) - 1)/M)/h.
    error = math.sqrt((math.exp(2 * step) - 1) / len(x)) / step
    assert np.all(np.abs(regression - matrix) < 4 * error)
    assert np.all(np.abs(slope - matrix) < 4 * error)
    assert np.all(np.abs(slope - regression) < error)
    assert float(sde.noise.sigma) == pytest.approx(sigma, rel=4 / math.sqrt(4 * len(x)))
    # A maximum is above the truth.
    assert nats > 0


@pytest.mark.slow
def test_a_learned_drift_has_two_wells_and_too_few_steps_show_in_the_likelihood():
    sigma, step = 0.7, 0.1
    true = rqf.SDE(DoubleWell(), rqf.noises.TokenNoise(sigma), rqf.manifolds.Euclidean())
    sde, nats, x, _ = learned(true, (1, 1), step, 20, 400, 0.7)
    # p parameters have an error of p σ²/T on average over the data: here that of two dozen, where
    # the drift is not steep.
    there = x[np.abs(x) < 1.5].reshape(-1, 1, 1)
    off = velocities(sde, there) - (there - there**3)
    assert np.mean(off**2) < 24 * sigma**2 / (step * len(x))
    assert 0 < nats < 30
    # Wells at ±1 and a ridge at 0.
    near = np.array([-1.3, -0.7, -0.4, 0.4, 0.7, 1.3]).reshape(-1, 1, 1)
    assert np.array_equal(np.sign(velocities(sde, near)).ravel(), [1, -1, -1, 1, 1, -1])
    assert float(sde.noise.sigma) == pytest.approx(sigma, rel=0.05)

    _, early, _, _ = learned(true, (1, 1), step, 20, 40, 0.7)
    assert early < -10


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rqf.drifts.Network(3, key=KEY), "`state` must be a tuple"),
        (lambda: rqf.drifts.Network((0,), key=KEY), "`state` must be at least 1; got 0"),
        (lambda: rqf.drifts.Network((1,), width=0, key=KEY), "`width` must be at least 1; got 0"),
        (lambda: rqf.drifts.Network((1,), bound=-1, key=KEY), "`bound` must be at least 0"),
        (
            lambda: rqf.drifts.Network((1,), key=KEY)(jnp.zeros(()), jnp.zeros(2)),
            "`x` must have the shape",
        ),
        (lambda: rqf.drifts.Geometric(3), "`rates` must be a drift"),
        (lambda: rqf.noises.LinearNoise(-1), "`sigma` must be at least 0; got -1"),
    ],
)
def test_a_wrong_argument_is_named(unchecked, make, words):
    with pytest.raises(ValueError, match=words):
        make()
