"""Drifts made of drifts: sums, and strengths that change in time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import each, part
from ..manifolds import State
from ..schedules import AbstractSchedule
from ._abstract import AbstractDrift


class Sum(AbstractDrift):
    """The sum of drifts: heads of attention, attention and a bias.

        f = f_1 + f_2 + …

    Raises ValueError for no drifts, and for parts that are not drifts.
    """

    drifts: tuple[AbstractDrift, ...]

    def __init__(self, *drifts: AbstractDrift):
        self.drifts = each(part(AbstractDrift))("drifts", drifts)

    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """The sum of the velocities."""
        first, *others = self.drifts
        total = first(t, x)
        for drift in others:
            total = jax.tree.map(jnp.add, total, drift(t, x))
        return total

    @property
    def spans(self) -> bool:
        """True if all parts do."""
        return all(drift.spans for drift in self.drifts)


class Scheduled(AbstractDrift):
    """A drift whose strength is a function of time.

        f(t, x) = s(t) f_0(t, x)

    `schedule` is s, one of `rqf_jax.schedules`. Raises ValueError if a part is not of its kind.
    """

    drift: AbstractDrift
    schedule: AbstractSchedule

    def __check_init__(self):
        part(AbstractDrift)("drift", self.drift)
        part(AbstractSchedule)("schedule", self.schedule)

    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """s(t) times the velocity of the inner drift."""
        factor = self.schedule(t)
        return jax.tree.map(lambda v: jnp.asarray(factor, v.dtype) * v, self.drift(t, x))

    @property
    def spans(self) -> bool:
        """True if the inner drift does."""
        return self.drift.spans
