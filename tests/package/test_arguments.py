"""Every argument passes one gate: anything that does not belong there is named, in one wording."""

import datetime
import decimal
import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import rqf_jax as rqf
from rqf_jax import _arguments as gate
from rqf_jax.drifts import AbstractDrift, NoDrift

NO_NUMBERS = {
    "text": "1.0",
    "bytes": b"1",
    "complex": 1j,
    "complex array": np.ones(2, complex),
    "complex device array": jnp.ones(2, complex),
    "set": {1.0},
    "dict": {},
    "dict of arrays": {"a": jnp.ones(2)},
    "none": None,
    "masked": np.ma.masked_array([1.0, 2.0], [False, True]),
    "date": np.datetime64("2026-01-01"),
    "dates": np.array(["2026-01-01"], "M8[D]"),
    "duration": datetime.timedelta(1),
    "key": jax.random.key(0),
    "keys in a list": [jax.random.key(0)],
    "decimal": decimal.Decimal(1),
    "ragged": [[1.0], [1.0, 2.0]],
    "list of text": ["1"],
    "list of arrays and text": [jnp.ones(()), "a"],
    "object": object(),
    "class": int,
    "function": len,
    "records": np.zeros(1, [("a", float)]),
    "far too large": 10**400,
    "more digits than Python prints": 10**5000,
    "far too negative": [-(10**400)],
}


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("rule", [gate.floating, gate.host, gate.number(), gate.squared])
def test_what_is_no_real_number_is_refused_by_name_and_shown_shortly(rule, value):
    with pytest.raises(ValueError, match=r"^`sigma` must ") as caught:
        rule("sigma", value)
    assert len(str(caught.value)) < 300 and caught.value.__cause__ is None


REAL = {
    "large integer": (10**12, 1e12),
    "integer beyond 64 bits": (10**30, 1e30),
    "unsigned": (np.uint64(2**63), 2.0**63),
    "fraction": (fractions.Fraction(1, 4), 0.25),
    "longer float": (np.longdouble(0.5), 0.5),
    "other byte order": (np.array([0.5], ">f8"), 0.5),
    "labelled": (xarray.DataArray([0.5]), 0.5),
    "list of device arrays": ([jnp.ones(2), jnp.ones(2)], 1.0),
    "half precision": (np.float16(0.5), 0.5),
    "brain float": (jnp.full(2, 0.5, jnp.bfloat16), 0.5),
}


@pytest.mark.parametrize(("value", "expected"), REAL.values(), ids=REAL)
@pytest.mark.parametrize("rule", [gate.floating, gate.host])
def test_every_real_number_passes_with_its_value(rule, value, expected):
    assert np.all(np.asarray(rule("sigma", value), float) == expected)


def test_float_arrays_keep_their_precision():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64):
        assert gate.floating("x", jnp.ones(2, dtype)).dtype == dtype
        assert gate.floating("x", np.ones(2, dtype)).dtype == dtype


def test_a_number_beyond_the_precision_is_refused_and_says_which():
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match=r"`x` must be at most 3.4e\+38 .*float32.*1e\+300"):
            gate.floating("x", 1e300)


def test_traced_values_pass_untouched():
    def strength(x):
        return gate.number(minimum=0)("x", x) * gate.finite("y", [x, 1.0])[0]

    assert jax.jit(strength)(-3.0) == 9.0
    assert jax.grad(strength)(3.0) == 6.0
    assert jnp.all(jax.vmap(strength)(jnp.array([1.0, 2.0])) == jnp.array([1.0, 4.0]))


def test_numpy_formulas_say_that_they_cannot_be_traced():
    with pytest.raises(ValueError, match="`x` must be known, because NumPy computes with it"):
        jax.jit(lambda x: gate.host("x", x))(1.0)


OTHER_RULES = {
    "integer": (gate.whole(minimum=0), 1, [1.0, "1", None, -1, 10**40, True]),
    "part": (gate.part(AbstractDrift), NoDrift(), [NoDrift, 1.0, "drift", None]),
    "function": (gate.function_of("one state"), abs, [1.0, "abs", None]),
    "one of": (gate.one_of("relu", "tanh"), "tanh", ["gelu", 1, None, np.ones(2), {}]),
    "one of numbers": (gate.one_of(1, 2), 2.0, [3, 1.5, True, "1", np.nan, np.ones(2)]),
    "flag": (gate.flag, True, [1, 0.0, "yes", None, np.nan]),
    "key": (gate.prng_key, jax.random.key(0), [0, 1.0, None, jnp.zeros(2), "key"]),
    "raw key": (gate.prng_key, jax.random.PRNGKey(0), [jax.random.split(jax.random.key(0))]),
    "sizes": (gate.sizes, (2, 3), [2, [2, 3], (2.0,), (0,), "23", (10**12, 10**12)]),
    "each": (gate.each(gate.whole()), (1, 2), [(), 1, "12", {1, 2}, (1, 0), (x for x in (1, 2))]),
    "maybe": (gate.maybe(gate.flag), None, [1, "no"]),
    "mask": (gate.allowed, np.eye(2, dtype=bool), [np.eye(2), "mask", None, [[True, False]] * 3]),
}


