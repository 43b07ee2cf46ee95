"""Closed forms on the sphere against algebra, quadrature, a difference scheme and random layers.

Coefficients are checked without sampling: a matrix noise dA = Σ_m E_m dW_m is a list of matrices
E_m, and the drift and covariance of x <- A x/|A x|, A = I + √h B + hB²/2, are sums over the list.
"""

import math

import numpy as np
import pytest
from _tokens import equal_gram
from scipy.linalg import eigh_tridiagonal

from rqf_jax.theory import sphere

SIGMA_S, SIGMA_A = 1.3, 0.7
DIMS = (2, 3, 4, 5, 6, 7, 8)


def unit_tokens(tokens, dim, seed=0):
    x = np.random.default_rng(seed).standard_normal((tokens, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


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
