"""Theorems about long paths: no save is lost, whatever its dtype, and segments are the path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax._ensemble.problem import Problem
from rqf_jax._ensemble.program import Program, joined

LAW = rqf.laws.Zeros((1, 1))
KEY = jax.random.key(0)


def exact_pull():
    """One number that is pulled to 0: its step is exact in law for every length."""
    return rqf.models.weight_ou(1.0, 1.0, jnp.zeros((1, 1), jnp.float32))


class Start(rqf.laws.AbstractLaw):
    """A float32 zero: save indices beyond 2²⁴ are no float32 numbers."""

    def __call__(self, key):
        return jnp.zeros((1, 1), jnp.float32)


def number_and_sign(x):
    """A float, an integer and a boolean."""
    return {"x": x[0, 0], "steps": jnp.round(10 * x[0, 0]).astype(jnp.int32), "up": x[0, 0] > 0}


def path(count, **changes):
    ts = np.arange(count + 1) * 0.01
    return rqf.simulate(exact_pull(), Start(), ts, substeps=1, members=1, key=KEY, **changes)


def test_every_save_of_a_path_of_many_intervals_is_computed_in_every_dtype():
    runs = path(300_000, save=number_and_sign)
    x = np.asarray(runs.ys["x"][0])
    assert not runs.status.any() and np.all(np.isfinite(x)) and np.all(x[1:] != x[:-1])
    np.testing.assert_array_equal(runs.ys["steps"][0], np.round(10 * x))
    np.testing.assert_array_equal(runs.ys["up"][0], x > 0)
    # And the beginning is the path that ends there.
    short = path(1000).ys[0, :, 0, 0]
    np.testing.assert_array_equal(short, x[:1001])


@pytest.mark.slow
def test_a_path_of_a_million_intervals_is_finite_and_equal_to_its_segments():
    count = 10**6
    ts = np.arange(count + 1) * 0.01
    problem = Problem(exact_pull(), Start(), ts, KEY, number_and_sign)
    whole, status = Program(problem, 8, jax.local_devices()[:1])(problem, 0, 1)
    program = Program(problem, 8, jax.local_devices()[:1], every=300_000)
    parts, status_of_parts = joined(list(program.segments(problem, 0, 1)))
    assert not status.any() and not status_of_parts.any()
    assert whole["x"].shape == (1, count + 1) and np.all(np.isfinite(whole["x"]))
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name])


def saved_badly(x):
    return jnp.where(x[0, 0] > 0.5, jnp.nan, x[0, 0])


def test_status_looks_at_the_saved_values_too():
    runs = path(400, save=saved_badly, throw=False)
    bad = np.isnan(np.asarray(runs.ys[0]))
    assert bad.any() and int(runs.status[0]) == np.argmax(bad)
    with pytest.raises(rqf.NonFiniteError, match="1 of 1 members"):
        path(400, save=saved_badly)


def test_the_gradient_of_a_long_path_is_its_difference_quotient():
    def end(rate):
        sde = rqf.models.weight_ou(1.0, rate, jnp.zeros((1, 1)))
        runs = rqf.simulate(sde, LAW, np.arange(5001) * 0.01, substeps=1, members=3, key=KEY)
        return jnp.mean(runs.ys[:, 1::500] ** 2)

    slope = float(jax.grad(end)(jnp.asarray(0.7)))
    above, below = (float(end(jnp.asarray(0.7 + d))) for d in (1e-5, -1e-5))
    assert slope == pytest.approx((above - below) / 2e-5, rel=1e-6)
