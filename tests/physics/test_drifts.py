"""Theorems about the drifts: two routes to one velocity, closed forms of their flows, bad input."""

import functools
import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import slope, unit_tokens
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm

import rqf_jax as rqf
from rqf_jax.drifts import (
    Attention,
    Constant,
    Linear,
    MeanField,
    NoDrift,
    Oja,
    Scheduled,
    SelectiveStateSpace,
    Sum,
    UnnormalisedAttention,
    causal_mask,
)
from rqf_jax.schedules import Exponential, PiecewiseLinear
from rqf_jax.theory import mamba

SPHERE, FLAT = rqf.manifolds.Sphere(), rqf.manifolds.Euclidean()
TIME = jnp.zeros(())
rng = np.random.default_rng(0)


def matrices(dim, seed=0):
    """A query-key and a value matrix without symmetry."""
    return np.random.default_rng(seed).standard_normal((2, dim, dim))


def by_hand(x, beta, query_key, value, allowed, normalised):
    """The two kinds of attention as loops over tokens."""
    out = np.zeros_like(x)
    for i, xi in enumerate(x):
        weights = np.array([math.exp(beta * xi @ query_key @ xj) for xj in x]) * allowed[i]
        total = weights.sum() if normalised else len(x)
        out[i] = sum(w * value @ xj for w, xj in zip(weights, x, strict=True)) / total
    return out


@pytest.mark.parametrize("dim", [3, 6])
@pytest.mark.parametrize("kind", [Attention, UnnormalisedAttention])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_weighted_mean_of_the_values(kind, dim, masked):
    x, (query_key, value) = unit_tokens(7, dim), matrices(dim)
    mask = causal_mask(7) if masked else None
    drift = kind(0.8, -1.5, query_key=query_key, value=value, mask=mask)
    allowed = np.tril(np.ones((7, 7))) if masked else np.ones((7, 7))
    expected = -1.5 * by_hand(x, 0.8, query_key, value, allowed, kind is Attention)
    np.testing.assert_allclose(drift(TIME, jnp.asarray(x)), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [Attention, UnnormalisedAttention])
@pytest.mark.parametrize(
    "chunk_size", [5, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 8, 100))]
)
def test_attention_in_chunks_is_attention_and_so_is_its_gradient(kind, chunk_size):
    x, (query_key, value) = jnp.asarray(unit_tokens(16, 5)), matrices(5)
    make = functools.partial(kind, 2.0, query_key=query_key, value=value, mask=causal_mask(16))

    @jax.jit
    def velocity_and_gradient(drift, x):
        return drift(TIME, x), jax.grad(lambda y: jnp.sum(drift(TIME, y) ** 2))(x)

    whole = velocity_and_gradient(make(), x)
    chunked = velocity_and_gradient(make(chunk_size=chunk_size), x)
    for found, expected in zip(chunked, whole, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-13)


def temporary_bytes(drift, x):
    return (
        jax.jit(lambda x: drift(TIME.astype(x.dtype), x))
        .lower(x)
        .compile()
        .memory_analysis()
        .temp_size_in_bytes
    )


def test_attention_holds_a_few_matrices_of_scores_and_in_chunks_a_few_rows_of_them():
    x = jax.ShapeDtypeStruct((1024, 64), jnp.float32)
    square = 1024 * 1024 * 4
    beta = jnp.asarray(1.0, jnp.float32)
    assert temporary_bytes(Attention(beta, beta), x) < 3 * square
    assert temporary_bytes(Attention(beta, beta, chunk_size=64), x) < square / 2


@pytest.mark.slow
def test_four_thousand_tokens_in_chunks_never_hold_a_matrix_of_scores():
    x = jax.ShapeDtypeStruct((4096, 64), jnp.float32)
    drift = Attention(jnp.float32(1.0), jnp.float32(1.0), chunk_size=64)
    square = 4096 * 4096 * 4
    assert temporary_bytes(drift, x) < square / 4

    def slope(t, x):
        return jax.grad(lambda x: jnp.sum(drift(t, x) ** 2))(x)

    assert temporary_bytes(slope, x) < square / 2


