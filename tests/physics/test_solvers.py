"""Theorems about the solvers: one step on one state, and the ensemble beside plain diffrax."""

import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import assert_mean, isotropic, unit_tokens
from jaxtyping import Array, Float

import rqf_jax as rqf
from rqf_jax.solvers import GeodesicEuler, GeodesicHeun, ProjectiveFlow

SOLVERS = [ProjectiveFlow(), GeodesicEuler(), GeodesicHeun()]
OTHERS_SLOW = [SOLVERS[0], *(pytest.param(s, marks=pytest.mark.slow) for s in SOLVERS[1:])]
KEY = jax.random.key(11)


def name(value):
    return type(value).__name__


class Rotation(rqf.drifts.AbstractDrift):
    """f = speed K x in the plane of the first two axes; the flow is a rotation."""

    speed: Float[Array, ""]

    def __call__(self, t, x):
        turned = jnp.zeros_like(x).at[..., 0].set(-x[..., 1]).at[..., 1].set(x[..., 0])
        return self.speed * turned


class Tide(rqf.drifts.AbstractDrift):
    """A pull towards an axis that depends on time, state and token."""

    strength: Float[Array, ""]

    def __call__(self, t, x):
        mean = jnp.sum(x, axis=0, keepdims=True)
        return self.strength * (jnp.cos(3 * t) * mean + x**2 * jnp.exp(-t))


def equation(drift):
    return rqf.SDE(drift, rqf.noises.IsotropicNoise(0.6, 0.4), rqf.manifolds.Sphere())


def by_diffrax(sde, solver, x0, ts, substeps, members):
    """The same ensemble by an ordinary vmap of `diffrax.diffeqsolve`."""
    fractions = np.arange(substeps, dtype=ts.dtype) / substeps
    nodes = np.append((ts[:-1, None] + np.diff(ts)[:, None] * fractions).ravel(), ts[-1])
    nodes = jnp.asarray(nodes.astype(ts.dtype))

    @jax.jit
    def run(x0, nodes):
        def one(member):
            noise_key = rqf.member_keys(KEY, member)[1]
            path = rqf.CounterPath(
                jnp.asarray(ts), substeps, shape=sde.noise.shape(x0), key=noise_key
            )
            # From save to save: a state that is saved is all there is to go on from.
            ys = [x0]
            for first in range(0, nodes.size - 1, substeps):
                part = nodes[first : first + substeps + 1]
                solution = diffrax.diffeqsolve(
                    sde.terms(path),
                    solver,
                    part[0],
                    part[-1],
                    None,
                    ys[-1],
                    stepsize_controller=diffrax.StepTo(part),
                    max_steps=substeps,
                )
                ys.append(solution.ys[0])
            return jnp.stack(ys)

        return jax.vmap(one)(jnp.arange(members, dtype=jnp.uint32))

    return run(x0, nodes)


@pytest.mark.parametrize(
    ("solver", "tokens", "dim", "drift", "dtype"),
    [
        pytest.param(
            solver,
            tokens,
            dim,
            Tide(jnp.asarray(0.7)),
            "float64",
            marks=() if dim == 3 and isinstance(solver, ProjectiveFlow) else pytest.mark.slow,
        )
        for solver in SOLVERS
        for tokens, dim in ((2, 3), (3, 6))
    ]
    + [
        pytest.param(
            solver,
            tokens,
            dim,
            Tide(jnp.asarray(0.7, jnp.float32)),
            "float32",
            marks=pytest.mark.slow,
        )
        for solver, tokens, dim in zip(SOLVERS, (3, 2, 3), (6, 3, 6), strict=True)
    ]
    + [
        pytest.param(solver, tokens, dim, rqf.drifts.NoDrift(), "float64", marks=marks)
        for solver, tokens, dim, marks in (
            (ProjectiveFlow(), 2, 3, pytest.mark.slow),
            (GeodesicEuler(), 3, 6, pytest.mark.slow),
            (GeodesicHeun(), 2, 3, pytest.mark.slow),
        )
    ],
    ids=lambda value: str(value) if isinstance(value, str | int) else name(value),
)
def test_an_ensemble_is_an_ordinary_vmap_of_diffeqsolve_on_the_same_noise(
    solver, tokens, dim, drift, dtype
):
    # Grids that float32 has exactly; float64 may have any.
    ts = [0.0, 0.5, 0.625, 1.0] if dtype == "float32" else [0.1, 0.37, 0.4, 1.1]
    ts = np.asarray(ts, dtype)
    sde = equation(drift)
    x0 = jnp.asarray(unit_tokens(tokens, dim).astype(dtype))
    runs = rqf.simulate(
        sde, rqf.laws.Fixed(x0), jnp.asarray(ts), substeps=4, members=5, key=KEY, solver=solver
    )
    same = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), sde)
    expected = by_diffrax(same, solver, x0, ts, 4, 5)
    assert runs.ys.dtype == expected.dtype == dtype
    assert runs.ys.shape == (5, 4, tokens, dim)
    assert np.abs(runs.ys - expected).max() <= (1e-6 if dtype == "float32" else 1e-13)
    # The noise moved something, and not all members alike.
    assert np.abs(np.diff(runs.ys, axis=0)).max() > 0.1


