"""Log densities for samplers, 3, 10 and 30 standard errors from the estimate, beside likelihoods
in NumPy and SciPy that share nothing with the library but their equations."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from _ensembles import isotropic, ou_paths

import rqf_jax as rqf
from rqf_jax import inference

FAR = [sign * size for size in (3.0, 10.0, 30.0) for sign in (-1, 1)]


def points(fit, least):
    """The estimate, and points on every axis that are far from it, above `least` estimates."""
    found = [dict(fit.estimate)]
    for name, value in fit.estimate.items():
        moved = (value + far * fit.stderr[name] for far in FAR)
        found += [fit.estimate | {name: one} for one in moved if one > least * value]
    return found


def assert_is(fit, law, *, least=0.0, rtol=1e-6):
    """The density of a fit is `law` of its parameters but for one constant.

    Points differ by tens to thousands of nats: the tolerance is relative to that.
    """
    at, density = points(fit, least), fit.log_density()
    values = jax.jit(jax.vmap(density))(
        {name: jnp.asarray([point[name] for point in at]) for name in fit.estimate}
    )
    ours, theirs = np.asarray(values), np.array([law(**point) for point in at])
    assert np.ptp(ours) > 50 and np.all(np.isfinite(ours))
    np.testing.assert_allclose(ours - ours[0], theirs - theirs[0], rtol=rtol, atol=1e-6)


def assert_as_sure_as(fit, *, rtol=1e-3, near=0.01):
    """At the estimate a density is level, and curved by the covariance that the fit states."""
    names, density = list(fit.estimate), fit.log_density()
    point = jnp.asarray(list(fit.estimate.values()))

    def log_density(values):
        return density(dict(zip(names, values, strict=True)))

    slope, bend = jax.grad(log_density)(point), jax.hessian(log_density)(point)
    errors = np.sqrt(np.diagonal(fit.covariance))
    assert np.all(np.abs(slope) * errors < near)
    np.testing.assert_allclose(np.linalg.inv(-bend), fit.covariance, rtol=rtol)


@pytest.mark.parametrize("stationary", [False, True])
@pytest.mark.parametrize("target", [None, 0.0])
def test_the_density_of_a_pull_is_that_of_its_paths(target, stationary):
    steps, h = 60, 0.05
    w = ou_paths(1, 24, steps, rate=1.0, s=0.8, h=h, seed=3)[0]
    times = h * np.arange(steps + 1)
    fit = inference.fit_matrix_ou(w, times, target=target, stationary=stationary)
    contrast = np.diff(np.eye(steps + 1), axis=0) if target is None else np.eye(steps + 1)
    gap = np.abs(np.subtract.outer(times, times))

    def stationary_law(rate, s):
        covariance = contrast @ (s**2 / (2 * rate) * np.exp(-rate * gap)) @ contrast.T
        return np.sum(scipy.stats.multivariate_normal(cov=covariance).logpdf((contrast @ w).T))

    def conditional_law(rate, s):
        a, before, after = np.exp(-rate * h), w[:-1], w[1:]
        v, freed = s**2 * (1 - a**2) / (2 * rate), steps
        rest = 0.0
        if target is None:
            before, after, freed = before - before.mean(0), after - after.mean(0), steps - 1
            t = np.arange(1, steps)
            rest = np.sum((steps - t) / (steps * t) * a**t)
        misfit = np.sum((after - a * before) ** 2)
        return w.shape[1] * (rest - freed * np.log(v) / 2) - misfit / v / 2

    assert_is(fit, stationary_law if stationary else conditional_law)


def directions(x, v):
    """Numbers c and shares λ of the increments v (tokens, dim), tangent at x, for which

        var c = [p λ + r (1 - λ)] dt,

    from the generalised eigenvectors of the covariances of symmetric and antisymmetric noise.
    """
    tokens, dim = x.shape
    gram, tangent = x @ x.T, np.eye(dim) - x[:, :, None] * x[:, None, :]
    basis = [scipy.linalg.null_space(token[None]) for token in x]
    crossed = [[np.outer(tangent[a] @ x[b], tangent[b] @ x[a]) for b in range(tokens)]
               for a in range(tokens)]  # fmt: skip
    alike = [[gram[a, b] * tangent[a] @ tangent[b] for b in range(tokens)] for a in range(tokens)]

    def within(blocks):
        return np.block([[basis[a].T @ blocks[a][b] @ basis[b] for b in range(tokens)]
                         for a in range(tokens)])  # fmt: skip

    alike, crossed = within(alike), within(crossed)
    shares, vectors = scipy.linalg.eigh((alike + crossed) / 2, alike)
    return vectors.T @ np.concatenate([basis[a].T @ v[a] for a in range(tokens)]), shares


def half_angle(x, y):
    length = np.linalg.norm(x + y, axis=-1, keepdims=True)
    return (x + y) / length, 2 * (y - x) / length


@functools.cache
def paths(symmetric, antisymmetric=0.0, drift=None, tokens=4, dim=5, dt=2e-3, members=3):
    sde = isotropic(symmetric, antisymmetric)
    if drift is not None:
        sde = rqf.models.noisy_attention(beta=drift, sigma=symmetric, strength=2.0)
    # Tokens that are well apart, so that a fit keeps them all.
    law, ts = rqf.laws.Equiangular(tokens, dim, 0.1), dt * np.arange(31.0)
    key = jax.random.key(5)
    return rqf.simulate(sde, law, ts, substeps=4, members=members, key=key)


def steps_of(runs):
    ys = np.asarray(runs.ys)
    dt = np.diff(np.asarray(runs.ts))
    for member, k in itertools.product(range(ys.shape[0]), range(ys.shape[1] - 1)):
        yield ys[member, k], ys[member, k + 1], dt[k]


@pytest.mark.slow
@pytest.mark.parametrize("antisymmetric", [False, True])
def test_the_density_of_common_noise_is_that_of_its_increments(antisymmetric):
    # Antisymmetric noise is not far above what commutators make of the other.
    runs = paths(1.0, 0.05 if antisymmetric else 0.0, dt=5e-4)
    fit = inference.fit_noise(runs, antisymmetric=antisymmetric)
    assert fit.tokens_used == 4
    found = [(*directions(*half_angle(x, y)), h) for x, y, h in steps_of(runs)]
    numbers, shares = (np.array([step[i] for step in found]) for i in range(2))
    dt, dim = np.array([step[2] for step in found])[:, None], 5
    free, outside = shares < 1e-6, np.abs(shares - 0.5) < 1e-6
    assert np.all(free.sum(1) == 3) and np.all(outside.sum(1) == 4)
    # The steps are so short that nothing is taken off for their length.
    assert not np.any(np.asarray(fit.log_density().log_density.error))

    def law(symmetric, antisymmetric=None):
        p, r = symmetric**2, (antisymmetric or 0.0) ** 2
        floor = np.where(outside, 0.0, p**2 * dt * (dim + 2) / 8)
        variance = (p * shares + (r + floor) * (1 - shares)) * dt
        kept = ~free if antisymmetric is None else np.ones_like(free)
        variance = np.where(kept, variance, 1.0)
        return -np.sum(np.where(kept, np.log(variance) + numbers**2 / variance, 0.0)) / 2

    assert_is(fit, law)


@pytest.mark.slow
def test_the_density_of_common_noise_has_no_error_of_long_steps():
    # Steps so long that the noise looks two standard errors stronger.
    runs = paths(1.0, tokens=1, dim=12, dt=0.2, members=40)
    fit = inference.fit_noise(runs)
    assert abs(fit.estimate["symmetric"] - 1) < 4 * fit.stderr["symmetric"]
    error = float(fit.log_density().log_density.error[0]) / 2
    assert error > 1.5 * fit.stderr["symmetric"]
    assert_as_sure_as(fit, rtol=0.1, near=0.05)


@pytest.mark.slow
def test_the_density_of_pairs_is_that_of_a_diffusion_of_overlaps():
    dt, runs = 0.1, paths(1.0, dt=0.1, tokens=3)
    fit = inference.fit_pairs(runs)
    ys = np.asarray(runs.ys)
    rows, columns = np.triu_indices(3, 1)
    u = np.arctanh(np.sum(ys[:, :, rows] * ys[:, :, columns], -1))
    # p u'' + p tanh(u) u' is in the potential 1/4 + 1/(4 cosh² u), on a lattice of sinc functions.
    lattice = np.arange(-12, 12.01, 0.06)
    gaps = np.subtract.outer(*[np.arange(lattice.size)] * 2)
    kinetic = 2 * (-1.0) ** gaps / np.where(gaps == 0, 1, gaps) ** 2
    kinetic = np.where(gaps == 0, np.pi**2 / 3, kinetic) / 0.06**2
    potential = 0.25 + 0.25 / np.cosh(lattice) ** 2
    energies, states = np.linalg.eigh(kinetic + np.diag(potential))
    at = np.sinc((u[..., None] - lattice) / 0.06) @ states

    def law(symmetric):
        kernel = np.sum(at[:, 1:] * np.exp(-energies * symmetric**2 * dt) * at[:, :-1], -1) / 0.06
        change = np.log(np.cosh(u[:, 1:])) - np.log(np.cosh(u[:, :-1]))
        return float(weight) * np.sum(np.log(kernel) + change / 2)

    weight = fit.log_density().log_density.weight
    assert 0.3 < weight < 1
    assert_as_sure_as(fit)
    # Of a narrow kernel the lattice knows nothing.
    assert_is(fit, law, least=0.4, rtol=1e-5)


def softmax_pull(x, beta):
    weights = np.exp(beta * x @ x.T)
    pull = weights / weights.sum(1, keepdims=True) @ x
    return pull - np.sum(pull * x, 1, keepdims=True) * x


@pytest.mark.slow
def test_the_density_of_attention_is_that_of_its_increments():
    sigma, runs = 1.0, paths(1.0, drift=0.7, tokens=4, dt=0.01)
    start, both = rqf.drifts.Attention(1.0), ("strength", "beta")
    fit = inference.fit_attention(runs, attention=start, parameters=both, noise=sigma)
    assert fit.tokens_used == 4 and fit.method == "range and free directions"

    def law(strength, beta):
        found = 0.0
        for x, y, h in steps_of(runs):
            turn = np.arccos(np.sum(x * y, 1, keepdims=True))
            across = y - np.cos(turn) * x
            increments = turn * across / np.linalg.norm(across, axis=1, keepdims=True)
            middle, moved = half_angle(x, y)
            for at, seen, free in ((x, increments, False), (middle, moved, True)):
                pull = strength * softmax_pull(at, beta) * h
                (number, shares), mean = directions(at, seen), directions(at, pull)[0]
                # Of the range, the numbers that symmetric noise alone moves, and those outside.
                used = (shares > 1 - 1e-6) | (np.abs(shares - 0.5) < 1e-6)
                used, variance = (shares < 1e-6, h * (5 + 2) / 8) if free else (used, shares)
                terms = (number - mean / 2) * mean / (variance * sigma**2 * h)
                found += np.sum(terms[used])
        return found

    assert_is(fit, law, least=-np.inf)


def observed_density(ys, dt, symmetric, observation):
    """The extended Kalman filter of the docstring of `fit_noise_observed`, of one member."""
    p, tau, (_, tokens, dim) = symmetric**2, observation**2, ys.shape
    identity = np.eye(dim)

    def tangents(x):
        return scipy.linalg.block_diag(*(identity - np.outer(token, token) for token in x))

    x, spread, found = ys[0], tau * tangents(ys[0]), 0.0
    for y, h in zip(ys[1:], dt, strict=True):
        floor = p**2 * h * (dim + 2) / 8
        every = tangents(x)
        alike = every @ np.kron(x @ x.T, identity) @ every
        swapped = np.einsum("bi,aj->aibj", x, x).reshape(tokens * dim, -1)
        crossed = every @ swapped @ every
        spread = spread + h / 2 * ((p + floor) * alike + (p - floor) * crossed)
        basis = scipy.linalg.block_diag(*(scipy.linalg.null_space(token[None]) for token in x))
        cosine = np.sum(x * y, 1, keepdims=True)
        error = basis.T @ (2 * (y - cosine * x) / (1 + cosine)).ravel()
        seen = basis.T @ spread @ basis + tau * np.eye(error.size)
        gain = spread @ basis @ np.linalg.inv(seen)
        found -= (np.linalg.slogdet(seen)[1] + error @ np.linalg.solve(seen, error)) / 2
        half = (gain @ error).reshape(x.shape) / 2
        square = np.sum(half**2, 1, keepdims=True)
        x = ((1 - square) * x + 2 * half) / (1 + square)
        spread = tangents(x) @ (spread - gain @ basis.T @ spread) @ tangents(x)
    return found


@pytest.mark.slow
def test_the_density_of_observed_tokens_is_that_of_a_kalman_filter():
    runs = paths(1.0, tokens=2, dt=0.01)
    noise = np.random.default_rng(0).standard_normal(runs.ys.shape)
    ys = np.asarray(runs.ys) + 0.05 * noise
    ys = ys / np.linalg.norm(ys, axis=-1, keepdims=True)
    fit = inference.fit_noise_observed(ys, runs.ts)
    assert_as_sure_as(fit)
    dt = np.diff(np.asarray(runs.ts))
    assert_is(fit, lambda **point: sum(observed_density(y, dt, **point) for y in ys))
