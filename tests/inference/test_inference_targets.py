"""The pull of matrices whose target is unknown: what can be known at all, and that it is.

The bounds are those of dense matrices of one path, at a rate of 1: of all differences where paths
start stationary, and of the score of a step's factor a without what the mean of the steps could
know of it where paths start anywhere (Lindsay, Ann. Statist. 8 (1980) 1222, recalled: no estimator
that is right for all targets and starts has less error, however many paths there are).
"""

import contextlib
import functools
import math

import numpy as np
import pytest
from _ensembles import ou_paths

from rqf_jax.inference import IdentifiabilityError, fit_matrix_ou
from rqf_jax.inference._ou_likelihood import stationary_likelihood

pytestmark = pytest.mark.slow
RATE, S, H = 1.0, 0.8, 0.05


def paths(replicates, entries, steps, seed=0):
    """Stationary paths (replicates, times, entries) around targets of their own."""
    targets = 3 * np.random.default_rng([seed, 1]).standard_normal((replicates, 1, entries))
    return ou_paths(replicates, entries, steps, rate=RATE, s=S, h=H, seed=seed) + targets


def left(information, shared, of_variance):
    """What is left of the information on a, as that on the rate, where v is unknown too."""
    return (information - shared**2 / of_variance) * (math.exp(-RATE * H) * H) ** 2


def information_of_differences(steps):
    """On the rate, from the differences of one stationary path."""
    a = math.exp(-RATE * H)
    gap = np.abs(np.subtract.outer(np.arange(steps + 1), np.arange(steps + 1)))
    contrast = np.diff(np.eye(steps + 1), axis=0)
    law = a**gap / (1 - a**2)
    slope = gap * a ** (gap - 1.0) / (1 - a**2) + 2 * a * law / (1 - a**2)
    law, slope = (contrast @ part @ contrast.T for part in (law, slope))
    part = np.linalg.solve(law, slope)
    return left(np.trace(part @ part) / 2, np.trace(part) / 2, steps / 2)


def information_from_any_start(steps):
    """On the rate, from one path of unknown target and start; mean over stationary starts."""
    a, k = math.exp(-RATE * H), np.arange(steps)
    before = np.tril(a ** np.maximum(k[:, None] - k[None] - 1.0, 0), -1)
    centre = np.eye(steps) - 1 / steps
    part = centre @ before @ centre
    # The start is known from the first state and the mean of the steps.
    start = 1 / (1 - a**2) + 1 / (steps * (1 - a) ** 2)
    information = np.sum(part * part.T) + np.sum(part**2) + start * np.sum((centre @ a**k) ** 2)
    return left(information, np.trace(part), (steps - 1) / 2)


def known(steps):
    """The information on the rate of one path with a known target."""
    return steps * H**2 / math.expm1(2 * RATE * H)


INFORMATION = {True: information_of_differences, False: information_from_any_start}


@functools.cache
def rates(entries, steps, stationary, replicates=1000):
    fits = []
    for w in paths(replicates, entries, steps):
        # One in two hundred short paths of few entries shows no pull at all, and is refused.
        with contextlib.suppress(IdentifiabilityError):
            fits.append(fit_matrix_ou(w, H * np.arange(steps + 1), stationary=stationary))
    assert len(fits) > 0.99 * replicates
    inside = [low < RATE < high for low, high in (fit.interval()["rate"] for fit in fits)]
    errors = np.array([fit.stderr["rate"] for fit in fits])
    return np.array([fit.estimate["rate"] for fit in fits]), errors, np.mean(inside)


def test_what_an_unknown_target_costs_falls_with_the_length_of_the_path():
    cost = {
        kind: [math.sqrt(known(k) / information(k)) for k in (100, 150, 200, 1000)]
        for kind, information in INFORMATION.items()
    }
    # The table of the documentation, T = 5, 7.5, 10, 50.
    np.testing.assert_allclose(cost[True], [1.31, 1.21, 1.16, 1.03], atol=0.005)
    np.testing.assert_allclose(cost[False], [1.49, 1.32, 1.23, 1.04], atol=0.005)


@pytest.mark.parametrize("stationary", [True, False])
@pytest.mark.parametrize(("entries", "steps"), [(16, 100), (16, 200), (64, 100)])
def test_the_rate_is_at_the_bound_of_an_unknown_target(entries, steps, stationary):
    found, errors, inside = rates(entries, steps, stationary)
    bound = 1 / math.sqrt(entries * INFORMATION[stationary](steps))
    rmse, slack = math.sqrt(np.mean((found - RATE) ** 2)), 3 / math.sqrt(2 * found.size)
    # What is of second order in an error of up to a quarter adds to the bound.
    assert 1 - slack < rmse / bound < 1 + 1.5 * bound**2 + slack
    # A bias of that order is left from any start, and less than that from stationary ones.
    bias, error = found.mean() - RATE, found.std() / math.sqrt(found.size)
    assert abs(bias) < (0.01 if stationary else bound**2) + 3 * error
    assert abs(errors.mean() / found.std() - 1) < 0.05 + slack
    assert abs(inside - 0.95) < 0.02 + 3 * math.sqrt(0.05 * 0.95 / found.size)
    if stationary:
        assert rmse < 1.35 * (1 + slack) / math.sqrt(entries * known(steps))


@pytest.mark.parametrize("entries", [1, 4])
def test_few_stationary_entries_leave_little_bias(entries):
    # Of 0.22 and 0.05 of the rate in the largest likelihood at T = 10.
    found, errors, _ = rates(entries, 200, True)
    assert np.all(np.isfinite(errors))
    assert abs(found.mean() - RATE) < 0.05 + 3 * found.std() / math.sqrt(found.size)


@pytest.mark.parametrize("centred", [True, False])
def test_the_mean_of_a_stationary_likelihood_is_largest_at_the_truth(centred):
    likelihood = stationary_likelihood(paths(1, 3, 12)[0], centred=centred)
    a = 0.7
    assert likelihood.lags is not None
    mean = likelihood.lags @ a ** np.arange(13) / (1 - a**2)
    misfit, slope, _ = likelihood.form(1 - a, *mean)
    assert misfit == pytest.approx(likelihood.degrees, rel=1e-12)
    assert slope == pytest.approx(-likelihood.penalty(1 - a, np)[1], rel=1e-12)
