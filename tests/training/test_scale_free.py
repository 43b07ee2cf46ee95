"""Theorems about learning without growing logits, and about the growth of those that grow."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rqf_jax as rqf
from rqf_jax.drifts import Descent
from rqf_jax.laws import Fixed, Product
from rqf_jax.theory import learning
from rqf_jax.training import Process, log_stablemax, perpendicular, train

KEY = jax.random.key(0)
X = jnp.array([[1.0, 0.3], [0.8, -0.5], [2.0, 1.0]])


def logistic(w):
    """The cross entropy of separable data with signs +1."""
    return jnp.mean(jax.nn.softplus(-X @ w))


def flow(drift, law, ts, substeps, log=False):
    sde = rqf.SDE(drift, rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
    sde = rqf.models.in_log_time(sde) if log else sde
    runs = rqf.simulate(
        sde, law, ts, substeps=substeps, members=1, key=KEY, solver=diffrax.Dopri8()
    )
    return jax.tree.map(lambda y: np.asarray(y[0]), runs.ys)


def test_the_gradient_across_weights_keeps_the_norm_of_every_array():
    def loss(w):
        return logistic(w["a"]) + jnp.sum(jnp.cos(w["b"]))

    start = {"a": np.array([0.5, 1.5]), "b": np.array([[0.3, -2.0], [1.0, 0.1]])}
    law = Product({name: Fixed(w) for name, w in start.items()})
    found = flow(Descent(jax.grad(loss), perpendicular=True), law, [0.0, 3.0, 300.0], 600)
    for w in found.values():
        norms = np.linalg.norm(w.reshape(3, -1), axis=1)
        np.testing.assert_allclose(norms, norms[0], rtol=1e-9)
    values = [loss({k: w[i] for k, w in found.items()}) for i in range(3)]
    assert values[0] > values[1] > values[2]
    # At rest the gradient is along the weights: the best direction for that norm.
    w, g = found["a"][-1], np.asarray(jax.grad(logistic)(found["a"][-1]))
    assert abs(w[0] * g[1] - w[1] * g[0]) < 1e-3 * np.linalg.norm(w) * np.linalg.norm(g)


def test_weights_that_have_separated_their_data_grow_by_one_over_the_margin_for_each_factor_e():
    direction, margin = learning.max_margin(X)
    # A homogeneous search of all directions.
    turns = np.linspace(-np.pi, np.pi, 200_001)
    least = (np.asarray(X) @ np.array([np.cos(turns), np.sin(turns)])).min(0)
    assert margin == pytest.approx(least.max(), abs=1e-5)
    np.testing.assert_allclose(X @ direction, np.maximum(X @ direction, margin), rtol=1e-12)
    # To t = 1e7, on the logarithmic clock on which the flow is not stiff.
    ts = np.log1p([0.0, 1e6, 1e7])
    w = flow(Descent(jax.grad(lambda w: 3 * logistic(w))), Fixed([0.5, 1.5]), ts, 400, log=True)
    norms = np.linalg.norm(w, axis=1)
    assert (norms[2] - norms[1]) / (ts[2] - ts[1]) == pytest.approx(1 / margin, rel=0.01)
    assert w[2] @ direction / norms[2] > 0.99


@pytest.mark.slow
def test_a_step_across_weights_grows_their_square_by_its_own():
    options = {"optimiser": optax.chain(perpendicular(), optax.sgd(0.1))}
    process = Process(lambda w, _: logistic(w), Fixed([0.5, 1.5]), **options)
    w = np.asarray(train(process, [0, 1], seeds=1, key=KEY).ys[0])
    moved = w[1] - w[0]
    assert moved @ w[0] == pytest.approx(0, abs=1e-15)
    assert w[1] @ w[1] == pytest.approx(w[0] @ w[0] + moved @ moved, rel=1e-12)
    g = np.asarray(jax.grad(logistic)(jnp.asarray(w[0])))
    transform = perpendicular(rescale=True)
    part = transform.update(jnp.asarray(g), transform.init(None), jnp.asarray(w[0]))[0]
    assert np.linalg.norm(part) == pytest.approx(np.linalg.norm(g), rel=1e-12)
    np.testing.assert_allclose(part[0] * moved[1], part[1] * moved[0], rtol=1e-10)
    with pytest.raises(ValueError, match="`params` must be the weights"):
        transform.update(jnp.asarray(g), transform.init(None))


@pytest.mark.parametrize(
    ("kind", "bits"), [(np.float16, 11), (np.float32, 24), (np.float64, 53), ("bfloat16", 8)]
)
def test_stablemax_does_not_collapse_where_a_softmax_has(kind, bits):
    both = jax.jit(jax.value_and_grad(lambda z: -log_stablemax(z)[0]))
    for gap in (learning.collapse_gap(bits) + 0.1, 2 * learning.collapse_gap(bits)):
        loss, slope = map(np.asarray, both(np.array([gap, 0.0], jnp.dtype(kind))))
        assert loss > 0 and slope[0] < 0
        assert float(loss) == pytest.approx(np.log((gap + 2) / (gap + 1)), rel=0.1)


def test_stablemax_has_its_values_and_the_slope_one_at_zero():
    z = jnp.array([1.5, 0.0, -2.0])
    s = np.array([2.5, 1.0, 1 / 3])
    np.testing.assert_allclose(jax.jit(log_stablemax)(z), np.log(s / s.sum()), rtol=1e-6)
    slope = jax.jit(jax.grad(lambda z: log_stablemax(z)[1]))(0.0 * z)
    np.testing.assert_allclose(slope, [-1 / 3, 2 / 3, -1 / 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Descent(3.0), "`gradient` must be a function of weights"),
        (lambda: Descent(logistic, perpendicular=2), "`perpendicular` must be True or False"),
        (lambda: perpendicular(rescale=2), "`rescale` must be True or False"),
        (lambda: log_stablemax(1.0), "`logits` must have an axis"),
        (lambda: learning.max_margin([[1.0], [-1.0]]), "`examples` must be separable"),
        (lambda: learning.max_margin([1.0]), r"`examples` must be \(samples, features\)"),
    ],
)
def test_a_bad_argument_of_scale_free_learning_has_one_clear_error(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_largest_logit_is_that_of_the_attention():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((5, 3)))
    m = np.random.default_rng(1).standard_normal((3, 3))
    found = rqf.observables.largest_logit(x, m)
    assert float(found) == pytest.approx(float((x @ m @ x.T).max()), rel=1e-12)
    unit = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    assert float(rqf.observables.largest_logit(unit, 2.5)) == pytest.approx(2.5)
    with pytest.raises(ValueError, match=r"`query_key` must be a number or a matrix \(3, 3\)"):
        rqf.observables.largest_logit(x, np.eye(2))


@pytest.mark.slow
def test_logits_of_weights_that_learn_are_seen_as_they_grow():
    # One token attends to itself or to another: queries and keys grow along what is asked.
    tokens = jnp.eye(2)

    def loss(w, _):
        scores = tokens @ (w["query"].T @ w["key"]) @ tokens.T
        return -jnp.mean(jnp.diagonal(jax.nn.log_softmax(scores)))

    def logit(w):
        return rqf.observables.largest_logit(tokens, w["query"].T @ w["key"])

    law = Product({name: Fixed(np.eye(2)) for name in ("query", "key")})
    process = Process(loss, law, optimiser=optax.sgd(1.0))
    seen = np.asarray(train(process, [0, 10, 100], seeds=1, key=KEY, save=logit).ys[0])
    assert seen[0] == pytest.approx(1) and np.all(np.diff(seen) > 0.5)
