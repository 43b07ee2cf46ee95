"""Theorems about noise injection: exact recursions, limits along the minima, the two clocks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, slope
from scipy.integrate import solve_ivp

import rqf_jax as rqf
from rqf_jax.laws import Fixed, Normal
from rqf_jax.theory import learning, linear_networks, sgd
from rqf_jax.training import DeepLinear, NoisyDescent, slow_flow, train
from rqf_jax.training.injections import (
    DropConnect,
    Dropout,
    LabelNoise,
    Langevin,
    Reshuffled,
    WithoutReplacement,
    WithReplacement,
)
from rqf_jax.training.networks import Diagonal, Regression

KEY = jax.random.key(0)
ONE = np.ones((1, 1))


def hyperbola(u, rate, injection, target=1.0, **changes):
    """Descent of (uv - 1)²/2 from a minimum, in float32."""
    start = jnp.array([[u], [target / u]], jnp.float32)
    return NoisyDescent(
        Diagonal(), Fixed(start), ONE, [target],
        learning_rate=rate, injections=(injection,), **changes,
    )  # fmt: skip


def imbalance(weights):
    """u² - v² of every feature."""
    return weights[0] ** 2 - weights[1] ** 2


def product(weights):
    """u v of every feature."""
    return weights[0] * weights[1]


def regression(law, injections, inputs=None, targets=None, **changes):
    """Descent of a linear regression."""
    inputs = np.random.default_rng(3).standard_normal((1, 5)) if inputs is None else inputs
    targets = inputs.sum(1) if targets is None else targets
    options = {"learning_rate": 0.05} | changes
    return NoisyDescent(Regression(), law, inputs, targets, injections=injections, **options)


# ---- the two clocks


def label_rate(rate, u=1.3, sigma=0.5, decay=0.3, **changes):
    """Relaxation rate of the imbalance per gradient time, under label noise."""
    updates = round(decay / (2 * (rate * sigma) ** 2))
    process = hyperbola(u, rate, LabelNoise(sigma), **changes)
    runs = train(process, [0, updates], seeds=200, key=KEY, save=imbalance)
    start, end = np.asarray(runs.ys, float).mean((0, 2))
    return math.log(start / end) / (rate * updates)


def dropout_rate(rate, p=0.04, decay=0.3, seeds=1500):
    """Rate per gradient time of the limit flow of dropout, read off two balanced units."""
    q0 = 0.8
    units = np.sqrt([(1 + q0) / 2, (1 - q0) / 2])
    start = jnp.asarray(np.stack([units, units]), jnp.float32)
    updates = round(decay * (1 - p) / (rate * p))
    process = NoisyDescent(
        Diagonal(), Fixed(start), np.ones((1, 2)), [1.0], learning_rate=rate,
        injections=(Dropout(p),),
    )  # fmt: skip
    runs = train(process, [0, updates], seeds=seeds, key=KEY, save=product)
    theta = np.asarray(runs.ys[:, 1], float).mean(0)
    q = (theta[0] - theta[1]) / theta.sum()
    # q = [1 + (q₀⁻² - 1) e^{2t}]^{-1/2}
    return math.log((q**-2 - 1) / (q0**-2 - 1)) / 2 / (rate * updates)


@pytest.mark.slow
def test_label_noise_is_slower_in_proportion_to_the_step_and_dropout_is_not():
    rates = [0.01, 0.04]
    assert slope(rates, [label_rate(rate) for rate in rates]) == pytest.approx(1, abs=0.05)
    assert slope(rates, [dropout_rate(rate) for rate in rates]) == pytest.approx(0, abs=0.05)


# ---- label noise


@pytest.mark.slow
def test_the_imbalance_under_label_noise_decays_at_its_rate_with_the_first_correction():
    # D' = D (1 - α²e²) exactly, and E e² = σ²/(1 - αT/2), T = u² + v².
    rate, sigma, u = 0.05, 0.5, 1.3
    total = u**2 + u**-2
    expected = rate * 2 * sigma**2 / (2 - rate * total)
    assert label_rate(rate, u, sigma, decay=0.05) == pytest.approx(expected, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.02])
def test_the_imbalance_under_label_noise_follows_its_corrected_decay_far_down(rate):
    # dD/dk = -2 (ασ)² D/(2 - αT), T = √(D² + 4), to a third of the start.
    sigma, u = 0.5, 2.0
    updates = round(1.2 / (rate * sigma) ** 2)
    start = u**2 - u**-2
    expected = solve_ivp(
        lambda _, d: -2 * (rate * sigma) ** 2 * d / (2 - rate * np.sqrt(d**2 + 4)),
        (0, updates), [start], rtol=1e-9,
    ).y[0, -1]  # fmt: skip
    process = hyperbola(u, rate, LabelNoise(sigma))
    runs = train(process, [0, updates], seeds=2000, key=KEY, save=imbalance)
    assert np.mean(np.asarray(runs.ys, float)[:, 1]) == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
def test_an_update_with_a_noisy_label_shrinks_the_imbalance_by_its_squared_error():
    rate, start = 0.05, np.array([[1.3], [0.7]])
    process = NoisyDescent(
        Diagonal(), Fixed(start), ONE, [1.0], learning_rate=rate, injections=(LabelNoise(0.5),)
    )
    runs = train(process, [0, 1], seeds=20, key=KEY)
    u, v = np.asarray(runs.ys)[:, :, :, 0].transpose(2, 1, 0)
    error = (u[0] - u[1]) / (rate * v[0])
    ratio = (u[1] ** 2 - v[1] ** 2) / (u[0] ** 2 - v[0] ** 2)
    np.testing.assert_allclose(ratio, 1 - rate**2 * error**2, rtol=1e-12)
    assert error.std() > 0.1


@pytest.mark.slow
def test_momentum_divides_the_step_of_label_noise_by_one_minus_itself():
    plain, heavy = label_rate(0.01), label_rate(0.005, momentum=0.5, decay=0.15)
    # Per gradient time of the heavy ball, α k/(1 - b), the same.
    assert heavy * (1 - 0.5) == pytest.approx(plain, rel=0.05)


def of_label_noise(x, start, time):
    """Products θ and imbalances D of a diagonal network under label noise, in the slow limit.

    D_i = D_i(0) e^{-x_i² t},   θ_i' = -x_i² θ_i + (λ/4) x_i T_i,   λ = 4 Σ x³θ/Σ x²T

    with T = √(D² + 4θ²), and λ such that Σ x θ stays.
    """
    d = np.asarray(imbalance(start))

    def velocity(t, theta):
        total = np.sqrt((d * np.exp(-(x**2) * t)) ** 2 + 4 * theta**2)
        level = np.sum(x**3 * theta) / np.sum(x**2 * total)
        return -(x**2) * theta + level * x * total

    end = solve_ivp(velocity, (0, time), product(start), rtol=1e-10, atol=1e-12).y[:, -1]
    return end, d * np.exp(-(x**2) * time)


@pytest.mark.slow
def test_label_noise_moves_a_diagonal_network_along_its_slow_flow():
    x = np.array([[1.0, 0.6]])
    start = np.array([[1.5, 1.2], [0.4, -0.5]])
    target = (x[0] * start[0] * start[1]).sum()
    rate, sigma = 0.01, 0.5
    updates = round(1 / (rate * sigma) ** 2)
    process = NoisyDescent(
        Diagonal(), Fixed(start.astype(np.float32)), x, [target], learning_rate=rate,
        injections=(LabelNoise(sigma),),
    )  # fmt: skip
    theta, expected = of_label_noise(x[0], start, 1.0)
    assert x[0] @ theta == pytest.approx(target, rel=1e-8)
    np.testing.assert_allclose(
        learning.label_noise_imbalance(1.0, np.asarray(imbalance(start)), feature=x[0]), expected
    )
    flow = rqf.simulate(
        slow_flow(process), Fixed(start), [0.0, float(updates)], substeps=400, members=1, key=KEY
    ).ys[0, -1]
    np.testing.assert_allclose(imbalance(flow), expected, rtol=1e-4)
    np.testing.assert_allclose(product(flow), theta, rtol=1e-4)
    # And so does the descent: imbalances, products, and the angle of the products.
    runs = train(process, [0, updates], seeds=300, key=KEY)
    ends = np.asarray(runs.ys[:, 1], float).swapaxes(0, 1)
    found = product(ends).mean(0)
    np.testing.assert_allclose(imbalance(ends).mean(0), expected, rtol=0.03)
    np.testing.assert_allclose(found, theta, rtol=0.03)
    assert math.atan2(*found) == pytest.approx(math.atan2(*theta), rel=0.03)


@pytest.mark.slow
def test_label_noise_on_a_regression_moves_nothing_that_no_output_sees():
    rate, sigma = 0.05, 0.5
    process = regression(Normal((5,)), (LabelNoise(sigma),), learning_rate=rate)
    runs = train(process, [0, 400], seeds=20_000, key=KEY)
    x = np.asarray(process.inputs)[0]
    moved = np.asarray(runs.ys[:, 1] - runs.ys[:, 0])
    along = moved @ x / (x @ x)
    np.testing.assert_allclose(moved, along[:, None] * x, atol=1e-12)
    # A residual in a quadratic well of curvature |x|².
    residual = np.asarray(runs.ys[:, 1]) @ x - float(process.targets[0])
    variance = learning.stationary_variance(
        x @ x, learning_rate=rate, gradient_variance=sigma**2 * (x @ x)
    )
    assert_mean(residual**2, variance * (x @ x))
    assert np.mean(residual**2) == pytest.approx(variance * (x @ x), rel=0.03)


# ---- dropout and DropConnect


@pytest.mark.slow
def test_dropout_moves_two_units_along_its_slow_flow():
    q0, p, rate = 0.8, 0.01, 0.005
    units = np.sqrt([(1 + q0) / 2, (1 - q0) / 2])
    start = np.stack([units, units])
    process = NoisyDescent(
        Diagonal(), Fixed(start), np.ones((1, 2)), [1.0], learning_rate=rate,
        injections=(Dropout(p),),
    )  # fmt: skip
    updates = round((1 - p) / (rate * p))
    flow = rqf.simulate(
        slow_flow(process), Fixed(start), [0.0, float(updates)], substeps=400, members=1, key=KEY
    ).ys[0, -1]
    theta = product(flow)
    q = (theta[0] - theta[1]) / theta.sum()
    assert q == pytest.approx(learning.dropout_ratio(1.0, q0), rel=1e-4)
    ends = train(process, [0, updates], seeds=400, key=KEY, save=product).ys[:, 1]
    ratio = np.asarray((ends[:, 0] - ends[:, 1]) / ends.sum(1))
    # To first order in the variance of the gates, which is 0.01.
    assert ratio.mean() == pytest.approx(float(q), rel=0.015 + p)


@pytest.mark.slow
def test_the_mean_under_dropconnect_obeys_its_exact_recursion():
    rate, p = 0.02, 0.2
    process = regression(Fixed(np.arange(5.0)), (DropConnect(p),), learning_rate=rate)
    runs = train(process, [0, 100], seeds=4000, key=KEY)
    x, y = np.asarray(process.inputs)[0], float(process.targets[0])
    step = np.eye(5) - rate * (np.outer(x, x) + p / (1 - p) * np.diag(x**2))
    mean = np.arange(5.0)
    for _ in range(100):
        mean = step @ mean + rate * y * x
    assert_mean(runs.ys[:, 1], mean)


@pytest.mark.slow
def test_dropconnect_moves_a_regression_along_its_ridge_flow():
    # The exact mean follows it to first order in the variance of the gates, to the minimum of
    # Σ x²w² on x·w = y, where all x_i w_i are y/d.
    start = np.random.default_rng(0).standard_normal(5)
    errors = []
    for variance in (0.02, 0.01):
        process = regression(Normal((5,)), (DropConnect(variance / (1 + variance)),))
        x, y = np.asarray(process.inputs)[0], float(process.targets[0])
        rate = float(process.learning_rate)
        first = start + x * (y - x @ start) / (x @ x)
        updates = np.array([0.0, 1.0 / (rate * variance), 100.0 / (rate * variance)])
        _, flow, last = rqf.simulate(
            slow_flow(process), Fixed(first), updates, substeps=4000, members=1, key=KEY
        ).ys[0]
        np.testing.assert_allclose(x * np.asarray(last), y / 5, rtol=1e-4)
        step = np.eye(5) - rate * (np.outer(x, x) + variance * np.diag(x**2))
        end = np.linalg.solve(np.eye(5) - step, rate * y * x)
        mean = end + np.linalg.matrix_power(step, round(updates[1])) @ (first - end)
        errors.append(np.linalg.norm(mean - np.asarray(flow)))
    assert errors[0] < 0.02 * np.linalg.norm(first)
    assert errors[1] / errors[0] == pytest.approx(0.5, rel=0.1)


# ---- batches


@pytest.mark.slow
def test_batches_of_data_that_fit_leave_a_minimum_where_it_is():
    inputs = np.random.default_rng(1).standard_normal((6, 8))
    weights = np.random.default_rng(2).standard_normal(8)
    for batch in (WithReplacement(2), Reshuffled(2)):
        process = regression(Fixed(weights), (batch,), inputs, inputs @ weights)
        runs = train(process, [0, 50], seeds=2, key=KEY)
        np.testing.assert_allclose(runs.ys[:, 1], runs.ys[:, 0], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("injection", [WithReplacement, WithoutReplacement, Reshuffled])
def test_batches_of_data_that_can_be_fitted_end_without_error(injection):
    inputs = np.random.default_rng(1).standard_normal((6, 8))
    targets = inputs @ np.random.default_rng(2).standard_normal(8)
    start = np.random.default_rng(3).standard_normal(8)
    process = regression(Fixed(start), (injection(2),), inputs, targets)
    ends = np.asarray(train(process, [0, 60_000], seeds=2, key=KEY).ys[:, 1])
    np.testing.assert_allclose(ends @ inputs.T, np.tile(targets, (2, 1)), atol=1e-12)
    # What no example sees stays as it was.
    unseen = np.eye(8) - np.linalg.pinv(inputs) @ inputs
    np.testing.assert_allclose(ends @ unseen, np.tile(start @ unseen, (2, 1)), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("injection", [WithReplacement, WithoutReplacement])
def test_a_batch_has_the_covariance_of_its_kind(injection):
    # f = w and targets of variance s²: the gradient of one update from w = 0 is a batch's mean.
    targets = np.arange(8.0)
    process = regression(
        Fixed(np.zeros(1)), (injection(4),), np.ones((8, 1)), targets, learning_rate=1.0
    )
    moved = np.asarray(train(process, [0, 1], seeds=8000, key=KEY).ys[:, 1, 0])
    variance = targets.var() / 4
    if injection is WithoutReplacement:
        variance *= (8 - 4) / (8 - 1)
    assert_mean(moved, targets.mean())
    assert_mean((moved - targets.mean()) ** 2, variance)


@pytest.mark.slow
def test_reshuffled_batches_see_every_example_once_an_epoch_and_leave_far_less_noise():
    targets = np.random.default_rng(4).standard_normal(8)
    rate = 0.05
    ends = {}
    for kind in (WithReplacement, Reshuffled):
        process = regression(
            Fixed(np.array([targets.mean()])), (kind(1),), np.ones((8, 1)), targets,
            learning_rate=rate,
        )  # fmt: skip
        ends[kind] = np.asarray(train(process, [0, 1600], seeds=4000, key=KEY).ys[:, 1, 0])
    spread = targets.var()
    assert_mean((ends[WithReplacement] - targets.mean()) ** 2, rate * spread / (2 - rate))
    expected = sgd.epoch_variance(
        1.0, learning_rate=rate, variance=spread, samples=8, replacement=False
    )
    assert_mean((ends[Reshuffled] - targets.mean()) ** 2, expected)


# ---- plain noise and momentum


@pytest.mark.slow
def test_a_heavy_ball_in_a_well_has_its_exact_stationary_variance():
    rate, curvature, sigma, momentum = 0.3, 2.0, 0.5, 0.6
    process = regression(
        Fixed(np.zeros(1)), (Langevin(sigma),), np.full((1, 1), math.sqrt(curvature)), np.zeros(1),
        learning_rate=rate, momentum=momentum,
    )  # fmt: skip
    ends = np.asarray(train(process, [0, 100], seeds=8000, key=KEY).ys[:, 1, 0])
    options = {"learning_rate": rate, "gradient_variance": sigma**2, "momentum": momentum}
    assert_mean(ends**2, learning.stationary_variance(curvature, **options))
    # By the stationary covariance of (w, m) as the solution of its linear equation.
    step = np.array([[1 - rate * curvature, -rate * momentum], [curvature, momentum]])
    kick = sigma**2 * np.outer([-rate, 1], [-rate, 1])
    moments = np.linalg.solve(np.eye(4) - np.kron(step, step), kick.reshape(4))
    found = learning.stationary_variance(curvature, **options)
    assert found == pytest.approx(moments[0], rel=1e-9)


@pytest.mark.slow
def test_langevin_noise_makes_the_imbalance_a_martingale_of_its_own_diffusion():
    # dD = 2 (D² + 4)^{1/4} dB in time α²σ²k, by an Euler scheme of many small steps.
    rate, sigma, time, u = 0.02, 0.5, 0.3, 1.3
    process = hyperbola(u, rate, Langevin(sigma))
    updates = round(time / (rate * sigma) ** 2)
    ends = np.asarray(train(process, [0, updates], seeds=3000, key=KEY, save=imbalance).ys)[:, 1, 0]
    start = u**2 - u**-2
    random, d = np.random.default_rng(0), np.full(60_000, start)
    for _ in range(300):
        kick = math.sqrt(time / 300) * random.standard_normal(d.size)
        d = d + 2 * (d**2 + 4) ** 0.25 * kick
    assert_mean(ends, start, bias=0.05)
    assert np.var(ends) == pytest.approx(d.var(), rel=0.12)


# ---- deep linear networks


@pytest.mark.slow
def test_a_deep_linear_network_learns_each_mode_on_its_curve():
    teacher = np.diag([3.0, 1.0])
    layer, rate = 0.1 * np.eye(2, dtype=np.float32), 1e-3
    process = DeepLinear(teacher, [layer, layer], learning_rate=rate)
    updates = np.array([0, 500, 1500, 3000])
    first, second = train(process, updates, seeds=1, key=KEY).ys
    product = np.asarray(second[0] @ first[0])
    for i, s in enumerate((3.0, 1.0)):
        curve = linear_networks.balanced_mode(rate * updates, 0.01, target=s)
        np.testing.assert_allclose(product[:, i, i], curve, rtol=2 * rate * 3 * s)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_mode_of_equal_layers_learns_on_its_curve_to_first_order_in_the_step(depth):
    # du/dt = L u^{2 - 2/L} (s - u) for the product u of L equal layers.
    s, start, time = 1.5, 0.6, 1.0
    exact = solve_ivp(
        lambda _, u: depth * u ** (2 - 2 / depth) * (s - u), (0, time), [start**depth],
        rtol=1e-10, atol=1e-12,
    ).y[0, -1]  # fmt: skip
    if depth == 2:
        curve = linear_networks.balanced_mode(time, start**2, target=s)
        assert exact == pytest.approx(curve, rel=1e-8)
    errors = []
    for rate in (2e-3, 1e-3):
        process = DeepLinear([[s]], [[[start]]] * depth, learning_rate=rate)
        layers = train(process, [0, round(time / rate)], seeds=1, key=KEY).ys
        errors.append(float(np.prod([w[0, 1, 0, 0] for w in layers])) - exact)
    assert abs(errors[1]) < 5e-3
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b"), [(1.2, 0.3), (1.1, -0.2)])
def test_a_mode_of_unequal_layers_keeps_its_balance_and_its_curve_to_first_order(a, b):
    # D = a² - b² is conserved by the flow, and θ = ab obeys θ' = √(D² + 4θ²)(s - θ).
    s, times = 1.5, np.array([0.5, 1.0, 2.0])
    exact = linear_networks.unbalanced_mode(times, a * b, target=s, imbalance=a**2 - b**2)
    off, drift = [], []
    for rate in (2e-3, 1e-3):
        process = DeepLinear([[s]], [[[b]], [[a]]], learning_rate=rate)
        updates = np.append(0, np.round(times / rate)).astype(int)
        first, second = (
            np.asarray(w)[0, :, 0, 0] for w in train(process, updates, seeds=1, key=KEY).ys
        )
        off.append((first * second)[1:] - exact)
        balance = second**2 - first**2
        assert np.all(np.diff(balance) < 0)
        drift.append(balance[1:] / balance[0] - 1)
    for errors in (off, drift):
        assert np.abs(errors[1]).max() < 5e-3
        np.testing.assert_allclose(errors[0] / errors[1], 2, rtol=0.02)


@pytest.mark.slow
def test_an_update_of_one_mode_shrinks_its_balance_by_its_squared_error():
    a, b, rate = 1.5, 0.4, 0.1
    process = DeepLinear([[2.0]], [[[b]], [[a]]], learning_rate=rate)
    first, second = train(process, [0, 1], seeds=1, key=KEY).ys
    balance = np.asarray(second**2 - first**2)[0, :, 0, 0]
    error = 2.0 - a * b
    np.testing.assert_allclose(balance[1] / balance[0], 1 - rate**2 * error**2, rtol=1e-12)


@pytest.mark.slow
def test_noise_on_both_layers_makes_the_balance_of_a_network_diffuse():
    # At a = b = 1, s = 1 the sum of the two relaxes and the difference does not: E(a - b)² grows
    # by 2 α²A² in every update, to leading order.
    rate, noise, updates = 0.02, 0.1, 400
    process = DeepLinear([[1.0]], [[[1.0]], [[1.0]]], learning_rate=rate, noise=noise)
    first, second = train(process, [0, updates], seeds=4000, key=KEY).ys
    difference = np.asarray(second - first)[:, 1, 0, 0]
    assert_mean(difference**2, 2 * (rate * noise) ** 2 * updates, bias=2e-5)


# ---- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: regression(Normal((5,)), (WithReplacement(2),)), "`batch` must be at most the 1"),
        (lambda: regression(Normal((5,)), (Reshuffled(2),)), "`batch` must be at most the 1"),
        (lambda: regression(Normal((5,)), (3,)), r"`injections\[0\]` must be an injection of"),
        (lambda: WithoutReplacement(0), "`batch` must be at least 1; got 0"),
        (lambda: Dropout(1.0), r"`rate` must be in \[0, 1\); got 1"),
        (lambda: DropConnect(-0.1), r"`rate` must be in \[0, 1\); got -0.1"),
        (lambda: LabelNoise(-1.0), "`sigma` must be at least 0; got -1"),
        (
            lambda: regression(Normal((5,)), (), np.full((1, 5), np.inf), np.zeros(1)),
            "`inputs` must be finite; got inf",
        ),
        (
            lambda: regression(Normal((5,)), (), np.zeros((2, 5)), np.zeros(3)),
            r"must be of shapes \(n, features\) and \(n,\); got \(2, 5\) and \(3,\)",
        ),
        (
            lambda: NoisyDescent(3, Normal((5,)), ONE, [1.0], learning_rate=0.1),
            "`network` must be a network of",
        ),
        (
            lambda: slow_flow(regression(Normal((5,)), (Langevin(1.0),))),
            "one injection of LabelNoise, Dropout and DropConnect, besides batches; got Langevin",
        ),
        (lambda: slow_flow(regression(Normal((5,)), ())), "besides batches; got none"),
        (
            lambda: DeepLinear(np.eye(2), [np.zeros((3, 2)), np.zeros((2, 2))], learning_rate=0.1),
            r"of the shape of `teacher`, \(2, 2\); got shapes \[\(3, 2\), \(2, 2\)\]",
        ),
        (
            lambda: learning.stationary_variance(1.0, learning_rate=2.0, gradient_variance=1.0),
            r"`learning_rate` must keep the descent stable, below 2 .*`curvature`; got 2\.0",
        ),
        (lambda: learning.dropout_ratio(1.0, 1.5), "`ratio` must be at most 1; got 1.5"),
        (
            lambda: learning.label_noise_imbalance(-1.0, 0.5),
            "`time` must be finite and at least 0; got -1.0",
        ),
        (
            lambda: DeepLinear(np.diag([1.0, np.nan]), [np.eye(2), np.eye(2)], learning_rate=0.1),
            "`teacher` must be finite",
        ),
    ],
)
def test_a_bad_descent_has_one_clear_error(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()
