"""A step of Langevin's equation with momentum: kick, move, rub, move, kick."""

from collections.abc import Sequence
from typing import cast

import diffrax
import jax
from jaxtyping import Array, Float

from .._sde import SDE
from ..drifts import Momentum
from ..drifts.momentum import parts_of
from ..drifts.pull import decay, spread
from ..manifolds import AbstractLinearSpace, State
from ..noises import AbstractAdditiveNoise, NoNoise, Product
from ..schedules import AbstractSchedule
from ._abstract import AbstractGeometricSolver


class BAOAB(AbstractGeometricSolver, diffrax.AbstractItoSolver):
    """A symmetric splitting of underdamped Langevin dynamics.

        p ← p - (h/2) ∇U(q),  q ← q + (h/2) p/m,  p ← e^{-γh} p + noise,  and the first two back

    The middle step, friction γ with noise, is exact in law. Weak order 2 for one evaluation of the
    gradient a step: the one at the end serves the next step. The stationary law of q is exact
    for a quadratic potential at every stable step length (h < 2/ω), that of p is off by
    (ωh)²/4, relative. For `drifts.Momentum` in flat space with constant friction and additive
    noise on "p" alone.

    Source: Leimkuhler & Matthews, AMRX 2013 (recalled).
    """

    def begin(self, sde: SDE, t, x: State) -> State:
        """The gradient."""
        return cast(Momentum, sde.drift).gradient(parts_of(x)[0])

    def advance(self, sde: SDE, t, h, x: State, dw: Float[Array, "*noise"]) -> State:
        """A step with the gradient at its own start."""
        return self.follow(sde, t, h, x, dw, self.begin(sde, t, x))[0]

    def follow(
        self, sde: SDE, t, h, x: State, dw: Float[Array, "*noise"], handed: State
    ) -> tuple[State, State]:
        """The five parts; the gradient at the end."""
        drift = sde.drift
        assert isinstance(drift, Momentum) and not isinstance(drift.friction, AbstractSchedule)

        def kicked(p, gradient):
            return jax.tree.map(lambda p, u: p - h / 2 * drift.gain * u, p, gradient)

        def moved(q, p):
            return jax.tree.map(lambda q, p: q + h / 2 * p / drift.mass, q, p)

        q, p = parts_of(x)
        p = kicked(p, handed)
        q = moved(q, p)
        kept, wide = decay(drift.friction, h), spread(drift.friction, h)
        noise = parts_of(sde.noise(t, x, dw))[1]
        p = jax.tree.map(lambda p, dx: kept * p + wide * dx, p, noise)
        q = moved(q, p)
        handed = drift.gradient(q)
        return {"q": q, "p": kicked(p, handed)}, handed

    def variants(
        self, sde: SDE, x: State, h: Float[Array, ""]
    ) -> tuple[Sequence[diffrax.AbstractSolver], int]:
        """This one, for every step length."""
        return [self], 0

    def explicit_part(self, sde: SDE) -> SDE:
        """A particle without friction, of which a step is exact."""
        drift = sde.drift
        assert isinstance(drift, Momentum)
        free = Momentum(drift.gradient, 0.0, drift.mass, gain=drift.gain)
        return SDE(free, sde.noise, sde.manifold)

    def misfit(self, sde: SDE) -> str | None:
        """Anything but a particle with constant friction and additive noise on its momentum."""
        drift, noise = sde.drift, sde.noise
        if not isinstance(drift, Momentum):
            return f"{type(drift).__name__} has no momentum"
        if isinstance(drift.friction, AbstractSchedule) or drift.curvature is not None:
            return "its friction must be one constant number"
        if not isinstance(sde.manifold, AbstractLinearSpace):
            return f"{type(sde.manifold).__name__} is not a linear space"
        parts = noise.noises if isinstance(noise, Product) else None
        if not (isinstance(parts, dict) and set(parts) == {"q", "p"}):
            return f"{type(noise).__name__} is not a `noises.Product` of parts q and p"
        if not isinstance(parts["q"], NoNoise) or not isinstance(parts["p"], AbstractAdditiveNoise):
            return "its noise must be additive, on the momentum alone"
        return None

    def order(self, terms):
        """2."""
        return 2

    def strong_order(self, terms):
        """1."""
        return 1
