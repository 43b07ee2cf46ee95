"""Theorems about systems of reference: divergence, symmetry, exponents, invariant laws."""

import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import rqf_jax as rqf
from rqf_jax.solvers.exponential import phi
from rqf_jax.systems import (
    DoubleWell,
    Doubling,
    Duffing,
    Dysts,
    KuramotoSivashinsky,
    Lorenz63,
    Lorenz96,
    LotkaVolterra,
    Rossler,
    Rotation,
    Thomas,
    orbit,
)
from rqf_jax.theory import wells

FLAT, SILENT = rqf.manifolds.Euclidean(), rqf.noises.NoNoise()
KEY, TIME = jax.random.key(3), jnp.zeros(())

FLOWS = [Lorenz63(8.0, 20.0, 1.0), Lorenz96(5, 3.0), DoubleWell(2.0, 1.5), Rossler(), Thomas()]
FLOWS += [LotkaVolterra(), Duffing(), KuramotoSivashinsky(16)]


def ode(flow):
    return rqf.SDE(flow, SILENT, FLAT)


def spectrum(flow, ts, **options):
    options = {"substeps": 50, "members": 48, "solver": diffrax.Dopri5()} | options
    return rqf.analysis.lyapunov_spectrum(ode(flow), flow.law(), ts, key=KEY, **options)


@pytest.mark.parametrize("flow", FLOWS, ids=repr)
def test_the_divergence_is_the_trace_of_the_jacobian(flow):
    size = flow.start.size
    pushes = np.random.default_rng(0).normal(size=(20, *flow.start.shape))
    jacobian = jax.jit(jax.vmap(lambda x: jax.jacfwd(flow, 1)(TIME, x)))
    jacobians = jacobian(np.asarray(flow.start) + pushes)
    jacobians = jacobians.reshape(20, size, size)
    traces = np.trace(np.asarray(jacobians), axis1=1, axis2=2)
    if flow.divergence is None:
        assert np.ptp(traces) > 0.1
    else:
        assert np.allclose(traces, flow.divergence, atol=1e-9)


def test_lorenz_exponents_are_those_of_the_literature_and_their_sum_is_exact():
    found = spectrum(Lorenz63(), np.arange(0.0, 61.0), discard=10, members=64)
    expected = np.array([0.9056, 0.0, -14.572])
    assert np.all(np.abs(found.exponents - expected) < 0.02 * np.array([0.9056, 0.9056, 14.57]))
    assert abs(found.total[0] + 41 / 3) < 1e-3
    assert abs(found.kaplan_yorke - 2.062) < 0.01


@pytest.mark.parametrize(
    "flow", [Lorenz63(), Lorenz96(), Thomas(), Duffing(), LotkaVolterra()], ids=repr
)
def test_exponents_that_were_measured_sum_to_the_divergence(flow):
    known = flow.exponents
    assert len(known.values) == len(known.stderr) == flow.start.size
    assert list(known.values) == sorted(known.values, reverse=True)
    expected = 0.0 if flow.divergence is None else flow.divergence
    assert abs(sum(known.values) - expected) < 2e-3


def test_exponents_are_known_at_the_standard_constants_alone():
    assert Lorenz63().exponents is not None and Lorenz63(rho=28).exponents is not None
    assert Lorenz63(rho=28.1).exponents is None and Lorenz96(11).exponents is None
    assert jax.jit(lambda rho: Lorenz63(rho=rho)(TIME, jnp.ones(3)))(28.0).shape == (3,)


def test_lorenz_63_has_its_symmetry_and_its_states_of_rest():
    flow, turn = Lorenz63(), jnp.array([-1.0, -1.0, 1.0])
    x = jnp.array([1.0, -2.0, 3.0])
    assert np.allclose(flow(TIME, turn * x), turn * flow(TIME, x), atol=1e-12)
    rest = jnp.sqrt(flow.beta * (flow.rho - 1))
    assert np.allclose(flow(TIME, jnp.stack([rest, rest, flow.rho - 1])), 0, atol=1e-12)


def test_the_product_of_lorenz_96_does_no_work_and_waves_may_be_turned():
    x, flow = jax.random.normal(KEY, (7,)), Lorenz96(7, 2.0)
    assert abs(x @ (flow(TIME, x) + x - 2.0)) < 1e-12
    assert np.allclose(flow(TIME, jnp.roll(x, 3)), jnp.roll(flow(TIME, x), 3), atol=1e-12)


