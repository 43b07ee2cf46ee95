"""Steps conserve the invariants of their equation to rounding, whatever their length."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.drifts import Attention, Constant, Coulomb, Linear, NoDrift
from rqf_jax.manifolds import Euclidean, Sphere, WeylChamber
from rqf_jax.noises import (
    AbstractMatrixNoise,
    BiasNoise,
    Calculus,
    IsotropicNoise,
    NoNoise,
    Sum,
    TokenNoise,
)

KEY = jax.random.key(0)
PRECISIONS = [np.float32, np.float64]


def settings(count, *, most=40, quick=2):
    """Random dimensions, numbers of steps and precisions; all but the first ones are slow."""
    rng, found = np.random.default_rng(3), []
    for i in range(count):
        dim, steps = int(rng.integers(2, most + 1)), int(np.exp(rng.uniform(0, np.log(200))))
        marks = pytest.mark.slow if i >= quick else ()
        found.append(pytest.param(i, dim, max(1, steps), PRECISIONS[i % 2], marks=marks))
    return found


def path(sde, x0, steps, dtype, *, ts=(0.0, 0.4, 1.9), members=4):
    """Saved states in float64, from a start in the dtype that is asked for."""
    law = rqf.laws.Fixed(jnp.asarray(x0, dtype))
    with warnings.catch_warnings():
        # Steps are longer than the law of the noise allows, on purpose.
        warnings.simplefilter("ignore")
        runs = rqf.simulate(sde, law, ts, substeps=steps, members=members, key=KEY)
    assert runs.ys.dtype == dtype
    return np.asarray(runs.ys, np.float64)


def rounding(dtype, steps):
    """The size of independent roundings of two save intervals of `steps`, added up."""
    return 8 * np.finfo(dtype).eps * np.sqrt(2 * steps + 4)


def units(rng, tokens, dim):
    x = rng.normal(size=(tokens, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def grams(ys):
    return np.einsum("mtad,mtbd->mtab", ys, ys)


class UserRotation(AbstractMatrixNoise):
    """A rotation by a class of a user."""

    def shape(self, x):
        return (x.shape[-1], x.shape[-1])

    def matrix(self, t, dw):
        return dw - dw.T

    def log_flow(self, t, dw, h, degree):
        return dw + dw.T * -1.0

    def control(self, dim, h):
        return 4 * dim * h

    def level(self, dim, h):
        return jnp.int32(2)

    def __call__(self, t, x, dw):
        return -x @ self.matrix(t, dw).T

    def calculus(self, manifold):
        return Calculus.EITHER


@pytest.mark.parametrize(("seed", "dim", "steps", "dtype"), settings(20))
def test_a_random_rotation_keeps_every_overlap(seed, dim, steps, dtype):
    rng = np.random.default_rng(seed)
    tokens = int(rng.choice([2, dim + 1]))
    x0 = units(rng, tokens, dim)
    noise = IsotropicNoise(symmetric=0.0, antisymmetric=float(rng.uniform(0.3, 2)))
    ys = path(rqf.SDE(NoDrift(), noise, Sphere()), x0, steps, dtype)
    assert np.max(np.abs(grams(ys) - x0 @ x0.T)) < rounding(dtype, steps)
    assert np.max(np.abs(ys[:, -1] - x0)) > 0.01


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("dim", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_a_rotation_of_a_users_own_class_keeps_overlaps(dim, dtype):
    x0 = units(np.random.default_rng(1), 2, dim)
    ys = path(rqf.SDE(NoDrift(), UserRotation(), Sphere()), x0, 5, dtype)
    assert np.max(np.abs(grams(ys) - x0 @ x0.T)) < rounding(dtype, 5)


@pytest.mark.parametrize("dim", [6, pytest.param(12, marks=pytest.mark.slow)])
def test_overlaps_move_by_what_the_symmetric_part_of_a_rotation_is(dim):
    # dr = -σ² r(1-r²) dt + √2 σ (1-r²) dW: 1e-7 of symmetric noise moves r by 1e-7 times √t.
    sigma, x0 = 1e-7, units(np.random.default_rng(2), 2, dim)
    noise = IsotropicNoise(symmetric=sigma, antisymmetric=1.3)
    ys = path(rqf.SDE(NoDrift(), noise, Sphere()), x0, 20, np.float64, members=400)
    r = np.sum(x0[0] * x0[1])
    moved = grams(ys)[:, -1, 0, 1] - r
    deviation = np.sqrt(2 * 1.9) * sigma * (1 - r**2)
    assert np.mean(moved**2) == pytest.approx(deviation**2, rel=5 * np.sqrt(2 / 400))


@pytest.mark.parametrize(("seed", "dim", "steps", "dtype"), settings(20))
def test_an_antisymmetric_linear_drift_keeps_lengths_and_overlaps(seed, dim, steps, dtype):
    rng = np.random.default_rng(seed)
    v, x0 = rng.normal(size=(dim, dim)), rng.normal(size=(3, dim))
    manifold = Euclidean() if seed % 2 else Sphere()
    x0 = x0 if seed % 2 else units(rng, 3, dim)
    ys = path(rqf.SDE(Linear(v - v.T), NoNoise(), manifold), x0, steps, dtype, members=1)
    gram = x0 @ x0.T
    size = np.linalg.norm(v - v.T, 2) * 1.5
    assert np.max(np.abs(grams(ys) - gram)) < (4 + size) * rounding(dtype, steps) * np.max(gram)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_the_oja_flow_is_exact_for_every_step_length(steps, dtype):
    # x(t) = exp(V t) x / |exp(V t) x|.
    x0, times = np.ones((1, 3)) / np.sqrt(3), np.array([0.0, 0.05, 4.0])
    ys = path(
        rqf.models.oja(jnp.diag(jnp.array([30.0, 1.0, 0.5]))), x0, steps, dtype, ts=times, members=1
    )
    exact = np.exp(np.outer(times, np.array([30.0, 1.0, 0.5]) - 30))
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    assert np.max(np.abs(ys[0, :, 0] - exact)) < 20 * rounding(dtype, steps)


@pytest.mark.parametrize(("seed", "dim", "steps", "dtype"), settings(20, most=24, quick=4))
def test_tokens_keep_their_length(seed, dim, steps, dtype):
    rng = np.random.default_rng(seed)
    noises = [
        IsotropicNoise(0.7, 0.4),
        Sum(IsotropicNoise(0.7, 0.4), BiasNoise(0.5)),
        TokenNoise(0.6),
        NoNoise(),
    ]
    drift = Attention(1.5) if seed % 2 else Constant(rng.normal(size=dim))
    ys = path(rqf.SDE(drift, noises[seed % 4], Sphere()), units(rng, 3, dim), steps, dtype)
    assert np.max(np.abs(np.linalg.norm(ys, axis=-1) - 1)) < 4 * np.finfo(dtype).eps


@pytest.mark.parametrize(("seed", "dim", "steps", "dtype"), settings(20, most=24))
def test_symmetric_matrices_stay_symmetric(seed, dim, steps, dtype):
    rng = np.random.default_rng(seed)
    x0 = rng.normal(size=(dim, dim))
    potential = rqf.potentials.Quartic(0.3) if seed % 2 else None
    sde = rqf.models.dyson(0.8, 0.5, potential=potential)
    ys = path(sde, x0 + x0.T, min(steps, 40), dtype)
    skew = np.max(np.abs(ys - np.swapaxes(ys, -1, -2)))
    assert skew <= 4 * np.finfo(dtype).eps * np.max(np.abs(ys))


@pytest.mark.parametrize(("seed", "dim", "steps", "dtype"), settings(20, most=16, quick=4))
def test_eigenvalues_stay_in_order(seed, dim, steps, dtype):
    x0 = np.sort(np.random.default_rng(seed).normal(size=dim)) + 1e-2 * np.arange(dim)
    # An array has the step of every beta, the numbers 1 and 2 that of their matrices.
    beta = [1, jnp.asarray(1.0), 2, jnp.asarray(4.0)][seed % 4]
    ys = path(rqf.models.dyson_eigenvalues(0.5, 0.4, beta), x0, min(steps, 60), dtype)
    assert np.all(np.diff(ys, axis=-1) > 0)


@pytest.mark.parametrize(("seed", "dim", "steps", "dtype"), settings(20, most=16))
def test_repulsion_alone_keeps_the_trace(seed, dim, steps, dtype):
    x0 = np.arange(dim) + 0.3 * np.random.default_rng(seed).uniform(size=dim)
    sde = rqf.SDE(Coulomb(0.5), NoNoise(), WeylChamber())
    ys = path(sde, x0, steps, dtype, members=1)
    bound = rounding(dtype, steps) * np.sum(np.abs(ys), -1).max()
    assert np.max(np.abs(ys.sum(-1) - x0.astype(dtype).astype(float).sum())) < bound


@pytest.mark.parametrize(("seed", "dim", "steps", "dtype"), settings(20))
def test_a_pair_that_is_its_own_mirror_image_keeps_its_axis(seed, dim, steps, dtype):
    rng = np.random.default_rng(seed)
    x0 = units(rng, 2, dim)
    ys = path(rqf.SDE(Attention(1.2), NoNoise(), Sphere()), x0, steps, dtype, members=1)
    mean = ys.sum(2)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    assert np.max(np.abs(mean - mean[:, :1])) < 4 * rounding(dtype, steps)
