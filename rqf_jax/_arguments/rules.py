"""The gate: every argument of the public API is checked and converted here, with one wording.

A rule takes the name of an argument and its value, and returns the value to work with or raises
ValueError: "`name` must …; got …". Rules are used in three ways.

    x = finite("x", x)                                          in the body of a function
    sigma: ... = eqx.field(converter=scalar("sigma", minimum=0))    for a field of a module
    @takes(sigma=number(minimum=0), drift=part(AbstractDrift))      for a whole function

The last is for functions that only hand their arguments on: the error then names the argument of
the function that was called, not that of a function inside it. Values that are being
traced (inside `jit`, `vmap`, `grad`) cannot be looked at: their shapes and dtypes are checked, and
their values are the caller's.
"""

import functools
import inspect
import math
import numbers
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .shown import shown

Rule = Callable[[str, Any], Any]
P = ParamSpec("P")
R = TypeVar("R")


def takes(**rules: Rule) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the named arguments, or their defaults, pass rules before the function."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def gate(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # Python's own words for a wrong call
            bound.apply_defaults()
            for name, rule in rules.items():
                bound.arguments[name] = rule(name, bound.arguments[name])
            return function(*bound.args, **bound.kwargs)

        return gate

    return decorate


def is_concrete(value: Any) -> bool:
    """True if every array in the pytree `value` can be looked at now."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))


# ---- numbers


def integer(name: str, value: Any, *, minimum: int = 1, maximum: int = 2**63 - 1) -> int:
    """`value` as a Python integer from `minimum` to `maximum`; ValueError otherwise."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise ValueError(f"`{name}` must be an integer; got {shown(value)}.")
    whole = int(value)
    if whole < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}; got {shown(whole)}.")
    if whole > maximum:
        raise ValueError(f"`{name}` must be at most {maximum}; got {shown(whole)}.")
    return whole


def host(name: str, value: Any) -> np.ndarray:
    """`value` as a NumPy array of float64, for closed forms; ValueError if it is not real."""
    if not is_concrete(value):
        raise ValueError(
            f"`{name}` must be known, because NumPy computes with it; got {shown(value)}. Call the "
            "function outside `jit`, `vmap` and `grad`."
        )
    return _real(name, value).astype(np.float64)


def floating(name: str, value: Any) -> Float[Array, "..."]:
    """`value` as an array of the default float type (float arrays keep theirs)."""
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value)):
        array = _stacked(name, value)
        # astype also makes Python numbers strongly typed, so that 1 and 0.5 are one argument.
        return array.astype(array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else float)
    raw = _real(name, value)
    own = jnp.issubdtype(raw.dtype, jnp.floating)
    dtype = jax.dtypes.canonicalize_dtype(raw.dtype if own else float)
    if raw.size and np.any(np.isfinite(raw) & (np.abs(raw) > float(jnp.finfo(dtype).max))):
        raise ValueError(
            f"`{name}` must be at most {float(jnp.finfo(dtype).max):.2g} in size, the most that "
            f"{dtype} holds; got {np.abs(raw[np.isfinite(raw)]).max():.3g}. Turn `jax_enable_x64` "
            "on for larger numbers."
        )
    return jnp.asarray(raw, dtype)


def finite(name: str, value: Any) -> Float[Array, "..."]:
    """`value` as a float array without NaN or infinity."""
    array = floating(name, value)
    # NumPy, because inside `jit` even operations on known arrays are traced.
    if is_concrete(array) and not np.all(np.isfinite(np.asarray(array))):
        bad = np.argwhere(~np.isfinite(np.asarray(array)))
        where = f" at index {tuple(bad[0].tolist())}" if array.ndim else ""
        raise ValueError(f"`{name}` must be finite; got {array[tuple(bad[0])]}{where}.")
    return array


def data(name: str, value: Any) -> np.ndarray:
    """`value` as a NumPy array of float64 without NaN or infinity.

    For data, whose differences would be lost if they were rounded to float32 first.
    """
    finite(name, value)
    return host(name, value)


def _refused(name: str, value: Any) -> ValueError:
    return ValueError(f"`{name}` must be a real number or an array; got {shown(value)}.")


