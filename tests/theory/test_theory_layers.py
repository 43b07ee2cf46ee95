"""Random layers against the closed forms of the sphere: increments, splits, expansions."""

import math

import numpy as np
import pytest
from _tokens import equal_gram, pair_gram, tokens_of

from rqf_jax.theory import sphere

DIMS = (2, 3, 4, 5, 6, 7, 8)


def layers(weights, x, count):
    """`count` layers x <- A x/|A x| on members of a state (members, tokens, dim)."""
    for _ in range(count):
        x = np.einsum("mij,maj->mai", weights(), x)
        x /= np.linalg.norm(x, axis=2, keepdims=True)
    return x


def residual(rng, members, dim, step, symmetric):
    def weights():
        noise = rng.standard_normal((members, dim, dim))
        noise = (noise + noise.transpose(0, 2, 1)) / 2 if symmetric else noise
        return np.eye(dim) + math.sqrt(step) * noise

    return weights


def angles_of(x):
    sine = np.linalg.norm(x[:, 0] - x[:, 1], axis=1)
    return 2 * np.arctan2(sine, np.linalg.norm(x[:, 0] + x[:, 1], axis=1))


def score(samples, expected):
    """Distance of the mean of `samples` from `expected` in standard errors."""
    return abs(samples.mean() - expected) / (samples.std() / math.sqrt(len(samples)))


@pytest.mark.parametrize(
    ("dim", "step", "symmetric"), [(3, 0.5, False), (5, 0.3, True), (2, 1.0, True)]
)
def test_random_layers_keep_the_mean_angle_and_align_with_the_aligned_probability(
    dim, step, symmetric
):
    members, angle = 20_000, 2.2
    rng = np.random.default_rng(dim)
    x = np.broadcast_to(tokens_of(pair_gram(angle), dim), (members, 2, dim))
    weights = residual(rng, members, dim, step, symmetric)
    x = layers(weights, x, 3)
    assert score(angles_of(x), angle) < 5
    x = layers(weights, x, 70)
    angles = angles_of(x)
    assert np.mean(np.minimum(angles, np.pi - angles) < 0.14) > 0.95
    assert score(angles, angle) < 5
    assert score(angles < np.pi / 2, sphere.aligned_probability(angle)) < 5


GRAMS = {
    "three": np.array([[1, 0.2, -0.5], [0.2, 1, 0.3], [-0.5, 0.3, 1]]),
    "four": np.array(
        [[1, 0.6, 0.1, 0.4], [0.6, 1, 0.3, -0.2], [0.1, 0.3, 1, 0], [0.4, -0.2, 0, 1]]
    ),
    "equal": equal_gram(4, 0.5),
}


@pytest.mark.parametrize("name", GRAMS)
def test_random_layers_split_tokens_as_a_random_hyperplane(name):
    gram, members = GRAMS[name], 10_000
    tokens = len(gram)
    rng = np.random.default_rng(tokens)
    x = np.broadcast_to(tokens_of(gram, tokens), (members, tokens, tokens))
    x = layers(residual(rng, members, tokens, 0.5, False), x, 100)
    limit = np.einsum("mai,mbi->mab", x, x)
    assert np.mean(np.abs(limit).min((1, 2)) > 0.99) > 0.98
    signs = np.sign(limit[:, 0]) * rng.choice([-1, 1], members)[:, None]
    sizes = np.sum(signs > 0, axis=1)
    aligned = np.abs(signs.sum(1)) == tokens
    assert score(aligned, sphere.all_aligned_probability(gram)) < 5
    variance = sphere.cluster_size_variance(gram)
    assert score((sizes - sphere.cluster_size_mean(tokens)) ** 2, variance) < 5
    expected = sphere.limiting_gram(gram)
    for a in range(tokens):
        for b in range(a):
            assert score(signs[:, a] * signs[:, b], expected[a, b]) < 5


@pytest.mark.parametrize("dim", [2, 4])
def test_gaussian_layers_move_log_sine_by_its_exact_increment_into_the_uniform_mean(dim):
    members, angle = 40_000, 0.8
    rng = np.random.default_rng(7)
    x = np.broadcast_to(tokens_of(pair_gram(angle), dim), (members, 2, dim))
    expected = sphere.mean_log_sine(0.0, angle, sigma=1.0)
    for _ in range(3):
        x = layers(lambda: rng.standard_normal((members, dim, dim)), x, 1)
        expected += sphere.layer_log_sine_increment(dim)
        assert score(np.log(np.sin(angles_of(x))), expected) < 5
    uniform = rng.standard_normal((members, 2, dim))
    uniform /= np.linalg.norm(uniform, axis=2, keepdims=True)
    found = np.log(np.sin(angles_of(uniform)))
    assert score(found, sphere.mean_log_sine_uniform(dim)) < 5


