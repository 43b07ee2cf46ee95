"""One step of an equation on a manifold, as diffrax solvers.

They are ordinary diffrax solvers: `diffrax.diffeqsolve(sde.terms(path), solver, ...)` runs them
on one state, and `rqf_jax.simulate` on an ensemble.
"""

from ._abstract import (
    AbstractGeometricSolver,
    AbstractMemorylessSolver,
)
from ._choice import check, default
from ._micro import begin, micro_step, variants
from .eigenvalues import BackwardEuler, MatrixJump
from .exponential import ExponentialRungeKutta
from .geodesic import (
    GeodesicEuler,
    GeodesicHeun,
    ProjectedEuler,
)
from .linear import ExactOU, LinearFlow, Strang
from .momentum import BAOAB
from .projective import ProjectiveFlow, shared_matrix

__all__ = [
    "BAOAB",
    "AbstractGeometricSolver",
    "AbstractMemorylessSolver",
    "BackwardEuler",
    "ExactOU",
    "ExponentialRungeKutta",
    "GeodesicEuler",
    "GeodesicHeun",
    "LinearFlow",
    "MatrixJump",
    "ProjectedEuler",
    "ProjectiveFlow",
    "Strang",
    "begin",
    "check",
    "default",
    "micro_step",
    "shared_matrix",
    "variants",
]


def __dir__() -> list[str]:
    return __all__
