"""Theorems about the verb: whose trajectory is whose, what compiles, what fails and how."""

import itertools
import math

import diffrax
import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _ensembles import isotropic
from hypothesis import strategies
from jaxtyping import Array, Float

import rqf_jax as rqf
from rqf_jax._ensemble import simulate as _simulate
from rqf_jax.laws import Equiangular, Fixed, InSpan, Pair, Uniform, Zeros
from rqf_jax.noises import IsotropicNoise, SpanNoise, TokenNoise

KEY = jax.random.key(5)
TS = jnp.array([0.0, 0.5, 1.25])
SPHERE, FLAT, NONE = rqf.manifolds.Sphere(), rqf.manifolds.Euclidean(), rqf.drifts.NoDrift()


def run(**changes):
    """A small ensemble."""
    arguments = {
        "sde": isotropic(0.5),
        "law": Uniform(2, 3),
        "ts": TS,
        "substeps": 4,
        "members": 5,
        "key": KEY,
    }
    return rqf.simulate(**(arguments | changes))


@pytest.fixture(
    scope="module",
    params=[3, pytest.param(6, marks=pytest.mark.slow)],
    ids=["members last", "members first"],
)
def dim(request):
    return request.param


@pytest.fixture(scope="module")
def whole(dim):
    """Five members at once, in either layout."""
    return run(law=Uniform(2, dim)).ys


@pytest.mark.parametrize(
    "batch_size", [2, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 3, 4, 5, 9))]
)
def test_the_size_of_batches_changes_no_member(whole, dim, batch_size):
    if dim == 6 and batch_size != 2:
        pytest.skip("one size is enough for the second layout")
    ys = run(law=Uniform(2, dim), batch_size=batch_size).ys
    assert ys.shape == whole.shape == (5, 3, 2, dim)
    assert np.abs(ys - whole).max() <= 1e-12


@pytest.mark.slow
def test_first_member_continues_an_ensemble(whole, dim):
    ys = run(law=Uniform(2, dim), members=2, first_member=3).ys
    assert np.abs(ys - whole[3:]).max() <= 1e-12


@pytest.mark.slow
def test_a_larger_ensemble_keeps_its_earlier_members(whole, dim):
    ys = run(law=Uniform(2, dim), members=7).ys
    assert np.abs(ys[:5] - whole).max() <= 1e-12
    # And no two members are alike.
    for a in range(7):
        for b in range(a):
            assert np.abs(ys[a] - ys[b]).max() > 0.01


def nothing(x):
    return x[:0]


def test_a_saved_array_may_hold_no_number():
    assert run(save=nothing).ys.shape == (5, 3, 0, 3)


def test_members_start_from_their_own_draw_of_the_law(whole, dim):
    law = Uniform(2, dim)
    for member in range(5):
        start = law(rqf.member_keys(KEY, member)[0])
        np.testing.assert_allclose(whole[member, 0], start, atol=1e-15)


@pytest.mark.slow
def test_more_saves_on_the_same_steps_change_nothing():
    coarse = run(ts=jnp.array([0.0, 0.5, 1.0]))
    fine = run(ts=jnp.linspace(0.0, 1.0, 9), substeps=1)
    assert np.abs(coarse.ys - fine.ys[:, ::4]).max() <= 1e-12


def test_a_sweep_by_vmap_is_one_run_for_each_value():
    sigmas = [0.2, 0.9]
    swept = jax.vmap(lambda sigma: run(sde=rqf.models.random_quadratic_form(sigma)).ys)
    for sigma, ys in zip(sigmas, swept(jnp.array(sigmas)), strict=True):
        assert np.abs(run(sde=rqf.models.random_quadratic_form(sigma)).ys - ys).max() <= 1e-12


@pytest.mark.slow
def test_a_run_inside_jit_is_the_run_outside():
    compiled = jax.jit(lambda sigma: run(sde=rqf.models.random_quadratic_form(sigma)).ys)
    plain = run(sde=rqf.models.random_quadratic_form(0.5)).ys
    assert np.abs(compiled(jnp.asarray(0.5)) - plain).max() <= 1e-12


