"""Theorems about the limits of descents: their flow, their noise, and where they part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _ensembles import assert_mean

import rqf_jax as rqf
from rqf_jax.analysis import curvature
from rqf_jax.laws import Fixed, Zeros
from rqf_jax.theory import currents, sgd
from rqf_jax.training import FirstWeights, LeastSquares, Process, Subspace, data, limit, train
from rqf_jax.training.injections import (
    LabelNoise,
    Langevin,
    Reshuffled,
    WithoutReplacement,
    WithReplacement,
)

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((5, 2)), RNG.standard_normal(5)
CURVED = LeastSquares(lambda w, batch: jnp.tanh(batch[0] @ w) - batch[1])


def curved(*injections, law=None):
    law = Fixed(np.array([0.3, -0.5])) if law is None else law
    return Process(CURVED, law, (X, Y), optimiser=optax.sgd(0.1), injections=injections)


@pytest.mark.parametrize(
    ("batch", "factor"), [(WithReplacement(2), 1), (WithoutReplacement(2), 3 / 4)]
)
def test_the_noise_of_a_limit_has_the_covariance_of_the_gradients_noise(batch, factor):
    w = jnp.array([0.3, -0.5])
    noise = limit(curved(batch, Langevin(0.7)), learning_rate=0.1).noise
    columns = np.asarray(
        jax.vmap(lambda dw: noise(jnp.zeros(()), w, dw))(jnp.eye(*2 * noise.shape(w)))
    )
    covariance = curvature.gradient_covariance(CURVED, w, (X, Y))
    expected = 0.1 * (factor * np.asarray(covariance) / 2 + 0.49 * np.eye(2))
    np.testing.assert_allclose(columns.T @ columns, expected, rtol=1e-10)


@pytest.mark.slow
def test_descents_of_small_rates_follow_the_flow_of_their_whole_loss():
    def law(key):
        return eqx.nn.MLP(2, "scalar", 3, 1, activation=jnp.tanh, key=key)

    loss = LeastSquares(lambda net, batch: jax.vmap(net)(batch[0]) - batch[1])
    rate = 1e-3
    process = Process(loss, law, (X, Y), optimiser=optax.sgd(rate), injections=[Reshuffled(5)])
    flow = rqf.simulate(
        limit(process, learning_rate=rate), FirstWeights(process), [0.0, 1.0], substeps=50,
        members=2, key=KEY,
    ).ys  # fmt: skip
    runs = train(process, [0, 1000], seeds=2, key=KEY).ys
    flow, runs = jax.tree.leaves(flow), jax.tree.leaves(runs)
    for ours, theirs in zip(flow, runs, strict=True):
        np.testing.assert_allclose(ours[:, 0], theirs[:, 0], rtol=1e-12)
        np.testing.assert_allclose(ours[:, 1], theirs[:, 1], atol=2e-3)
    assert max(np.abs(leaf[:, 1] - leaf[:, 0]).max() for leaf in flow) > 0.1


@pytest.mark.slow
def test_a_limit_has_the_moments_of_its_descent_at_a_small_rate():
    rate = 0.02
    process = curved(WithReplacement(1))
    options = {"members": 4000, "key": KEY}
    sde = limit(process, learning_rate=rate)
    ends = np.asarray(
        rqf.simulate(sde, FirstWeights(process), [0.0, 2.0], substeps=200, **options).ys[:, 1]
    )
    process = eqx.tree_at(lambda p: p.optimiser, process, optax.sgd(rate), is_leaf=callable)
    found = np.asarray(train(process, [0, 100], seeds=4000, key=KEY).ys[:, 1])
    assert_mean(ends - found.mean(0), 0.0, bias=2e-3)
    np.testing.assert_allclose(np.cov(ends.T), np.cov(found.T), rtol=0.1, atol=1e-4)


def test_langevin_noise_needs_no_data():
    process = Process(
        lambda w, _: jnp.sum(w**2), Zeros((2,)), optimiser=optax.sgd(0.1),
        injections=[Langevin(3.0)],
    )  # fmt: skip
    noise = limit(process, learning_rate=0.1).noise
    np.testing.assert_allclose(
        noise(jnp.zeros(()), jnp.ones(2), jnp.ones(2)), 3 * np.sqrt(0.1), rtol=1e-12
    )


def test_twins_are_one_for_small_rates_and_part_where_the_rate_is_near_its_limit():
    h, c = np.diag([2.0, 0.5]) + 0.3, np.diag([1.0, 2.0])
    for rate, off in ((1e-3, 1e-3), (0.8, 0.5)):
        of_descent = sgd.stationary_covariance(h, c, learning_rate=rate)
        of_limit = currents.covariance(h, rate * c / 2)
        apart = np.trace(of_descent) / np.trace(of_limit) - 1
        assert (0 < apart < 2 * off) if rate < 0.1 else (apart > off)


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (lambda: 3, "`process` must be a descent of"),
        (
            lambda: curved(LabelNoise(0.1)),
            "no injections but batches and Langevin noise; got Label",
        ),
        (
            lambda: curved(law=Subspace(Zeros((2,)), 1)),
            "`process` must have weights that all learn",
        ),
        (
            lambda: Process(
                CURVED, Zeros((2,)), data.Fresh(lambda key: (X, Y)), optimiser=optax.sgd(0.1)
            ),
            "`process` must have one data set, the same for all seeds; got Fresh",
        ),
    ],
)
def test_a_process_without_a_limit_has_one_clear_error(process, message, unchecked):
    with pytest.raises(ValueError, match=message):
        limit(process(), learning_rate=0.1)