def test_the_double_well_is_a_gradient_with_minima_where_it_says():
    well = DoubleWell(2.0, 1.5)

    def height(x):
        return 2.0 * (1 - (x / 1.5) ** 2) ** 2

    x = jnp.linspace(-2.0, 2.0, 9)
    assert np.allclose(well(TIME, x), -jax.vmap(jax.grad(height))(x), atol=1e-12)
    assert np.allclose(DoubleWell()(TIME, x), x - x**3, atol=1e-12)


def test_a_member_of_the_ensemble_starts_near_the_start():
    flow = Lorenz63()
    x = jax.vmap(flow.law(0.5))(jax.random.split(KEY, 4000))
    assert np.all(np.abs(x.mean(0) - flow.start) < 5 * 0.5 / np.sqrt(4000))
    assert np.all(np.abs(x.std(0) / 0.5 - 1) < 5 / np.sqrt(8000))


@pytest.mark.parametrize("kind", [Lorenz63, Lorenz96, DoubleWell, Rossler, Thomas, Duffing])
def test_steps_in_float32_are_fused_kernels(kind, as_a_user):
    flow, noise = kind(), rqf.noises.TokenNoise(0.1)
    for part in (SILENT, noise):
        text = rqf.explain(rqf.SDE(flow, part, FLAT), flow.law())
        assert "one fused kernel" in text


def test_a_rotation_keeps_distances_and_fills_the_circle():
    points = orbit(Rotation(), jnp.array([0.1, 0.35]), 4000)
    assert points.shape == (4001, 2) and np.all((points >= 0) & (points < 1))
    assert np.allclose((points[:, 1] - points[:, 0]) % 1, 0.25, atol=1e-10)
    counts = np.histogram(points[:, 0], 8, (0, 1))[0]
    assert np.ptp(counts) <= 4  # of low discrepancy
    assert Rotation().exponent == 0


def test_a_random_orbit_of_the_doubling_map_obeys_it_and_stays_uniform():
    points = np.asarray(Doubling().random_orbit(5000, key=KEY))
    assert points.shape == (5001,) and np.all((points >= 0) & (points < 1))
    assert np.max(np.abs(points[1:] - (2 * points[:-1]) % 1)) <= 2.0**-53
    # Digits are fair coins, and the mean of an orbit of length n has variance (1/12) 3/n.
    assert abs(points.mean() - 0.5) < 5 * np.sqrt(3 / 12 / 5000)
    assert orbit(Doubling(), 0.3, 60)[-1] == 0
    assert np.isclose(Doubling().exponent, np.log(2))


