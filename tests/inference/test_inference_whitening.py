"""Increments and whitening of one step, against the dense law and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic, unit_tokens

import rqf_jax as rqf
from rqf_jax.inference import choose, half_angle, logarithm, whiten
from rqf_jax.theory import sphere

many = jax.jit(jax.vmap(whiten))


def covariance_parts(x):
    """The two terms of Cov(V_a, V_b)/(dt/2): factors of p + r and p - r, (N n, N n)."""
    tokens, dim = x.shape
    tangent = np.eye(dim) - np.einsum("ai,aj->aij", x, x)
    alike = np.einsum("ab,aij,bjk->aibk", x @ x.T, tangent, tangent)
    seen = np.einsum("aij,bj->abi", tangent, x)
    crossed = np.einsum("abi,baj->aibj", seen, seen)
    return (part.reshape(tokens * dim, -1) for part in (alike, crossed))


def dense_deviance(x, v, p, r, dt):
    """-2 ln of the density of the increments on the range of their covariance."""
    alike, crossed = covariance_parts(x)
    values, vectors = np.linalg.eigh((dt / 2) * ((p + r) * alike + (p - r) * crossed))
    kept = values > 1e-9 * dt
    return np.sum(np.log(values[kept]) + (vectors[:, kept].T @ v.ravel()) ** 2 / values[kept])


def whitened_deviance(w, p, r, dt):
    weights, z = np.asarray(w.w)[w.mixed], np.asarray(w.z)[w.mixed]
    outside, mixed = (p + r) / 2, p * weights + r * (1 - weights)
    groups = [(w.n_s, w.q_s, p), (w.n_a, w.q_a, r), (w.n_o, w.q_o, outside)]
    total = sum(n * np.log(value) + q / (value * dt) for n, q, value in groups if n)
    return total + float(np.sum(np.log(mixed) + z**2 / (mixed * dt)))


@pytest.mark.parametrize(
    ("tokens", "dim"),
    [
        *(
            pytest.param(*sizes, marks=pytest.mark.slow)
            for sizes in ((1, 4), (2, 2), (3, 3), (6, 7), (12, 14))
        ),
        (3, 5),
    ],
)
def test_the_closed_form_is_the_dense_law(tokens, dim):
    x = unit_tokens(tokens, dim, seed=3)
    v = np.random.default_rng(0).standard_normal((3, tokens, dim, dim))
    # Increments in the range of the covariance: any matrix applied to the tokens.
    v = np.einsum("kaij,aj->kai", v[:, :1] + 0 * v, x)
    v = v - np.sum(v * x, -1, keepdims=True) * x
    found = many(jnp.broadcast_to(x, v.shape), jnp.asarray(v))
    for k in range(3):
        w = jax.tree.map(lambda leaf, k=k: leaf[k], found)
        dense, ours = (
            np.diff([f(p, r) for p, r in [(1.0, 0.4), (0.7, 1.3), (2.0, 0.05)]])
            for f in (
                lambda p, r, k=k: dense_deviance(x, v[k], p, r, 0.1),
                lambda p, r, w=w: whitened_deviance(w, p, r, 0.1),
            )
        )
        np.testing.assert_allclose(ours, dense, rtol=1e-10)
        assert w.dof == sphere.symmetric_rank(tokens, dim)
        free = float(w.n_a) + float(np.sum(w.mixed)) + float(w.n_s + w.n_o)
        assert free == sphere.full_rank(tokens, dim)


def test_symmetric_noise_leaves_the_null_space_free_and_antisymmetric_noise_the_pair_angles():
    x = unit_tokens(3, 5)
    matrix = np.random.default_rng(1).standard_normal((5, 5))
    for sign, silent, heard in ((1, "q_a", "q_s"), (-1, "q_s", "q_a")):
        image = x @ (matrix + sign * matrix.T)
        v = image - np.sum(image * x, -1, keepdims=True) * x
        w = jax.tree.map(lambda leaf: leaf[0], many(jnp.asarray(x)[None], jnp.asarray(v)[None]))
        assert float(getattr(w, silent)) < 1e-20 < 1e-3 < float(getattr(w, heard))


@pytest.mark.slow
def test_orthogonal_tokens_lose_the_mixed_numbers_and_everything_stays_finite():
    x, v = jnp.eye(3, 5), jnp.asarray(unit_tokens(3, 5, seed=2)) * (1 - jnp.eye(3, 5))
    w = jax.tree.map(lambda leaf: leaf[0], many(x[None], v[None]))
    assert not np.any(w.mixed) and w.dof == sphere.symmetric_rank(3, 5) - 2
    # What would be mixed is of the antisymmetric noise alone.
    assert w.n_a + w.dof == sphere.full_rank(3, 5)

    def loss(x, v):
        w = whiten(x, v)
        return w.q_s + w.q_a + w.q_o + jnp.sum(w.z)

    for gradient in jax.jit(jax.grad(loss, argnums=(0, 1)))(x, v):
        assert np.all(np.isfinite(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [4, 12])
def test_tokens_that_do_not_count_change_nothing(tokens):
    kept = tokens - 2
    x = jnp.asarray(unit_tokens(tokens, 14)).at[kept:].set(jnp.eye(1, 14))
    v = jnp.asarray(unit_tokens(tokens, 14, seed=5))
    v = v - jnp.sum(v * x, -1, keepdims=True) * x
    padded, alone = whiten(x, v, jnp.arange(tokens) < kept), whiten(x[:kept], v[:kept])
    for name in ("q_s", "q_a", "q_o", "n_s", "n_a", "n_o", "tokens", "dof"):
        np.testing.assert_allclose(getattr(padded, name), getattr(alone, name), rtol=1e-10)
    np.testing.assert_allclose(jnp.sum(padded.z**2), jnp.sum(alone.z**2), rtol=1e-10)
    nothing = whiten(x, v, jnp.zeros(tokens, bool))
    assert not any(float(getattr(nothing, name)) for name in ("q_s", "q_a", "q_o", "n_a", "dof"))


@pytest.mark.slow
@pytest.mark.parametrize("distance", [0.01, 0.004])
def test_single_precision_errs_by_epsilon_over_the_distance_of_dependent_tokens(distance):
    # With one factorisation it is up to 110 and 340 times that quotient.
    bound = 20 * np.finfo(np.float32).eps / distance
    matrix = np.random.default_rng(0).standard_normal((30, 30))
    for seed in range(3):
        x = unit_tokens(12, 30, seed=seed)
        x[-1] = x[0] + x[1] + distance * x[-1]
        x = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
        v = x @ (matrix + matrix.T)
        v = (v - np.sum(v * x, -1, keepdims=True) * x).astype(np.float32)
        single = whiten(jnp.asarray(x), jnp.asarray(v))
        double = whiten(jnp.asarray(x, float), jnp.asarray(v, float))
        assert single.q_s.dtype == np.float32
        for name in ("q_s", "q_o"):
            np.testing.assert_allclose(getattr(single, name), getattr(double, name), rtol=bound)


@pytest.mark.parametrize(("tokens", "dim"), [(7, 3), pytest.param(6, 8, marks=pytest.mark.slow)])
def test_choosing_is_pivoted_cholesky(tokens, dim):
    for seed in range(4):
        x = unit_tokens(tokens, dim, seed=seed)
        rest, expected = x.copy(), []
        while len(expected) < min(tokens, dim):
            squares = np.sum(rest**2, 1)
            pivot = int(np.argmax(squares))
            if squares[pivot] < 0.4:
                break
            expected.append(pivot)
            unit = rest[pivot] / np.sqrt(squares[pivot])
            rest = rest - np.outer(rest @ unit, unit)
        available = jnp.ones(tokens, bool)
        indices, active = choose(jnp.asarray(x), jnp.asarray(0.4), available)
        count = len(expected)
        assert list(np.asarray(active)) == [i < count for i in range(min(tokens, dim))]
        assert list(np.asarray(indices)[:count]) == expected


def test_tokens_that_are_away_equal_or_opposite_are_not_chosen_twice():
    x = jnp.asarray(unit_tokens(3, 4))
    x = jnp.concatenate([x, x[:1], -x[1:2]])
    available = jnp.asarray([True, True, False, True, True])
    indices, active = choose(x, jnp.asarray(1e-9), available)
    assert int(jnp.sum(active)) == 2
    assert {int(i) % 3 for i in indices[:2]} == {0, 1}


def test_half_angles_are_odd_under_reversal_of_time_and_end_at_their_largest():
    x, y = jnp.asarray(unit_tokens(4, 3)), jnp.asarray(unit_tokens(4, 3, seed=1))
    (middle, v), (back, u) = half_angle(x, y), half_angle(y, x)
    np.testing.assert_allclose(middle, back, atol=1e-15)
    np.testing.assert_allclose(v, -u, atol=1e-15)
    cosine = jnp.sum(x * y, -1)
    expected = 2 * jnp.tan(jnp.minimum(jnp.arccos(cosine), 2.5) / 2)
    np.testing.assert_allclose(jnp.linalg.norm(v, axis=-1), expected, rtol=1e-12)
    np.testing.assert_allclose(jnp.sum(v * middle, -1), 0, atol=1e-14)
    np.testing.assert_allclose(jnp.linalg.norm(logarithm(x, y), axis=-1), jnp.arccos(cosine))
    for f in (lambda x, y: half_angle(x, y)[1], logarithm):
        slope = jax.jit(jax.grad(lambda y, f=f: jnp.sum(f(x, y) * y)))
        for end in (x, -x):
            gradient = slope(end)
            assert np.all(np.isfinite(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("dim", [3, 8, 32])
def test_the_step_error_of_one_token_is_a_quarter_in_every_dimension(dim):
    h = 0.16 / dim
    runs = rqf.simulate(
        isotropic(1.0),
        rqf.laws.Uniform(1, dim),
        jnp.asarray([0.0, h]),
        substeps=4,
        members=20_000,
        key=jax.random.key(dim),
    )
    x, y = runs.ys[:, 0, 0], runs.ys[:, 1, 0]
    variance = (dim - 1) * h / 2
    cosine = jnp.sum(x * y, -1)
    # The mean cosine is known exactly, so that its fluctuation can be taken off.
    surplus = 2 * (1 - cosine) - 2 * (1 - jnp.exp(-variance / 2))
    half = jnp.sum(half_angle(x, y)[1] ** 2, -1) - surplus
    plain = jnp.sum((y - cosine[:, None] * x) ** 2, -1) - surplus
    logs = jnp.sum(logarithm(x, y) ** 2, -1) - surplus
    assert_mean(half / variance, 1 + h / 4, bias=0.3 * h**2 + 0.02 * h)
    assert_mean(logs / variance, 1 - (dim - 2) * h / 12, bias=0.1 * (dim * h) ** 2)
    exact = (2 / (dim * h)) * (1 - np.exp(-dim * h / 2))
    assert_mean(plain / variance, exact)


@pytest.mark.slow
def test_the_null_space_moves_by_the_commutators_and_by_nothing_without_them():
    def null_ratio(substeps, increments):
        h, dim = 0.02, 5
        runs = rqf.simulate(
            isotropic(1.0),
            rqf.laws.Equiangular(3, dim, 0.2),
            jnp.asarray([0.0, h]),
            substeps=substeps,
            members=8000,
            key=jax.random.key(5),
            solver=None if substeps > 1 else rqf.solvers.GeodesicHeun(),
        )
        w = many(*jax.vmap(increments)(runs.ys[:, 0], runs.ys[:, 1]))
        return np.asarray(w.q_a) / (h * h * (dim + 2) / 8)

    assert_mean(null_ratio(8, half_angle), 1.0, bias=0.03)
    at_start = null_ratio(8, lambda x, y: (x, logarithm(x, y)))
    assert at_start.mean() > 1.25
    assert null_ratio(1, half_angle).mean() < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("tokens", "dim"), [(3, 5), (6, 7)])
def test_single_precision_is_enough(tokens, dim):
    rng = np.random.default_rng(0)
    x = unit_tokens(tokens, dim, seed=3)
    y = x + 1e-3 * rng.standard_normal(x.shape) @ np.eye(dim)
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    found = []
    for dtype in (jnp.float32, jnp.float64):
        middle, v = half_angle(jnp.asarray(x, dtype), jnp.asarray(y, dtype))
        w = many(middle[None], v[None])
        found.append([float(q[0]) for q in (w.q_s, w.q_a, w.q_o, jnp.sum(w.z**2, -1))])
    np.testing.assert_allclose(found[0], found[1], rtol=3e-3)
