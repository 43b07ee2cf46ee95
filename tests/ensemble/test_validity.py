"""Theorems about classes that users write: a wrong one is one error that names it, at once."""

import math

import diffrax
import jax
import jax.numpy as jnp
import pytest

import rqf_jax as rqf

FLAT = rqf.manifolds.Euclidean()
NOISE = rqf.noises.TokenNoise(1.0)


class Drift(rqf.drifts.AbstractDrift):
    """Any function of a time and a state as a drift."""

    function: object

    def __call__(self, t, x):
        return self.function(t, x)


class Noise(rqf.noises.AbstractNoise):
    """Any function of a state and an increment as a noise."""

    function: object
    brownian: object = (10, 3)

    def shape(self, x):
        return self.brownian

    def __call__(self, t, x, dw):
        return self.function(x, dw)

    def calculus(self, manifold):
        return rqf.noises.Calculus.EITHER


class Torus(rqf.manifolds.AbstractManifold):
    """Angles; `project` and `defect` are as a test wants them."""

    projection: object
    distance: object

    def tangent(self, x, v):
        return v

    def retract(self, x, v):
        return self.project(x + v)

    def project(self, x):
        return self.projection(x)

    def defect(self, x):
        return self.distance(x)


class Solver(rqf.solvers.AbstractMemorylessSolver):
    """A solver that loses an axis."""

    def advance(self, sde, t, h, x, dw):
        return x[0]

    def misfit(self, sde):
        return None

    def order(self, terms):
        return 1


class Layer(rqf.layers.AbstractLayer):
    """Any function of the tokens as a layer."""

    function: object

    def __call__(self, key, x):
        return self.function(x)


class Process(rqf.training.AbstractProcess):
    """Any function of two weights as an update."""

    function: object

    def start(self, key):
        return jnp.zeros(2, jnp.float32)

    def update(self, key, number, state):
        return self.function(state)

    def weights(self, state):
        return state


def layers(layer, **changes):
    arguments = {"members": 2, "key": jax.random.key(0)} | changes
    return rqf.propagate(layer, rqf.laws.Uniform(4, 3), 2, **arguments)


def train(process, **changes):
    return rqf.training.train(process, [0, 1], seeds=2, key=jax.random.key(0), **changes)


def run(drift=None, noise=NOISE, manifold=FLAT, **changes):
    drift = rqf.drifts.NoDrift() if drift is None else drift
    arguments = {"substeps": 1, "members": 2, "key": jax.random.key(0)} | changes
    law = rqf.laws.Normal((10, 3))
    return rqf.simulate(rqf.SDE(drift, noise, manifold), law, [0.0, 0.1], **arguments)


BAD = {
    "a drift of a vector": (
        lambda: run(Drift(lambda t, x: x[0])),
        "`Drift` must return float64 (10, 3)", "got float64 (3,)", "Nothing is broadcast",
    ),
    "a drift in another dtype": (
        lambda: run(Drift(lambda t, x: x.astype(jnp.float32))),
        "`Drift`", "float32", "the dtype of the state",
    ),
    "a drift that fails": (
        lambda: run(Drift(lambda t, x: x @ x)), "`Drift` must take", "float64 (10, 3)",
    ),
    "a drift of two arrays": (lambda: run(Drift(lambda t, x: (x, x))), "`Drift`", "structure"),
    "a noise of a vector": (
        lambda: run(noise=Noise(lambda x, dw: dw[0])),
        "`Noise` must return float64 (10, 3)", "(3,)",
    ),
    "a noise without its increment": (
        lambda: run(noise=Noise(lambda x, dw: x)), "`Noise` must move the state by its increment",
    ),
    "a noise that is not linear": (
        lambda: run(noise=Noise(lambda x, dw: dw**2)), "`Noise` must be linear in its increment",
    ),
    "a noise of no shape": (
        lambda: run(noise=Noise(lambda x, dw: dw, brownian=3)), "`Noise.shape`", "tuple", "3",
    ),
    "a projection to a vector": (
        lambda: run(manifold=Torus(lambda x: x[0], lambda x: 0 * x[0, 0])),
        "`Torus", "must return float64 (10, 3)", "(3,)",
    ),
    "a distance of every token": (
        lambda: run(manifold=Torus(lambda x: x, lambda x: x[:, 0])),
        "`Torus.defect` must return one number", "(10,)",
    ),
    "a solver of a vector": (lambda: run(solver=Solver()), "`Solver` must return", "(3,)"),
    "a drift that does not fit": (
        lambda: run(Drift(lambda t, x: x + jnp.ones((5, 4, 4)))),
        "`Drift` must take", "float64 (10, 3)", "it raised ValueError",
    ),
    "a flow to an equilibrium": (
        lambda: rqf.analysis.equilibrium(Drift(lambda t, x: x[0]), FLAT, jnp.ones((10, 3))),
        "`Drift` must return float64 (10, 3)", "(3,)",
    ),
    "flows to equilibria": (
        lambda: rqf.analysis.find_equilibria(
            Drift(lambda t, x: x[0]), FLAT, jnp.ones((1, 10, 3))
        ),
        "`Drift` must return float64 (10, 3)", "(3,)",
    ),
    "a layer of a vector": (
        lambda: layers(Layer(lambda x: x[0])), "`Layer` must return float64 (4, 3)", "(3,)",
    ),
    "a layer that fails": (lambda: layers(Layer(lambda x: x @ x)), "`Layer` must take", "(4, 3)"),
    "a save of a stack that is no matrix": (
        lambda: layers(Layer(lambda x: x), save=rqf.observables.spectrum),
        "`save` must take", "(4, 3)",
    ),
    "a throw of a stack": (
        lambda: layers(Layer(lambda x: x), throw=math.nan), "`throw` must be True or False", "nan",
    ),
    "an update of a part": (
        lambda: train(Process(lambda w: w[:1])),
        "`Process.update` must return float32 (2,)", "(1,)",
    ),
    "an update that fails": (
        lambda: train(Process(lambda w: w + jnp.ones((3, 3)))),
        "`Process.update` must take", "float32 (2,)",
    ),
    "a save of weights that are no matrix": (
        lambda: train(Process(lambda w: w), save=rqf.observables.spectrum),
        "`save` must take float32 (2,)",
    ),
    "a save of no matrix": (
        lambda: run(save=rqf.observables.spectrum),
        "`save` must take float64 (10, 3)", "square matrix",
    ),
    "a save of nothing": (lambda: run(save=lambda x: None), "`save` must return an array", "None"),
    "a save of a number": (lambda: run(save=lambda x: 1.0), "`save` must return an array", "1.0"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "words"), [(c, w) for c, *w in BAD.values()], ids=BAD.keys())
