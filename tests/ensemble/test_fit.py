"""Gradient fits end where closed forms say, and wrong arguments are named."""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _ensembles import isotropic

import rqf_jax as rqf
from rqf_jax.losses import (
    MaximumMeanDiscrepancy,
    SimulatedMoments,
    TransitionLikelihood,
    causal_weights,
)

S, RATE = 0.8, 1.5
TS = jnp.asarray([0.0, 0.2, 0.5, 1.0])
LAW = rqf.laws.Zeros((1, 1))
KEY = jax.random.key(3)


def square(x):
    return x[0, 0] ** 2


def strength(sde):
    return sde.noise.sigma


@functools.cache
def paths(s, key=0, members=64):
    """Values (members, times) of an Ornstein-Uhlenbeck process from 0, exact in law."""
    sde = rqf.models.ginibre(s, RATE)
    runs = rqf.simulate(sde, LAW, TS, substeps=1, members=members, key=jax.random.key(key))
    return np.asarray(runs.ys[:, :, 0, 0])


def fitted(loss, start=0.3, steps=150, where=strength, **options):
    return rqf.fit(
        rqf.models.ginibre(start, RATE), loss, where=where, steps=steps, key=KEY, **options
    )


@pytest.mark.slow
def test_simulated_moments_end_at_their_weighted_least_squares():
    target = S**2 * (1 - np.exp(-2 * RATE * np.asarray(TS))) / (2 * RATE)
    error = np.array([1.0, 0.1, 0.2, 0.3])
    loss = SimulatedMoments(LAW, TS, target, square, substeps=1, members=64, stderr=error)
    result = fitted(loss)
    # X = s Z with Z the same at every step, so the loss is a parabola in s².
    z = (paths(1.0, 3) ** 2).mean(0) / error
    expected = math.sqrt(z @ (target / error) / (z @ z))
    assert float(result.sde.noise.sigma) == pytest.approx(expected, rel=1e-3)
    assert result.history.shape == (151,)
    residual = expected**2 * z - target / error
    assert float(result.history[-1]) == pytest.approx(np.mean(residual**2), rel=1e-4)
    assert float(result.sde.drift.rate) == RATE
    # 64 members are an error of √(2/64) in s² of one moment.
    assert abs(expected**2 / S**2 - 1) < 4 * math.sqrt(2 / 64)


@pytest.mark.slow
def test_squared_distances_of_paths_end_without_noise():
    observed = jnp.asarray(paths(S, 1, 64))

    def squared(sde, key):
        runs = rqf.simulate(sde, LAW, TS, substeps=1, members=64, key=key)
        return jnp.mean((runs.ys[:, :, 0, 0] - observed) ** 2)

    assert float(fitted(squared).sde.noise.sigma) ** 2 < 0.05 * S**2


def test_squared_distances_of_paths_are_refused_by_name():
    with pytest.raises(AttributeError, match="on purpose"):
        getattr(rqf.losses, "PathMSE")  # noqa: B009
    with pytest.raises(AttributeError, match="no attribute 'Absent'"):
        getattr(rqf.losses, "Absent")  # noqa: B009


@pytest.mark.slow
def test_the_discrepancy_is_that_of_two_gaussians():
    # Of the last time alone: E k = ℓ/√(ℓ² + a² + b²) for N(0, a²) and N(0, b²).
    ts, s = jnp.asarray([0.0, 1.0]), jnp.asarray(1.4)
    samples = jnp.asarray(paths(S, 1, 400))[:, [0, 3], None, None]
    loss = MaximumMeanDiscrepancy(LAW, ts, samples, substeps=1, members=400, bandwidth=0.5)
    sde = rqf.models.ginibre(s, RATE)
    found = np.asarray(
        jax.jit(jax.vmap(lambda key: loss(sde, key)))(jax.random.split(KEY, 40)), float
    )
    a, b = ((1 - math.exp(-2 * RATE)) / (2 * RATE) * v**2 for v in (float(s), S))

    def kernel(total):
        return 0.5 / math.sqrt(0.25 + total)

    # The samples are given: their own part is what it is, and theirs with X is an average of
    # known functions of them.
    y = np.asarray(samples)[:, 1, 0, 0]
    among = (np.exp(-((y[:, None] - y) ** 2) / 0.5).sum() - 400) / (400 * 399)
    cross = np.mean(0.5 / math.sqrt(0.25 + a) * np.exp(-(y**2) / (2 * (0.25 + a))))
    expected = kernel(2 * a) + among - 2 * cross
    assert abs(found.mean() - expected) < 5 * found.std() / math.sqrt(40)
    assert abs(among - kernel(2 * b)) < 0.1 * among
    assert expected > 5 * found.std()
    default = MaximumMeanDiscrepancy(LAW, ts, samples, substeps=1, members=4)
    distances = np.abs(y[:, None] - y)[np.triu_indices(400, 1)]
    assert float(default.bandwidth) == pytest.approx(np.median(distances) / math.sqrt(2))


