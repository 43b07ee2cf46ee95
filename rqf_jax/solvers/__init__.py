"""One step of an equation on a manifold, as diffrax solvers.

They are ordinary diffrax solvers: `diffrax.diffeqsolve(sde.terms(path), solver, ...)` runs them
on one state, and `rqf_jax.simulate` on an ensemble.
"""

from ._abstract import (
    AbstractGeometricSolver as AbstractGeometricSolver,
    AbstractMemorylessSolver as AbstractMemorylessSolver,
)
from ._choice import check as check, default as default
from ._micro import begin as begin, micro_step as micro_step
from .eigenvalues import BackwardEuler as BackwardEuler, MatrixJump as MatrixJump
from .geodesic import (
    GeodesicEuler as GeodesicEuler,
    GeodesicHeun as GeodesicHeun,
    ProjectedEuler as ProjectedEuler,
)
from .linear import ExactOU as ExactOU, Strang as Strang
from .projective import ProjectiveFlow as ProjectiveFlow, shared_matrix as shared_matrix
