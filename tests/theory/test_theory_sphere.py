"""Closed forms on the sphere against algebra, quadrature, a difference scheme and random layers.

Coefficients are checked without sampling: a matrix noise dA = Σ_m E_m dW_m is a list of matrices
E_m, and the drift and covariance of x <- A x/|A x|, A = I + √h B + hB²/2, are sums over the list.
"""

import math

import numpy as np
import pytest
from scipy.linalg import eigh_tridiagonal
from scipy.stats import multivariate_normal

from rqf_jax.theory import sphere

SIGMA_S, SIGMA_A = 1.3, 0.7
DIMS = (2, 3, 4, 5, 6, 7, 8)


def unit_tokens(tokens, dim, seed=0):
    x = np.random.default_rng(seed).standard_normal((tokens, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def tokens_of(gram, dim):
    """Tokens in R^dim with a given nonsingular Gram matrix."""
    return np.pad(np.linalg.cholesky(gram), ((0, 0), (0, dim - len(gram))))


def pair_gram(angle):
    return np.array([[1, np.cos(angle)], [np.cos(angle), 1]])


def equal_gram(tokens, overlap):
    return np.full((tokens, tokens), overlap) + (1 - overlap) * np.eye(tokens)


def noise_basis(dim, symmetric, antisymmetric):
    """Matrices E_m with σ_s dQ + σ_a dR = Σ_m E_m dW_m."""
    unit = np.eye(dim)
    basis = []
    for i in range(dim):
        basis.append(symmetric * np.outer(unit[i], unit[i]))
        for j in range(i):
            up, down = np.outer(unit[i], unit[j]), np.outer(unit[j], unit[i])
            basis.append(symmetric * (up + down) / math.sqrt(2))
            basis.append(antisymmetric * (up - down) / math.sqrt(2))
    return np.array([e for e in basis if e.any()])


def ito(x, basis):
    """Itô drift (tokens, dim) and noise vectors (m, tokens, dim) of the projected linear flow."""
    moved = np.einsum("mij,aj->mai", basis, x)
    radial = np.einsum("ai,mai->ma", x, moved)[..., None]
    tangent = moved - radial * x
    squares = np.sum(tangent**2, axis=-1, keepdims=True)
    correction = np.einsum("mij,maj->ai", basis, moved) / 2
    correction -= np.sum(x * correction, axis=1, keepdims=True) * x
    return (-radial * tangent - squares * x / 2).sum(0) + correction, tangent


def gram_ito(x, basis):
    """Drift (a, b) and noise (m, a, b) of the Gram matrix of `x`."""
    drift, noise = ito(x, basis)
    half = np.einsum("mai,bi->mab", noise, x)
    quadratic = np.einsum("mai,mbi->ab", noise, noise)
    return drift @ x.T + x @ drift.T + quadratic, half + half.transpose(0, 2, 1)


@pytest.mark.parametrize("dim", DIMS)
def test_one_token_drifts_at_the_rate_of_the_one_point_correlation(dim):
    x = unit_tokens(3, dim)
    drift, noise = ito(x, noise_basis(dim, SIGMA_S, SIGMA_A))
    correlation = sphere.one_point_correlation(
        1.0, symmetric=SIGMA_S, antisymmetric=SIGMA_A, dim=dim
    )
    np.testing.assert_allclose(drift, np.log(correlation) * x, atol=1e-12)
    alpha, beta = (SIGMA_S**2 + SIGMA_A**2) / 2, (SIGMA_S**2 - SIGMA_A**2) / 2
    tangent = np.eye(dim) - np.einsum("ai,aj->aij", x, x)
    middle = alpha * np.einsum("ab,ij->abij", x @ x.T, np.eye(dim))
    middle += beta * np.einsum("bi,aj->abij", x, x)
    expected = np.einsum("aij,abjk,bkl->abil", tangent, middle, tangent)
    found = np.einsum("mai,mbj->abij", noise, noise)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("dim", DIMS)
def test_overlap_and_gram_coefficients_are_those_of_the_noise(dim):
    x = unit_tokens(4, dim)
    drift, noise = gram_ito(x, noise_basis(dim, SIGMA_S, SIGMA_A))
    gram = x @ x.T
    np.testing.assert_allclose(drift, sphere.gram_drift(gram, sigma=SIGMA_S), atol=1e-12)
    found = np.einsum("mab,mcd->abcd", noise, noise)
    expected = sphere.gram_covariance(gram, sigma=SIGMA_S)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    upper = np.triu_indices(4, 1)
    overlaps = gram[upper]
    expected = sphere.overlap_drift(overlaps, sigma=SIGMA_S)
    np.testing.assert_allclose(drift[upper], expected, atol=1e-12)
    expected = sphere.overlap_variance(overlaps, sigma=SIGMA_S)
    np.testing.assert_allclose(np.einsum("mab,mab->ab", noise, noise)[upper], expected, atol=1e-12)


@pytest.mark.parametrize(("tokens", "dim"), [(2, 3), (3, 4), (4, 7), (5, 6)])
def test_log_det_gram_drifts_as_its_mean_and_as_the_sum_of_lyapunov_exponents(tokens, dim):
    x = unit_tokens(tokens, dim, seed=2)
    drift, noise = gram_ito(x, noise_basis(dim, SIGMA_S, SIGMA_A))
    inverse = np.linalg.inv(x @ x.T)
    turned = inverse @ noise
    found = np.sum(inverse * drift) - np.einsum("mab,mba->", turned, turned) / 2
    zero, one = sphere.mean_log_det_gram([0, 1], x @ x.T, sigma=SIGMA_S)
    assert found == pytest.approx(one - zero, abs=1e-10)
    exponents = sphere.lyapunov_spectrum(dim, sigma=SIGMA_S)
    assert 2 * exponents[: tokens - 1].sum() == pytest.approx(one - zero, rel=1e-14)


def test_noise_ranks_are_matrix_ranks():
    for dim in (2, 3, 5, 6):
        for tokens in (1, 2, 3, 4, 5, 6, 8, 9):
            x = unit_tokens(tokens, dim, seed=tokens)
            for rank, strengths in (
                (sphere.symmetric_rank, (1, 0)),
                (sphere.antisymmetric_rank, (0, 1)),
                (sphere.full_rank, (1, 0.5)),
            ):
                noise = ito(x, noise_basis(dim, *strengths))[1].reshape(-1, tokens * dim)
                assert rank(tokens, dim) == np.linalg.matrix_rank(noise, tol=1e-9)


ANGLES = np.array([1e-6, 0.3, np.pi / 3, np.pi / 2, 2.9])
TIMES = np.array([1e-3, 0.05, 0.5, 2, 10, 50])[:, None]


def log_sine(u):
    return math.log(2) - np.logaddexp(u, -u)


def mean(function, time, angle, **options):
    return sphere.expectation(function, time, angle, sigma=1.0, **options)


def test_the_law_has_mass_one_mean_angle_theta0_and_the_exact_mean_log_sine():
    np.testing.assert_allclose(mean(np.ones_like, TIMES, ANGLES), np.ones((6, 5)), atol=1e-12)
    angles = mean(lambda u: 2 * np.arctan(np.exp(-u)), TIMES, ANGLES)
    np.testing.assert_allclose(angles, np.broadcast_to(ANGLES, (6, 5)), atol=1e-12)
    expected = sphere.mean_log_sine(TIMES, ANGLES, sigma=1.0)
    np.testing.assert_allclose(mean(log_sine, TIMES, ANGLES), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("time", [1e-3, 0.05, 0.3])
def test_mean_cotangent_grows_as_exp_2t_and_its_square_as_exp_6t(time):
    cot = 1 / np.tan(ANGLES[1:])
    found = mean(np.sinh, time, ANGLES[1:])
    np.testing.assert_allclose(found, np.exp(2 * time) * cot, rtol=1e-10, atol=1e-12)
    found = mean(lambda u: np.sinh(u) ** 2, time, ANGLES[1:])
    np.testing.assert_allclose(found, (cot**2 + 1 / 3) * np.exp(6 * time) - 1 / 3, rtol=1e-10)


# Var θ, E r, E r², E sin θ, P(sin θ < 0.1), Var ln sin θ by an implicit difference scheme of stated
# error 2e-4 (5e-4 at t = 4); its last column at t = 4, cut off by the grid's end, is left out here.
TABLE = {
    (2, 0.25): (0.41122, 0, 0.31004, 0.80848, 0.0001, 0.08878),
    (2, 0.5): (0.71303, 0, 0.46957, 0.67867, 0.0086, 0.28697),
    (2, 1): (1.14425, 0, 0.64824, 0.50214, 0.1043, 0.85575),
    (2, 2): (1.65813, 0, 0.81358, 0.30108, 0.3835, 2.34187),
    (2, 4): (2.12153, 0, 0.93107, 0.12630, 0.7287, 5.87841),
    (3, 0.25): (0.32980, 0.44003, 0.42142, 0.72395, 0.0008, 0.17020),
    (3, 0.5): (0.58794, 0.41041, 0.53871, 0.61627, 0.0225, 0.41206),
    (3, 1): (0.96946, 0.38001, 0.68422, 0.46246, 0.1433, 1.03053),
    (3, 2): (1.43685, 0.35539, 0.82849, 0.28082, 0.4195, 2.56315),
    (3, 4): (1.86698, 0.34049, 0.93546, 0.11904, 0.7442, 6.13296),
}


@pytest.mark.parametrize(("part", "time"), TABLE)
def test_expectations_are_those_of_an_independent_difference_scheme(part, time):
    sigma, angle = 1.7, np.pi / part
    t, overlap = time / sigma**2, np.cos(np.pi / part)
    far = np.arctanh(np.sqrt(0.99))
    spread = mean(lambda u: log_sine(u) ** 2, time, angle) - mean(log_sine, time, angle) ** 2
    found = (
        sphere.angle_variance(t, angle, sigma=sigma),
        sphere.mean_overlap(t, overlap, sigma=sigma),
        sphere.mean_squared_overlap(t, overlap, sigma=sigma),
        sphere.mean_sine(t, angle, sigma=sigma),
        mean(lambda u: np.abs(u) > far, time, angle, points=(-far, far)),
        spread,
    )
    for value, oracle in zip(found, TABLE[part, time], strict=True):
        assert value == pytest.approx(oracle, abs=5e-4 if time == 4 else 2e-4)


def test_variances_of_angle_and_log_sine_accumulate_their_martingale_brackets():
    time, angle = 4.0, np.pi / 3
    x, w = np.polynomial.legendre.leggauss(24)
    nodes, weights = time * (x + 1) / 2, time * w / 2
    sine_squared = 1 - sphere.mean_squared_overlap(nodes, np.cos(angle), sigma=1.0)
    found = sphere.angle_variance(time, angle, sigma=1.0)
    assert found == pytest.approx(2 * weights @ sine_squared, abs=1e-8)
    spread = mean(log_sine, time, angle)
    spread = mean(lambda u: (log_sine(u) - spread) ** 2, time, angle)
    assert spread == pytest.approx(2 * weights @ (1 - sine_squared), abs=1e-8)


def hyperbolic_density(u, u0, t):
    """∫ of the heat kernel of the hyperbolic plane along a line at distance u from a geodesic."""
    x, w = np.polynomial.legendre.leggauss(200)
    v, dv = 6 * (x + 1), 6 * w
    cosh_rho = np.cosh(u0) * np.cosh(u) * np.cosh(v) - np.sinh(u0) * np.sinh(u)
    rho = np.arccosh(np.maximum(cosh_rho, 1))[:, None]
    top = math.sqrt(rho.max() + math.sqrt(160 * t))
    z, dz = top * (x + 1) / 2, top * w / 2
    s = rho + z**2  # removes the inverse square root at s = rho
    root = np.sqrt(2 * np.sinh((s + rho) / 2) * np.sinh(z**2 / 2))
    kernel = (s * np.exp(-(s**2) / (4 * t)) / root * 2 * z) @ dz
    scale = math.sqrt(2) * math.exp(-t / 4) * (4 * math.pi * t) ** -1.5
    return 2 * np.cosh(u) * scale * (kernel @ dv)


@pytest.mark.parametrize(("u0", "t"), [(0.0, 0.5), (0.7, 0.3), (0.7, 1.0), (-1.5, 2.0)])
def test_density_is_the_hyperbolic_heat_kernel_integrated_along_a_geodesic(u0, t):
    for u in (-2.0, -0.4, 0.3, 1.5, 3.0):
        angle, initial = 2 * np.arctan(np.exp(-np.array([u, u0])))
        found = sphere.angle_density(angle, t, initial, sigma=1.0)
        assert found == pytest.approx(hyperbolic_density(u, u0, t) * np.cosh(u), rel=1e-8)


def birth_death_density(start, t, half, spacing):
    """The law at time t of a chain on a grid of rapidities: error spacing², exact in time."""
    u = np.arange(-half, half + 1) * spacing
    up = 1 / spacing**2 + np.tanh(u[:-1]) / (2 * spacing)
    down = 1 / spacing**2 - np.tanh(u[1:]) / (2 * spacing)
    diagonal = -(np.append(up, 0) + np.insert(down, 0, 0))
    # √(up down) makes the generator symmetric under the weights of its reversible measure.
    log_weight = np.insert(np.cumsum(np.log(up / down)), 0, 0) / 2
    values, vectors = eigh_tridiagonal(diagonal, np.sqrt(up * down))
    i = int(np.argmin(np.abs(u - start)))
    law = vectors @ (np.exp(t * values) * vectors[i]) * np.exp(log_weight - log_weight[i])
    return u, law / spacing


def test_density_and_sign_probability_solve_the_forward_equation():
    start, t = 0.8, 0.6
    angle = 2 * np.arctan(np.exp(-start))
    u, coarse = birth_death_density(start, t, 200, 0.04)
    fine = birth_death_density(start, t, 400, 0.02)[1][::2]
    extrapolated = (4 * fine - coarse) / 3
    inside = np.abs(u) < 6
    angles = 2 * np.arctan(np.exp(-u[inside]))
    found = sphere.angle_density(angles, t, angle, sigma=1.0) / np.cosh(u[inside])
    np.testing.assert_allclose(found, extrapolated[inside], atol=2e-6)
    positive = 0.04 * (extrapolated[u > 0].sum() + extrapolated[u == 0].sum() / 2)
    # The trapezoid rule on u > 0 misses -spacing² p'(0)/12.
    slope = (extrapolated[201] - extrapolated[199]) / 0.08
    found = sphere.positive_overlap_probability(t, np.tanh(start), sigma=1.0)
    assert found == pytest.approx(positive + 0.04**2 * slope / 12, abs=2e-6)


@pytest.mark.parametrize("t", [1e-3, 0.02, 0.4, 1.0])
def test_density_in_the_angle_integrates_to_one_with_mean_theta0(t):
    initial = np.array([0.2, 1.0, np.pi / 2, 2.5])
    # Dense near the poles, where the density is steep.
    x = np.linspace(0, 1, 4001)[:, None]
    angle = np.pi * x - np.sin(2 * np.pi * x) / 2
    weight = np.pi * (1 - np.cos(2 * np.pi * x)) / 4000
    density = sphere.angle_density(angle, t / 0.49, initial, sigma=0.7) * weight
    np.testing.assert_allclose(density.sum(0), np.ones(4), atol=1e-9)
    np.testing.assert_allclose((angle * density).sum(0), initial, atol=1e-9)


def test_density_obeys_chapman_kolmogorov():
    middle = np.linspace(0, np.pi, 2001)[1:-1]
    final = np.array([0.1, 0.8, 1.9, 3.0])
    first = sphere.angle_density(middle, 0.3, 1.1, sigma=1.0)
    second = sphere.angle_density(final[:, None], 0.7, middle, sigma=1.0)
    expected = sphere.angle_density(final, 1.0, 1.1, sigma=1.0)
    np.testing.assert_allclose(second @ first * np.pi / 2000, expected, rtol=1e-8)


def test_density_survives_short_and_long_times_and_the_ends():
    for t in (1e-3, 0.1, 1.0, 50.0):
        angle = np.array([0.0, 1e-12, 1.0, np.pi - 1e-9, np.pi])
        density = sphere.angle_density(angle, t, np.array([[1e-9], [1.0]]), sigma=1.0)
        assert np.all(np.isfinite(density)) and np.all(density >= 0)
        np.testing.assert_array_equal(density[:, [0, -1]], np.zeros((2, 2)))
    # dθ = √2 sin θ dW is Gaussian over a short time.
    peak = sphere.angle_density(1.0, 1e-8, 1.0, sigma=1.0)
    assert peak == pytest.approx(1 / math.sqrt(4e-8 * math.pi) / math.sin(1.0), rel=1e-6)


def test_the_sign_of_an_overlap_ends_as_the_aligned_probability():
    found = sphere.positive_overlap_probability(200.0, np.cos(ANGLES), sigma=1.0)
    np.testing.assert_allclose(found, sphere.aligned_probability(ANGLES), atol=1e-6)
    assert sphere.positive_overlap_probability(0.7, 0.0, sigma=1.0) == pytest.approx(0.5)


def test_aligned_opposite_and_motionless_tokens_keep_their_overlap():
    overlaps = np.array([-1.0, 0.3, 1.0])
    for time, sigma in ((0.0, 1.0), (3.0, 0.0)):
        kept = sphere.mean_overlap(time, overlaps, sigma=sigma)
        np.testing.assert_array_equal(kept[[0, 2]], overlaps[[0, 2]])
        # In between it is tanh(artanh r), whose last bit differs from one processor to another.
        np.testing.assert_array_max_ulp(kept, overlaps, maxulp=1)
    moved = sphere.mean_overlap(3.0, overlaps, sigma=1.0)
    np.testing.assert_array_equal(moved[[0, 2]], overlaps[[0, 2]])
    variance = sphere.angle_variance(3.0, np.array([0.0, np.pi]), sigma=1.0)
    np.testing.assert_array_equal(variance, np.zeros(2))


def test_first_passage_moments_are_those_of_a_quadrature():
    table = {0.3: 0.8231, 0.1: 2.4453, 0.03: 4.6394, 0.01: 6.7743, 0.001: 11.3513}
    found = sphere.synchronisation_time_variance(np.pi / 2, list(table), sigma=1.0)
    np.testing.assert_allclose(found, list(table.values()), atol=6e-5)
    # E τ and E τ² by integrating (cosh u T')' = -cosh u and (cosh u S')' = -2 cosh u T.
    angle, threshold, sigma = 2.3, 0.2, 1.3
    u = np.linspace(0, np.arctanh(np.cos(threshold)), 20001)
    spacing = u[1]

    def solve(source):
        flux = np.cosh(u) * source
        inner = np.append(0, np.cumsum(flux[1:] + flux[:-1]) * spacing / 2) / np.cosh(u)
        outer = np.append(0, np.cumsum(inner[1:] + inner[:-1]) * spacing / 2)
        return outer[-1] - outer

    first = solve(np.ones_like(u))
    start = np.arctanh(abs(np.cos(angle)))
    expected = np.interp(start, u, first), np.interp(start, u, solve(2 * first))
    time = sphere.mean_synchronisation_time(angle, threshold, sigma=sigma)
    assert time * sigma**2 == pytest.approx(expected[0], abs=1e-6)
    variance = sphere.synchronisation_time_variance(angle, threshold, sigma=sigma)
    assert variance * sigma**4 == pytest.approx(expected[1] - expected[0] ** 2, abs=1e-6)
    assert sphere.mean_synchronisation_time(0.1, 0.2, sigma=1.0) == 0
    assert sphere.synchronisation_time_variance(0.1, 0.2, sigma=1.0) == 0


def test_monitoring_at_steps_delays_the_first_passage_by_the_shift():
    members, step, threshold, sigma = 40_000, 0.01, 0.1, 1.0
    rng = np.random.default_rng(5)
    barrier = np.arctanh(np.cos(threshold))
    u, times, steps = np.zeros(members), np.zeros(members), 0
    while u.size:
        # A Heun step: the walk's own bias must be smaller than the shift, of order √step.
        noise = math.sqrt(2 * step) * rng.standard_normal(u.size)
        guess = u + np.tanh(u) * step + noise
        u = u + (np.tanh(u) + np.tanh(guess)) * step / 2 + noise
        steps += 1
        done = np.abs(u) >= barrier
        times[members - u.size : members - u.size + done.sum()] = steps * step
        u = u[~done]
    shift = sphere.discrete_monitoring_shift(step, sigma=sigma) * math.cos(threshold)
    expected = sphere.mean_synchronisation_time(np.pi / 2, threshold, sigma=sigma) + shift
    error = times.std() / math.sqrt(members)
    assert shift > 8 * error
    assert abs(times.mean() - expected) < 4 * error


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


def test_time_enters_only_as_sigma_squared_t():
    for law in (sphere.mean_sine, sphere.angle_variance, sphere.mean_log_sine):
        slow = law(np.array([0.2, 1.0]), 1.2, sigma=1.5)
        np.testing.assert_allclose(slow, law(np.array([0.45, 2.25]), 1.2, sigma=1.0), rtol=1e-12)


EYE = np.eye(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sphere.aligned_probability(3.3), r"`angle` must lie in \[0, pi\]; got 3.3"),
        (lambda: sphere.aligned_probability([1, np.nan]), r"`angle` must lie in .*; got nan"),
        (lambda: sphere.mean_log_sine(-1.0, 1.0, sigma=1.0), r"`time` must .* 0; got -1.0"),
        (lambda: sphere.mean_sine(1.0, 1.0, sigma=-2.0), r"`sigma` must .* 0; got -2.0"),
        (lambda: sphere.mean_overlap(1.0, 1.5, sigma=1.0), r"`overlap0` must .*; got 1.5"),
        (lambda: sphere.angle_density(1.0, 0.0, 1.0, sigma=1.0), r"`time` must .*; got 0.0"),
        (lambda: sphere.angle_density(1.0, 1.0, 0.0, sigma=1.0), r"`initial_angle` must .*; got 0"),
        (lambda: sphere.mean_synchronisation_time(1, 0, sigma=1), r"`threshold` must .*; got 0"),
        (lambda: sphere.mean_synchronisation_time(1, 0.1, sigma=0), r"`sigma` must .*; got 0.0"),
        (lambda: sphere.discrete_monitoring_shift(0.1, sigma=0), r"`sigma` must be .*; got 0.0"),
        (lambda: sphere.limiting_gram(EYE[:2]), r"`gram` must be a square matrix; .*\(2, 3\)"),
        (lambda: sphere.limiting_gram(2 * EYE), r"`gram` must have a unit diagonal; got 2.0"),
        (lambda: sphere.limiting_gram(EYE + np.eye(3, k=1) / 2), "`gram` must be symmetric; .*0.5"),
        (lambda: sphere.limiting_gram(equal_gram(3, -0.9)), "positive semidefinite; .*-0.8"),
        (lambda: sphere.layer_log_det_increment(3, 4), "`tokens` must be at most `dim` = 3; got 4"),
        (lambda: sphere.lyapunov_spectrum(1, sigma=1.0), "`dim` must be at least 2; got 1"),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