@pytest.mark.slow
def test_diffraxs_heun_on_a_brownian_tree_nears_our_heun_as_steps_shrink():
    sde, x0 = equation(Tide(jnp.asarray(0.7))), jnp.asarray(unit_tokens(2, 3))
    path = diffrax.VirtualBrownianTree(
        0.0, 1.0, tol=2.0**-10, shape=(3, 3), key=KEY, levy_area=diffrax.BrownianIncrement
    )

    zero = jnp.zeros((3, 3))

    def displacement(t, x, dw):
        return sde.manifold.tangent(x, sde.noise(t, x, dw))

    @jax.jit
    def distance(h):
        def end(solver, terms):
            return diffrax.diffeqsolve(terms, solver, 0.0, 1.0, h, x0, max_steps=512).ys[-1]

        # Solvers that leave the sphere, as this one does a little, refuse the terms of `sde`.
        plain = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, x, _: sde.manifold.tangent(x, sde.drift(t, x))),
            diffrax.ControlTerm(lambda t, x, _: jax.jacfwd(displacement, 2)(t, x, zero), path),
        )
        ours, theirs = end(GeodesicHeun(), sde.terms(path)), end(diffrax.Heun(), plain)
        return jnp.max(jnp.abs(ours - theirs)), sde.manifold.defect(ours)

    coarse, fine = (distance(jnp.asarray(2.0**-k)) for k in (5, 9))
    assert float(coarse[0]) > 2 * float(fine[0])
    assert float(fine[0]) < 0.01
    assert max(float(coarse[1]), float(fine[1])) < 8e-15


@pytest.mark.parametrize("solver", SOLVERS, ids=name)
@pytest.mark.parametrize(("tokens", "dim"), [(2, 3), (3, 6)])
def test_without_noise_a_rotation_is_followed_with_the_solvers_order(solver, tokens, dim):
    sde = rqf.SDE(
        Rotation(jnp.asarray(1.0)), rqf.noises.IsotropicNoise(0.0, 0.0), rqf.manifolds.Sphere()
    )
    x0 = jnp.asarray(unit_tokens(tokens, dim))
    turn = np.eye(dim)
    turn[:2, :2] = [[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]]

    @jax.jit
    def error(count):
        h = 1 / count

        def step(k, x):
            return solver.advance(sde, k.astype(h.dtype) * h, h, x, jnp.zeros(sde.noise.shape(x)))

        end = jax.lax.fori_loop(0, count.astype(jnp.int32), step, x0)
        return jnp.max(jnp.abs(end - x0 @ turn.T))

    counts = [16.0, 32.0, 64.0]
    errors = [float(error(jnp.asarray(count))) for count in counts]
    order = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert order == pytest.approx(solver.order(None), abs=0.1)


@pytest.mark.parametrize("solver", OTHERS_SLOW, ids=name)
def test_a_hundred_thousand_steps_in_float32_stay_on_the_sphere(solver):
    runs = rqf.simulate(
        isotropic(1.0, 0.5),
        rqf.laws.Fixed(jnp.eye(3, dtype=jnp.float32)[:2]),
        jnp.linspace(0.0, 100.0, 3),
        substeps=50_000,
        members=8,
        key=KEY,
        solver=solver,
    )
    assert runs.ys.dtype == jnp.float32
    norms = np.linalg.norm(np.asarray(runs.ys, np.float64), axis=-1)
    assert np.abs(norms - 1).max() <= 4e-7


FLAT = rqf.manifolds.Euclidean()


