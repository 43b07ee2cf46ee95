"""Checks and conversions of arguments: one wording for every error, before anything is compiled.

Values that are being traced (inside `jit`, `vmap`, `grad`) cannot be looked at; their shapes and
dtypes are checked, their values are the caller's.
"""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float


def is_concrete(value: Any) -> bool:
    """Whether every array in the pytree `value` can be looked at now."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


def integer(name: str, value: Any, *, minimum: int = 1) -> int:
    """`value` as a Python integer that is at least `minimum`; ValueError otherwise."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise ValueError(f"`{name}` must be an integer; got {value!r}.")
    if value < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}; got {value}.")
    return int(value)


def floating(name: str, value: Any) -> Float[Array, "..."]:
    """`value` as an array of the default float type (float arrays keep theirs)."""
    if not isinstance(value, jax.Array | np.ndarray | numbers.Real | list | tuple):
        raise ValueError(f"`{name}` must be a real number or an array; got {value!r}.")
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{name}` must be a real number or an array; got {value!r}.") from None
    if jnp.iscomplexobj(array):
        raise ValueError(f"`{name}` must be real; got dtype {array.dtype}.")
    # astype also makes Python numbers strongly typed, so that 1 and 0.5 are one kind of argument.
    return array.astype(array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else float)


def finite(name: str, value: Any) -> Float[Array, "..."]:
    """`value` as a float array without NaN or infinity."""
    array = floating(name, value)
    # NumPy, because inside `jit` even operations on known arrays are traced.
    if is_concrete(array) and not np.all(np.isfinite(np.asarray(array))):
        bad = np.argwhere(~np.isfinite(np.asarray(array)))
        where = f" at index {tuple(bad[0].tolist())}" if array.ndim else ""
        raise ValueError(f"`{name}` must be finite; got {array[tuple(bad[0])]}{where}.")
    return array


def scalar(
    name: str, *, minimum: float = -math.inf, maximum: float = math.inf
) -> Callable[[Any], Float[Array, ""]]:
    """A field converter: a finite scalar array in [minimum, maximum]."""

    def convert(value: Any) -> Float[Array, ""]:
        array = finite(name, value)
        if array.shape != ():
            raise ValueError(f"`{name}` must be a scalar; got shape {array.shape}.")
        if is_concrete(array) and not minimum <= float(array) <= maximum:
            rule = (
                f"at least {minimum:g}" if maximum == math.inf else f"in [{minimum:g}, {maximum:g}]"
            )
            raise ValueError(f"`{name}` must be {rule}; got {float(array):g}.")
        return array

    # What a fit must know of the parameter.
    convert.__dict__["minimum"] = minimum
    return convert


def square(name: str) -> Callable[[Any], Float[Array, "n n"]]:
    """A field converter: a finite square matrix."""

    def convert(value: Any) -> Float[Array, "n n"]:
        array = finite(name, value)
        if array.ndim != 2 or array.shape[0] != array.shape[1]:
            raise ValueError(f"`{name}` must be a square matrix; got shape {array.shape}.")
        return array

    return convert


def mask(name: str) -> Callable[[Any], Bool[Array, "n n"]]:
    """A field converter: a square matrix of booleans with no empty row."""

    def convert(value: Any) -> Bool[Array, "n n"]:
        array = jnp.asarray(value)
        if array.dtype != bool or array.ndim != 2 or array.shape[0] != array.shape[1]:
            raise ValueError(
                f"`{name}` must be a square matrix of booleans; got dtype {array.dtype} and shape "
                f"{array.shape}."
            )
        if is_concrete(array) and not np.all(np.asarray(array).any(axis=1)):
            row = int(np.argmin(np.asarray(array).any(axis=1)))
            raise ValueError(f"`{name}` must allow something in every row; row {row} is empty.")
        return array

    return convert


def optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same field converter, which lets None through."""

    def maybe(value: Any) -> Any:
        return None if value is None else convert(value)

    maybe.__dict__.update(vars(convert))
    return maybe


def lower_bound(converter: Any) -> float:
    """The least value that a field converter lets through: -infinity unless it was told."""
    return getattr(converter, "minimum", -math.inf)
