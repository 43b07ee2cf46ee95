"""Theorems about weight dynamics: exact laws at any step length, orders, order of eigenvalues."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _ensembles import assert_mean

import rqf_jax as rqf
from rqf_jax.drifts import Coulomb, NoDrift, Pull, TwoLayer
from rqf_jax.laws import Fixed, GaussianEnsemble, Zeros
from rqf_jax.manifolds import Euclidean, Hermitian, Symmetric, WeylChamber
from rqf_jax.noises import CorrelatedNoise, SpectralNoise, TokenNoise
from rqf_jax.noises.ensemble import covariance_factor
from rqf_jax.observables import (
    gaps,
    hermitian_spectrum,
    power_sums,
    singular_values,
    spacing_ratios,
    spectrum,
)
from rqf_jax.potentials import Quartic
from rqf_jax.solvers import BackwardEuler, ExactOU, GeodesicEuler, MatrixJump
from rqf_jax.theory import dyson, levels, linear_networks, spectra

KEY, TIME = jax.random.key(0), jnp.zeros(())
G, RATE = 0.7, 0.9


def ensemble(sde, law, ts, *, save, substeps=1, members=4000, solver=None):
    runs = rqf.simulate(
        sde, law, jnp.asarray(ts, float), substeps=substeps, members=members, key=KEY,
        save=save, solver=solver,
    )  # fmt: skip
    return np.asarray(runs.ys)


def power_sums_of_spectrum(x):
    """p_1, p_2, p_4 of a symmetric matrix."""
    return power_sums(spectrum(x), 4)


def power_sums_of_hermitian(x):
    """p_1, p_2, p_4 of a Hermitian matrix."""
    return power_sums(hermitian_spectrum(x), 4)


# ---- matrices


@pytest.mark.slow
@pytest.mark.parametrize(
    ("beta", "save"), [(1, power_sums_of_spectrum), (2, power_sums_of_hermitian)]
)
def test_one_exact_step_gives_a_matrix_its_moments_at_every_time(beta, save):
    n, ts = 4, [0.0, 0.4, 3.0]
    sums = ensemble(rqf.models.dyson(G, RATE, beta), Zeros((n, n)), ts, save=save)[:, 1:]
    time, options = np.array(ts[1:]), {"g": G, "rate": RATE, "n": n}
    assert_mean(sums[..., 0] ** 2, dyson.trace_variance(time, **options))
    assert_mean(sums[..., 1], dyson.square_sum_mean(time, **options, beta=beta))
    assert_mean(sums[..., 3], dyson.fourth_moment(time, **options, beta=beta))
    law = scipy.stats.kstest(
        sums[:, 1, 1], lambda p: dyson.square_sum_cdf(p, 3.0, **options, beta=beta)
    )
    assert law.pvalue > 1e-3


@pytest.mark.slow
def test_the_law_of_a_pulled_matrix_does_not_depend_on_its_steps_or_on_irregular_saves():
    # Mean and variance of every entry, towards a target, by one and by many steps.
    target = np.array([[1.0, 0.5], [0.5, -1.0]])
    sde = rqf.models.dyson(G, RATE, target=target)
    for substeps in (1, 7):
        x = ensemble(
            sde,
            Zeros((2, 2)),
            [0.0, 0.1, 1.3],
            save=rqf._ensemble.members.whole_state,
            substeps=substeps,
        )[:, 2]
        assert_mean(x, target * (1 - math.exp(-RATE * 1.3)))
        variance = G**2 * dyson.effective_time(1.3, RATE) * np.array([[2, 1], [1, 2]])
        assert_mean((x - x.mean(axis=0)) ** 2, variance)
        np.testing.assert_allclose(x, np.swapaxes(x, 1, 2), atol=1e-14)


@pytest.mark.slow
def test_a_hermitian_matrix_of_two_levels_has_their_mean_gap():
    for beta, save in ((1, spectrum), (2, hermitian_spectrum)):
        values = ensemble(rqf.models.dyson(G, 0.0, beta), Zeros((2, 2)), [0.0, 1.0], save=save)
        assert_mean(
            np.diff(values[:, 1], axis=-1)[:, 0], float(dyson.mean_gap(1.0, g=G, beta=beta))
        )


@pytest.mark.slow
def test_spacing_ratios_of_three_levels_are_those_of_their_ensemble():
    for beta, save in ((1, spectrum), (2, hermitian_spectrum)):
        sde = rqf.models.dyson(G, 0.0, beta)
        values = ensemble(sde, Zeros((3, 3)), [0.0, 1.0], save=save)[:, 1]
        ratios = jax.vmap(spacing_ratios)(jnp.asarray(values))
        assert_mean(ratios[:, 0], levels.mean_spacing_ratio(beta))


# ---- rectangular weights


def squares(x):
    """Sums of the second and of the fourth powers of the singular values."""
    s = singular_values(x)
    return jnp.stack([jnp.sum(s**2), jnp.sum(s**4), jnp.sum(jnp.log(s**2))])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(5, 3), (3, 3)])
def test_singular_values_of_noisy_weights_have_laguerre_moments(shape):
    sde = rqf.models.weight_ou(0.8, RATE, np.zeros(shape))
    found = ensemble(sde, Zeros(shape), [0.0, 0.7], save=squares)[:, 1]
    variance = 0.8**2 * (1 - math.exp(-2 * RATE * 0.7)) / (2 * RATE)
    assert_mean(found[:, 0], spectra.square_sum_mean(*shape, variance))
    assert_mean(found[:, 1], spectra.fourth_moment(*shape, variance))
    assert_mean(found[:, 2], spectra.mean_log_det(*shape, variance))


def test_two_layers_without_noise_follow_saxe_and_conserve_their_balance():
    teacher = np.diag([2.0, 1.0, 0.5])
    start = 0.1 * np.eye(3)
    sde = rqf.models.two_layer(0.0, teacher)
    ts = np.linspace(0.0, 3.0, 4)
    x = ensemble(
        sde, Fixed(np.concatenate([start, start])), ts, save=rqf._ensemble.members.whole_state,
        substeps=400, members=1, solver=rqf.solvers.GeodesicHeun(),
    )[0]  # fmt: skip
    left, right = x[:, :3], x[:, 3:]
    product = left @ np.swapaxes(right, 1, 2)
    for i, s in enumerate((2.0, 1.0, 0.5)):
        expected = linear_networks.balanced_mode(ts, 0.01, target=s)
        np.testing.assert_allclose(product[:, i, i], expected, rtol=1e-4)
    np.testing.assert_allclose(
        np.swapaxes(left, 1, 2) @ left, np.swapaxes(right, 1, 2) @ right, atol=1e-12
    )


def test_correlated_noise_has_the_covariance_it_is_given():
    root = np.random.default_rng(0).standard_normal((6, 3))
    covariance = root @ root.T
    noise = CorrelatedNoise(covariance_factor(covariance, (3, 2)))
    x = jnp.zeros((3, 2))
    columns = jax.vmap(lambda e: noise(TIME, x, e))(jnp.eye(*noise.shape(x)))
    found = np.asarray(columns).reshape(-1, 6)
    np.testing.assert_allclose(found.T @ found, covariance, atol=1e-12)
    sde = rqf.SDE(Pull(RATE), noise, Euclidean())
    assert isinstance(rqf.solvers.default(sde), ExactOU)


# ---- eigenvalues


def stationary(n, beta):
    return GaussianEnsemble(n, G**2 / RATE, beta)


@pytest.mark.parametrize("beta", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_matrix_jump_is_exact_in_law_for_a_step_of_any_length(beta):
    n, options = 4, {"g": G, "rate": RATE, "n": 4, "beta": beta}
    start = np.array([-2.0, -0.1, 0.0, 1.5])
    sde = rqf.models.dyson_eigenvalues(G, RATE, beta)
    assert isinstance(rqf.solvers.default(sde), MatrixJump)
    p2 = ensemble(sde, Fixed(start), [0.0, 0.3, 1.0], save=power_sums)[:, 1:, 1]
    times = np.array([0.3, 1.0])
    begin = float(np.sum(start**2))
    assert_mean(p2, dyson.square_sum_mean(times, begin, **options))
    for k, time in enumerate(times):
        law = scipy.stats.kstest(
            p2[:, k], lambda p, t=time: dyson.square_sum_cdf(p, t, begin, **options)
        )
        assert law.pvalue > 1e-3
    assert n == len(start)


@pytest.mark.slow
@pytest.mark.parametrize(
    "beta", [1.0, *(pytest.param(beta, marks=pytest.mark.slow) for beta in (2.5, 4.0))]
)
def test_backward_euler_keeps_the_stationary_law_of_any_index_and_the_order(beta):
    n, law = 5, stationary(5, beta)
    sde = rqf.models.dyson_eigenvalues(G, RATE, jnp.asarray(beta))
    assert isinstance(rqf.solvers.default(sde), BackwardEuler)
    values = ensemble(
        sde, law, [0.0, 1.0], save=rqf._ensemble.members.whole_state, substeps=50, members=1000
    )
    assert np.all(np.diff(values, axis=-1) > 0)
    expected = float(dyson.square_sum_mean(np.inf, g=G, rate=RATE, n=n, beta=beta))
    for time in range(2):
        # Weak order 1: at h = 0.02 a relative error of h rate or so.
        assert_mean(np.sum(values[:, time] ** 2, axis=-1), expected, bias=0.02 * expected * time)


@pytest.mark.parametrize(
    ("beta", "h", "steps", "dtype"),
    [
        (1.0, 0.1, 2_000, "float64"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (1.0, 0.1, 1_000_000, "float64"),
                (1.0, 0.001, 20_000, "float64"),
                (1.0, 10.0, 20_000, "float64"),
                (1.0, 0.1, 20_000, "float32"),
                (2.5, 1.0, 20_000, "float32"),
                (1, 0.001, 20_000, "float64"),
                (1, 1.0, 20_000, "float64"),
                (2, 0.1, 20_000, "float64"),
            )
        ),
    ],
)
def test_eigenvalues_never_cross_however_rough_the_steps(beta, h, steps, dtype):
    # Seen after every step; h = 0.1 is a hundred times too long for an explicit method. A whole
    # number β is stepped by matrices, others by `BackwardEuler`.
    index = beta if isinstance(beta, int) else jnp.asarray(beta)
    sde = rqf.models.dyson_eigenvalues(1.0, 1.0, index)
    start = jnp.asarray(np.linspace(-1, 1, 6), dtype)
    smallest = rqf.simulate(
        sde, Fixed(start), h * np.arange(steps + 1.0), substeps=1, members=2, key=KEY,
        save=lambda x: jnp.min(gaps(x)),
    )  # fmt: skip
    assert smallest.ys.dtype == dtype and smallest.ys.shape == (2, steps + 1)
    assert np.all(np.asarray(smallest.ys) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1, 2])
def test_the_gap_of_two_levels_has_its_density_after_long_matrix_jumps(beta):
    start, h = np.array([-0.35, 0.35]), 0.7 / RATE
    sde = rqf.models.dyson_eigenvalues(G, RATE, beta)
    assert isinstance(rqf.solvers.default(sde), MatrixJump)
    found = ensemble(sde, Fixed(start), [0.0, h, 2 * h], save=gaps, members=20_000)[:, 1:, 0]
    grid = np.linspace(1e-6, 12, 6001)
    for k, time in enumerate((h, 2 * h)):
        density = dyson.gap_density(grid, time, 0.7, g=G, rate=RATE, beta=beta)
        cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2) * grid[1]])
        law = scipy.stats.kstest(found[:, k], lambda s, cdf=cdf: np.interp(s, grid, cdf))
        assert law.pvalue > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1, 2])
def test_each_eigenvalue_of_a_stationary_matrix_has_the_mean_of_its_ensemble(beta):
    # Dense matrices after a long exact step, and tridiagonal ones.
    save = hermitian_spectrum if beta == 2 else spectrum
    sde = rqf.models.dyson(G, RATE, beta)
    dense = ensemble(sde, Zeros((4, 4)), [0.0, 40.0], save=save, members=20_000)[:, 1]
    sparse = np.asarray(jax.vmap(stationary(4, beta))(jax.random.split(KEY, 20_000)))
    assert_mean(dense - sparse, 0.0)
    assert_mean((dense - dense.mean(0)) ** 2 - (sparse - sparse.mean(0)) ** 2, 0.0)


@pytest.mark.slow
def test_eigenvalues_of_a_square_matrix_without_symmetry_fill_a_disc():
    n, s = 150, 0.8
    x = ensemble(
        rqf.models.ginibre(s, RATE), Zeros((n, n)), [0.0, 30.0],
        save=rqf._ensemble.members.whole_state, members=4,
    )[:, 1]  # fmt: skip
    share = np.abs(np.linalg.eigvals(x)) ** 2 / (n * s**2 / (2 * RATE))
    assert share.max() < 1.25
    # Uniform over the disc, so the squared radius is uniform. The edge is soft: 1/√(2πn) of the
    # eigenvalues, here 0.033, are outside (for complex entries, recalled).
    inside = np.minimum(np.sort(share.ravel()), 1)
    assert np.abs(inside - (np.arange(inside.size) + 0.5) / inside.size).max() < 0.05


def test_the_step_of_backward_euler_solves_its_equation_and_so_does_its_derivative():
    drift = Coulomb(0.49, RATE, Quartic(0.3))
    sde = rqf.SDE(drift, TokenNoise(1.0), WeylChamber())
    x, h = jnp.asarray([-0.5, -0.49, 0.3, 1.0]), jnp.asarray(0.3)
    dw = 0.5 * jax.random.normal(KEY, (4,))
    step = jax.jit(functools.partial(BackwardEuler().advance, sde, TIME, h))
    y = step(x, dw)
    np.testing.assert_allclose(y - h * drift(TIME, y), x + dw, atol=1e-9)
    jacobian = jax.jit(jax.jacrev(step))(x, dw)
    eps = 1e-5
    for i, e in enumerate(np.eye(4)):
        central = (step(x + eps * e, dw) - step(x - eps * e, dw)) / (2 * eps)
        np.testing.assert_allclose(jacobian[:, i], central, atol=1e-6)


@pytest.mark.slow
def test_a_potential_beside_the_pull_has_the_stationary_law_of_metropolis():
    # n = 2, β = 2: density ∝ (λ_1 - λ_2)² exp(-Σ U/g²), by quadrature on a grid.
    grid = np.linspace(-4, 4, 801)
    energy = (RATE * grid**2 / 2 + grid**4 / 4) / G**2
    weight = (grid[:, None] - grid[None, :]) ** 2 * np.exp(-energy[:, None] - energy[None, :])
    expected = np.sum(weight * (grid[:, None] ** 2 + grid[None, :] ** 2)) / np.sum(weight)
    sde = rqf.models.dyson_eigenvalues(G, RATE, 2, Quartic(1.0))
    p2 = ensemble(sde, stationary(2, 2), [0.0, 4.0], save=power_sums, substeps=40)[:, 1, 1]
    assert_mean(p2, expected, bias=4e-3)


@pytest.mark.slow
def test_the_gaussian_ensemble_is_stationary_in_its_moments():
    for beta in (1.0, 3.0):
        values = jax.vmap(stationary(5, beta))(jax.random.split(KEY, 4000))
        p = np.asarray(jax.vmap(power_sums)(values))
        options = {"g": G, "rate": RATE, "n": 5, "beta": beta}
        assert_mean(p[:, 1], dyson.square_sum_mean(np.inf, **options))
        assert_mean(p[:, 3], dyson.fourth_moment(np.inf, **options))


@pytest.mark.slow
@pytest.mark.parametrize("beta", [3.0, 1.0])
def test_the_gaussian_ensemble_obeys_the_loop_equations_of_its_index(beta):
    # E Σ V'(λ) λ^k = g² [k (1 - β/2) E p_{k-1} + (β/2) Σ_{a+b=k-1} E p_a p_b], here V' = κλ.
    values = np.asarray(jax.vmap(stationary(4, beta))(jax.random.split(KEY, 4000)))
    p = [np.sum(values**k, -1) for k in range(6)]
    for k in range(5):
        pairs = sum((p[a] * p[k - 1 - a] for a in range(k)), np.zeros(4000))
        alone = k * p[k - 1] if k else np.zeros(4000)
        assert_mean(RATE * p[k + 1] - G**2 * ((1 - beta / 2) * alone + beta / 2 * pairs), 0.0)


# ---- which solver, and bad input


@pytest.mark.parametrize(
    ("sde", "solver", "right"),
    [
        (rqf.models.dyson_eigenvalues(1.0, 1.0, 1), GeodesicEuler(), "MatrixJump"),
        (rqf.models.dyson_eigenvalues(1.0, 1.0, 4.0), GeodesicEuler(), "BackwardEuler"),
        (rqf.models.dyson_eigenvalues(1.0, 1.0, 4.0), MatrixJump(), "BackwardEuler"),
        (rqf.models.dyson(1.0, 1.0), MatrixJump(), "ExactOU"),
        (rqf.SDE(NoDrift(), TokenNoise(1.0), Symmetric()), ExactOU(), "GeodesicEuler"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_solver_that_does_not_suit_a_weight_equation_is_refused(sde, solver, right):
    assert type(rqf.solvers.default(sde)).__name__ == right
    with pytest.raises(ValueError, match=f"does not suit this equation.*Use `{right}`"):
        rqf.solvers.check(solver, sde)


def run(sde, law):
    return rqf.simulate(sde, law, [0.0, 1.0], substeps=1, members=2, key=KEY)


BAD = {
    "a start that is not symmetric": (
        lambda: run(rqf.models.dyson(1.0), Fixed([[0.0, 1.0], [0.0, 0.0]])),
        "`law` must draw symmetric matrices", "off by 0.5",
    ),
    "a start that is not square": (
        lambda: run(rqf.models.dyson(1.0), Zeros((2, 3))), "`law` must draw symmetric matrices",
    ),
    "beta below one": (
        lambda: rqf.models.dyson_eigenvalues(1.0, beta=0.5), "`beta` must be at least 1", "0.5",
    ),
    "beta of a matrix": (lambda: rqf.models.dyson(1.0, beta=4), "`beta` must be 1 or 2", "4"),
    "unordered eigenvalues": (
        lambda: run(rqf.models.dyson_eigenvalues(1.0, beta=1), Fixed([0.0, 2.0, 1.0])),
        "`law` must draw eigenvalues in strictly ascending order", "2 then 1 at index 1",
    ),
    "equal eigenvalues": (
        lambda: run(rqf.models.dyson_eigenvalues(1.0, beta=1), Fixed([0.0, 0.0])),
        "strictly ascending order", "0 then 0",
    ),
    "a teacher that is not a number": (
        lambda: rqf.models.weight_ou(1.0, 1.0, [[np.nan], [0.0]]), "`teacher` must be finite",
    ),
    "a wide teacher": (
        lambda: rqf.models.weight_ou(1.0, 1.0, np.ones((2, 3))), "`teacher`", "Transpose",
    ),
    "a target that is not symmetric": (
        lambda: rqf.models.dyson(1.0, target=[[0.0, 1.0], [0.0, 0.0]]), "`target`", "symmetric",
    ),
    "a covariance that is not one": (
        lambda: covariance_factor(np.diag([1.0, -0.5]), (2,)), "positive semidefinite", "-0.5",
    ),
    "a covariance that is skew": (
        lambda: covariance_factor([[1.0, 0.5], [0.0, 1.0]], (2,)), "`covariance` must be symmetric",
    ),
    "a covariance of others": (
        lambda: covariance_factor(np.eye(2), (3,)), "`covariance` must have shape (3, 3)",
    ),
    "a negative rate": (lambda: Pull(-1.0), "`rate` must be at least 0", "-1"),
    "a target of others": (
        lambda: Pull(1.0, np.zeros((2, 2)))(TIME, jnp.zeros((3, 3))),
        "`target`", "(3, 3)", "(2, 2)",
    ),
    "a potential of our own": (
        lambda: Coulomb(1.0, potential=math.cos), "`potential` must be a potential",
    ),
    "an index of the noise": (lambda: SpectralNoise(1.0, 4), "`beta` must be 1 or 2", "4"),
    "layers of others": (
        lambda: TwoLayer(1.0, np.eye(2))(TIME, jnp.zeros((3, 2))), "`x` must have 4 rows", "(3, 2)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])


def test_projections_are_projections_and_tangents_stay():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 3)))
    for manifold in (Symmetric(), Hermitian(), Euclidean()):
        y = manifold.project(x)
        np.testing.assert_array_equal(manifold.project(y), y)
        assert float(manifold.defect(y)) == 0
        np.testing.assert_array_equal(manifold.retract(y, manifold.tangent(y, x)), y + y)
    assert float(Symmetric().defect(x)) > 0
    chamber = WeylChamber()
    assert float(chamber.defect(chamber.project(jnp.asarray([2.0, 1.0])))) == 0
    assert not math.isfinite(float(chamber.defect(jnp.asarray([1.0, 1.0]))))
