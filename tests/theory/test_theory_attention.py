"""Closed forms of attention with shared noise against right-hand sides, solvers and quadrature."""

import math

import numpy as np
import pytest
from _ito import (
    full_basis,
    gram_ito,
    ito,
    matrix_moves,
    overlap_ito,
    symmetric_basis,
    unit_tokens,
)
from scipy.integrate import quad, solve_ivp
from scipy.special import digamma, exp1, expi

from rqf_jax.theory import attention, sphere, value_noise
from rqf_jax.theory.attention import softmax_weight, unnormalised_weight

WEIGHTS = pytest.mark.parametrize("weight", [softmax_weight, unnormalised_weight])
BETA, STRENGTH, SIGMA = 1.3, 0.8, 1.1


def attention_matrix(x, beta, weight):
    logits = np.exp(beta * x @ x.T)
    return logits / (len(x) if weight is unnormalised_weight else logits.sum(1, keepdims=True))


def velocity(x, beta, weight):
    """P Σ_j w_ij x_j, written out."""
    pulled = attention_matrix(x, beta, weight) @ x
    return pulled - np.sum(pulled * x, axis=1, keepdims=True) * x


def pair(overlap, dim):
    x = np.zeros((2, dim))
    x[0, 0], x[1, 0], x[1, 1] = 1, overlap, math.sqrt(1 - overlap**2)
    return x


def simplex(overlap, tokens):
    gram = np.full((tokens, tokens), overlap) + (1 - overlap) * np.eye(tokens)
    return np.linalg.cholesky(gram)


@WEIGHTS
@pytest.mark.parametrize("dim", [2, 3, 6])
def test_two_tokens_drift_by_attention_and_by_the_noise(weight, dim):
    x = unit_tokens(2, dim, seed=3)
    r = x[0] @ x[1]
    moves = SIGMA * matrix_moves(x, symmetric_basis(dim))
    drift, variance = overlap_ito(x, moves)
    pushed = velocity(x, BETA, weight)
    drift += STRENGTH * (pushed[0] @ x[1] + pushed[1] @ x[0])
    options = {"beta": BETA, "strength": STRENGTH, "sigma": SIGMA}
    assert drift == pytest.approx(attention.overlap_drift(r, weight, **options), abs=1e-12)
    assert variance == pytest.approx(sphere.overlap_variance(r, sigma=SIGMA), abs=1e-12)
    # Itô's formula for u = artanh r.
    rapidity = drift / (1 - r**2) + r * variance / (1 - r**2) ** 2
    assert rapidity == pytest.approx(attention.rapidity_drift(r, weight, **options), abs=1e-12)


@WEIGHTS
@pytest.mark.parametrize("tokens", [2, 3, 5])
def test_equiangular_tokens_move_by_the_equiangular_velocity(weight, tokens):
    x = simplex(0.35, tokens)
    pushed = velocity(x, BETA, weight)
    change = pushed @ x.T + x @ pushed.T
    expected = attention.equiangular_velocity(0.35, weight, beta=BETA, tokens=tokens)
    off_diagonal = change[~np.eye(tokens, dtype=bool)]
    np.testing.assert_allclose(off_diagonal, expected, atol=1e-12)


@WEIGHTS
def test_equiangular_tokens_follow_the_ordinary_differential_equation_of_all_tokens(weight):
    tokens, times = 4, np.array([0.4, 2.5, 1.0])
    x = simplex(-0.2, tokens)
    solution = solve_ivp(
        lambda _, y: STRENGTH * velocity(y.reshape(x.shape), BETA, weight).ravel(),
        (0, 2.5),
        x.ravel(),
        t_eval=np.sort(times),
        rtol=1e-11,
        atol=1e-12,
    )
    gram = np.einsum("ait,bit->abt", *[solution.y.reshape(tokens, tokens, -1)] * 2)
    options = {"beta": BETA, "strength": STRENGTH, "tokens": tokens}
    found = attention.equiangular_overlap(times, -0.2, weight, **options)
    np.testing.assert_allclose(found[[0, 2, 1]], gram[0, 2], atol=1e-9)
    elapsed = attention.equiangular_time(-0.2, found, weight, **options)
    np.testing.assert_allclose(elapsed, times, rtol=1e-9)


