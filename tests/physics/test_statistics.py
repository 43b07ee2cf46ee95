"""The laws of tokens under shared noise, through `simulate`: ensembles against closed forms.

Ensemble means must lie within five standard errors of theory, at fixed keys. Statements that hold
for every step length are tested at long steps, where a scheme without them would fail.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _ensembles import assert_mean, chords_to_pole, isotropic, unit_tokens
from scipy.special import hyp1f1

import rqf_jax as rqf
from rqf_jax.laws import Equiangular, Fixed, InSpan, Pair, Uniform
from rqf_jax.noises import IsotropicNoise, SpanNoise, TokenNoise
from rqf_jax.observables import angles, gram, overlaps
from rqf_jax.solvers import GeodesicEuler, GeodesicHeun, ProjectiveFlow
from rqf_jax.theory import sphere

SPHERE = rqf.manifolds.Sphere()
MIXTURES = [(0.8, 0.6), (1.0, 0.0), (0.0, 1.0)]


def ensemble(sde, law, ts, *, substeps, members, seed, solver=None, save=angles):
    runs = rqf.simulate(
        sde,
        law,
        jnp.asarray(ts, float),
        substeps=substeps,
        members=members,
        key=jax.random.key(seed),
        solver=solver,
        save=save,
    )
    return np.asarray(runs.ys)


def log_volumes(x):
    """ln det G of the first two, three, ... tokens (as many as can be independent)."""
    counts = range(2, min(x.shape[-2:]) + 1)
    grams = [x[..., :k, :] @ np.swapaxes(x[..., :k, :], -1, -2) for k in counts]
    return np.stack([np.linalg.slogdet(g)[1] for g in grams], axis=-1)


# ---- coefficients, by enumerating the entries of the driving matrix


def vector_fields(noise, x):
    """x -> tangent displacement by every entry of dw, and their values (entries, tokens, dim)."""
    shape = noise.shape(x)
    units = jnp.eye(math.prod(shape)).reshape(-1, *shape)

    def fields(y):
        return jax.vmap(lambda e: SPHERE.tangent(y, noise(jnp.zeros(()), y, e)))(units)

    return fields, fields(x)


def ito_drift(noise, x):
    """½ Σ (v_i · ∇) v_i: what the Stratonovich equation adds to an Itô one."""
    fields, values = vector_fields(noise, x)
    change = jax.vmap(lambda v: jax.jvp(fields, (x,), (v,))[1])(values)
    return jnp.einsum("iiaj->aj", change) / 2, values


@pytest.mark.parametrize(
    "dim", [3, *(pytest.param(dim, marks=pytest.mark.slow) for dim in (2, 5, 8))]
)
@pytest.mark.parametrize(("symmetric", "antisymmetric"), MIXTURES)
def test_ito_drift_and_covariance_of_a_token_are_those_of_a_brownian_motion(
    dim, symmetric, antisymmetric
):
    x = unit_tokens(3, dim)
    noise = IsotropicNoise(symmetric=symmetric, antisymmetric=antisymmetric)
    drift, values = ito_drift(noise, jnp.asarray(x))
    rate = (dim - 1) * (symmetric**2 + antisymmetric**2) / 4
    np.testing.assert_allclose(drift, -rate * x, atol=1e-12)
    alpha = (symmetric**2 + antisymmetric**2) / 2
    beta = (symmetric**2 - antisymmetric**2) / 2
    tangent = np.eye(dim) - np.einsum("ai,aj->aij", x, x)
    middle = alpha * np.einsum("ab,ij->abij", x @ x.T, np.eye(dim))
    middle += beta * np.einsum("bi,aj->abij", x, x)
    expected = np.einsum("aij,abjk,bkl->abil", tangent, middle, tangent)
    np.testing.assert_allclose(np.einsum("iaj,ibk->abjk", values, values), expected, atol=1e-12)


@pytest.mark.parametrize("dim", [3, *(pytest.param(dim, marks=pytest.mark.slow) for dim in (4, 7))])
def test_overlap_and_gram_coefficients_of_the_noise_know_only_sigma_s(dim):
    x = unit_tokens(4, dim)
    drift, values = ito_drift(IsotropicNoise(symmetric=1.3, antisymmetric=0.7), jnp.asarray(x))
    half = np.einsum("iaj,bj->iab", values, x)
    noise = half + half.transpose(0, 2, 1)
    found = drift @ x.T + x @ drift.T + np.einsum("iaj,ibj->ab", values, values)
    np.testing.assert_allclose(found, sphere.gram_drift(x @ x.T, sigma=1.3), atol=1e-12)
    np.testing.assert_allclose(
        np.einsum("iab,icd->abcd", noise, noise),
        sphere.gram_covariance(x @ x.T, sigma=1.3),
        atol=1e-12,
    )


@pytest.mark.slow
def test_the_noise_has_the_rank_of_the_counting_formulas():
    for tokens, dim in ((1, 3), (2, 3), (2, 5), (3, 3), (4, 3), (3, 5), (7, 5)):
        x = jnp.asarray(unit_tokens(tokens, dim, seed=tokens))
        for rank, strengths in (
            (sphere.symmetric_rank, (1.0, 0.0)),
            (sphere.antisymmetric_rank, (0.0, 1.0)),
            (sphere.full_rank, (1.0, 0.5)),
        ):
            noise = IsotropicNoise(symmetric=strengths[0], antisymmetric=strengths[1])
            values = vector_fields(noise, x)[1].reshape(dim * dim, tokens * dim)
            assert np.linalg.matrix_rank(values, tol=1e-9) == rank(tokens, dim)


@pytest.mark.parametrize(
    ("tokens", "dim"),
    [(3, 5), *(pytest.param(*s, marks=pytest.mark.slow) for s in ((1, 3), (2, 3), (2, 7)))],
)
@pytest.mark.parametrize(("symmetric", "antisymmetric"), MIXTURES)
def test_the_noise_in_the_span_has_exactly_the_covariance_of_the_full_noise(
    tokens, dim, symmetric, antisymmetric
):
    x = jnp.asarray(unit_tokens(tokens, dim, seed=3))
    # Ambient displacements, so that the radial part is compared too.
    found, expected = (
        jax.vmap(lambda e, noise=noise: noise(jnp.zeros(()), x, e))(
            jnp.eye(math.prod(noise.shape(x))).reshape(-1, *noise.shape(x))
        )
        for noise in (
            SpanNoise(symmetric=symmetric, antisymmetric=antisymmetric),
            IsotropicNoise(symmetric=symmetric, antisymmetric=antisymmetric),
        )
    )
    np.testing.assert_allclose(
        np.einsum("iaj,ibk->ajbk", found, found),
        np.einsum("iaj,ibk->ajbk", expected, expected),
        atol=1e-12,
    )


# ---- one token


@pytest.mark.slow
@pytest.mark.parametrize("dim", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_one_token_is_a_brownian_motion_for_every_mixture_of_the_noises(dim):
    ts = np.array([0.0, 0.25, 0.5, 1.0])
    for seed, (symmetric, antisymmetric) in enumerate(MIXTURES):
        found = ensemble(
            isotropic(symmetric, antisymmetric),
            Fixed(np.eye(1, dim)),
            ts,
            substeps=10,
            members=10_000,
            seed=seed,
            save=chords_to_pole,
        )
        expected = sphere.one_point_correlation(
            ts, symmetric=symmetric, antisymmetric=antisymmetric, dim=dim
        )
        assert_mean(found[:, 1:], expected[1:])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "variance"),
    [
        (IsotropicNoise(symmetric=0.8, antisymmetric=0.6), 0.5),
        (SpanNoise(symmetric=0.8, antisymmetric=0.6), 0.5),
        (TokenNoise(1.0), 1.0),
    ],
    ids=["isotropic", "span", "token"],
)
def test_geodesic_steps_of_any_length_multiply_the_correlation_by_a_hypergeometric_function(
    noise, variance
):
    # |step|² is `variance` h times a chi-square of n - 1 degrees of freedom, and by rotation
    # invariance E<x_k, x_0> = (E cos |step|)^k. At first order this is exp(-(n-1) variance t/2).
    dim, h = 4, 0.4
    found = ensemble(
        rqf.SDE(rqf.drifts.NoDrift(), noise, SPHERE),
        Fixed(np.eye(1, dim)),
        h * np.arange(4),
        substeps=1,
        members=20_000,
        seed=0,
        solver=GeodesicEuler(),
        save=chords_to_pole,
    )
    factor = hyp1f1((dim - 1) / 2, 1 / 2, -variance * h / 2)
    assert_mean(found[:, 1:], factor ** np.arange(1, 4))
    small = 1e-5
    slope = (hyp1f1((dim - 1) / 2, 1 / 2, -variance * small / 2) - 1) / small
    assert slope == pytest.approx(-(dim - 1) * variance / 2, rel=1e-4)


@pytest.mark.slow
def test_independent_noise_makes_the_tokens_independent_brownian_motions():
    ts, dim, sigma, x0 = np.array([0.0, 0.25, 0.5]), 3, 1.2, np.eye(2, 3)
    found = ensemble(
        rqf.SDE(rqf.drifts.NoDrift(), TokenNoise(sigma), SPHERE),
        Fixed(x0),
        ts,
        substeps=50,
        members=20_000,
        seed=0,
        solver=GeodesicEuler(),
        save=SPHERE.project,
    )[:, 1:]
    decay = np.exp(-(dim - 1) * sigma**2 * ts[1:] / 2)
    correlation = np.einsum("mtai,ai->mta", found, x0)
    # A step multiplies the correlation by E cos |v| = 1 - (n-1) v/2 + (n²-1) v²/24, v = σ²h, and
    # time by exp(-(n-1) v/2): to first order in h they differ by (n-1)(n-2) σ⁴h t/12.
    bias = (dim - 1) * (dim - 2) / 12 * sigma**4 * 0.005 * 0.5
    assert_mean(correlation, np.stack([decay, decay], axis=1), bias=bias)
    assert_mean(found[:, :, 0, 0] * found[:, :, 1, 1], decay**2, bias=2 * bias)
    assert_mean(found[:, :, 0, 1] * found[:, :, 1, 0], 0.0)


# ---- identities of every step length


@pytest.mark.parametrize(
    ("tokens", "dim", "h", "symmetric", "antisymmetric"),
    [
        (4, 4, 0.45, 0.8, 0.6),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (2, 2, 0.9, 1.0, 0.0),
                (4, 4, 0.45, 1.0, 0.0),
                (3, 8, 0.22, 1.0, 0.0),
                (6, 5, 0.35, 1.0, 0.0),
            )
        ),
    ],
)
def test_steps_of_any_length_conserve_mean_angles_and_shrink_log_volumes_linearly(
    tokens, dim, h, symmetric, antisymmetric
):
    found = ensemble(
        isotropic(symmetric, antisymmetric),
        Fixed(unit_tokens(tokens, dim)),
        h * np.arange(3),
        substeps=1,
        members=20_000,
        seed=dim,
        save=SPHERE.project,
    )
    pairs = np.triu_indices(tokens, 1)
    sums = np.linalg.norm(found[:, :, pairs[0]] + found[:, :, pairs[1]], axis=-1)
    differences = np.linalg.norm(found[:, :, pairs[0]] - found[:, :, pairs[1]], axis=-1)
    theta = 2 * np.arctan2(differences, sums)
    assert_mean(theta[:, 1:], theta[0, 0])
    assert_mean(np.diff(log_volumes(found), n=2, axis=1)[:, 0], 0.0)


@functools.cache
def ends(equal: bool):
    """Signs relative to token 0, and the last overlaps, of four tokens run to their clusters."""
    x0 = Equiangular(4, 4, 0.5)(jax.random.key(0)) if equal else jnp.asarray(unit_tokens(4, 4, 5))
    last = ensemble(
        isotropic(1.0), Fixed(x0), [0.0, 40.0], substeps=100, members=10_000, seed=11, save=gram
    )[:, -1]
    return np.asarray(x0 @ x0.T), last


@pytest.mark.parametrize("equal", [False, True], ids=["generic", "equal"])
def test_tokens_end_as_a_random_hyperplane_splits_them(equal):
    start, last = ends(equal)
    pairs = np.triu_indices(4, 1)
    assert np.all(np.abs(last) > 0.99)
    signs = np.sign(last)
    theta = np.arccos(start[pairs])
    assert_mean(signs[:, *pairs] > 0, sphere.aligned_probability(theta))
    assert_mean(signs, sphere.limiting_gram(start))
    together = np.all(signs[:, :3, :3] > 0, axis=(1, 2))
    assert_mean(together, 1 - (theta[0] + theta[1] + theta[3]) / (2 * np.pi))
    assert_mean(np.all(signs > 0, axis=(1, 2)), sphere.all_aligned_probability(start))
    # The size of a cluster chosen by a coin has mean 2, so (N_+ - 2)² is a mean as well.
    size = np.sum(signs[:, 0] > 0, axis=1)
    assert_mean((size - 2.0) ** 2, sphere.cluster_size_variance(start))


def test_three_and_four_equiangular_tokens_end_together_with_probability_2_over_n_plus_1():
    _, last = ends(True)
    assert_mean(np.all(last[:, :3, :3] > 0, axis=(1, 2)), 1 / 2)
    assert_mean(np.all(last > 0, axis=(1, 2)), 2 / 5)


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "h"), [(2, 0.8), pytest.param(7, 0.25, marks=pytest.mark.slow)])
def test_the_cluster_of_a_uniform_token_is_a_row_of_fair_coins(dim, h):
    tokens, time = 6, 20.0
    signs = ensemble(
        isotropic(1.0),
        Uniform(tokens, dim),
        [0.0, time],
        substeps=math.ceil(time / h),
        members=5_000,
        seed=dim,
        save=rqf.observables.cluster_signs,
    )[:, -1]
    counts = np.bincount(np.sum(signs[:, 1:] > 0, axis=1), minlength=tokens)
    expected = len(signs) * sphere.cluster_size_distribution(tokens - 1)
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


# ---- two tokens in time


@pytest.mark.slow
def test_the_mean_log_volume_of_k_tokens_falls_at_k_times_k_minus_1():
    x0, sigma, ts = unit_tokens(4, 4, seed=1), 0.7, np.array([0.0, 0.3, 1.0])
    found = log_volumes(
        ensemble(
            isotropic(sigma, 0.5),
            Fixed(x0),
            ts,
            substeps=40,
            members=10_000,
            seed=1,
            save=SPHERE.project,
        )
    )
    expected = [sphere.mean_log_det_gram(ts, x0[:k] @ x0[:k].T, sigma=sigma) for k in (2, 3, 4)]
    np.testing.assert_allclose(found[0, 0], np.transpose(expected)[0], atol=1e-10)
    assert_mean(found[:, 1:], np.transpose(expected)[1:])


def test_the_angle_has_the_density_of_the_hyperbolic_heat_kernel():
    start, ts, sigma = np.pi / 3, np.array([0.0, 0.4, 1.6]), 1.1
    found = ensemble(isotropic(sigma), Pair(start, 3), ts, substeps=20, members=20_000, seed=2)[
        ..., 0
    ]
    # θ = 2 arctan e^{-u}: a grid in u resolves both ends, where most of the mass gathers.
    u = np.linspace(-16, 16, 3201)
    grid = 2 * np.arctan(np.exp(-u[::-1]))
    for k in (1, 2):
        density = sphere.angle_density(grid, ts[k], start, sigma=sigma)
        mass = (density * np.sin(grid))[1:] + (density * np.sin(grid))[:-1]
        distribution = np.append(0.0, np.cumsum(mass) * (u[1] - u[0]) / 2)
        assert distribution[-1] == pytest.approx(1, abs=1e-8)
        test = scipy.stats.ks_1samp(found[:, k], lambda x, d=distribution: np.interp(x, grid, d))
        assert test.pvalue > 1e-3
        sine = np.sin(found[:, k])
        assert_mean(np.cos(found[:, k]), sphere.mean_overlap(ts[k], np.cos(start), sigma=sigma))
        assert_mean(sine, sphere.mean_sine(ts[k], start, sigma=sigma))
        assert_mean((found[:, k] - start) ** 2, sphere.angle_variance(ts[k], start, sigma=sigma))


THRESHOLD = 0.3


def synchronised(x):
    """Whether sin θ ≤ sin ε."""
    return jnp.abs(overlaps(x)[0]) >= math.cos(THRESHOLD)


@pytest.mark.slow
def test_the_mean_synchronisation_time_is_logarithmic_and_delayed_by_monitoring():
    h, sigma, angle = 1 / 32, 1.0, 1.9
    ts = h * np.arange(32 * 12 + 1)
    inside = ensemble(
        isotropic(sigma), Pair(angle, 3), ts, substeps=1, members=10_000, seed=3, save=synchronised
    )
    assert np.mean(inside.any(axis=1)) > 1 - 1e-3
    # A member that is late counts as the end: it adds less than 1e-3 to the mean.
    times = np.where(inside.any(axis=1), ts[np.argmax(inside, axis=1)], ts[-1])
    shift = sphere.discrete_monitoring_shift(h, sigma=sigma) * math.cos(THRESHOLD)
    expected = sphere.mean_synchronisation_time(angle, THRESHOLD, sigma=sigma) + shift
    error = times.std() / math.sqrt(len(times))
    assert shift > 8 * error
    assert_mean(times, expected)


@pytest.mark.parametrize("start", [0.3])
def test_four_long_steps_of_the_projective_flow_are_weakly_accurate_to_2_parts_in_1000(start):
    found = ensemble(
        isotropic(1.0),
        Pair(math.acos(start), 3),
        [0.0, 2.0],
        substeps=4,
        members=200_000,
        seed=4,
        save=overlaps,
    )[:, 1, 0]
    for samples, expected in (
        (found, sphere.mean_overlap(2.0, start, sigma=1.0)),
        (found**2, sphere.mean_squared_overlap(2.0, start, sigma=1.0)),
        (found > 0, sphere.positive_overlap_probability(2.0, start, sigma=1.0)),
    ):
        assert_mean(samples, expected, bias=2e-3, scores=4.0)


@pytest.mark.slow
def test_a_mixture_is_weakly_accurate_to_2_parts_in_1000_at_control_number_1():
    found = ensemble(
        isotropic(0.8, 0.6),
        Fixed(np.eye(1, 3)),
        np.arange(4) / 3,
        substeps=1,
        members=400_000,
        seed=5,
        save=chords_to_pole,
    )
    expected = sphere.one_point_correlation(
        np.arange(1, 4) / 3, symmetric=0.8, antisymmetric=0.6, dim=3
    )
    assert_mean(found[:, 1:], expected, bias=2e-3, scores=4.0)


# ---- changes of coordinates, of matrix and of time


@pytest.mark.slow
def test_tokens_in_their_span_keep_their_overlaps_and_the_law_of_their_overlaps():
    law, ts = Uniform(3, 12), [0.0, 0.5]
    full, span = (
        ensemble(isotropic(1.0), law, ts, substeps=substeps, members=5_000, seed=6, save=gram)
        for law, substeps in ((law, 32), (InSpan(law), 16))
    )
    np.testing.assert_allclose(span[:, 0], full[:, 0], atol=1e-12)
    # The two start from the same tokens but have independent noise: the test is conservative.
    for f in (lambda g: g[:, 0, 1], lambda g: g[:, 0, 1] * g[:, 0, 2], np.linalg.det):
        assert scipy.stats.ks_2samp(f(full[:, 1]), f(span[:, 1])).pvalue > 1e-3
    assert_mean(full[:, 1] ** 2 - span[:, 1] ** 2, 0.0)


@pytest.mark.slow
def test_noise_in_the_span_and_full_noise_give_long_geodesic_steps_of_one_law():
    law, ts = Pair(1.0, 5), 0.3 * np.arange(4)
    full, span = (
        ensemble(
            rqf.SDE(rqf.drifts.NoDrift(), noise(symmetric=1.0, antisymmetric=0.5), SPHERE),
            law,
            ts,
            substeps=1,
            members=10_000,
            seed=seed,
            solver=GeodesicEuler(),
            save=overlaps,
        )[:, 1:, 0]
        for seed, noise in enumerate((IsotropicNoise, SpanNoise))
    )
    for k in range(3):
        assert scipy.stats.ks_2samp(full[:, k], span[:, k]).pvalue > 1e-3


@pytest.mark.parametrize(
    ("tokens", "dim", "control"),
    [
        (4, 3, 5e-3),
        *(pytest.param(*c, marks=pytest.mark.slow) for c in ((3, 8, 5e-3), (6, 5, 1e-3))),
    ],
)
def test_antisymmetric_noise_leaves_the_gram_matrix_alone(tokens, dim, control):
    x0 = unit_tokens(tokens, dim)
    found = ensemble(
        isotropic(0.0, 1.0),
        Fixed(x0),
        control / dim * 20.0 * np.arange(3),
        substeps=20,
        members=10,
        seed=0,
        save=gram,
    )
    np.testing.assert_allclose(found, np.broadcast_to(x0 @ x0.T, found.shape), atol=1e-10, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "h", "dim"),
    [
        (ProjectiveFlow(), 0.5, 3),
        pytest.param(ProjectiveFlow(), 0.2, 7, marks=pytest.mark.slow),
        (GeodesicEuler(), 0.5, 5),
        pytest.param(GeodesicHeun(), 0.5, 5, marks=pytest.mark.slow),
    ],
)
def test_the_trace_of_the_noise_moves_nothing(solver, h, dim):
    x, rng = jnp.asarray(unit_tokens(4, dim)), np.random.default_rng(0)
    sde, traceless = isotropic(0.8, 0.6), x
    for _ in range(5):
        dw = math.sqrt(h) * rng.standard_normal((dim, dim))
        without = dw - np.trace(dw) / dim * np.eye(dim)
        t, step = jnp.zeros(()), jnp.asarray(h)
        x = solver.advance(sde, t, step, x, jnp.asarray(dw))
        traceless = solver.advance(sde, t, step, traceless, jnp.asarray(without))
    np.testing.assert_allclose(x, traceless, atol=1e-10, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver",
    [
        ProjectiveFlow(),
        *(pytest.param(s, marks=pytest.mark.slow) for s in (GeodesicEuler(), GeodesicHeun())),
    ],
)
def test_sigma_is_a_unit_of_time(solver):
    ts, factor = np.array([0.0, 0.3, 1.0]), 1.7
    slow, fast = (
        ensemble(
            isotropic(0.8 * scale, 0.6 * scale),
            Uniform(3, 3),
            ts / scale**2,
            substeps=8,
            members=20,
            seed=0,
            solver=solver,
            save=rqf.observables.gram,
        )
        for scale in (1.0, factor)
    )
    np.testing.assert_allclose(fast, slow, atol=1e-12, rtol=0)


@pytest.mark.slow
def test_a_longer_run_begins_with_the_shorter_one():
    # 16 intervals are exact in any arithmetic of k/16; (k/49) 49 is below k from k = 1 on.
    sde = rqf.SDE(rqf.drifts.NoDrift(), TokenNoise(1.0), SPHERE)
    short, long = (
        ensemble(
            sde,
            Uniform(1, 2),
            np.arange(intervals + 1) / 8,
            substeps=1,
            members=5,
            seed=0,
            save=SPHERE.project,
        )
        for intervals in (16, 49)
    )
    np.testing.assert_allclose(long[:, :17], short, atol=1e-13, rtol=0)


# ---- a layer of a network, as a solver that a user might write


class Layer(rqf.solvers.AbstractMemorylessSolver):
    """x <- (1 + dA) x, normalised."""

    def advance(self, sde, t, h, x, dw):
        return sde.manifold.project(x + sde.noise(t, x, dw))

    def misfit(self, sde):
        return None


@pytest.mark.slow
def test_residual_layers_lose_log_sine_at_a_rate_corrected_by_width_times_step():
    dim, found = 8, {}
    for h in (0.05, 0.1):
        # From a right angle the noise of ln sin θ is of second order: few members see h².
        theta = ensemble(
            isotropic(1.0, 1.0),
            Pair(np.pi / 2, dim),
            [0.0, h],
            substeps=1,
            members=200_000,
            seed=7,
            solver=Layer(),
        )[:, 1, 0]
        found[h] = (np.log(np.sin(theta)).mean() / h + 1) / h
    limit = 2 * found[0.05] - found[0.1]
    assert limit == pytest.approx((3 * dim - 10) / 2, rel=0.1)


@pytest.mark.slow
def test_pairs_in_single_precision_coincide_as_often_as_the_page_on_conventions_says():
    start, ts = Fixed(jnp.eye(2, 3, dtype=jnp.float32)), [0.0, 8.0, 10.0, 12.0]
    runs = rqf.simulate(
        isotropic(1.0), start, ts, substeps=160, members=20_000, key=jax.random.key(9)
    )
    assert runs.ys.dtype == jnp.float32
    x, y = np.moveaxis(np.asarray(runs.ys)[:, 1:], 2, 0)
    equal = np.all(x == y, -1).mean(0)
    errors = np.sqrt(equal * (1 - equal) / 20_000)
    # The page says so many in one or two digits.
    assert np.all(np.abs(equal - [0.004, 0.023, 0.07]) < 5 * errors + [5e-4, 5e-4, 5e-3]), equal
