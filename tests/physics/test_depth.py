"""How networks and their laws approach an equation as layers grow many: orders and constants.

L layers of one network and fewer layers of the same are compared on the same weights: a layer of a
shallow network has the sum of what its deep ones compute, √(1/L) Σ F. That is a layer of the same
kind, since a sum of matrices is a matrix and perceptrons side by side are a wider one.
"""

import functools
import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, slope, unit_tokens
from numpy.polynomial.chebyshev import chebder, chebval, chebvander
from scipy.linalg import expm

import rqf_jax as rqf
from rqf_jax.drifts import Attention
from rqf_jax.kernels import MLP
from rqf_jax.laws import Pair
from rqf_jax.layers import Block, Fixed, RandomLinear, RandomMLP, Residual
from rqf_jax.observables import angles
from rqf_jax.theory import fields, sphere, value_noise
from rqf_jax.theory.attention import softmax_weight

SPHERE, KEY = rqf.manifolds.Sphere(), jax.random.key(0)

# A branch with random weights and the drift beside it; on the scale of time one, tokens move by
# some half a radian.
NETWORKS = {
    "matrix": (RandomLinear(0.25), None),
    "attention": (RandomLinear(0.25, Attention(1.3)), None),
    "transformer": (RandomMLP("gelu", 2, 0.3, 0.2), Attention(1.0)),
}


def log_sine(x):
    """ln sin θ of a pair."""
    return jnp.log(jnp.sin(angles(x)[0]))


# ---- one network


@eqx.filter_jit
def ends(kind, counts, finest, members):
    """The two tokens (members, 2, 3) after so many layers, for every number of layers."""
    branch, drift = NETWORKS[kind]
    start = jnp.asarray(unit_tokens(2, 3))

    def end(count, key):
        group = finest // count

        def layer(x, number):
            finer = number * group + jnp.arange(group)
            keys = jax.vmap(functools.partial(jax.random.fold_in, key))(finer)
            if drift is not None:
                x = Fixed(drift, 1 / count)(key, x)
            moved = jnp.sum(jax.vmap(branch, (0, None))(keys, x), axis=0)
            return SPHERE.project(x + math.sqrt(1 / finest) * moved), None

        return jax.lax.scan(layer, start, jnp.arange(count))[0]

    keys = jax.random.split(KEY, members)
    return [jax.vmap(functools.partial(end, count))(keys) for count in counts]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_distance_of_a_network_to_a_deep_one_falls_as_one_over_root_depth(kind):
    depths = (8, 16, 32, 64, 128, 256)
    *shallow, deep = ends(kind, (*depths, 4096), 4096, 128)
    errors = [float(jnp.sqrt(jnp.mean(jnp.sum((x - deep) ** 2, (1, 2))))) for x in shallow]
    assert slope(1 / np.array(depths), errors) == pytest.approx(0.5, abs=0.07)


# ---- laws


def scripted(numbers):
    """In the place of `jax.random.normal`: one after another, given numbers."""
    rest = iter(numbers)

    def normal(key, shape, dtype):
        return jnp.stack([next(rest) for _ in range(math.prod(shape))]).reshape(shape)

    return normal


def transfer(layer, grid, counts, monkeypatch):
    """The mean of Chebyshev polynomials after a layer of a pair, (overlaps before, degrees).

    The law of the overlap after a layer knows the tokens by the overlap alone. `counts` are the
    numbers of Gauss-Hermite nodes for each normal number that the layer draws.
    """
    rules = [np.polynomial.hermite_e.hermegauss(count) for count in counts]
    nodes = jnp.asarray(list(itertools.product(*(x for x, _ in rules))))
    weights = functools.reduce(np.multiply.outer, (w / w.sum() for _, w in rules)).ravel()

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    def after(node, r):
        x = jnp.stack([jnp.array([1.0, 0.0]), jnp.stack([r, jnp.sqrt(1 - r**2)])])
        with monkeypatch.context() as patch:
            patch.setattr(jax.random, "normal", scripted(node))
            y = layer(KEY, x)
        return y[0] @ y[1]

    degree = grid.size - 1
    return np.stack([weights @ chebvander(np.asarray(after(nodes, r)), degree) for r in grid])


