"""Rules for times that a function of time is made of."""

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from .rules import finite, host, is_concrete

_BLUR = 0.1
"""Rounding may move times by this share of the way to the next one."""


def increasing(name: str, value: Any, *, least: int = 1) -> Float[Array, " times"]:
    """A rule: at least `least` times along one axis, strictly increasing in the default float type
    as they were given."""
    array = finite(name, value)
    if array.ndim != 1 or array.size < least:
        raise ValueError(
            f"`{name}` must be one axis of at least {least} times; got shape {array.shape}."
        )
    if not is_concrete(array):
        return array
    exact = host(name, value)
    gaps, moved = np.diff(exact), np.abs(np.asarray(array, float) - exact)
    wrong = np.flatnonzero(~(gaps > 0))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"`{name}` must be strictly increasing; got {exact[i]} then {exact[i + 1]} at index "
            f"{i}."
        )
    blurred = np.flatnonzero(moved[1:] + moved[:-1] > _BLUR * gaps)
    if blurred.size:
        i = int(blurred[0])
        raise ValueError(
            f"`{name}` must be told apart in {array.dtype}, which rounds them; got {exact[i]} then "
            f"{exact[i + 1]} at index {i}. Let time begin at 0, here and in the times that are "
            "saved, or turn `jax_enable_x64` on."
        )
    return array
