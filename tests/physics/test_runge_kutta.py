"""Theorems about diffrax's stochastic Runge-Kutta methods on flat equations with additive noise."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, slope

import rqf_jax as rqf
from rqf_jax.drifts import Linear
from rqf_jax.laws import Fixed, Zeros
from rqf_jax.manifolds import Euclidean
from rqf_jax.noises import CorrelatedNoise
from rqf_jax.observables import spectrum
from rqf_jax.potentials import Quartic
from rqf_jax.solvers import Strang

KEY = jax.random.key(0)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [diffrax.ShARK(), diffrax.SRA1()])
def test_one_step_has_the_law_of_an_integral_of_brownian_motion(solver):
    # dx = y dt, dy = dB: variances t³/3 and t, covariance t²/2. Increments alone give t³/4.
    h = 0.7
    noise = CorrelatedNoise(np.array([[[0.0], [1.0]]]))
    sde = rqf.SDE(Linear([[0.0, 1.0], [0.0, 0.0]]), noise, Euclidean())
    runs = rqf.simulate(
        sde, Zeros((1, 2)), [0.0, h], substeps=1, members=20_000, key=KEY, solver=solver
    )
    x, y = np.asarray(runs.ys[:, 1, 0]).T
    assert_mean(np.stack([x**2, x * y, y**2], -1), [h**3 / 3, h**2 / 2, h])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_ensemble_with_levy_areas_is_that_of_diffrax_on_the_same_path(dtype):
    sde, substeps = rqf.models.dyson(0.8, 0.5, potential=Quartic()), 8
    ts, start = np.array([0.0, 0.3, 1.0], dtype), np.diag([-1.0, 0.0, 1.5]).astype(dtype)
    runs = rqf.simulate(
        sde, Fixed(start), ts, substeps=substeps, members=3, key=KEY, solver=diffrax.ShARK()
    )
    nodes = jnp.asarray(np.append(np.linspace(0, 0.3, 9)[:-1], np.linspace(0.3, 1, 9)), dtype)

    def one(member):
        key = rqf.member_keys(KEY, member)[1]
        path = rqf.CounterPath(jnp.asarray(ts), substeps, shape=(3, 3), key=key)
        typed = jax.tree.map(lambda leaf: leaf.astype(dtype), sde)
        return diffrax.diffeqsolve(
            typed.terms(path), diffrax.ShARK(), nodes[0], nodes[-1], None, jnp.asarray(start),
            stepsize_controller=diffrax.StepTo(nodes),
        ).ys[-1]  # fmt: skip

    found = jax.jit(jax.vmap(one))(jnp.arange(3, dtype=jnp.uint32))
    np.testing.assert_allclose(runs.ys[:, -1], found, atol=1e-11 if dtype == "float64" else 2e-5)


@pytest.mark.slow
def test_their_strong_order_on_a_matrix_in_a_well_is_three_halves_at_least():
    sde, start = (
        rqf.models.dyson(1.0, 0.5, potential=Quartic()),
        jnp.diag(jnp.array([-1.0, 0.0, 1.5])),
    )

    def end(solver, h, key):
        path = diffrax.VirtualBrownianTree(
            0.0, 1.0, 2.0**-12, (3, 3), key, levy_area=diffrax.SpaceTimeLevyArea
        )
        return diffrax.diffeqsolve(sde.terms(path), solver, 0.0, 1.0, h, start, max_steps=2048).ys[
            -1
        ]

    methods, steps, keys = {}, 2.0 ** -np.arange(3, 7), jax.random.split(KEY, 24)
    for solver in (diffrax.ShARK(), diffrax.SRA1(), Strang()):
        run = jax.jit(jax.vmap(lambda h, key, solver=solver: end(solver, h, key), (None, 0)))
        if not methods:
            reference = run(2.0**-9, keys)
        found = [run(h, keys) - reference for h in steps]
        methods[type(solver)] = [float(jnp.sqrt(jnp.mean(off**2))) for off in found]
    splitting = methods.pop(Strang)
    assert slope(steps, splitting) == pytest.approx(1, abs=0.15)
    for found in methods.values():
        assert slope(steps, found) > 1.4
        assert found[-1] < 0.2 * splitting[-1]


@pytest.mark.slow
def test_a_matrix_in_a_well_has_the_same_moments_by_a_runge_kutta_method():
    runs = {
        solver: rqf.simulate(
            rqf.models.dyson(1.0, potential=Quartic()), Zeros((4, 4)), [0.0, 1.0], substeps=30,
            members=4000, key=KEY, save=spectrum, solver=solver,
        ).ys[:, 1]
        for solver in (None, diffrax.SRA1())
    }  # fmt: skip
    # On the same noise, so that the difference of the means is known well.
    for power in (2, 4):
        one, other = (jnp.sum(values**power, -1) for values in runs.values())
        assert_mean(one - other, 0.0, bias=0.003 * float(one.mean()))


def test_noise_that_depends_on_the_state_is_refused_by_the_methods_for_additive_noise():
    sde = rqf.SDE(rqf.drifts.NoDrift(), rqf.noises.LinearNoise(0.5), Euclidean())
    with pytest.raises(ValueError, match="independent of y"):
        rqf.simulate(
            sde, Fixed(np.ones(3)), [0.0, 1.0], substeps=2, members=2, key=KEY,
            solver=diffrax.ShARK(),
        )  # fmt: skip
