"""Theorems about matrices in a potential: force, flow, gradients, loop equations, orders."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, assert_quartic_loop_equations, slope

import rqf_jax as rqf
from rqf_jax.drifts import MatrixWell
from rqf_jax.laws import Fixed, Zeros
from rqf_jax.manifolds import Euclidean, Hermitian, Symmetric
from rqf_jax.noises import TokenNoise
from rqf_jax.observables import hermitian, hermitian_spectrum, spectrum
from rqf_jax.potentials import AbstractPotential, Quadratic, Quartic
from rqf_jax.solvers import ExactOU, MatrixJump, Strang

KEY, TIME = jax.random.key(0), jnp.zeros(())
SPECTRUM = {1: spectrum, 2: hermitian_spectrum}


class Cosh(AbstractPotential):
    """V = cosh x, a potential of one's own: tanh(x/2) decays as e^{-h}."""

    def slope(self, x):
        return jnp.sinh(x)

    def flow(self, x, h):
        return 2 * jnp.arctanh(jnp.tanh(x / 2) * jnp.exp(-h))


@pytest.mark.parametrize("potential", [Quadratic(0.7), Quartic(0.7), Cosh()])
def test_the_flow_of_a_potential_falls_along_its_slope(potential):
    x, h = jnp.linspace(-2.0, 2.0, 9), jnp.asarray(0.3)
    speed = jax.jvp(lambda h: potential.flow(x, h), (h,), (jnp.ones_like(h),))[1]
    np.testing.assert_allclose(speed, -potential.slope(potential.flow(x, h)), atol=1e-13)
    np.testing.assert_allclose(potential.flow(x, 0 * h), x, atol=1e-14)


def random_state(beta, n=4):
    x = jax.random.normal(KEY, (n, n))
    return (x + x.T) / 2 if beta == 1 else x


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1, 2])
def test_the_force_and_the_flow_of_a_well_are_functions_of_the_matrix(beta):
    x, target = random_state(beta), jnp.eye(4)
    drift = MatrixWell(Quartic(0.7), 0.3, target, beta=beta)
    h = np.asarray(hermitian(x)) if beta == 2 else np.asarray(x)
    force = -0.3 * (h - np.eye(4)) - 0.7 * h @ h @ h
    np.testing.assert_allclose(drift(TIME, x), force.real + force.imag, atol=1e-12)
    # Where the flow leads: H (1 + 2 c h H²)^{-1/2}.
    root = np.linalg.inv(np.eye(4) + 2 * 0.7 * 0.2 * h @ h)
    values, vectors = np.linalg.eigh(root)
    moved = h @ (vectors * np.sqrt(values)) @ vectors.conj().T
    np.testing.assert_allclose(drift.flow(x, jnp.asarray(0.2)), moved.real + moved.imag, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1, 2])
def test_the_force_of_a_well_has_its_gradient_by_the_matrix_and_by_the_strength(beta):
    # -tr V(H) is a primitive of the force; and the force is linear in the strength. Also where
    # eigenvalues are equal.
    for x in (random_state(beta), jnp.eye(4)):
        change = random_state(beta).T + 0.5

        def force(x, strength):
            return MatrixWell(Quartic(strength), beta=beta)(TIME, x)

        _, along = jax.jvp(force, (x, jnp.asarray(0.7)), (change, jnp.asarray(0.4)))
        h, d = (np.asarray(hermitian(v) if beta == 2 else (v + v.T) / 2) for v in (x, change))
        exact = -0.7 * (d @ h @ h + h @ d @ h + h @ h @ d) - 0.4 * h @ h @ h
        np.testing.assert_allclose(along, exact.real + exact.imag, atol=1e-11)
        back = jax.grad(lambda c, x=x, d=change: jnp.sum(force(x, c) * d))(jnp.asarray(0.7))
        cube = h @ h @ h
        assert float(back) == pytest.approx(
            -np.sum((cube.real + cube.imag) * np.asarray(change)), rel=1e-10
        )