def _real(name: str, value: Any) -> np.ndarray:
    """`value`, in which nothing is traced, as a NumPy array of booleans, integers or floats."""
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(
            f"`{name}` must not be a masked array, whose mask would be lost; got one of shape "
            f"{value.shape}. Pass `{name}.compressed()` or `{name}.filled(…)`."
        )
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.extended):
        raise _refused(name, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError, AttributeError):
        raise _refused(name, value) from None
    if array.dtype.kind == "c":
        raise ValueError(f"`{name}` must be real; got dtype {array.dtype}.")
    if array.dtype.kind == "O" and all(isinstance(one, numbers.Real) for one in array.flat):
        # Integers beyond 64 bits, fractions.
        try:
            return array.astype(np.float64)
        except OverflowError:
            raise ValueError(
                f"`{name}` must be at most 1.8e308 in size; got {shown(max(array.flat, key=abs))}."
            ) from None
    if array.dtype.kind not in "biuf" and array.dtype != jnp.bfloat16:
        raise _refused(name, value)
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    return array.astype(np.float64 if wide else array.dtype.newbyteorder("="))


def _stacked(name: str, value: Any) -> Array:
    """`value`, a JAX array or nested lists that hold some, as one array of real numbers."""
    if not isinstance(value, jax.Array | list | tuple):
        raise _refused(name, value)
    for leaf in jax.tree.leaves(value):
        if not isinstance(leaf, jax.Array):
            _real(name, leaf)
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError):
        raise _refused(name, value) from None
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        raise _refused(name, value)
    if jnp.iscomplexobj(array):
        raise ValueError(f"`{name}` must be real; got dtype {array.dtype}.")
    return array


def number(
    *, minimum: float = -math.inf, maximum: float = math.inf, below: float = math.inf
) -> Rule:
    """A rule: a finite scalar array in [minimum, maximum], and below `below`."""

    def rule(name: str, value: Any) -> Float[Array, ""]:
        array = finite(name, value)
        if array.shape != ():
            raise ValueError(f"`{name}` must be a scalar; got shape {array.shape}.")
        if is_concrete(array) and not (minimum <= float(array) <= maximum and array < below):
            text = f"in [{minimum:g}, {maximum:g}]"
            if maximum == math.inf:
                text = f"at least {minimum:g}"
            if below < math.inf:
                text = f"in [{minimum:g}, {below:g})"
            raise ValueError(f"`{name}` must be {text}; got {float(array):g}.")
        return array

    return rule


def real(name: str, value: Any, **bounds: float) -> float:
    """`value` as a Python number that keeps its digits; `bounds` are those of `number`."""
    number(**bounds)(name, value)
    return float(host(name, value))


def nonnegative(name: str, value: Any) -> Float[Array, ""]:
    """A rule: a finite scalar array of at least 0."""
    return number(minimum=0)(name, value)


def whole(*, minimum: int = 1, maximum: int = 2**63 - 1) -> Rule:
    """A rule: an integer from `minimum` to `maximum`."""
    return functools.partial(integer, minimum=minimum, maximum=maximum)


def squared(name: str, value: Any) -> Float[Array, "n n"]:
    """A rule: a finite square matrix."""
    array = finite(name, value)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"`{name}` must be a square matrix; got shape {array.shape}.")
    return array


def allowed(name: str, value: Any) -> Bool[Array, "n n"]:
    """A rule: a square matrix of booleans with no empty row."""
    if isinstance(value, jax.Array):
        array = value
    else:
        array = _real(name, value)
        array = jnp.asarray(array) if array.dtype == bool else array
    if array.dtype != bool or array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(
            f"`{name}` must be a square matrix of booleans; got dtype {array.dtype} and shape "
            f"{array.shape}."
        )
    if is_concrete(array) and not np.all(np.asarray(array).any(axis=1)):
        row = int(np.argmin(np.asarray(array).any(axis=1)))
        raise ValueError(f"`{name}` must allow something in every row; row {row} is empty.")
    return jnp.asarray(array)


# ---- what is not a number


