"""Checks of numbers and arrays: float64 NumPy arrays in their domain, or one clear ValueError."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import typing as npt

from .._arguments import Real, fitting, host, integer
from ._rapidity import Values

# Angles and overlaps measured in float32 may pass their bounds by a rounding error.
ROUNDING = 1e-5

# Matrices may miss symmetry and positivity by so much of their largest entry.
SYMMETRY = 1e-8

# The largest integer up to which float64 counts every one.
LARGEST_COUNT = 2**53


def check(name: str, value: Real, valid: npt.ArrayLike, rule: str) -> None:
    """Raise ValueError with the rule and the first bad value unless all are `valid`."""
    if not np.all(valid):
        shown, valid = np.broadcast_arrays(value, valid)
        raise ValueError(f"`{name}` must {rule}; got {shown[~valid].flat[0]}.")


def count(name: str, value: Any, *, minimum: int = 1) -> int:
    """An integer that float64 can count, at least `minimum`."""
    return integer(name, value, minimum=minimum, maximum=LARGEST_COUNT)


def size(name: str, value: Any, *, minimum: int = 1, axes: int = 1) -> int:
    """A count of which an array of float64 numbers with so many `axes` fits the memory."""
    found = count(name, value, minimum=minimum)
    fitting(name, (found,) * axes, 8)
    return found


def real(name: str, value: Real) -> Values:
    """Finite numbers."""
    array = host(name, value)
    check(name, array, np.isfinite(array), "be finite")
    return array


def nonnegative(name: str, value: Real) -> Values:
    """Finite numbers of at least 0."""
    array = host(name, value)
    rule = "be finite and at least 0"
    check(name, array, np.isfinite(array) & (array >= 0), rule)
    return array


def positive(name: str, value: Real) -> Values:
    """Finite numbers above 0."""
    array = host(name, value)
    check(name, array, np.isfinite(array) & (array > 0), "be finite and positive")
    return array


def duration(name: str, value: Real) -> Values:
    """Numbers of at least 0 that may be infinite: the limit t → ∞."""
    array = host(name, value)
    check(name, array, array >= 0, "be at least 0")
    return array


def angles(name: str, value: Real) -> Values:
    """Numbers in [0, π]."""
    array = host(name, value)
    check(name, array, (array >= 0) & (array <= np.pi + ROUNDING), "lie in [0, pi]")
    return np.minimum(array, np.pi)


def overlaps(name: str, value: Real) -> Values:
    """Numbers in [-1, 1]."""
    array = host(name, value)
    check(name, array, np.abs(array) <= 1 + ROUNDING, "lie in [-1, 1]")
    return np.clip(array, -1, 1)


def scalar(rule: Callable[[str, Any], Values], name: str, value: Any) -> np.float64:
    """One number that keeps `rule`; NumPy's, which overflows to infinity where Python's raises."""
    array = np.asarray(rule(name, value))
    if array.ndim:
        raise ValueError(f"`{name}` must be one number; got shape {array.shape}.")
    return np.float64(array)


def index(name: str, value: Any, *choices: int) -> int:
    """One of a few integers, such as the Dyson indices 1, 2 and 4."""
    number = scalar(real, name, value)
    if number not in choices:
        known = f"{', '.join(map(str, choices[:-1]))} or {choices[-1]}"
        raise ValueError(f"`{name}` must be {known}; got {value}.")
    return int(number)


def rapidity_of_angle(name: str, angle: Real) -> Values:
    """u = ln cot(θ/2), infinite at both ends."""
    half = angles(name, angle) / 2
    with np.errstate(divide="ignore"):
        u = np.log(np.cos(half) / np.sin(half))
    return np.where(half == np.pi / 2, -np.inf, u)


def rapidity_of_overlap(name: str, overlap: Real) -> Values:
    """u = artanh r, infinite at both ends."""
    with np.errstate(divide="ignore"):
        return np.arctanh(overlaps(name, overlap))


def square_matrix(name: str, value: Real) -> Float[np.ndarray, "rows rows"]:
    """A finite square matrix that is not empty."""
    array = host(name, value)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.size == 0:
        raise ValueError(f"`{name}` must be a square matrix; got shape {array.shape}.")
    check(name, array, np.isfinite(array), "be finite")
    return array


def positive_matrix(
    name: str, value: Real, size: int | None = None
) -> Float[np.ndarray, "rows rows"]:
    """A finite symmetric matrix without negative eigenvalues, of `size` rows if there is one."""
    array = square_matrix(name, value)
    if size is not None and len(array) != size:
        raise ValueError(f"`{name}` must be of shape ({size}, {size}); got shape {array.shape}.")
    scale = SYMMETRY * np.abs(array).max()
    check(name, array, np.abs(array - array.T) <= scale, "be symmetric")
    array = (array + array.T) / 2
    values = np.linalg.eigvalsh(array)
    check(name, values, values >= -len(array) * scale, "have no negative eigenvalue")
    return array


def vector(name: str, value: Real) -> Float[np.ndarray, " n"]:
    """Finite numbers along one axis, at least one."""
    array = np.atleast_1d(np.asarray(real(name, value)))
    if array.ndim != 1 or not array.size:
        raise ValueError(f"`{name}` must be one axis of numbers; got shape {array.shape}.")
    return array
