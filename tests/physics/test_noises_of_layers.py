"""Theorems about the noises of layers: generators by enumerating the basis, and what they share."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic, unit_tokens

import rqf_jax as rqf
from rqf_jax.drifts import Attention, Linear, NoDrift, UnnormalisedAttention
from rqf_jax.kernels import MLP, AbstractKernel, PowerSeries
from rqf_jax.noises import (
    AnisotropicNoise,
    BiasNoise,
    Calculus,
    HarmonicNoise,
    HomogenisedNoise,
    IsotropicNoise,
    KernelNoise,
    Layered,
    NoNoise,
    ScalarNoise,
    Scheduled,
    SpanNoise,
    Sum,
    TokenNoise,
    ValueNoise,
)
from rqf_jax.schedules import PiecewiseLinear
from rqf_jax.solvers import GeodesicEuler, ProjectedEuler, ProjectiveFlow

SPHERE, FLAT = rqf.manifolds.Sphere(), rqf.manifolds.Euclidean()
TIME, KEY = jnp.zeros(()), jax.random.key(0)


def response(noise, x):
    """The displacement of every coordinate by every number of the increment: (N, n, numbers)."""
    zero = jnp.zeros(noise.shape(x))
    jacobian = jax.jit(jax.jacfwd(lambda dw: noise(TIME, x, dw)))(zero)
    return np.asarray(jacobian).reshape(*x.shape, -1)


def covariance(noise, x):
    """E dx_a dx_bᵀ per unit time of the ambient displacements: (N, n, N, n)."""
    j = response(noise, x)
    return np.einsum("aip,bjp->aibj", j, j)


def overlap_coefficients(noise, x):
    """Drift and variance per unit time of r = <x_0, x_1> under dx_a = P g dB and its Itô drift.

    On the sphere the Itô drift of a martingale is radial, -½ tr Cov(dx_a) x_a.
    """
    x = np.asarray(x)
    tangent = np.eye(x.shape[1]) - x[:, :, None] * x[:, None, :]
    cov = np.einsum("aik,akbl,blj->aibj", tangent, covariance(noise, jnp.asarray(x)), tangent)
    r = x[0] @ x[1]
    drift = np.trace(cov[0, :, 1]) - r * (np.trace(cov[0, :, 0]) + np.trace(cov[1, :, 1])) / 2
    variance = (
        x[1] @ cov[0, :, 0] @ x[1] + x[0] @ cov[1, :, 1] @ x[0] + 2 * x[1] @ cov[0, :, 1] @ x[0]
    )
    return drift, variance


def ito_drift(noise, drift, x):
    """Itô drift of dx = P f dt + P g ∘ dB on the sphere, by enumerating the noise."""
    basis = jnp.eye(math.prod(noise.shape(x))).reshape(-1, *noise.shape(x))

    def one(e):
        def field(y):
            return SPHERE.tangent(y, noise(TIME, y, e))

        return jax.jvp(field, (x,), (field(x),))[1]

    correction = jax.jit(lambda b: jnp.sum(jax.vmap(one)(b), axis=0) / 2)(basis)
    return np.asarray(correction + SPHERE.tangent(x, drift(TIME, x)))


# ---- isotropic fields


@pytest.mark.parametrize("dim", [3, *(pytest.param(dim, marks=pytest.mark.slow) for dim in (2, 5))])
@pytest.mark.parametrize("kernel", [PowerSeries([0.3, 0.6, 0.2]), MLP("gelu", 4, 0.2, 0.1)])
def test_overlaps_under_an_isotropic_field_have_the_stated_generator(kernel, dim):
    x = jnp.asarray(unit_tokens(2, dim))
    r = float(x[0] @ x[1])
    at_r, at_1 = float(kernel(jnp.asarray(r))), float(kernel(jnp.ones(())))
    drift, variance = overlap_coefficients(KernelNoise(kernel), x)
    assert drift == pytest.approx((dim - 2 + r**2) * at_r - (dim - 1) * r * at_1, abs=1e-12)
    assert variance == pytest.approx(2 * (1 - r**2) * (at_1 - r * at_r), abs=1e-12)


def test_a_linear_kernel_is_a_full_matrix_and_a_constant_one_a_bias():
    x = jnp.asarray(unit_tokens(4, 5))
    for kernel, same in (
        (PowerSeries([0.0, 0.49]), IsotropicNoise(0.7, 0.7)),
        (PowerSeries([0.49]), BiasNoise(0.7)),
    ):
        np.testing.assert_allclose(
            covariance(KernelNoise(kernel), x), covariance(same, x), atol=1e-13
        )


def test_fields_and_random_values_of_the_tokens_themselves_are_full_matrices():
    x = jnp.asarray(unit_tokens(4, 5))
    full = covariance(IsotropicNoise(0.7, 0.7), x)
    values = covariance(ValueNoise(Linear(np.eye(5)), 0.7), x)
    np.testing.assert_allclose(values, full, atol=1e-14)


@pytest.mark.parametrize("dim", [3, 6])
def test_overlaps_in_the_stochastic_transformer_have_the_stated_generator(dim):
    x, beta, v = jnp.asarray(unit_tokens(2, dim)), 1.3, 0.6
    sde = rqf.models.stochastic_transformer(beta, v)
    r = float(x[0] @ x[1])
    q = 1 / (1 + math.cosh(beta * (1 - r)))
    drift, variance = overlap_coefficients(sde.noise, x)
    assert drift == pytest.approx(v * (1 - r**2) * (q * (dim - 2 + r) - r), abs=1e-12)
    assert variance == pytest.approx(2 * v * (1 - r**2) ** 2 * (1 - q), abs=1e-12)


@pytest.mark.slow
def test_coincident_tokens_stay_together_in_a_field_and_gradients_are_finite():
    e = jnp.eye(1, 4)
    x = jnp.concatenate([e, e, -e, jnp.roll(e, 1, axis=1)])
    noise = KernelNoise(MLP("tanh", 4, 0.2, 0.0))
    dw = jax.random.normal(KEY, x.shape)
    moved = noise(TIME, x, dw)
    np.testing.assert_array_equal(moved[0], moved[1])
    gradient = jax.grad(lambda y: jnp.sum(noise(TIME, y, dw) ** 2))(x)
    assert np.all(np.isfinite(gradient))


def test_an_odd_field_moves_antipodal_tokens_oppositely():
    e = jnp.eye(1, 4)
    x = jnp.concatenate([e, -e])
    moved = KernelNoise(MLP("tanh", 4))(TIME, x, jax.random.normal(KEY, x.shape))
    np.testing.assert_allclose(moved[0], -moved[1], atol=1e-12)


@pytest.mark.slow
def test_homogenised_attention_averages_over_its_query_keys():
    x, beta = jnp.asarray(unit_tokens(4, 3)), 0.9
    noise = HomogenisedNoise(beta, 0.5, 3, key_variance=0.7, samples=6, key=KEY)
    expected = np.zeros((4, 4))
    for a in np.asarray(noise.query_keys):
        weights = np.exp(beta * np.asarray(x) @ a @ np.asarray(x).T)
        mean = weights / weights.sum(axis=1, keepdims=True) @ np.asarray(x)
        expected += 0.5 * mean @ mean.T / 6
    np.testing.assert_allclose(noise.covariance(TIME, x), expected, rtol=1e-12)


def test_the_query_keys_of_homogenised_attention_have_the_stated_moments():
    noise = HomogenisedNoise(1.0, 1.0, 3, key_variance=0.7, samples=40_000, key=KEY)
    entries = np.asarray(noise.query_keys)
    # A = W W'ᵀ: mean 0, variance n s⁴ for entries of W and W' of variance s².
    error = entries.std(axis=0) / 200
    assert np.all(np.abs(entries.mean(axis=0)) < 5 * error)
    np.testing.assert_allclose(entries.var(axis=0), 3 * 0.7**2, rtol=0.06)


# ---- biases, harmonics, scalars


def test_the_first_harmonic_is_the_rotated_bias_and_no_harmonic_has_an_ito_correction():
    x = jnp.asarray(unit_tokens(4, 2))
    tangent = np.eye(2) - np.asarray(x)[:, :, None] * np.asarray(x)[:, None, :]
    found = covariance(HarmonicNoise(1, 0.8), x)
    bias = np.einsum("aik,akbl,blj->aibj", tangent, covariance(BiasNoise(0.8), x), tangent)
    # cos φ_a cos φ_b + sin φ_a sin φ_b = cos(φ_a - φ_b) in both.
    np.testing.assert_allclose(found, bias, atol=1e-14)
    for k in (1, 3):
        drift = ito_drift(HarmonicNoise(k, 0.8), NoDrift(), x)
        np.testing.assert_allclose(drift, -(0.8**2) / 2 * np.asarray(x), atol=1e-13)


def test_a_harmonic_sees_multiples_of_the_angle():
    phi = np.array([0.3, 1.9])
    x = jnp.asarray(np.stack([np.cos(phi), np.sin(phi)], axis=1))
    j = response(HarmonicNoise(4, 1.0), x)
    along = np.stack([-np.sin(phi), np.cos(phi)], axis=1)
    speeds = np.einsum("aip,ai->ap", j, along)
    np.testing.assert_allclose(speeds, np.stack([np.cos(4 * phi), np.sin(4 * phi)], 1), atol=1e-14)


def test_scalar_noise_is_its_field_times_one_number():
    x, field = jnp.asarray(unit_tokens(3, 4)), UnnormalisedAttention(0.5)
    found = ScalarNoise(field, 0.6)(TIME, x, jnp.asarray([0.2]))
    np.testing.assert_allclose(found, 0.12 * field(TIME, x), rtol=1e-14)


# ---- anisotropic matrices


def test_random_linear_layers_have_the_ito_drift_of_normalised_layers():
    # x + √h A x, normalised: drift -(xᵀDx) [P C x + ½ tr(P C) x].
    left, right = np.random.default_rng(1).standard_normal((2, 3, 3))
    sde = rqf.models.random_linear_layers(left, right)
    c, d = left @ left.T, right.T @ right
    x = unit_tokens(4, 3)
    found = ito_drift(sde.noise, sde.drift, jnp.asarray(x))
    for token, drift in zip(x, found, strict=True):
        tangent = np.eye(3) - np.outer(token, token)
        expected = tangent @ c @ token + np.trace(tangent @ c) / 2 * token
        np.testing.assert_allclose(drift, -(token @ d @ token) * expected, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [3, 6])
def test_isotropic_factors_are_isotropic_noise_of_the_same_control_number(dim):
    x = jnp.asarray(unit_tokens(4, dim))
    noise, same = AnisotropicNoise(0.7 * np.eye(dim), np.eye(dim)), IsotropicNoise(0.7, 0.7)
    np.testing.assert_allclose(covariance(noise, x), covariance(same, x), atol=1e-14)
    h = jnp.asarray(0.1)
    assert float(noise.control(dim, h)) == pytest.approx(float(same.control(dim, h)), rel=1e-12)
    dw = 0.1 * jax.random.normal(KEY, (dim, dim))
    flow = ProjectiveFlow().advance(rqf.SDE(NoDrift(), noise, SPHERE), TIME, h, x, dw)
    moved = np.asarray(x) @ jax.scipy.linalg.expm(-0.7 * dw).T
    np.testing.assert_allclose(
        flow, moved / np.linalg.norm(moved, axis=1, keepdims=True), atol=2e-8
    )


# ---- sums and schedules


def test_covariances_of_a_sum_add_up():
    x = jnp.asarray(unit_tokens(3, 4))
    parts = IsotropicNoise(0.7, 0.2), BiasNoise(0.5), TokenNoise(0.3)
    expected = sum(covariance(part, x) for part in parts)
    np.testing.assert_allclose(covariance(Sum(*parts), x), expected, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("dim", [3, 6])
def test_the_projective_flow_keeps_its_exact_step_beside_other_noises(dim):
    x, h = jnp.asarray(unit_tokens(4, dim)), jnp.asarray(0.05)
    matrix, bias = IsotropicNoise(0.7, 0.2), BiasNoise(0.5)
    noise = Sum(bias, matrix)
    dw = 0.2 * jax.random.normal(KEY, noise.shape(x))
    found = ProjectiveFlow().advance(rqf.SDE(NoDrift(), noise, SPHERE), TIME, h, x, dw)
    # The other noises are added after the map.
    mapped = ProjectiveFlow().advance(isotropic(0.7, 0.2), TIME, h, x, dw[dim:].reshape(dim, dim))
    bias_alone = rqf.SDE(NoDrift(), bias, SPHERE)
    expected = GeodesicEuler().advance(bias_alone, TIME, h, mapped, dw[:dim])
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.slow
def test_a_scheduled_strength_is_a_change_of_clock():
    # E ln sin θ falls by ∫ s² sigma² dt.
    schedule = PiecewiseLinear([0.0, 1.0], [1.0, 0.0])
    sde = rqf.SDE(NoDrift(), Scheduled(IsotropicNoise(0.8, 0.0), schedule), SPHERE)
    runs = rqf.simulate(
        sde, rqf.laws.Pair(1.0, 3), [0.0, 0.5, 1.0], substeps=100, members=4000, key=KEY
    )
    log_sine = np.log(np.sin(np.asarray(runs.observe(rqf.observables.angles))[:, 1:, 0]))
    clock = 0.8**2 * (1 - np.array([0.5, 0.0]) ** 3) / 3
    error = log_sine.std(axis=0) / math.sqrt(4000)
    assert np.all(
        np.abs(log_sine.mean(axis=0) - math.log(math.sin(1.0)) + clock) < 5 * error + 4e-3
    )


# ---- which solver


VALUE, SCALAR = ValueNoise(Attention(1.0), 1.0), ScalarNoise(Attention(1.0), 1.0)
FIELD, HARMONIC = KernelNoise(PowerSeries([0.0, 1.0])), HarmonicNoise(2, 1.0)
MATRIX, SKEW = IsotropicNoise(1.0, 0.0), AnisotropicNoise(np.eye(3), np.eye(3))
BIAS, TOKEN = BiasNoise(1.0), TokenNoise(1.0)


@pytest.mark.parametrize(
    ("noise", "right", "wrong"),
    [
        (VALUE, "GeodesicEuler", ["ProjectiveFlow", "GeodesicHeun"]),
        (SCALAR, "ProjectedEuler", ["ProjectiveFlow", "GeodesicHeun", "GeodesicEuler"]),
        (FIELD, "GeodesicEuler", ["ProjectiveFlow", "GeodesicHeun"]),
        (HARMONIC, "GeodesicEuler", ["ProjectiveFlow"]),
        (BIAS, "GeodesicEuler", ["ProjectiveFlow"]),
        (SKEW, "ProjectiveFlow", ["GeodesicEuler", "ProjectedEuler"]),
        (Sum(MATRIX, BIAS, TOKEN), "ProjectiveFlow", []),
        (Sum(MATRIX, FIELD), "ProjectiveFlow", ["GeodesicHeun"]),
        (Sum(MATRIX, SKEW), "GeodesicHeun", ["ProjectiveFlow", "GeodesicEuler"]),
        (Sum(BIAS, SCALAR), "ProjectedEuler", ["ProjectiveFlow", "GeodesicEuler"]),
        (Sum(MATRIX, SCALAR), "ProjectedEuler", ["ProjectiveFlow", "GeodesicEuler"]),
        (Scheduled(FIELD, PiecewiseLinear([0.0], [1.0])), "GeodesicEuler", ["GeodesicHeun"]),
        (Layered(MATRIX), "ProjectedEuler", ["ProjectiveFlow", "GeodesicHeun", "GeodesicEuler"]),
        (NoNoise(), "GeodesicHeun", ["ProjectiveFlow"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, rqf.noises.AbstractNoise) else None,
)
def test_every_noise_gets_its_solver_and_a_wrong_one_is_refused_by_the_name_of_the_right(
    noise, right, wrong
):
    sde = rqf.SDE(NoDrift(), noise, SPHERE)
    assert type(rqf.solvers.default(sde)).__name__ == right
    rqf.solvers.check(getattr(rqf.solvers, right)(), sde)
    for name in wrong:
        with pytest.raises(ValueError, match=f"`solver` {name} does not suit.*Use `{right}`"):
            rqf.solvers.check(getattr(rqf.solvers, name)(), sde)


@pytest.mark.slow
def test_layers_and_geodesics_have_one_limit_for_values_and_two_for_a_scalar():
    # The drift of E x over a short step, exactly: a mean over ±1 increments has the right variance.
    x, h = jnp.asarray(unit_tokens(3, 3)), jnp.asarray(1e-4)

    def drift(solver, noise):
        shape = noise.shape(x)
        basis = jnp.eye(math.prod(shape)).reshape(-1, *shape) * math.sqrt(1e-4)
        step = jax.jit(
            jax.vmap(lambda dw: solver.advance(rqf.SDE(NoDrift(), noise, SPHERE), TIME, h, x, dw))
        )
        moved = step(jnp.concatenate([basis, -basis])) - x[None]
        return np.asarray(jnp.sum(moved, axis=0)) / 2e-4

    np.testing.assert_allclose(
        drift(ProjectedEuler(), VALUE), drift(GeodesicEuler(), VALUE), atol=1e-3
    )
    field = np.asarray(Attention(1.0)(TIME, x))
    radial = np.sum(np.asarray(x) * field, axis=1, keepdims=True)
    extra = -radial * np.asarray(SPHERE.tangent(x, jnp.asarray(field)))
    found = drift(ProjectedEuler(), SCALAR) - drift(GeodesicEuler(), SCALAR)
    np.testing.assert_allclose(found, extra, atol=1e-3)


# ---- bad input


class Wild(AbstractKernel):
    """κ(r) = -r, which no field has."""

    def __call__(self, r):
        return -r * 2 + 1


X = jnp.asarray(unit_tokens(4, 3))
BAD = {
    "sigma": (lambda: BiasNoise(-1.0), "`sigma` must be at least 0", "-1"),
    "harmonic": (lambda: HarmonicNoise(0, 1.0), "`harmonic` must be at least 1", "0"),
    "off the circle": (lambda: HARMONIC.shape(X), "dimension 2", "3"),
    "in the plane": (lambda: HARMONIC.calculus(FLAT), "`HarmonicNoise` is a noise of the circle"),
    "field": (lambda: ValueNoise(1.0, 1.0), "`field` must be a drift", "1.0"),
    "field of a scalar": (lambda: ScalarNoise("a", 1.0), "`field` must be a drift", "'a'"),
    "kernel": (lambda: KernelNoise(math.cos), "`kernel` must be a kernel of `rqf_jax.kernels`"),
    "wild kernel": (
        lambda: KernelNoise(Wild()), "`kernel` must have |κ(r)| ≤ κ(1)", "κ(-1) = 3", "κ(1) = -1",
    ),
    "field in flat space": (lambda: FIELD.calculus(FLAT), "`KernelNoise` is a noise of the sphere"),
    "samples": (
        lambda: HomogenisedNoise(1.0, 1.0, 3, key_variance=1.0, samples=0, key=KEY),
        "`samples` must be at least 1",
    ),
    "query keys of others": (
        lambda: HomogenisedNoise(1.0, 1.0, 2, key_variance=1.0, samples=1, key=KEY).covariance(
            TIME, X
        ),
        "`dim` must be 3",
        "2",
    ),
    "factor": (lambda: AnisotropicNoise(np.ones(3), np.eye(3)), "`left` must be a square", "(3,)"),
    "factors of others": (
        lambda: AnisotropicNoise(np.eye(3), np.eye(2)).shape(X), "`right` must be 3 x 3", "(2, 2)",
    ),
    "an empty sum": (lambda: Sum(), "`noises` must be at least one"),
    "a sum of numbers": (lambda: Sum(BIAS, 1.0), "`noises[1]` must be a noise", "1.0"),
    "a sum at odds": (
        lambda: Sum(SKEW, VALUE).calculus(SPHERE), "`noises` must agree on a solver", "Heun",
    ),
    "layers of a number": (lambda: Layered(1.0), "`noise` must be a noise", "1.0"),
    "a schedule of our own": (
        lambda: Scheduled(BIAS, math.sin), "`schedule` must be a schedule of `rqf_jax.schedules`",
    ),
    "a scheduled drift": (
        lambda: Scheduled(NoDrift(), PiecewiseLinear([0.0], [1.0])), "`noise` must be a noise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])


def test_a_kernel_that_is_traced_is_not_looked_at_but_used():
    def speed(c):
        noise = KernelNoise(PowerSeries(jnp.stack([c, 2 * c])))
        return jnp.sum(noise(TIME, X, jnp.ones_like(X)) ** 2)

    assert float(jax.grad(speed)(jnp.asarray(0.3))) == pytest.approx(
        float(speed(jnp.asarray(0.3))) / 0.3, rel=1e-12
    )


def test_span_noise_is_a_noise_of_few_tokens_alone():
    assert SpanNoise(1.0, 0.0).calculus(SPHERE) is Calculus.ITO
