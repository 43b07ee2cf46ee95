"""Theorems about two views that teach each other: who collapses, where the others go, how fast."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.optimize import root

import rqf_jax as rqf
from rqf_jax.laws import Fixed, Product
from rqf_jax.models import ema_flow, joint_flow, stop_gradient_flow
from rqf_jax.theory import self_supervised

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = 3 * np.linalg.qr(RNG.standard_normal((9, 2)))[0] @ np.array([[1.0, 0.3], [0.0, 0.9]])
Y = 0.9 * X + 0.2 * RNG.standard_normal((9, 2))
INPUTS, CROSS = X.T @ X / 9, Y.T @ X / 9
ONE = {"x": [[1.0]], "y": [[0.8]], "decay": 0.05}
A0 = np.eye(4, 2) + 0.3 * RNG.standard_normal((4, 2))
B0 = A0 @ A0.T + 0.3 * RNG.standard_normal((4, 4))


def start(teacher=False):
    parts = {"A": Fixed(A0), "B": Fixed(B0)}
    return Product(parts | {"C": Fixed(A0)} if teacher else parts)


def followed(sde, ts, substeps, *, teacher=False):
    """The path from one start, by a method of order 8."""
    runs = rqf.simulate(
        sde, start(teacher), ts, substeps=substeps, members=1, key=KEY, solver=diffrax.Dopri8()
    )
    return {name: np.asarray(y[0]) for name, y in runs.ys.items()}


def balance(path):
    """BᵀB - AAᵀ at every time."""
    return path["B"].swapaxes(1, 2) @ path["B"] - path["A"] @ path["A"].swapaxes(1, 2)


def rates(sde, x):
    """The Jacobian of the velocity at a state, and its eigenvalues."""
    point, shaped = ravel_pytree(x)
    jacobian = jax.jacfwd(lambda p: ravel_pytree(sde.drift(jnp.zeros(()), shaped(p)))[0])(point)
    return np.asarray(jacobian), np.sort_complex(np.linalg.eigvals(np.asarray(jacobian)))


def at_rest(n, r, tau=0.8, rho=1.0, decay=0.05):
    """An encoder of length r, and its predictor."""
    a = np.zeros((n, 1))
    a[:, 0] = r * np.arange(1, n + 1) / np.linalg.norm(np.arange(1, n + 1))
    return {"A": jnp.asarray(a), "B": jnp.asarray(tau * a @ a.T / (rho * r**2 + decay))}


@pytest.mark.parametrize("teacher", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_balance_of_both_networks_decays_at_twice_the_decay_whatever_the_teacher(teacher):
    decay, ts = 0.1, np.array([0.0, 1.0, 7.0])
    sde = (
        ema_flow(X, Y, decay=decay, rate=0.7) if teacher else stop_gradient_flow(X, Y, decay=decay)
    )
    path = followed(sde, ts, 400, teacher=teacher)
    kept = balance(path) * np.exp(2 * decay * ts)[:, None, None]
    np.testing.assert_allclose(kept, kept[:1].repeat(3, 0), atol=1e-9)
    joint = balance(followed(joint_flow(X, Y, decay=decay), ts, 400))
    assert np.abs(joint * np.exp(2 * decay * ts)[:, None, None] - joint[:1]).max() > 0.1


@pytest.mark.slow
def test_both_teachers_lead_to_one_equilibrium_which_solves_its_equations():
    decay, ts = 0.05, [0.0, 700.0]
    with_teacher = followed(ema_flow(X, Y, decay=decay, rate=3.0), ts, 14_000, teacher=True)
    alone = followed(stop_gradient_flow(X, Y, decay=decay), ts, 14_000)
    sizes = [np.linalg.norm(path["A"][-1]) for path in (with_teacher, alone)]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-8)
    for path in (with_teacher, alone):
        a, b = path["A"][-1], path["B"][-1]
        s, one = a.T @ a, decay * np.eye(2)
        left = (INPUTS @ s + one) @ (s @ INPUTS + one)
        np.testing.assert_allclose(left, CROSS.T @ s @ CROSS, atol=1e-10)
        w = a @ INPUTS @ a.T + decay * np.eye(4)
        np.testing.assert_allclose(b @ w, a @ CROSS @ a.T, atol=1e-10)
        np.testing.assert_allclose(b.T @ b, a @ a.T, atol=1e-10)
        assert np.linalg.norm(a) > 0.5


def test_equilibria_of_two_features_are_at_most_eight_orbits():
    # S = AᵀA solves three quadratic equations, (XS + λ)(SX + λ) = YᵀSY: at most 2³ roots.
    decay, one = 0.05, np.eye(2)

    def symmetric(v):
        return np.array([[v[0], v[1]], [v[1], v[2]]])

    def off(v):
        s = symmetric(v)
        miss = (INPUTS @ s + decay * one) @ (s @ INPUTS + decay * one) - CROSS.T @ s @ CROSS
        return miss[[0, 0, 1], [0, 1, 1]]

    found = []
    for _ in range(200):
        a = RNG.standard_normal((2, 2)) * RNG.uniform(0.1, 1.5)
        solved = root(off, (a.T @ a)[[0, 0, 1], [0, 1, 1]], tol=1e-14)
        # Of a gram matrix alone, and each once.
        new = all(np.abs(solved.x - old).max() > 1e-6 for old in found)
        if np.abs(off(solved.x)).max() < 1e-12 and new:
            if np.linalg.eigvalsh(symmetric(solved.x))[0] > -1e-9:
                found.append(solved.x)
    assert 2 <= len(found) <= 8
    sde = stop_gradient_flow(X, Y, decay=decay)
    turn = np.linalg.qr(RNG.standard_normal((4, 4)))[0][:, :2]
    for v in found:
        values, axes = np.linalg.eigh(symmetric(v))
        a = turn @ (axes * np.sqrt(np.maximum(values, 0.0))) @ axes.T
        b = np.linalg.solve(a @ INPUTS @ a.T + decay * np.eye(4), (a @ CROSS @ a.T).T).T
        x = {"A": jnp.asarray(a), "B": jnp.asarray(b)}
        np.testing.assert_allclose(ravel_pytree(sde.drift(jnp.zeros(()), x))[0], 0, atol=1e-10)


def test_the_gradient_of_both_sides_always_collapses():
    path = followed(joint_flow(X, Y, decay=0.1), [0.0, 200.0], 4000)
    assert np.abs(path["A"][-1]).max() < 1e-6 and np.abs(path["B"][-1]).max() < 1e-6


def test_one_feature_has_two_lengths_at_rest_and_their_spectra():
    low, high = self_supervised.lengths(1.0, 0.8, 0.05)
    assert (low, high) == (pytest.approx(0.0683375, abs=1e-7), pytest.approx(0.7316625, abs=1e-7))
    sde = stop_gradient_flow(**ONE)
    for r, stable, radial in ((low, False, 0.04533), (high, True, -0.48533)):
        x = at_rest(3, r)
        velocity = ravel_pytree(sde.drift(jnp.zeros(()), x))[0]
        np.testing.assert_allclose(velocity, 0, atol=1e-12)
        expected = self_supervised.spectrum(1.0, 0.8, 0.05, units=3, stable=stable)
        found = rates(sde, x)[1]
        np.testing.assert_allclose(np.sort(found.real), expected, atol=1e-6)
        assert np.abs(found.imag).max() < 1e-6
        assert np.abs(expected - radial).min() < 1e-5
    listed = [-0.5853] * 2 + [-0.4853] + [-0.1] * 3 + [-0.05] * 4 + [0, 0]
    np.testing.assert_allclose(expected, listed, atol=1e-4)
    # At the origin both networks decay, and nothing else.
    np.testing.assert_allclose(rates(sde, at_rest(2, 0.0))[1], -0.05, atol=1e-12)


def test_no_flow_without_a_teachers_gradient_is_a_gradient_flow():
    x = {"A": jnp.asarray(A0), "B": jnp.asarray(B0)}
    skew = [
        np.abs(j - j.T).max()
        for j in (
            rates(stop_gradient_flow(X, Y, decay=0.1), x)[0],
            rates(joint_flow(X, Y, decay=0.1), x)[0],
        )
    ]
    assert skew[0] > 0.1 and skew[1] < 1e-12


@pytest.mark.parametrize("teacher", [False, True])
def test_the_noise_of_minibatches_has_the_covariance_of_their_velocities(teacher):
    x = {"A": jnp.asarray(A0), "B": jnp.asarray(B0)}
    x |= {"C": jnp.asarray(A0[::-1].copy())} if teacher else {}
    options = {"decay": 0.1, "temperature": 0.3} | ({"rate": 0.5} if teacher else {})
    make = ema_flow if teacher else stop_gradient_flow
    noise = make(X, Y, **options).noise
    columns = np.stack([ravel_pytree(noise(jnp.zeros(()), x, e))[0] for e in jnp.eye(9)])
    options["temperature"] = 0.0
    alone = [make(X[i : i + 1], Y[i : i + 1], **options).drift(jnp.zeros(()), x) for i in range(9)]
    rows = np.stack([ravel_pytree(one)[0] for one in alone])
    np.testing.assert_allclose(columns.T @ columns, 0.3 * np.cov(rows.T, ddof=0), atol=1e-10)


@pytest.mark.slow
def test_noise_of_minibatches_leaves_a_learner_near_its_length():
    # Every pair alike: no noise at all. Unlike pairs: the mean length stays to first order.
    x = np.array([[1.0], [0.6], [1.3], [-0.9]])
    y = 0.8 * x + np.array([[0.1], [-0.1], [0.05], [0.0]])
    r = self_supervised.lengths(np.mean(x**2), np.mean(x * y), 0.05)[1]
    sde = stop_gradient_flow(x, y, decay=0.05, temperature=0.01)
    state = at_rest(2, r, np.mean(x * y), np.mean(x**2))
    law = Product({name: Fixed(part) for name, part in state.items()})
    runs = rqf.simulate(sde, law, [0.0, 20.0], substeps=200, members=2000, key=KEY)
    ends = np.linalg.norm(np.asarray(runs.ys["A"][:, 1, :, 0]), axis=1)
    assert 0.001 < ends.std() < 0.2
    assert ends.mean() == pytest.approx(r, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("teacher", "share"), [(False, 0.827), (True, 0.882)])
def test_most_starts_of_two_units_do_not_collapse(teacher, share):
    # Random ρ, τ and decay with τ² ≥ 4ρ decay, entries uniform in [-1, 1], Euler steps of 0.1.
    rng = np.random.default_rng(1)
    rho, tau = rng.uniform(0, 3, 20_000), rng.uniform(-1, 1, 20_000)
    decay = rng.uniform(0.01, 0.1, 20_000)
    kept = tau**2 >= 4 * rho * decay
    rho, tau, decay = rho[kept], tau[kept], decay[kept]
    a, b = rng.uniform(-1, 1, (rho.size, 2, 1)), rng.uniform(-1, 1, (rho.size, 2, 2))
    rate = 0.1 if teacher else None

    def run(rho, tau, decay, a, b):
        drift = rqf.drifts.SelfSupervised(rho.reshape(1, 1), tau.reshape(1, 1), decay, rate=rate)
        x = {"A": a, "B": b} | ({"C": a} if teacher else {})

        def step(_, x):
            return jax.tree.map(lambda x, v: x + 0.1 * v, x, drift(jnp.zeros(()), x))

        return jnp.linalg.norm(jax.lax.fori_loop(0, 8000, step, x)["A"])

    ends = np.asarray(jax.jit(jax.vmap(run))(*map(jnp.asarray, (rho, tau, decay, a, b))))
    root = np.sqrt(tau**2 - 4 * rho * decay)
    high = (np.abs(tau) + root) / (2 * rho)
    found = np.mean(np.abs(ends / high - 1) < 0.05)
    assert found == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stop_gradient_flow(X, Y[:4], decay=0.1), "`x` and `y` must be of one shape"),
        (lambda: stop_gradient_flow(X, Y, decay=-1.0), "`decay` must be at least 0; got -1"),
        (lambda: ema_flow(X, Y, decay=0.1, rate=-1.0), "`rate` must be at least 0; got -1"),
        (lambda: self_supervised.lengths(1.0, 0.1, 0.05), "`cross` must have a square of at least"),
        (
            lambda: rqf.drifts.SelfSupervised(np.eye(2), np.eye(3), 0.1),
            "`inputs` and `cross` must be square matrices of one shape",
        ),
    ],
)
def test_bad_views_have_one_clear_error(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call()


def test_products_keep_all_digits_of_single_precision():
    # A GPU rounds the factors of a product to 11 bits, unless it is told to keep them.
    sde = ema_flow(X, Y, decay=0.1, rate=1.0, temperature=0.1)
    state = {"A": jnp.asarray(A0), "B": jnp.asarray(B0), "C": jnp.asarray(A0)}
    noise = jax.make_jaxpr(sde.noise)(jnp.zeros(()), state, jnp.ones(9))
    for jaxpr in (jax.make_jaxpr(sde.drift)(jnp.zeros(()), state), noise):
        products = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
        highest = jax.lax.Precision.HIGHEST
        assert products and all(e.params["precision"] == (highest, highest) for e in products)
