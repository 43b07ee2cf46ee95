"""Theorems about estimators of weights: no bias beside their spread, and a spread at its bound.

Every replicate is a member of one run, stationary because its first step, of ten relaxation times,
is not looked at.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.inference import fit_dyson, fit_matrix_ou
from rqf_jax.theory import dyson

pytestmark = pytest.mark.slow
G, RATE = 0.8, 1.0


def stationary(n, beta, steps, h, replicates, seed=0, **options):
    """Paths (replicates, steps + 1, ...) of a matrix, or of what is saved of it."""
    ts = jnp.concatenate([jnp.zeros(1), 10 / RATE + h * jnp.arange(steps + 1.0)])
    runs = rqf.simulate(
        rqf.models.dyson(G, RATE, beta), rqf.laws.Zeros((n, n)), ts, substeps=1,
        members=replicates, key=jax.random.key(seed), **options,
    )  # fmt: skip
    return np.asarray(runs.ys[:, 1:])


def table(fits, name):
    return np.array([fit.estimate[name] for fit in fits])


def assert_unbiased(found, truth):
    """The mean is within 0.1 standard deviations of the truth, and known to 0.04 of them."""
    assert 1 / math.sqrt(found.size) < 0.04
    assert abs(found.mean() - truth) < 0.1 * found.std()


def test_pull_and_noise_of_a_matrix_are_unbiased_and_at_the_bound():
    n, steps, h, replicates = 6, 1000, 0.1, 1600
    paths = stationary(n, 1, steps, h, replicates)
    times, symmetric = h * np.arange(steps + 1), rqf.manifolds.Symmetric()
    fits = [fit_matrix_ou(w, times, target=0.0, manifold=symmetric) for w in paths]
    nu = float(dyson.degrees_of_freedom(n))
    bounds = {
        "rate": math.sqrt(math.expm1(2 * RATE * h) / (h**2 * steps * nu)),
        "s": math.sqrt(2) * G / math.sqrt(2 * steps * nu),
    }
    for name, truth in (("rate", RATE), ("s", math.sqrt(2) * G)):
        found = table(fits, name)
        assert_unbiased(found, truth)
        assert fits[0].bound[name] == pytest.approx(bounds[name], rel=0.1)
        # s moves with the rate: at 2κh = 0.2 its error is 5 per cent above that of a known rate.
        assert found.std() == pytest.approx(bounds[name], rel=0.1)


@pytest.mark.parametrize("beta", [1, 2])
def test_repulsion_from_the_sum_of_squares_is_unbiased_at_any_step_and_at_its_bound(beta):
    n, steps, h, replicates = 6, 800, 0.1, 1600
    save = rqf.observables.spectrum if beta == 1 else rqf.observables.hermitian_spectrum
    paths = stationary(n, beta, steps, h, replicates, save=save)
    times = h * np.arange(steps + 1)
    fits = [fit_dyson(x, times, rate=RATE, method="cir") for x in paths]
    g, index = table(fits, "g"), table(fits, "beta")
    assert_unbiased(g, G)
    assert_unbiased(index, beta)
    # The mean of Y = Σ (λ - mean)², of ν degrees of freedom, has correlations e^{-2κt}.
    nu, kept = (n - 1) * (1 + beta * n / 2), math.exp(-2 * RATE * h)
    level = g**2 * (1 + index * n / 2)
    error = math.sqrt(2 * (1 + kept) / (steps * nu * (1 - kept)))
    assert level.std() / level.mean() == pytest.approx(error, rel=0.1)
    # So β has the error √(8ν/κT)/(n(n-1)) of a known g, and in addition that of ν at a fixed
    # level by g², which two numbers of each step tell to 1/√steps.
    pairs = n * (n - 1) / 2
    expected = math.hypot(nu * error, nu / math.sqrt(steps)) / pairs
    assert index.std() == pytest.approx(expected, rel=0.1)
    assert nu * error / pairs == pytest.approx(
        math.sqrt(8 * nu / (RATE * steps * h)) / (2 * pairs), rel=0.01
    )


def derivatives(function, at, width=1e-3):
    """Gradients (..., 2) and Hessians (..., 2, 2) of a function of two numbers, by differences."""
    e = width * np.eye(2)
    middle, up, down = function(at), [function(at + x) for x in e], [function(at - x) for x in e]
    corners = [function(at + x) for x in (e[0] + e[1], -e[0] - e[1], e[0] - e[1], e[1] - e[0])]
    gradient = np.stack([(a - b) / (2 * width) for a, b in zip(up, down, strict=True)], -1)
    mixed = (corners[0] + corners[1] - corners[2] - corners[3]) / (4 * width**2)
    rows = [(a + b - 2 * middle) / width**2 for a, b in zip(up, down, strict=True)]
    hessian = np.stack([np.stack([rows[0], mixed], -1), np.stack([mixed, rows[1]], -1)], -1)
    return gradient, hessian


def test_the_exact_likelihood_of_hermitian_eigenvalues_attains_its_information():
    n, steps, h, replicates = 3, 200, 0.5, 800
    paths = stationary(n, 2, steps, h, replicates, save=rqf.observables.hermitian_spectrum)
    truth = np.log([G, RATE])

    def each(logs):
        g, rate = np.moveaxis(np.exp(logs), -1, 0)[..., None]
        return dyson.log_transition_density(paths[:, 1:], paths[:, :-1], h, g=g, rate=rate)

    # Scores have mean zero; their squares have the mean of the curvature.
    scores, hessians = derivatives(each, np.tile(truth, (replicates, 1)))
    scores, hessians = scores.reshape(-1, 2), hessians.reshape(-1, 2, 2)
    squares = scores[:, :, None] * scores[:, None, :]
    for samples in (scores, squares + hessians):
        error = samples.std(0) / math.sqrt(len(samples))
        assert np.all(np.abs(samples.mean(0)) < 5 * error)
    bounds = np.sqrt(np.diagonal(np.linalg.inv(steps * squares.mean(0))))
    # The estimates, by Newton's method from another point.
    logs = np.tile(truth + 0.1, (replicates, 1))
    for _ in range(6):
        slope, curvature = derivatives(lambda x: each(x).sum(-1), logs)
        logs = logs - np.linalg.solve(curvature, slope[..., None])[..., 0]
    assert np.abs(slope).max() < 1e-3
    assert np.all(np.linalg.eigvalsh(curvature) < 0)
    for k in range(2):
        assert_unbiased(np.exp(logs[:, k]), math.exp(truth[k]))
        assert logs[:, k].std() == pytest.approx(bounds[k], rel=0.1)
