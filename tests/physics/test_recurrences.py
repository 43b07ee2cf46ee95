"""Theorems about recurrences: attention, state spaces and gates, one by one and all at once."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rqf_jax import recurrences
from rqf_jax.drifts import SelectiveStateSpace
from rqf_jax.recurrences import Recurrence

RNG = np.random.default_rng(0)
Q, K = 0.7 * RNG.standard_normal((2, 7, 2))
V, STEPS = RNG.standard_normal((7, 3)), RNG.uniform(0.1, 1, (7, 3))
MASK = np.tril(np.ones((7, 7)))


def softmax():
    weights = np.exp(Q @ K.T) * MASK
    return weights / weights.sum(1, keepdims=True) @ V


def selective():
    # y_i = Σ_{j≤i} (c_i·b_j) Δ_j exp(-a Σ_{j<k≤i} Δ_k) u_j in every channel.
    clock = np.cumsum(STEPS, 0)
    decay = np.exp(-0.7 * (clock[:, None] - clock[None]))
    return np.einsum("ij,ijc,jc,jc->ic", (Q @ K.T) * MASK, decay, STEPS, V)


def by_gates():
    gate, h, out = 1 / (1 + np.exp(-STEPS)), np.zeros(3), []
    for g, u in zip(gate, V, strict=True):
        h = g * h + (1 - g) * u
        out.append(h)
    return np.array(out)


CASES = {
    "linear attention": (
        lambda: recurrences.linear_attention(Q, K, V, normalise=False),
        lambda: ((Q @ K.T) * MASK) @ V,
    ),
    "softmax attention": (lambda: recurrences.softmax_attention(Q, K, V, 16), softmax),
    "state space": (
        lambda: recurrences.state_space(STEPS, K, Q, V, decay=0.7), selective,
    ),
    "gates": (lambda: recurrences.gated(STEPS, V), by_gates),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_recurrence_is_its_network_token_by_token_in_parallel_and_as_a_kernel(name):
    made, expected = CASES[name]
    one = made()

    @jax.jit
    def ways(one):
        return one.outputs(), one.one_by_one(), one.kernel()

    at_once, one_by_one, kernel = map(np.asarray, ways(one))
    for found in (at_once, one_by_one, np.einsum("cij,jc->ic", kernel, V)):
        np.testing.assert_allclose(found, expected(), atol=1e-12)
    np.testing.assert_array_equal(kernel * np.triu(np.ones((7, 7)), 1), 0)


def test_eigenvalues_along_tokens_say_what_is_kept():
    states = recurrences.state_space(STEPS, K, Q, V, decay=0.7).eigenvalues()
    assert states.shape == (7, 2, 3)
    np.testing.assert_allclose(states[:, 0], np.exp(-0.7 * STEPS), rtol=1e-14)
    # A state of one number and one step of softplus is a gate: e^{-softplus(z)} = σ(-z).
    gates = recurrences.gated(-STEPS, V).eigenvalues()[:, 0]
    space = recurrences.state_space(np.logaddexp(0, STEPS), K[:, :1], Q[:, :1], V).eigenvalues()
    np.testing.assert_allclose(gates, space[:, 0], rtol=1e-14)
    np.testing.assert_array_equal(recurrences.linear_attention(Q, K, V, normalise=False).keep, 1)
    # Even attention of ones forgets as a running mean does.
    mean = recurrences.softmax_attention(0 * Q, K, V, 2)
    np.testing.assert_allclose(mean.eigenvalues()[:, 0, 0], 1 - 1 / np.arange(1, 8), rtol=1e-14)


@pytest.mark.parametrize("order", [0, 1, 3, 6])
def test_features_make_the_exponential_up_to_their_order(order):
    x, y = RNG.standard_normal((2, 5, 3))
    kernel = np.asarray(
        recurrences.exponential_features(x, order) @ recurrences.exponential_features(y, order).T
    )
    dots = x @ y.T
    series = sum(dots**k / math.factorial(k) for k in range(order + 1))
    np.testing.assert_allclose(kernel, series, rtol=1e-10, atol=1e-12)
    size = np.abs(dots)
    bound = size ** (order + 1) * np.exp(size) / math.factorial(order + 1)
    assert np.all(np.abs(kernel / np.exp(dots) - 1) <= bound + 1e-12)
    states = sum(math.comb(3 + k - 1, k) for k in range(order + 1))
    assert recurrences.exponential_features(x, order).shape == (5, states)


def test_tokens_of_a_selective_state_space_are_its_drift():
    b, c, s = RNG.standard_normal((2, 3)), RNG.standard_normal((2, 3)), RNG.standard_normal((3, 3))
    x = RNG.standard_normal((6, 3))
    drift = SelectiveStateSpace(s, 0.1 * np.ones(3), b, c, 0.4)
    steps = np.logaddexp(0, x @ s.T + 0.1)
    one = recurrences.state_space(steps, x @ b.T, x @ c.T, x, decay=0.4)
    moved = jax.jit(lambda x: drift(jnp.zeros(()), x))(jnp.asarray(x))
    np.testing.assert_allclose(moved, jax.jit(Recurrence.one_by_one)(one), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recurrences.Recurrence(Q, Q, Q, V), r"`keep` must be \(tokens, states, channels"),
        (lambda: recurrences.Recurrence(0, 0, 0, V[0]), r"`inputs` must be \(tokens, channels\)"),
        (lambda: recurrences.softmax_attention(Q, K, V, 3), "`order` must be even"),
        (lambda: recurrences.linear_attention(Q, K[:2], V), "`queries`, `keys` and `values` must"),
        (lambda: recurrences.exponential_features(V[0], 2), r"`x` must be \(tokens, dim\)"),
        (lambda: recurrences.state_space(STEPS[:3], K, Q, V), "`steps` and `inputs` must be"),
        (lambda: recurrences.state_space(STEPS, K, Q[:3], V), "`write` and `read` must be"),
        (lambda: recurrences.gated(STEPS[:3], V), "`gates` and `inputs` must both be"),
    ],
)
def test_a_bad_recurrence_has_one_clear_error(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()