@pytest.mark.parametrize(("rule", "good", "bad"), OTHER_RULES.values(), ids=OTHER_RULES)
def test_a_rule_lets_what_belongs_through_and_names_the_rest(rule, good, bad):
    passed = rule("given", good)
    assert passed is good or np.all(passed == good)
    for value in bad:
        with pytest.raises(ValueError, match=r"^`given(\[\d\])?` must "):
            rule("given", value)


def test_a_class_in_place_of_an_object_is_told_how_to_make_one():
    with pytest.raises(ValueError, match=r"`drift` must be a drift of `rqf_jax.drifts`.*parenth"):
        gate.part(AbstractDrift)("drift", NoDrift)


def test_a_size_that_cannot_fit_says_how_many_bytes_it_would_take():
    with pytest.raises(ValueError, match=r"`tokens` must make arrays that fit.*1.12e\+04 GiB"):
        gate.fitting("tokens", (10**12, 3))


def test_the_gate_of_a_function_names_its_own_arguments_and_keeps_its_face():
    @gate.takes(sigma=gate.number(minimum=0), drifts=gate.each(gate.part(AbstractDrift)))
    def inner(sigma, *drifts, label="a"):
        """The words."""
        return sigma, drifts, label

    assert inner.__doc__ == "The words." and inner.__name__ == "inner"
    sigma, drifts, label = inner(2, NoDrift(), label="b")
    assert sigma == 2.0 and len(drifts) == 1 and label == "b"
    with pytest.raises(ValueError, match=r"`sigma` must be at least 0; got -1"):
        inner(-1, NoDrift())
    with pytest.raises(ValueError, match=r"`drifts\[1\]` must be a drift of"):
        inner(1.0, NoDrift(), 3)
    with pytest.raises(TypeError, match=r"inner\(\) missing 1 required"):
        inner()


LAW, TOKENS = rqf.laws.Zeros((2,)), np.eye(2)
PATHS = np.random.default_rng(0).normal(size=(5, 20, 2))
OBSERVED = {
    "law": rqf.laws.Normal((1,), 1.0),
    "ys": [1.0, 0.5, 0.8],
    "ts": [0.0, 0.1, 0.2],
    "substeps": 1,
}
PULL = rqf.SDE(rqf.drifts.Pull(1.0), rqf.noises.TokenNoise(1.0), rqf.manifolds.Euclidean())


def shooting(**given):
    observed = {name: OBSERVED[name] for name in ("ys", "ts", "substeps")}
    still = rqf.SDE(PULL.drift, rqf.noises.NoNoise(), PULL.manifold)
    options = {"model": lambda p: still, "observe": jnp.sum, "state": [1.0]} | given
    return rqf.inference.fit_shooting(start={"rate": 1.0}, **observed, **options)


FUNCTIONS = {
    "map": lambda f: rqf.analysis.surrogates.map_exponents(f, TOKENS, steps=2),
    "dictionary": lambda f: rqf.analysis.koopman_modes(PATHS, np.arange(20.0), dictionary=f),
    "observe": lambda f: shooting(observe=f),
    "model": lambda f: shooting(model=f),
    "kernel": lambda f: rqf.theory.fields.overlap_drift(0.5, f, dim=3),
    "weight": lambda f: rqf.theory.attention.critical_strength(f, beta=1.0, sigma=1.0),
    "function": lambda f: rqf.theory.sphere.expectation(f, 1.0, 1.0, sigma=1.0),
    "observable": lambda f: rqf.losses.SimulatedMoments(
        LAW, [0.0, 1.0], np.zeros(2), observable=f, substeps=1, members=2
    ),
    "loss": lambda f: rqf.analysis.curvature.hessian(f, np.ones(2)),
    "outputs": lambda f: rqf.analysis.curvature.gauss_newton_product(f, jnp.sum, TOKENS, TOKENS),
    "density": lambda f: rqf.plot.angle_histogram([0.5, 1.0], density=f),
    "save": lambda f: rqf.simulate(
        PULL, LAW, [0.0, 1.0], substeps=1, members=2, key=jax.random.key(0), save=f
    ),
}


@pytest.mark.parametrize("wrong", [LAW, dict, NoDrift()], ids=["law", "dict", "drift"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_of_something_else_is_refused_by_the_name_of_its_argument(refused, name, wrong):
    # A law is a function too, of a key: its own complaint about the key would lead nowhere.
    refused(lambda: FUNCTIONS[name](wrong), f"`{name}` must ")


def test_a_function_that_is_right_keeps_its_own_errors_of_arithmetic():
    with pytest.raises(ZeroDivisionError), gate.calling("save", "be a function"):
        raise ZeroDivisionError
