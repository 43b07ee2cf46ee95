"""Clouds under one noise: two routes to the same path, and how fast they collapse."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic, unit_tokens

import rqf_jax as rqf
from rqf_jax.analysis import (
    antipodal_pair,
    attractor_distances,
    centre,
    common_noise,
    dispersion,
    pullback,
)
from rqf_jax.laws import Fixed, Uniform

KEY = jax.random.key(11)
SPHERE = rqf.manifolds.Sphere()


class Around(rqf.laws.AbstractLaw):
    """A token near `x0`: uniform for x0 = 0, fixed for spread 0."""

    x0: jax.Array
    spread: jax.Array

    def __call__(self, key):
        return SPHERE.project(self.x0 + self.spread * jax.random.normal(key, self.x0.shape))


EULER = rqf.solvers.GeodesicEuler()
ONE_TOKEN = Around(jnp.zeros((1, 3)), jnp.ones(()))


OPTIONS = {"substeps": 6, "points": 5, "key": KEY, "solver": EULER}
TIMES = jnp.asarray([0.0, 0.3, 1.0])


@pytest.fixture(scope="module")
def cloud():
    return common_noise(isotropic(1.0, 0.5), ONE_TOKEN, TIMES, member=2, **OPTIONS)


@pytest.mark.slow
def test_points_under_one_noise_are_the_tokens_of_one_state_under_shared_noise(cloud):
    state = Fixed(cloud.ys[:, 0, 0])
    options = {"substeps": 6, "members": 1, "key": KEY, "solver": EULER}
    runs = rqf.simulate(isotropic(1.0, 0.5), state, TIMES, first_member=2, **options)
    np.testing.assert_allclose(cloud.ys[:, :, 0], jnp.moveaxis(runs.ys[0], 0, 1), atol=1e-12)
    assert not np.any(cloud.status)
    # Point i starts where member i of an ensemble does.
    start = ONE_TOKEN(rqf.member_keys(KEY, 3)[0])
    np.testing.assert_allclose(cloud.ys[3, 0], start, atol=1e-14)


@pytest.mark.slow
def test_pulling_back_ends_where_going_forward_does(cloud):
    clouds = pullback(isotropic(1.0, 0.5), ONE_TOKEN, TIMES, member=2, **OPTIONS)
    assert clouds.shape == (3, 5, 1, 3)
    np.testing.assert_allclose(clouds[0], cloud.ys[:, -1], atol=1e-12)
    np.testing.assert_array_equal(clouds[2], cloud.ys[:, 0])
    assert np.max(np.abs(clouds[1] - clouds[0])) > 0.1
    # A later start meets the noise of its own time: from where the early cloud was then, the same
    # state is reached.
    middle = Around(cloud.ys[0, 1], jnp.zeros(()))
    late = pullback(isotropic(1.0, 0.5), middle, TIMES, member=2, **OPTIONS)
    np.testing.assert_allclose(late[1, 0], clouds[0, 0], atol=1e-12)
    other = pullback(isotropic(1.0, 0.5), ONE_TOKEN, TIMES, member=3, **OPTIONS)
    assert not np.allclose(clouds[1], other[1])


@pytest.mark.slow
def test_a_cloud_of_a_contraction_shrinks_exponentially_to_one_point():
    sde = rqf.SDE(
        rqf.drifts.Linear(-jnp.eye(2)), rqf.noises.TokenNoise(0.7), rqf.manifolds.Euclidean()
    )
    ts = jnp.linspace(0.0, 3.0, 7)
    clouds = pullback(
        sde, Uniform(1, 2), ts, substeps=16, points=6, key=KEY, solver=rqf.solvers.GeodesicHeun()
    )
    spread = jax.vmap(dispersion)(clouds)
    np.testing.assert_allclose(spread / spread[-1], jnp.exp(ts - 3.0), rtol=1e-3)
    np.testing.assert_allclose(spread[-1] ** 2, np.var(clouds[-1, :, 0], axis=0).sum())


@pytest.mark.slow
def test_a_cloud_under_shared_noise_collapses_to_an_antipodal_pair_within_the_bound():
    ts, noises = jnp.linspace(0.0, 12.0, 7), 24
    distances = []
    for member in range(noises):
        clouds = pullback(
            isotropic(1.0),
            ONE_TOKEN,
            ts,
            substeps=24,
            points=32,
            key=KEY,
            member=member,
            solver=EULER,
        )[:, :, 0]
        pair = antipodal_pair(clouds[0])
        distances.append(jax.vmap(lambda x: attractor_distances(x, pair))(clouds))  # noqa: B023
    distances = np.asarray(distances).mean(2)
    mean, error = distances.mean(0), distances.std(0) / math.sqrt(noises)
    # E dist(X_t, {a, -a}) ≤ (π/√2) e^{-σ² t/4}: Shalova, arXiv:2608.16664, Prop. 3.8, in our clock.
    elapsed = 12.0 - np.asarray(ts)
    assert np.all(mean - 5 * error <= math.pi / math.sqrt(2) * np.exp(-elapsed / 4))
    assert np.all(np.diff(mean) > 0)
    # A uniform point of the sphere is on average one radian from an axis of its own.
    assert abs(mean[-1] - 1) < 5 * error[-1]
    assert mean[1] < 0.2


def test_distances_to_an_attractor_are_geodesic_and_to_the_nearest_point():
    angle = jnp.asarray([0.0, 1e-9, 1.0, math.pi - 1e-9])
    x = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
    pole = jnp.asarray([[1.0, 0.0]])
    distances = jax.jit(attractor_distances)
    np.testing.assert_allclose(distances(x, pole), angle, rtol=1e-6)
    pair = jnp.concatenate([pole, -pole])
    np.testing.assert_allclose(distances(x, pair), [0, 1e-9, 1, 1e-9], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda y: jnp.sum(attractor_distances(y, pair))))(x)
    assert np.all(np.isfinite(gradient))


def test_the_pair_and_the_centre_are_recovered_from_their_clusters():
    a = unit_tokens(1, 4)[0]
    np.testing.assert_allclose(
        np.sort(antipodal_pair(jnp.asarray(np.outer([1, -1, -1], a))), axis=0),
        np.sort([a, -a], axis=0),
        atol=1e-12,
    )
    np.testing.assert_allclose(centre(jnp.asarray([a, a])), a[None], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 0}, "`points` must be at least 1; got 0"),
        ({"member": -1}, "`member` must be at least 0; got -1"),
        ({"member": 2**32}, "`member` must be at most 4294967295; got 4294967296"),
        ({"substeps": 0}, "`substeps` must be at least 1; got 0"),
    ],
)
@pytest.mark.parametrize("run", [common_noise, pullback])
def test_bad_arguments_are_named(run, change, message):
    options = {"substeps": 1, "points": 2, "key": KEY} | change
    with pytest.raises(ValueError, match=message):
        run(isotropic(1.0), ONE_TOKEN, jnp.arange(2.0), **options)
