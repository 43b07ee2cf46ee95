"""Rules for shapes: arrays that fit the memory of this machine."""

import functools
import math
import os
from typing import Any

from .rules import integer
from .shown import shown


def sizes(name: str, value: Any) -> tuple[int, ...]:
    """A rule: the shape of an array, a tuple of sizes that fits the memory."""
    if not isinstance(value, tuple):
        raise ValueError(f"`{name}` must be a tuple of sizes; got {shown(value)}.")
    return fitting(name, tuple(integer(name, size) for size in value))


def fitting(
    names: str | tuple[str, ...], shape: tuple[int, ...], itemsize: int = 4
) -> tuple[int, ...]:
    """`shape`, unless an array of it is larger than the memory of this machine; ValueError then.

    `names` are the arguments that made it, and `itemsize` the bytes of an entry.
    """
    needed, there = math.prod(shape) * itemsize, _memory()
    if needed > there:
        made = " and ".join(f"`{name}`" for name in ([names] if isinstance(names, str) else names))
        raise ValueError(
            f"{made} must make arrays that fit the memory, {there / 2**30:.3g} GiB; got shape "
            f"{shape}, which takes {needed / 2**30:.3g} GiB."
        )
    return shape


@functools.cache
def _memory() -> int:
    """The bytes of this machine's memory; where it does not say, 2⁴⁶."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**46
