"""Runs by fused kernels are the runs by XLA's scan, and say when they are not."""

import inspect
import os
import subprocess
import sys

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _equations import EQUATIONS, kinds

import rqf_jax as rqf
from rqf_jax import _store

KEY = jax.random.key(3)
TS = [0.0, 0.64, 1.28]


# Kernels are for float32.
pytestmark = pytest.mark.usefixtures("as_a_user")


@pytest.fixture
def fused(monkeypatch):
    """Turn kernels on or off for the next calls."""
    return lambda on: monkeypatch.setenv("RQF_JAX_FUSED", "1" if on else "0")


def run(model, *, members=200, **others):
    sde, law = model
    return rqf.simulate(sde, law, TS, substeps=64, members=members, key=KEY, **others).ys


def errors(found, wanted):
    """The largest difference of each member, relative to the size of its state or a typical one."""
    worst = []
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        one, other = (np.asarray(y, float).reshape(*y.shape[:2], -1) for y in (one, other))
        own, typical = np.abs(other).max(-1), np.sqrt((other**2).mean((0, 2)))
        worst.append((np.abs(one - other).max(-1) / np.maximum(own, typical)).max(-1))
    return np.max(worst, axis=0)


def error(found, wanted):
    """The largest difference of all members."""
    return float(errors(found, wanted).max())


def doubled(parts):
    """The same numbers in double precision: a model that draws them would draw others."""
    return jax.tree.map(lambda a: a.astype(float) if eqx.is_inexact_array(a) else a, parts)


# An array and a state of parts; the others take as long to compile.
QUICK = {"noisy_attention", "underdamped_langevin"}


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EQUATIONS],
)
def test_a_kernel_follows_the_scan_to_rounding_for_every_equation_of_few_numbers(name, fused):
    ours = EQUATIONS[name]()
    text = rqf.explain(ours.sde, ours.law, solver=ours.solver)
    assert (ours.why or "one fused kernel") in text
    found = {}
    for on in (True, False):
        fused(on)
        found[on] = run((ours.sde, ours.law), members=64, solver=ours.solver)
    if ours.amplifies:
        with jax.enable_x64(True):
            exact = run(doubled((ours.sde, ours.law)), members=64, solver=ours.solver)
        kernel, scan = (errors(found[on], exact) for on in (True, False))
        # A few members, the same in both, have errors tens of times those of the others. Which of
        # the two has the larger ones there is chance; those of a typical member are alike.
        assert np.median(kernel) < 1.5 * np.median(scan)
        assert np.exp(np.mean(np.log(kernel / scan))) < 1.5
    else:
        assert error(found[True], found[False]) <= (2e-5 if ours.why is None else 0)


def test_equations_for_kernels_hold_every_public_model_drift_noise_and_solver():
    made = {name: make() for name, make in EQUATIONS.items()}
    assert set(rqf.models.__all__) <= {name.partition(" ")[0] for name in made}
    held = set().union(*map(kinds, made.values()))
    for module in (rqf.drifts, rqf.noises, rqf.solvers):
        public = [getattr(module, name) for name in module.__all__ if "Abstract" not in name]
        parts = {part for part in public if inspect.isclass(part) and issubclass(part, eqx.Module)}
        assert parts <= held


