"""Compiled programs, of which the last ones are kept, and the options they are compiled with."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._arguments import is_outermost

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
        given = options() if is_outermost() else {}
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


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray)
