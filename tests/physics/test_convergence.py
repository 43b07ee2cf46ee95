"""Orders of convergence: strong, weak and, without noise, those of an ordinary solver.

Weak errors are not sampled. The expectation over one step is a Gaussian integral, done by
quadrature with the solver's own step, and the expectation over many steps follows from it by
rotation invariance: E<x_k, x_0> = (E<x_1, x_0>)^k.
"""

import functools
import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import gaussian_nodes, isotropic, matrix_units, slope, unit_tokens
from jax.scipy.linalg import expm
from jaxtyping import Array, Float
from scipy.linalg import expm as expm_numpy

import rqf_jax as rqf
from rqf_jax.noises import IsotropicNoise
from rqf_jax.solvers import GeodesicEuler, GeodesicHeun, ProjectiveFlow
from rqf_jax.theory import sphere

SPHERE = rqf.manifolds.Sphere()
SOLVERS = {s.__name__: s() for s in (ProjectiveFlow, GeodesicEuler, GeodesicHeun)}
MIXTURES = [(0.8, 0.6), (1.0, 0.0), (0.0, 1.0), (0.5, 1.2)]


# ---- strong order


@functools.cache
def strong_errors(symmetric, antisymmetric):
    """Root mean square distance of each solver's states at T = 1 to those of 4096 steps."""
    members, cells, finest = 2048, 16, 256
    levels = (1, 2, 4, 8, 16)
    sde = isotropic(symmetric, antisymmetric)
    x0 = jnp.asarray(unit_tokens(2, 3))
    # Members last: then a step is arithmetic on long rows.
    start = jnp.broadcast_to(x0[..., None], (2, 3, members))

    def advance(solver, h):
        step = jax.vmap(
            lambda x, dw: solver.advance(sde, jnp.zeros(()), jnp.asarray(h), x, dw), (-1, -1), -1
        )
        return lambda x, dw: (step(x, dw), None)

    def cell(states, key):
        dw = math.sqrt(1 / (cells * finest)) * jax.random.normal(key, (finest, 3, 3, members))
        reference, coarse = states
        reference, _ = jax.lax.scan(advance(GeodesicEuler(), 1 / (cells * finest)), reference, dw)
        sums = {n: dw.reshape(n, finest // n, 3, 3, members).sum(1) for n in levels}
        coarse = {
            (name, n): jax.lax.scan(advance(SOLVERS[name], 1 / (cells * n)), x, sums[n])[0]
            for (name, n), x in coarse.items()
        }
        return (reference, coarse), None

    @jax.jit
    def run(key):
        coarse = {(name, n): start for name in SOLVERS for n in levels}
        keys = jax.random.split(key, cells)
        (reference, coarse), _ = jax.lax.scan(cell, (start, coarse), keys)
        return {
            k: jnp.sqrt(jnp.mean(jnp.sum((x - reference) ** 2, axis=(0, 1))))
            for k, x in coarse.items()
        }

    errors = jax.device_get(run(jax.random.key(0)))
    steps = 1 / (cells * np.array(levels))
    return steps, {name: np.array([errors[name, n] for n in levels]) for name in SOLVERS}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(
    "strengths", [(0.5, 0.0), pytest.param((0.4, 0.3), marks=pytest.mark.slow)]
)
def test_every_solver_converges_to_one_limit_at_strong_order_one_half(name, strengths):
    steps, errors = strong_errors(*strengths)
    assert slope(steps, errors[name]) == pytest.approx(0.5, abs=0.05)


# ---- weak order


@functools.cache
def nodes_of(dim):
    """Exact to degree 7 in every variable for dim = 3, to far more than needed for dim = 2."""
    nodes, weights = gaussian_nodes(dim * dim, 4 if dim == 3 else 10)
    return jnp.asarray(nodes.reshape(-1, dim, dim)), jnp.asarray(weights)


@functools.cache
def one_step(name, dim):
    """(strengths, h, x) -> E of <x_1, x_0>, of all overlaps and of their squares, after a step."""
    solver = SOLVERS[name]
    nodes, weights = nodes_of(dim)

    @jax.jit
    def moments(strengths, h, x):
        sde = isotropic(*strengths)

        def member(dw):
            y = solver.advance(sde, jnp.zeros(()), h, x, dw)
            r = rqf.observables.overlaps(y)
            return jnp.concatenate([jnp.sum(y[0] * x[0])[None], r, r**2])

        return weights @ jax.vmap(member)(jnp.sqrt(h) * nodes)

    return moments


STEPS = np.array([0.02, 0.01, 0.005])
ORDERS = {"ProjectiveFlow": 2, "GeodesicEuler": 1, "GeodesicHeun": 1}


@pytest.mark.parametrize("dim", [pytest.param(2, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize(
    "strengths",
    [*MIXTURES[:2], *(pytest.param(mixture, marks=pytest.mark.slow) for mixture in MIXTURES[2:])],
)
@pytest.mark.parametrize("name", SOLVERS)
def test_weak_orders_of_positions_and_overlaps(name, strengths, dim):
    symmetric, antisymmetric = strengths
    x = unit_tokens(4, dim, seed=1)
    moments = np.array([one_step(name, dim)(strengths, h, jnp.asarray(x)) for h in STEPS])
    # Positions at time 1, by the power law.
    found = moments[:, 0] ** (1 / STEPS)
    expected = sphere.one_point_correlation(
        1.0, symmetric=symmetric, antisymmetric=antisymmetric, dim=dim
    )
    if (name, dim) == ("GeodesicEuler", 2) or (name, dim, symmetric) == ("ProjectiveFlow", 2, 0):
        # On the circle a geodesic step is a Gaussian angle, and a random rotation is one too.
        np.testing.assert_allclose(found, np.full(3, expected), atol=1e-11)
    else:
        assert slope(STEPS, found - expected) == pytest.approx(ORDERS[name], abs=0.15)
    if symmetric == 0:
        return
    # Overlaps over one step: one order more than over a fixed time. All of them together, because
    # a single error may change sign on the way to 0.
    start = (x @ x.T)[np.triu_indices(4, 1)]
    overlaps = [sphere.mean_overlap(h, start, sigma=symmetric) for h in STEPS]
    squares = [sphere.mean_squared_overlap(h, start, sigma=symmetric) for h in STEPS]
    errors = moments[:, 1:] - np.concatenate([overlaps, squares], axis=1)
    # At least: the third-order terms of the projective flow are small, and some are tuned away.
    assert slope(STEPS, np.linalg.norm(errors, axis=1)) > ORDERS[name] + 0.6


def place(e, i, power):
    """1 ⊗ ... ⊗ E ⊗ ... ⊗ 1 with E in the place i."""
    return functools.reduce(np.kron, [e if k == i else np.eye(len(e)) for k in range(power)])


def represent(stack, power):
    """E -> E⊗1⊗1 + 1⊗E⊗1 + 1⊗1⊗E (for power 3), for every matrix of a stack."""
    return np.array([sum(place(e, i, power) for i in range(power)) for e in stack])


def traceless_response(linear, dim):
    """`linear` at every entry of dw, the trace removed: it commutes and normalising removes it."""
    basis = np.asarray(jax.vmap(linear)(jnp.asarray(matrix_units(dim))))
    trace = np.trace(basis, axis1=1, axis2=2)[:, None, None]
    return basis - trace / dim * np.eye(dim)


def expansion(noise, dim, power, degree):
    """Generator of the flow, and the first two coefficients of E exp(ρ(Ω)) in the step h.

    With Ω = √h Z, Z Gaussian of covariance C(h): E exp = 1 + (h/2) Σ ρ² + (h²/24) Σ ρρρρ + O(h³),
    the second sum over the three pairings.
    """
    zero = jnp.zeros(())
    fields = represent(traceless_response(lambda e: noise.matrix(zero, e), dim), power)
    generator = np.sum(fields @ fields, axis=0) / 2

    def half_covariance(h):
        basis = traceless_response(
            lambda e: noise.log_flow(zero, e, jnp.asarray(h), degree=degree), dim
        )
        rho = represent(basis, power)
        return np.sum(rho @ rho, axis=0) / 2

    # The squared strengths are polynomials of h, of degree 7 at most: the slope at 0 is exact.
    steps = np.array([0.01, 0.1, 0.25, 0.45, 0.7, 1.0, 1.2, 1.4])
    values = np.array([half_covariance(h) for h in steps])
    first, slope_at_0, *_ = np.linalg.solve(
        np.vander(steps, increasing=True), values.reshape(len(steps), -1)
    ).reshape(-1, *generator.shape)
    return generator, first, slope_at_0 + pairings(fields, fields, fields, fields) / 24


def pairings(a, b, c, d):
    """E[A B C D] for Gaussian matrices A = Σ_i a_i g_i, B = Σ_i b_i g_i, ... of common normals."""
    outer = np.sum(a @ b, axis=0) @ np.sum(c @ d, axis=0)
    crossed = sum(x @ np.sum(b @ y @ d, axis=0) for x, y in zip(a, c, strict=True))
    return outer + crossed + np.sum(a @ np.sum(b @ c, axis=0) @ d, axis=0)


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("dim", [3, *(pytest.param(dim, marks=pytest.mark.slow) for dim in (2, 4))])
@pytest.mark.parametrize("strengths", MIXTURES)
def test_the_logarithm_of_the_flow_has_the_moments_of_the_flow_to_second_order(
    strengths, dim, power
):
    # E exp(ρ(Ω)) = exp(h L) + O(h³) for ρ = V, V⊗V, V⊗V⊗V and L = ½ Σ ρ(E_i)².
    noise = IsotropicNoise(symmetric=strengths[0], antisymmetric=strengths[1])
    generator, first, second = expansion(noise, dim, power, degree=12)
    np.testing.assert_allclose(first, generator, atol=1e-10)
    np.testing.assert_allclose(second, generator @ generator / 2, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "power"), [(2, 1), (2, 2), (2, 3), (3, 2), (3, 3), (4, 2)])
@pytest.mark.parametrize("strengths", MIXTURES)
def test_the_quadratic_polynomial_has_the_moments_of_the_flow_to_second_order(
    strengths, dim, power
):
    # What 1 + Ω + Ω²/2 lacks of exp(Ω) in each factor is Ω³/6 + Ω⁴/24. The moments are those of the
    # flow up to a multiple of the identity, which normalising removes.
    noise = IsotropicNoise(symmetric=strengths[0], antisymmetric=strengths[1])
    generator, first, second = expansion(noise, dim, power, degree=2)
    np.testing.assert_allclose(first, generator, atol=1e-10)
    basis = traceless_response(lambda e: noise.matrix(jnp.zeros(()), e), dim)
    for i in range(power):
        at_i = np.array([place(e, i, power) for e in basis])
        second = second - pairings(at_i, at_i, at_i, at_i) / 24
        for j in set(range(power)) - {i}:
            at_j = np.array([place(e, j, power) for e in basis])
            second = second - pairings(at_i, at_i, at_i, at_j) / 6
    excess = second - generator @ generator / 2
    scalar = np.trace(excess) / len(excess) * np.eye(dim**power)
    np.testing.assert_allclose(excess, scalar, atol=1e-10)


@pytest.mark.parametrize(
    "strengths", [MIXTURES[0], *(pytest.param(m, marks=pytest.mark.slow) for m in MIXTURES[1:])]
)
def test_the_moments_of_the_flow_in_the_plane_are_exact_to_the_third_power_of_the_step(strengths):
    noise, power = IsotropicNoise(symmetric=strengths[0], antisymmetric=strengths[1]), 3
    zero = jnp.zeros(())
    fields = represent(traceless_response(lambda e: noise.matrix(zero, e), 2), power)
    generator = np.sum(fields @ fields, axis=0) / 2
    nodes, weights = nodes_of(2)

    @jax.jit
    def mean(h):
        def one(z):
            omega = noise.log_flow(zero, jnp.sqrt(h) * z, h, degree=4)
            e = expm(omega - jnp.trace(omega) / 2 * jnp.eye(2))
            return jnp.kron(jnp.kron(e, e), e)

        return jnp.einsum("a,aij->ij", weights, jax.vmap(one)(nodes))

    errors = [np.linalg.norm(mean(h) - expm_numpy(h * generator)) for h in STEPS]
    # Rotations of the plane commute, so that for them the first order is already all there is.
    assert max(errors) < 1e-13 if strengths[0] == 0 else slope(STEPS, errors) > 2.8


# ---- drifts


class Linear(rqf.drifts.AbstractDrift):
    """f = cos(t) V x, whose projected flow is the normalised exp(sin(t) V) x."""

    matrix: Float[Array, "dim dim"]

    def __call__(self, t, x):
        return jnp.cos(t) * jnp.matmul(x, self.matrix.T, precision="highest")


class Still(diffrax.AbstractPath):
    """No noise."""

    shape: tuple[int, ...]
    t0 = 0.0
    t1 = 1.0

    def evaluate(self, t0, t1=None, left=True):
        return jnp.zeros(self.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "order"), [("GeodesicEuler", 1), ("GeodesicHeun", 2), ("ProjectiveFlow", 2)]
)
def test_order_of_a_drift_without_noise(name, order):
    silent = IsotropicNoise(symmetric=0.0, antisymmetric=0.0)
    noise = silent if name == "ProjectiveFlow" else rqf.noises.NoNoise()
    x0, v = jnp.asarray(unit_tokens(3, 3)), np.random.default_rng(0).standard_normal((3, 3))
    sde = rqf.SDE(Linear(jnp.asarray(v)), noise, SPHERE)
    terms = sde.terms(Still(noise.shape(x0)))

    @jax.jit
    def end(h):
        solution = diffrax.diffeqsolve(terms, SOLVERS[name], 0.0, 1.0, h, x0, max_steps=256)
        return solution.ys[0]

    expected = SPHERE.project(x0 @ expm(math.sin(1.0) * jnp.asarray(v)).T)
    steps = 2.0 ** -np.arange(4, 9)
    errors = [np.abs(end(h) - expected).max() for h in steps]
    assert slope(steps, errors) == pytest.approx(order, abs=0.1)


class Constant(rqf.drifts.AbstractDrift):
    """f = V x."""

    matrix: Float[Array, "dim dim"]

    def __call__(self, t, x):
        return jnp.matmul(x, self.matrix.T, precision="highest")


def few_nodes():
    """Exact to degree 7 in every variable of one step."""
    nodes, weights = gaussian_nodes(4, 4)
    return jnp.asarray(nodes.reshape(-1, 2, 2)), jnp.asarray(weights)


def two_steps(sde, h, x, nodes):
    """States after two steps, for every pair of increments; the second goes on from the first."""
    flow, start, dws = ProjectiveFlow(), jnp.zeros(()), jnp.sqrt(h) * nodes

    def after(first):
        y, handed = flow.follow(sde, start, h, x, first, flow.begin(sde, start, x))
        return jax.vmap(lambda second: flow.follow(sde, start + h, h, y, second, handed)[0])(dws)

    return jax.vmap(after)(dws)


def test_drift_and_matrix_noise_together_have_weak_order_2_in_the_plane():
    # One token at angle φ: dφ = <V e_φ, e_φ'> dt + √α dW with α = (σ_s² + σ_a²)/2, whose backward
    # equation is a banded matrix on Fourier modes.
    v, strengths, phi = np.array([[0.3, 1.1], [-0.4, -0.8]]), (0.8, 0.6), 0.4
    modes = np.arange(-60, 61)
    constant, cosine, sine = (v[1, 0] - v[0, 1]) / 2, (v[1, 0] + v[0, 1]) / 2, v[1, 1] - v[0, 0]
    up = 1j * modes * (cosine / 2 + sine / 4j)
    down = 1j * modes * (cosine / 2 - sine / 4j)
    alpha = (strengths[0] ** 2 + strengths[1] ** 2) / 2
    backward = np.diag(1j * modes * constant - alpha * modes**2 / 2)
    backward += np.diag(up[:-2], -2) + np.diag(down[2:], 2)

    nodes, weights = few_nodes()
    noise = IsotropicNoise(symmetric=strengths[0], antisymmetric=strengths[1])
    sde = rqf.SDE(Constant(jnp.asarray(v)), noise, SPHERE)
    x = jnp.asarray([[math.cos(phi), math.sin(phi)]])

    @jax.jit
    def moments(h):
        values = two_steps(sde, h, x, nodes)[:, :, 0]
        values = jnp.concatenate([values, values[..., :1] ** 2], axis=-1)
        return jnp.einsum("p,q,pqk->k", weights, weights, values)

    errors = []
    for h in STEPS:
        # e^{ikφ} at time 2h, for k = 1, 2: column k of the exponential, read at φ.
        first, second = (
            np.exp(1j * modes * phi) @ expm_numpy(2 * h * backward)[:, list(modes).index(k)]
            for k in (1, 2)
        )
        expected = [first.real, first.imag, (1 + second.real) / 2]
        errors.append(np.linalg.norm(np.asarray(moments(h)) - expected))
    assert slope(STEPS, errors) == pytest.approx(3, abs=0.25)


@pytest.mark.slow
def test_attention_and_matrix_noise_together_have_weak_order_2_in_the_plane():
    # Two tokens at angle θ: dθ = -2 w(θ) sin θ dt + √2 σ_s sin θ dW (Itô), w the weight of the
    # other token, whatever σ_a. Its backward equation by collocation on Fourier modes.
    beta, strength, (symmetric, antisymmetric), theta = 2.0, 1.5, (0.8, 0.6), 1.1
    modes = np.arange(-32, 32)
    angles = 2 * np.pi * np.arange(64) / 64
    values = np.exp(1j * np.outer(angles, modes))
    weight = rqf.theory.attention.softmax_weight(np.cos(angles), beta=beta)
    velocity = -2 * strength * np.asarray(weight) * np.sin(angles)
    diffusion = symmetric**2 * np.sin(angles) ** 2
    derivative = velocity[:, None] * values * (1j * modes) - diffusion[:, None] * values * modes**2
    backward = np.linalg.solve(values, derivative)

    nodes, weights = few_nodes()
    noise = IsotropicNoise(symmetric=symmetric, antisymmetric=antisymmetric)
    sde = rqf.SDE(rqf.drifts.Attention(beta, strength=strength), noise, SPHERE)
    x = jnp.asarray([[1.0, 0.0], [math.cos(theta), math.sin(theta)]])

    @jax.jit
    def moments(h):
        y = two_steps(sde, h, x, nodes)
        overlap = jnp.sum(y[..., 0, :] * y[..., 1, :], axis=-1)
        values = jnp.stack([overlap, 2 * overlap**2 - 1], axis=-1)
        return jnp.einsum("p,q,pqk->k", weights, weights, values)

    errors = []
    for h in STEPS:
        # cos kθ at time 2h is the real part of column k of the exponential, read at θ.
        columns = np.exp(1j * modes * theta) @ expm_numpy(2 * h * backward)
        errors.append(np.linalg.norm(np.asarray(moments(h)) - columns[[33, 34]].real))
    assert slope(STEPS, errors) == pytest.approx(3, abs=0.25)