LARGE = {
    "many queries": lambda: (rqf.models.noisy_attention(1.0, 0.3), rqf.laws.Uniform(32, 3)),
    "masked queries": lambda: (
        rqf.SDE(
            rqf.drifts.Attention(1.0, mask=rqf.drifts.causal_mask(24)),
            rqf.noises.IsotropicNoise(0.3, 0.3),
            rqf.manifolds.Sphere(),
        ),
        rqf.laws.Uniform(24, 3),
    ),
    "large matrices": lambda: (rqf.models.random_quadratic_form(0.3), rqf.laws.Uniform(24, 12)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_arrays_that_are_made_row_by_row_follow_the_scan_in_any_company(name, fused):
    sde, law = LARGE[name]()
    # A start without arithmetic: XLA rounds that of a random one by the size of the batch.
    law = rqf.laws.Fixed(np.asarray(law(jax.random.key(1))))
    assert "one fused kernel" in rqf.explain(sde, law)
    fused(True)
    found = run((sde, law), members=40)
    few = run((sde, law), members=5, first_member=30)
    np.testing.assert_array_equal(few, found[30:35])
    fused(False)
    np.testing.assert_allclose(found, run((sde, law), members=40), rtol=2e-5, atol=2e-5)


def test_members_have_the_same_bits_in_any_company(fused):
    fused(True)
    sde = rqf.models.noisy_attention(1.0, 1.0)
    # A start without arithmetic: XLA rounds that of a random one by the size of the batch.
    law = rqf.laws.Fixed(np.eye(3, dtype=np.float32)[[0, 1, 2, 0]])
    whole = run((sde, law), members=100)
    np.testing.assert_array_equal(run((sde, law), members=100, batch_size=37), whole)
    np.testing.assert_array_equal(run((sde, law), members=5), whole[:5])
    np.testing.assert_array_equal(run((sde, law), members=5, first_member=60), whole[60:65])


CORES = """
import hashlib, os, sys
os.sched_setaffinity(0, {int(core) for core in sys.argv[1:]})
import jax, numpy as np, rqf_jax as rqf
sde = rqf.models.noisy_attention(1.0, 1.0)
for fused, members, tokens, dim in (("1", 1000, 2, 3), ("0", 1000, 2, 3), ("0", 40, 8, 24)):
    os.environ["RQF_JAX_FUSED"] = fused
    law = rqf.laws.Fixed(np.eye(tokens, dim, dtype=np.float32))
    runs = rqf.simulate(
        sde, law, [0.0, 0.5, 1.0], substeps=64, members=members, key=jax.random.key(0)
    )
    print(fused, dim, hashlib.sha256(np.asarray(runs.ys)).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs two cores, and a system that says which ones a process may use",
)
def test_kernels_and_scans_have_the_same_bits_on_any_number_of_cores():
    first, second = sorted(os.sched_getaffinity(0))[:2]
    told = []
    for cores in ([first], [first, second]):
        arguments = [sys.executable, "-c", CORES, *map(str, cores)]
        told.append(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    assert told[0] == told[1]
    # The kernel, the scan and the larger state are three different things.
    assert len(set(told[0].splitlines())) == 3


def derivatives(model, solver):
    """Of an uneven mean of the last states, by all floats of an equation, its law and the times."""

    def loss(given):
        (sde, law), ts = given
        runs = rqf.simulate(
            sde, law, ts, substeps=7, members=20, key=KEY, solver=solver, throw=False
        )
        ends = [leaf[:, -1].reshape(20, -1) for leaf in jax.tree.leaves(runs.ys)]
        return sum(jnp.mean(end * jnp.cos(jnp.arange(end.shape[1]) + 1.0)) for end in ends)

    return jax.tree.leaves(eqx.filter_grad(loss)((model, jnp.array([0.0, 0.1, 0.25]))))


@pytest.mark.parametrize(
    "name",
    [
        name if name == "underdamped_langevin" else pytest.param(name, marks=pytest.mark.slow)
        for name in EQUATIONS
    ],
)
def test_reverse_mode_by_kernels_is_that_of_the_scan_for_every_equation(name, fused):
    ours = EQUATIONS[name]()
    found = {}
    for on in (True, False):
        fused(on)
        found[on] = derivatives((ours.sde, ours.law), ours.solver)
    for one, other in zip(found[True], found[False], strict=True):
        one, other = np.asarray(one, float), np.asarray(other, float)
        assert np.all(np.isfinite(one))
        assert np.abs(one - other).max() <= 1e-4 * np.abs(other).max() + 1e-6


@pytest.mark.slow
def test_derivatives_through_a_kernel_are_those_of_the_scan(fused):
    def loss(sigma, adjoint=None):
        sde = rqf.models.random_quadratic_form(sigma)
        runs = rqf.simulate(
            sde, rqf.laws.Uniform(2, 3), [0.0, 0.2], substeps=8, members=20, key=KEY,
            adjoint=adjoint,
        )  # fmt: skip
        return jnp.mean(runs.ys[:, -1, 0, 0] ** 2)

    found = {}
    for on in (True, False):
        fused(on)
        reverse = jax.value_and_grad(loss)(1.0)
        forward = jax.jvp(lambda s: loss(s, diffrax.ForwardMode()), (1.0,), (1.0,))
        found[on] = np.array([*reverse, *forward])
    np.testing.assert_allclose(found[True], found[False], rtol=1e-4, atol=1e-6)


def test_a_batch_of_parameters_is_a_loop_over_kernels(fused):
    fused(True)
    law = rqf.laws.Uniform(2, 3)

    def end(sigma):
        sde = rqf.models.random_quadratic_form(sigma)
        return rqf.simulate(sde, law, [0.0, 0.5], substeps=8, members=20, key=KEY).ys[:, -1]

    together = jax.vmap(end)(jnp.array([0.5, 1.0]))
    for sigma, found in zip((0.5, 1.0), together, strict=True):
        np.testing.assert_allclose(found, end(sigma), rtol=1e-5, atol=1e-6)


def test_a_program_for_cuda_holds_one_custom_call_for_all_intervals(monkeypatch):
    # Lowered without a GPU, its toolkit or its driver.
    monkeypatch.setenv("RQF_JAX_FUSED", "all")

    def end(sigma):
        sde = rqf.models.noisy_attention(sigma, 1.0)
        return rqf.simulate(sde, rqf.laws.Uniform(8, 3), TS, substeps=64, members=1000, key=KEY).ys

    text = jax.jit(end).trace(1.0).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("__gpu$xla.gpu.ptx") == 1
    assert "callback" not in text


def many_numbers():
    return rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(20, 32)


def eigenvalues():
    return rqf.models.dyson_eigenvalues(1.0, 1.0, 2.0), rqf.laws.Fixed([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        pytest.param(many_numbers, "numbers of state", marks=pytest.mark.slow),
        (eigenvalues, "complex64"),
    ],
)
def test_a_step_that_no_kernel_is_for_is_explained_and_runs_as_a_scan(make, why, fused):
    ours, found = make(), {}
    assert why in rqf.explain(*ours)
    for on in (True, False):
        fused(on)
        found[on] = run(ours, members=3)
    np.testing.assert_array_equal(found[True], found[False])


def test_arithmetic_in_xla_follows_the_scan_in_any_company(fused, monkeypatch):
    # The way of devices that no kernel is made for.
    sde = rqf.models.weight_ou(1.0, 0.5, np.ones((1, 1), np.float32))
    law = rqf.laws.Fixed(np.ones((1, 1), np.float32))
    fused(False)
    wanted = run((sde, law), members=50)
    monkeypatch.setenv("RQF_JAX_FUSED", "xla")
    assert "arithmetic on single numbers in XLA" in rqf.explain(sde, law)
    found = run((sde, law), members=50)
    assert error(found, wanted) <= 2e-5
    np.testing.assert_array_equal(run((sde, law), members=5, first_member=30), found[30:35])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["noisy_attention", "underdamped_langevin"])
def test_arithmetic_in_xla_follows_the_scan_for_tokens_and_for_parts(name, fused, monkeypatch):
    ours, law = EQUATIONS[name](), rqf.laws.Uniform(2, 3)
    model = ours.sde, law if name == "noisy_attention" else ours.law
    fused(False)
    wanted = run(model)
    monkeypatch.setenv("RQF_JAX_FUSED", "xla")
    assert error(run(model), wanted) <= 2e-5


class Counted(rqf.drifts.AbstractDrift):
    """A pull whose rates are the last bits of whole numbers."""

    numbers: jax.Array

    def __call__(self, t, x):
        return -x * (self.numbers & 7).astype(x.dtype)


@pytest.mark.parametrize("kind", [np.int32, pytest.param(np.uint32, marks=pytest.mark.slow)])
def test_whole_numbers_reach_a_kernel_bit_for_bit(kind, fused):
    # 2³⁰ + 3 is no float32.
    drift = Counted(jnp.array([2**24 + 1, 2**30 + 3, 2**31 - 3], kind))
    model = of_pull(drift), rqf.laws.Fixed([1.0, 1.0, 1.0])
    assert "one fused kernel" in rqf.explain(*model)
    found = {}
    for on in (True, False):
        fused(on)
        found[on] = run(model, members=2)
    np.testing.assert_allclose(found[True], found[False], rtol=1e-5)


def of_pull(drift):
    """A drift alone, in flat space."""
    return rqf.SDE(drift, rqf.noises.NoNoise(), rqf.manifolds.Euclidean())


def test_runs_with_and_without_kernels_do_not_continue_each_other(fused):
    fused(True)
    on = _store.identity()
    fused(False)
    off = _store.identity()
    assert {name for name in on if on[name] != off[name]} == {"fused kernels"}


def test_double_precision_is_a_scan():
    with jax.enable_x64(True):
        text = rqf.explain(rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(4, 3))
    assert "scan in XLA" in text and "float64" in text


def test_kernels_that_are_turned_off_are_said_to_be(fused):
    fused(False)
    text = rqf.explain(rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(4, 3))
    assert "RQF_JAX_FUSED" in text


@pytest.mark.parametrize("scheme", ["ngpt", pytest.param("peri", marks=pytest.mark.slow)])
def test_outputs_of_unit_length_leave_room_in_a_kernel(scheme):
    model = rqf.models.normalised_layers(scheme, beta=1.0)
    law = rqf.laws.Uniform(8, 3)
    text = rqf.explain(model, law, solver=rqf.solvers.GeodesicEuler())
    assert "one fused kernel" in text