def test_heads_are_a_sum_and_every_head_attends_by_its_own_matrices():
    x = unit_tokens(6, 4)
    pairs = [matrices(4, seed) for seed in (1, 2)]
    heads = Sum(*(Attention(1.3, query_key=m, value=v) for m, v in pairs))
    expected = sum(by_hand(x, 1.3, m, v, np.ones((6, 6)), True) for m, v in pairs)
    np.testing.assert_allclose(heads(TIME, jnp.asarray(x)), expected, rtol=1e-12)


def test_attention_without_temperature_is_the_mean_field_and_the_uniform_oja_flow():
    x = jnp.asarray(unit_tokens(6, 4))
    expected = MeanField(0.7)(TIME, x)
    np.testing.assert_allclose(expected[3], 0.7 * np.mean(x, axis=0), rtol=1e-14)
    for drift in (
        Attention(0.0, 0.7),
        UnnormalisedAttention(0.0, 0.7),
        Oja(np.full((6, 6), 1 / 6), 0.7 * np.eye(4)),
    ):
        np.testing.assert_allclose(drift(TIME, x), expected, atol=1e-14)


@pytest.mark.parametrize("weights", [None, "rows that sum to one"])
def test_the_oja_model_couples_tokens_by_fixed_weights(weights):
    x, value = unit_tokens(5, 3), matrices(3)[0]
    if weights is not None:
        weights = np.random.default_rng(5).dirichlet(np.ones(5), 5)
    mixing = np.eye(5) if weights is None else weights
    ambient = np.array(
        [sum(w * value @ xj for w, xj in zip(row, x, strict=True)) for row in mixing]
    )
    sde = rqf.models.oja(value, weights)
    found = sde.manifold.tangent(jnp.asarray(x), sde.drift(TIME, jnp.asarray(x)))
    expected = ambient - np.sum(ambient * x, 1, keepdims=True) * x
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_unnormalised_attention_is_the_gradient_of_the_interaction_energy():
    x, beta = jnp.asarray(unit_tokens(6, 4)), 1.7

    def energy(x):
        return jnp.sum(jnp.exp(beta * x @ x.T)) / (2 * beta * 36)

    np.testing.assert_allclose(
        UnnormalisedAttention(beta)(TIME, x), 6 * jax.grad(energy)(x), rtol=1e-12
    )


def test_a_causal_token_does_not_depend_on_later_ones():
    x = jnp.asarray(unit_tokens(5, 3))
    jacobian = jax.jit(jax.jacrev(lambda y: Attention(2.0, mask=causal_mask(5))(TIME, y)))(x)
    size = np.abs(np.asarray(jacobian)).max(axis=(1, 3))
    assert np.all(size[np.triu_indices(5, 1)] == 0)
    assert np.all(size[np.tril_indices(5)] > 0)


@pytest.mark.parametrize(
    ("dim", "dtype"), [(3, jnp.float32), pytest.param(6, jnp.float64, marks=pytest.mark.slow)]
)
def test_softmax_survives_any_temperature_and_so_does_its_gradient(dtype, dim):
    e = jnp.eye(1, dim, dtype=dtype)
    x = jnp.concatenate([e, e, -e, jnp.roll(e, 1, axis=1)])
    for beta, expected in ((1e4, e[0]), (-1e4, -e[0])):
        drift = Attention(jnp.asarray(beta, dtype), jnp.ones((), dtype))
        np.testing.assert_allclose(drift(TIME.astype(dtype), x)[0], expected, atol=1e-6)
        gradient = jax.grad(lambda y, d=drift: jnp.sum(d(TIME.astype(dtype), y)))(x)
        assert np.all(np.isfinite(gradient))


# ---- flows


def flow(drift, x0, ts, substeps, manifold=SPHERE):
    """One trajectory without noise."""
    sde = rqf.SDE(drift, rqf.noises.NoNoise(), manifold)
    return rqf.simulate(
        sde, rqf.laws.Fixed(x0), ts, substeps=substeps, members=1, key=jax.random.key(0)
    ).ys[0]


@pytest.mark.parametrize(
    "kind", [Attention, pytest.param(UnnormalisedAttention, marks=pytest.mark.slow)]
)
def test_equiangular_tokens_stay_equiangular_and_follow_one_equation(kind):
    tokens, beta, start, ts = 4, 1.5, -0.2, np.linspace(0.0, 2.0, 5)

    def velocity(t, gamma):
        e = np.exp(beta * gamma)
        rate = e / (np.exp(beta) + (tokens - 1) * e) if kind is Attention else e / tokens
        return 2 * rate * (1 - gamma) * (1 + (tokens - 1) * gamma)

    expected = solve_ivp(velocity, (0, 2), [start], t_eval=ts, rtol=1e-11, atol=1e-12).y[0]
    x0 = rqf.laws.Equiangular(tokens, 5, start)(jax.random.key(0))
    path = flow(kind(beta), x0, ts, substeps=800)
    for overlaps in np.asarray(jax.vmap(rqf.observables.overlaps)(path)).T:
        np.testing.assert_allclose(overlaps, expected, atol=1e-6)


