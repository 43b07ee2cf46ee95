import diffrax

from .._sde import SDE
from ..manifolds import Euclidean
from ..noises import Calculus
from ._abstract import AbstractGeometricSolver
from .geodesic import GeodesicEuler, GeodesicHeun
from .projective import ProjectiveFlow


def default(sde: SDE) -> AbstractGeometricSolver:
    """The best solver at hand for an equation.

    `ProjectiveFlow` for shared matrix noise on the sphere (weak order 2), `GeodesicHeun` for any
    other noise that is a function of the state, `GeodesicEuler` for the rest.
    """
    for solver in (ProjectiveFlow(), GeodesicHeun()):
        if solver.misfit(sde) is None:
            return solver
    return GeodesicEuler()


def check(solver: diffrax.AbstractSolver, sde: SDE) -> None:
    """Raise ValueError, naming the right solver, if `solver` would give a wrong limit for `sde`."""
    if isinstance(solver, AbstractGeometricSolver):
        reason = solver.misfit(sde)
    elif not isinstance(sde.manifold, Euclidean):
        reason = f"its steps leave the {type(sde.manifold).__name__}"
    else:
        calculus = sde.noise.calculus(sde.manifold)
        ito = isinstance(solver, diffrax.AbstractItoSolver)
        wrong = Calculus.STRATONOVICH if ito else Calculus.ITO
        reason = f"the noise needs {calculus.value}" if calculus is wrong else None
    if reason is not None:
        raise ValueError(
            f"`solver` {type(solver).__name__} does not suit this equation: {reason}. "
            f"Use `{type(default(sde)).__name__}`."
        )
