"""Theorems about answers that are kept: one for each structure, shape and dtype, and no other."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax._ensemble import compiled as programs
from rqf_jax._ensemble.kinds import once_for_each_kind


@pytest.fixture
def asked():
    """A function that is evaluated once for each kind, and how often it was."""
    calls = []

    @once_for_each_kind
    def answer(x, y=0):
        calls.append(x)
        if isinstance(x, str):
            raise ValueError(x)
        return jax.tree.structure(x)

    return answer, calls


def test_values_of_arrays_change_no_answer_and_all_else_does(asked):
    answer, calls = asked
    one = jnp.zeros(3)
    kinds = [one, jnp.zeros(2), jnp.zeros(3, jnp.float32), {"a": one}, [one], (one, 1), (one, 1.0)]
    kinds += [jax.random.key(0), jnp.asarray(1.0), jnp.asarray(np.float64(1.0))]
    for kind in kinds:
        first = answer(kind)
        assert answer(kind) is first
    assert answer(one + 1) is answer(one)
    assert len(calls) == len(kinds)
    answer(one, y=1)
    assert len(calls) == len(kinds) + 1


def test_an_error_is_raised_again_and_what_has_no_hash_is_asked_again(asked):
    answer, calls = asked
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            answer("no")
        answer(bytearray(2))
    assert len(calls) == 4


class Counted(rqf.laws.AbstractLaw):
    """Zeros, and how often they were asked for."""

    calls = []  # noqa: RUF012

    def __call__(self, key):
        self.calls.append(key)
        return jnp.zeros((2, 3))


def test_a_second_call_of_simulate_traces_nothing():
    sde = rqf.SDE(rqf.drifts.NoDrift(), rqf.noises.TokenNoise(1.0), rqf.manifolds.Euclidean())

    def call(seed):
        key = jax.random.key(seed)
        return rqf.simulate(sde, Counted(), [0.0, 1.0], substeps=1, members=2, key=key)

    call(0)
    Counted.calls.clear()
    call(1)
    assert not Counted.calls


def test_an_answer_found_among_some_devices_is_good_among_others():
    from rqf_jax._ensemble.problem import Problem
    from rqf_jax._ensemble.program import Program

    sde = rqf.SDE(rqf.drifts.NoDrift(), rqf.noises.TokenNoise(1.0), rqf.manifolds.Euclidean())
    problem = Problem(sde, rqf.laws.Normal((2, 5)), [0.0, 1.0], jax.random.key(0)).checked()
    for batch in (8, 16):
        program = Program(problem, batch, jax.local_devices()[:1])
        ys, _ = program(problem, 0, 16)
        assert jax.tree.leaves(ys)[0].shape == (16, 2, 2, 5)


@pytest.fixture
def few(monkeypatch):
    """So many compiled programs are kept, of which there are more otherwise."""
    kept = functools.lru_cache(maxsize=4)(programs._program.__wrapped__)
    monkeypatch.setattr(programs, "_program", kept)
    return 4


def test_programs_of_fresh_functions_are_given_back(few):
    assert programs._KEPT <= 32

    @programs.compiled
    def apply(function, x):
        return function(x)

    alive = weakref.WeakSet()
    for i in range(few + 4):
        fresh = lambda x, i=i: x + i  # noqa: E731
        alive.add(fresh)
        assert apply(fresh, jnp.zeros(())) == i
    del fresh
    gc.collect()
    assert len(alive) <= few


@pytest.mark.slow
def test_a_loop_of_fresh_functions_to_save_fills_no_memory(few):
    sde = rqf.SDE(rqf.drifts.NoDrift(), rqf.noises.TokenNoise(1.0), rqf.manifolds.Euclidean())
    options = {"substeps": 1, "members": 2, "key": jax.random.key(0)}
    held = []
    for _round in range(3):
        for _ in range(few + 1):
            rqf.simulate(sde, rqf.laws.Zeros((2,)), [0.0, 1.0], save=lambda x: 2 * x, **options)
        gc.collect()
        held.append(len(jax.local_devices()[0].client.live_executables()))
    # The first few fill what is kept; nothing is added to it afterwards.
    assert max(held) == held[0], held