@pytest.mark.slow
def test_two_tokens_without_temperature_halve_the_tangent_of_half_their_angle():
    ts = np.linspace(0.0, 3.0, 7)
    x0 = rqf.laws.Pair(2.5, 3)(jax.random.key(0))
    angle = jax.vmap(rqf.observables.angles)(flow(Attention(0.0), x0, ts, substeps=200))[:, 0]
    np.testing.assert_allclose(np.tan(angle / 2), np.tan(2.5 / 2) * np.exp(-ts), rtol=1e-5)


def test_the_oja_flow_is_the_normalised_exponential():
    x0, value, ts = unit_tokens(3, 4), matrices(4)[1], np.linspace(0.0, 1.5, 4)
    path = flow(rqf.models.oja(value).drift, x0, ts, substeps=12_000)
    for t, x in zip(ts, path, strict=True):
        moved = x0 @ expm(t * value).T
        np.testing.assert_allclose(
            x, moved / np.linalg.norm(moved, axis=1, keepdims=True), rtol=0, atol=1e-8
        )


def test_the_oja_flow_climbs_and_leaves_the_second_direction_at_the_gap():
    value = matrices(4)[1]
    value = value + value.T
    rates, vectors = np.linalg.eigh(value)
    ts = np.linspace(0.0, 1.5, 4)
    path = flow(rqf.models.oja(value).drift, unit_tokens(3, 4), ts, substeps=4000)
    height = np.einsum("tni,ij,tnj->tn", path, value, path)
    assert np.all(np.diff(height, axis=0) > 0)
    first, second = (np.log(np.abs(path @ vectors[:, k])) for k in (-1, -2))
    gap = rates[-1] - rates[-2]
    np.testing.assert_allclose(
        second - first, (second - first)[0] - gap * ts[:, None] * np.ones(3), atol=1e-6
    )


def test_layers_of_uniform_attention_contract_to_the_leading_direction_by_the_ratio():
    # Without query and key a layer is a step of the power method on the mean token.
    value = np.diag([1.5, -0.9, 0.3])
    drift, x, errors = Attention(0.0, value=value), jnp.asarray(unit_tokens(5, 3)), []
    for _ in range(25):
        x = SPHERE.project(drift(TIME, x))
        errors.append(np.linalg.norm(x[:, 1:], axis=1) / np.abs(x[:, 0]))
    np.testing.assert_allclose(errors[-1] / errors[-2], 0.9 / 1.5 * np.ones(5), rtol=1e-6)


@pytest.mark.slow
def test_a_constant_velocity_draws_a_token_along_the_meridian():
    # θ' = -|c| sin θ: tan θ/2 decays as exp(-|c| t).
    x0, ts = rqf.laws.Pair(2.0, 3)(jax.random.key(0)), np.linspace(0.0, 2.0, 5)
    path = flow(Constant([0.9, 0.0, 0.0]), x0, ts, substeps=200)
    angle = np.arccos(np.clip(path[:, 1, 0], -1, 1))
    np.testing.assert_allclose(np.tan(angle / 2), np.tan(1.0) * np.exp(-0.9 * ts), rtol=1e-5)


