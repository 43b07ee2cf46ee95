"""Theorems about time: an offset of all save times changes no path, loss or exponent."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax import losses

KEY = jax.random.key(5)
GRID = np.arange(41) * 1.5e-3
OFFSETS = [1e2, 1e4, 1e6]


class Float32(rqf.laws.AbstractLaw):
    """The float32 draws of another law."""

    law: rqf.laws.AbstractLaw

    def __call__(self, key):
        return self.law(key).astype(jnp.float32)


def tokens(offset, **changes):
    arguments = {"substeps": 2, "members": 20, "key": KEY} | changes
    law = Float32(rqf.laws.Uniform(4, 3))
    return rqf.simulate(rqf.models.random_quadratic_form(1.0), law, GRID + offset, **arguments)


@pytest.mark.parametrize("offset", OFFSETS)
def test_an_offset_of_time_changes_no_path_in_single_precision(offset):
    plain, late = tokens(0.0), tokens(offset)
    np.testing.assert_allclose(late.ys, plain.ys, atol=2e-6)
    np.testing.assert_array_equal(late.ts, GRID + offset)


def test_irregular_times_have_the_variances_of_their_lengths_at_a_large_offset():
    ts = 1e6 + np.cumsum([0.0, 1e-3, 4e-3, 2e-3])
    sde = rqf.SDE(rqf.drifts.NoDrift(), rqf.noises.TokenNoise(1.0), rqf.manifolds.Euclidean())
    law = Float32(rqf.laws.Zeros((1000, 20)))
    runs = rqf.simulate(sde, law, ts, substeps=1, members=1, key=KEY)
    found = np.var(np.diff(np.asarray(runs.ys[0], float), axis=0), axis=(1, 2))
    # Relative standard error √(2/20000) = 1 %.
    np.testing.assert_allclose(found / np.diff(ts), 1.0, atol=0.05)


class Clock(rqf.drifts.AbstractDrift):
    """A velocity that is the time."""

    def __call__(self, t, x):
        return jnp.full_like(x, t)


def test_a_model_gets_the_time_that_was_asked_for():
    sde = rqf.SDE(Clock(), rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
    law = Float32(rqf.laws.Zeros((1,)))
    late = rqf.simulate(sde, law, GRID + 1e4, substeps=1, members=1, key=KEY).ys[0, :, 0]
    np.testing.assert_allclose(np.diff(np.asarray(late, float)), 15.0, rtol=3e-3)


@pytest.mark.parametrize("offset", [0.0, *OFFSETS])
def test_losses_do_not_know_when_time_began(offset):
    def values(offset):
        sde = rqf.models.weight_ou(0.5, 1.0, jnp.zeros((2, 1), jnp.float32))
        law = Float32(rqf.laws.Normal((2, 1)))
        runs = rqf.simulate(sde, law, GRID + offset, substeps=1, members=8, key=KEY)
        target = jnp.zeros((GRID.size, 2, 1), jnp.float32)
        options = {"substeps": 1, "members": 4}
        found = [
            losses.SimulatedMoments(law, GRID + offset, target, **options),
            losses.MaximumMeanDiscrepancy(law, GRID + offset, runs.ys, **options),
            losses.TransitionLikelihood(runs),
        ]
        return [float(eqx.filter_jit(loss)(sde, KEY)) for loss in found]

    np.testing.assert_allclose(values(offset), values(0.0), rtol=1e-5)


def pulled_noise(offset):
    """Losses of an Ornstein-Uhlenbeck process, whose strength of noise is to be found."""
    law, sde = rqf.laws.Normal((2, 1)), rqf.models.weight_ou(0.5, 1.0, jnp.zeros((2, 1)))
    ts, options = 10 * GRID + offset, {"substeps": 1, "members": 8}
    runs = rqf.simulate(sde, law, ts, **options, key=KEY)
    squares = jnp.mean(runs.ys**2, 0)
    yield losses.SimulatedMoments(law, ts, squares, jnp.square, **options)
    yield losses.MaximumMeanDiscrepancy(law, ts, runs.ys, **options)
    yield losses.TransitionLikelihood(runs.ys, ts)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_gradient_fits_do_not_know_when_time_began(number):
    def found(offset):
        loss = list(pulled_noise(offset))[number]
        start = rqf.models.weight_ou(0.7, 1.0, jnp.zeros((2, 1)))
        fit = rqf.fit(start, loss, where=lambda sde: sde.noise.sigma, steps=20, key=KEY)
        return [float(fit.sde.noise.sigma), *fit.history]

    plain = found(0.0)
    assert abs(plain[0] - 0.7) > 0.02  # the fit has moved
    for offset in OFFSETS:
        np.testing.assert_allclose(found(offset), plain, rtol=1e-6)


@pytest.mark.slow
def test_a_fit_of_friction_does_not_know_when_time_began():
    def well(friction):
        return rqf.models.underdamped_langevin(lambda q: 2 * q, friction=friction, temperature=0.5)

    def position(x):
        return x["q"]

    law = rqf.laws.Product({name: rqf.laws.Normal((1,)) for name in "qp"})

    def found(offset):
        ts, options = np.linspace(0.0, 2.0, 5) + offset, {"substeps": 5, "members": 20}
        seen = rqf.simulate(well(0.8), law, ts, **options, key=KEY, save=position).ys
        loss = losses.SimulatedMoments(law, ts, jnp.mean(seen, 0), position, **options)
        fit = rqf.fit(well(0.3), loss, where=lambda sde: sde.drift.friction, steps=20, key=KEY)
        return [float(fit.sde.drift.friction), *fit.history]

    plain = found(0.0)
    for offset in OFFSETS:
        np.testing.assert_allclose(found(offset), plain, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("offset", OFFSETS)
def test_lyapunov_exponents_and_attractors_do_not_know_when_time_began(offset):
    sde, options = rqf.models.random_quadratic_form(1.0), {"substeps": 2, "key": KEY}

    def exponents(law, t):
        found = rqf.analysis.lyapunov_spectrum(sde, law, GRID + t, members=4, **options)
        return found.exponents, found.stderr

    law = rqf.laws.Uniform(1, 3)
    np.testing.assert_allclose(exponents(law, offset), exponents(law, 0.0), rtol=1e-6)
    law = Float32(law)
    plain, late = (exponents(law, t)[0] for t in (0.0, offset))
    np.testing.assert_allclose(late, plain, rtol=1e-4)
    clouds = [rqf.analysis.pullback(sde, law, GRID + t, points=3, **options) for t in (0.0, offset)]
    np.testing.assert_allclose(clouds[1], clouds[0], atol=2e-6)


class Forced(rqf.drifts.AbstractDrift):
    """A force that swings in time."""

    def __call__(self, t, x):
        return jnp.cos(t) - x


def test_a_model_that_depends_on_time_is_warned_of_times_that_its_states_cannot_tell_apart():
    def run(drift, offset, dtype=jnp.float32):
        sde = rqf.SDE(drift, rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
        law, ts = rqf.laws.Fixed(jnp.zeros(1, dtype)), GRID[:3] + offset
        return rqf.simulate(sde, law, ts, substeps=2, members=1, key=KEY).ys

    with pytest.warns(UserWarning, match="rounded by 0.031 in float32, .* depends on time"):
        run(Forced(), 1e6)
    # Neither without a clock, nor near its beginning, nor in double precision.
    run(rqf.drifts.Pull(1.0), 1e6)
    run(Forced(), 1e3)
    late = 2e6 * np.pi  # a whole number of periods
    plain, shifted = (run(Forced(), offset, float) for offset in (0.0, late))
    np.testing.assert_allclose(shifted, plain, atol=1e-9)


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_functions_of_time_refuse_times_that_single_precision_cannot_tell_apart(
    as_a_user, refused, offset
):
    values = np.sin(GRID)
    functions = (
        lambda ts: rqf.schedules.PiecewiseLinear(ts, values),
        lambda ts: rqf.drifts.Driven(rqf.drifts.Pull(1.0), ts, values[:, None], (0,)),
        lambda ts: rqf.drifts.Nudged(rqf.drifts.Pull(1.0), 1.0, ts, values[:, None], (0,)),
    )
    for function in functions:
        function(GRID)
        refused(lambda make=function: make(GRID + offset), "`ts` must be told apart in float32")
        refused(lambda make=function: make(-GRID), "`ts` must be strictly increasing")


def test_numbers_of_updates_layers_and_steps_keep_all_digits(as_a_user):
    # In float32 numbers beyond 2²⁴ would be told no more apart.
    process = rqf.training.TeacherStudent(
        np.eye(2), rqf.laws.Zeros((2, 2)), learning_rate=0.1, batch=1
    )
    layer, law = rqf.layers.Residual(rqf.layers.RandomLinear(1.0)), rqf.laws.Uniform(2, 2)
    network = rqf.surrogates.AlmostLinear(1, latent=2, pieces=1, key=KEY)
    for runs in (
        rqf.training.train(process, [0, 1], seeds=1, key=KEY),
        rqf.propagate(layer, law, 1, members=1, key=KEY),
        rqf.surrogates.sample(network, [[0.3]], 1, members=1, key=KEY),
    ):
        assert runs.ts.dtype == np.float64 and list(runs.ts) == [0, 1]


def test_observations_that_single_precision_rounds_are_refused(as_a_user, refused):
    sde = rqf.SDE(rqf.drifts.Pull(1.0), rqf.noises.TokenNoise(1.0), rqf.manifolds.Euclidean())

    def filtered(offset):
        return rqf.inference.ensemble_kalman(
            sde,
            rqf.laws.Normal((1,)),
            np.array([0.1, 0.2, 0.3]) + offset,
            [0.0, 0.1, 0.2],
            observe=jnp.sum,
            observation=0.3,
            substeps=1,
            members=4,
            key=KEY,
        )

    filtered(1e3)
    refused(lambda: filtered(1e8), "`ys` must be known to a tenth of `observation`; float32")


def test_traced_times_work_and_have_a_derivative():
    def end(stop):
        ts = jnp.stack([jnp.zeros_like(stop), stop])
        sde = rqf.SDE(rqf.drifts.Pull(1.0), rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
        law = rqf.laws.Fixed(jnp.ones(1))
        return rqf.simulate(sde, law, ts, substeps=1, members=1, key=KEY).ys[0, 1, 0]

    value, slope = jax.value_and_grad(end)(jnp.asarray(0.5))
    assert float(value) == pytest.approx(np.exp(-0.5), rel=1e-12)
    assert float(slope) == pytest.approx(-np.exp(-0.5), rel=1e-12)
