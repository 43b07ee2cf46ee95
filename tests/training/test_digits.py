"""A network on handwritten digits from end to end: its loss, its curvature, its fluctuations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rqf_jax.analysis import curvature
from rqf_jax.training import Process, train
from rqf_jax.training.injections import WithReplacement

KEY = jax.random.key(0)
DECAY = 0.01


def law(key):
    """A network of two layers, in float32."""
    net = eqx.nn.MLP(64, 10, 16, 1, activation=jax.nn.tanh, key=key)
    return jax.tree.map(lambda a: a.astype("float32") if eqx.is_inexact_array(a) else a, net)


def cross_entropy(net, batch):
    logits = jax.vmap(net)(batch[0])
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), batch[1][:, None], 1))


def decayed(net, batch):
    floats = jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array))
    return cross_entropy(net, batch) + DECAY / 2 * sum(jnp.sum(leaf**2) for leaf in floats)


@pytest.fixture(scope="module")
def digits():
    """Every sixth digit, in float32, and its label."""
    found = pytest.importorskip("sklearn.datasets").load_digits()
    return (found.data[::6] / 16).astype(np.float32), found.target[::6].astype(np.int32)


@pytest.mark.slow
def test_fluctuation_and_dissipation_balance_in_a_stationary_network(digits):
    # E |w|² stays: E w·∇L = (α/2) E |gradient|², over seeds and late times, within its error.
    rate, batch = jnp.float32(0.2), 8
    process = Process(
        decayed, law, digits, optimiser=optax.sgd(0.2), injections=[WithReplacement(batch)]
    )
    see = curvature.Curvature(decayed, digits, learning_rate=rate, batch=batch, key=KEY, probes=4)
    runs = train(process, range(3000, 6001, 250), seeds=32, key=KEY, save=see)
    ys = {name: np.asarray(y, float).mean(1) for name, y in runs.ys.items()}
    apart = ys["dissipation"] - ys["fluctuation"]
    error = apart.std(ddof=1) / np.sqrt(apart.size)
    assert abs(apart.mean()) < 4 * error
    assert error < 0.05 * ys["fluctuation"].mean()
    # Stable, although the trace is above its bound for losses that are fitted exactly.
    assert np.all(ys["rate_sharpness"] < 2) and np.all(ys["rate_trace"] > 2)


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", [optax.sgd(0.2), optax.adam(3e-3)], ids=["sgd", "adam"])
def test_a_network_on_digits_learns_and_its_hessian_has_about_as_many_outliers_as_classes(
    digits, optimiser
):
    process = Process(cross_entropy, law, digits, optimiser=optimiser,
                      injections=[WithReplacement(32)])  # fmt: skip
    runs = train(process, [0, 600], seeds=4, key=KEY)
    net = law(KEY)

    @eqx.filter_jit
    def look(net):
        top = curvature.hessian_eigenvalues(
            lambda w: cross_entropy(w, digits), net, 24, key=KEY, steps=60
        )
        return cross_entropy(net, digits), top

    counts = []
    for seed in range(4):
        ends = eqx.combine(jax.tree.map(lambda y, i=seed: y[i, 1], runs.ys), net)
        loss, top = look(ends)
        assert float(loss) < 0.5
        values = np.asarray(top.values, float)
        assert np.all(np.asarray(top.errors)[:10] < 0.02 * values[0])
        counts.append(top.outliers())
    # Ten classes; the number is a rule of thumb.
    assert 6 <= np.median(counts) <= 10
