"""Maxima of smooth functions of a few parameters, by Newton's method with a line search."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_STEPS = 60
_HALVINGS = 25


def maximum(
    function: Callable[[Float[Array, " parameters"]], Float[Array, ""]], start: Any
) -> tuple[np.ndarray, np.ndarray, float, bool]:
    """The point, minus the second derivatives there, the value, and whether it is a maximum.

    Derivatives are in forward mode, which keeps nothing of a long path: for a few parameters.
    """

    def slope(point):
        value, gradient = function(point), jax.jacfwd(function)(point)
        return gradient, (value, gradient)

    all_of = jax.jit(lambda point: jax.jacfwd(slope, has_aux=True)(point))
    value_of = jax.jit(function)
    point = jnp.asarray(start, float)
    for _ in range(_STEPS):
        hessian, (value, gradient) = jax.tree.map(lambda a: np.asarray(a, float), all_of(point))
        if not (np.all(np.isfinite(hessian)) and np.all(np.isfinite(gradient))):
            break
        values, vectors = np.linalg.eigh(-hessian)
        floor = 1e-6 * np.abs(values).max() + 1e-300
        step = vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), floor))
        gain = float(gradient @ step)
        # The value is known to some rounding of its size, and no step gains less than that.
        rounding = 1e2 * float(jnp.finfo(point.dtype).eps) * (1 + abs(float(value)))
        if gain < rounding:
            return np.asarray(point, float), -hessian, float(value), bool(values.min() > 0)
        for halving in range(_HALVINGS):
            trial = point + jnp.asarray(step * 0.5**halving, point.dtype)
            reached = float(value_of(trial))
            if reached > value + 1e-4 * gain * 0.5**halving:
                point = trial
                break
        else:
            break
    return np.asarray(point, float), np.full((point.size,) * 2, np.nan), float("nan"), False
