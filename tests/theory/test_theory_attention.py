"""Closed forms of attention with shared noise against right-hand sides, solvers and quadrature."""

import math

import numpy as np
import pytest
from _ito import (
    matrix_moves,
    overlap_ito,
    symmetric_basis,
    unit_tokens,
)
from scipy.integrate import solve_ivp
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
