"""Compiled programs, of which the last ones are kept."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

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
        return _program(function, treedef, tuple(leaves))(arrays)

    return call


@functools.lru_cache(maxsize=_KEPT)
def _program(function: Callable, treedef: Any, leaves: tuple) -> Callable:
    static = jax.tree.unflatten(treedef, leaves)
    return jax.jit(lambda arrays: function(*eqx.combine(arrays, static)))


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray)
