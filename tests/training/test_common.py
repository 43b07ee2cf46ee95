"""Theorems about descents under one noise: exponents of linear problems, and copies that meet."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _ensembles import assert_mean

from rqf_jax.analysis import LyapunovSpectrum
from rqf_jax.laws import Fixed, Normal
from rqf_jax.theory import sgd, synchronisation
from rqf_jax.training import Copies, LeastSquares, Process, Subspace, Tangents, data, train
from rqf_jax.training.injections import Dropout, LabelNoise, Reshuffled, WithReplacement

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
SQUARES = LeastSquares(lambda w, batch: batch[0] @ w - batch[1])


def regression(dim, batch, rate, momentum=None):
    """Least squares with fresh Gaussian inputs, and labels that nobody can fit."""

    def law(key):
        x = Normal((batch, dim + 1))(key)
        return x[:, :-1], x[:, -1]

    return Process(SQUARES, Normal((dim,)), data.Fresh(law), optimiser=optax.sgd(rate, momentum))


def spectrum(process, updates, exponents=1, seeds=200):
    runs = train(Tangents(process, exponents), [0, updates], seeds=seeds, key=KEY)
    return LyapunovSpectrum(runs.ts, jnp.diff(runs.ys, axis=1))


@pytest.mark.parametrize(
    ("rate", "dim", "batch"), [(1.9, 1, 1), pytest.param(0.9, 2, 2, marks=pytest.mark.slow)]
)
def test_the_exponents_of_a_regression_are_their_closed_form(rate, dim, batch):
    found = spectrum(regression(dim, batch, rate), 500, dim)
    expected = synchronisation.exponent(learning_rate=rate, dim=dim, batch=batch)
    assert abs(found.exponents[0] - expected) < 5 * found.stderr[0]
    assert found.stderr[0] < 0.01
    if dim == 2:
        # All exponents add up to E ln|det(1 - αĈ)|, from the same seeds' law.
        x = RNG.standard_normal((400_000, batch, dim))
        c = np.einsum("sbi,sbj->sij", x, x) / batch
        log = np.log(np.abs(np.linalg.det(np.eye(dim) - rate * c)))
        total, error = found.total
        off = np.hypot(float(error), log.std() / np.sqrt(log.size))
        assert abs(float(total) - log.mean()) < 5 * off


def test_the_exponent_of_a_momentum_counts_its_memory_too():
    # On one parabola, w ← w - α m and m ← b m + κ w: a map of two numbers.
    process = Process(
        lambda w, _: jnp.sum(w**2) / 2, Normal((1,)), optimiser=optax.sgd(0.1, momentum=0.3)
    )
    slow = np.abs(np.linalg.eigvals([[1 - 0.1, -0.1 * 0.3], [1.0, 0.3]])).max()
    runs = train(Tangents(process), [0, 60, 160], seeds=1, key=KEY)
    assert float(runs.ys[0, 2, 0] - runs.ys[0, 1, 0]) / 100 == pytest.approx(np.log(slow))


@pytest.mark.slow
def test_copies_have_one_noise_so_that_copies_of_one_start_are_one():
    def net(key):
        return eqx.nn.MLP(2, "scalar", 3, 1, activation=jnp.tanh, key=jax.random.key(3))

    def loss(net, batch):
        x, y, gates = batch
        return jnp.mean((jax.vmap(net)(x * gates) - y) ** 2)

    x = RNG.standard_normal((6, 2))
    process = Process(
        loss, net, (x, np.sin(x[:, 0]), np.ones((6, 2))), optimiser=optax.adam(0.03),
        injections=[Reshuffled(3), LabelNoise(0.3), Dropout(0.2)],
    )  # fmt: skip
    pairs = jax.tree.leaves(train(Copies(process, 2), [0, 5], seeds=3, key=KEY).ys)
    alone = jax.tree.leaves(train(process, [0, 5], seeds=3, key=KEY).ys)
    for pair, one in zip(pairs, alone, strict=True):
        assert np.abs(np.asarray(one[:, 1] - one[:, 0])).max() > 1e-3
        np.testing.assert_allclose(pair, np.stack([one, one], 2), rtol=1e-12)


def test_copies_of_a_regression_meet_below_the_critical_rate_and_part_above():
    # Between the two thresholds they meet although their mean square distance grows.
    critical = synchronisation.critical_rate()
    assert sgd.gaussian_critical_rate([1.0]) < 1.2 < critical < 4.0
    for rate in (1.2, 4.0):
        process = Copies(regression(1, 1, rate), 2)
        runs = train(process, [0, 30], seeds=400, key=KEY, save=lambda w: jnp.abs(w[0] - w[1]))
        late = np.log(np.asarray(runs.ys[:, 1, 0]) / np.asarray(runs.ys[:, 0, 0]))
        assert (late.mean() < 0) == (rate < critical)
        assert_mean(late, 30 * synchronisation.exponent(learning_rate=rate))


@pytest.mark.slow
def test_copies_share_examples_that_each_seed_draws():
    process = Process(
        SQUARES, Normal((1,)), data.Sampled(lambda key: (Normal((4, 1))(key), jnp.zeros(4))),
        optimiser=optax.sgd(0.1), injections=[WithReplacement(1)],
    )  # fmt: skip
    runs = np.asarray(train(Copies(process, 3), [0, 1], seeds=2, key=KEY).ys)[..., 0]
    shrunk = runs[:, 1] / runs[:, 0]
    np.testing.assert_allclose(shrunk, shrunk[:, :1].repeat(3, 1), rtol=1e-12)


@pytest.mark.slow
def test_weights_that_do_not_learn_have_no_tangents():
    law = Subspace(Fixed(np.ones(5)), 2)
    process = Process(lambda w, _: jnp.sum(w**2) / 2, law, optimiser=optax.sgd(0.3))
    ys = np.asarray(train(Tangents(process, 2), [0, 40, 60], seeds=1, key=KEY).ys)[0]
    p = np.asarray(process.start(jax.vmap(jax.random.key)(jnp.arange(1))[0]).frozen.directions)
    assert p.shape == (5, 2)
    assert np.all(np.diff(ys[2]) < 0) and np.all(ys[2] < 0)
    with pytest.raises(ValueError, match="`exponents` must be at most 2, the weights that learn"):
        Tangents(process, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Copies(3, 2), "`process` must be a descent of"),
        (lambda: Copies(regression(1, 1, 0.1), 1), "`copies` must be at least 2; got 1"),
        (lambda: Tangents(3), "`process` must be a descent of"),
        (lambda: synchronisation.exponent(learning_rate=0.0), "`learning_rate` must be finite and"),
        (lambda: synchronisation.critical_rate(dim=0), "`dim` must be at least 1; got 0"),
    ],
)
def test_a_bad_argument_of_common_noise_has_one_clear_error(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
