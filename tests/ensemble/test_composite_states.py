"""Theorems about states that are pytrees: what holds for one array holds for several."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax._ensemble.problem import Problem
from rqf_jax._ensemble.program import Program, joined
from rqf_jax.laws import Fixed, Normal, Product, Uniform, Zeros
from rqf_jax.manifolds import Euclidean, Sphere
from rqf_jax.noises import NoNoise, TokenNoise

KEY = jax.random.key(1)
TS = [0.0, 0.4, 1.0]


class Tilted(rqf.drifts.AbstractDrift):
    """Tokens and their radii pull on each other."""

    strength: jax.Array

    def __call__(self, t, x):
        pull = jnp.zeros_like(x["x"]).at[:, 0].set(x["r"])
        return {"x": self.strength * pull, "r": self.strength * x["x"][:, 0] - x["r"]}


def tokens_with_radius(strength=0.7, dim=3):
    sde = rqf.SDE(
        Tilted(jnp.asarray(strength)),
        rqf.noises.Product({"x": TokenNoise(0.5), "r": TokenNoise(0.2)}),
        rqf.manifolds.Product({"x": Sphere(), "r": Euclidean()}),
    )
    return sde, Product({"x": Uniform(2, dim), "r": Normal((2,))})


def run(sde=None, law=None, dim=3, **changes):
    default = tokens_with_radius(dim=dim)
    arguments = {"substeps": 6, "members": 5, "key": KEY} | changes
    return rqf.simulate(sde or default[0], law or default[1], TS, **arguments)


def close(a, b, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), a, b)


@pytest.mark.parametrize("dim", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_parts_stay_on_their_manifolds_and_batches_change_no_member(dim):
    runs = run(dim=dim)
    assert runs.ys["x"].shape == (5, 3, 2, dim) and runs.ys["r"].shape == (5, 3, 2)
    np.testing.assert_allclose(np.sum(runs.ys["x"] ** 2, -1), 1, atol=1e-13)
    close(run(dim=dim, batch_size=2).ys, runs.ys)
    close(run(dim=dim, members=2, first_member=3).ys, jax.tree.map(lambda y: y[3:], runs.ys))


@pytest.mark.parametrize(
    "solver",
    [
        None,
        *(
            pytest.param(solver, marks=pytest.mark.slow)
            for solver in (rqf.solvers.GeodesicHeun(), rqf.solvers.ProjectedEuler())
        ),
    ],
)
def test_an_array_under_a_name_is_the_array(solver):
    noise, drift = TokenNoise(0.5), rqf.drifts.NoDrift()
    plain = rqf.SDE(drift, noise, Sphere())
    law = Fixed(jnp.eye(3)[:2])
    if solver is None:
        solver = rqf.solvers.GeodesicEuler()
    one = rqf.simulate(plain, law, TS, substeps=4, members=3, key=KEY, solver=solver).ys
    named = rqf.SDE(drift, rqf.noises.Product({"x": noise}), rqf.manifolds.Product({"x": Sphere()}))
    found = rqf.simulate(
        named, Product({"x": law}), TS, substeps=4, members=3, key=KEY, solver=solver
    ).ys
    # The noise of the one part is a row of numbers, of the array a matrix of them.
    assert found["x"].shape == one.shape
    np.testing.assert_allclose(np.sum(found["x"] ** 2, -1), 1, atol=1e-13)


class Steady(rqf.drifts.AbstractDrift):
    """Every entry grows as time does."""

    def __call__(self, t, x):
        return jax.tree.map(jnp.ones_like, x)


@pytest.mark.slow
def test_flat_space_takes_a_composite_state_whole():
    sde = rqf.SDE(Steady(), NoNoise(), Euclidean())
    one = rqf.simulate(sde, Zeros((2, 3)), TS, substeps=2, members=1, key=KEY).ys
    law = Product((Zeros((2, 3)), Zeros((2,))))
    both = rqf.simulate(sde, law, TS, substeps=2, members=1, key=KEY).ys
    np.testing.assert_array_equal(both[0], one)
    np.testing.assert_array_equal(both[1], one[..., 0])


@pytest.mark.slow
def test_derivatives_in_both_modes_are_difference_quotients():
    def mean(strength, **options):
        sde, law = tokens_with_radius(strength)
        runs = rqf.simulate(sde, law, TS, substeps=6, members=4, key=KEY, **options)
        return jnp.mean(runs.ys["x"][:, 1:, 0, 0] * runs.ys["r"][:, 1:, 1])

    a = jnp.asarray(0.7)
    slope = jax.grad(mean)(a)
    forward = jax.jvp(lambda a: mean(a, adjoint=diffrax.ForwardMode()), (a,), (jnp.ones_like(a),))[
        1
    ]
    np.testing.assert_allclose(slope, forward, rtol=1e-11)
    np.testing.assert_allclose(slope, (mean(a + 1e-5) - mean(a - 1e-5)) / 2e-5, rtol=1e-6)


def test_segments_of_a_composite_path_are_the_path_bit_for_bit():
    sde, law = tokens_with_radius()
    ts = np.linspace(0.0, 1.0, 8)
    problem = Problem(sde, law, ts, KEY, substeps=2)
    devices = jax.local_devices()[:1]
    whole, status = Program(problem, 8, devices)(problem, 0, 10)
    program = Program(problem, 8, devices, every=3)
    first, *_ = segments = list(program.segments(problem, 0, 10))
    again = [first, *program.segments(problem, 0, 10, first)]
    for parts in (segments, again):
        ys, status_of_parts = joined(parts)
        jax.tree.map(np.testing.assert_array_equal, ys, whole)
        np.testing.assert_array_equal(status_of_parts, status)


def test_observables_and_datasets_have_one_variable_for_each_part(tmp_path):
    runs = run()
    data = runs.to_xarray(dims={"x": ("token", "dim")})
    assert set(data.data_vars) == {"x", "r", "status"}
    assert data["x"].dims == ("member", "time", "token", "dim")
    lengths = runs.observe(lambda x: jnp.sum(x["r"] ** 2))
    np.testing.assert_allclose(lengths, np.sum(np.asarray(runs.ys["r"]) ** 2, -1), rtol=1e-14)
    rqf.io.save(runs, tmp_path / "run.zarr", attributes={})
    stored = rqf.open(tmp_path / "run.zarr")
    np.testing.assert_array_equal(stored["r"], runs.ys["r"])
    np.testing.assert_array_equal(stored["x"], runs.ys["x"])


@pytest.mark.slow
def test_lyapunov_exponents_of_an_oscillator_are_its_damping():
    sde = rqf.models.heavy_ball(lambda q: 4.0 * q, convexity=0.25)
    law = Product({"q": Fixed(jnp.ones(1)), "p": Fixed(jnp.zeros(1))})
    found = rqf.analysis.lyapunov_spectrum(
        sde, law, np.linspace(0, 40, 41), substeps=160, members=1, key=KEY
    )
    assert float(found.total[0]) == pytest.approx(-1.0, abs=1e-3)
    np.testing.assert_allclose(found.exponents, -0.5, atol=0.05)


@pytest.mark.slow
def test_a_fit_finds_the_friction_of_a_particle():
    def well(friction):
        return rqf.models.underdamped_langevin(
            lambda q: 2.0 * q, friction=friction, temperature=0.5
        )

    law = Product({"q": Fixed(jnp.ones(1)), "p": Fixed(jnp.zeros(1))})
    ts = np.linspace(0.0, 2.0, 5)
    seen = rqf.simulate(well(0.8), law, ts, substeps=5, members=5000, key=KEY, save=position).ys
    loss = rqf.losses.SimulatedMoments(
        law, ts, jnp.mean(seen, 0), position, substeps=5, members=5000
    )
    fitted = rqf.fit(well(0.3), loss, where=lambda sde: sde.drift.friction, steps=100, key=KEY)
    assert float(fitted.sde.drift.friction) == pytest.approx(0.8, abs=0.05)


def position(x):
    return x["q"]


class Wrong(rqf.drifts.AbstractDrift):
    """A drift that has one part too few."""

    def __call__(self, t, x):
        return {"x": jnp.zeros_like(x["x"])}


class Mixed(rqf.laws.AbstractLaw):
    """Parts of two precisions."""

    def __call__(self, key):
        return {"x": jnp.eye(3)[:2], "r": jnp.ones(2, jnp.float32)}


SDE, LAW = tokens_with_radius()
BAD = {
    "law without a part": (
        lambda: run(law=Product({"x": Uniform(2, 3)})), "`law`", "the parts of the manifold, r, x",
    ),
    "a part of another shape": (
        lambda: run(law=Product({"x": Fixed(jnp.ones(3)), "r": Zeros((2,))})),
        "tokens", "at `x`",
    ),
    "a part off its manifold": (
        lambda: run(law=Product({"x": Fixed(jnp.ones((2, 3))), "r": Zeros((2,))})),
        "`law`", "at `x`", "Sphere", "off by 0.732",
    ),
    "drift without a part": (
        lambda: run(rqf.SDE(Wrong(), SDE.noise, SDE.manifold)), "`Wrong` must return r", "got x",
    ),
    "noise without a part": (
        lambda: run(
            rqf.SDE(SDE.drift, rqf.noises.Product({"x": TokenNoise(1.0)}), SDE.manifold)
        ),
        "`noises` must have the parts of the",
    ),
    "one noise for all": (
        lambda: run(rqf.SDE(SDE.drift, TokenNoise(1.0), SDE.manifold)), "`TokenNoise.shape`",
    ),
    "two dtypes": (lambda: run(law=Mixed()), "one dtype", "r float32 (2,)", "x float64 (2, 3)"),
    "no laws": (lambda: Product({"x": 3}), "`laws` must be a law", "3"),
    "no manifolds": (lambda: rqf.manifolds.Product({"x": 3}), "`manifolds` must be", "3"),
    "no noises": (lambda: rqf.noises.Product({"x": 3}), "`noises` must be", "3"),
    "momentum of an array": (
        lambda: run(rqf.models.heavy_ball(lambda q: q, convexity=1.0), Zeros((2,))),
        '{"q": ..., "p": ...}',
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "words"), [(c, w) for c, *w in BAD.values()], ids=BAD.keys())
def test_parts_that_disagree_are_one_error_that_names_the_part(call, words, refused):
    refused(call, *words)