@pytest.mark.slow
@pytest.mark.parametrize("potential", [Quartic(), Cosh()])
@pytest.mark.parametrize("beta", [1, 2])
def test_eigenvalues_of_a_matrix_in_a_well_move_as_the_gas_of_its_index(beta, potential):
    # From the same start, by steps whose weak error of order 2 is below the error of the mean.
    g, rate, start = 0.8, 0.4, np.array([-1.0, -0.3, 0.4, 1.5])
    options = {"substeps": 20, "members": 6000, "key": KEY}
    times = [0.0, 0.3, 2.0]
    matrix = rqf.simulate(
        rqf.models.dyson(g, rate, beta, potential=potential), Fixed(np.diag(start)), times,
        save=SPECTRUM[beta], **options,
    )  # fmt: skip
    gas = rqf.simulate(
        rqf.models.dyson_eigenvalues(g, rate, beta, potential), Fixed(start), times,
        solver=MatrixJump(), **(options | {"key": jax.random.key(1)}),
    )  # fmt: skip
    values, others = np.asarray(matrix.ys[:, 1:]), np.asarray(gas.ys[:, 1:])
    assert_mean(values - others, 0.0)
    for power in (2, 3, 4):
        assert_mean(np.sum(values**power, -1) - np.sum(others**power, -1), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1, 2])
def test_a_matrix_in_a_quartic_well_obeys_the_loop_equations_of_its_index(beta):
    def sums(x):
        values = SPECTRUM[beta](x)
        return jnp.stack([jnp.sum(values**k) for k in range(7)])

    runs = rqf.simulate(
        rqf.models.dyson(1.0, 0.0, beta, potential=Quartic()), Zeros((4, 4)),
        np.arange(0.0, 13.0), substeps=40, members=3000, key=KEY, save=sums,
    )  # fmt: skip
    assert_quartic_loop_equations(runs.ys[:, 3:], beta)


@pytest.mark.slow
def test_a_potential_of_ones_own_obeys_its_virial_theorem():
    # E Σ λ sinh λ = g² ν, ν = n + β n(n-1)/2.
    def virial(x):
        values = spectrum(x)
        return jnp.sum(values * jnp.sinh(values))

    runs = rqf.simulate(
        rqf.models.dyson(1.0, potential=Cosh()), Zeros((4, 4)), np.arange(0.0, 13.0),
        substeps=20, members=3000, key=KEY, save=virial,
    )  # fmt: skip
    assert np.mean(runs.ys[:, 3:]) == pytest.approx(10.0, rel=0.01)


@pytest.mark.slow
def test_the_step_of_a_well_has_weak_order_two():
    # E Σ λ⁴ = g² ν = 10, stationary. The same noise for all step lengths.
    def fourth(x):
        return jnp.sum(spectrum(x) ** 4)

    errors, steps = [], (5, 10, 20)
    for substeps in steps:
        runs = rqf.simulate(
            rqf.models.dyson(1.0, potential=Quartic()), Zeros((4, 4)), np.arange(0.0, 13.0),
            substeps=substeps, members=3000, key=KEY, save=fourth,
        )  # fmt: skip
        errors.append(float(runs.ys[:, 3:].mean()) / 10 - 1)
    assert slope(1 / np.array(steps), errors) == pytest.approx(1.7, abs=0.4)


def test_a_matrix_in_a_well_has_a_solver_of_its_own_that_suits_nothing_else():
    sde = rqf.models.dyson(1.0, 0.5, potential=Quartic())
    assert isinstance(rqf.solvers.default(sde), Strang)
    assert isinstance(rqf.solvers.default(rqf.models.dyson(1.0, 0.5)), ExactOU)
    for other in (
        rqf.models.dyson(1.0, 0.5),
        rqf.SDE(sde.drift, TokenNoise(1.0), Hermitian()),
        rqf.SDE(sde.drift, TokenNoise(1.0), Euclidean()),
        rqf.SDE(rqf.models.dyson(1.0, beta=2, potential=Quartic()).drift, TokenNoise(1.0),
                Symmetric()),
    ):  # fmt: skip
        assert Strang().misfit(other) is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: rqf.models.dyson(1.0, potential=np.cos),
            "`potential` must be a potential of `rqf",
        ),
        (lambda: MatrixWell(Quartic(), beta=4), "`beta` must be 1 or 2; got 4"),
        (lambda: rqf.models.dyson(1.0, -1.0, potential=Quartic()), "`rate` must be at least 0"),
        (
            lambda: rqf.models.dyson(1.0, target=[[0.0, 1.0], [0.0, 0.0]], potential=Quartic()),
            "`target` must be symmetric",
        ),
    ],
)
def test_a_bad_well_has_one_clear_error(make, message, unchecked):
    with pytest.raises(ValueError, match=message):
        make()
