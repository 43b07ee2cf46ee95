"""Motion with momentum: gradient flows of second order in time."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float, PyTree

from .._arguments import function_of, scalar
from ..manifolds import State
from ..schedules import AbstractSchedule
from ._abstract import AbstractDrift


class Momentum(AbstractDrift):
    """A particle in a potential U with friction; the state is {"q": position, "p": momentum}.

        dq/dt = p/mass,   dp/dt = -gain ∇U(q) - friction p - curvature ∇²U(q) p/mass

    **Arguments**

    - `gradient`: ∇U, a function of q.
    - `friction`: ≥ 0 per unit time, a number or a schedule.
    - `mass`: positive.
    - `curvature`: ≥ 0, multiplies the Hessian, taken as a directional derivative of `gradient`; 0,
      a Python number, leaves it out.
    - `gain`: ≥ 0, multiplies the gradient.

    **Raises** ValueError for arguments that break a rule and, when called, for another state.

    **Example**

    >>> drift = rqf.drifts.Momentum(lambda q: 2.0 * q, friction=1.0)
    >>> moved = drift(jnp.zeros(()), {"q": jnp.ones(1), "p": jnp.zeros(1)})
    >>> float(moved["p"][0])
    -2.0
    """

    gradient: Callable[[PyTree], PyTree]
    friction: Float[Array, ""] | AbstractSchedule
    mass: Float[Array, ""]
    curvature: Float[Array, ""] | None
    gain: Float[Array, ""]

    def __init__(
        self,
        gradient: Callable[[PyTree], PyTree],
        friction: Any,
        mass: Any = 1.0,
        *,
        curvature: Any = 0,
        gain: Any = 1.0,
    ):
        self.gradient = function_of("a position")("gradient", gradient)
        timed = isinstance(friction, AbstractSchedule)
        self.friction = friction if timed else scalar("friction", minimum=0)(friction)
        self.mass = scalar("mass", minimum=0)(mass)
        bends = not (isinstance(curvature, int | float) and curvature == 0)
        self.curvature = scalar("curvature", minimum=0)(curvature) if bends else None
        self.gain = scalar("gain", minimum=0)(gain)

    def __call__(self, t: Float[Array, ""], x: State) -> State:
        """The velocities of position and momentum."""
        friction = (
            self.friction(t) if isinstance(self.friction, AbstractSchedule) else self.friction
        )
        q, p = parts_of(x)
        velocity = jax.tree.map(lambda p: p / self.mass, p)
        pull = jax.tree.map(lambda u, p: -self.gain * u - friction * p, self.gradient(q), p)
        if self.curvature is not None:
            bend = jax.jvp(self.gradient, (q,), (velocity,))[1]
            pull = jax.tree.map(lambda f, b: f - self.curvature * b, pull, bend)
        return {"q": velocity, "p": pull}


def parts_of(x: State) -> tuple[PyTree[Array], PyTree[Array]]:
    """Position and momentum of a state; ValueError if it is another."""
    if not (isinstance(x, dict) and set(x) == {"q", "p"}):
        raise ValueError(
            f'a state with momentum must be {{"q": ..., "p": ...}}; got {jax.tree.structure(x)}.'
        )
    return x["q"], x["p"]
