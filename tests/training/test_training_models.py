"""Theorems about larger learners: a binary machine against enumeration, a language model."""

import itertools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _ensembles import assert_mean

import rqf_jax as rqf
from rqf_jax.analysis import fit_marchenko_pastur, tail_exponent
from rqf_jax.laws import Fixed, Normal
from rqf_jax.theory import spectra
from rqf_jax.training import GPT, BernoulliRBM, Process, data, gpt, train

KEY = jax.random.key(0)


# ---- a binary machine


def bits(count):
    """All vectors of zeros and ones."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=count)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.slow
def test_an_update_of_a_binary_machine_climbs_its_likelihood_on_average():
    # Chains that were given thirty sweeps have the machine's law; both means by enumeration.
    random = np.random.default_rng(0)
    weights = random.standard_normal((2, 3))
    data = (random.random((20, 3)) < 0.3).astype(float)
    process = BernoulliRBM(data, Fixed(weights), learning_rate=1.0, batch=8, sweeps=30)
    after, visible_bias, hidden_bias = train(process, [0, 1], seeds=3000, key=KEY).ys

    bias = np.asarray(visible_bias[0, 0])
    np.testing.assert_allclose(sigmoid(bias), data.mean(0).clip(0.01, 0.99), rtol=1e-6)
    visible = bits(3)
    # Σ_h exp(h W v + a v) = e^{a v} Π (1 + e^{W v}).
    law = np.exp(visible @ bias) * np.prod(1 + np.exp(visible @ weights.T), axis=1)
    law = law / law.sum()
    dreamt = np.einsum("s,si,sj->ij", law, sigmoid(visible @ weights.T), visible)
    seen = sigmoid(data @ weights.T).T @ data / len(data)
    assert_mean(after[:, 1], weights + seen - dreamt)
    assert_mean(visible_bias[:, 1], bias + data.mean(0) - law @ visible)
    means = sigmoid(data @ weights.T).mean(0) - law @ sigmoid(visible @ weights.T)
    assert_mean(hidden_bias[:, 1], means)


@pytest.mark.slow
def test_a_binary_machine_learns_digits_in_a_few_directions_that_leave_the_noise():
    digits = pytest.importorskip("sklearn.datasets").load_digits().data
    data = (digits > 7.5).astype(np.float32)
    law = Normal((32, 64), jnp.float32(0.02))
    process = BernoulliRBM(data, law, learning_rate=0.05, batch=64)
    weights, visible_bias, _ = train(process, [0, 2000], seeds=2, key=KEY).ys
    values = np.linalg.svd(np.asarray(weights), compute_uv=False)
    assert fit_marchenko_pastur(np.sort(values[0, 0]), 64).outliers.size == 0
    assert fit_marchenko_pastur(np.sort(values[0, 1]), 64).outliers.size > 3
    # A pseudo-likelihood: each pixel guessed from the others, against its frequency alone.
    w, a = np.asarray(weights[0, 1]), np.asarray(visible_bias[0, 1])
    some = data[:300]

    def free_energy(v):
        return -v @ a - np.sum(np.log1p(np.exp(v @ w.T)), axis=-1)

    flipped = np.stack([free_energy(np.abs(some - np.eye(64)[j])) for j in range(64)], axis=1)
    guess = np.mean(np.log1p(np.exp(free_energy(some)[:, None] - flipped)))
    share = data.mean(0).clip(1e-9, 1 - 1e-9)
    alone = -np.mean(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert guess < 0.75 * alone


# ---- a language model

SMALL = {"layers": 1, "heads": 2, "width": 8, "context": 6, "vocabulary": 5, "batch": 4}


def small(**changes):
    """A tiny model of a text of period 3, in float32."""
    text = np.tile([0, 3, 1], 40)
    options = SMALL | {"learning_rate": jnp.float32(0.01), "weight_decay": 0.1} | changes
    return GPT(text, **options)


@pytest.mark.slow
def test_a_language_model_sees_what_was_before_and_nothing_of_what_comes():
    model = small().law(KEY)
    first = np.asarray(model(jnp.array([0, 1, 2, 3])))
    second = np.asarray(model(jnp.array([0, 1, 4, 4])))
    assert first.shape == (4, 5)
    np.testing.assert_allclose(first[:2], second[:2], rtol=1e-5)
    assert np.abs(first[2:] - second[2:]).max() > 1e-2


@pytest.mark.slow
def test_the_first_step_of_adamw_has_one_size_for_all_weights():
    # Every entry moves by its gradient's sign and by its decay: lr (±1 - weight_decay w).
    process = small()
    runs = train(process, [0, 1], seeds=1, key=KEY)
    before, after = np.asarray(runs.ys.value[0], float)
    step = (after - before) / 0.01 + 0.1 * before
    assert np.all(np.abs(np.abs(step) - 1) < 5e-3)


@pytest.mark.slow
def test_a_language_model_is_the_general_process_of_its_parts():
    # The same law, pieces of text, cross entropy and AdamW, put together by hand.
    one = small()

    def pieces(key):
        places = jax.random.randint(key, (4,), 0, one.text.size - 6)
        return one.text[places[:, None] + jnp.arange(7)[None]]

    def loss(model, batch):
        return jnp.mean(jax.vmap(gpt.cross_entropy, (None, 0))(model, batch))

    adamw = optax.adamw(jnp.float32(0.01), weight_decay=0.1)
    whole = Process(loss, one.law, data.Fresh(pieces), optimiser=adamw)
    first, second = (
        train(process, [0, 30], seeds=2, key=KEY, save=gpt.spectra).ys for process in (one, whole)
    )
    for name in gpt.MATRICES:
        np.testing.assert_allclose(first[name], second[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_language_model_learns_a_text_of_period_three():
    held_out = np.tile([1, 0, 3], 3)[None, :7]
    runs = train(small(), [0, 300], seeds=1, key=KEY, save=gpt.Record(held_out))
    loss = np.asarray(runs.ys["loss"])[0]
    assert loss[0] > 1
    assert loss[1] < 0.1
    assert runs.ys["mlp_in"].shape == (1, 2, 1, 8)


@pytest.mark.slow
def test_a_language_model_starts_with_the_spectra_of_noise():
    process = GPT(np.zeros(100, int), width=128, context=16)
    found = gpt.spectra(process.law(KEY))
    for name, rows in (("query", 128), ("value", 128), ("mlp_in", 512)):
        for values in np.asarray(found[name], float):
            fit = fit_marchenko_pastur(values, rows)
            deviation = math.sqrt(2 / (rows * 128))
            assert abs(fit.variance * 128 - 1) < 5 * deviation
            assert fit.outliers.size == 0
            assert fit.distance < 0.05
    assert np.max(found["query"]) ** 2 < spectra.marchenko_pastur_edges(128, 128, 1 / 128)[1] * 1.1


def test_the_text_of_the_standard_library_is_its_modules_in_order():
    text = rqf.io.standard_library(3000)
    assert text.shape == (3000,) and text.min() >= 0 and text.max() < 128
    source = bytes(text.astype(np.uint8)).decode()
    assert (
        "import" in source
        and source == bytes(rqf.io.standard_library(5000)[:3000].astype(np.uint8)).decode()
    )
    with pytest.raises(ValueError, match="`tokens` must be at most the"):
        rqf.io.standard_library(10**9)


# ---- tails


def test_the_tail_exponent_of_a_power_law_is_found():
    pytest.importorskip("powerlaw")
    # Density ∝ x^{-3.5} above 2, by inversion; half as many smaller values that are not.
    random = np.random.default_rng(0)
    tail = 2 * random.random(4000) ** (-1 / 2.5)
    values = np.concatenate([tail, 2 * random.random(2000)])
    found = tail_exponent(values, start=2.0)
    assert found.count == 4000
    assert abs(found.exponent - 3.5) < 5 * found.stderr
    assert found.stderr == pytest.approx(2.5 / math.sqrt(4000), rel=0.1)


def test_without_powerlaw_the_tail_exponent_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "powerlaw", None)
    with pytest.raises(ImportError, match="`powerlaw`"):
        tail_exponent(np.arange(1.0, 20.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(heads=3), "`width` must be a multiple of `heads`; got 8 and 3"),
        (lambda: small(vocabulary=3), "`text` must have tokens from 0 to 2; got 0 to 3"),
        (lambda: small(context=120), "longer than a piece of `context` . 1 = 121 tokens; got 120"),
        (
            lambda: GPT(np.zeros(100)),
            "`text` must be whole numbers; got dtype float",
        ),
        (
            lambda: BernoulliRBM(np.eye(4), Normal((2, 4)), learning_rate=0.1, batch=5),
            "`batch` must be at most the 4 examples there are; got 5",
        ),
        (
            lambda: BernoulliRBM(2 * np.eye(4), Normal((2, 4)), learning_rate=0.1, batch=4),
            "`data` must be zeros and ones; got 2",
        ),
        (lambda: tail_exponent(np.zeros(20)), "at least 10 positive numbers; got 20, the least"),
        (
            lambda: tail_exponent(np.where(np.arange(20) == 7, np.nan, 1.0)),
            r"`values` must be finite; got nan at index \(7,\)",
        ),
        (lambda: tail_exponent(np.arange(1.0, 20.0), np.nan), "`start` must be finite; got nan"),
    ],
)
def test_a_bad_learner_has_one_clear_error(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()
