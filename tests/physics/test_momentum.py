"""Theorems about motion with momentum: oscillators, optimisers and their stationary laws."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import j1, jv

import rqf_jax as rqf
from rqf_jax.laws import Fixed, Normal, Product
from rqf_jax.models import heavy_ball, nesterov, underdamped_langevin

KEY = jax.random.key(0)


def at(q, p):
    """Every member at one position and momentum."""
    return Product({"q": Fixed(jnp.asarray(q)), "p": Fixed(jnp.asarray(p))})


def followed(sde, law, ts, substeps, **options):
    """The one path of an ordinary differential equation, by a method of order 8."""
    options = {"solver": diffrax.Dopri8(), "members": 1, "key": KEY} | options
    return jax.tree.map(
        lambda y: np.asarray(y[0]), rqf.simulate(sde, law, ts, substeps=substeps, **options).ys
    )


def spring(stiffness):
    return lambda q: stiffness * q


def test_nesterovs_equation_on_a_parabola_is_a_bessel_function():
    root, start = np.sqrt(2.0), 0.1

    def exact(t):
        return 2 * j1(t * root) / (t * root)

    slope = -2 * jv(2, start * root) / start
    law = at([exact(start)], [slope])
    ys = followed(nesterov(spring(2.0)), law, [start, 1.0, 10.0], 2000)
    np.testing.assert_allclose(ys["q"][:, 0], exact(np.array([start, 1.0, 10.0])), atol=1e-8)
    assert float(ys["q"][-1, 0]) == pytest.approx(0.0218935, abs=1e-7)


@pytest.mark.slow
def test_nesterovs_equation_is_below_its_bound_for_random_convex_functions():
    rng = np.random.default_rng(0)
    # The friction is 3/t, and steps grow as t does.
    ts = np.geomspace(1e-3, 20.0, 61)
    for _ in range(5):
        a = jnp.asarray(rng.standard_normal((8, 3)))
        # f = Σ log cosh (a_i q) is convex, and least at 0.
        f = lambda q, a=a: jnp.sum(jnp.log(jnp.cosh(a @ q)))  # noqa: E731
        q0 = rng.standard_normal(3)
        ys = followed(nesterov(jax.grad(f)), at(q0, np.zeros(3)), ts, 20)
        values = np.asarray(jax.vmap(f)(ys["q"]))
        assert np.all(values <= 2 * np.sum(q0**2) / ts**2)


@pytest.mark.parametrize(("model", "root"), [(heavy_ball, -1 + 5.148j), (nesterov, -2.25 + 4.737j)])
def test_modes_of_optimisers_have_the_damping_of_their_equations(model, root):
    convexity, curvature, step = 1.0, 25.0, 0.01
    sde = model(spring(curvature), convexity=convexity, step=step)
    unit = jnp.eye(2)

    def field(x):
        v = sde.drift(jnp.zeros(()), {"q": x[:1], "p": x[1:]})
        return jnp.concatenate([v["q"], v["p"]])

    roots = np.linalg.eigvals(np.asarray(jax.vmap(field)(unit)).T)
    damping = np.sqrt(convexity) + (np.sqrt(step) * curvature / 2 if model is nesterov else 0.0)
    np.testing.assert_allclose(roots.real, -damping, atol=1e-10)
    square = (1 + np.sqrt(convexity * step)) * curvature
    np.testing.assert_allclose(np.abs(roots) ** 2, square, atol=1e-10)
    assert abs(roots[np.argmax(roots.imag)] - root) < 1e-3


def test_the_heavy_ball_converges_where_its_map_with_finite_steps_cycles():
    def gradient(q):
        return jnp.where(q < 1, 25 * q, jnp.where(q < 2, q + 24, 25 * q - 24))

    alpha, beta = 1 / 9, 4 / 9
    before = x = 3.3
    for _ in range(300):
        before, x = x, x - alpha * float(gradient(jnp.asarray(x))) + beta * (x - before)
    cycle = []
    for _ in range(3):
        before, x = x, x - alpha * float(gradient(jnp.asarray(x))) + beta * (x - before)
        cycle.append(x)
    np.testing.assert_allclose(sorted(cycle), [-1.8024, 0.6465, 2.1159], atol=1e-4)
    ys = followed(heavy_ball(gradient, convexity=1.0), at([3.3], [0.0]), [0.0, 20.0], 4000)
    assert abs(float(ys["q"][-1, 0])) < 1e-6


@pytest.mark.parametrize("friction", [pytest.param(0.5, marks=pytest.mark.slow), 4.0])
def test_a_particle_in_a_bath_has_boltzmanns_law_whatever_its_friction(friction):
    stiffness, temperature, mass = 2.0, 0.7, 1.5
    sde = underdamped_langevin(
        spring(stiffness), friction=friction, temperature=temperature, mass=mass
    )
    h = 0.05
    # Started in it, the law stays: a wrong strength would show at once in p, later in q.
    law = Product(
        {
            "q": Normal((4,), np.sqrt(temperature / stiffness)),
            "p": Normal((4,), np.sqrt(temperature * mass)),
        }
    )
    runs = rqf.simulate(sde, law, [0.0, 5.0, 10.0], substeps=round(5 / h), members=4000, key=KEY)
    q, p = (np.asarray(runs.ys[name][:, -1]).ravel() for name in "qp")
    # The method's own stationary law: exact in q, and off by (ωh)²/4 in p.
    bias = stiffness / mass * h**2 / 4
    for found, expected in (
        (q**2, temperature / stiffness),
        (p**2, temperature * mass * (1 - bias)),
        (q * p, 0.0),
    ):
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(found.size)


def test_the_splitting_has_the_moments_of_its_linear_map_and_weak_order_two():
    """E x xᵀ at t = 1 of a damped oscillator from a point, without sampling."""
    k, gamma, temperature, mass = 3.0, 0.8, 0.5, 2.0
    sde = underdamped_langevin(spring(k), friction=gamma, temperature=temperature, mass=mass)
    solver, start = rqf.solvers.default(sde), np.array([1.0, -0.5])
    assert isinstance(solver, rqf.solvers.BAOAB)

    def step(x, z, h):
        state = {"q": x[:1], "p": x[1:]}
        y = solver.advance(sde, jnp.zeros(()), jnp.asarray(h), state, jnp.sqrt(h) * z)
        return jnp.concatenate([y["q"], y["p"]])

    def second_moment(h):
        turn = np.asarray(jax.jacobian(lambda x: step(x, jnp.zeros(1), h))(jnp.zeros(2)))
        kick = np.asarray(jax.jacobian(lambda z: step(jnp.zeros(2), z, h))(jnp.zeros(1)))
        m = np.outer(start, start)
        for _ in range(round(1 / h)):
            m = turn @ m @ turn.T + kick @ kick.T
        return m

    a = np.array([[0.0, 1 / mass], [-k, -gamma]])
    noise = np.diag([0.0, 2 * gamma * temperature * mass])
    eye = np.eye(2)
    generator = np.kron(a, eye) + np.kron(eye, a)
    lasting = np.linalg.solve(generator, -noise.ravel())
    from scipy.linalg import expm

    start2 = np.outer(start, start).ravel()
    exact = (lasting + expm(generator) @ (start2 - lasting)).reshape(2, 2)
    coarse, fine = (np.abs(second_moment(h) - exact).max() for h in (0.05, 0.025))
    assert coarse / fine == pytest.approx(4, rel=0.02)


def test_a_step_of_a_particle_in_a_bath_asks_for_one_gradient():
    asked = []

    def gradient(q):
        asked.append(q)
        return q

    sde = underdamped_langevin(gradient, friction=1.0, temperature=1.0, mass=1.0)
    solver, time, x = rqf.solvers.BAOAB(), jnp.zeros(()), {"q": jnp.ones(2), "p": jnp.zeros(2)}
    handed = solver.begin(sde, time, x)
    dw = jnp.zeros(sde.noise.shape(x))
    x, handed = solver.follow(sde, time, jnp.asarray(0.1), x, dw, handed)
    assert len(asked) == 2
    np.testing.assert_array_equal(handed, x["q"])
