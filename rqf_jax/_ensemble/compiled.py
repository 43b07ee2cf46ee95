"""Compiled programs, of which the last ones are kept, and the options they are compiled with."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.extend import core

_KEPT = 32
"""Compiled programs in memory at a time. One takes some 10 MB; a fresh `save` is a new one."""


def compiled(function: Callable) -> Callable:
    """`function`, compiled for each kind of its arguments: arrays are traced, the rest is fixed.

    The programs that were used last are kept; older ones are given back, which
    `equinox.filter_jit` never does.
    """

    @functools.wraps(function)
    def call(*args):
        arrays, static = eqx.partition(args, _is_array)
        leaves, treedef = jax.tree.flatten(static)
        given = options() if _is_outermost() else {}
        return _program(function, treedef, tuple(leaves), tuple(given.items()))(arrays)

    return call


def options() -> dict[str, Any]:
    """Options of the compiler for programs that are not part of another one.

    On a CPU, the widest vectors there are: the arithmetic of normal numbers is then 1.9 times as
    fast as with XLA's own choice of half of that, where vectors have 512 bits (measured).
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}


@functools.lru_cache(maxsize=_KEPT)
def _program(function: Callable, treedef: Any, leaves: tuple, given: tuple) -> Callable:
    static = jax.tree.unflatten(treedef, leaves)
    return jax.jit(
        lambda arrays: function(*eqx.combine(arrays, static)), compiler_options=dict(given)
    )


def _is_outermost() -> bool:
    """False inside `jit`, `grad` or `vmap`, where JAX refuses options of a program's own."""
    return core.get_opaque_trace_state("nnx") == _outside()


@functools.cache
def _outside() -> Any:
    """The state of JAX outside of everything, such as that of a new thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(core.get_opaque_trace_state, "nnx").result()


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray)