@pytest.mark.slow
def test_a_schedule_is_a_change_of_clock():
    points, factors = [0.0, 1.0, 3.0], [0.0, 2.0, 1.0]
    schedule = PiecewiseLinear(points, factors)
    x0, drift = unit_tokens(3, 3), Attention(1.0)
    ends = np.array([0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
    clock = np.array([quad(lambda t: np.interp(t, points, factors), 0, end)[0] for end in ends])
    scheduled = flow(Scheduled(drift, schedule), x0, ends, substeps=200)
    np.testing.assert_allclose(scheduled, flow(drift, x0, clock, substeps=200), atol=2e-5)


# ---- selective state space


def one_dimensional(mu, step=1.0, bias=0.0, decay=1.0):
    return SelectiveStateSpace([[step]], [bias], [[1.0]], [[mu]], decay)


def random_state_space(dim=3, states=2, seed=0):
    r = np.random.default_rng(seed)
    return SelectiveStateSpace(
        r.standard_normal((dim, dim)),
        r.standard_normal(dim),
        r.standard_normal((states, dim)),
        r.standard_normal((states, dim)),
        0.7,
    )


@pytest.mark.slow
def test_the_recurrence_is_a_masked_kernel():
    drift, x = random_state_space(), rng.standard_normal((6, 3))
    steps = np.logaddexp(0, x @ np.asarray(drift.step).T + np.asarray(drift.step_bias))
    age = np.cumsum(steps, axis=0)
    expected = np.zeros_like(x)
    for i in range(6):
        for j in range(i + 1):
            score = (np.asarray(drift.outputs) @ x[i]) @ (np.asarray(drift.inputs) @ x[j])
            expected[i] += score * steps[j] * np.exp(-0.7 * (age[i] - age[j])) * x[j]
    np.testing.assert_allclose(drift(TIME, jnp.asarray(x)), expected, rtol=1e-12)


def test_a_token_of_a_state_space_does_not_depend_on_later_ones():
    drift, x = random_state_space(), jnp.asarray(rng.standard_normal((5, 3)))
    size = np.abs(jax.jit(jax.jacrev(lambda y: drift(TIME, y)))(x)).max(axis=(1, 3))
    assert np.all(size[np.triu_indices(5, 1)] <= 1e-14)


def solve(drift, x0, t1, solver, event=None):
    """By an adaptive solver of diffrax: the velocity serves any of them."""
    sde = rqf.SDE(drift, rqf.noises.NoNoise(), FLAT)
    return diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: sde.drift(t, y)),
        solver,
        0.0,
        t1,
        None,
        jnp.asarray(x0),
        stepsize_controller=diffrax.PIDController(rtol=1e-9, atol=1e-12),
        event=event,
        max_steps=20_000,
    )


@pytest.mark.slow
def test_for_negative_mu_tokens_decay_as_one_over_root_t_with_the_stated_constants():
    ends = [1e4, 1e5]
    x0, stiff = [[1.0], [0.8], [0.5]], diffrax.Kvaerno5()
    x = np.array([solve(one_dimensional(-1.0), x0, t, stiff).ys[0, :, 0] for t in ends])
    assert slope(ends, x[:, 0]) == pytest.approx(-0.5, abs=0.01)
    first, later = x[1, 0] * math.sqrt(1e5), x[1, 1:] * math.sqrt(1e5)
    assert first == pytest.approx((2 * math.log(2)) ** -0.5, rel=0.01)
    np.testing.assert_allclose(later, ((1 - 0.5) / (2 * math.log(2))) ** 0.5, rtol=0.01)


@pytest.mark.slow
def test_for_positive_mu_slow_tokens_grow_as_the_logarithm_of_time():
    # In u = ln(1 + t) the flow is slow and no longer stiff: a thousand steps a decade and less.
    decades = np.array([1e10, 1e11, 1e12])
    ts = np.concatenate([[0.0], np.log1p(decades)])
    drift = Scheduled(one_dimensional(1.0), Exponential(1.0))
    x = np.asarray(flow(drift, np.array([[-0.5], [-0.7], [-0.4]]), ts, 4000, FLAT))[1:, :, 0]
    for time, first in zip(decades, x[:, 0], strict=True):
        arrival = mamba.first_token_time(-0.5, float(first), product=1.0, step_slope=1.0)
        assert arrival == pytest.approx(time, rel=1e-4)
        grown = float(mamba.slow_growth(time, product=1.0, step_slope=1.0))
        assert -first == pytest.approx(grown, rel=5e-3)
    np.testing.assert_allclose(x[1:, 1:] / x[1:, :1], x[:-1, 1:] / x[:-1, :1], rtol=1e-3)


def test_for_positive_mu_and_a_fast_token_the_flow_blows_up_at_the_stated_time():
    def remaining(x):
        return quad(lambda x: 1 / (x**3 * np.logaddexp(0, x)), x, np.inf, epsabs=1e-12)[0]

    event = diffrax.Event(lambda t, y, args, **kwargs: y[0, 0] > 100)
    found = solve(one_dimensional(1.0), [[0.5]], 2.0, diffrax.Tsit5(), event)
    blow_up = float(found.ts[0]) + remaining(float(found.ys[0, 0, 0]))
    assert blow_up == pytest.approx(remaining(0.5), rel=1e-5)
    assert blow_up == pytest.approx(1.676939, abs=1e-5)