TRACES = []


class Counted(rqf.drifts.AbstractDrift):
    """A drift that notes whenever it is traced."""

    speed: Float[Array, ""]

    def __call__(self, t, x):
        TRACES.append(t)
        return self.speed * x[::-1]


def counted(speed=0.1, sigma=0.5):
    return rqf.SDE(Counted(jnp.asarray(speed)), IsotropicNoise(sigma, 0.0), SPHERE)


def test_new_numbers_compile_nothing_and_a_new_size_does():
    law = Fixed(jnp.eye(3)[:2])
    first = run(sde=counted(), law=law).ys
    TRACES.clear()
    for changes in (
        {"sde": counted(sigma=0.9)},
        {"sde": counted(speed=0.3)},
        {"key": jax.random.key(6)},
        {"law": Fixed(jnp.eye(3)[1:])},
        {"ts": 2 * TS},
        {"first_member": 1000},
    ):
        ys = run(**({"sde": counted(), "law": law} | changes)).ys
        assert not TRACES, changes
        assert np.abs(ys - first).max() > 1e-3
    run(sde=counted(), law=law, members=6)
    assert TRACES


@pytest.mark.slow
def test_every_kind_of_number_is_the_same_program():
    run(sde=counted(sigma=0.5))
    TRACES.clear()
    for one in (1, np.float64(1), np.array(1.0), jnp.asarray(1.0), jnp.array([1.0])[0]):
        run(sde=counted(sigma=one))
        assert not TRACES, type(one)


class Poison(rqf.drifts.AbstractDrift):
    """From some time on, members beyond a threshold get a velocity that is no number."""

    dose: Float[Array, ""]
    threshold: Float[Array, ""]
    onset: Float[Array, ""]

    def __call__(self, t, x):
        taken = (t >= self.onset) & (x[0, 0] > self.threshold)
        return jnp.where(taken, self.dose, jnp.zeros_like(x))


FINE = jnp.linspace(0.0, 1.0, 17)


def first_coordinate(x):
    return x[0, 0]


def poisoned(shape, *, dose=math.nan, threshold=0.1, **changes):
    """Eight Brownian members in flat space."""
    drift = Poison(jnp.asarray(dose), jnp.asarray(threshold), jnp.asarray(0.5))
    arguments = {
        "sde": rqf.SDE(drift, TokenNoise(0.5), FLAT),
        "law": Zeros(shape),
        "ts": FINE,
        "substeps": 1,
        "members": 8,
        "solver": rqf.solvers.GeodesicEuler(),
        "throw": False,
    }
    return run(**(arguments | changes))


@pytest.fixture(
    scope="module",
    params=[pytest.param((1, 2), marks=pytest.mark.slow), (3, 7)],
    ids=["members last", "members first"],
)
def shape(request):
    return request.param


@pytest.fixture(scope="module")
def healthy(shape):
    runs = poisoned(shape, threshold=math.inf)
    assert not np.any(runs.status)
    return np.asarray(runs.ys)


@pytest.fixture(scope="module")
def first_bad(healthy):
    """The save at which the poison, taken at the start of a step, must show; 0 for never."""
    taken = (np.asarray(FINE) >= 0.5) & (healthy[:, :, 0, 0] > 0.1)
    # Poison that would be taken at the last save has no step to act in.
    taken = taken[:, :-1]
    status = np.where(taken.any(axis=1), taken.argmax(axis=1) + 1, 0)
    assert 2 <= np.count_nonzero(status) <= 7 and np.unique(status).size > 2
    return status


