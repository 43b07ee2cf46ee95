"""Strengths that change in time: functions of one time whose numbers are parameters."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._arguments import finite, is_concrete


class AbstractSchedule(eqx.Module):
    """A scalar function of time, to be multiplied with a drift or a noise (`Scheduled`)."""

    @abc.abstractmethod
    def __call__(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """The factor at time t."""


class PiecewiseLinear(AbstractSchedule):
    """Straight lines between given points, constant before the first and after the last.

    `ts` (points,) strictly increasing, `values` (points,). Raises ValueError for other shapes,
    times that do not increase and numbers that are not finite.
    """

    ts: Float[Array, " points"]
    values: Float[Array, " points"]

    def __init__(self, ts: Any, values: Any):
        self.ts, self.values = finite("ts", ts), finite("values", values)
        if self.ts.ndim != 1 or self.ts.size < 1:
            raise ValueError(f"`ts` must be one axis of times; got shape {self.ts.shape}.")
        if self.values.shape != self.ts.shape:
            raise ValueError(
                f"`values` must have the shape {self.ts.shape} of `ts`; got {self.values.shape}."
            )
        if is_concrete(self.ts) and np.any(np.diff(np.asarray(self.ts)) <= 0):
            raise ValueError(f"`ts` must be strictly increasing; got {np.asarray(self.ts)}.")

    def __call__(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """The value on the line at time t."""
        return jnp.interp(t, self.ts, self.values)