def test_the_sign_of_mu_alone_decides_between_decay_and_growth():
    # ẋ_l = μ x_l Σ_{j≤l} x_j² Δ_j e^(…): every token moves away from 0, or to it, and none crosses.
    draws = np.random.default_rng(3)
    states = jnp.asarray(draws.standard_normal((1000, 4, 1)) * 3)
    signs = jnp.asarray(draws.choice([-1.0, 1.0], 1000))
    steps, biases = (jnp.asarray(draws.standard_normal(1000)) for _ in range(2))

    def radial(x, mu, step, bias):
        return (one_dimensional(mu, step, bias)(TIME, x) * x)[:, 0]

    velocity = np.asarray(jax.jit(jax.vmap(radial))(states, signs, steps, biases))
    assert np.all(velocity * np.asarray(signs)[:, None] > 0)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1, -1])
def test_the_first_token_on_the_sphere_ends_where_its_step_is_one_number(sign):
    # With S_C = ± S_B its velocity is ± |S_B x|² P_x(Δ x), which vanishes on the coordinate axes
    # and wherever Δ is the same in all channels that x has.
    dim, draws = 3, 60

    def last(key):
        keys = jax.random.split(key, 3)
        step, inputs = (jax.random.normal(k, (dim, dim)) for k in keys[:2])
        drift = SelectiveStateSpace(step, jnp.zeros(dim), inputs, sign * inputs)
        start = SPHERE.project(jax.random.normal(keys[2], (3, dim)))
        x = flow(drift, start, jnp.array([0.0, 600.0]), 4000)[-1]
        return x, jax.nn.softplus(step @ x[0]), SPHERE.tangent(x, drift(TIME, x))

    x, step, velocity = map(np.asarray, jax.vmap(last)(jax.random.split(jax.random.key(0), draws)))
    first = np.abs(x[:, 0])
    assert np.mean(np.abs(velocity[:, 0]).max(-1) < 1e-6) > 0.9
    settled = np.abs(velocity[:, 0]).max(-1) < 1e-6
    spread = np.array([np.ptp(d[f > 1e-3]) for d, f in zip(step, first, strict=True)])
    assert spread[settled].max() < 1e-3
    on_axis = np.mean(first[settled].max(-1) > 0.999)
    assert 0.4 < on_axis < 0.9
    if sign == 1:  # the later tokens follow it, or its opposite
        followed = np.abs(np.sum(x[:, 1:] * x[:, :1], -1))[settled]
        assert np.mean(followed > 0.99) > 0.5


def test_a_unit_gate_is_a_sigmoid():
    # a = 1: e^(-softplus(z)) = σ(-z), so one token after another is an exponential moving average.
    z = np.array([-2.0, 0.3, 1.1])
    drift, h = SelectiveStateSpace([[0.8]], [0.3], [[1.0]], [[1.0]], 1.0), 0.0
    for value, found in zip(z, np.asarray(drift(TIME, jnp.asarray(z[:, None])))[:, 0], strict=True):
        logit = 0.8 * value + 0.3
        gate, step = 1 / (1 + math.exp(-logit)), math.log1p(math.exp(logit))
        h = (1 - gate) * h + step * value**2
        assert found == pytest.approx(h * value, rel=1e-15, abs=0)