@pytest.mark.parametrize("dose", [math.nan, math.inf, -math.inf])
def test_status_is_the_first_save_that_is_not_finite_and_other_members_keep_their_bits(
    shape, healthy, first_bad, dose
):
    runs = poisoned(shape, dose=dose)
    np.testing.assert_array_equal(runs.status, first_bad)
    ys = np.asarray(runs.ys)
    for member, bad in enumerate(first_bad):
        last_good = bad or len(FINE)
        np.testing.assert_array_equal(ys[member, :last_good], healthy[member, :last_good])
        assert not np.any(np.isfinite(ys[member, last_good:]))


def test_status_sees_what_happens_between_saves(shape, first_bad):
    runs = poisoned(shape, ts=FINE[::4], substeps=4)
    np.testing.assert_array_equal(runs.status, np.ceil(first_bad / 4))


@pytest.mark.slow
def test_status_and_saved_observables_of_a_run_in_batches(shape, healthy, first_bad):
    runs = poisoned(shape, batch_size=3, save=first_coordinate)
    np.testing.assert_array_equal(runs.status, first_bad)
    assert runs.ys.shape == (8, 17)
    well = first_bad == 0
    np.testing.assert_array_equal(runs.ys[well], healthy[well, :, 0, 0])
    assert np.all(np.isnan(runs.ys[~well, -1]))


class Broken(rqf.laws.AbstractLaw):
    """A law that now and then draws no number."""

    def __call__(self, key):
        x = jax.random.uniform(key, (1, 2))
        return jnp.where(x[0, 0] > 0.7, jnp.nan, x)


def test_a_member_that_starts_as_nan_never_passes_as_success():
    sde = rqf.SDE(NONE, TokenNoise(0.5), FLAT)
    runs = run(sde=sde, law=Broken(), members=20, throw=False)
    bad = np.any(np.isnan(runs.ys), axis=(1, 2, 3))
    assert 0 < np.count_nonzero(bad) < 20
    np.testing.assert_array_equal(runs.status > 0, bad)


def test_throw_names_the_number_and_the_first_ids_of_bad_members(first_bad, shape):
    ids = np.flatnonzero(first_bad)
    with pytest.raises(rqf.NonFiniteError) as caught:
        poisoned(shape, throw=True)
    message = str(caught.value)
    assert message.startswith(f"{ids.size} of 8 members became NaN or infinite")
    assert f" {', '.join(map(str, ids[:5]))}" in message
    first = first_bad[ids[0]]
    assert f"between saves {first - 1} and {first}" in message
    assert "`throw=False`" in message


def test_ids_of_bad_members_are_global():
    bad = np.flatnonzero(poisoned((1, 2), first_member=1000).status)
    assert bad.size
    with pytest.raises(
        rqf.NonFiniteError, match=f"infinite: {', '.join(map(str, 1000 + bad[:5]))}"
    ):
        poisoned((1, 2), first_member=1000, throw=True)


def test_inside_jit_bad_members_raise_at_run_time():
    def ends(threshold):
        drift = Poison(jnp.asarray(math.nan), threshold, jnp.asarray(0.5))
        sde = rqf.SDE(drift, TokenNoise(0.5), FLAT)
        return poisoned((1, 2), sde=sde, throw=True).ys[:, -1]

    compiled = eqx.filter_jit(ends)
    assert np.all(np.isfinite(compiled(jnp.asarray(math.inf))))
    with pytest.raises(RuntimeError, match="became NaN or infinite"):
        jax.block_until_ready(compiled(jnp.asarray(0.1)))


class Compiled(Exception):
    """The arguments were accepted and compilation would start."""


@pytest.fixture
def compiler(monkeypatch):
    def compiled(*args):
        raise Compiled

    monkeypatch.setattr(_simulate, "ensemble", compiled)


class Integers(rqf.laws.AbstractLaw):
    """A law of integers."""

    def __call__(self, key):
        return jnp.ones((1, 1), jnp.int32)


class Two(rqf.laws.AbstractLaw):
    """A law of two arrays."""

    def __call__(self, key):
        return jnp.eye(3), jnp.eye(3)


