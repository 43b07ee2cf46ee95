"""The contract of every closed form: it returns finite numbers, or raises one clear ValueError.

    @finite      the result is finite
    @extended    the docstring names arguments at which the result is infinite

In both the function computes without NumPy's warnings, because harmless intermediate infinities
such as 1/(1 + e^800) have the right limit; NaN never leaves.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np

from .._arguments import shown

P = ParamSpec("P")
R = TypeVar("R")


def finite(function: Callable[P, R]) -> Callable[P, R]:
    """A closed form whose numbers are finite wherever it returns."""
    return _promise(function, np.isfinite)


def extended(function: Callable[P, R]) -> Callable[P, R]:
    """A closed form that may be infinite where its docstring says so, and is never NaN."""
    return _promise(function, lambda array: ~np.isnan(array))


class _Beyond(ValueError, ArithmeticError):
    """No number in float64; a function that called another one says it in its own name."""


def _promise(function: Callable[P, R], valid: Callable[..., Any]) -> Callable[P, R]:
    @functools.wraps(function)
    def closed_form(*args: P.args, **kwargs: P.kwargs) -> R:
        lost = False
        with np.errstate(all="ignore"):
            try:
                result = function(*args, **kwargs)
            except (ArithmeticError, np.linalg.LinAlgError):
                result, lost = None, True
            except ValueError as error:
                if "broadcast" not in str(error):
                    raise
                raise ValueError(
                    f"Arguments of `{function.__name__}` must have shapes that broadcast together; "
                    f"got {_called(function, args, kwargs)}."
                ) from None
        parts = result if isinstance(result, tuple) else (result,)
        if dataclasses.is_dataclass(result):
            parts = tuple(vars(result).values())
        # Python's integers are exact, and may be larger than any float.
        kinds = np.ndarray, np.number, float, complex
        numbers = (np.asarray(part) for part in parts if isinstance(part, kinds))
        if lost or not all(np.all(valid(part)) for part in numbers):
            raise _Beyond(
                f"`{function.__name__}` has no finite value in float64 at "
                f"{_called(function, args, kwargs)}. Take arguments that are less extreme."
            )
        return cast(R, result)

    closed_form.__dict__["contract"] = valid
    return closed_form


def _called(function: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """The arguments of a call, each in a few words."""
    bound = inspect.signature(function).bind(*args, **kwargs).arguments
    return ", ".join(f"{name} = {shown(value)}" for name, value in bound.items())
