"""What a path says about the noise that drove it, and what an experiment will say."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from _ensembles import isotropic, unit_tokens

import rqf_jax as rqf
from rqf_jax.inference import IdentifiabilityError, fit_noise, predicted_error, recover_noise
from rqf_jax.theory import sphere

TOKENS, DIM = 3, 6


@functools.cache
def driven(h, samples=300):
    """Two states of many paths, h apart, and the increments that drove them, in 24 sub-steps."""
    rng = np.random.default_rng(5)
    x = np.stack([unit_tokens(TOKENS, DIM, seed) for seed in range(samples)])
    y, total = x, 0.0
    for _ in range(24):
        b = rng.standard_normal((samples, DIM, DIM)) * math.sqrt(h / 24)
        q = (b + b.transpose(0, 2, 1)) / 2
        y, total = y @ scipy.linalg.expm(-q).transpose(0, 2, 1), total + q
        y = y / np.linalg.norm(y, axis=-1, keepdims=True)
    return np.stack([x, y], axis=1), total


def felt(x, matrix):
    """The part of a symmetric matrix that moves the tokens x (Frobenius projection)."""
    rows, columns = np.triu_indices(DIM)
    units = np.zeros((rows.size, DIM, DIM))
    units[np.arange(rows.size), rows, columns] = np.where(rows == columns, 1, math.sqrt(0.5))
    units[np.arange(rows.size), columns, rows] = units[np.arange(rows.size), rows, columns]
    image = np.einsum("kij,aj->kai", units, x)
    image = image - np.sum(image * x, -1, keepdims=True) * x
    u, s, _ = np.linalg.svd(image.reshape(rows.size, -1), full_matrices=False)
    u = u[:, s > 1e-9]
    return np.einsum("kij,kr,r->ij", units, u, u.T @ np.einsum("kij,ij->k", units, matrix))


@pytest.mark.slow
@pytest.mark.parametrize("h", [0.01, 0.0025])
def test_the_driving_noise_is_recovered_with_the_error_that_is_said(h):
    paths, total = driven(h)
    found = recover_noise(paths, [0.0, h], symmetric=1.0)
    middle = paths.sum(axis=1) / np.linalg.norm(paths.sum(axis=1), axis=-1, keepdims=True)
    truth = np.stack([felt(*pair) for pair in zip(middle, total, strict=True)])
    recovered = np.asarray(found.increments[:, 0])
    relative = np.sqrt(np.sum((recovered - truth) ** 2) / np.sum(truth**2))
    # Steps whose tokens are nearly dependent use fewer, and miss what those felt.
    expected = math.sqrt(np.mean(np.asarray(found.error) ** 2))
    assert relative == pytest.approx(expected, rel=0.25)
    correlation = np.sum(recovered * truth) / np.sqrt(np.sum(recovered**2) * np.sum(truth**2))
    assert correlation > 1 - 1.2 * h
    assert np.asarray(found.seen).max() == sphere.symmetric_rank(TOKENS, DIM) / (
        DIM * (DIM + 1) / 2
    )


@pytest.mark.slow
def test_recovered_noise_moves_the_tokens_as_they_moved():
    h = 1e-6
    paths, _ = driven(0.01)
    x = paths[0, 0]
    b = np.random.default_rng(1).standard_normal((DIM, DIM)) * math.sqrt(h)
    q = (b + b.T) / 2
    y = x @ scipy.linalg.expm(-q)
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    paths = np.broadcast_to(np.stack([x, y]), paths.shape)
    found = recover_noise(paths, [0.0, h], symmetric=1.0).increments[0, 0]
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    again = x @ scipy.linalg.expm(-np.asarray(found))
    again = again / np.linalg.norm(again, axis=1, keepdims=True)
    assert np.max(np.abs(again - y)) < 5e-3 * np.max(np.abs(y - x))


def test_bad_strengths_are_one_clear_error():
    paths, _ = driven(0.01)
    with pytest.raises(ValueError, match=r"`symmetric` must be positive; got 0"):
        recover_noise(paths, [0.0, 0.01], symmetric=0.0)


@pytest.mark.slow
def test_the_predicted_error_of_short_steps_is_that_of_the_degrees_of_freedom():
    error = predicted_error(3, 5, 50, 1e-5, symmetric=1.3)["symmetric"]
    expected = 1.3 / math.sqrt(2 * 50 * sphere.symmetric_rank(3, 5))
    assert error == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_the_predicted_error_is_that_of_a_fit():
    ts = jnp.linspace(0.0, 0.2, 21)
    sde, law = isotropic(1.3, 0.6), rqf.laws.Uniform(3, 5)
    runs = rqf.simulate(sde, law, ts, substeps=4, members=50, key=jax.random.key(11))
    fit = fit_noise(runs, antisymmetric=True)
    error = predicted_error(3, 5, 20, 0.01, symmetric=1.3, antisymmetric=0.6)
    for name, value in error.items():
        assert value / math.sqrt(50) == pytest.approx(fit.stderr[name], rel=0.15)


def test_bad_designs_are_one_clear_error():
    for arguments, options, words in (
        ((0, 5, 10, 0.1), {}, "`tokens` must be at least 1; got 0"),
        ((3, 1, 10, 0.1), {}, "`dim` must be at least 2; got 1"),
        ((3, 5, 0, 0.1), {}, "`steps` must be at least 1; got 0"),
        ((3, 5, 10, -0.1), {}, "`dt` must be positive; got -0.1"),
        ((3, 5, 10, 0.1), {"antisymmetric": 0.0}, "`antisymmetric` must be positive; got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            predicted_error(*arguments, **options)
    with pytest.raises(IdentifiabilityError, match=r"symmetric² \+ antisymmetric²"):
        predicted_error(1, 5, 10, 0.1, antisymmetric=1.0)
