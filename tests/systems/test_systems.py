"""Theorems about systems of reference: divergence, symmetry, exponents, invariant laws."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.systems import DoubleWell, Doubling, Lorenz63, Lorenz96, Rotation, orbit

FLAT, SILENT = rqf.manifolds.Euclidean(), rqf.noises.NoNoise()
KEY, TIME = jax.random.key(3), jnp.zeros(())

FLOWS = [Lorenz63(), Lorenz63(8.0, 20.0, 1.0), Lorenz96(), Lorenz96(5, 3.0), DoubleWell()]


def ode(flow):
    return rqf.SDE(flow, SILENT, FLAT)


def spectrum(flow, ts, **options):
    options = {"substeps": 50, "members": 48, "solver": diffrax.Dopri5()} | options
    return rqf.analysis.lyapunov_spectrum(ode(flow), flow.law(), ts, key=KEY, **options)


@pytest.mark.parametrize("flow", FLOWS, ids=repr)
def test_the_divergence_is_the_trace_of_the_jacobian(flow):
    size = flow.start.size
    pushes = np.random.default_rng(0).normal(size=(20, *flow.start.shape))
    jacobian = jax.jit(jax.vmap(lambda x: jax.jacfwd(flow, 1)(TIME, x)))
    jacobians = jacobian(np.asarray(flow.start) + pushes)
    jacobians = jacobians.reshape(20, size, size)
    traces = np.trace(np.asarray(jacobians), axis1=1, axis2=2)
    if flow.divergence is None:
        assert np.ptp(traces) > 0.1
    else:
        assert np.allclose(traces, flow.divergence, atol=1e-9)


def test_lorenz_exponents_are_those_of_the_literature_and_their_sum_is_exact():
    found = spectrum(Lorenz63(), np.arange(0.0, 61.0), discard=10, members=64)
    expected = np.array([0.9056, 0.0, -14.572])
    assert np.all(np.abs(found.exponents - expected) < 0.02 * np.array([0.9056, 0.9056, 14.57]))
    assert abs(found.total[0] + 41 / 3) < 1e-3
    assert abs(found.kaplan_yorke - 2.062) < 0.01


@pytest.mark.parametrize("flow", [Lorenz63(), Lorenz96()], ids=repr)
def test_exponents_that_were_measured_sum_to_the_divergence(flow):
    known = flow.exponents
    assert len(known.values) == len(known.stderr) == flow.start.size
    assert list(known.values) == sorted(known.values, reverse=True)
    assert abs(sum(known.values) - flow.divergence) < 1e-3 * flow.start.size
    smallest = min(map(abs, known.values))
    assert smallest < max(known.stderr) * 5 + 1e-3  # along the flow


def test_exponents_are_known_at_the_standard_constants_alone():
    assert Lorenz63().exponents is not None and Lorenz63(rho=28).exponents is not None
    assert Lorenz63(rho=28.1).exponents is None and Lorenz96(11).exponents is None
    assert jax.jit(lambda rho: Lorenz63(rho=rho)(TIME, jnp.ones(3)))(28.0).shape == (3,)


def test_lorenz_63_has_its_symmetry_and_its_states_of_rest():
    flow, turn = Lorenz63(), jnp.array([-1.0, -1.0, 1.0])
    x = jnp.array([1.0, -2.0, 3.0])
    assert np.allclose(flow(TIME, turn * x), turn * flow(TIME, x), atol=1e-12)
    rest = jnp.sqrt(flow.beta * (flow.rho - 1))
    assert np.allclose(flow(TIME, jnp.stack([rest, rest, flow.rho - 1])), 0, atol=1e-12)


def test_the_product_of_lorenz_96_does_no_work_and_waves_may_be_turned():
    x, flow = jax.random.normal(KEY, (7,)), Lorenz96(7, 2.0)
    assert abs(x @ (flow(TIME, x) + x - 2.0)) < 1e-12
    assert np.allclose(flow(TIME, jnp.roll(x, 3)), jnp.roll(flow(TIME, x), 3), atol=1e-12)


def test_the_double_well_is_a_gradient_with_minima_where_it_says():
    well = DoubleWell(2.0, 1.5)

    def height(x):
        return 2.0 * (1 - (x / 1.5) ** 2) ** 2

    x = jnp.linspace(-2.0, 2.0, 9)
    assert np.allclose(well(TIME, x), -jax.vmap(jax.grad(height))(x), atol=1e-12)
    assert np.allclose(DoubleWell()(TIME, x), x - x**3, atol=1e-12)


def test_a_member_of_the_ensemble_starts_near_the_start():
    flow = Lorenz63()
    x = jax.vmap(flow.law(0.5))(jax.random.split(KEY, 4000))
    assert np.all(np.abs(x.mean(0) - flow.start) < 5 * 0.5 / np.sqrt(4000))
    assert np.all(np.abs(x.std(0) / 0.5 - 1) < 5 / np.sqrt(8000))


@pytest.mark.parametrize("kind", [Lorenz63, Lorenz96, DoubleWell])
def test_steps_in_float32_are_fused_kernels(kind, as_a_user):
    flow, noise = kind(), rqf.noises.TokenNoise(0.1)
    for part in (SILENT, noise):
        text = rqf.explain(rqf.SDE(flow, part, FLAT), flow.law())
        assert "one fused kernel" in text


def test_a_rotation_keeps_distances_and_fills_the_circle():
    points = orbit(Rotation(), jnp.array([0.1, 0.35]), 4000)
    assert points.shape == (4001, 2) and np.all((points >= 0) & (points < 1))
    assert np.allclose((points[:, 1] - points[:, 0]) % 1, 0.25, atol=1e-10)
    counts = np.histogram(points[:, 0], 8, (0, 1))[0]
    assert np.ptp(counts) <= 4  # of low discrepancy
    assert Rotation().exponent == 0


def test_a_random_orbit_of_the_doubling_map_obeys_it_and_stays_uniform():
    points = np.asarray(Doubling().random_orbit(5000, key=KEY))
    assert points.shape == (5001,) and np.all((points >= 0) & (points < 1))
    assert np.max(np.abs(points[1:] - (2 * points[:-1]) % 1)) <= 2.0**-53
    # Digits are fair coins, and the mean of an orbit of length n has variance (1/12) 3/n.
    assert abs(points.mean() - 0.5) < 5 * np.sqrt(3 / 12 / 5000)
    assert orbit(Doubling(), 0.3, 60)[-1] == 0
    assert np.isclose(Doubling().exponent, np.log(2))


def test_states_and_numbers_that_do_not_fit_are_named(unchecked):
    for call, match in (
        (lambda: Lorenz63()(TIME, jnp.ones(4)), r"`x` must have shape \(3,\) for Lorenz63"),
        (lambda: Lorenz96(3), "`size` must be at least 4"),
        (lambda: Lorenz96(5)(TIME, jnp.ones(4)), r"`x` must have shape \(5,\)"),
        (lambda: Lorenz63(rho=np.nan), "`rho` must be finite"),
        (lambda: DoubleWell(0.0), "`barrier` must be at least"),
        (lambda: Lorenz63().law(-1.0), "`scale` must be at least 0"),
        (lambda: rqf.laws.Normal((3,), 1.0, np.ones(2)), r"`mean` must be a number or have shape"),
        (lambda: orbit(Lorenz63(), 0.1, 3), "`map` must be a map of `rqf_jax.systems`"),
        (lambda: orbit(Rotation(), 0.1, 0), "`steps` must be at least 1"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
