"""The ensemble Kalman filter against Kalman's, and fits by its likelihood."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.inference import ensemble_kalman, fit_filtered

LAW, TIMES, TAU = rqf.laws.Normal((2,), 0.7), np.linspace(0.0, 6.0, 31), 0.3
KEYS = jax.random.split(jax.random.key(2), 8)


def model(p):
    noise = rqf.noises.TokenNoise(p["sigma"])
    return rqf.SDE(rqf.drifts.Pull(p["rate"]), noise, rqf.manifolds.Euclidean())


TRUTH = {"rate": jnp.asarray(1.0), "sigma": jnp.asarray(1.0)}


def observe(x):
    return jnp.stack([x[0], x[0] + x[1]])


def data(times=TIMES):
    path = rqf.simulate(model(TRUTH), LAW, times, substeps=1, members=1, key=jax.random.key(0)).ys[
        0
    ]
    ys = jax.vmap(observe)(path)
    ys = ys + TAU * jax.random.normal(jax.random.key(1), ys.shape)
    return ys.at[7, 0].set(jnp.nan).at[12].set(jnp.nan)


def kalman(rate, ys, times=TIMES):
    """Log likelihood, means and standard deviations of Kalman's filter for `model`."""
    seen = np.array([[1.0, 0.0], [1.0, 1.0]])
    mean, spread, total, means, errors = np.zeros(2), 0.49 * np.eye(2), 0.0, [], []
    for k, y in enumerate(np.asarray(ys)):
        there = ~np.isnan(y)
        h, left = seen[there], y[there] - seen[there] @ mean
        s = h @ spread @ h.T + TAU**2 * np.eye(there.sum())
        gain = spread @ h.T @ np.linalg.inv(s)
        total -= (left @ np.linalg.solve(s, left) + np.linalg.slogdet(2 * np.pi * s)[1]) / 2
        mean, spread = mean + gain @ left, spread - gain @ h @ spread
        means.append(mean)
        errors.append(np.sqrt(np.diagonal(spread)))
        if k + 1 < len(times):
            keep = np.exp(-rate * (times[k + 1] - times[k]))
            mean = keep * mean
            spread = keep**2 * spread + (1 - keep**2) / (2 * rate) * np.eye(2)
    return total, np.stack(means), np.stack(errors)


@pytest.mark.parametrize(
    "method", ["square_root", pytest.param("perturbed", marks=pytest.mark.slow)]
)
def test_many_members_are_kalmans_filter_for_a_linear_equation(method):
    ys = data()

    def run(rate, key):
        found = ensemble_kalman(
            model(TRUTH | {"rate": rate}), LAW, ys, TIMES, observe=observe, observation=TAU,
            substeps=1, members=2000, key=key, method=method,
        )  # fmt: skip
        return found.log_likelihood, found.means, found.stderr

    def both(key):
        value, means, errors = run(1.0, key)
        return value, means, errors, jax.jacfwd(lambda rate: run(rate, key)[0])(1.0)

    value, means, errors, slope = map(np.asarray, jax.jit(jax.vmap(both))(KEYS))
    exact, exact_means, exact_errors = kalman(1.0, ys)
    near = kalman(1.0 + 1e-5, ys)[0] - kalman(1.0 - 1e-5, ys)[0]

    def z(draws, truth):
        return (draws.mean(0) - truth) / (draws.std(0, ddof=1) / np.sqrt(len(draws)))

    assert abs(z(value, exact)) < 5 and abs(value.mean() - exact) < 0.5
    assert abs(z(slope, near / 2e-5)) < 5
    # Means of 8 runs have a t law of 7 degrees of freedom: take the errors of all together.
    scatter = means.std(0, ddof=1).mean()
    assert np.abs(means.mean(0) - exact_means).max() < 5 * scatter / np.sqrt(8)
    np.testing.assert_allclose(errors.mean(0), exact_errors, rtol=0.05)


@pytest.mark.slow
def test_the_filter_on_the_sphere_stays_there_and_sees_more_than_the_observations():
    sde = rqf.SDE(rqf.drifts.NoDrift(), rqf.noises.TokenNoise(0.3), rqf.manifolds.Sphere())
    law, times = rqf.laws.Uniform(1, 3), np.linspace(0.0, 2.0, 41)
    path = rqf.simulate(sde, law, times, substeps=1, members=1, key=jax.random.key(0)).ys[0]
    ys = path[:, 0] + 0.3 * jax.random.normal(jax.random.key(1), (41, 3))
    found = ensemble_kalman(
        sde, law, ys, times, observe=lambda x: x, observation=0.3, substeps=1, members=100,
        key=jax.random.key(2),
    )  # fmt: skip
    assert jnp.abs(jnp.linalg.norm(found.ensemble, axis=-1) - 1).max() < 1e-12
    wrong = jnp.sqrt(jnp.mean((found.means - path)[10:] ** 2))
    assert wrong < 0.2 and abs(found.consistency[1]) < 5
    assert "members=100" in repr(found)


