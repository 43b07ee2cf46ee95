"""Theorems about members that fail: a loss that leaves them out has the gradient of the others."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import rqf_jax as rqf

KEY = jax.random.key(0)
MEMBERS = 40
SAVES = jnp.arange(7, dtype=jnp.int32)[None]


class Runaway(rqf.drifts.AbstractDrift):
    """a x³ - x, which Euler's method carries to infinity from far out."""

    a: Float[Array, ""]

    def __call__(self, t, x):
        return self.a * x**3 - x


def paths(a, *, shape=(1,), solver=None, **options):
    sde = rqf.SDE(Runaway(a), rqf.noises.TokenNoise(1.2), rqf.manifolds.Euclidean())
    return rqf.simulate(
        sde,
        rqf.laws.Zeros(shape),
        np.linspace(0.0, 3.0, 7),
        substeps=20,
        members=MEMBERS,
        key=KEY,
        throw=False,
        solver=solver,
        **options,
    )


def of_the_others(a, **options):
    """The mean square at the end over members that stayed finite."""
    runs = paths(a, **options)
    last = runs.ys[:, -1].reshape(MEMBERS, -1)[:, 0]
    fine = runs.status == 0
    return jnp.sum(jnp.where(fine, last**2, 0.0)) / jnp.sum(fine.astype(float))


@pytest.mark.parametrize("shape", [(1,), pytest.param((1, 6), marks=pytest.mark.slow)])
def test_a_loss_without_failed_members_has_their_gradient_in_neither_mode(shape):
    a = jnp.asarray(0.3)
    failed = int(np.count_nonzero(paths(a, shape=shape).status))
    assert 2 <= failed <= MEMBERS - 10
    slope = jax.grad(of_the_others)(a, shape=shape)
    assert np.isfinite(slope)
    forward = jax.jvp(
        lambda a: of_the_others(a, shape=shape, adjoint=diffrax.ForwardMode()),
        (a,),
        (jnp.ones_like(a),),
    )[1]
    np.testing.assert_allclose(slope, forward, rtol=1e-10)
    above, below = (of_the_others(a + d, shape=shape) for d in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (above - below) / 2e-6, rtol=1e-5)


def test_saves_before_a_failure_have_their_derivatives():
    def early(a, **options):
        runs = paths(a, **options)
        lost = (runs.status[:, None] > 0) & (SAVES >= runs.status[:, None])
        return jnp.sum(jnp.where(lost, 0.0, jnp.tanh(runs.ys[:, :, 0])))

    a = jnp.asarray(0.3)
    forward = jax.jvp(lambda a: early(a, adjoint=diffrax.ForwardMode()), (a,), (jnp.ones_like(a),))[
        1
    ]
    np.testing.assert_allclose(jax.grad(early)(a), forward, rtol=1e-10)


def test_a_loss_that_takes_failed_members_in_has_no_gradient():
    slope = jax.grad(lambda a: jnp.mean(paths(a).ys))(jnp.asarray(0.3))
    assert np.isnan(slope)


def test_no_gradient_is_left_where_every_member_fails():
    def nothing(a):
        runs = paths(a)
        return jnp.sum(jnp.where(runs.status[:, None, None] == 0, runs.ys, 0.0))

    a = jnp.asarray(300.0)
    assert np.all(paths(a).status > 0)
    assert jax.grad(nothing)(a) == 0


def test_an_observable_may_be_infinite_and_is_no_failure():
    # The volume of tokens that have met is 0, and its logarithm -inf.
    law = rqf.laws.Fixed(np.ones((2, 3)) / np.sqrt(3))
    sde, key = rqf.models.random_quadratic_form(1.0), jax.random.key(0)
    runs = rqf.simulate(
        sde, law, [0.0, 0.1], substeps=2, members=3, key=key, save=rqf.observables.log_det_gram
    )
    assert np.all(np.isneginf(runs.ys)) and not np.any(runs.status)
