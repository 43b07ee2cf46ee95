"""Observers: what is seen of a path tells what is not."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import rqf_jax as rqf
from rqf_jax.systems import Lorenz63

FLAT = rqf.manifolds.Euclidean(), rqf.noises.NoNoise()


class Flow(rqf.drifts.AbstractDrift):
    matrix: jax.Array

    def __call__(self, t, x):
        return self.matrix @ x


def equation(drift):
    return rqf.SDE(drift, FLAT[1], FLAT[0])


@pytest.fixture(scope="module")
def record():
    """Times and states of a path on the attractor."""
    ts = np.arange(0.0, 30.0, 0.01)
    law = rqf.laws.Fixed([1.0, 2.0, 20.0])
    runs = rqf.simulate(
        equation(Lorenz63()), law, ts, substeps=1, members=1, key=jax.random.key(0),
        solver=diffrax.Tsit5(),
    )  # fmt: skip
    return ts, np.asarray(runs.ys[0])


def test_conditional_exponents_of_lorenz_driven_by_x_add_up_to_minus_eleven_thirds(record):
    ts, xs = record
    driven = equation(rqf.drifts.Driven(Lorenz63(), ts, xs[:, :1], (0,)))
    found = rqf.analysis.lyapunov_spectrum(
        driven, rqf.laws.Normal((2,), 1.0), np.linspace(0.0, 3.0, 3), substeps=600, members=1,
        key=jax.random.key(0),
    )  # fmt: skip
    assert abs(float(found.total[0]) + 11 / 3) < 1e-3
    assert float(found.exponents[0]) < -1


def test_a_nudged_path_finds_the_coordinates_that_were_not_seen(record):
    ts, xs = record
    nudged = equation(rqf.drifts.Nudged(Lorenz63(), 50.0, ts, xs[:, :1], (0,)))
    end = rqf.simulate(
        nudged, rqf.laws.Fixed([-5.0, 5.0, 10.0]), [0.0, 29.0], substeps=5800, members=1,
        key=jax.random.key(0), solver=diffrax.Ralston(),
    ).ys[0, -1]  # fmt: skip
    # What is left is the error of straight lines between the times of the record.
    lines = 0.01**2 / 8 * np.abs(np.gradient(np.gradient(xs[:, 0], 0.01), 0.01)).max()
    assert np.abs(np.asarray(end) - xs[2900]).max() < 5 * lines < 0.2


def test_the_error_of_an_observer_dies_as_the_exponential_of_its_matrix():
    matrix = np.array([[0.0, 1.0, 0.0], [-1.0, 0.2, 0.5], [0.0, -0.5, 0.1]])
    gain = np.array([[3.0, 0.0], [0.5, 0.2], [0.0, 2.0]])
    seen = np.eye(3)[[0, 2]]
    # Seen is a path at rest, so that the state is the error.
    drift = rqf.drifts.Nudged(Flow(jnp.asarray(matrix)), gain, [0.0, 1.0], np.zeros((2, 2)), (0, 2))
    start = np.array([1.0, -2.0, 0.5])
    end = rqf.simulate(
        equation(drift), rqf.laws.Fixed(start), [0.0, 2.0], substeps=100, members=1,
        key=jax.random.key(0), solver=diffrax.Tsit5(),
    ).ys[0, -1]  # fmt: skip
    expected = scipy.linalg.expm(2 * (matrix - gain @ seen)) @ start
    np.testing.assert_allclose(end, expected, atol=1e-9)


RECORD = np.zeros((3, 1))
WRONG = {
    "gain": (lambda: rqf.drifts.Nudged(Lorenz63(), np.ones(3), range(3), RECORD, (0,)), "`gain`"),
    "record": (lambda: rqf.drifts.Driven(Lorenz63(), range(4), RECORD, (0,)), "`record`"),
    "times": (
        lambda: rqf.drifts.Driven(Lorenz63(), [0, 2, 1], RECORD, (0,)),
        "`ts` must be strict",
    ),
    "twice": (
        lambda: rqf.drifts.Driven(Lorenz63(), range(3), np.zeros((3, 2)), (0, 0)),
        "`coordinates` must differ",
    ),
    "gap": (lambda: rqf.drifts.Driven(Lorenz63(), range(3), RECORD + np.nan, (0,)), "`record`"),
    "beyond": (
        lambda: rqf.drifts.Nudged(Lorenz63(), 1.0, range(3), RECORD, (5,))(
            jnp.zeros(()), jnp.ones(3)
        ),
        "`coordinates` must be below 3",
    ),
}


@pytest.mark.parametrize(("make", "text"), WRONG.values(), ids=WRONG)
def test_records_that_break_a_rule_are_named(make, text):
    with pytest.raises(ValueError, match=text):
        make()
