import typing

import diffrax

from .._arguments import part
from .._sde import SDE
from ..manifolds import AbstractLinearSpace
from ..noises import Calculus, NoNoise
from ._abstract import AbstractGeometricSolver
from .eigenvalues import BackwardEuler, MatrixJump
from .exponential import ExponentialRungeKutta
from .geodesic import GeodesicEuler, GeodesicHeun, ProjectedEuler
from .linear import ExactOU, LinearFlow, Strang
from .momentum import BAOAB
from .projective import ProjectiveFlow

_BEST = (
    ProjectiveFlow(),
    LinearFlow(),
    ExactOU(),
    Strang(),
    MatrixJump(),
    BackwardEuler(),
    BAOAB(),
    ExponentialRungeKutta(),
)
_OTHERS = (GeodesicHeun(), GeodesicEuler(), ProjectedEuler(), GeodesicHeun())
"""In this order; Heun's method comes first where there is no noise."""


def default(sde: SDE) -> AbstractGeometricSolver:
    """The best solver at hand for an equation.

    `ProjectiveFlow` for shared matrix noise on the sphere (weak order 2 where it is isotropic),
    also beside other noises; `LinearFlow` for a linear drift without noise, `ExactOU` for a linear
    pull with additive noise and `MatrixJump` for eigenvalues of Gaussian matrices (all exact),
    `Strang` for matrices in a potential, `BackwardEuler` for other eigenvalues, `BAOAB` for
    particles with momentum in a bath, `ExponentialRungeKutta` for semilinear drifts without noise;
    `GeodesicEuler` for any other noise that allows it,
    `ProjectedEuler` for noises defined by layers, `GeodesicHeun` for the rest and for other
    equations without noise.
    Where both are right, Heun's step costs twice as much, and with noise of its own for every token
    its one-point error was 3 to 20 times as large (the same per cost under a strong drift).
    """
    part(SDE)("sde", sde)
    others = _OTHERS if isinstance(sde.noise, NoNoise) else _OTHERS[1:]
    for solver in (*_BEST, *others):
        if solver.misfit(sde) is None:
            return solver
    raise ValueError(
        f"`sde` has no solver: {type(sde.drift).__name__} with {type(sde.noise).__name__} on "
        f"{type(sde.manifold).__name__}."
    )


def check(solver: diffrax.AbstractSolver, sde: SDE) -> None:
    """Raise ValueError, naming the right solver, if `solver` would give a wrong limit for `sde`."""
    part(diffrax.AbstractSolver, "a solver of `rqf_jax.solvers` or diffrax")("solver", solver)
    part(SDE)("sde", sde)
    if isinstance(solver, AbstractGeometricSolver):
        reason = solver.misfit(sde)
    elif not isinstance(sde.manifold, AbstractLinearSpace):
        reason = f"its steps leave the {type(sde.manifold).__name__}"
    elif isinstance(sde.noise, NoNoise) and _is_of_several(solver.term_structure):
        reason = "its steps take a noise beside the drift, and there is none"
    else:
        calculus = sde.noise.calculus(sde.manifold)
        ito = isinstance(solver, diffrax.AbstractItoSolver)
        wrong = {Calculus.STRATONOVICH} if ito else {Calculus.ITO, Calculus.LAYER}
        reason = f"the noise needs {calculus.value}" if calculus in wrong else None
        if reason and calculus is Calculus.ITO:
            reason += (
                ", its increment being that of fresh weights for the state before a step (Itô)"
            )
    if reason is not None:
        raise ValueError(
            f"`solver` {type(solver).__name__} does not suit this equation: {reason}. "
            f"Use `{type(default(sde)).__name__}`."
        )


def _is_of_several(terms: typing.Any) -> bool:
    """True for a structure of terms, as diffrax describes it, that is a sum of several."""
    return typing.get_origin(terms) is diffrax.MultiTerm
