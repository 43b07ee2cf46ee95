"""Checked float64 arguments of closed forms."""

import numpy as np
from jaxtyping import Float
from numpy import typing as npt

# Run-time type checkers do not count Python numbers among the array-likes of NumPy.
Real = npt.ArrayLike | float | int
Values = Float[np.ndarray, "..."] | np.floating | float


def check(name: str, value: Real, valid: npt.ArrayLike | bool, rule: str) -> None:
    """ValueError that `name` must `rule`, with the first value for which it does not."""
    valid = np.asarray(valid)
    if not valid.all():
        bad = np.broadcast_to(np.asarray(value, float), valid.shape)[~valid][0]
        raise ValueError(f"`{name}` must {rule}; got {bad:g}.")


def finite(name: str, value: Real) -> Values:
    """`value` as float64, finite."""
    array = np.asarray(value, float)
    check(name, array, np.isfinite(array), "be finite")
    return array


def nonnegative(name: str, value: Real) -> Values:
    """`value` as float64, finite and at least 0."""
    array = np.asarray(value, float)
    check(name, array, np.isfinite(array) & (array >= 0), "be finite and at least 0")
    return array


def positive(name: str, value: Real) -> Values:
    """`value` as float64, finite and above 0."""
    array = np.asarray(value, float)
    check(name, array, np.isfinite(array) & (array > 0), "be finite and positive")
    return array


def vector(name: str, value: Real) -> Float[np.ndarray, " n"]:
    """`value` as float64 numbers along one axis, at least one, finite."""
    array = np.atleast_1d(np.asarray(finite(name, value)))
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{name}` must be one axis of numbers; got shape {array.shape}.")
    return array