OFF = np.eye(3) * [[1], [1.01], [1]]
BAD = {
    # the equation
    "sde": (lambda: run(sde="rqf"), "`sde` must be an `rqf_jax.SDE`", "'rqf'"),
    "drift": (lambda: rqf.SDE(0, TokenNoise(1.0), FLAT), "`drift` must be a drift", "0"),
    "noise": (lambda: rqf.SDE(NONE, 1.0, FLAT), "`noise` must be a noise", "1.0"),
    "manifold": (lambda: rqf.SDE(NONE, TokenNoise(1.0), "S"), "`manifold` must be a manifold"),
    "negative sigma": (lambda: TokenNoise(-0.5), "`sigma` must be at least 0", "-0.5"),
    "negative symmetric": (
        lambda: IsotropicNoise(-0.5, 0.0), "`symmetric` must be at least 0", "-0.5",
    ),
    "negative antisymmetric": (
        lambda: SpanNoise(0.0, -2), "`antisymmetric` must be at least 0", "-2",
    ),
    "nan sigma": (lambda: TokenNoise(math.nan), "`sigma` must be finite", "nan"),
    "infinite sigma": (lambda: TokenNoise(math.inf), "`sigma` must be finite", "inf"),
    "sigma of two": (lambda: TokenNoise([1.0, 2.0]), "`sigma` must be a scalar", "(2,)"),
    "no sigma": (lambda: TokenNoise(None), "`sigma` must be a real number", "None"),
    "text for sigma": (lambda: TokenNoise("1"), "`sigma` must be a real number", "'1'"),
    "complex sigma": (lambda: TokenNoise(jnp.asarray(1j)), "`sigma` must be real", "complex"),
    # the law
    "law": (
        lambda: run(law=np.eye(3)), "`law` must be a law of `rqf_jax.laws`", "float64", "(3, 3)",
    ),
    "no tokens": (lambda: Uniform(0, 3), "`tokens` must be at least 1", "0"),
    "no dim": (lambda: Uniform(2, 0), "`dim` must be at least 1", "0"),
    "half a token": (lambda: Uniform(1.5, 3), "`tokens` must be an integer", "1.5"),
    "true tokens": (lambda: Uniform(True, 3), "`tokens` must be an integer", "True"),
    "nan in x0": (lambda: Fixed([[0.0, math.nan]]), "`x0` must be finite", "nan", "(0, 1)"),
    "infinite x0": (lambda: Fixed([[math.inf, 0.0]]), "`x0` must be finite", "inf", "(0, 0)"),
    "text for x0": (lambda: Fixed("x"), "`x0` must be a real number or an array", "'x'"),
    "ragged x0": (lambda: Fixed([[1.0], [1.0, 0.0]]), "`x0`", "array"),
    "off the sphere": (
        lambda: run(law=Fixed(OFF)), "`law`", "Sphere", "1e-05", "0.01", "Sphere().project(x0)",
    ),
    "zeros on the sphere": (lambda: run(law=Zeros((2, 3))), "`law`", "Sphere", "1e-05", "off by 1"),
    "a vector of tokens": (lambda: run(law=Fixed([1.0, 0.0, 0.0])), "`law`", "(3,)"),
    "a stack of tokens": (lambda: run(law=Fixed([np.eye(3)])), "`law`", "(1, 3, 3)"),
    "a scalar on the sphere": (lambda: run(law=Fixed(1.0)), "`law`", "()"),
    "a scalar in flat space": (
        lambda: run(law=Zeros(()), sde=rqf.SDE(NONE, TokenNoise(1.0), FLAT)), "()",
    ),
    "a law of integers": (
        lambda: run(law=Integers()), "`law` must draw one array of floats", "int32",
    ),
    "a law of two": (lambda: run(law=Two()), "`law` must draw one array of floats", "(3, 3)"),
    "shape is a number": (lambda: Zeros(3), "`shape`", "3"),
    "an empty shape": (lambda: Zeros((2, 0)), "`shape` must be at least 1", "0"),
    "angle too large": (lambda: Pair(3.2, 3), "`angle` must be in [0, 3.14159]", "3.2"),
    "angle negative": (lambda: Pair(-0.1, 3), "`angle` must be in [0, 3.14159]", "-0.1"),
    "angle nan": (lambda: Pair(math.nan, 3), "`angle` must be finite", "nan"),
    "pair on a line": (lambda: Pair(1.0, 1), "`dim` must be at least 2", "1"),
    "overlap too low": (
        lambda: Equiangular(3, 3, -0.51), "`overlap` must be in [-0.5, 1]", "-0.51",
    ),
    "overlap too high": (lambda: Equiangular(3, 3, 1.5), "`overlap` must be in [-0.5, 1]", "1.5"),
    "equiangular in a plane": (
        lambda: Equiangular(3, 2, 0.0), "`dim` must be at least `tokens`, 3", "2",
    ),
    "span of no law": (lambda: InSpan(np.eye(3)), "`law` must be a law of `rqf_jax.laws`"),
    # the times
    "equal times": (lambda: run(ts=[0.0, 1.0, 1.0]), "`ts` must be strictly increasing", "1.0"),
    "falling times": (
        lambda: run(ts=[0.0, 2.0, 1.0]), "`ts` must be strictly increasing", "2.0", "1.0",
    ),
    "one time": (lambda: run(ts=[0.0]), "`ts` must be one axis of at least 2 times", "(1,)"),
    "no time": (lambda: run(ts=[]), "`ts` must be one axis of at least 2 times", "(0,)"),
    "a number for times": (lambda: run(ts=1.0), "`ts` must be one axis of at least 2 times", "()"),
    "two axes of times": (lambda: run(ts=[[0.0, 1.0]]), "`ts` must be one axis", "(1, 2)"),
    "nan in times": (lambda: run(ts=[0.0, math.nan]), "`ts` must be finite", "nan", "(1,)"),
    "infinite time": (lambda: run(ts=[0.0, math.inf]), "`ts` must be finite", "inf", "(1,)"),
    "text for times": (lambda: run(ts="0, 1"), "`ts` must be a real number or an array", "'0, 1'"),
    "ragged times": (lambda: run(ts=[[0.0], [1.0, 2.0]]), "`ts`", "array"),
    "too many steps": (lambda: run(substeps=2**30), "`substeps`", "2³¹", str(2**31)),
    # the sizes
    "no substeps": (lambda: run(substeps=0), "`substeps` must be at least 1", "0"),
    "half a substep": (lambda: run(substeps=2.0), "`substeps` must be an integer", "2.0"),
    "true substeps": (lambda: run(substeps=True), "`substeps` must be an integer", "True"),
    "no members": (lambda: run(members=0), "`members` must be at least 1", "0"),
    "fewer than no members": (lambda: run(members=-3), "`members` must be at least 1", "-3"),
    "half a member": (lambda: run(members=2.0), "`members` must be an integer", "2.0"),
    "true members": (lambda: run(members=True), "`members` must be an integer", "True"),
    "an array of members": (lambda: run(members=jnp.arange(3)), "`members` must be an integer"),
    "no batch": (lambda: run(batch_size=0), "`batch_size` must be at least 1", "0"),
    "half a batch": (lambda: run(batch_size=2.0), "`batch_size` must be an integer", "2.0"),
    "true batch": (lambda: run(batch_size=True), "`batch_size` must be an integer", "True"),
    "a member before the first": (
        lambda: run(first_member=-1), "`first_member` must be at least 0", "-1",
    ),
    "a member beyond the counter": (lambda: run(first_member=2**32), "`first_member`", str(2**32)),
    "members beyond the counter": (lambda: run(first_member=2**32 - 2), "`first_member`"),
    "half a substep of a path": (
        lambda: rqf.CounterPath(TS, 2.0, shape=(3,), key=KEY),
        "`substeps` must be an integer", "2.0",
    ),
    # the key
    "a seed": (lambda: run(key=0), "`key` must be a JAX key, such as `jax.random.key(0)`", "0"),
    "an array of floats": (lambda: run(key=jnp.zeros(2)), "`key` must be a JAX key", "float64"),
    "a key of three words": (lambda: run(key=jnp.zeros(3, jnp.uint32)), "`key`", "(3,)"),
    "several keys": (lambda: run(key=jax.random.split(KEY, 2)), "`key` must be one key", "(2,)"),
    "an rbg key": (
        lambda: run(key=jax.random.key(0, impl="rbg")), "`key`", "`rbg`", "threefry2x32",
    ),
    "an unsafe_rbg key": (
        lambda: run(key=jax.random.key(0, impl="unsafe_rbg")), "`key`", "`rbg`", "threefry2x32",
    ),
    "the words of an rbg key": (
        lambda: run(key=jax.random.key_data(jax.random.key(0, impl="rbg"))), "`key`", "rbg",
    ),
    # the rest
    "solver": (lambda: run(solver="heun"), "`solver` must be a diffrax solver", "'heun'"),
    "a wrong solver": (
        lambda: run(solver=diffrax.Heun()),
        "`solver` Heun does not suit", "leave the Sphere", "Use `ProjectiveFlow`",
    ),
    "a solver of noise without noise": (
        lambda: run(sde=rqf.SDE(NONE, rqf.noises.NoNoise(), FLAT), solver=diffrax.ShARK()),
        "`solver` ShARK does not suit", "there is none", "Use `",
    ),
    "save": (lambda: run(save=3), "`save` must be a function of one state", "3"),
    "adjoint": (lambda: run(adjoint=3), "`adjoint`", "3"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "words"), [(c, w) for c, *w in BAD.values()], ids=BAD.keys())
