"""Strengths that change in time: functions of one time whose numbers are parameters."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._arguments import described, finite, increasing, scalar

__all__ = [
    "AbstractSchedule",
    "Exponential",
    "PiecewiseLinear",
    "Reciprocal",
]


def __dir__() -> list[str]:
    return __all__


class AbstractSchedule(eqx.Module):
    """A scalar function of time, to be multiplied with a drift or a noise (`Scheduled`)."""

    __repr__ = described

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
        self.ts, self.values = increasing("ts", ts), finite("values", values)
        if self.values.shape != self.ts.shape:
            raise ValueError(
                f"`values` must have the shape {self.ts.shape} of `ts`; got {self.values.shape}."
            )

    def __call__(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """The value on the line at time t."""
        return jnp.interp(t, self.ts, self.values)


class Exponential(AbstractSchedule):
    """A strength that grows, or falls, exponentially: time on a logarithmic scale.

        s(t) = e^(rate t)

    A flow at time t of a drift scheduled so is the flow of the drift itself at time
    (e^(rate t) - 1)/rate, so that what takes a power or an exponential of time, as tokens of
    state-space models do, is followed in few steps. Raises ValueError if the rate is not a finite
    scalar.
    """

    rate: Float[Array, ""] = eqx.field(converter=scalar("rate"), default=1.0)

    def __call__(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """e^(rate t)."""
        return jnp.exp(self.rate * t)


class Reciprocal(AbstractSchedule):
    """A strength that falls as one over time, as the friction of Nesterov's equation.

        s(t) = scale/t

    Times are positive. Raises ValueError if the scale is not a finite scalar.
    """

    scale: Float[Array, ""] = eqx.field(converter=scalar("scale"), default=1.0)

    def __call__(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """scale/t."""
        return self.scale / t
