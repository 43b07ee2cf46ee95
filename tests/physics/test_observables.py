"""Theorems about the observables of one state of tokens."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rqf_jax.observables import (
    angles,
    cluster_signs,
    effective_rank,
    gram,
    log_det_gram,
    nematic_order,
    overlaps,
    polar_order,
)
from rqf_jax.observables._state import one_state

SMOOTH = [gram, overlaps, angles, log_det_gram, polar_order, nematic_order]
INVARIANT = [*SMOOTH, cluster_signs]
SHAPES = [(2, 2), (5, 3), (6, 40)]


def uniform(shape, seed=0, dtype=np.float64):
    """Independent uniform tokens, normalised in float64."""
    x = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray((x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(dtype))


def equiangular(tokens, dim, overlap):
    """Tokens with every overlap equal, the rows of the Cholesky factor of their Gram matrix."""
    target = np.full((tokens, tokens), overlap) + (1 - overlap) * np.eye(tokens)
    return jnp.asarray(np.pad(np.linalg.cholesky(target), ((0, 0), (0, dim - tokens))))


def with_condition_number(tokens, dim, condition, seed=0):
    """Unit tokens, as float32, whose singular values spread over about `condition`."""
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.normal(size=(tokens, tokens)))
    right, _ = np.linalg.qr(rng.normal(size=(dim, tokens)))
    x = left * np.geomspace(1, 1 / condition, tokens) @ right.T
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def stored_and_exact(x, distance):
    """Pairs x_0, x_0 + distance x_1 as float32 tokens; these tokens normalised in float64."""
    x[:, 1] = x[:, 0] + distance * x[:, 1]
    stored = (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
    exact = stored.astype(np.float64)
    return jnp.asarray(stored), exact / np.linalg.norm(exact, axis=-1, keepdims=True)


def exact_log_det(x):
    return 2 * np.sum(np.log(np.linalg.svd(np.asarray(x, np.float64), compute_uv=False)))


@pytest.mark.parametrize("function", INVARIANT)
@pytest.mark.parametrize(
    "shape", [SHAPES[1], *(pytest.param(s, marks=pytest.mark.slow) for s in SHAPES[::2])]
)
def test_a_common_rotation_changes_no_observable(function, shape):
    x = uniform(shape)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(shape[1],) * 2))[0]
    np.testing.assert_allclose(function(x @ rotation), function(x), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("function", [gram, overlaps, angles, log_det_gram, polar_order])
@pytest.mark.parametrize(
    "shape", [(4, 7), *(pytest.param(s, marks=pytest.mark.slow) for s in ((2, 3), (6, 40)))]
)
def test_coordinates_of_the_span_keep_every_observable_without_a_dimension(function, shape):
    x = uniform(shape)
    in_span = jnp.asarray(np.linalg.qr(x.T)[1].T)
    np.testing.assert_allclose(function(in_span), function(x), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_overlaps_are_the_upper_triangle_of_the_gram_matrix_row_by_row(shape):
    x = uniform(shape)
    expected = np.asarray(gram(x))[np.triu_indices(shape[0], 1)]
    np.testing.assert_allclose(overlaps(x), expected, atol=4e-15)
    np.testing.assert_allclose(np.diagonal(gram(x)), 1, atol=4e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_angles_are_the_arccosines_of_the_overlaps_away_from_the_ends(shape):
    x = uniform(shape)
    r = np.asarray(gram(x))[np.triu_indices(shape[0], 1)]
    assert np.max(np.abs(r)) < 0.99
    np.testing.assert_allclose(angles(x), np.arccos(r), rtol=1e-13)


@pytest.mark.parametrize("overlap", [-0.2, 0.0, 0.3, 0.95])
def test_equiangular_tokens_have_their_closed_forms(overlap):
    tokens, dim, r = 4, 6, overlap
    x = equiangular(tokens, dim, r)
    np.testing.assert_allclose(overlaps(x), np.full(6, r), atol=1e-14)
    np.testing.assert_allclose(angles(x), np.full(6, np.arccos(r)), atol=1e-12)
    log_det = (tokens - 1) * math.log1p(-r) + math.log1p((tokens - 1) * r)
    np.testing.assert_allclose(log_det_gram(x), log_det, atol=1e-12)
    np.testing.assert_allclose(polar_order(x), np.sqrt((1 + (tokens - 1) * r) / tokens), atol=1e-14)
    trace = (1 + (tokens - 1) * r * r) / tokens
    np.testing.assert_allclose(
        nematic_order(x), np.sqrt(dim / (dim - 1) * (trace - 1 / dim)), atol=1e-14
    )
    np.testing.assert_array_equal(cluster_signs(x), [1, *[1 if r >= 0 else -1] * 3])


@pytest.mark.parametrize("theta", [1e-12, 1e-3, 0.4, math.pi / 2, 3.0, math.pi - 1e-6])
def test_a_pair_at_angle_theta_has_log_det_2_log_sin_theta(theta):
    x = jnp.array([[1.0, 0.0], [math.cos(theta), math.sin(theta)]])
    np.testing.assert_allclose(angles(x)[0], theta, rtol=1e-14)
    np.testing.assert_allclose(log_det_gram(x), 2 * math.log(math.sin(theta)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_square_of_the_polar_order_is_the_mean_of_the_gram_matrix(shape):
    x = uniform(shape)
    np.testing.assert_allclose(polar_order(x) ** 2, jnp.mean(gram(x)), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_trace_in_the_nematic_order_is_the_mean_squared_overlap(shape):
    x, n = uniform(shape), shape[1]
    expected = np.sqrt(n / (n - 1) * (np.mean(np.asarray(gram(x)) ** 2) - 1 / n))
    np.testing.assert_allclose(nematic_order(x), expected, rtol=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 5])
@pytest.mark.parametrize("cosine", [0.97, 0.8, 0.6])
def test_the_nematic_order_of_uniaxial_tokens_is_the_one_of_the_largest_eigenvalue(dim, cosine):
    """Tokens ±(cosine e_0 ± sine e_i), i ≥ 1: uniaxial about e_0, here with λ_max along e_0."""
    cosine = max(cosine, 1.05 / math.sqrt(dim))
    axis, others = np.eye(dim)[:1], np.eye(dim)[1:]
    sine = math.sqrt(1 - cosine**2)
    x = np.concatenate([cosine * axis + sine * others, cosine * axis - sine * others])
    x = np.concatenate([x, -x])
    largest = np.linalg.eigvalsh(x.T @ x / len(x))[-1]
    np.testing.assert_allclose(largest, cosine**2, rtol=1e-12)
    expected = (dim * largest - 1) / (dim - 1)
    np.testing.assert_allclose(nematic_order(jnp.asarray(x)), expected, rtol=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3, 8])
def test_tokens_on_one_line_have_nematic_order_1_and_their_polar_order_is_the_mean_sign(dim):
    axis, signs = uniform((1, dim)), np.array([1.0, 1, -1, 1, -1, 1, 1])
    x = jnp.asarray(signs[:, None] * np.asarray(axis))
    np.testing.assert_allclose(nematic_order(x), 1, rtol=1e-14)
    np.testing.assert_allclose(polar_order(x), 3 / 7, rtol=1e-14)
    np.testing.assert_array_equal(cluster_signs(x), signs)


@pytest.mark.parametrize("dim", [2, 3, 8])
def test_independent_uniform_tokens_have_mean_squared_orders_1_over_tokens(dim):
    tokens, members = 10, 20_000
    x = uniform((members, tokens, dim), seed=dim)
    for order in (polar_order, nematic_order):
        square = np.asarray(jax.vmap(order)(x)) ** 2
        error = square.std(ddof=1) / math.sqrt(members)
        assert abs(square.mean() - 1 / tokens) < 5 * error


def test_both_orders_of_many_uniform_tokens_vanish():
    x = uniform((100_000, 3))
    assert polar_order(x) < 5 / math.sqrt(100_000)
    assert nematic_order(x) < 5 / math.sqrt(100_000)


@pytest.mark.parametrize("dim", [3, *(pytest.param(dim, marks=pytest.mark.slow) for dim in (2, 6))])
def test_an_orthonormal_frame_has_no_nematic_order_and_a_finite_gradient(dim):
    for x in (jnp.eye(dim), jnp.concatenate([jnp.eye(dim), -jnp.eye(dim)])):
        value, gradient = jax.value_and_grad(nematic_order)(x)
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


def test_balanced_tokens_have_no_polar_order_and_a_zero_gradient():
    value, gradient = jax.value_and_grad(polar_order)(jnp.array([[0.6, 0.8], [-0.6, -0.8]]))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("function", SMOOTH)
@pytest.mark.parametrize(
    "shape", [(4, 6), *(pytest.param(s, marks=pytest.mark.slow) for s in ((2, 3), (3, 12)))]
)
def test_gradients_are_central_differences(function, shape):
    x, direction = uniform(shape), uniform(shape, seed=1)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=function(x).shape))

    @jax.jit
    def scalar(step):
        return jnp.sum(weights * function(x + step * direction))

    h = 1e-3  # Richardson's combination has error O(h^4)
    coarse, fine = ((scalar(s) - scalar(-s)) / (2 * s) for s in (h, h / 2))
    np.testing.assert_allclose(jax.grad(scalar)(0.0), (4 * fine - coarse) / 3, rtol=1e-6)


def test_the_gradient_of_log_det_gram_is_twice_the_pseudoinverse():
    x = uniform((4, 9))
    np.testing.assert_allclose(
        jax.grad(log_det_gram)(x), 2 * np.linalg.pinv(x).T, rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("function", [gram, overlaps, angles, polar_order, nematic_order])
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_gradients_are_finite_at_coincident_and_antipodal_tokens(function, sign, dtype):
    x = uniform((3, 4), dtype=dtype)
    jacobian = jax.jit(jax.jacobian(function))(x.at[1].set(sign * x[0]))
    assert jacobian.dtype == dtype
    assert np.all(np.isfinite(jacobian))


@pytest.mark.parametrize(("sign", "angle"), [(1.0, 0.0), (-1.0, math.pi)])
def test_the_angle_at_its_cone_tips_is_exact_with_zero_gradient(sign, angle):
    x = uniform((1, 5))
    pair = jnp.concatenate([x, sign * x])
    value, gradient = jax.value_and_grad(lambda state: angles(state)[0])(pair)
    assert value == angle
    assert overlaps(pair)[0] == sign
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("function", INVARIANT)
@pytest.mark.parametrize("shape", SHAPES)
def test_jit_and_vmap_change_nothing(function, shape):
    batch = uniform((3, *shape))
    mapped = jax.jit(jax.vmap(function))(batch)
    for member, value in zip(batch, mapped, strict=True):
        np.testing.assert_allclose(function(member), value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("function", INVARIANT)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_observable_has_the_dtype_of_the_state(function, dtype):
    for shape in ((3, 5), (5, 3), (1, 1)):
        assert jax.eval_shape(function, uniform(shape, dtype=dtype)).dtype == dtype


def test_float32_angles_of_tokens_1e_5_apart_are_relatively_accurate():
    pair = np.array([[1, 0, 0], [1, 1e-5, 0]], np.float32)
    np.testing.assert_allclose(angles(jnp.asarray(pair))[0], 1e-5, rtol=3e-7)
    pair[1, 0] = -1
    np.testing.assert_allclose(math.pi - float(angles(jnp.asarray(pair))[0]), 1e-5, rtol=0.02)
    assert np.arccos(np.float32(pair[1] @ pair[1])) == 0  # what the arccosine makes of it
    stored, exact = stored_and_exact(np.array(uniform((50, 2, 16))), 1e-5)
    expected = 2 * np.arcsin(np.linalg.norm(exact[:, 0] - exact[:, 1], axis=-1) / 2)
    np.testing.assert_allclose(jax.vmap(angles)(stored)[:, 0], expected, rtol=2e-4)


@pytest.mark.parametrize("distance", [0.0, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_float32_overlaps_of_near_parallel_tokens_are_correct_to_rounding_and_at_most_1(
    distance, sign
):
    stored, exact = stored_and_exact(np.array(uniform((500, 2, 16))), distance)
    stored = stored.at[:, 1].multiply(sign)
    expected = sign * np.sum(exact[:, 0] * exact[:, 1], -1)
    got = np.asarray(jax.vmap(overlaps)(stored), np.float64)[:, 0]
    assert np.max(np.abs(got)) <= 1
    assert np.max(np.abs(got - expected)) <= np.finfo(np.float32).eps / 2  # the spacing below 1


@pytest.mark.slow
def test_float32_log_det_of_ill_conditioned_tokens_keeps_what_the_gram_determinant_loses():
    from_tokens, from_gram = [], []
    for seed in range(20):
        x = with_condition_number(4, 12, 1e4, seed)
        expected = exact_log_det(x)
        from_tokens.append(abs(float(log_det_gram(jnp.asarray(x))) - expected))
        sign, log_det = np.linalg.slogdet(x @ x.T)
        from_gram.append(abs(log_det - expected) if sign > 0 else math.inf)
    assert max(from_tokens) < 1e-2
    assert np.median(from_gram) > 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape",
    [(2, 3), (20, 64), *(pytest.param(s, marks=pytest.mark.slow) for s in ((2, 2), (4, 8)))],
)
def test_log_det_of_dependent_tokens_is_minus_infinity(shape, dtype):
    x = np.array(uniform((50, *shape), dtype=dtype))
    x[:, -1] = -x[:, 0]
    np.testing.assert_array_equal(jax.vmap(log_det_gram)(jnp.asarray(x)), -math.inf)
    assert log_det_gram(uniform((shape[1] + 1, shape[1]), dtype=dtype)) == -math.inf


def test_token_0_is_in_its_own_cluster_and_an_orthogonal_token_counts_as_positive():
    x = jnp.array([[-1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-0.6, 0.8]])
    np.testing.assert_array_equal(cluster_signs(x), [1, 1, -1, 1])


def test_one_token_has_no_pairs():
    x = uniform((1, 3))
    assert overlaps(x).shape == angles(x).shape == (0,)
    np.testing.assert_allclose(log_det_gram(x), 0, atol=1e-15)
    np.testing.assert_allclose(nematic_order(x), 1, rtol=1e-15)


@pytest.mark.parametrize("shape", [(3,), (7, 4, 3), (0, 3), (3, 0)])
def test_a_state_of_other_axes_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=r"`x` must be one state \(tokens, dim\); got shape") as e:
        one_state(np.zeros(shape))
    assert str(shape) in str(e.value)


def test_effective_rank_counts_the_directions_of_the_tokens():
    rank, slope = jax.jit(effective_rank), jax.jit(jax.grad(effective_rank))
    line = jnp.asarray(np.outer([1.0, -1.0, 1.0, 1.0], uniform((1, 4))[0]))
    # Eigenvalues 3/4 and 1/4: S = 2 ln 2 - (3/4) ln 3.
    two = jnp.asarray(np.eye(4)[[0, 0, 0, 1]])
    states = [line, jnp.eye(4), two]
    for x, expected in zip(states, [1, 4, 4 / 3**0.75], strict=True):
        assert rank(x) == pytest.approx(expected, rel=1e-6)
        assert np.all(np.isfinite(slope(x)))
    x = uniform((3, 5))
    assert rank(x) == pytest.approx(float(rank(jnp.concatenate([x, x, -x]))))