@pytest.mark.slow
def test_a_filter_of_lorenz_finds_what_is_not_seen_as_well_as_it_says():
    flow, key = rqf.systems.Lorenz63(), jax.random.key(0)
    sde = rqf.SDE(flow, rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
    times, solver = 0.1 * np.arange(301), diffrax.Tsit5()
    start = rqf.laws.Fixed([1.0, 3.0, 15.0])
    path = rqf.simulate(
        sde, start, times, substeps=10, members=1, key=key, solver=solver
    ).ys[0]  # fmt: skip
    ys = path[:, :1] + jax.random.normal(jax.random.key(3), (301, 1))
    found = ensemble_kalman(
        sde, rqf.laws.Normal((3,), 10.0), ys, times, observe=lambda x: x[0], observation=1.0,
        substeps=10, members=40, key=key, inflation=1.05, solver=solver,
    )  # fmt: skip
    wrong = np.sqrt(np.mean(np.asarray(found.means - path)[50:] ** 2, 0))
    said = np.sqrt(np.mean(np.asarray(found.stderr)[50:] ** 2, 0))
    # The scatter of the three coordinates is near 8, and x alone is seen, to 1.
    assert wrong[0] < 0.8 and np.all(wrong[1:] < 2) and np.all(wrong / said < 1.5)
    assert abs(found.consistency[1]) < 5


WRONG = {
    "times": ({"ys": np.ones((5, 2))}, r"`ys` must have shape \(31, seen\)"),
    "seen": ({"observe": lambda x: x[0]}, "`observe` must return 2 numbers"),
    "nothing": ({"ys": np.full((31, 2), np.nan)}, "`ys` must hold an observation"),
    "infinite": ({"ys": np.full((31, 2), np.inf)}, "`ys` must be finite"),
    "noise": ({"observation": 0.0}, "`observation` must be positive"),
    "noises": ({"observation": [1.0, 1.0, 1.0]}, r"`observation` must be a number or have shape"),
    "one": ({"members": 1}, "`members` must be at least 2"),
    "method": ({"method": "exact"}, "`method` must be square_root or perturbed"),
    "inflation": ({"inflation": 0.5}, "`inflation` must be at least 1"),
}


@pytest.mark.parametrize(("change", "text"), WRONG.values(), ids=WRONG)
def test_arguments_that_break_a_rule_are_named(change, text):
    given = {
        "ys": np.zeros((31, 2)), "observe": observe, "observation": TAU, "substeps": 1,
        "members": 10, "key": jax.random.key(0),
    }  # fmt: skip
    given |= change
    ys = given.pop("ys")
    with pytest.raises(ValueError, match=text):
        ensemble_kalman(model(TRUTH), LAW, ys, TIMES, **given)


@pytest.fixture(scope="module")
def fitted():
    times = np.linspace(0.0, 40.0, 161)
    ys = data(times)
    fit = fit_filtered(
        model, {"rate": 0.7, "sigma": 0.8}, LAW, ys, times, observe=observe, observation=TAU,
        substeps=1, members=200, key=jax.random.key(3),
    )  # fmt: skip
    return ys, times, fit


@pytest.mark.slow
def test_a_fit_by_the_filter_is_that_of_the_exact_likelihood(fitted):
    import scipy.optimize

    ys, times, fit = fitted

    def exact(rate):
        return -kalman(rate, ys, times)[0]

    for name, value in TRUTH.items():
        assert abs(fit.estimate[name] - float(value)) < 3 * fit.stderr[name]
    # At σ = 1, which the exact filter above holds, the profile in the rate.
    best = scipy.optimize.minimize_scalar(exact, bounds=(0.3, 3.0), method="bounded").x
    curvature = (exact(best + 1e-3) + exact(best - 1e-3) - 2 * exact(best)) / 1e-6
    fisher = fit.fisher
    moved = fit.estimate["rate"] - fisher[0, 1] / fisher[0, 0] * (1 - fit.estimate["sigma"])
    assert abs(moved - best) < 0.5 / np.sqrt(curvature)
    assert abs(fisher[0, 0] / curvature - 1) < 0.3
    assert abs(fit.goodness["innovations"][1]) < 5


@pytest.mark.slow
def test_draws_from_the_likelihood_of_the_filter_spread_by_its_standard_errors(fitted):
    import blackjax

    fit = fitted[2]
    density, names = fit.log_density(), tuple(fit.estimate)
    start = {name: jnp.asarray(value) for name, value in fit.estimate.items()}
    scale = jnp.asarray([fit.bound[name] for name in names])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        sampler = blackjax.hmc(
            lambda position: density(position), step_size=0.7, num_integration_steps=3,
            inverse_mass_matrix=scale**2,
        )  # fmt: skip

        def step(state, key):
            state, info = sampler.step(key, state)
            return state, (state.position, info.acceptance_rate)

        keys = jax.random.split(jax.random.key(5), 400)
        draws, accepted = jax.jit(lambda s: jax.lax.scan(step, s, keys))(sampler.init(start))[1]
    assert float(jnp.mean(accepted)) > 0.6
    for name in names:
        ratio = float(jnp.std(draws[name][50:])) / fit.bound[name]
        assert 0.7 < ratio < 1.4


@pytest.mark.slow
def test_numpyro_draws_from_the_likelihood_of_the_filter(fitted):
    numpyro = pytest.importorskip("numpyro")
    fit = fitted[2]
    density = fit.log_density()

    def prior_and_data():
        p = {
            name: numpyro.sample(name, numpyro.distributions.LogNormal(0.0, 1.0))
            for name in fit.estimate
        }
        numpyro.factor("data", density(p))

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        sampler = numpyro.infer.MCMC(
            numpyro.infer.NUTS(prior_and_data), num_warmup=150, num_samples=300, progress_bar=False
        )
        sampler.run(jax.random.key(6))
    for name, draws in sampler.get_samples().items():
        assert abs(draws.mean() - fit.estimate[name]) < fit.bound[name]
        assert 0.7 < jnp.std(draws) / fit.bound[name] < 1.5
