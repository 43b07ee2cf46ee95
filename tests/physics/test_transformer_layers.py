"""Theorems about layers of transformers: streams with radii, attention, gates, lists of layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, unit_tokens

import rqf_jax as rqf
from rqf_jax.drifts import Attention, causal_mask, rotary_frequencies
from rqf_jax.kernels import MLP
from rqf_jax.laws import Equiangular, Fixed, Normal, Pair, Uniform, Zeros
from rqf_jax.layers import (
    Block,
    Fixed as FixedLayer,
    Norm,
    Normed,
    Parallel,
    RandomAttention,
    RandomLinear,
    RandomMLP,
    Residual,
    UnitOutput,
    transformer,
)
from rqf_jax.manifolds import Euclidean
from rqf_jax.observables import cosines, directions, radii
from rqf_jax.theory import initialisation, normalisation

KEY, ZERO = jax.random.key(0), jnp.zeros(())
OFF = jnp.asarray(unit_tokens(4, 6)) * jnp.array([[1.0], [2.0], [0.3], [1.0]])


# ---- the stream


def test_a_pre_layer_is_a_step_of_the_pre_equation():
    layer = Residual(Normed(RandomLinear(0.6, Attention(1.3))), 0.07, Euclidean())
    sde = rqf.models.normalised(rqf.models.random_layers(0.6, 1.3), "pre")
    dw = jnp.sqrt(0.07) * jax.random.normal(KEY, (6, 6))
    step = rqf.solvers.default(sde).advance(sde, ZERO, jnp.asarray(0.07), OFF, dw)
    np.testing.assert_allclose(layer(KEY, OFF), step, rtol=1e-12)


def test_streams_and_norms():
    gain, branch = jnp.arange(1.0, 7)[None, :], RandomLinear(1.0)
    added = branch(KEY, directions(OFF))
    kept = Residual(Normed(branch), stream=Euclidean())
    np.testing.assert_allclose(kept(KEY, OFF), OFF + added, rtol=1e-12)
    peri = Residual(UnitOutput(Normed(branch)), 0.25, Euclidean())
    np.testing.assert_allclose(peri(KEY, OFF), OFF + 0.5 * directions(added), rtol=1e-12)
    np.testing.assert_allclose(Norm(gain[0])(KEY, OFF), gain * directions(OFF), rtol=1e-12)
    centred = directions(OFF - OFF.mean(1, keepdims=True))
    np.testing.assert_allclose(
        Normed(branch, gain[0], centre=True)(KEY, OFF), branch(KEY, gain * centred), rtol=1e-12
    )
    still = FixedLayer(Attention(1.0), 0.1, Euclidean())
    np.testing.assert_allclose(still(KEY, OFF), OFF + 0.1 * Attention(1.0)(ZERO, OFF), rtol=1e-12)
    block = Block(Norm(), Residual(branch))
    assert block.enters == Euclidean() and Residual(branch).enters == rqf.manifolds.Sphere()


def test_parallel_branches_see_the_same_tokens_with_weights_of_their_own():
    first, second = RandomLinear(1.0), RandomMLP("tanh", 5)
    keys = jax.random.split(KEY)
    expected = first(keys[0], OFF) + second(keys[1], OFF)
    np.testing.assert_allclose(Parallel(first, second)(KEY, OFF), expected, rtol=1e-12)


# ---- attention


def by_hand(key, x, heads, size, variance, scores, groups, causal, frequencies):
    """Attention of many heads, entry by entry."""
    tokens, dim = x.shape
    shapes = [(dim, heads * size), (dim, groups * size), (dim, groups * size), (heads * size, dim)]
    wq, wk, wv, wo = (
        np.asarray(jax.random.normal(own, shape))
        for own, shape in zip(jax.random.split(key, 4), shapes, strict=True)
    )
    out = np.zeros((tokens, dim))
    for h in range(heads):
        g = h * groups // heads
        q, k, v = (x @ w[:, i * size : (i + 1) * size] for w, i in ((wq, h), (wk, g), (wv, g)))
        for i in range(tokens):
            seen = range(i + 1 if causal else tokens)
            s = np.array([q[i] @ turn(k[j], j - i, frequencies) for j in seen])
            a = np.exp(np.sqrt(scores / size) * s)
            mean = sum(w * v[j] for w, j in zip(a / a.sum(), seen, strict=True))
            out[i] += mean @ wo[h * size : (h + 1) * size] * np.sqrt(variance / (heads * size))
    return out


def turn(y, places, frequencies):
    """R^places y, R the rotation by ω_m in the plane of coordinates m and planes + m."""
    y, planes = np.array(y), len(frequencies)
    for m, omega in enumerate(frequencies):
        c, s = np.cos(places * omega), np.sin(places * omega)
        y[m], y[planes + m] = c * y[m] - s * y[planes + m], s * y[m] + c * y[planes + m]
    return y


@pytest.mark.parametrize("groups, causal, frequencies", [
    pytest.param(4, False, (), marks=pytest.mark.slow),
    (2, True, (0.9, 0.2)),
    pytest.param(1, True, (0.7,), marks=pytest.mark.slow),
])  # fmt: skip
def test_attention_of_many_heads_is_that_of_its_definition(groups, causal, frequencies):
    branch = RandomAttention(
        4, 5, 0.7, 1.9, key_heads=groups, causal=causal,
        frequencies=jnp.array(frequencies) if frequencies else None,
    )  # fmt: skip
    expected = by_hand(KEY, np.asarray(OFF), 4, 5, 0.7, 1.9, groups, causal, frequencies)
    np.testing.assert_allclose(branch(KEY, OFF), expected, rtol=1e-10, atol=1e-12)


def test_attention_without_scores_has_the_covariance_of_means_of_prefixes():
    x = jnp.asarray(unit_tokens(3, 4))
    branch = RandomAttention(2, 2, 0.6, 0.0, causal=True)
    out = np.asarray(jax.vmap(branch, (0, None))(jax.random.split(KEY, 6_000), x))
    means = np.asarray(jnp.cumsum(x, 0) / jnp.arange(1.0, 4)[:, None])
    assert_mean(np.einsum("mai,mbi->mab", out, out) / 4, 0.6 * means @ means.T)


# ---- perceptrons


@pytest.mark.slow
def test_a_gated_perceptron_has_the_covariance_of_its_product():
    x = jnp.asarray(unit_tokens(3, 4))
    branch = RandomMLP("relu", 3, variance=0.5, gated=True)
    out = np.asarray(jax.vmap(branch, (0, None))(jax.random.split(KEY, 40_000), x))
    z = x @ x.T
    expected = np.asarray(0.5 * z / 4 * MLP("relu", 4)(z))
    assert_mean(np.einsum("mai,mbi->mab", out, out) / 4, expected)


def test_the_variance_of_inputs_is_that_of_a_unit_token():
    plain, scaled = RandomMLP("tanh", 3), RandomMLP("tanh", 3, input_variance=4 / 6)
    np.testing.assert_allclose(scaled(KEY, OFF), plain(KEY, 2 * OFF), rtol=1e-12)


# ---- rotary positions and causal masks as drifts


def test_rotary_positions_turn_keys_by_their_distance_in_places():
    x, omega = jnp.asarray(unit_tokens(5, 6)), np.array([0.9, 0.2])
    matrix = np.random.default_rng(1).standard_normal((6, 6))
    drift = Attention(0.8, query_key=matrix, mask=causal_mask(5), frequencies=omega)
    y = np.asarray(x)
    for i, found in enumerate(drift(ZERO, x)):
        s = [0.8 * (matrix.T @ y[i]) @ turn(y[j], j - i, omega) for j in range(i + 1)]
        a = np.exp(s) / np.sum(np.exp(s))
        np.testing.assert_allclose(found, a @ y[: i + 1], rtol=1e-11)
    assert not drift.spans
    np.testing.assert_allclose(rotary_frequencies(2, 100.0), [1.0, 0.1], rtol=1e-14)


@pytest.mark.parametrize("causal", [False, True])
def test_rates_at_consensus_with_rotary_positions_are_the_spectrum_of_theory(causal):
    tokens, omega, theta = 6, np.array([1.3, 0.4]), np.array([0.6, 0.48, 0.64, 0.0])
    theta[3] = np.sqrt(1 - theta @ theta)
    mask = causal_mask(tokens) if causal else None
    drift, x = Attention(2.0, mask=mask, frequencies=omega), jnp.tile(theta, (tokens, 1))
    sphere = rqf.manifolds.Sphere()
    jacobian = jax.jacobian(lambda x: sphere.tangent(sphere.project(x), drift(ZERO, x)))(x)
    found = np.linalg.eigvals(np.asarray(jacobian).reshape(24, 24))
    squares = theta[:2] ** 2 + theta[2:] ** 2
    rates = normalisation.rope_spectrum(squares, omega, beta=2.0, tokens=tokens, causal=causal)
    # Each n - 1 times, and 0 along the radii.
    expected = np.sort_complex(np.concatenate([np.repeat(rates, 3), np.zeros(tokens)]))
    np.testing.assert_allclose(np.sort_complex(found).real, expected.real, atol=1e-6)


def test_causal_tokens_with_radii_approach_the_first_as_a_root_of_its_radius():
    model = rqf.SDE(
        Attention(0.0, mask=causal_mask(2)), rqf.noises.NoNoise(), rqf.manifolds.Sphere()
    )
    sde = rqf.models.in_log_time(rqf.models.normalised(model, "pre"))
    runs = rqf.simulate(sde, Pair(0.1, 2), [0.0, 9.0, 11.0], substeps=200, members=1, key=KEY)
    x = directions(runs.ys[0, 1]), directions(runs.ys[0, 2])
    sines = [float(jnp.abs(jnp.linalg.det(y))) for y in x]
    lengths = [float(radii(y)[0]) for y in runs.ys[0, 1:]]
    slope = np.log(sines[1] / sines[0]) / np.log(lengths[1] / lengths[0])
    assert normalisation.causal_exponents(2, fresh=False)[0] == -0.5  # of 1 - z, in ln r²
    assert slope == pytest.approx(-0.5, abs=0.01)


# ---- lists of layers


def walked(layers, x, key):
    """The tokens of member 0 after each layer."""
    weight_key = rqf.member_keys(key, 0)[1]
    found = [x]
    for i, layer in enumerate(layers):
        found.append(layer(jax.random.fold_in(weight_key, i), found[-1]))
    return found


@pytest.mark.parametrize("kind", [pytest.param("alike", marks=pytest.mark.slow), "unlike"])
def test_a_list_of_layers_is_passed_in_order(kind):
    if kind == "alike":  # variances fall with depth, as with LayerNorm scaling
        layers = [Residual(Normed(RandomLinear(1.0 / i)), stream=Euclidean()) for i in range(1, 5)]
    else:  # mixed normalisation: Post-LN, then Pre-LN
        post = Residual(RandomMLP("relu", 4), 0.1)
        pre = Residual(Normed(RandomLinear(1.0)), 0.1, Euclidean())
        layers = [post, post, pre, pre]
    law = Uniform(3, 4)
    runs = rqf.propagate(layers, law, members=2, key=KEY, every=2)
    expected = walked(layers, law(rqf.member_keys(KEY, 0)[0]), KEY)
    np.testing.assert_allclose(runs.ys[0], jnp.stack(expected[::2]), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(runs.ts, [0, 2, 4])


BAD = {
    "length of a list": (
        lambda: go([Residual(RandomLinear(1.0))] * 3, depth=2),
        "`depth` must be 3, the number of layers in the list; got 2",
    ),
    "depth": (lambda: go(Residual(RandomLinear(1.0)), depth=None), "`depth` must be an integer"),
    "a list of branches": (
        lambda: go([RandomLinear(1.0)], depth=None),
        "`layer[0]` must be a layer of `rqf_jax.layers`",
    ),
    "empty": (lambda: go([], depth=None), "`layer` must be at least one"),
    "zero tokens": (
        lambda: go(Residual(Normed(RandomLinear(1.0)), 1.0, Euclidean()), law=Zeros((2, 3))),
        "`law` must draw tokens with a norm that is positive",
    ),
    "no tokens": (
        lambda: go(Residual(RandomLinear(1.0), 1.0, Euclidean()), law=Zeros((2, 3, 4))),
        "`law` must draw tokens (tokens, dim)",
    ),
    "off the sphere": (lambda: go(Residual(RandomLinear(1.0)), law=Fixed(OFF)), "off by"),
    "stream": (
        lambda: Residual(RandomLinear(1.0), 1.0, rqf.manifolds.Symmetric()),
        "`stream` must be the sphere or flat space",
    ),
    "branches": (lambda: Parallel(), "`branches` must be at least one"),
    "branch": (lambda: Normed(1.0), "`branch` must be a branch"),
    "heads": (lambda: RandomAttention(0, 2), "`heads` must be at least 1"),
    "key heads": (
        lambda: RandomAttention(4, 2, key_heads=3),
        "`key_heads` must divide `heads`, 4; got 3",
    ),
    "causal": (lambda: RandomAttention(4, 2, causal=1), "`causal` must be True or False"),
    "planes of a head": (
        lambda: RandomAttention(4, 2, frequencies=[1.0, 2.0]),
        "`frequencies` must be at most 1",
    ),
    "planes of tokens": (
        lambda: Attention(1.0, frequencies=[1.0, 2.0])(ZERO, jnp.eye(3)),
        "`frequencies` must be at most 1",
    ),
    "frequencies": (
        lambda: Attention(1.0, frequencies=1.0),
        "`frequencies` must be radians per position",
    ),
    "gated": (lambda: RandomMLP("relu", 3, gated=2), "`gated` must be True or False"),
    "architecture": (
        lambda: transformer("gpt2"),
        "`architecture` must be an architecture of `theory.initialisation`; got 'gpt2'",
    ),
    "dimension": (
        lambda: go(transformer(initialisation.gpt2(dim=4, layers=1, heads=2)), Normal((2, 3), 1.0)),
        "`law` must draw tokens of the architecture's dimension 4; got 3",
    ),
}  # fmt: skip


def go(layer, law=None, depth=2):
    return rqf.propagate(layer, law or Uniform(2, 3), depth, members=1, key=KEY)


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])


# ---- untrained transformers

FAMILIES = {
    "gpt2": lambda **k: initialisation.gpt2(**k),
    "neox": lambda **k: initialisation.neox(**k),
    "llama": lambda **k: initialisation.llama(inner=4 * k["dim"], key_heads=k["heads"], **k),
    "bert": lambda **k: initialisation.bert(**k),
    "gemma2": lambda **k: initialisation.gemma2(inner=4 * k["dim"], **k),
}


def mean_cosine_and_norm(x):
    """Over pairs and tokens, in units of √dim."""
    return jnp.mean(cosines(x)), jnp.mean(radii(x))


def passed(name, dim, layers, tokens, members):
    model = FAMILIES[name](dim=dim, layers=layers, heads=dim // 32)
    law = Normal((tokens, dim), (model.own / dim) ** 0.5)
    if name == "bert":
        law = Equiangular(tokens, dim, 1 / 3)
    runs = rqf.propagate(
        transformer(model), law, layers, members=members, key=KEY, save=mean_cosine_and_norm,
        batch_size=4,
    )  # fmt: skip
    return initialisation.gram(model, tokens=tokens, draws=4), [np.asarray(y) for y in runs.ys]


@pytest.mark.slow
def test_a_transformer_of_the_library_grows_as_the_limit_of_wide_layers():
    wide, (cosine, norm) = passed("gemma2", 64, 2, 8, 32)
    assert_mean(cosine, wide.mean_cosine, bias=0.02)
    np.testing.assert_allclose(norm.mean(0), wide.norms.mean(1), rtol=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_of_finite_width_scatter_around_the_recursion(name):
    members = 12
    wide, (cosine, norm) = passed(name, 256, 6, 32, members)
    error = cosine.std(0, ddof=1) / np.sqrt(members)
    assert np.all(np.abs(cosine.mean(0) - wide.mean_cosine) < 3 * error + 0.015)
    np.testing.assert_allclose(norm.mean(0), wide.norms.mean(1), rtol=0.03)
