"""Single linkage on the sphere: long bars are clusters."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import unit_tokens
from scipy.sparse.csgraph import minimum_spanning_tree

from rqf_jax.analysis import ClusterCount, persistence

bars = jax.jit(persistence)


def test_the_bars_are_the_edges_of_the_minimum_spanning_tree():
    x = unit_tokens(12, 3)
    distance = np.arccos(np.clip(x @ x.T, -1, 1))
    np.fill_diagonal(distance, 0)
    edges = minimum_spanning_tree(distance).data
    np.testing.assert_allclose(bars(jnp.asarray(x)), np.sort(edges)[::-1], atol=1e-8)


def test_k_clusters_have_k_minus_one_long_bars():
    centres = unit_tokens(3, 3, seed=2)
    noise = 1e-3 * np.random.default_rng(0).standard_normal((12, 3))
    x = np.repeat(centres, 4, axis=0) + noise
    x = jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))
    long, short = bars(x)[:2], bars(x)[2:]
    assert np.all(long > 0.5) and np.all(short < 0.01)
    counts = jax.jit(jax.vmap(lambda angle: ClusterCount(angle)(x)))
    np.testing.assert_array_equal(counts(jnp.asarray([0.0, 0.1, math.pi])), [12, 3, 1])


def test_an_antipodal_pair_merges_at_pi_and_copies_at_zero():
    x = jnp.asarray(np.outer([1.0, -1.0] * 6, [1.0, 0.0, 0.0]))
    np.testing.assert_allclose(bars(x), [math.pi] + [0.0] * 10, atol=1e-15)
    gradient = jax.jit(jax.grad(lambda y: jnp.sum(persistence(y))))(x)
    assert np.all(np.isfinite(gradient))
    assert persistence(x[:1]).shape == (0,)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="`x` must be one state"):
        persistence(jnp.ones((0, 3)))
    with pytest.raises(ValueError, match=r"`angle` must be in \[0, 3\.14159\]; got 4"):
        ClusterCount(4.0)
