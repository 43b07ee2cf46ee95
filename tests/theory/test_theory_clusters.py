"""Where random quadratic forms leave tokens: splits into two opposite clusters."""

import numpy as np
import pytest
from _tokens import equal_gram
from scipy.stats import multivariate_normal

from rqf_jax.theory import sphere


def test_orthant_law_of_equal_overlaps_has_its_closed_forms():
    for tokens in (4, 5, 9, 40):
        half = sphere.all_aligned_probability(equal_gram(tokens, 0.5))
        assert half == pytest.approx(2 / (tokens + 1), rel=1e-12)
        none = sphere.all_aligned_probability(equal_gram(tokens, 0.0))
        assert none == pytest.approx(2.0 ** (1 - tokens), rel=1e-12)
        assert sphere.all_aligned_probability(equal_gram(tokens, 1.0)) == 1
        assert sphere.all_aligned_probability(equal_gram(tokens, -1 / (tokens - 1))) == 0
    for overlap in (-0.499, -0.3, 0.2, 0.9, 0.9999):
        exact = 1 - 3 * np.arccos(overlap) / (2 * np.pi)
        assert sphere._equal_overlap_orthant(3, overlap) == pytest.approx(exact, abs=1e-12)
        two = sphere._equal_overlap_orthant(2, overlap)
        assert two == pytest.approx(sphere.aligned_probability(np.arccos(overlap)), abs=1e-12)


@pytest.mark.parametrize("overlap", [-0.24, -0.1, 0.1, 0.7])
def test_orthant_law_of_equal_overlaps_is_a_multivariate_normal_probability(overlap):
    gram, rng = equal_gram(5, overlap), np.random.default_rng(1)
    expected = 2 * multivariate_normal.cdf(np.zeros(5), cov=gram, abseps=1e-6, rng=rng)
    assert sphere.all_aligned_probability(gram) == pytest.approx(expected, abs=2e-5)


def test_tokens_on_a_half_circle_align_with_their_spread():
    angles = np.array([0.0, 0.5, 1.0, 1.5, 2.4])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = sphere.all_aligned_probability(x @ x.T)
    assert found == pytest.approx(1 - 2.4 / np.pi, abs=1e-5)
    assert found == sphere.all_aligned_probability(x @ x.T)


def test_clusters_of_uniform_tokens_are_fair_coins():
    law = sphere.cluster_size_distribution(7)
    sizes = np.arange(8)
    assert law.sum() == pytest.approx(1)
    assert sizes @ law == pytest.approx(sphere.cluster_size_mean(7))
    variance = sphere.cluster_size_variance(np.eye(7))
    assert (sizes - 3.5) ** 2 @ law == pytest.approx(variance)
    assert 2 * law[7] == pytest.approx(sphere.all_aligned_probability(np.eye(7)))
