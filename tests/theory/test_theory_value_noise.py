"""Random value matrices and scalar values: coefficients, fates and lifetimes of two clusters."""

import math

import numpy as np
import pytest
from _ito import (
    full_basis,
    gram_ito,
    ito,
    matrix_moves,
    overlap_ito,
    unit_tokens,
)
from _tokens import pair
from scipy.integrate import quad

from rqf_jax.theory import attention, sphere, value_noise
from rqf_jax.theory.attention import softmax_weight

BETA, STRENGTH, SIGMA = 1.3, 0.8, 1.1


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
