"""Steps that are too long for a drift are warned of, and no others."""

import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax import drifts, models
from rqf_jax.laws import Fixed, Normal, Uniform
from rqf_jax.manifolds import Euclidean
from rqf_jax.noises import NoNoise, TokenNoise
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


@pytest.mark.parametrize("name", LONG)
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
