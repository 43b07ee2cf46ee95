"""Programs that look at values before anything is simulated."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx

P = ParamSpec("P")
R = TypeVar("R")


def hurried(function: Callable[P, R]) -> Callable[P, R]:
    """`function`, compiled by a compiler that optimises little, in half the time (measured).

    For programs that run once, to check arguments, and then outside `jit`, `grad` and `vmap` or
    within `jax.ensure_compile_time_eval`, for JAX takes options of whole programs alone.
    """
    options: Any = {"compiler_options": {"xla_backend_optimization_level": 0}}
    return eqx.filter_jit(function, **options)