def test_states_and_numbers_that_do_not_fit_are_named(unchecked):
    for call, match in (
        (lambda: Lorenz63()(TIME, jnp.ones(4)), r"`x` must have shape \(3,\) for Lorenz63"),
        (lambda: Lorenz96(3), "`size` must be at least 4"),
        (lambda: Lorenz96(5)(TIME, jnp.ones(4)), r"`x` must have shape \(5,\)"),
        (lambda: Lorenz63(rho=np.nan), "`rho` must be finite"),
        (lambda: DoubleWell(0.0), "`barrier` must be at least"),
        (lambda: Lorenz63().law(-1.0), "`scale` must be at least 0"),
        (lambda: rqf.laws.Normal((3,), 1.0, np.ones(2)), r"`mean` must be a number or have shape"),
        (lambda: orbit(Lorenz63(), 0.1, 3), "`map` must be a map of `rqf_jax.systems`"),
        (lambda: orbit(Rotation(), 0.1, 0), "`steps` must be at least 1"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize(
    ("flow", "symmetry"),
    [(Thomas(), lambda x: jnp.roll(x, 1)), (KuramotoSivashinsky(32), lambda u: jnp.roll(u, 5))],
    ids=["Thomas", "KuramotoSivashinsky"],
)
def test_symmetries_of_attractors(flow, symmetry):
    x = flow.start + jax.random.normal(KEY, flow.start.shape)
    assert np.allclose(flow(TIME, symmetry(x)), symmetry(flow(TIME, x)), atol=1e-9)


@pytest.mark.slow
def test_rossler_exponents_sum_to_their_divergence_on_the_attractor():
    flow, ts = Rossler(), np.arange(0.0, 301.0)
    options = {"substeps": 20, "members": 16, "key": KEY, "solver": diffrax.Dopri5()}
    found = rqf.analysis.lyapunov_spectrum(ode(flow), flow.law(), ts, discard=20, **options)
    runs = rqf.simulate(ode(flow), flow.law(), ts, **options)
    known = flow.exponents
    error = np.hypot(np.asarray(found.stderr), np.asarray(known.stderr))
    assert np.all(
        np.abs(np.asarray(found.exponents) - np.asarray(known.values)) < 5 * error + 0.002
    )
    expected = flow.a - flow.c + runs.ys[:, 20:, 0].mean()
    assert abs(found.total[0] - expected) < 0.02  # of the mean at the saves


def test_lotka_and_volterra_keep_their_invariant_and_rest():
    flow = LotkaVolterra()
    runs = rqf.simulate(
        ode(flow), flow.law(0.2), np.linspace(0.0, 50.0, 26), substeps=200, members=8, key=KEY,
        solver=diffrax.Dopri5(),
    )  # fmt: skip
    invariants = jax.vmap(jax.vmap(flow.invariant))(runs.ys)
    assert np.max(np.abs(invariants - invariants[:, :1])) < 1e-8
    assert np.ptp(runs.ys[:, :, 0]) > 0.5
    rest = jnp.stack([flow.death / flow.feeding, flow.growth / flow.predation])
    assert np.allclose(flow(TIME, rest), 0, atol=1e-15)


def test_duffing_without_a_force_loses_energy_to_its_damping():
    flow = Duffing(amplitude=0.0)

    def energy(x):
        return x[1] ** 2 / 2 + flow.linear * x[0] ** 2 / 2 + flow.cubic * x[0] ** 4 / 4

    x = jnp.array([0.7, -1.2])
    lost = jax.jvp(energy, (x,), (flow(TIME, x),))[1]
    assert np.isclose(lost, -flow.damping * x[1] ** 2, atol=1e-12)
    period = 2 * np.pi / Duffing().frequency
    assert np.allclose(Duffing()(TIME + period, x), Duffing()(TIME, x), atol=1e-12)


def test_the_mean_of_a_kuramoto_sivashinsky_wave_stays_and_steps_have_order_four():
    flow = KuramotoSivashinsky(96)
    ts = np.linspace(0.0, 0.2, 3)

    def waves(substeps):
        sde = ode(flow)
        law = rqf.laws.Fixed(flow.start + 0.3)
        return rqf.simulate(sde, law, ts, substeps=substeps, members=1, key=KEY).ys[0]

    coarse, middle, fine = waves(30), waves(60), waves(120)
    assert np.max(np.abs(fine.mean(1) - 0.3)) < 1e-10
    rate = np.log2(np.linalg.norm(coarse - middle) / np.linalg.norm(middle - fine))
    assert 3.4 < rate < 4.8


def test_the_exponential_solver_is_exact_where_nothing_is_nonlinear():
    flow = KuramotoSivashinsky(32, advection=0.0)
    law, ts = rqf.laws.Fixed(flow.start), np.array([0.0, 0.1])
    moved = rqf.simulate(ode(flow), law, ts, substeps=1, members=1, key=KEY).ys[0, -1]
    x = 2 * np.pi * np.arange(32) / 32
    one, two = (np.exp(0.1 * (flow.instability * k**2 - flow.viscosity * k**4)) for k in (1, 2))
    assert np.allclose(moved, one * np.cos(x) + two * np.sin(2 * x) / 2, atol=1e-11)


@pytest.mark.parametrize("z", [-200.0, -1.5, -1.0, -0.999, -1e-3, 0.0, 1e-8, 0.7, 3.0])
def test_phi_functions_are_their_integrals(z):
    for k, value in enumerate(phi(jnp.asarray(z)), 1):
        weight = quad(lambda s, k=k: np.exp((1 - s) * z) * s ** (k - 1), 0, 1, epsabs=1e-14)[0]
        assert np.isclose(value, weight / math.factorial(k - 1), rtol=1e-11)


def test_a_solver_of_semilinear_drifts_says_what_does_not_suit_it():
    solver = rqf.solvers.ExponentialRungeKutta()
    assert rqf.solvers.default(ode(KuramotoSivashinsky(32))) == solver
    for sde, match in (
        (ode(Lorenz63()), "no linear part"),
        (rqf.SDE(KuramotoSivashinsky(32), rqf.noises.TokenNoise(1.0), FLAT), "is a noise"),
    ):
        with pytest.raises(ValueError, match=match):
            rqf.solvers.check(solver, sde)


def first_number(x):
    return x[0]


class Foreign:
    """The face of a flow of `dysts`."""

    name, params, ic = "Foreign", {"b": 0.2, "a": 0.1}, [1.0, 2.0, 3.0]

    @staticmethod
    def _rhs(x, y, z, t, a, b):
        return np.sin(y) - b * x, np.sin(z) - b * y + a * t, np.sin(x) - b * z


def test_a_flow_of_dysts_is_a_drift_with_derivatives():
    flow = Dysts(Foreign())
    x = jnp.array([0.1, -0.4, 2.0])
    assert np.allclose(flow(TIME, x), Thomas(0.2)(TIME, x), atol=1e-15)
    assert np.allclose(jax.jacfwd(flow, 1)(TIME, x), jax.jacfwd(Thomas(0.2), 1)(TIME, x))
    assert np.isclose(flow(TIME + 2.0, x)[1] - flow(TIME, x)[1], 0.2)
    assert flow.exponents is None and flow.start.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="`system` must be the name of a flow of `dysts`"):
        Dysts(3.0)


def test_flows_of_dysts_are_found_by_name():
    flows = pytest.importorskip("dysts.flows")
    flow, made = Dysts("Rossler"), flows.Rossler()
    x = np.array([1.0, -2.0, 0.5])
    assert np.allclose(flow(TIME, jnp.asarray(x)), made.rhs(x, 0.0))
    with pytest.raises(ValueError, match=r"a flow of `dysts.flows`; got 'Nobody'"):
        Dysts("Nobody")


def test_the_double_well_has_its_stationary_law_and_exponent(as_a_user):
    sigma, well = 0.7, DoubleWell()
    noisy = rqf.SDE(well, rqf.noises.TokenNoise(sigma), FLAT)
    options = {"substeps": 40, "members": 4000, "key": KEY, "solver": diffrax.ShARK()}
    # Fair coins for the well, so that half of the relaxation is over at the start.
    x = np.asarray(rqf.simulate(noisy, rqf.laws.Normal((1,)), [0.0, 4.0], **options).ys[:, 1, 0])
    for power in (1, 2, 4):
        error = np.std(x**power) / np.sqrt(x.size)
        assert abs(np.mean(x**power) - wells.moment(power, sigma)) < 5 * error
    slopes = 1 - 3 * x**2
    assert abs(slopes.mean() - wells.exponent(sigma)) < 5 * slopes.std() / np.sqrt(x.size)


def test_jumps_between_wells_take_the_mean_time_of_theory(as_a_user):
    sigma, well, ts = 0.5, DoubleWell(), np.arange(0.0, 401.0, 0.25)
    sde = rqf.SDE(well, rqf.noises.TokenNoise(sigma), FLAT)
    options = {"substeps": 8, "members": 2000, "key": KEY, "solver": diffrax.ShARK()}
    runs = rqf.simulate(sde, well.law(0.0), ts, save=first_number, **options)
    rate = rqf.analysis.exponential_rate(rqf.analysis.first_below(runs, -1.0))
    # A path that is seen now and then seems to reach a barrier that is farther away.
    seen = -1.0 - 0.5826 * sigma * np.sqrt(ts[1])
    assert abs(rate.rate - 1 / wells.passage_time(1.0, seen, sigma)) < 5 * rate.stderr


def test_kramers_rate_is_the_limit_of_weak_noise():
    ratios = [wells.passage_time(-1.0, 1.0, s) * wells.kramers_rate(s) for s in (0.3, 0.2, 0.15)]
    assert np.all(np.diff(ratios) < 0) and abs(ratios[-1] - 1) < 0.02
    # The correction falls as sigma².
    assert np.isclose((ratios[0] - 1) / (ratios[1] - 1), (0.3 / 0.2) ** 2, rtol=0.25)
    scaled = wells.kramers_rate(1.0, barrier=2.0, position=3.0)
    assert np.isclose(scaled, np.sqrt((16 / 9) * (8 / 9)) / (2 * np.pi) * np.exp(-4.0))


def test_the_stationary_law_and_the_times_of_a_well_solve_their_equations():
    x, s = np.linspace(-2.5, 2.5, 2001), 0.6
    p = wells.density(x, s, barrier=0.4, position=1.2)
    u = wells.height(x, barrier=0.4, position=1.2)
    flux = np.gradient(u, x) * p + s**2 / 2 * np.gradient(p, x)
    assert np.max(np.abs(flux[2:-2])) < 1e-4
    assert np.isclose(np.trapezoid(p, x), 1, atol=1e-8)
    starts = np.linspace(-1.5, 0.5, 161)
    t = np.array([wells.passage_time(a, 1.0, s) for a in starts])
    slope, bend = np.gradient(t, starts), np.gradient(np.gradient(t, starts), starts)
    force = starts - starts**3
    assert np.max(np.abs((force * slope + s**2 / 2 * bend + 1)[3:-3])) < 0.05
    assert wells.passage_time(1.0, 1.0, s) == 0
    assert np.isclose(wells.passage_time(0.5, -1.0, s), wells.passage_time(-0.5, 1.0, s))


def test_measured_exponents_are_those_of_independent_runs():
    """Of another program, and for Lorenz and Rössler of the literature (λ1 = 0.9056, 0.0714)."""
    for flow, largest, dimension in (
        (Lorenz63(), 0.9056, 2.0617),
        (Rossler(), 0.0714, 2.0133),
        (Lorenz96(), 1.209, 6.56),
    ):
        known = flow.exponents.values
        assert abs(known[0] / largest - 1) < 0.03
        assert abs(rqf.analysis.kaplan_yorke_dimension(known) / dimension - 1) < 0.01


@pytest.mark.slow
def test_lorenz_96_has_the_exponents_that_were_measured_and_their_sum_is_exact():
    found = spectrum(Lorenz96(), np.arange(0.0, 61.0), discard=10, members=24)
    known = Lorenz96().exponents
    error = np.hypot(np.asarray(found.stderr), np.asarray(known.stderr))
    assert np.all(np.abs(np.asarray(found.exponents) - np.asarray(known.values)) < 5 * error)
    assert abs(found.total[0] + 10) < 1e-3


@pytest.mark.parametrize(
    "kind", ["ornstein_uhlenbeck", pytest.param("geometric", marks=pytest.mark.slow)]
)
def test_moments_and_exponents_of_two_linear_equations_are_those_of_their_closed_forms(
    kind, as_a_user
):
    rate, sigma, start, end = 0.8, 0.5, 1.5, 1.2
    if kind == "geometric":  # dx = rate x dt + sigma x dB of Itô, written with Stratonovich's
        drift = rqf.drifts.Linear(jnp.full((1, 1), rate - sigma**2 / 2))
        noise, exponent = rqf.noises.LinearNoise(sigma), rate - sigma**2 / 2
        mean = start * math.exp(rate * end)
        square = mean**2 * math.exp(sigma**2 * end)
    else:
        drift, noise, exponent = rqf.drifts.Pull(rate), rqf.noises.TokenNoise(sigma), -rate
        mean = start * math.exp(-rate * end)
        square = mean**2 + sigma**2 * (1 - math.exp(-2 * rate * end)) / (2 * rate)
    sde, law = rqf.SDE(drift, noise, FLAT), rqf.laws.Fixed([[start]])
    runs = rqf.simulate(sde, law, [0.0, end], substeps=100, members=40_000, key=KEY)
    x = np.asarray(runs.ys, float)[:, 1, 0, 0]
    for power, expected in ((1, mean), (2, square)):
        error = np.std(x**power) / np.sqrt(x.size)
        assert abs(np.mean(x**power) - expected) < 4 * error + 1e-3 * expected
        assert error < 0.01 * expected
    found = rqf.analysis.lyapunov_spectrum(
        sde, law, [0.0, 40.0], substeps=2000, members=64, key=KEY
    )
    error = sigma / math.sqrt(40.0 * 64) if kind == "geometric" else 0.0
    assert abs(found.exponents[0] - exponent) < 5 * error + 2e-3
