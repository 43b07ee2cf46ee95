"""Theorems about whole runs of weight dynamics: correlations, orders, and signals that emerge."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_quartic_loop_equations, slope

import rqf_jax as rqf
from rqf_jax._brownian.path import Increment
from rqf_jax.laws import AbstractLaw, Fixed, GaussianEnsemble, Normal, Zeros
from rqf_jax.observables import (
    outlier_overlap,
    power_sums,
    singular_overlaps,
    singular_values,
    spectrum,
)
from rqf_jax.potentials import Quartic
from rqf_jax.solvers import BackwardEuler, MatrixJump
from rqf_jax.theory import dyson, levels, outliers

pytestmark = pytest.mark.slow
KEY = jax.random.key(0)
G, RATE = 0.7, 0.9


def two_sums(values):
    """p_1 and p_2 of eigenvalues."""
    return power_sums(values, 2)


@pytest.mark.parametrize(("beta", "substeps"), [(1, 1), (2, 1), (2.5, 60)])
def test_the_first_power_sums_forget_at_the_pulls_rate_whatever_the_index(beta, substeps):
    ts = np.array([0.0, 0.4, 0.8])
    runs = rqf.simulate(
        rqf.models.dyson_eigenvalues(G, RATE, beta),
        GaussianEnsemble(4, G**2 / RATE, beta),
        ts,
        substeps=substeps,
        members=8000,
        key=KEY,
        save=two_sums,
    )
    sums = np.asarray(runs.ys)
    for k in (1, 2):
        for power in (1, 2):
            found = np.corrcoef(sums[:, 0, power - 1], sums[:, k, power - 1])[0, 1]
            assert found == pytest.approx(math.exp(-power * RATE * ts[k]), abs=0.04)


def test_the_mean_square_sum_has_its_derivative_by_the_noise_through_the_eigenvalues():
    start, time = np.diag([0.5, 0.5, -1.0, 2.0]), 0.8

    def square_sums(g):
        runs = rqf.simulate(
            rqf.models.dyson(g, RATE), Fixed(start), [0.0, time], substeps=1, members=4000, key=KEY,
            save=spectrum,
        )  # fmt: skip
        return jnp.sum(runs.ys[:, 1] ** 2, axis=-1)

    found = jax.grad(lambda g: jnp.mean(square_sums(g)))(G)
    mean = dyson.square_sum_mean(time, g=G, rate=RATE, n=4, start=float(np.sum(start**2)))
    expected = 2 * (mean - np.sum(start**2) * math.exp(-2 * RATE * time)) / G
    error = np.asarray(square_sums(G)).std() / math.sqrt(4000) * 2 / G
    assert abs(found - expected) < 5 * error
    assert error < 0.05 * expected


# ---- a teacher that emerges from the noise

# Shortly before it emerges, the overlap with the teacher is some 1/N: at 0.8 of the time 0.035 for
# N = 300 and 0.013 for 1200.
N, TEACHER = 600, 1.3
NOISE = math.sqrt(0.6 / N)
U = np.ones(N) / math.sqrt(N)


class Symmetric(AbstractLaw):
    """A symmetric Gaussian matrix of variance v off the diagonal."""

    variance: float

    def __call__(self, key):
        z = jax.random.normal(key, (N, N))
        return math.sqrt(self.variance / 2) * (z + z.T)


def leading(x):
    """The largest eigenvalue, and its vector's overlap with the teacher."""
    return jnp.stack([spectrum(x)[-1], outlier_overlap(x, U)])


@pytest.mark.parametrize(
    ("initial", "shares", "rtol"),
    [(0.0, [0.5, 2.0, 3.5], 0.01), (1.5 / N, [0.5, 0.8, 2.0, 3.5], 0.015)],
)
def test_the_outlier_of_a_teacher_emerges_when_its_signal_passes_the_noise(initial, shares, rtol):
    rate = 1.2
    options = {"g": NOISE, "rate": rate, "n": N, "initial_variance": initial}
    emergence = outliers.emergence_time(TEACHER, **options)
    ts = np.array([0.0, *shares]) * emergence
    runs = rqf.simulate(
        rqf.models.dyson(NOISE, rate, target=TEACHER * np.outer(U, U)),
        Symmetric(initial) if initial else Zeros((N, N)),
        ts, substeps=1, members=24, key=KEY, save=leading,
    )  # fmt: skip
    value, overlap = np.asarray(runs.ys)[:, 1:].mean(0).T
    signal = TEACHER * (1 - np.exp(-rate * ts[1:]))
    variance = initial * np.exp(-2 * rate * ts[1:])
    variance = variance + NOISE**2 * dyson.effective_time(ts[1:], rate)
    expected = np.asarray(outliers.outlier(signal, N, variance)).copy()
    # Before, the largest eigenvalue is that of noise, below the edge by some 1.2 N^{-2/3}/2 of it.
    expected[0] = levels.largest_eigenvalue(N, variance[0])[0]
    np.testing.assert_allclose(value, expected, rtol=rtol)
    assert outliers.overlap(signal, N, variance)[0] == 0
    np.testing.assert_allclose(overlap, outliers.overlap(signal, N, variance), atol=0.04)