def test_bad_input_is_one_error_that_names_argument_rule_and_value(call, words, refused, compiler):
    error = refused(call, *words)
    assert type(error) is ValueError and error.__cause__ is None


def test_too_many_tokens_for_their_span_are_refused_while_tracing():
    with pytest.raises(
        ValueError, match="fewer tokens than dimensions; got 3 tokens in dimension 3"
    ):
        run(law=Uniform(3, 3), sde=rqf.SDE(NONE, SpanNoise(1.0, 0.0), SPHERE))


@pytest.mark.parametrize("off", [0.4e-5, -0.8e-5])
def test_states_off_the_sphere_by_rounding_are_accepted(off, compiler):
    with pytest.raises(Compiled):
        run(law=Fixed((1 + off) * np.eye(3)))


@pytest.mark.parametrize("off", [1.2e-5, -2e-5])
def test_states_off_the_sphere_by_more_are_refused(off, compiler):
    with pytest.raises(ValueError, match="1e-05"):
        run(law=Fixed((1 + off) * np.eye(3)))


@pytest.mark.parametrize(
    "changes",
    [
        {"ts": [0, 1]},
        {"ts": np.array([0.0, 1.0], np.float32)},
        {"members": np.int64(3)},
        {"key": jax.random.PRNGKey(0)},
        {"first_member": 2**32 - 5},
    ],
    ids=str,
)
def test_harmless_spellings_are_accepted(changes, unchecked, compiler):
    with pytest.raises(Compiled):
        run(**changes)


