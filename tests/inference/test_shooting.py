"""Parameters by multiple shooting: of Lorenz' equations from x alone, and against least squares."""

import importlib
import math
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import rqf_jax as rqf
from rqf_jax.inference import IdentifiabilityError, fit_shooting

TIMES = np.cumsum(np.random.default_rng(0).uniform(0.1, 0.4, 60))


class Oscillator(rqf.drifts.AbstractDrift):
    square: jax.Array
    damping: jax.Array

    def __call__(self, t, x):
        return jnp.stack([x[1], -self.square * x[0] - self.damping * x[1]])


def oscillator(p, noise=None):
    drift = Oscillator(p["square"], p["damping"])
    noise = rqf.noises.NoNoise() if noise is None else noise
    return rqf.SDE(drift, noise, rqf.manifolds.Euclidean())


def position(x):
    return x[0]


def solution(square, damping, x, v):
    """Positions of the oscillator at `TIMES`, in closed form."""
    half, t = damping / 2, TIMES - TIMES[0]
    turn = math.sqrt(square - half**2)
    waves = x * np.cos(turn * t) + (v + half * x) / turn * np.sin(turn * t)
    return np.exp(-half * t) * waves


def observed():
    ys = solution(1.3, 0.2, 1.0, 0.5) + 0.05 * np.random.default_rng(1).normal(size=TIMES.size)
    ys[[3, 17, 18]] = np.nan
    return ys


GIVEN = {"observe": position, "state": [0.5, 0.0], "substeps": 2, "solver": diffrax.Tsit5()}
START = {"square": 1.0, "damping": 0.5}


@pytest.mark.parametrize("known", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_windows_that_join_are_the_least_squares_of_the_closed_form(known):
    ys = observed()
    there = np.isfinite(ys)

    def residuals(p):
        return (solution(*p) - ys)[there]

    best = scipy.optimize.least_squares(residuals, [1.2, 0.3, 0.8, 0.2], xtol=1e-14, gtol=1e-14)
    tau = 0.05 if known else math.sqrt(2 * best.cost / (there.sum() - 4))
    errors = tau * np.sqrt(np.diagonal(np.linalg.inv(best.jac.T @ best.jac)))[:2]
    observation = 0.05 if known else None
    fit = fit_shooting(oscillator, START, ys, TIMES, **GIVEN, observation=observation)
    np.testing.assert_allclose(list(fit.estimate.values()), best.x[:2], atol=1e-4 * errors.min())
    np.testing.assert_allclose(list(fit.stderr.values()), errors, rtol=1e-4)
    # Student's law where the noise is estimated, with as many degrees of freedom as are left.
    reach = scipy.stats.norm.ppf(0.99) if known else scipy.stats.t.ppf(0.99, there.sum() - 4)
    width = [(high - low) / 2 for low, high in fit.interval(0.98).values()]
    np.testing.assert_allclose(width, reach * errors, rtol=1e-4)
    assert fit.dof_used == 53 and all(abs(z) < 5 for _, z in fit.goodness.values())
    assert ("residuals" in fit.goodness) == known


def test_lorenz_parameters_are_found_from_x_alone_over_twenty_lyapunov_times(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    chaotic = importlib.import_module("chaotic")
    errors, stderr, refused = chaotic.fits(1, 20.0, 0.05)
    assert refused == 0 and np.all(np.abs(errors) < 3 * stderr)
    assert np.all(stderr < [0.2, 0.2, 0.05])


@pytest.mark.slow
def test_intervals_of_lorenz_parameters_hold_the_truth_as_often_as_they_say(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    chaotic = importlib.import_module("chaotic")
    errors, stderr, refused = chaotic.fits(40, 20.0, 0.05)
    z = errors / stderr
    assert refused == 0 and np.abs(z).max() < 5
    # Mean squares of 40 normal numbers are 1 ± 0.22.
    assert np.all(np.abs(np.mean(z**2, 0) - 1) < 5 * math.sqrt(2 / 40))
    assert np.all(np.mean(np.abs(z) < 1.96, 0) > 0.95 - 5 * math.sqrt(0.95 * 0.05 / 40))


def unused(p):
    return oscillator({"square": p["square"], "damping": jnp.asarray(0.2)})


def noisy(p):
    return oscillator(p, rqf.noises.TokenNoise(1.0))


WRONG = {
    "noise": ({"model": noisy}, ValueError, "`model` must make equations without noise"),
    "unused": ({"model": unused}, IdentifiabilityError, "square, damping"),
    "window": ({"window": 60}, ValueError, "`window` must leave at least 2 windows"),
    "few": ({"ys": np.where(TIMES < TIMES[4], 1.0, np.nan)}, ValueError, "more than 4 observa"),
    "start": ({"start": {}}, ValueError, "`start` must be a dict"),
    "number": ({"start": {"square": "1"}}, ValueError, r"`start\['square'\]` must be a real"),
    "seen": ({"observe": lambda x: x}, ValueError, "`observe` must return 1 numbers"),
    "scalar": ({"state": 1.0}, ValueError, "`state` must be one state, with axes"),
    "names": ({"start": {"square": 1.0}}, ValueError, "`model` must make an equation.*damping"),
    "state": ({"state": [np.nan, 0.0]}, ValueError, "`state` must be finite"),
    "times": ({"ts": TIMES[:-1]}, ValueError, r"`ys` must have shape \(59, seen\)"),
}


@pytest.mark.parametrize(("change", "error", "text"), WRONG.values(), ids=WRONG)
def test_arguments_that_break_a_rule_are_named(change, error, text):
    given = {"model": oscillator, "start": START, "ys": observed(), "ts": TIMES, **GIVEN}
    with pytest.raises(error, match=text):
        fit_shooting(**given | change)
