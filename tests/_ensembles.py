"""What the tests of laws share: means against closed forms, and expectations without sampling."""

import itertools
import math

import jax
import numpy as np

import rqf_jax as rqf


def isotropic(symmetric, antisymmetric=0.0):
    """Tokens moved by isotropic matrix noise alone."""
    noise = rqf.noises.IsotropicNoise(symmetric=symmetric, antisymmetric=antisymmetric)
    return rqf.SDE(rqf.drifts.NoDrift(), noise, rqf.manifolds.Sphere())


def unit_tokens(tokens, dim, seed=0):
    """Generic tokens (tokens, dim)."""
    x = np.random.default_rng(seed).standard_normal((tokens, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def assert_mean(samples, expected, *, bias=0.0, scores=5.0):
    """The mean over the first axis is `expected`, to `bias` and so many standard errors."""
    samples = np.asarray(samples, float)
    expected = np.broadcast_to(expected, samples.shape[1:])
    error = samples.std(axis=0) / math.sqrt(len(samples))
    distance = np.abs(samples.mean(axis=0) - expected)
    assert np.all(distance <= bias + scores * error), (
        f"off by {distance}, standard error {error}, allowed bias {bias}"
    )


def gaussian_nodes(variables, count):
    """Nodes (count**variables, variables) and weights of a standard normal expectation.

    Exact for polynomials of degree 2 count - 1 in each variable.
    """
    x, w = np.polynomial.hermite_e.hermegauss(count)
    nodes = np.array(list(itertools.product(x, repeat=variables)))
    weights = np.array(list(itertools.product(w / w.sum(), repeat=variables))).prod(axis=1)
    return nodes, weights


def slope(steps, errors):
    """The order of convergence: slope of ln |error| over ln step."""
    return np.polyfit(np.log(steps), np.log(np.abs(errors)), 1)[0]


def tridiagonal(n, beta, variance, members, seed=0):
    """Diagonals (members, n) and (members, n-1) of matrices with the spectrum of any β from zero.

    `variance` is g²τ; sums of signals on the first axis leave the matrix tridiagonal.
    """
    rng = np.random.default_rng(seed)
    diagonal = rng.normal(size=(members, n)) * math.sqrt(2 * variance)
    chi = rng.chisquare(beta * np.arange(n - 1, 0, -1), size=(members, n - 1))
    return diagonal, np.sqrt(variance * chi)


def matrix_units(size):
    """The standard basis of matrices, (size**2, size, size)."""
    return np.eye(size * size).reshape(size * size, size, size)


def chords_to_pole(x: jax.Array) -> jax.Array:
    """First coordinate of the first token: its overlap with a start at e_1."""
    return x[0, 0]


def assert_quartic_loop_equations(sums, beta):
    """E Σ λ³ λ^k = k (1 - β/2) E p_{k-1} + (β/2) Σ_{a+b=k-1} E p_a p_b, to one per cent.

    The loop equations of V' = λ³ at g = 1; `sums` (members, times, powers) are p_0, p_1, …
    """
    p = np.moveaxis(np.asarray(sums), -1, 0)
    for k in range(len(p) - 3):
        pairs = sum((p[a] * p[k - 1 - a] for a in range(k)), np.zeros(p.shape[1:]))
        left = p[k + 3].mean(1)
        right = (k * (1 - beta / 2) * p[max(k - 1, 0)] + beta / 2 * pairs).mean(1)
        # For even k both sides are odd, and zero.
        assert_mean(left - right, 0.0, bias=0.0 if k % 2 == 0 else 0.01 * right.mean())
        if k % 2:
            np.testing.assert_allclose(left.mean(), right.mean(), rtol=0.01)


def ou_paths(replicates, entries, steps, *, rate, s, h, seed=0):
    """Stationary paths of dx = -rate x dt + s dB (replicates, times, entries), exact in law."""
    rng = np.random.default_rng(seed)
    a, sd = math.exp(-rate * h), s / math.sqrt(2 * rate)
    x = np.empty((replicates, steps + 1, entries))
    x[:, 0] = sd * rng.standard_normal((replicates, entries))
    for k in range(steps):
        fresh = rng.standard_normal((replicates, entries))
        x[:, k + 1] = a * x[:, k] + sd * math.sqrt(1 - a * a) * fresh
    return x