def test_a_raw_key_is_its_typed_key():
    np.testing.assert_array_equal(run(key=jax.random.PRNGKey(5)).ys, run(key=KEY).ys)


@pytest.mark.parametrize("control", [2.01, 5.0])
def test_a_control_number_above_two_warns_and_names_enough_steps(control, compiler):
    sigma = math.sqrt(control / 3 / 0.25)
    with pytest.warns(UserWarning, match="should be at most 1") as caught, pytest.raises(Compiled):
        run(sde=isotropic(sigma), ts=jnp.array([0.0, 0.5, 1.5]), substeps=4)
    (message,) = {str(warning.message) for warning in caught}
    assert "h = 0.25" in message and f"{control:.3g}" in message
    factor = float(message.split(". Use ")[1].split(" times as many `substeps`")[0])
    assert control / factor == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("control", [0.5, 1.99])
def test_a_control_number_below_two_does_not_warn(control, compiler):
    with pytest.raises(Compiled):
        run(sde=isotropic(math.sqrt(control / 3)), ts=jnp.array([0.0, 1.0]), substeps=1)


@hypothesis.settings(max_examples=15, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    tokens=strategies.integers(0, 3),
    dim=strategies.integers(0, 3),
    members=strategies.integers(0, 2),
    substeps=strategies.integers(0, 2),
    times=strategies.lists(strategies.floats(-1e3, 1e3), max_size=3),
)
@pytest.mark.filterwarnings("ignore:the step h")
def test_any_small_run_is_finite_or_refused(tokens, dim, members, substeps, times):
    try:
        law, ts = Uniform(tokens, dim), jnp.asarray(times, float)
        runs = run(law=law, members=members, substeps=substeps, ts=ts)
    except ValueError:
        increasing = len(times) > 1 and all(a < b for a, b in itertools.pairwise(times))
        assert min(tokens, dim, members, substeps) < 1 or not increasing
    else:
        assert runs.ys.shape == (members, len(times), tokens, dim)
        assert np.all(np.isfinite(runs.ys)) and not np.any(runs.status)