def test_the_entropy_of_equiangular_tokens_is_that_of_their_covariance():
    for tokens, overlap in ((2, -0.3), (5, 0.35), (7, 0.999)):
        x = simplex(overlap, tokens)
        values = np.linalg.eigvalsh(x.T @ x / tokens)
        expected = -np.sum(values * np.log(values))
        found = attention.equiangular_entropy(overlap, tokens=tokens)
        assert found == pytest.approx(expected, rel=1e-10)
    assert attention.equiangular_entropy(1.0, tokens=4) == 0
    isotropic = attention.equiangular_entropy([0.0, -1 / 3], tokens=4)
    np.testing.assert_allclose(np.exp(isotropic), [4, 3], rtol=1e-12)


@WEIGHTS
@pytest.mark.parametrize("beta", [0.5, 4.0, 12.0])
def test_merge_times_are_exponential_integrals(weight, beta):
    start, stop, others = 0.1, 1 - 1e-6, 4

    def unnormalised(gamma):
        # ∫ e^{-βγ} dγ/[(1-γ)(1+(N-1)γ)] by partial fractions.
        shifted = gamma + 1 / others
        aligned = -math.exp(-beta) * expi(beta * (1 - gamma))
        return (aligned - math.exp(beta / others) * exp1(beta * shifted)) / (others + 1)

    def uniform(gamma):
        return math.log((1 + others * gamma) / (1 - gamma)) / (others + 1)

    slow, fast = unnormalised(stop) - unnormalised(start), uniform(stop) - uniform(start)
    if weight is unnormalised_weight:
        expected = (others + 1) * slow / 2
    else:
        expected = (math.exp(beta) * slow + others * fast) / 2
    found = attention.equiangular_time(start, stop, weight, beta=beta, tokens=others + 1)
    assert found == pytest.approx(expected, rel=1e-10)


@WEIGHTS
def test_two_tokens_at_infinite_temperature_halve_the_tangent_of_half_their_angle(weight):
    times, angle = np.array([0.0, 0.7, 3.0]), 2.5
    found = attention.equiangular_overlap(times, math.cos(angle), weight, beta=0.0, tokens=2)
    expected = 2 * np.arctan(np.tan(angle / 2) * np.exp(-times))
    np.testing.assert_allclose(np.arccos(found), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("overlap", "weight", "beta", "strength", "expected"),
    [
        (0.0, unnormalised_weight, 0.0, 0.5, 0.21945),
        (0.0, unnormalised_weight, 1.0, 0.5, 0.25763),
        (0.0, unnormalised_weight, 1.0, 2.0, 0.02547),
        (0.0, softmax_weight, 1.0, 2.0, 0.11225),
        (-0.5, softmax_weight, 1.0, 2.0, 0.2482),
    ],
)
def test_antipodal_probability_agrees_with_tables_and_adaptive_quadrature(
    overlap, weight, beta, strength, expected
):
    found = attention.antipodal_probability(
        overlap, weight, beta=beta, strength=strength, sigma=1.0
    )
    assert found == pytest.approx(expected, abs=6e-5)

    # The other route carries ∫ pull and the scale function along the line with an ODE solver.
    def slope(u, state):
        pull = 2 * strength * weight(math.tanh(u), beta=beta)
        return [pull, math.exp(-state[0]) / math.cosh(u)]

    start = math.atanh(overlap)
    masses = [
        abs(solve_ivp(slope, (start, end), [0, 0], rtol=1e-10, atol=1e-13).y[1, -1])
        for end in (-120.0, 30.0)
    ]
    assert found == pytest.approx(masses[1] / sum(masses), rel=1e-8)


