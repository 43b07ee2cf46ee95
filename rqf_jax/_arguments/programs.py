"""Programs that look at values before anything is simulated."""

import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.extend import core

from .rules import is_concrete

P = ParamSpec("P")
R = TypeVar("R")


def hurried(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, compiled by a compiler that optimises little, in half the time (measured).

    For programs that run once, to check arguments, and then outside `jit`, `grad` and `vmap` or
    within `jax.ensure_compile_time_eval`, for JAX takes options of whole programs alone.
    """
    options: Any = {"compiler_options": {"xla_backend_optimization_level": 0}}
    return eqx.filter_jit(function, **options)


def is_outermost() -> bool:
    """False inside `jit`, `grad` or `vmap`, where JAX refuses options of a program's own."""
    return core.get_opaque_trace_state("nnx") == _outside()


@functools.cache
def _outside() -> Any:
    """The state of JAX outside of everything, such as that of a new thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(core.get_opaque_trace_state, "nnx").result()


def closes_over_traced(function: Callable[..., Any], *args: Any) -> bool:
    """True if `function(*args)` uses a traced array that is no part of its arguments.

    Nothing is computed, and arguments may be `jax.ShapeDtypeStruct`.
    """
    if is_outermost():
        return False
    arrays, static = eqx.partition(args, _is_array)
    # A program with options of its own is none inside another one.
    function = inspect.unwrap(function)

    def arrays_of(arrays):
        return eqx.filter(function(*eqx.combine(arrays, static)), eqx.is_array)

    return not is_concrete(jax.make_jaxpr(arrays_of)(arrays).consts)


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray | jax.ShapeDtypeStruct)