def trajectories():
    rng = np.random.default_rng(0)
    ys = jnp.asarray(rng.normal(size=(4, 3, 2, 5)))
    return rqf.Trajectories(TS, ys, jnp.array([0, 2, 0, 0], jnp.int32))


def both_norms(x):
    return {"total": jnp.sum(x * x), "rows": jnp.sum(x * x, axis=-1)}


def test_observe_is_a_vmap_over_members_and_times():
    runs = trajectories()
    seen = runs.observe(both_norms)
    assert seen["total"].shape == (4, 3) and seen["rows"].shape == (4, 3, 2)
    np.testing.assert_allclose(seen["rows"], np.sum(np.asarray(runs.ys) ** 2, axis=-1), rtol=1e-14)


@pytest.mark.slow
def test_saving_an_observable_is_observing_the_saved_states():
    saved, seen = run(save=both_norms).ys, run().observe(both_norms)
    assert saved.keys() == seen.keys()
    for name in saved:
        np.testing.assert_allclose(saved[name], seen[name], atol=1e-14)


def test_a_dataset_has_named_dimensions_and_the_save_times():
    runs = trajectories()
    data = runs.to_xarray()
    assert data.state.dims == ("member", "time", "token", "dim")
    assert data.status.dims == ("member",)
    np.testing.assert_array_equal(data.state, runs.ys)
    np.testing.assert_array_equal(data.status, runs.status)
    np.testing.assert_array_equal(data.time, TS)


def test_a_dataset_of_observables_has_a_variable_for_each():
    runs = trajectories()
    seen = rqf.Trajectories(runs.ts, runs.observe(both_norms), runs.status)
    data = seen.to_xarray(dims={"rows": ("token",)})
    assert data.total.dims == ("member", "time")
    assert data["rows"].dims == ("member", "time", "token")
    assert seen.to_xarray()["rows"].dims == ("member", "time", "rows_0")
    np.testing.assert_array_equal(data["rows"], seen.ys["rows"])


def test_the_repr_is_a_summary():
    text = "Trajectories(members=4, times=3, t=0…1.25, ys=float64[2, 5], failed=1)"
    assert repr(trajectories()) == text
    traced = []
    jax.eval_shape(lambda runs: traced.append(repr(runs)), trajectories())
    assert traced == ["Trajectories(members=4, times=3, ys=float64[2, 5])"]
