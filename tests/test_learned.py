"""Learnable equations: stable whatever their parameters are, and right where a closed form is."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
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