@pytest.mark.slow
def test_the_discrepancy_finds_the_strength():
    samples = jnp.asarray(paths(S, 1, 400))[:, :, None, None]
    loss = MaximumMeanDiscrepancy(LAW, TS, samples, substeps=1, members=400)
    # 400 + 400 members with three values each bound the error of ln s by √(2/(2·3·400)).
    assert abs(math.log(float(fitted(loss).sde.noise.sigma) / S)) < 4 * 2 / math.sqrt(2400)


@pytest.mark.slow
def test_the_likelihood_of_transitions_ends_at_the_regression():
    """A linear pull with additive noise: the exact maximum is a regression of X' on X."""
    x = paths(S, 1)
    loss = TransitionLikelihood(jnp.asarray(x[:, 1:, None, None]), 0.4 * jnp.arange(3.0))
    before, after = x[:, 1:-1].ravel(), x[:, 2:].ravel()
    a = before @ after / (before @ before)
    rate = -math.log(a) / 0.4
    variance = np.mean((after - a * before) ** 2)
    result = fitted(
        loss,
        where=lambda sde: (sde.noise.sigma, sde.drift.rate),
        optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 600)),
        steps=600,
    )
    assert float(result.sde.drift.rate) == pytest.approx(rate, rel=1e-3)
    expected = math.sqrt(variance * 2 * rate / (1 - a * a))
    assert float(result.sde.noise.sigma) == pytest.approx(expected, rel=1e-3)
    assert float(result.history[-1]) == pytest.approx(
        (1 + math.log(2 * math.pi * variance)) / 2, rel=1e-5
    )


class Turning(rqf.noises.AbstractNoise):
    """Two numbers moved in a way that depends on them, so that Itô and Stratonovich differ."""

    sigma: jax.Array = eqx.field(converter=jnp.asarray)

    def shape(self, x):
        return (2,)

    def __call__(self, t, x, dw):
        return self.sigma * x[:, ::-1] * dw[None]

    def calculus(self, manifold):
        return rqf.noises.Calculus.STRATONOVICH


def test_a_step_has_the_mean_and_covariance_of_the_linearised_ito_equation():
    x, y, h, s = np.array([1.0, 2.0]), np.array([1.3, 1.9]), 0.3, 0.4
    drift = np.array([[0.2, 1.0], [-1.0, 0.1]])
    sde = rqf.SDE(rqf.drifts.Linear(drift), Turning(s), rqf.manifolds.Euclidean())
    loss = TransitionLikelihood(jnp.asarray([[x, y]])[:, :, None, :], jnp.asarray([0.0, h]))
    # dx = s y ∘ dB¹, dy = s x ∘ dB²: neither column moves what it depends on.
    c = np.diag((s * x[::-1]) ** 2)
    values, vectors = np.linalg.eig(drift)
    rotate = np.linalg.inv(vectors)

    def flow(time):
        return (vectors * np.exp(values * time) @ rotate).real

    nodes, weights = np.polynomial.legendre.leggauss(20)
    covariance = sum(
        w * h / 2 * flow(h * (1 + n) / 2) @ c @ flow(h * (1 + n) / 2).T
        for n, w in zip(nodes, weights, strict=True)
    )
    off = y - flow(h) @ x
    expected = (off @ np.linalg.solve(covariance, off) + np.log(np.linalg.det(covariance))) / 2
    assert float(eqx.filter_jit(loss)(sde, KEY)) == pytest.approx(
        expected + math.log(2 * math.pi), rel=1e-10
    )


def bad_loss(sde, key):
    return sde.noise.sigma * jnp.nan


def bad_slope(sde, key):
    return jnp.sqrt(sde.noise.sigma - sde.noise.sigma)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"where": 1}, "`where` must be a function"),
        ({"where": lambda s: s.noise.absent}, "`where` must choose parameters"),
        ({"where": lambda s: s.noise.sigma**2}, "`where` must choose parameters"),
        ({"where": lambda s: ()}, "at least one array"),
        ({"where": lambda s: s.manifold}, "at least one array"),
        ({"steps": 0}, "`steps` must be at least 1; got 0"),
        ({"optimizer": "adam"}, "`optimizer` must be a gradient transformation"),
        ({"loss": 3}, "`loss` must be a function"),
        ({"loss": lambda s, key: s.noise.sigma[None]}, "`loss` must return one real number"),
        ({"start": 0.0}, "`noise.sigma` must start above its bound 0"),
    ],
)
def test_a_wrong_argument_of_a_fit_is_named(unchecked, changes, words):
    arguments = {"loss": lambda s, key: s.noise.sigma} | changes
    with pytest.raises(ValueError, match=words):
        fitted(**arguments)