# As above: at 0.8 of the time 0.046 for 360 × 160.
ROWS, COLUMNS = 720, 320
SPREAD = math.sqrt(ROWS * COLUMNS)


@pytest.mark.parametrize(
    ("initial", "shares"), [(0.0, [0.5, 2.0, 3.5]), (1.5 / SPREAD, [0.5, 0.8, 2.0, 3.5])]
)
def test_the_singular_value_of_a_teacher_emerges_when_its_signal_passes_the_noise(initial, shares):
    rate, s = 1.2, math.sqrt(0.6 / SPREAD)
    left, right = np.ones(ROWS) / math.sqrt(ROWS), np.ones(COLUMNS) / math.sqrt(COLUMNS)
    emergence = outliers.rectangular_emergence_time(
        TEACHER, s=s, rate=rate, rows=ROWS, columns=COLUMNS, initial_variance=initial
    )
    # τ²(1-q)² = √(mn) [v₀q² + s²(1-q²)/2κ] at q = e^{-κt}.
    q = math.exp(-rate * emergence)
    noise = SPREAD * (initial * q**2 + s**2 * (1 - q**2) / (2 * rate))
    assert TEACHER**2 * (1 - q) ** 2 == pytest.approx(noise, rel=1e-12)

    def largest(w):
        return jnp.concatenate([singular_values(w)[-1:], singular_overlaps(w, left, right)])

    ts = np.array([0.0, *shares]) * emergence
    runs = rqf.simulate(
        rqf.models.weight_ou(s, rate, TEACHER * np.outer(left, right)),
        Normal((ROWS, COLUMNS), math.sqrt(initial)),
        ts, substeps=1, members=8, key=KEY, save=largest,
    )  # fmt: skip
    value, *overlaps = np.asarray(runs.ys)[:, 1:].mean(0).T
    signal = TEACHER * (1 - np.exp(-rate * ts[1:]))
    variance = initial * np.exp(-2 * rate * ts[1:]) + s**2 * dyson.effective_time(ts[1:], rate)
    expected = outliers.rectangular_outlier(signal, ROWS, COLUMNS, variance)
    np.testing.assert_allclose(value, expected, rtol=0.015)
    expected = outliers.rectangular_overlaps(signal, ROWS, COLUMNS, variance)
    assert expected[0][0] == 0 and expected[0][-1] > 0.5
    np.testing.assert_allclose(overlaps, expected, atol=0.04)


# ---- orders


