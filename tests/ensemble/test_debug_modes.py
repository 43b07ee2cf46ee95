"""JAX's searches for NaN and for keys used twice find nothing in runs that have neither."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf


@contextlib.contextmanager
def switched_on(option):
    jax.config.update(option, True)
    try:
        yield
    finally:
        jax.config.update(option, False)


def order(sigma):
    """The mean order of a small ensemble, from a key of its own."""
    runs = rqf.simulate(
        rqf.models.stochastic_transformer(1.0, sigma),
        rqf.laws.Uniform(3, 3),
        [0.0, 0.1, 0.3],
        substeps=2,
        members=2,
        key=jax.random.key(0),
        save=rqf.observables.polar_order,
    )
    return jnp.mean(runs.ys)


def depth():
    """The mean order of a small ensemble of networks, from a key of its own."""
    layer = rqf.layers.Plain(rqf.layers.RandomLinear(1.0))
    runs = rqf.propagate(
        layer,
        rqf.laws.Uniform(2, 3),
        2,
        members=2,
        key=jax.random.key(0),
        save=rqf.observables.polar_order,
    )
    return jnp.mean(runs.ys)


def test_searches_for_faults_find_none_in_runs():
    with switched_on("jax_debug_key_reuse"), switched_on("jax_debug_nans"):
        found = order(0.5), depth()
    assert 0 < min(found) and max(found) < 1


@pytest.mark.slow
@pytest.mark.parametrize("option", ["jax_debug_nans", "jax_debug_key_reuse"])
def test_searches_for_faults_find_none_in_a_gradient(option):
    slope = jax.value_and_grad(order)
    expected = slope(jnp.asarray(0.5))
    with switched_on(option):
        found = slope(jnp.asarray(0.5))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
