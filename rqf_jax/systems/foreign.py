"""Flows of the package `dysts`, as drifts of this one."""

import importlib
import inspect
import types
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import finite, shown
from ._abstract import AbstractFlow, coordinates


class Dysts(AbstractFlow):
    """A flow of the package `dysts`, by its name there, such as "Rossler", or one that was made.

    Its formula is called on arrays of JAX, so that it has derivatives, and its parameters become
    arrays. The exponents that `dysts` stores are not read: for its Lorenz flow two of them
    contradict each other by a fifth. Measure them by `analysis.lyapunov_spectrum`.

    `system` is the name or the object. Raises ModuleNotFoundError if a name is given and `dysts` is
    not installed, and ValueError for names that it does not have, for flows with a delay, and for
    the few whose formula takes a state as a whole.
    """

    parameters: tuple[Float[Array, "*shape"], ...]
    formula: Callable[..., Any] = eqx.field(static=True)
    name: str = eqx.field(static=True)
    initial: Float[Array, " n"]

    def __init__(self, system: Any):
        made = _named(system) if isinstance(system, str) else system
        if not _is_formula(made):
            raise ValueError(
                "`system` must be the name of a flow of `dysts`, or one that was made, with a "
                "formula of its coordinates, the time and its parameters, and without a delay; got "
                f"{shown(system)}."
            )
        self.name = str(getattr(made, "name", type(made).__name__))
        # `dysts` hands them over in the order of their names.
        self.parameters = tuple(
            finite(f"system.params[{key!r}]", made.params[key]) for key in sorted(made.params)
        )
        self.formula = _on_arrays(made._rhs)
        self.initial = finite("system.ic", np.asarray(made.ic, float).reshape(-1))

    def __call__(self, t: Float[Array, ""], x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The velocity."""
        numbers = coordinates(x, self.initial.size, self.name)
        found = self.formula(*numbers, jnp.asarray(t, x.dtype), *self.parameters)
        return jnp.stack([jnp.asarray(one, x.dtype) for one in found])

    @property
    def start(self) -> Float[Array, " n"]:
        """The initial state that `dysts` has for it."""
        return self.initial

    @property
    def divergence(self) -> None:
        """None: it is not looked for."""
        return None


def _named(name: str) -> Any:
    try:
        flows = importlib.import_module("dysts.flows")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"`system` = {name!r} needs the package `dysts`: pip install dysts."
        ) from error
    if not hasattr(flows, name):
        raise ValueError(f"`system` must be a flow of `dysts.flows`; got {name!r}.")
    return getattr(flows, name)()


def _is_formula(made: Any) -> bool:
    """Whether a flow of `dysts` has a formula that takes each of its numbers by itself."""
    if not all(hasattr(made, name) for name in ("_rhs", "params", "ic")):
        return False
    taken = inspect.signature(_plain(made._rhs)).parameters
    given = np.size(made.ic) + 1 + len(made.params)
    return len(taken) == given and not getattr(made, "delay", False)


def _plain(function: Callable[..., Any]) -> Any:
    """The function of Python in one that Numba compiles."""
    return getattr(function, "py_func", function)


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same formula with the functions of `jax.numpy` in the place of NumPy's."""
    plain = _plain(function)
    arrays = {key: jnp if value is np else value for key, value in plain.__globals__.items()}
    return types.FunctionType(plain.__code__, arrays, plain.__name__, plain.__defaults__)