VALUE, FIELD = 0.25, MLP("tanh", 2)
LAWS = {
    "matrix": (
        lambda h: Residual(RandomLinear(VALUE), h),
        [9] * 4,
        lambda r: fields.overlap_drift(r, lambda r: VALUE * r, dim=2),
        lambda r: fields.overlap_variance(r, lambda r: VALUE * r),
    ),
    "attention": (
        lambda h: Residual(RandomLinear(VALUE, Attention(1.3)), h),
        [9] * 4,
        lambda r: value_noise.overlap_drift(r, beta=1.3, dim=2, sigma=VALUE**0.5),
        lambda r: value_noise.overlap_variance(r, beta=1.3, sigma=VALUE**0.5),
    ),
    "transformer": (
        lambda h: Block(Fixed(Attention(0.7), h), Residual(RandomMLP("tanh", 1), h)),
        [16, 16, 1, 7, 7, 1, 1],
        lambda r: (
            fields.overlap_drift(r, kernel, dim=2) + (1 - r**2) * 2 * softmax_weight(r, beta=0.7)
        ),
        lambda r: fields.overlap_variance(r, kernel),
    ),
}


def kernel(r):
    """The covariance of the perceptron, at every width."""
    return np.asarray(FIELD(jnp.asarray(r)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAWS)
def test_the_law_of_a_network_converges_as_one_over_depth(kind, monkeypatch):
    # E r at T = 1 of a pair that starts at 0.3, without sampling: the transfer matrix of a layer on
    # polynomials of r, against the exponential of the limit's generator.
    layer, counts, drift, variance = LAWS[kind]
    grid = np.cos(np.pi * (np.arange(20) + 0.5) / 20)
    values = chebvander(grid, 19)
    slopes = np.stack([chebval(grid, chebder(row)) for row in np.eye(20)], 1) @ np.linalg.inv(
        values
    )
    generator = drift(grid)[:, None] * slopes + variance(grid)[:, None] / 2 * slopes @ slopes
    at_start = chebvander(0.3, 19)[0] @ np.linalg.inv(values)
    limit = at_start @ expm(generator) @ grid
    depths, errors = np.array([32, 64, 128, 256]), []
    for depth in depths:
        step = transfer(layer(1 / depth), grid, counts, monkeypatch) @ np.linalg.inv(values)
        errors.append(at_start @ np.linalg.matrix_power(step, depth) @ grid - limit)
    assert np.abs(errors[-1]) > 1e-6
    assert slope(1 / depths, errors) == pytest.approx(1, abs=0.2)


@pytest.mark.slow
def test_residual_layers_are_weakly_of_order_one_with_the_stated_constant():
    # A = 1 + √h B: E Δ ln sin θ = -h + h² (3n - 10)/2 + O(h³). It is linear in depth at every h, so
    # that one layer says it of any number; from a right angle its noise is of second order.
    dim, steps = 8, np.array([0.0125, 0.025, 0.05])
    bias = []
    for h in steps:
        runs = rqf.propagate(
            Residual(RandomLinear(1.0), h),
            Pair(math.pi / 2, dim),
            1,
            members=200_000,
            key=KEY,
            save=log_sine,
            batch_size=50_000,
        )
        bias.append(float(np.mean(runs.ys[:, 1])) / h + 1)
    assert slope(steps, bias) == pytest.approx(1, abs=0.2)
    limit = 2 * bias[0] / steps[0] - bias[1] / steps[1]
    assert limit == pytest.approx((3 * dim - 10) / 2, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("s2", [1.0, 4.0])
def test_wide_linear_layers_with_a_residual_contract_at_the_stated_rate(s2):
    # W of entry variance s²/n, n → ∞: E Δ ln sin θ = -(1/n) s² (1 + s²/2) / (1 + s²)².
    dim = 200
    start = rqf.laws.Fixed(np.eye(2, dim, dtype=np.float32))
    layer = Residual(RandomLinear(1 / dim), s2)
    runs = rqf.propagate(layer, start, 1, members=40_000, key=KEY, save=log_sine, batch_size=500)
    change = np.asarray(runs.ys[:, 1], float)
    expected = float(sphere.wide_layer_log_sine_increment(s2, dim))
    assert np.mean(change) == pytest.approx(expected, rel=0.03)
    assert_mean(change, expected, bias=0.02 * abs(expected))