def test_antipodal_probability_at_infinite_temperature_has_its_closed_forms():
    overlaps = np.array([-1.0, -0.999, -0.3, 0.0, 0.6, 1.0])
    for ratio in (0.0, 0.3, 0.95, 0.9999, 1.0, 1.7):
        expected = attention.uniform_antipodal_probability(overlaps, strength=ratio, sigma=1.0)
        for weight in (softmax_weight, unnormalised_weight):
            found = attention.antipodal_probability(
                overlaps, weight, beta=0.0, strength=4 * ratio, sigma=2.0
            )
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-14)
    kappa = np.array([0.2, 0.5, 0.9])
    digammas = digamma((kappa + 3) / 4) - digamma((kappa + 1) / 4)
    expected = np.cos(np.pi * kappa / 2) / (2 * np.pi) * digammas
    found = attention.uniform_antipodal_probability(0.0, strength=kappa, sigma=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@WEIGHTS
def test_antipodal_probability_without_attention_is_the_angle_over_pi(weight):
    angles = np.linspace(0, np.pi, 7)
    found = attention.antipodal_probability(
        np.cos(angles), weight, beta=2.0, strength=0.0, sigma=0.7
    )
    np.testing.assert_allclose(found, 1 - sphere.aligned_probability(angles), atol=1e-9)


@WEIGHTS
@pytest.mark.parametrize("beta", [0.0, 0.7, 2.0, 6.0])
def test_antipodal_tokens_attract_exactly_below_the_critical_strength(weight, beta):
    critical = attention.critical_strength(weight, beta=beta, sigma=SIGMA)
    expected = math.exp(beta) if weight is unnormalised_weight else (1 + math.exp(2 * beta)) / 2
    assert critical == pytest.approx(SIGMA**2 * expected, rel=1e-12)
    overlaps = np.array([-0.99, 0.0, 0.9])
    for factor, attracts in ((0.5, True), (1 - 1e-6, True), (1 + 1e-9, False), (3.0, False)):
        options = {"beta": beta, "strength": float(factor * critical), "sigma": SIGMA}
        rate = attention.antipodal_rate(weight, **options)
        found = attention.antipodal_probability(overlaps, weight, **options)
        assert (rate > 0) == attracts
        assert np.all(np.isfinite(found))
        assert np.all(np.diff(found) <= 0)
        assert (found[0] > 0) == attracts
        if factor == 1 - 1e-6:
            assert found[0] < 1e-4


@WEIGHTS
def test_repulsive_attention_is_attractive_attention_of_the_mirrored_token(weight):
    overlaps = np.array([-0.8, 0.1, 0.7])

    def mirrored(r, *, beta):
        return weight(-r, beta=beta)

    options = {"beta": 0.6, "sigma": 1.0}
    found = attention.antipodal_probability(overlaps, weight, strength=-0.4, **options)
    mirror = attention.antipodal_probability(-overlaps, mirrored, strength=0.4, **options)
    np.testing.assert_allclose(found, 1 - mirror, rtol=1e-12)


def test_probabilities_survive_sharp_attention_and_the_ends():
    overlaps = np.array([-1.0, -1 + 1e-12, 0.0, 1 - 1e-15, 1.0])
    found = attention.antipodal_probability(
        overlaps, unnormalised_weight, beta=30.0, strength=1.0, sigma=1.0
    )
    assert found[0] == 1
    assert found[1] == pytest.approx(1, abs=1e-5)
    assert np.all(found[3:] == 0)
    assert 0 < found[2] < 0.5


@pytest.mark.parametrize(("tokens", "plus"), [(2, 1), (10, 5), (10, 8), (10, 9), (3, 3)])
@WEIGHTS
def test_splits_open_at_the_split_rate(weight, tokens, plus):
    # Tokens at +e and -e; all of one cluster turn by ε, so that the clusters' angle is π - ε.
    eps, beta = 1e-5, 1.0
    sides = np.where(np.arange(tokens) < plus, 1.0, -1.0)

    def slope(turn):
        x = np.stack([sides * math.cos(turn), sides * math.sin(turn) * (sides > 0)], axis=1)
        x[sides < 0, 0] = -1
        moved = velocity(x, beta, weight)
        # The velocity of the angle of each cluster: along (-sin, cos) at + and (0, -1) at -.
        up = moved[0] @ [-math.sin(turn), math.cos(turn)]
        down = moved[-1] @ [0.0, -1.0] if plus < tokens else 0.0
        return up - down

    if plus == tokens:
        found = float(attention.softmax_split_rate(1.0, beta=beta, strength=1.0))
        assert found == pytest.approx(1.0)  # a vanishing minority falls in at full speed
        return
    found = (slope(eps) - slope(-eps)) / (2 * eps)
    if weight is unnormalised_weight:
        expected = attention.unnormalised_split_rate(beta=beta, strength=1.0)
    else:
        expected = attention.softmax_split_rate(plus / tokens, beta=beta, strength=1.0)
    assert found == pytest.approx(expected, abs=1e-8)


def test_split_rates_have_the_tabulated_values_and_the_rate_of_two_tokens():
    found = attention.softmax_split_rate([0.8, 0.9], beta=1.0, strength=1.0)
    np.testing.assert_allclose(found, [0.38394, 0.56396], atol=5e-6)
    options = {"beta": BETA, "strength": STRENGTH, "sigma": SIGMA}
    half = attention.softmax_split_rate(0.5, **options)
    assert half == pytest.approx(-attention.antipodal_rate(softmax_weight, **options), rel=1e-12)
    any_split = attention.unnormalised_split_rate(**options)
    pair_rate = attention.antipodal_rate(unnormalised_weight, **options)
    assert any_split == pytest.approx(-pair_rate, rel=1e-12)


def cluster_pair(r, fraction, beta, dim):
    """Two clusters' tokens and what attention feeds to the value matrix."""
    x = pair(r, dim)
    masses = np.array([fraction, 1 - fraction])
    logits = masses * np.exp(beta * x @ x.T)
    return x, logits / logits.sum(1, keepdims=True) @ x


@pytest.mark.parametrize("dim", [2, 3, 5])
@pytest.mark.parametrize("fraction", [0.5, 0.75, 0.1])
def test_random_value_matrices_move_clusters_by_their_ito_coefficients(dim, fraction):
    for r in (-0.999, -0.4, 0.0, 0.8):
        x, fed = cluster_pair(r, fraction, BETA, dim)
        drift, variance = overlap_ito(x, SIGMA * matrix_moves(fed, full_basis(dim)))
        found = value_noise.cluster_overlap_drift(r, fraction, beta=BETA, dim=dim, sigma=SIGMA)
        assert found == pytest.approx(drift, abs=1e-12)
        found = value_noise.cluster_overlap_variance(r, fraction, beta=BETA, sigma=SIGMA)
        assert found == pytest.approx(variance, abs=1e-12)
        if fraction == 0.5:
            options = {"beta": BETA, "sigma": SIGMA}
            found = value_noise.overlap_drift(r, dim=dim, **options)
            assert found == pytest.approx(drift, abs=1e-12)
            assert value_noise.overlap_variance(r, **options) == pytest.approx(variance, abs=1e-12)
            sine2 = 1 - r**2
            rapidity = drift / sine2 + r * variance / sine2**2
            found = value_noise.rapidity_drift(r, dim=dim, **options)
            assert found == pytest.approx(rapidity, abs=1e-9)
            found = value_noise.rapidity_variance(r, **options)
            assert found == pytest.approx(variance / sine2**2, abs=1e-9)


def test_a_mean_value_matrix_adds_the_drift_of_attention():
    options = {"beta": BETA, "sigma": SIGMA}
    r = np.linspace(-1, 1, 5)
    mean = value_noise.rapidity_drift(r, dim=4, strength=STRENGTH, **options)
    noise = value_noise.rapidity_drift(r, dim=4, **options)
    pulled = attention.rapidity_drift(r, softmax_weight, beta=BETA, strength=STRENGTH, sigma=0.0)
    np.testing.assert_allclose(mean - noise, pulled, rtol=1e-12)


def test_random_value_matrices_keep_antipodal_tokens_above_the_critical_beta():
    table = {3: 0, 4: 0.6585, 5: 0.8814, 8: 1.2389, 16: 1.6655, 64: 2.4101, 768: 3.6672}
    for dim, expected in table.items():
        critical = value_noise.critical_beta(dim)
        assert critical == pytest.approx(expected, abs=5e-5)
        assert math.cosh(2 * critical) == pytest.approx(dim - 2, rel=1e-12)
        for shift in (-1e-3, 1e-3, 0.2):
            beta = critical + shift
            if beta < 0:
                continue
            rate = value_noise.antipodal_rate(beta=beta, dim=dim)
            found = value_noise.antipodal_probability([-0.9, 0.0], beta=beta, dim=dim)
            assert (rate > 0) == (shift > 0)
            assert np.all(np.isfinite(found))
            assert (found[0] > 0) == (shift > 0)
        assert value_noise.antipodal_probability(-0.9, beta=min(critical, 3.0), dim=dim) < 1e-12


# P(-|0) at d x β. Our quadrature, with exact tails, gives .0109 for (4, .7), where the original
# table has .0110, and 0 for (6, 1), below the threshold, where it has .0001.
TABLE = {
    3: (0.1597, 0.2224, 0.2929, 0.3364, 0.3833, 0.4208),
    4: (0.0109, 0.0844, 0.1811, 0.2474, 0.3228, 0.3830),
    6: (0.0, 0.0, 0.0709, 0.1478, 0.2523, 0.3411),
    10: (0.0, 0.0, 0.0070, 0.0594, 0.1764, 0.2968),
}


@pytest.mark.parametrize("dim", TABLE)
def test_value_noise_probabilities_agree_with_the_table_and_adaptive_quadrature(dim):
    for beta, expected in zip((0.7, 1.0, 1.5, 2.0, 3.0, 5.0), TABLE[dim], strict=True):
        found = value_noise.antipodal_probability(0.0, beta=beta, dim=dim)
        assert found == pytest.approx(expected, abs=5.1e-5)
    beta = 2.0

    def exponent(r):
        if r == 0:
            return 0.0
        inner = quad(lambda p: 1 / math.cosh(beta * (1 - p)) / (1 - p**2), 0, r, limit=100)[0]
        return (dim - 2) * inner

    # Over the angle, where Φ(r) dr = exp(-exponent) dθ.
    upper = quad(lambda t: math.exp(-exponent(math.cos(t))), 1e-5, math.pi / 2, limit=100)[0]
    lower = quad(lambda t: math.exp(-exponent(math.cos(t))), math.pi / 2, math.pi - 1e-12)[0]
    found = value_noise.antipodal_probability(0.0, beta=beta, dim=dim)
    assert found == pytest.approx(upper / (upper + lower), rel=2e-4)


@pytest.mark.parametrize("beta", [0.0, 0.7, 3.0, -1.0])
def test_value_noise_on_the_circle_splits_as_the_angle_over_pi(beta):
    overlaps = np.array([[-1.0, -0.7], [0.2, 1.0]])
    found = value_noise.antipodal_probability(overlaps, beta=beta, dim=2)
    np.testing.assert_allclose(found, np.arccos(overlaps) / np.pi, atol=1e-12)


def test_unbalanced_antipodal_clusters_live_as_long_as_tabulated():
    for fraction, expected in ((0.75, 3.86), (0.6, 13.76), (0.4, 13.76)):
        found = value_noise.cluster_escape_time(fraction, beta=1.5, dim=4)
        assert found == pytest.approx(expected, abs=5e-3)
        slower = value_noise.cluster_escape_time(fraction, beta=1.5, dim=4, sigma=0.5)
        assert slower == pytest.approx(4 * found, rel=1e-12)


def test_mean_escape_times_solve_the_backward_equation():
    # b T' + (v/2) T'' = -1 between differences of the quadrature, and T = 0 at the barrier.
    r = np.array([-0.9, -0.5, -0.1])
    step = 1e-3
    options = {"beta": 1.2, "dim": 5, "sigma": 1.3}
    times = value_noise.cluster_escape_time(
        0.7, overlap0=r + step * np.array([[-1], [0], [1]]), overlap=0.3, **options
    )
    first, second = (times[2] - times[0]) / (2 * step), (times[2] - 2 * times[1] + times[0])
    drift = value_noise.cluster_overlap_drift(r, 0.7, **options)
    variance = value_noise.cluster_overlap_variance(r, 0.7, beta=1.2, sigma=1.3)
    np.testing.assert_allclose(drift * first + variance * second / step**2 / 2, -1, rtol=1e-4)
    ends = value_noise.cluster_escape_time(
        0.7, overlap0=[0.3, 0.9, -1.0, -1 + 1e-13], overlap=0.3, **options
    )
    assert np.all(ends[:2] == 0)
    # From r = -1 the drift alone acts: T(-1) - T(-1 + δ) = δ/drift.
    assert ends[2] == pytest.approx(ends[3], rel=1e-9)
    near = value_noise.cluster_escape_time(0.7, overlap0=-1 + 1e-6, overlap=0.3, **options)
    slope = 1 / value_noise.cluster_overlap_drift(-1.0, 0.7, **options)
    assert (ends[2] - near) / 1e-6 == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize(("beta", "dim"), [(1.5, 4), (0.8, 3), (1.2, 2)])
def test_lives_of_nearly_balanced_clusters_grow_as_a_power_of_their_imbalance(beta, dim):
    logs = []
    for excess in (1e-4, 1e-5):
        time = value_noise.cluster_escape_time(0.5 + excess, beta=beta, dim=dim)
        drift = value_noise.cluster_overlap_drift(-1.0, 0.5 + excess, beta=beta, dim=dim)
        apart = math.sqrt(drift / (2 * (dim - 1)))
        logs.append([math.log(apart), math.log(time)])
    (slope,) = np.diff(logs, axis=0)[:, 1] / np.diff(logs, axis=0)[:, 0]
    assert slope == pytest.approx(-1 + (dim - 2) / math.cosh(2 * beta), abs=0.02)


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_a_scalar_value_moves_two_tokens_by_its_ito_coefficients(beta):
    epsilon = 0.9
    for r in (-0.7, 0.0, 0.6):
        x = pair(r, 3)
        fed = np.exp(beta * x @ x.T) / 2 @ x
        drift, noise = gram_ito(x, epsilon * fed[None])
        pushed = fed - np.sum(fed * x, axis=1, keepdims=True) * x
        drift = drift[0, 1] + pushed[0] @ x[1] + pushed[1] @ x[0]
        variance = noise[0, 1, 0, 1]
        rapidity = drift / (1 - r**2) + r * variance / (1 - r**2) ** 2
        found = value_noise.scalar_rapidity_drift(r, beta=beta, epsilon=epsilon)
        assert found == pytest.approx(rapidity, abs=1e-12)
        found = value_noise.scalar_rapidity_variance(r, beta=beta, epsilon=epsilon)
        assert found == pytest.approx(variance / (1 - r**2) ** 2, abs=1e-12)


def test_a_scalar_value_parts_tokens_above_the_critical_variance():
    assert value_noise.critical_scalar_variance(0.5) == pytest.approx(1.213, abs=5e-4)
    r = np.linspace(-1, 1, 9)
    for beta in (0.0, 0.5, 3.0):
        critical = value_noise.critical_scalar_variance(beta)
        for factor, sign in ((0.9, 1), (1.1, -1)):
            drift = value_noise.scalar_rapidity_drift(
                r, beta=beta, epsilon=math.sqrt(factor * critical)
            )
            assert np.all(np.sign(drift) == sign)
        still = value_noise.scalar_rapidity_drift(r, beta=beta, epsilon=math.sqrt(critical))
        np.testing.assert_allclose(still, 0, atol=1e-13)


def test_one_token_of_value_noise_loses_its_direction_at_the_one_point_rate():
    # (n-1)/2 |a|² at r = 1 is the rate of `one_point_correlation` with σ_s = σ_a = σ.
    x = unit_tokens(1, 4)
    drift, _ = ito(x, SIGMA * matrix_moves(x, full_basis(4)))
    correlation = sphere.one_point_correlation(1.0, symmetric=SIGMA, antisymmetric=SIGMA, dim=4)
    np.testing.assert_allclose(drift, np.log(correlation) * x, atol=1e-12)


def probability(**options):
    defaults = {"beta": 1.0, "strength": 1.0, "sigma": 1.0}
    return attention.antipodal_probability(0.0, softmax_weight, **(defaults | options))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax_weight(1.2, beta=1.0), r"`overlap` must lie in \[-1, 1\]; got 1.2"),
        (lambda: softmax_weight(0.2, beta=1.0, tokens=1), "`tokens` must be at least 2; got 1"),
        (lambda: unnormalised_weight(0.2, beta=np.inf), "`beta` must be finite; got inf"),
        (lambda: probability(sigma=0.0), "`sigma` must be finite and positive; got 0.0"),
        (lambda: probability(strength=np.nan), "`strength` must be finite; got nan"),
        (
            lambda: attention.uniform_antipodal_probability(0.0, strength=-1.0, sigma=1.0),
            "`strength` must be finite and at least 0; got -1.0",
        ),
        (
            lambda: attention.softmax_split_rate(1.5, beta=1.0, strength=1.0),
            r"`fraction` must lie in \[0, 1\]; got 1.5",
        ),
        (
            lambda: attention.equiangular_velocity(-0.6, softmax_weight, beta=1.0, tokens=3),
            r"`overlap` must be at least -1/\(N - 1\) = -0.5; got -0.6",
        ),
        (
            lambda: attention.equiangular_time(0.0, 1.0, softmax_weight, beta=1.0, tokens=3),
            r"`overlap` must lie strictly between -1/\(N-1\) and 1; got 1.0",
        ),
        (lambda: value_noise.critical_beta(2), "`dim` must be at least 3; got 2"),
        (
            lambda: value_noise.cluster_escape_time(0.5, beta=1.0, dim=3),
            "`fraction` must differ from 1/2.*; got 0.5",
        ),
        (
            lambda: value_noise.cluster_overlap_drift(0.0, 1.0, beta=1.0, dim=3),
            "`fraction` must lie strictly between 0 and 1; got 1.0",
        ),
        (
            lambda: value_noise.cluster_escape_time(0.7, beta=1.0, dim=3, overlap=1.0),
            "`overlap` must lie strictly between -1 and 1; got 1.0",
        ),
    ],
)
def test_a_bad_argument_is_named_with_its_rule_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
