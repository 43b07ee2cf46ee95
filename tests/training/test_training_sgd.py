"""Theorems about descent beside its exact laws: moments, stability, order of examples, modes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _ensembles import assert_mean

from rqf_jax.laws import Fixed, Normal
from rqf_jax.theory import linear_networks, sgd
from rqf_jax.training import DeepLinear, LeastSquares, Process, data, train
from rqf_jax.training.injections import Reshuffled, WithReplacement

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SQUARES = LeastSquares(lambda w, batch: batch[0] @ w - batch[1])


def regression(values, noise, batch):
    """A law of fresh batches of a regression whose best weights are 0."""
    root = jnp.sqrt(jnp.asarray(values))

    def law(key):
        x = Normal((batch, len(values) + 1))(key)
        return x[:, :-1] * root[None], np.sqrt(noise) * x[:, -1]

    return data.Fresh(law)


@pytest.mark.slow
def test_a_regression_with_fresh_examples_has_its_exact_moments():
    values, times = [2.0, 1.0, 0.3], [0, 5, 60]
    process = Process(
        SQUARES, Fixed(np.ones(3)), regression(values, 0.5, 4), optimiser=optax.sgd(0.1)
    )
    runs = train(process, times, seeds=100_000, key=KEY)
    expected = sgd.moments(values, np.ones(3), times, learning_rate=0.1, batch=4, noise=0.5)
    assert_mean(np.asarray(runs.ys[:, 1:]) ** 2, expected[1:])
    np.testing.assert_allclose(np.mean(np.square(runs.ys), 0), expected, rtol=0.02)


@pytest.mark.slow
def test_gaussian_inputs_of_twenty_dimensions_grow_and_fall_as_predicted_one_by_one():
    # Beyond α = 2/22 single examples diverge, where the whole loss bears α up to 2.
    process = Process(
        SQUARES, Fixed(np.ones(20)), regression(np.ones(20), 0.0, 1),
        optimiser=jax.tree_util.Partial(optax.sgd, jnp.array(0.1)),
    )  # fmt: skip
    for rate, predicted in ((0.085, -1.93), (0.092, 0.38), (0.1, 3.44)):
        other = eqx.tree_at(lambda p: p.optimiser.args[0], process, jnp.array(rate))
        squares = np.sum(np.square(train(other, [0, 60, 400], seeds=8000, key=KEY).ys), -1)
        moments = sgd.moments(np.ones(20), np.ones(20), [0, 60, 400], learning_rate=rate)
        assert_mean(squares[:, 1], moments[1].sum())
        # In the end few seeds make the mean: 0.3 in log₁₀ is what 8000 can tell.
        grown = np.log10(squares[:, 2].mean() / 20)
        assert grown == pytest.approx(predicted, abs=0.3)


@pytest.mark.slow
def test_a_student_on_random_features_has_the_risk_of_a_regression_with_more_noise():
    f, t = RNG.standard_normal((3, 6)) / 2, RNG.standard_normal(6)

    def law(key):
        x = Normal((2, 6))(key)
        return x @ f.T, x @ t

    process = Process(SQUARES, Fixed(np.zeros(3)), data.Fresh(law), optimiser=optax.sgd(0.05))
    runs = train(process, [0, 10, 80], seeds=20_000, key=KEY)
    values, start, noise = sgd.random_features(f, t)
    moments = sgd.moments(values, start, [10, 80], learning_rate=0.05, batch=2, noise=noise)
    far = np.asarray(runs.ys[:, 1:]) @ f - t
    assert_mean(np.sum(far**2, -1), moments @ values + noise)


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_a_minimum_of_a_finite_data_set_has_its_stationary_covariance(momentum):
    # One curvature for all examples; then the gradient's covariance is the same everywhere.
    h = np.array([[2.0, 0.6], [0.6, 0.5]])
    root, noises = np.linalg.cholesky(h).T, RNG.standard_normal((8, 2)) * [1.0, 0.3]
    noises -= noises.mean(0)
    # L_i = (w - e_i)ᵀ h (w - e_i)/2, gradients h (w - e_i).
    loss = LeastSquares(lambda w, e: (w[None] - e) @ root.T)
    process = Process(
        loss, Fixed(np.zeros(2)), noises, optimiser=optax.sgd(0.2, momentum),
        injections=[WithReplacement(2)],
    )  # fmt: skip
    ends = np.asarray(train(process, [0, 100], seeds=100_000, key=KEY).ys[:, 1])
    gradients = noises @ h
    expected = sgd.stationary_covariance(
        h, gradients.T @ gradients / 8, learning_rate=0.2, batch=2, momentum=momentum
    )
    products = np.einsum("si,sj->sij", ends, ends)
    assert_mean(products, expected)
    np.testing.assert_allclose(products.mean(0), expected, rtol=0.01)
    if not momentum:
        # E w·∇L = (α/2) E |g|², from the same seeds.
        mean = np.einsum("si,ij,sj->s", ends, h, ends)
        square = np.sum((ends @ h) ** 2, 1) + np.mean(np.sum(gradients**2, 1)) / 2
        assert_mean(mean - 0.1 * square, 0.0)
        assert mean.mean() == pytest.approx(0.1 * square.mean(), rel=0.01)


@pytest.mark.slow
def test_random_orders_leave_the_cube_of_the_step_and_replacement_the_step():
    e = RNG.standard_normal(8)
    e -= e.mean()
    for rate in (0.1, 0.025):
        for batch, replacement in ((WithReplacement(1), True), (Reshuffled(1), False)):
            process = Process(
                LeastSquares(lambda w, e: w[None] - e[:, None]), Fixed(np.zeros(1)), e,
                optimiser=optax.sgd(rate), injections=[batch],
            )  # fmt: skip
            updates = 8 * round(6 / rate / 8)
            ends = np.asarray(train(process, [0, updates], seeds=4000, key=KEY).ys[:, 1, 0])
            expected = sgd.epoch_variance(
                1.0, learning_rate=rate, variance=np.mean(e**2), samples=8, replacement=replacement
            )
            assert_mean(ends**2, expected, bias=1e-4 * expected)


@pytest.mark.slow
def test_second_moments_of_least_squares_grow_and_fall_by_their_radius():
    # No noise: E |w|² follows ρ(T)^k, in an interpolating problem of four examples.
    x = RNG.standard_normal((4, 3))
    hessians = x[:, :, None] * x[:, None, :]
    critical = sgd.critical_rate(hessians)
    for share in (0.6, 1.2):
        rate = share * critical
        process = Process(
            SQUARES, Fixed(np.ones(3)), (x, np.zeros(4)), optimiser=optax.sgd(rate),
            injections=[WithReplacement(1)],
        )  # fmt: skip
        updates = [0, 1, 2, 4]
        runs = train(process, updates, seeds=40_000, key=KEY)
        s = np.ones((3, 3))
        expected = []
        for k in range(5):
            if k in updates:
                expected.append(np.trace(s))
            steps = np.eye(3) - rate * hessians
            s = np.mean(steps @ s @ steps, 0)
        assert_mean(np.sum(np.square(runs.ys), -1), expected, bias=1e-12)
        radius = sgd.stability_radius(hessians, learning_rate=rate)
        assert (radius < 1) == (share < 1)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [3, 5])
def test_a_mode_of_a_deep_network_learns_on_the_curve_of_its_depth(layers):
    rate, s, start = 1e-3, 1.5, 0.6
    process = DeepLinear([[s]], [[[start]]] * layers, learning_rate=rate)
    updates = [0, 300, 1000]
    product = np.prod([w[0, :, 0, 0] for w in train(process, updates, seeds=1, key=KEY).ys], 0)
    curve = linear_networks.deep_mode(
        rate * np.array(updates), start**layers, target=s, layers=layers
    )
    np.testing.assert_allclose(product, curve, rtol=0.01)
