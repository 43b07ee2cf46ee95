"""Theorems about stacks of random layers: identities at every step length, and their limits."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic, unit_tokens
from scipy.special import digamma

import rqf_jax as rqf
from rqf_jax.drifts import Attention
from rqf_jax.kernels import MLP
from rqf_jax.laws import Equiangular, Pair, Uniform
from rqf_jax.layers import Block, Fixed, Plain, RandomLinear, RandomMLP, Residual
from rqf_jax.observables import angles, log_det_gram, overlaps
from rqf_jax.solvers import ProjectedEuler, ProjectiveFlow

SPHERE, KEY = rqf.manifolds.Sphere(), jax.random.key(0)


def log_sine(x):
    """ln sin θ of a pair."""
    return jnp.log(jnp.sin(angles(x)[0]))


# ---- identities without discretisation error


@pytest.mark.slow
@pytest.mark.parametrize("layer", [Plain(RandomLinear(1.0)), Residual(RandomLinear(1.0), 0.5)])
def test_the_mean_angle_of_a_pair_is_conserved_by_linear_layers_of_any_size(layer):
    runs = rqf.propagate(layer, Pair(1.0, 3), 4, members=20_000, key=KEY, save=angles)
    assert_mean(runs.ys[:, 1:, 0], 1.0)


@pytest.mark.slow
def test_volumes_under_plain_gaussian_layers_shrink_by_digammas():
    # E Δ ln det G_k = Σ_{j<k} ψ((n-j)/2) - k ψ(n/2) a layer; k = 2 is twice ln sin θ.
    for tokens, dim in ((2, 4), (3, 5)):
        law = Equiangular(tokens, dim, 0.3)
        layer = Plain(RandomLinear(0.3))
        runs = rqf.propagate(layer, law, 3, members=10_000, key=KEY, save=log_det_gram)
        rate = sum(digamma((dim - j) / 2) for j in range(tokens)) - tokens * digamma(dim / 2)
        start = math.log((1 - 0.3) ** (tokens - 1) * (1 + 0.3 * (tokens - 1)))
        assert_mean(runs.ys[:, 1:], start + rate * np.arange(1, 4))


@pytest.mark.slow
def test_the_final_sides_of_equiangular_tokens_follow_the_orthant_law():
    # Overlap 1/2: P(all N on one side) = 2/(N+1), for layers of any size.
    runs = rqf.propagate(
        Plain(RandomLinear(1.0)), Equiangular(4, 4, 0.5), 60, members=4000, key=KEY, every=60
    )
    x = np.asarray(runs.ys[:, -1])
    together = np.all(x @ x[:, 0, :, None] > 0, axis=(1, 2))
    assert_mean(together, 2 / 5)


# ---- the limit of many layers


@pytest.mark.parametrize("beta", [None, 1.3])
def test_a_step_of_random_layers_is_a_residual_layer(beta):
    x, h = jnp.asarray(unit_tokens(4, 3)), jnp.asarray(0.07)
    weights = jax.random.normal(KEY, (3, 3))
    layer = Residual(RandomLinear(0.6, None if beta is None else Attention(beta)), h)
    sde = rqf.models.random_layers(0.6, beta)
    assert isinstance(rqf.solvers.default(sde), ProjectedEuler)
    # The sign of a common matrix, which changes no law, is that of the paper.
    dw = jnp.sqrt(h) * (-weights if beta is None else weights)
    step = ProjectedEuler().advance(sde, jnp.zeros(()), h, x, dw)
    np.testing.assert_allclose(layer(KEY, x), step, rtol=1e-12)


@pytest.mark.slow
def test_a_perceptron_has_the_covariance_of_its_kernel_at_every_width():
    x = jnp.asarray(unit_tokens(3, 4))
    branch = RandomMLP("relu", 2, 0.3, 0.2)
    keys = jax.random.split(KEY, 40_000)
    out = np.asarray(jax.vmap(branch, (0, None))(keys, x))
    kernel = MLP("relu", 4, 0.3, 0.2)
    assert_mean(np.einsum("mai,mbi->mab", out, out) / 4, np.asarray(kernel(x @ x.T)))
    assert_mean(out, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "clusters"), [("relu", 1), ("tanh", 2)])
def test_perceptrons_gather_tokens_at_one_point_or_at_two_antipodes(activation, clusters):
    # 64 tokens in R^4, 2000 layers to T = 20, no attention and no bias (arXiv:2604.26898, E1).
    layer = Residual(RandomMLP(activation, 256), 0.01)
    runs = rqf.propagate(layer, Uniform(64, 4), 2000, members=8, key=KEY, every=2000, save=overlaps)
    r = np.asarray(runs.ys[:, -1])
    if clusters == 2:
        assert np.all(r.min(axis=-1) < -0.99)
    else:
        # At λ_1 = -1/2d the one cluster is still loose at T = 20; it has no opposite.
        assert np.all(r.min(axis=-1) > -0.99) and np.all(r.mean(axis=-1) > 0.3)


@pytest.mark.slow
def test_in_high_temperature_homogenised_attention_obeys_the_logistic_equation():
    # m = mean overlap of all N² pairs: u' = u (1 - u), in time α η L with entries of variance 1/d.
    dim, tokens, depth, time = 256, 16, 200, 3.0
    layer = Residual(RandomLinear(1 / dim, Attention(0.01)), time / depth)
    runs = rqf.propagate(
        layer, Equiangular(tokens, dim, 0.0), depth, members=16, key=KEY, every=100, save=overlaps
    )
    pairs = np.asarray(runs.ys).mean(-1)
    mean = (1 + (tokens - 1) * pairs) / tokens
    start, ts = mean[0, 0], np.array([time / 2, time])
    expected = start / (start + (1 - start) * np.exp(-ts))
    # Fluctuations are of order √(T/d) of one member, and the mean is off by their square.
    assert_mean(mean[:, 1:], expected, bias=2 * time / dim)
    assert mean[:, 1:].std(axis=0).max() < 2 * math.sqrt(time / dim)


@pytest.mark.slow
def test_in_low_temperature_attention_with_random_values_is_the_random_quadratic_form():
    # β → ∞: every token attends to itself; with entries of variance 1/d the clock is t/d.
    dim, time = 6, 3.0
    layer = Residual(RandomLinear(1 / dim, Attention(200.0)), 0.02)
    depth = round(time * dim / 0.02 / 10)
    runs = rqf.propagate(
        layer, Pair(1.2, dim), depth, members=4000, key=KEY, every=depth, save=angles
    )
    sigma2 = depth * 0.02 / dim
    theta = np.asarray(runs.ys[:, -1, 0])
    assert_mean(theta, 1.2)
    assert_mean(np.log(np.sin(theta)), math.log(math.sin(1.2)) - sigma2, bias=0.01 * sigma2)


# ---- the verb


@pytest.mark.slow
def test_a_member_does_not_depend_on_the_ensemble_its_batches_or_how_often_it_is_saved():
    layer = Residual(RandomLinear(1.0), 0.1)
    whole = rqf.propagate(layer, Uniform(3, 4), 6, members=5, key=KEY)
    np.testing.assert_array_equal(whole.ts, np.arange(7.0))
    later = rqf.propagate(
        layer, Uniform(3, 4), 6, members=3, key=KEY, first_member=2, batch_size=2, every=3
    )
    np.testing.assert_allclose(later.ys, whole.ys[2:, ::3], atol=1e-14)


def test_a_block_applies_its_layers_in_order_with_keys_of_their_own():
    x = jnp.asarray(unit_tokens(3, 4))
    first, second = Fixed(Attention(1.0), 0.1), Residual(RandomLinear(1.0), 0.1)
    keys = jax.random.split(KEY)
    expected = second(keys[1], first(keys[0], x))
    np.testing.assert_array_equal(Block(first, second)(KEY, x), expected)


@pytest.mark.slow
def test_the_gradient_through_a_stack_is_the_central_difference():
    def mean(variance):
        layer = Residual(RandomLinear(variance, Attention(1.0)), 0.1)
        runs = rqf.propagate(layer, Pair(1.0, 3), 8, members=4, key=KEY, every=8, save=overlaps)
        return jnp.mean(runs.ys[:, -1])

    eps = 1e-5
    central = (mean(0.7 + eps) - mean(0.7 - eps)) / (2 * eps)
    assert float(jax.grad(mean)(jnp.asarray(0.7))) == pytest.approx(float(central), rel=1e-7)


class Overflow(rqf.layers.AbstractLayer):
    """Turns one member in two into NaN."""

    def __call__(self, key, x):
        return jnp.where(jax.random.bernoulli(key), x, jnp.nan)


def test_members_that_become_nan_are_marked_or_raise():
    call = functools.partial(rqf.propagate, Overflow(), Uniform(2, 3), 2, members=16, key=KEY)
    with pytest.raises(rqf.NonFiniteError, match="of 16 members became NaN"):
        call()
    runs = call(throw=False)
    bad = np.isnan(np.asarray(runs.ys)).any(axis=(2, 3))
    np.testing.assert_array_equal(runs.status, np.where(bad.any(axis=1), np.argmax(bad, axis=1), 0))


BAD = {
    "layer": (lambda: run(layer=1.0), "`layer` must be a layer of `rqf_jax.layers`", "1.0"),
    "law": (lambda: run(law=np.eye(3)), "`law` must be a law"),
    "save": (lambda: run(save="x"), "`save` must be a function", "'x'"),
    "depth": (lambda: run(depth=0), "`depth` must be at least 1", "0"),
    "every": (lambda: run(every=4), "`depth` must be a multiple of `every`, 4", "6"),
    "members": (lambda: run(members=0), "`members` must be at least 1", "0"),
    "key": (lambda: run(key=0), "`key` must be a JAX key", "0"),
    "off the sphere": (lambda: run(law=rqf.laws.Zeros((2, 3))), "`law`", "Sphere", "off by 1"),
    "variance": (lambda: RandomLinear(-1.0), "`variance` must be at least 0", "-1"),
    "field": (lambda: RandomLinear(1.0, "f"), "`field` must be a drift", "'f'"),
    "field of a fixed layer": (lambda: Fixed(2.0, 0.1), "`field` must be a drift", "2.0"),
    "step": (lambda: Residual(RandomLinear(1.0), -0.1), "`step` must be at least 0", "-0.1"),
    "branch": (lambda: Residual(Attention(1.0), 0.1), "`branch` must be a branch"),
    "plain branch": (lambda: Plain(None), "`branch` must be a branch", "None"),
    "activation": (lambda: RandomMLP("sin", 3), "`activation` must be one of relu", "'sin'"),
    "width": (lambda: RandomMLP("relu", 0), "`width` must be at least 1", "0"),
    "no layers": (lambda: Block(), "`layers` must be at least one"),
    "a block of branches": (lambda: Block(RandomLinear(1.0)), "`layers[0]` must be a layer"),
}


def run(**changes):
    given = {"layer": Plain(RandomLinear(1.0)), "law": Uniform(2, 3), "depth": 6, "members": 2}
    return rqf.propagate(**(given | {"key": KEY} | changes))


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])


@pytest.mark.slow
def test_the_limit_of_residual_layers_is_the_projective_flow_of_equal_strengths():
    # E ln sin θ after T = 1 in n = 3, where (3n-10)/2 < 0 is the first order of the bias.
    depth = 100
    runs = rqf.propagate(
        Residual(RandomLinear(1.0), 1 / depth), Pair(1.0, 3), depth, members=4000, key=KEY,
        every=depth, save=log_sine,
    )  # fmt: skip
    flow = rqf.simulate(
        isotropic(1.0, 1.0), Pair(1.0, 3), [0.0, 1.0], substeps=8, members=4000, key=KEY,
        solver=ProjectiveFlow(), save=log_sine,
    )  # fmt: skip
    expected = math.log(math.sin(1.0)) - 1
    assert_mean(runs.ys[:, -1], expected, bias=0.5 / depth)
    assert_mean(flow.ys[:, -1], expected)