def flat(noise):
    return rqf.SDE(rqf.drifts.NoDrift(), noise, FLAT)


@pytest.mark.parametrize(
    "solver",
    [diffrax.Euler(), *(pytest.param(s, marks=pytest.mark.slow) for s in SOLVERS[1:])],
    ids=name,
)
def test_token_noise_in_flat_space_is_exact_brownian_motion_at_any_step(solver):
    ts = jnp.array([0.0, 0.3, 2.0])
    runs = rqf.simulate(
        flat(rqf.noises.TokenNoise(0.7)),
        rqf.laws.Zeros((2, 3)),
        ts,
        substeps=2,
        members=20_000,
        key=KEY,
        solver=solver,
    )
    y = np.asarray(runs.ys).reshape(20_000, 3, 6)
    first, second = y[:, 1], y[:, 2] - y[:, 1]
    assert_mean(y[:, 1:], 0.0)
    assert_mean(first**2, 0.49 * 0.3)
    assert_mean(second**2, 0.49 * 1.7)
    assert_mean(np.einsum("mi,mj->mij", first, second), 0.0)
    assert_mean(first[:, 0] * first[:, 1], 0.0)


@pytest.mark.slow
def test_matrix_noise_in_flat_space_grows_as_its_stratonovich_reading():
    # E|Y|² obeys d/dt E|Y|² = E[<Y, Σ E_j² Y> + Σ |E_j Y|²] over the noise basis E_j, and that is
    # sigma_s² (n+1) E|Y|² : the antisymmetric part is a rotation and cancels. Derived here.
    symmetric, dim, ts = 0.6, 3, jnp.array([0.0, 0.25, 0.5])
    x0 = jnp.asarray(unit_tokens(1, dim))
    runs = rqf.simulate(
        flat(rqf.noises.IsotropicNoise(symmetric, 0.8)),
        rqf.laws.Fixed(x0),
        ts,
        substeps=100,
        members=20_000,
        key=KEY,
        solver=GeodesicHeun(),
    )
    square = np.sum(np.asarray(runs.ys) ** 2, axis=(2, 3))
    expected = np.exp(symmetric**2 * (dim + 1) * ts)
    assert_mean(square[:, 1:], expected[1:], bias=3e-3)


SPHERE = rqf.manifolds.Sphere()
NONE = rqf.drifts.NoDrift()
MATRIX, SPAN, TOKEN = (
    rqf.noises.IsotropicNoise(1.0, 1.0),
    rqf.noises.SpanNoise(1.0, 1.0),
    rqf.noises.TokenNoise(1.0),
)


@pytest.mark.parametrize(
    ("solver", "noise", "manifold", "right"),
    [
        (GeodesicEuler(), MATRIX, FLAT, "GeodesicHeun"),
        (diffrax.Euler(), MATRIX, FLAT, "GeodesicHeun"),
        (ProjectiveFlow(), MATRIX, FLAT, "GeodesicHeun"),
        (ProjectiveFlow(), TOKEN, SPHERE, "GeodesicEuler"),
        (ProjectiveFlow(), TOKEN, FLAT, "GeodesicEuler"),
        (ProjectiveFlow(), SPAN, SPHERE, "GeodesicEuler"),
        (GeodesicHeun(), SPAN, SPHERE, "GeodesicEuler"),
        (diffrax.Heun(), MATRIX, SPHERE, "ProjectiveFlow"),
        (diffrax.Euler(), TOKEN, SPHERE, "GeodesicEuler"),
        (diffrax.Heun(), SPAN, SPHERE, "GeodesicEuler"),
    ],
    ids=lambda value: value if isinstance(value, str) else name(value),
)
def test_a_solver_with_a_wrong_limit_is_refused_and_the_right_one_named(
    solver, noise, manifold, right
):
    sde = rqf.SDE(NONE, noise, manifold)
    with pytest.raises(ValueError) as caught:
        rqf.solvers.check(solver, sde)
    message = str(caught.value)
    assert message.startswith(f"`solver` {name(solver)} does not suit this equation: ")
    assert message.endswith(f"Use `{right}`.")
    assert name(rqf.solvers.default(sde)) == right