def part(kind: type | tuple[type, ...], known: str | None = None) -> Rule:
    """A rule: an object of a class, such as "a drift of `rqf_jax.drifts`" for AbstractDrift."""
    first = kind[0] if isinstance(kind, tuple) else kind
    text = _described(first) if known is None else known

    def rule(name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            hint = " Make one first: put parentheses after the name of the class."
            made = isinstance(value, type) and issubclass(value, kind)
            raise ValueError(f"`{name}` must be {text}; got {shown(value)}.{hint if made else ''}")
        return value

    return rule


def _described(kind: type) -> str:
    folders = [folder for folder in kind.__module__.split(".") if not folder.startswith("_")]
    if not kind.__name__.startswith("Abstract"):
        where = ".".join(folders[:1] if len(folders) < 3 else folders[:2])
        return f"an `{where}.{kind.__name__}`"
    words = re.findall("[A-Z][a-z]+", kind.__name__.removeprefix("Abstract"))
    noun = " ".join(words).lower()
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun} of `{'.'.join(folders[:2])}`"


def function_of(text: str) -> Rule:
    """A rule: something to call, "a function of one state"."""

    def rule(name: str, value: Any) -> Callable[..., Any]:
        if not callable(value):
            raise ValueError(f"`{name}` must be a function of {text}; got {shown(value)}.")
        return value

    return rule


def one_of(*choices: Any, remedy: str = "") -> Rule:
    """A rule: one of a few values; numbers are compared by value, so that 1.0 is 1."""
    known = " or ".join(map(str, choices))
    if len(choices) > 2:
        known = f"one of {', '.join(map(str, choices))}"

    def rule(name: str, value: Any) -> Any:
        # True is no number here, and arrays have no truth.
        plain = isinstance(value, str | numbers.Real) and not isinstance(value, bool)
        if plain and value in choices:
            return choices[choices.index(value)]
        raise ValueError(
            f"`{name}` must be {known}; got {shown(value)}.{' ' * bool(remedy)}{remedy}"
        )

    return rule


def words(name: str, value: Any) -> str:
    """A rule: a string."""
    if not isinstance(value, str):
        raise ValueError(f"`{name}` must be a string; got {shown(value)}.")
    return value


def file_path(name: str, value: Any) -> str | os.PathLike:
    """A rule: the name of a file or folder."""
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"`{name}` must be the path of a file or folder; got {shown(value)}.")
    return value


def flag(name: str, value: Any) -> bool:
    """A rule: True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"`{name}` must be True or False; got {shown(value)}.")
    return bool(value)


def prng_key(name: str, value: Any) -> PRNGKeyArray:
    """A rule: one JAX key, new-style or raw."""
    raw = isinstance(value, jax.Array) and value.dtype == jnp.uint32 and value.ndim == 1
    new = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not (raw or (new and value.ndim == 0)):
        raise ValueError(
            f"`{name}` must be a JAX key, such as `jax.random.key(0)`; got {shown(value)}."
        )
    return value


def precision(name: str, value: Any) -> np.dtype:
    """A rule: a dtype of floats."""
    if isinstance(value, str | type | np.dtype):
        try:
            dtype = np.dtype(value)
        except TypeError:
            dtype = np.dtype(object)
        if jnp.issubdtype(dtype, jnp.floating):
            return dtype
    raise ValueError(f"`{name}` must be a dtype of floats, like `jnp.float32`; got {shown(value)}.")


def each(rule: Rule, *, least: int = 1) -> Rule:
    """A rule: a list or tuple of at least `least` things that all pass `rule`."""

    def rules(name: str, values: Any) -> tuple[Any, ...]:
        if not isinstance(values, Sequence) or isinstance(values, str | bytes):
            raise ValueError(f"`{name}` must be a list or tuple; got {shown(values)}.")
        if len(values) < least:
            few = "one; got none" if least == 1 else f"{least}; got {len(values)}"
            raise ValueError(f"`{name}` must be at least {few}.")
        return tuple(rule(f"{name}[{i}]", value) for i, value in enumerate(values))

    return rules


def maybe(rule: Rule) -> Rule:
    """The same rule, which lets None through."""
    return lambda name, value: None if value is None else rule(name, value)