@pytest.mark.slow
def test_on_the_sphere_tokens_of_a_state_space_stay_unit_vectors_and_the_first_is_autonomous():
    drift = random_state_space()
    x0, ts = unit_tokens(4, 3), np.array([0.0, 5.0])
    sde = rqf.models.mamba_tokens(
        drift.step, drift.step_bias, drift.inputs, drift.outputs, drift.decay, SPHERE
    )
    all_four = flow(sde.drift, x0, ts, substeps=500)
    np.testing.assert_allclose(np.linalg.norm(all_four[-1], axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(
        all_four[:, :1], flow(sde.drift, x0[:1], ts, substeps=500), atol=1e-12
    )


# ---- bad input


X = jnp.asarray(unit_tokens(4, 3))
BAD = {
    "beta": (lambda: Attention(math.inf), "`beta` must be finite", "inf"),
    "two betas": (lambda: Attention([1.0, 2.0]), "`beta` must be a scalar", "(2,)"),
    "strength": (lambda: UnnormalisedAttention(1.0, math.nan), "`strength` must be finite", "nan"),
    "flat key": (
        lambda: Attention(1.0, query_key=np.ones((2, 3))),
        "`query_key` must be a square matrix",
        "(2, 3)",
    ),
    "small key": (
        lambda: Attention(1.0, query_key=np.eye(2))(TIME, X), "`query_key` must be 3 x 3", "(2, 2)",
    ),
    "small value": (
        lambda: UnnormalisedAttention(1.0, value=np.eye(2))(TIME, X),
        "`value` must be 3 x 3",
        "(2, 2)",
    ),
    "nan value": (lambda: Attention(1.0, value=np.eye(2) * math.nan), "`value` must be finite"),
    "mask of numbers": (lambda: Attention(1.0, mask=np.eye(4)), "`mask`", "booleans", "float"),
    "empty row": (
        lambda: Attention(1.0, mask=np.tril(np.ones((4, 4), bool), -1)),
        "`mask` must allow something in every row",
        "row 0",
    ),
    "mask of others": (
        lambda: Attention(1.0, mask=causal_mask(5))(TIME, X), "`mask` must be 4 x 4", "(5, 5)",
    ),
    "no chunk": (
        lambda: Attention(1.0, chunk_size=0), "`chunk_size` must be at least 1", "0",
    ),
    "no causal tokens": (lambda: causal_mask(0), "`tokens` must be at least 1", "0"),
    "negative weights": (
        lambda: Oja([[2.0, -1.0], [0.0, 1.0]], np.eye(3)), "`weights` must not be negative", "-1",
    ),
    "weights that leak": (
        lambda: Oja([[1.0, 0.0], [0.5, 0.4]], np.eye(3)), "`weights`", "row 1 sums to 0.9",
    ),
    "weights of others": (
        lambda: Oja(np.eye(5), np.eye(3))(TIME, X), "`weights` must have size 4", "(5, 5)",
    ),
    "no matrix": (lambda: Linear(None), "`matrix`", "None"),
    "matrix of others": (lambda: Linear(np.eye(2))(TIME, X), "`matrix` must have size 3", "(2, 2)"),
    "velocity": (lambda: Constant([[1.0]]), "`velocity` must be one vector", "(1, 1)"),
    "velocity of others": (
        lambda: Constant([1.0, 0.0])(TIME, X), "`velocity` must have size 3", "(2,)",
    ),
    "an empty sum": (lambda: Sum(), "`drifts` must be at least one"),
    "a sum of numbers": (lambda: Sum(NoDrift(), 1.0), "`drifts[1]` must be a drift", "1.0"),
    "a scheduled number": (
        lambda: Scheduled(1.0, PiecewiseLinear([0.0], [1.0])), "`drift` must be a drift", "1.0",
    ),
    "a schedule of our own": (
        lambda: Scheduled(NoDrift(), math.sin), "`schedule` must be a schedule of",
    ),
    "times that fall": (
        lambda: PiecewiseLinear([1.0, 0.0], [0.0, 0.0]), "`ts` must be strictly increasing",
    ),
    "rate": (lambda: Exponential(math.inf), "`rate` must be finite", "inf"),
    "values of others": (
        lambda: PiecewiseLinear([0.0, 1.0], [0.0]), "`values` must have the shape (2,)", "(1,)",
    ),
    "decay": (
        lambda: one_dimensional(1.0, decay=-1.0), "`decay` must be at least 0", "-1",
    ),
    "outputs of others": (
        lambda: SelectiveStateSpace(np.eye(2), np.zeros(2), np.ones((1, 2)), np.ones((2, 2))),
        "`outputs` must have shape (states, 2)",
        "(2, 2)",
    ),
    "bias of others": (
        lambda: SelectiveStateSpace(np.eye(2), np.zeros(3), np.ones((1, 2)), np.ones((1, 2))),
        "`step_bias` must have shape (2,)",
        "(3,)",
    ),
    "tokens of others": (
        lambda: random_state_space(dim=2)(TIME, X), "`step` must be 3 x 3", "(2, 2)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(case, refused):
    refused(*BAD[case])
