"""Lane values, and arrays of them.

Every array of a step becomes a NumPy array of objects, one lane value an entry. `Ops` says what a
lane value is: an array over members (`ArrayOps`, see `xla`), or a name in an LLVM program
(`llvm.Emitter`). Values that are known while a program is built are NumPy scalars, and arithmetic
on them is done at once.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes, lax
from jax.core import Tracer

Lanes = np.ndarray
"""An array of objects, one lane value an entry."""


class Unsupported(Exception):
    """This step cannot be a fused kernel; the message says why."""


class Unavailable(Unsupported):
    """No step can be a fused kernel here; the message says what is missing, and what to do."""


class Pair(NamedTuple):
    """A complex lane value."""

    real: Any
    imag: Any

    @property
    def dtype(self) -> str:
        """Its dtype."""
        return "complex64"


class Ops(abc.ABC):
    """Arithmetic on lane values."""

    loops = False
    """True if there are loops and memory: `llvm.Emitter` has `repeat`, `store` and `load`."""

    functions = False
    """True if there are functions such as exp, which otherwise are written as arithmetic."""
    most = 20_000
    """The most operations in one step; beyond that a compiler takes longer than it saves."""

    @abc.abstractmethod
    def apply(self, primitive: Any, params: dict[str, Any], *args: Any) -> Any:
        """One elementwise primitive on lane values, of which one at least is not known."""


class ArrayOps(Ops):
    """Lane values are JAX arrays over members."""

    functions = True
    most = 5_000

    def apply(self, primitive, params, *args):
        """The primitive itself, on arrays of one shape."""
        shape = next(a.shape for a in args if np.ndim(a))
        return primitive.bind(*(a if np.ndim(a) else lax.full(shape, a) for a in args), **params)

    def part(self, column: Sequence[Any], start: Any, size: int) -> list[Any]:
        """So many entries of a column, from a place on that differs from member to member."""
        rows = jnp.stack([jnp.broadcast_to(value, start.shape) for value in column])
        places = start + np.arange(size, dtype=start.dtype)[:, None]
        return list(jnp.take_along_axis(rows, places, 0, mode="promise_in_bounds"))


def objects(array: Any) -> Lanes:
    """An array of numbers that are known as an array of lane values."""
    if isinstance(array, Tracer):
        raise Unsupported("a number that is traced, and no parameter of the equation")
    if jnp.issubdtype(getattr(array, "dtype", np.float32), dtypes.extended):
        raise Unsupported("a random key")
    array = np.asarray(array)
    return array_of(list(array.reshape(-1)), array.shape)


def array_of(values: Sequence[Any], shape: tuple[int, ...]) -> Lanes:
    """An array of these lane values."""
    out = np.empty(len(values), object)
    # One by one: a list of arrays over members would become one array of numbers.
    for place, value in enumerate(values):
        out[place] = value
    return out.reshape(shape)


def known(value: Any) -> bool:
    """True for a lane value that is a number known while the program is built."""
    return isinstance(value, np.generic)


def part(value: Any) -> Lanes:
    """An entry or a part of an array of lane values, as an array of lane values."""
    return value if isinstance(value, np.ndarray) else cell(value)


def cell(value: Any) -> Lanes:
    """One lane value as an array of lane values."""
    out = np.empty((), object)
    out[()] = value
    return out


def over(function: Callable[..., Any], *xs: Lanes) -> Lanes:
    """A function of lane values, entry by entry of arrays that broadcast to one shape."""
    shape = np.broadcast_shapes(*(x.shape for x in xs))
    out = np.empty(shape, object)
    xs = tuple(np.broadcast_to(x, shape) for x in xs)
    for place in np.ndindex(*shape):
        out[place] = function(*(x[place] for x in xs))
    return out


def simplified(name: str, args: Sequence[Any]) -> Any:
    """The result of arithmetic with 0 and 1; None where it has to be done.

    0 · x is left alone, which is not 0 for NaN and infinity.
    """
    if name == "add" and known(args[1]) and args[1] == 0:
        return args[0]
    if name == "add" and known(args[0]) and args[0] == 0:
        return args[1]
    if name == "sub" and known(args[1]) and args[1] == 0:
        return args[0]
    if name == "mul" and known(args[1]) and args[1] == 1:
        return args[0]
    if name == "mul" and known(args[0]) and args[0] == 1:
        return args[1]
    if name == "div" and known(args[1]) and args[1] == 1:
        return args[0]
    if name == "select_n" and known(args[0]):
        return args[1 + int(args[0])]
    if name == "select_n" and all(arg is args[1] for arg in args[2:]):
        return args[1]
    return None


_NUMPY: dict[str, Callable[..., Any]] = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative},
    **{"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor},
    **{"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal},
    **{"gt": np.greater, "ge": np.greater_equal},
}


def folded(primitive: Any, params: dict[str, Any], args: Sequence[Any]) -> Any:
    """The number that an operation on known numbers gives, as XLA has it."""
    if primitive.name in _NUMPY:
        with np.errstate(all="ignore"):
            return _NUMPY[primitive.name](*args)
    with jax.ensure_compile_time_eval():
        return np.asarray(primitive.bind(*args, **params))[()]


def numbers(indices: Lanes) -> np.ndarray:
    """Indices that are known, as numbers; `Unsupported` if they are not."""
    if not all(map(known, indices.flat)):
        raise Unsupported("an index that depends on the state")
    return np.array(indices.tolist(), np.int32).reshape(indices.shape)