def test_a_class_that_breaks_its_promise_is_named_with_shapes(call, words, refused):
    refused(call, *words)


@pytest.mark.parametrize(
    ("key", "member", "message"),
    [
        (1, 0, "`key` must be a JAX key.*got 1"),
        (None, 0, "`key` must be a JAX key.*got None"),
        (jax.random.key(0), -1, "`member` must be at least 0; got -1"),
        (jax.random.key(0), 2**32, "`member` must be at most 4294967295"),
        (jax.random.key(0), 0.5, "`member` must be an integer; got 0.5"),
        (jax.random.key(0), jnp.zeros(2, int), "`member` must be an integer"),
    ],
)
def test_keys_of_a_member_are_made_of_a_key_and_a_number(key, member, message, unchecked):
    with pytest.raises(ValueError, match=message):
        rqf.member_keys(key, member)


def test_half_precision_is_refused(unchecked):
    law = rqf.laws.Fixed(jnp.zeros((2, 2), jnp.bfloat16))
    sde = rqf.SDE(rqf.drifts.NoDrift(), NOISE, FLAT)
    with pytest.raises(ValueError, match=r"float32 or float64.*bfloat16"):
        rqf.simulate(sde, law, [0.0, 1.0], substeps=1, members=1, key=jax.random.key(0))


@pytest.mark.parametrize("name", ["status", "time", "member", "a/b", "", ".hidden", "a\n"])
def test_a_name_that_no_file_can_have_is_refused(name):
    runs = rqf.Trajectories(jnp.arange(2.0), {name: jnp.zeros((1, 2))}, jnp.zeros(1, jnp.int32))
    with pytest.raises(ValueError, match="`save` must give what it keeps names that"):
        runs.to_xarray()


def test_leaves_of_nested_values_are_variables_named_by_their_path():
    three = [jnp.full((3, 3), float(i)) for i in range(3)]
    runs = rqf.Trajectories(jnp.arange(3.0), tuple(three), jnp.zeros(3, jnp.int32))
    data = runs.to_xarray()
    assert {"0", "1", "2", "status"} == set(data.data_vars)
    assert data["2"].dims == ("member", "time") and float(data["2"][0, 0]) == 2
    nested = {"a": {"b": three[0], "c": (three[1],)}, "d": three[2]}
    data = rqf.Trajectories(runs.ts, nested, runs.status).to_xarray()
    assert {"a.b", "a.c.0", "d", "status"} == set(data.data_vars)
    twice = {"a": {"b": three[0]}, "a.b": three[1]}
    with pytest.raises(ValueError, match="differ from each other"):
        rqf.Trajectories(runs.ts, twice, runs.status).to_xarray()


def test_terms_on_the_sphere_refuse_solvers_that_leave_it(unchecked):
    sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(2, 3)
    path = rqf.CounterPath([0.0, 1.0], 4, shape=(3, 3), key=jax.random.key(0))
    start = law(jax.random.key(1))

    def end(solver):
        terms = sde.terms(path)
        return diffrax.diffeqsolve(terms, solver, 0.0, 1.0, 0.25, start, max_steps=8).ys[0]

    with pytest.raises(ValueError, match=r"add up displacements.*leave the Sphere"):
        end(diffrax.Heun())
    ends = end(rqf.solvers.default(sde))
    assert jnp.allclose(jnp.sum(ends**2, -1), 1)


def test_results_that_no_machine_holds_are_refused_before_they_are_computed():
    law, key = rqf.laws.Uniform(4, 3), jax.random.key(0)
    options = {"members": 4 * 10**9, "key": key}
    with pytest.raises(MemoryError, match=r"bytes are saved, and .* are free\. Pass `save=`"):
        sde = rqf.models.random_quadratic_form(1.0)
        rqf.simulate(sde, law, jnp.linspace(0.0, 9.0, 10_000), substeps=1, **options)
    with pytest.raises(MemoryError, match=r"bytes are saved, and .* are free\. Pass `save=`"):
        layer = rqf.layers.Residual(rqf.layers.RandomMLP("tanh", width=4))
        rqf.propagate(layer, law, 10_000, **options)