def test_a_loss_that_is_not_finite_stops_the_fit():
    with pytest.raises(rqf.NonFiniteError, match="loss became nan at step 0"):
        fitted(bad_loss)
    with pytest.raises(rqf.NonFiniteError, match="gradient of the loss became nan at step 0"):
        fitted(bad_slope)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SimulatedMoments(LAW, TS, np.zeros(3), square, substeps=1, members=4), "`target`"),
        (
            lambda: SimulatedMoments(
                LAW, TS, np.zeros(4), square, substeps=1, members=4, stderr=np.zeros(4)
            ),
            "`stderr` must be positive",
        ),
        (
            lambda: SimulatedMoments(LAW, TS, np.zeros(4), square, substeps=1, members=0),
            "`members`",
        ),
        (lambda: SimulatedMoments(3, TS, np.zeros(4), square, substeps=1, members=4), "`law`"),
        (
            lambda: MaximumMeanDiscrepancy(
                LAW, TS, np.zeros((1, 4)), square, substeps=1, members=4
            ),
            "`samples`",
        ),
        (
            lambda: MaximumMeanDiscrepancy(
                LAW, TS, np.zeros((3, 4)), square, substeps=1, members=4
            ),
            "`bandwidth` must be positive",
        ),
        (lambda: TransitionLikelihood(np.zeros((2, 4, 1))), "`ts` must be given"),
        (lambda: TransitionLikelihood(np.zeros((2, 3, 1)), TS), "`runs` must have shape"),
        (lambda: TransitionLikelihood(np.zeros((2, 4, 1)), -TS), "strictly increasing"),
        (
            lambda: TransitionLikelihood(np.zeros((2, 4, 1, 2)), TS)(isotropic(1.0), KEY),
            "Sphere",
        ),
    ],
)
def test_a_wrong_argument_of_a_loss_is_named(unchecked, make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(optax.lbfgs(), marks=pytest.mark.slow),
        optax.chain(optax.adam(0.05), optax.contrib.reduce_on_plateau(patience=3)),
    ],
    ids=["lbfgs", "reduce_on_plateau"],
)
def test_optimizers_that_ask_for_the_loss_get_it(optimizer):
    target = S**2 * (1 - np.exp(-2 * RATE * np.asarray(TS))) / (2 * RATE)
    loss = SimulatedMoments(LAW, TS, target, square, substeps=1, members=16)
    start = fitted(loss, steps=1, optimizer=optimizer).history[0]
    assert fitted(loss, steps=40, optimizer=optimizer).history[-1] < 0.5 * start


def test_causal_weights_are_the_exponential_of_all_that_is_wrong_before_and_no_function(refused):
    errors = jnp.asarray([0.3, 0.0, 2.0, 0.5])
    expected = np.exp(-0.7 * np.array([0.0, 0.3, 0.3, 2.3]))
    np.testing.assert_allclose(causal_weights(errors, 0.7), expected, rtol=1e-12)
    slope = jax.grad(lambda e: jnp.sum(causal_weights(e, 0.7) * e))(errors)
    np.testing.assert_allclose(slope, expected, rtol=1e-12)
    refused(lambda: causal_weights(jnp.ones((2, 2))), "`errors` must have shape (times,)")
    refused(lambda: causal_weights([1.0, -1.0]), "`errors` must not be negative; got -1")
    refused(lambda: causal_weights([1.0], -1.0), "`strictness` must be at least 0; got -1")


@pytest.mark.slow
def test_causal_weights_find_lorenz_parameters_where_the_plain_error_does_not():
    """From one start over four Lyapunov times, with parameters a fifth to a third off."""
    truth, guess = jnp.asarray([10.0, 28.0, 8 / 3]), jnp.asarray([8.0, 34.0, 2.0])
    h, every, count = 0.0125, 4, 90

    def path(p):
        flow = rqf.systems.Lorenz63(*p)
        time = jnp.zeros(())

        def step(x, _):
            a = flow(time, x)
            b = flow(time, x + h / 2 * a)
            c = flow(time, x + h / 2 * b)
            d = flow(time, x + h * c)
            return x + h / 6 * (a + 2 * b + 2 * c + d), x

        return jax.lax.scan(step, jnp.asarray([1.0, 3.0, 15.0]), length=every * count)[1][::every]

    seen = path(truth)

    def fit(strictness):
        def loss(p):
            errors = jnp.mean((path(p) - seen) ** 2, 1)
            return jnp.sum(causal_weights(errors, strictness) * errors)

        descent = optax.chain(
            optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.05, 2000))
        )

        def update(carry, _):
            p, state = carry
            change, state = descent.update(jax.grad(loss)(p), state, p)
            return (optax.apply_updates(p, change), state), None

        with jax.numpy_dtype_promotion("standard"):
            start = guess, descent.init(guess)
            return jax.jit(lambda: jax.lax.scan(update, start, length=2000)[0][0])()

    assert np.all(np.abs(fit(1.0) / truth - 1) < 0.01)
    assert np.any(np.abs(fit(0.0) / truth - 1) > 0.05)
