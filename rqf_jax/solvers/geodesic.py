"""Steps along geodesics: for any noise on any manifold."""

from typing import ClassVar

import diffrax
import jax
from jaxtyping import Array, Float

from .._sde import SDE
from ..manifolds import State, WeylChamber
from ..noises import Calculus
from ._abstract import AbstractMemorylessSolver

_CROSSING = "an explicit step can carry eigenvalues past each other"


class GeodesicEuler(AbstractMemorylessSolver, diffrax.AbstractItoSolver):
    """One evaluation a step, along a geodesic.

        x ← exp_x( P_x [ f h + g ΔB ] )

    Converges to the Stratonovich equation only where it agrees with the Itô one: rotation
    invariant noise on the sphere, additive noise in flat space; and to the Itô equation of noises
    that are defined by one (`AbstractNoise.calculus`). Any other noise is refused. Weak order 1,
    strong order 1/2.
    """

    def advance(self, sde: SDE, t, h, x: State, dw: Float[Array, "*noise"]) -> State:
        """exp_x(P_x[f h + g dw])."""
        return sde.manifold.retract(x, _displacement(sde, t, h, x, dw))

    def misfit(self, sde: SDE) -> str | None:
        """Noises that must be evaluated twice or defined by their projection, and eigenvalues."""
        if isinstance(sde.manifold, WeylChamber):
            return _CROSSING
        calculus = sde.noise.calculus(sde.manifold)
        if calculus is Calculus.STRATONOVICH:
            return f"{_pair(sde)} has an Itô correction, which one evaluation a step misses"
        if calculus is Calculus.LAYER:
            return f"{_pair(sde)} drifts by being projected back, which a geodesic does not need"
        return None

    def order(self, terms):
        """1 without noise."""
        return 1

    def strong_order(self, terms):
        """1/2."""
        return 0.5


class ProjectedEuler(AbstractMemorylessSolver, diffrax.AbstractItoSolver):
    """A step is a layer: add to the state, and project back.

        x ← project(x + f h + g ΔB)

    On the sphere this is a residual layer with normalisation, of depth 1/h per unit time, so that
    a simulation is a random network and its limit the equation. For noises of any kind but those
    that must be evaluated twice. Weak order 1, strong order 1/2.
    """

    explicit: ClassVar[bool] = False

    def advance(self, sde: SDE, t, h, x: State, dw: Float[Array, "*noise"]) -> State:
        """project(x + f h + g dw)."""
        velocity, moved = sde.drift(t, x), sde.noise(t, x, dw)
        return sde.manifold.project(
            jax.tree.map(lambda x, v, dx: x + v * h + dx, x, velocity, moved)
        )

    def misfit(self, sde: SDE) -> str | None:
        """Noises that must be evaluated twice, and eigenvalues."""
        if isinstance(sde.manifold, WeylChamber):
            return _CROSSING
        if sde.noise.calculus(sde.manifold) is Calculus.STRATONOVICH:
            return f"{_pair(sde)} has an Itô correction, which one evaluation a step misses"
        return None

    def order(self, terms):
        """1 without noise."""
        return 1

    def strong_order(self, terms):
        """1/2."""
        return 0.5


class GeodesicHeun(AbstractMemorylessSolver, diffrax.AbstractStratonovichSolver):
    """Heun's method with geodesics for straight lines.

        v = P_x [ f h + g ΔB ],   y = exp_x(v),   w = the same at (t + h, y),
        x ← exp_x( (v + P_x w) / 2 )

    Converges to the Stratonovich equation for every noise that is a function of the state. Weak
    order 1 (order 2 without noise), strong order 1/2 (1 for commutative noise).
    """

    def advance(self, sde: SDE, t, h, x: State, dw: Float[Array, "*noise"]) -> State:
        """The average of the displacements at both ends, along one geodesic."""
        start = _displacement(sde, t, h, x, dw)
        y = sde.manifold.retract(x, start)
        end = sde.manifold.tangent(x, _displacement(sde, t + h, h, y, dw))
        mean = jax.tree.map(lambda a, b: (a + b) / 2, start, end)
        return sde.manifold.retract(x, mean)

    def misfit(self, sde: SDE) -> str | None:
        """Noises whose increment is good for one evaluation, and eigenvalues."""
        if isinstance(sde.manifold, WeylChamber):
            return _CROSSING
        if sde.noise.calculus(sde.manifold) in (Calculus.ITO, Calculus.LAYER):
            return (
                f"the increment of {_pair(sde)} may be used once in a step, being that of fresh "
                "weights for the state before it (Itô)"
            )
        return None

    def order(self, terms):
        """2 without noise."""
        return 2

    def strong_order(self, terms):
        """1/2."""
        return 0.5


def _displacement(sde: SDE, t, h, x: State, dw: Float[Array, "*noise"]) -> State:
    step = jax.tree.map(lambda v, dx: v * h + dx, sde.drift(t, x), sde.noise(t, x, dw))
    return sde.manifold.tangent(x, step)


def _pair(sde: SDE) -> str:
    return f"{type(sde.noise).__name__} on {type(sde.manifold).__name__}"
