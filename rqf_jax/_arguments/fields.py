"""Rules as converters of the fields of modules."""

import functools
import math
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Bool, Float

from .rules import Rule, allowed, number, squared


def field(name: str, rule: Rule, *, minimum: float = -math.inf) -> Callable[[Any], Any]:
    """A rule as the converter of the field `name`, which knows the field's lower bound."""
    convert = functools.partial(rule, name)
    convert.__dict__["minimum"] = minimum
    return convert


def scalar(
    name: str, *, minimum: float = -math.inf, maximum: float = math.inf
) -> Callable[[Any], Float[Array, ""]]:
    """A field converter: a finite scalar array in [minimum, maximum]."""
    return field(name, number(minimum=minimum, maximum=maximum), minimum=minimum)


def square(name: str) -> Callable[[Any], Float[Array, "n n"]]:
    """A field converter: a finite square matrix."""
    return field(name, squared)


def mask(name: str) -> Callable[[Any], Bool[Array, "n n"]]:
    """A field converter: a square matrix of booleans with no empty row."""
    return field(name, allowed)


def optional(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same field converter, which lets None through."""

    def pass_none(value: Any) -> Any:
        return None if value is None else convert(value)

    pass_none.__dict__.update(vars(convert))
    return pass_none


def lower_bound(converter: Any) -> float:
    """The least value that a field converter lets through: -infinity unless it was told."""
    return getattr(converter, "minimum", -math.inf)