@pytest.mark.parametrize(
    ("solver", "noise", "manifold"),
    [
        (ProjectiveFlow(), MATRIX, SPHERE),
        (GeodesicEuler(), MATRIX, SPHERE),
        (GeodesicHeun(), MATRIX, SPHERE),
        (GeodesicHeun(), MATRIX, FLAT),
        (diffrax.Heun(), MATRIX, FLAT),
        (GeodesicEuler(), SPAN, SPHERE),
        (GeodesicEuler(), TOKEN, SPHERE),
        (GeodesicHeun(), TOKEN, SPHERE),
        (diffrax.Euler(), TOKEN, FLAT),
        (diffrax.Heun(), TOKEN, FLAT),
        (diffrax.Tsit5(), rqf.noises.NoNoise(), FLAT),
    ],
    ids=name,
)
def test_a_solver_with_the_right_limit_is_accepted(solver, noise, manifold):
    rqf.solvers.check(solver, rqf.SDE(NONE, noise, manifold))


@pytest.mark.parametrize(("tokens", "dim"), [pytest.param(6, 5, marks=pytest.mark.slow), (3, 6)])
def test_a_short_projective_step_is_a_normalised_quadratic_polynomial(tokens, dim):
    sde, x = rqf.models.random_quadratic_form(0.6), jnp.asarray(unit_tokens(tokens, dim))
    h = jnp.asarray(0.12 / float(sde.noise.control(dim, jnp.ones(()))))
    dw = jnp.sqrt(h) * jnp.asarray(np.random.default_rng(0).normal(size=(dim, dim)))
    omega = sde.noise.log_flow(jnp.zeros(()), dw, h, degree=2)
    omega = omega - jnp.trace(omega) / dim * jnp.eye(dim)
    exact = SPHERE.project(x @ (jnp.eye(dim) + omega + omega @ omega / 2).T)
    step = ProjectiveFlow().advance(sde, jnp.zeros(()), h, x, dw)
    np.testing.assert_allclose(step, exact, atol=1e-14)


@pytest.mark.parametrize(
    "control", [*(pytest.param(c, marks=pytest.mark.slow) for c in (0.2, 0.99)), 2.0]
)
@pytest.mark.parametrize(
    ("tokens", "dim"),
    [*(pytest.param(*s, marks=pytest.mark.slow) for s in ((2, 3), (6, 5))), (3, 6)],
)
def test_a_projective_step_is_the_normalised_exponential_to_fourth_order(tokens, dim, control):
    sde, x = equation(NONE), jnp.asarray(unit_tokens(tokens, dim))
    h = control / float(sde.noise.control(dim, jnp.ones(())))
    rng = np.random.default_rng(0)

    @jax.jit
    def both(h, dw):
        omega = sde.noise.log_flow(jnp.zeros(()), dw, h, degree=4)
        exact = SPHERE.project(x @ jax.scipy.linalg.expm(omega).T)
        step = ProjectiveFlow().advance(sde, jnp.zeros(()), h, x, dw)
        return jnp.max(jnp.abs(step - exact)), jnp.linalg.norm(omega, 2)

    for _ in range(20):
        error, size = both(jnp.asarray(h), jnp.asarray(math.sqrt(h) * rng.normal(size=(dim, dim))))
        # The remainder of the series after the fourth power, over the least stretch exp(-|Ω|).
        assert error <= 2 * size**5 / 120 * math.exp(2 * size) + 1e-14


def test_the_drift_term_is_tangent_and_its_clock_has_an_origin():
    sde, x = equation(Tide(jnp.asarray(0.7))), jnp.asarray(unit_tokens(2, 3))
    path = rqf.CounterPath(jnp.array([0.0, 1.0]), 1, shape=(3, 3), key=KEY)
    here = sde.terms(path).terms[0].vf(0.75, x, None)
    there = sde.terms(path, origin=0.5).terms[0].vf(0.25, x, None)
    np.testing.assert_array_equal(here, there)
    np.testing.assert_allclose(np.sum(here * x, axis=-1), 0, atol=1e-15)


def test_an_adaptive_step_on_a_counter_path_raises():
    sde, x = equation(NONE), jnp.asarray(unit_tokens(2, 3))
    path = rqf.CounterPath(jnp.array([0.0, 1.0]), 8, shape=(3, 3), key=KEY)
    with pytest.raises(RuntimeError, match="own grid"):
        eqx.filter_jit(diffrax.diffeqsolve)(
            sde.terms(path), GeodesicHeun(), 0.0, 1.0, 0.3, x, max_steps=16
        )
