"""Equilibria of attention: closed-form spectra, the golden multistable pair (V, M), derivatives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import rqf_jax as rqf
from rqf_jax.analysis import (
    cluster_sizes,
    equilibrium,
    find_equilibria,
    gradient_defect,
    lyapunov_spectrum,
    pattern,
    stability,
)
from rqf_jax.drifts import Attention, Constant, Linear, Sum, UnnormalisedAttention

FLAT, SPHERE = rqf.manifolds.Euclidean(), rqf.manifolds.Sphere()

# A pair with six kinds of attractor at once, found for this library by a random search.
VALUE = np.array([[0.25, -0.3, 0.16], [-0.3, 1.1, -0.49], [0.16, -0.49, 0.29]])
QUERY_KEY = np.array([[3.4, 1.7, -2.3], [2.0, 2.3, -0.3], [-0.8, -0.6, -5.1]])
GOLDEN = Attention(beta=1.0, query_key=QUERY_KEY, value=VALUE)
RATES = {
    ("consensus", (10,)): -1.2736,
    ("bipartite", (5, 5)): -0.1333,
    ("clustering", (6, 4)): -0.0587,
    ("clustering", (7, 3)): -0.0549,
    ("clustering", (8, 2)): -0.0536,
    ("clustering", (9, 1)): -0.0535,
}


def uniform(count, tokens, dim, seed):
    law = rqf.laws.Uniform(tokens=tokens, dim=dim)
    return jax.vmap(law)(jax.random.split(jax.random.key(seed), count))


def split(v, plus, minus):
    """`plus` tokens at v and `minus` at -v."""
    return jnp.asarray(np.concatenate([np.ones(plus), -np.ones(minus)])[:, None] * v)


def split_spectrum(value, query_key, v, rate, plus, minus):
    """The tangent spectrum of a split on the eigenvector v, derived from the softmax weights.

    The derivative of the weights pushes along v only, so it is not seen on the tangent space.
    """
    kappa = v @ query_key @ v
    others = np.linalg.eigvals(value)
    others = np.delete(others, np.argmin(np.abs(others - rate)))
    if minus == 0:
        return np.concatenate([np.full((plus - 1) * len(others), -rate), others - rate])
    up, down = plus * math.exp(kappa), minus * math.exp(-kappa)
    a = up / (up + down)
    b = minus * math.exp(kappa) / (minus * math.exp(kappa) + plus * math.exp(-kappa))
    m, k = 2 * a - 1, 2 * b - 1
    values = []
    for other in others:
        values += [-rate * m] * (plus - 1) + [-rate * k] * (minus - 1)
        block = [[-rate * m + other * a, other * (1 - a)], [other * (1 - b), -rate * k + other * b]]
        values += list(np.linalg.eigvals(np.array(block)))
    return np.array(values)


def assert_same_spectrum(spectrum, expected, atol):
    expected = np.asarray(expected, complex)
    for value in spectrum:
        nearest = np.argmin(np.abs(expected - value))
        assert abs(expected[nearest] - value) < atol
        expected = np.delete(expected, nearest)
    assert not expected.size


def growth(drift, x):
    return float(stability(drift, SPHERE, x)[0].real)


# ---- closed-form spectra


@pytest.mark.slow
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_split_on_any_eigenvector_is_an_equilibrium_with_the_derived_spectrum(symmetric):
    rng = np.random.default_rng(4)
    for _ in range(4):
        value, query_key = rng.standard_normal((2, 4, 4))
        value = value + value.T if symmetric else value
        rates, vectors = np.linalg.eig(value)
        drift = Attention(beta=1.0, query_key=query_key, value=value)
        for rate, v in zip(rates, vectors.T, strict=True):
            if abs(rate.imag) > 0:
                continue
            v, rate = v.real / np.linalg.norm(v.real), rate.real
            for plus in (6, 5, 4, 3):
                x = split(v, plus, 6 - plus)
                velocity = SPHERE.tangent(x, drift(jnp.zeros(()), x))
                np.testing.assert_allclose(velocity, np.zeros((6, 4)), atol=1e-12)
                expected = split_spectrum(value, query_key, v, rate, plus, 6 - plus)
                assert_same_spectrum(stability(drift, SPHERE, x), expected, 1e-8)


@pytest.mark.slow
def test_consensus_is_stable_on_the_leading_eigenvector_alone_and_only_if_it_is_positive():
    rng = np.random.default_rng(5)
    for shift in (0.0, -10.0):
        value, query_key = rng.standard_normal((2, 4, 4))
        value = (value + value.T) / 2 + shift * np.eye(4)
        rates, vectors = np.linalg.eigh(value)
        drift = Attention(beta=1.0, query_key=query_key, value=value)
        stable = [growth(drift, split(v, 6, 0)) < 0 for v in vectors.T]
        assert stable == [False, False, False, bool(rates[-1] > 0)]


@pytest.mark.slow
def test_a_balanced_split_is_stable_above_a_threshold_of_the_query_key():
    value = np.diag([1.0, 0.3])

    def rate(kappa):
        drift = Attention(beta=1.0, query_key=kappa * np.eye(2), value=value)
        return growth(drift, split(np.array([1.0, 0.0]), 4, 4))

    assert brentq(rate, 0.1, 1.0, xtol=1e-10) == pytest.approx(math.atanh(0.3), abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("b", "expected"), [(0.3, 0.4174), (0.5, 0.0758), (0.6, -0.0741), (1.5, -0.8103)]
)
def test_a_split_on_a_negative_eigenvector_is_stable_if_tokens_repel_enough(b, expected):
    drift = Attention(beta=1.0, query_key=np.diag([1.0, -b]), value=np.diag([1.0, -2.0]))
    assert growth(drift, split(np.array([0.0, 1.0]), 4, 4)) == pytest.approx(expected, abs=1e-4)
    # The flow of uniform tokens ends on splits of this axis exactly where they are stable.
    found = find_equilibria(drift, SPHERE, uniform(400, 8, 2, seed=9))
    on_axis = np.all(np.abs(found.states[:, :, 1]) > 1 - 1e-8, axis=1)
    balanced = on_axis & np.array([sizes == (4, 4) for sizes in found.sizes])
    assert found.unsettled == 0
    assert bool(on_axis.any()) == (expected < 0)
    assert bool(balanced.any()) == (expected < 0)


@pytest.mark.parametrize(
    ("kappa", "expected"), [(0.4, 0.28479), (0.6, 0.11287), (0.8, -0.05476), (1.0, -0.20643)]
)
def test_an_unbalanced_split_needs_more(kappa, expected):
    drift = Attention(beta=1.0, query_key=kappa * np.eye(2), value=np.diag([1.0, 0.3]))
    assert growth(drift, split(np.array([1.0, 0.0]), 6, 2)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_positive_value_matrix_has_stable_splits_on_its_leading_eigenvector_only():
    rng = np.random.default_rng(6)
    for _ in range(8):
        root, query_key = rng.standard_normal((2, 4, 4))
        value = root @ root.T
        drift = Attention(beta=4.0, query_key=query_key, value=value)
        for v in np.linalg.eigh(value)[1].T[:-1]:
            assert all(growth(drift, split(v, p, 6 - p)) > 0 for p in (6, 5, 4, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        (3, 0.5786),
        *(
            pytest.param(*row, marks=pytest.mark.slow)
            for row in [(4, 0.7864), (5, 0.5756), (6, 0.4622)]
        ),
    ],
)
def test_a_regular_polygon_is_unstable_for_attraction_and_neutral_for_repulsion(corners, expected):
    angles = 2 * np.pi * np.arange(corners) / corners
    x = jnp.asarray(np.stack([np.cos(angles), np.sin(angles)], 1))
    assert pattern(x) == "polygonal"
    attracting, repelling = (Attention(beta=1.0, strength=s) for s in (1.0, -1.0))
    assert growth(attracting, x) == pytest.approx(expected, abs=1e-3)
    modes = stability(repelling, SPHERE, x)
    # The rotation of the plane is the one neutral mode.
    assert abs(modes[0]) < 1e-10
    assert modes[1].real < -0.01


# ---- the finder


@pytest.fixture(scope="module")
def golden():
    return find_equilibria(GOLDEN, SPHERE, uniform(200, 10, 3, seed=0))


@pytest.mark.slow
def test_the_golden_pair_has_its_six_attractors_with_their_rates(golden):
    found = dict(
        zip(zip(golden.kinds, golden.sizes, strict=True), golden.growth_rates, strict=True)
    )
    assert found.keys() == RATES.keys()
    for key, rate in RATES.items():
        assert found[key] == pytest.approx(rate, abs=1e-3)
    assert all(golden.stable) and golden.unsettled == 0
    assert np.all(golden.residuals < 1e-10) and not np.any(golden.neutral)
    # Basins of the same pair from 60 starts of another implementation: 20, 5, 8, 13, 7, 7.
    share, error = golden.basin_frequencies()
    reference = dict(zip(RATES, np.array([20, 8, 5, 13, 7, 7]) / 60, strict=True))
    for key, p, e in zip(zip(golden.kinds, golden.sizes, strict=True), share, error, strict=True):
        q = reference[key]
        assert abs(p - q) < 5 * math.hypot(e, math.sqrt(q * (1 - q) / 60))


@pytest.mark.slow
def test_two_thousand_starts_find_no_other_attractor_of_the_golden_pair():
    found = find_equilibria(GOLDEN, SPHERE, uniform(2000, 10, 3, seed=1))
    assert set(zip(found.kinds, found.sizes, strict=True)) == RATES.keys()
    assert found.unsettled == 0 and all(found.stable)
    for kind, size, rate in zip(found.kinds, found.sizes, found.growth_rates, strict=True):
        assert rate == pytest.approx(RATES[kind, size], abs=1e-3)


@pytest.mark.slow
def test_the_antipodal_six_four_split_is_unstable_beside_the_clustered_one(golden):
    antipodal = split(np.linalg.eigh(VALUE)[1][:, -1], 6, 4)
    assert growth(GOLDEN, antipodal) == pytest.approx(0.082, abs=1e-3)
    clustered = golden.states[golden.sizes.index((6, 4))]
    # A loose tolerance calls this bipartite: what the documented one is for.
    assert pattern(clustered) == "clustering"
    cosines = np.asarray(clustered @ clustered.T)
    assert -1 < cosines.min() < -0.9


@pytest.mark.slow
def test_the_clustered_branch_trades_stability_with_the_antipodal_split_where_the_formula_says(
    golden,
):
    rates, vectors = np.linalg.eigh(VALUE)
    v, start = vectors[:, -1], vectors[:, -1] @ QUERY_KEY @ vectors[:, -1]

    def antipodal_rate(kappa):
        spectrum = split_spectrum(VALUE, kappa / start * QUERY_KEY, v, rates[-1], 6, 4)
        return float(np.max(np.real(spectrum)))

    critical = brentq(antipodal_rate, start, 0.4, xtol=1e-12)
    x = golden.states[golden.sizes.index((6, 4))]
    kappas = np.append(np.linspace(start, critical - 2e-3, 6), critical - 1e-3)
    clustered, opening = [], []
    for kappa in kappas:
        drift = Attention(beta=jnp.asarray(kappa / start), query_key=QUERY_KEY, value=VALUE)
        x = equilibrium(drift, SPHERE, x)
        clustered.append(growth(drift, x))
        opening.append(math.pi - float(jnp.max(rqf.observables.angles(x))))
    # Two branches cross (transcritical): both the angle and the rate vanish linearly there.
    for values in (clustered, opening):
        slope = (values[-1] - values[-2]) / (kappas[-1] - kappas[-2])
        assert kappas[-1] - values[-1] / slope == pytest.approx(critical, abs=1e-4)
    assert clustered[-1] == pytest.approx(-antipodal_rate(kappas[-1]), rel=0.01)


@pytest.mark.slow
def test_equilibria_print_as_a_table(golden):
    lines = repr(golden).splitlines()
    assert lines[0] == "Equilibria(6 of 200 starts, 0 unsettled)"
    assert lines[1].startswith("consensus  10         max Re -1.2736  neutral 0  basin 0.")


@pytest.mark.slow
def test_repulsion_along_the_most_negative_eigenvalue_polarises_the_tokens():
    value = -np.diag([0.5, 1.0, 2.0])
    drift = Attention(beta=1.0, query_key=value, value=value)
    found = find_equilibria(drift, SPHERE, uniform(200, 10, 3, seed=2))
    assert found.unsettled == 0 and int(found.counts.sum()) == 200
    assert set(found.kinds) == {"bipartite"}
    np.testing.assert_allclose(np.abs(found.states[:, :, 2]), np.ones((len(found.sizes), 10)))


@pytest.mark.slow
def test_flat_equilibria_are_told_apart_and_their_basins_measured():
    class Cubic(rqf.drifts.AbstractDrift):
        def __call__(self, t, x):
            return x - x**3

    starts = jax.random.normal(jax.random.key(0), (400, 1)) + 0.5
    found = find_equilibria(Cubic(), FLAT, starts)
    share, error = found.basin_frequencies()
    np.testing.assert_allclose(found.states[:, 0], [1.0, -1.0], atol=1e-10)
    np.testing.assert_allclose(found.spectra, [[-2.0], [-2.0]], atol=1e-8)
    # P(N(1/2, 1) > 0)
    assert abs(share[0] - 0.6914625) < 5 * error[0]
    assert found.kinds == ("point", "point")
    saddle = equilibrium(Cubic(), FLAT, jnp.asarray([0.2]))
    np.testing.assert_allclose(saddle, [0.0], atol=1e-10)
    np.testing.assert_allclose(stability(Cubic(), FLAT, saddle), [1.0])
    with pytest.raises(ValueError, match=r"`duration` must be long enough .* got 0\.01"):
        find_equilibria(Cubic(), FLAT, starts, duration=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [25.0, 30.0])
def test_clusters_that_only_rounding_holds_apart_are_metastable_and_not_stable(beta):
    # Tokens at cosine r attract each other with e^(-β(1 - r)), here below 1e-12; only consensus
    # attracts for good.
    x = np.array([[1, 0.1, 0], [1, -0.1, 0], [-0.3, 0.2, 1]])
    start = jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))
    found = find_equilibria(Attention(beta), SPHERE, jnp.stack([start, jnp.ones((3, 3)) / 3**0.5]))
    by_kind = dict(zip(found.kinds, zip(found.metastable, found.stable, strict=True), strict=True))
    assert by_kind == {"clustering": (True, False), "consensus": (False, True)}
    lifetimes = dict(zip(found.kinds, found.lifetimes, strict=True))
    assert lifetimes["clustering"] > 1e12 and lifetimes["consensus"] == np.inf
    assert "metastable" in repr(found)


@pytest.mark.slow
def test_neutral_modes_that_a_symmetry_explains_are_stable():
    starts = uniform(2, 3, 3, 1)
    # Every token may turn by itself in the plane of the two leading eigenvectors, or with all.
    plane = find_equilibria(Linear(jnp.diag(jnp.array([1.0, 1.0, 0.0]))), SPHERE, starts)
    polygon = find_equilibria(Attention(1.0, value=-jnp.eye(3)), SPHERE, starts)
    for found in (plane, polygon):
        assert np.all(found.neutral == 3) and not found.metastable.any() and all(found.stable)


@pytest.mark.slow
def test_lyapunov_exponents_at_an_equilibrium_are_the_real_parts_of_its_spectrum(golden):
    index = golden.sizes.index((6, 4))
    spectrum = lyapunov_spectrum(
        rqf.SDE(GOLDEN, rqf.noises.NoNoise(), SPHERE),
        rqf.laws.Fixed(golden.states[index]),
        jnp.linspace(0.0, 400.0, 41),
        substeps=400,
        members=1,
        key=jax.random.key(0),
        exponents=6,
        discard=20,
    )
    rates = golden.spectra[index].real[:6]
    # Those within 0.01 of one another need longer to part; what they share is their sum.
    np.testing.assert_allclose(spectrum.exponents[0], rates[0], rtol=1e-3)
    np.testing.assert_allclose(spectrum.exponents[5], rates[5], rtol=1e-3)
    np.testing.assert_allclose(spectrum.total[0], rates.sum(), rtol=1e-4)


# ---- derivatives of an equilibrium


@pytest.mark.slow
def test_the_fixed_point_of_a_contraction_and_its_derivative():
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((3, 3)), rng.standard_normal(3)
    a *= 0.9 / np.linalg.norm(a, 2)
    x0 = jnp.zeros((1, 3))

    def fixed_point(a):
        drift = Sum(Linear(a - jnp.eye(3)), Constant(jnp.asarray(b)))
        return equilibrium(drift, FLAT, x0)[0]

    x = np.linalg.solve(np.eye(3) - a, b)
    np.testing.assert_allclose(fixed_point(jnp.asarray(a)), x, atol=1e-10)
    # dx = (1 - A)^{-1} dA x
    expected = np.einsum("ij,k->ijk", np.linalg.inv(np.eye(3) - a), x)
    np.testing.assert_allclose(jax.jacrev(fixed_point)(jnp.asarray(a)), expected, atol=1e-9)


@pytest.mark.slow
def test_the_derivative_of_a_clustered_state_is_that_of_differences(golden):
    start = golden.states[golden.sizes.index((6, 4))]
    direction = np.random.default_rng(8).standard_normal((3, 3))

    @jax.jit
    @jax.value_and_grad
    def observe(s):
        drift = Attention(beta=1.0, query_key=QUERY_KEY, value=VALUE + s * direction)
        x = equilibrium(drift, SPHERE, start)
        return jnp.sum(x * jnp.arange(30.0).reshape(10, 3)) + jnp.sum(x[0] * x[-1])

    difference = (observe(1e-5)[0] - observe(-1e-5)[0]) / 2e-5
    assert observe(0.0)[1] == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.slow
def test_neutral_directions_stop_neither_the_finder_nor_the_derivative():
    def triangle(beta):
        drift = Attention(beta=beta, strength=-1.0)
        start = SPHERE.project(jnp.asarray([[1.0, 0.1], [-0.4, 0.9], [-0.6, -0.8]]))
        return equilibrium(drift, SPHERE, start)

    x, slope = jax.jvp(triangle, (1.0,), (1.0,))
    assert pattern(x) == "polygonal"
    # A regular triangle at every temperature: the derivative must not turn it either.
    np.testing.assert_allclose(slope, np.zeros((3, 2)), atol=1e-8)


# ---- gradient fields


@pytest.mark.slow
def test_unnormalised_attention_is_a_gradient():
    x = uniform(1, 10, 3, seed=3)[0]
    assert gradient_defect(UnnormalisedAttention(beta=1.5), SPHERE, x) < 1e-10


@pytest.mark.slow
def test_softmax_attention_is_no_gradient_and_a_rotation_is_farthest_from_one():
    x, one = uniform(1, 10, 3, seed=3)[0], np.eye(3)
    assert gradient_defect(Attention(beta=1.5, query_key=one, value=one), SPHERE, x) > 1e-3
    skew = np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert gradient_defect(Linear(skew), FLAT, jnp.ones((1, 2))) == pytest.approx(2.0)


# ---- patterns


@pytest.mark.parametrize(
    ("x", "name", "sizes"),
    [
        ([[1, 0], [1, 0], [1, 0]], "consensus", (3,)),
        ([[1, 0], [-1, 0], [1, 0]], "bipartite", (2, 1)),
        ([[1, 0], [0, 1], [1, 0]], "clustering", (2, 1)),
        ([[1, 0], [0, 1], [-1, 0], [0, -1]], "polygonal", (1, 1, 1, 1)),
        ([[1, 0, 0], [0, 1, 0], [0, 0, 1]], "other", (1, 1, 1)),
        ([[1, 0], [0.6, 0.8], [0, 1]], "other", (1, 1, 1)),
    ],
)
def test_patterns(x, name, sizes):
    assert pattern(np.array(x, float)) == name
    assert cluster_sizes(np.array(x, float)) == sizes


# ---- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_equilibria(GOLDEN, SPHERE, jnp.ones((2, 3, 3))), "`starts` must lie on"),
        (lambda: find_equilibria(GOLDEN, SPHERE, jnp.ones(3)), "`starts` must be states"),
        (
            lambda: find_equilibria(GOLDEN, SPHERE, uniform(1, 2, 3, 0), duration=0),
            "`duration` must be positive; got 0",
        ),
        (lambda: stability(GOLDEN, SPHERE, jnp.full((2, 3), jnp.nan)), "`x` must be finite"),
        (lambda: stability(GOLDEN, SPHERE, jnp.ones((2, 3))), "`x` must lie on the Sphere"),
        (lambda: pattern(np.ones((2, 3))), "`x` must have unit tokens, to 1e-05"),
        (lambda: pattern(np.ones(3)), r"`x` must be one state \(tokens, dim\); got shape \(3,\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