@pytest.mark.parametrize(("beta", "order"), [(1.0, 0.83), (2.0, 0.97), (4.0, 1.02)])
def test_backward_euler_has_its_strong_order_for_two_levels(beta, order):
    # On one Brownian path, coarse increments being sums of fine ones.
    sde, solver, time = rqf.models.dyson_eigenvalues(1.0, 0.0, beta + 1e-9), BackwardEuler(), 1.0
    members, finest = 400, 2**12
    increments = jax.random.normal(KEY, (finest, members, 2)) * math.sqrt(time / finest)
    start = jnp.array([-0.5, 0.5])

    @jax.jit
    def ends(increments):
        h = time / increments.shape[0]

        def step(x, dw):
            terms = sde.terms(Increment(dw), origin=jnp.zeros(()))
            state = solver.init(terms, 0.0, h, x, None)
            return solver.step(terms, 0.0, h, x, None, state, False)[0]

        def all_members(x, dw):
            return jax.vmap(step)(x, dw), None

        x0 = jnp.tile(start[None], (members, 1))
        return jax.lax.scan(all_members, x0, increments)[0]

    reference = np.asarray(ends(increments))
    counts, errors = [2**5, 2**6, 2**7, 2**8, 2**9], []
    for count in counts:
        coarse = increments.reshape(count, finest // count, members, 2).sum(1)
        gap = np.diff(np.asarray(ends(coarse)) - reference, axis=1)
        errors.append(math.sqrt(np.mean(gap**2)))
    assert slope(1 / np.array(counts), errors) == pytest.approx(order, abs=0.12)


@pytest.mark.parametrize(("beta", "order"), [(1.0, 0.25), (2.0, 0.58), (4.0, 1.03)])
def test_schemes_that_reflect_a_gap_have_lower_orders_or_kicks_without_a_second_moment(beta, order):
    # The gap of two levels over 2g: dy = β/(2y) dt + dB. The same paths for three schemes: the
    # implicit one of `BackwardEuler`, in closed form, and explicit ones with reflection, whose
    # drift is β/(2y) or, tamed, f/(1 + h f).
    members, finest, start = 4000, 2**12, 0.5
    increments = np.random.default_rng(0).standard_normal((finest, members)) / math.sqrt(finest)

    def ends(increments):
        h = 1 / len(increments)
        implicit, plain, tamed = np.full((3, members), start)
        for dw in increments:
            z = implicit + dw
            implicit = (z + np.sqrt(z**2 + 2 * beta * h)) / 2
            plain = np.abs(plain + beta / (2 * plain) * h + dw)
            force = beta / (2 * tamed)
            tamed = np.abs(tamed + force * h / (1 + h * force) + dw)
        return np.stack([implicit, plain, tamed])

    reference = ends(increments)[0]
    counts = [2**5, 2**6, 2**7, 2**8, 2**9]
    squares = np.stack(
        [(ends(increments.reshape(n, -1, members).sum(1)) - reference) ** 2 for n in counts]
    )
    errors = np.sqrt(squares.mean(-1))
    found = [slope(1 / np.array(counts), errors[:, k]) for k in range(3)]
    assert found[2] == pytest.approx(order, abs=0.12)
    assert found[0] > found[2] - 0.12
    # One step of the library is that of the closed form.
    sde, h = rqf.models.dyson_eigenvalues(1.0, 0.0, beta + 1e-9), 0.1
    x, dw = jnp.array([-0.2, 0.3]), jnp.array([0.4, -0.1])
    y = np.diff(BackwardEuler().advance(sde, jnp.zeros(()), jnp.asarray(h), x, dw))[0] / 2
    z = (0.5 + math.sqrt(2) * -0.5) / 2
    assert y == pytest.approx((z + math.sqrt(z**2 + 2 * beta * h)) / 2, rel=1e-8)
    if beta == 1:
        # After a reflection the plain scheme may be anywhere near 0, where E 1/y² is infinite: a
        # few of its paths make up most of the mean square at every step length.
        share = np.sort(squares, -1)[..., -40:].sum(-1) / squares.sum(-1)
        assert np.all(share[:, 1] > 0.5)
        assert np.all(share[:, 0] < 0.5)


@pytest.mark.parametrize(
    ("solver", "beta", "order", "steps"),
    [
        (MatrixJump(), 1, 1.7, (5, 10, 20)),
        (BackwardEuler(), 1, 0.75, (10, 20, 40)),
        (BackwardEuler(), 2, 0.93, (10, 20, 40)),
    ],
)
def test_a_quartic_well_has_a_weak_error_of_the_solvers_order(solver, beta, order, steps):
    # E Σ λV'(λ) = g² ν: here E p_4 = ν = n + β n(n-1)/2 = 10 or 16. Saves at whole times, so many
    # steps each.
    def fourth(values):
        return jnp.sum(values**4)

    errors = []
    for substeps in steps:
        runs = rqf.simulate(
            rqf.models.dyson_eigenvalues(1.0, 0.0, beta, Quartic()), GaussianEnsemble(4, 1.0, beta),
            np.arange(0.0, 13.0), substeps=substeps, members=3000, key=KEY, save=fourth,
            solver=solver,
        )  # fmt: skip
        errors.append(float(runs.ys[:, 3:].mean()) / (4 + 6 * beta) - 1)
    assert slope(1 / np.array(steps), errors) == pytest.approx(order, abs=0.4)


@pytest.mark.parametrize("beta", [1, 2])
def test_a_quartic_well_obeys_the_loop_equations_of_its_index(beta):
    # At steps whose weak error of order 2 is some 0.1 per cent.
    def sums(values):
        return jnp.stack([jnp.sum(values**k) for k in range(9)])

    runs = rqf.simulate(
        rqf.models.dyson_eigenvalues(1.0, 0.0, beta, Quartic()), GaussianEnsemble(4, 1.0, beta),
        np.arange(0.0, 13.0), substeps=80, members=3000, key=KEY, save=sums, solver=MatrixJump(),
    )  # fmt: skip
    assert_quartic_loop_equations(runs.ys[:, 3:], beta)