def test_gaussian_layers_move_log_det_gram_by_its_exact_increment():
    members, dim, gram = 40_000, 5, GRAMS["three"]
    rng = np.random.default_rng(8)
    x = np.broadcast_to(tokens_of(gram, dim), (members, 3, dim))
    x = layers(lambda: rng.standard_normal((members, dim, dim)), x, 2)
    found = np.linalg.slogdet(np.einsum("mai,mbi->mab", x, x))[1]
    expected = sphere.mean_log_det_gram(0.0, gram, sigma=1.0)
    expected += 2 * sphere.layer_log_det_increment(dim, 3)
    assert score(found, expected) < 5


@pytest.mark.parametrize("dim", DIMS)
def test_residual_layer_expansion_is_the_exact_moment_expansion(dim):
    # By isotropy E Δ ln sin θ = E[ln det S - ln S_11 - ln S_22]/2 with S = MᵀM for the first two
    # columns M of A. S = I + √h Z_1 + h (H + R): Z_1 and H from the top 2x2 block E of B, averaged
    # exactly by Gauss-Hermite nodes, and R a Wishart matrix of n - 2 degrees of freedom.
    x, w = np.polynomial.hermite_e.hermegauss(3)
    nodes = np.array(np.meshgrid(x, x, x, x)).reshape(4, -1).T.reshape(-1, 2, 2)
    weights = np.array(np.meshgrid(w, w, w, w)).reshape(4, -1).prod(0) / w.sum() ** 4
    rest = dim - 2

    def terms(size):
        z1 = (nodes + nodes.transpose(0, 2, 1))[:, :size, :size]
        h = np.einsum("mki,mkj->mij", nodes, nodes)[:, :size, :size]

        def trace(*factors):
            out = factors[0]
            for factor in factors[1:]:
                out = out @ factor
            return weights @ np.trace(out, axis1=1, axis2=2)

        wishart = h + rest * np.eye(size)
        squared = trace(h, h) + 2 * rest * trace(h) + size * rest * (rest + size + 1)
        first = trace(wishart) - trace(z1, z1) / 2
        return first, -squared / 2 + trace(z1, z1, wishart) - trace(z1, z1, z1, z1) / 4

    both, one = terms(2), terms(1)
    first, second = both[0] / 2 - one[0], both[1] / 2 - one[1]
    assert first == pytest.approx(-1, abs=1e-12)
    step = 0.01
    expected = sphere.residual_layer_log_sine_increment(step, dim)
    assert first * step + second * step**2 == pytest.approx(expected, abs=1e-12)


def log_sine_increments(rng, members, dim, scale):
    """Δ ln sin θ from a right angle in a layer I + scale·B, by S = MᵀM of two of its columns."""
    block = np.eye(2) + scale * rng.standard_normal((members, 2, 2))
    lower = scale * np.sqrt(rng.chisquare(dim - 2, members))
    across = scale * rng.standard_normal(members)
    s11 = (block[:, :, 0] ** 2).sum(1) + lower**2
    s22 = (block[:, :, 1] ** 2).sum(1) + across**2 + scale**2 * rng.chisquare(dim - 3, members)
    s12 = (block[:, :, 0] * block[:, :, 1]).sum(1) + lower * across
    return np.log1p(-(s12**2) / (s11 * s22)) / 2


def test_residual_layers_approach_the_expansion_as_the_step_shrinks():
    dim, slopes, errors = 8, [], []
    steps = (0.1, 0.05, 0.025)
    for step in steps:
        found = log_sine_increments(np.random.default_rng(9), 1_000_000, dim, math.sqrt(step))
        slopes.append((found.mean() + step) / step**2)
        errors.append(found.std() / 1000 / step**2)
    # Richardson: (8c - 6b + a)/3 removes the errors of order h and h².
    limit = (8 * slopes[2] - 6 * slopes[1] + slopes[0]) / 3
    coefficient = sphere.residual_layer_log_sine_increment(1.0, dim) + 1
    assert coefficient == 7
    assert slopes[0] < slopes[1] < slopes[2] < coefficient
    assert abs(limit - coefficient) < 0.1 * coefficient
    assert 8 / 3 * errors[2] < 0.05 * coefficient


@pytest.mark.parametrize("variance", [0.2, 1.0, 4.0])
def test_wide_layers_move_log_sine_at_the_wide_layer_rate(variance):
    dim, rng = 200, np.random.default_rng(10)
    found = log_sine_increments(rng, 400_000, dim, math.sqrt(variance / dim))
    expected = sphere.wide_layer_log_sine_increment(variance, dim)
    assert found.std() / math.sqrt(len(found)) < 0.005 * abs(expected)
    assert found.mean() == pytest.approx(expected, rel=0.03)
