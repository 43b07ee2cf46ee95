"""Theorems about the manifolds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rqf_jax.manifolds import Euclidean, Sphere

SHAPES = [(1, 1), (1, 2), (2, 3), (5, 40)]


def point_and_vector(shape, dtype=np.float64, seed=0):
    """Unit rows and an ambient vector."""
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=shape), rng.normal(size=shape)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return jnp.asarray(x.astype(dtype)), jnp.asarray(v.astype(dtype))


def rows(x, y):
    """The inner product of every row."""
    return np.sum(np.asarray(x, np.float64) * np.asarray(y, np.float64), axis=-1)


def angle(x, y):
    """The geodesic distance of every row."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return 2 * np.arctan2(np.linalg.norm(x - y, axis=-1), np.linalg.norm(x + y, axis=-1))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_tangent_vector_is_orthogonal_to_its_point(shape):
    x, v = point_and_vector(shape)
    assert np.abs(rows(x, Sphere().tangent(x, v))).max() < 1e-14


@pytest.mark.parametrize("shape", SHAPES)
def test_tangent_is_an_orthogonal_projection(shape):
    x, v = point_and_vector(shape)
    w = Sphere().tangent(x, v)
    np.testing.assert_allclose(Sphere().tangent(x, w), w, atol=1e-14)
    assert np.abs(rows(v - w, w)).max() < 1e-13


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1e-12, 1e-6, 0.9e-3, 1.1e-3, 0.5, 3.0])
def test_retract_goes_the_length_of_the_vector_along_its_great_circle(length, dtype):
    x, v = point_and_vector((50, 4), dtype)
    v = Sphere().tangent(x, v)
    v = length * v / jnp.sqrt(jnp.sum(v * v, -1, keepdims=True))
    y = Sphere().retract(x, v)
    assert y.dtype == dtype
    rounding = 4 * np.finfo(dtype).eps
    x, v = np.asarray(x, np.float64), np.asarray(v, np.float64)
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    np.testing.assert_allclose(angle(x, y), length[:, 0], rtol=rounding, atol=rounding)
    circle = np.cos(length) * x + np.sin(length) / length * v
    np.testing.assert_allclose(y, circle, atol=rounding)


def test_retract_is_a_flow_along_one_geodesic():
    x, v = point_and_vector((5, 3))
    v = Sphere().tangent(x, v)
    half = Sphere().retract(x, 0.5 * v)
    speed = jnp.sqrt(jnp.sum(v * v, -1, keepdims=True))
    velocity = -jnp.sin(speed / 2) * speed * x + jnp.cos(speed / 2) * v
    np.testing.assert_allclose(
        Sphere().retract(half, 0.5 * velocity), Sphere().retract(x, v), atol=1e-14
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ten_thousand_retractions_stay_on_the_sphere(dtype):
    x, v = point_and_vector((5, 3), dtype)

    def step(_, x):
        return Sphere().retract(x, Sphere().tangent(x, 0.1 * v))

    defect = Sphere().defect(jax.lax.fori_loop(0, 10_000, step, x))
    assert float(defect) < 3 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_derivative_of_retract_at_rest_is_the_identity_on_tangent_vectors(dtype):
    x, v = point_and_vector((2, 3), dtype)
    v = Sphere().tangent(x, v)
    value, derivative = jax.jvp(lambda w: Sphere().retract(x, w), (jnp.zeros_like(v),), (v,))
    np.testing.assert_allclose(value, x, atol=2 * np.finfo(dtype).eps)
    np.testing.assert_allclose(derivative, v, atol=8 * np.finfo(dtype).eps)


@pytest.mark.slow
@pytest.mark.parametrize(
    "length", [0.0, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.999e-3, 1.001e-3))]
)
def test_gradient_and_curvature_of_retract_are_smooth_through_rest(length):
    x, e = jnp.array([[1.0, 0.0, 0.0]]), jnp.array([[0.0, 1.0, 0.0]])

    def height(s):
        return Sphere().retract(x, s * e)[0, 0]

    s = jnp.asarray(length)
    assert float(jax.grad(height)(s)) == pytest.approx(-math.sin(length), abs=1e-12)
    assert float(jax.grad(jax.grad(height))(s)) == pytest.approx(-math.cos(length), abs=1e-9)


def test_project_finds_the_nearest_point_and_only_a_zero_row_has_none():
    x, v = point_and_vector((5, 3))
    np.testing.assert_allclose(Sphere().project(3 * x), x, atol=1e-15)
    near = Sphere().project(x + 0.1 * v)
    # The distance to the sphere is | |y| - 1 |, attained at the projection alone.
    off = np.linalg.norm(x + 0.1 * v, axis=-1) - 1
    np.testing.assert_allclose(np.linalg.norm(x + 0.1 * v - near, axis=-1), np.abs(off), atol=1e-15)
    assert np.all(np.isnan(Sphere().project(jnp.zeros((1, 3)))))


def test_defect_is_the_largest_distance_of_a_token_from_the_sphere():
    x, _ = point_and_vector((4, 3))
    assert float(Sphere().defect(x)) < 1e-15
    stretched = x * jnp.array([[1.0], [1.25], [0.5], [1.0]])
    assert float(Sphere().defect(stretched)) == pytest.approx(0.5, abs=1e-15)
    assert math.isnan(float(Sphere().defect(x.at[1, 1].set(jnp.nan))))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_flat_space_is_flat(shape):
    rng = np.random.default_rng(0)
    x, v = jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=shape))
    np.testing.assert_array_equal(Euclidean().tangent(x, v), v)
    np.testing.assert_array_equal(Euclidean().retract(x, v), x + v)
    np.testing.assert_array_equal(Euclidean().project(x), x)
    assert float(Euclidean().defect(x)) == 0
