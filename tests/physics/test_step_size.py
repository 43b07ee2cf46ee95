"""Steps that are too long for a drift are warned of, and no others."""

import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax import drifts, models
from rqf_jax.laws import Fixed, Normal, Product, Uniform
from rqf_jax.manifolds import Euclidean
from rqf_jax.noises import NoNoise, TokenNoise
from rqf_jax.potentials import Quadratic
from rqf_jax.solvers import GeodesicHeun

KEY = jax.random.key(2)
OJA = models.oja(jnp.diag(jnp.array([30.0, 1.0, 0.5])))


def simulate(sde, law, step, **options):
    return rqf.simulate(
        sde, law, [0.0, 2 * step], substeps=2, members=2, key=KEY, throw=False, **options
    )


LONG = {
    "the Oja flow": (OJA, Fixed(jnp.eye(3)[:1]), 0.5, GeodesicHeun()),
    "two layers": (models.two_layer(0.1, 30 * jnp.eye(3)), Normal((6, 3)), 0.5, None),
    "attention": (models.self_attention(1.0, value=20 * jnp.eye(3)), Uniform(4, 3), 0.5, None),
    "a solver of diffrax": (
        rqf.SDE(drifts.Pull(5.0), TokenNoise(1.0), Euclidean()),
        Normal((2, 2)),
        0.5,
        diffrax.Euler(),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("attention", "two layers") else name
        for name in LONG
    ],
)
def test_long_steps_of_explicit_solvers_are_warned_of(name):
    sde, law, step, solver = LONG[name]
    with pytest.warns(UserWarning, match=r"long for this drift: h times its rate"):
        simulate(sde, law, step, solver=solver)


def test_the_rate_is_that_of_the_tangent_jacobian():
    # At the leading eigenvector the Oja flow relaxes with the differences of eigenvalues.
    sde, start = models.oja(jnp.diag(jnp.array([30.0, 1.0, 1.0]))), Fixed(jnp.eye(3)[:1])
    with pytest.warns(UserWarning, match="its rate, 29 per unit time"):
        simulate(sde, start, 1.01 / 29, solver=GeodesicHeun())
    simulate(sde, start, 0.99 / 29, solver=GeodesicHeun())


def test_the_rate_of_a_rotation_is_its_frequency():
    turn = drifts.Linear(jnp.array([[0.0, -4.0], [4.0, 0.0]]))
    sde = rqf.SDE(turn, NoNoise(), Euclidean())
    with pytest.warns(UserWarning, match="its rate, 4 per unit time"):
        simulate(sde, Normal((1, 2)), 0.3, solver=GeodesicHeun())


def test_the_warning_names_the_line_of_the_user(unchecked):
    with pytest.warns(UserWarning, match="long for this drift") as caught:
        simulate(OJA, Fixed(jnp.eye(3)[:1]), 0.5, solver=GeodesicHeun())
    assert caught[0].filename == __file__


def particle(**changes):
    given = {"friction": 1.0, "temperature": 0.5} | changes
    law = Product({"q": Fixed(jnp.ones(2)), "p": Normal((2,))})
    return models.underdamped_langevin(Quadratic(900.0).slope, **given), law


def test_the_rate_of_a_particle_is_its_frequency():
    with pytest.warns(UserWarning, match="its rate, 30 per unit time"):
        simulate(*particle(), 1.01 / 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(*particle(), 0.99 / 30)
        # The solver's friction is exact, whatever the step.
        simulate(*particle(friction=1e3), 0.99 / 30)


def test_the_longest_step_is_measured_by_the_rate_of_its_own_time():
    sde = models.nesterov(Quadratic(1.0).slope)  # friction 3/t
    law = Product({"q": Fixed(jnp.ones(1)), "p": Fixed(jnp.zeros(1))})
    ts = np.geomspace(0.01, 1.0, 8)
    options = {"members": 1, "key": KEY}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rqf.simulate(sde, law, ts, substeps=8, **options)
    with pytest.warns(UserWarning, match="long for this drift"):
        rqf.simulate(sde, law, ts, substeps=2, **options)


def test_matrix_noise_of_a_part_is_looked_at_in_the_dimension_of_the_part():
    noise = rqf.noises.Product({"x": rqf.noises.IsotropicNoise(2.0, 0.0), "r": TokenNoise(1.0)})
    space = rqf.manifolds.Product({"x": rqf.manifolds.Sphere(), "r": Euclidean()})
    law = Product({"x": Uniform(2, 3), "r": Normal((2,))})
    with pytest.warns(UserWarning, match="its control number, .* is 2.4"):
        simulate(rqf.SDE(drifts.NoDrift(), noise, space), law, 0.2)


EXACT = {
    "a pull": (models.weight_ou(1.0, 5.0, jnp.zeros((2, 2))), Normal((2, 2))),
    "a linear flow": (OJA, Uniform(2, 3)),
    "eigenvalues": (models.dyson_eigenvalues(1.0, 5.0), Fixed(jnp.arange(3.0))),
    "layers": (models.random_layers(0.01), Uniform(2, 3)),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_and_implicit_steps_may_be_long(name):
    sde, law = EXACT[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(sde, law, 1.0)


def test_a_start_that_is_not_known_is_not_looked_at():
    sde = models.two_layer(0.1, 30 * jnp.eye(3))

    @jax.jit
    def ends(key):
        return rqf.simulate(
            sde, Normal((6, 3)), [0.0, 1.0], substeps=2, members=1, key=key, throw=False
        ).ys[:, -1]

    assert np.shape(ends(KEY)) == (1, 6, 3)
