"""What the fits of common noise rest on, at the settings of its derivation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic, unit_tokens
from scipy.sparse.csgraph import connected_components

import rqf_jax as rqf
from rqf_jax.inference import choose, half_angle, logarithm, whiten
from rqf_jax.inference._likelihood import information
from rqf_jax.inference._steps import whitened_steps


def arrangements(tokens, dim):
    """Generic tokens, and orthogonal, equal, opposite ones and ones in two orthogonal blocks."""
    x = unit_tokens(tokens, dim, seed=tokens)
    yield x
    yield np.eye(dim)[:tokens]
    yield np.concatenate([x, x[:1], -x[-1:]])
    blocks = np.where((np.arange(tokens)[:, None] < tokens / 2) == (np.arange(dim) < dim / 2), x, 0)
    yield blocks / np.linalg.norm(blocks, axis=1, keepdims=True)


@pytest.mark.slow
def test_the_rank_of_symmetric_noise_counts_the_groups_of_orthogonal_tokens():
    # All N <= 10 and n <= 8; the identity of every group of tokens that see each other is lost.
    for dim in range(2, 9):
        i, j = np.triu_indices(dim)
        basis = np.zeros((i.size, dim, dim))
        basis[np.arange(i.size), i, j] = basis[np.arange(i.size), j, i] = 1
        for tokens in range(1, 11):
            for x in arrangements(tokens, dim):
                moved = np.einsum("kij,aj->kai", basis, x)
                moved = moved - np.einsum("kai,ai->ka", moved, x)[..., None] * x
                groups, _ = connected_components(np.abs(x @ x.T) > 1e-12)
                r = np.linalg.matrix_rank(x, tol=1e-9)
                expected = r * (r + 1) // 2 + r * (dim - r) - groups
                found = np.linalg.matrix_rank(moved.reshape(i.size, -1), tol=1e-9)
                assert found == expected, (tokens, dim, x)
                if dim % 3 or tokens % 3:
                    continue  # the library compiles for every shape
                indices, active = choose(jnp.asarray(x), jnp.asarray(1e-9), jnp.ones(len(x), bool))
                seen = whiten(jnp.asarray(x)[indices], jnp.zeros((len(indices), dim)), active)
                assert float(seen.dof) == expected, (tokens, dim, x)


def step(noise, law, h, members, seed, substeps=8):
    """Both ends of one step of every member."""
    runs = rqf.simulate(
        noise, law, jnp.asarray([0.0, h]), substeps=substeps, members=members,
        key=jax.random.key(seed),
    )  # fmt: skip
    return runs.ys[:, 0], runs.ys[:, 1]


def free_directions(increments, x, y):
    """q_a/n_a of every member."""
    w = jax.jit(jax.vmap(whiten))(*jax.vmap(increments)(x, y))
    return np.asarray(w.q_a / w.n_a)


@pytest.mark.slow
@pytest.mark.parametrize("h", [0.005, 0.01, 0.02])
def test_half_angles_see_the_commutators_of_four_tokens_and_logarithms_more(h):
    # n p dt <= 0.16 at n = 8: 0.95 to 1.02, and at least 1.3 from the start of the step.
    x, y = step(isotropic(1.0), rqf.laws.Equiangular(4, 8, 0.2), h, 20_000, 1)
    floor = h * h * (8 + 2) / 8
    assert_mean(free_directions(half_angle, x, y) / floor, 0.985, bias=0.035, scores=3)
    at_start = free_directions(lambda x, y: (x, logarithm(x, y)), x, y) / floor
    assert at_start.mean() > 1.3


@pytest.mark.slow
def test_without_the_commutators_the_antisymmetric_strength_is_too_large_by_them():
    h, r = 0.01, 0.05
    x, y = step(isotropic(1.0, r**0.5), rqf.laws.Equiangular(4, 8, 0.2), h, 40_000, 2)
    surplus = free_directions(half_angle, x, y) / h - r
    assert_mean(surplus / (h * (8 + 2) / 8), 1.0, bias=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.125, 0.5])
def test_observation_noise_adds_its_variance_to_the_naive_estimate(share):
    # share = tau² over the variance p dt/2 of a step in one direction.
    h, dim = 0.004, 4
    tau = (share * h / 2) ** 0.5
    ends = step(isotropic(1.0), rqf.laws.Uniform(1, dim), h, 100_000, 3, substeps=2)
    rng = np.random.default_rng(0)
    seen = [np.asarray(end) + tau * rng.standard_normal(end.shape) for end in ends]
    x, y = (part / np.linalg.norm(part, axis=-1, keepdims=True) for part in seen)
    tangent = y - np.sum(x * y, -1, keepdims=True) * x
    naive = 2 * np.sum(tangent**2, (1, 2)) / ((dim - 1) * h)
    expected = 1 + 4 * tau**2 / h
    assert_mean(naive / expected, 1.0, bias=0.02, scores=3)


@pytest.mark.slow
def test_one_token_has_no_information_on_two_strengths():
    ys = unit_tokens(5, 4)[None, :, None]
    steps = whitened_steps(jnp.asarray(ys), jnp.full(4, 0.01), None, jnp.asarray(1.0))
    found = np.asarray(information(jnp.log(jnp.asarray([1.0, 0.3])), steps))
    assert abs(np.linalg.det(found)) < 1e-14 * found[0, 0] * found[1, 1]


@pytest.mark.slow
def test_one_long_step_of_the_linear_flow_has_the_exact_mean_square():
    # E tr HᵀH = n exp((n-1)(n+2) p t/n) of the flow with determinant 1; p t = 0.2, n = 6.
    dim, time, members = 6, 0.2, 200_000
    noise = rqf.noises.IsotropicNoise(symmetric=1.0, antisymmetric=0.0)

    def square(normal, corrected):
        dw = normal * time**0.5
        at, h = jnp.zeros(()), jnp.asarray(time)
        omega = noise.log_flow(at, dw, h, 4) if corrected else -noise.matrix(at, dw)
        omega = omega - jnp.trace(omega) / dim * jnp.eye(dim)
        flow = term = jnp.eye(dim)
        for k in range(1, 16):
            term = term @ omega / k
            flow = flow + term
        return jnp.sum(flow**2)

    normals = jax.random.normal(jax.random.key(4), (members // 2, dim, dim))
    many = jax.jit(jax.vmap(square, (0, None)), static_argnums=1)
    exact = dim * np.exp((dim - 1) * (dim + 2) * time / dim)
    corrected, plain = (
        np.asarray(many(normals, kind) + many(-normals, kind)) / 2 / exact for kind in (True, False)
    )
    assert_mean(corrected, 1.0, bias=0.005, scores=3)
    assert plain.mean() < 0.9
