"""One step of any solver from one state, with its increment given: what every loop is made of."""

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .._brownian.path import Increment
from .._sde import SDE, state_dtype
from ._abstract import AbstractGeometricSolver


def variants(
    solver: diffrax.AbstractSolver, sde: SDE, x: PyTree[Array], h: Float[Array, ""]
) -> tuple[list[diffrax.AbstractSolver], Int[Array, ""] | int]:
    """The solvers that stand for one, a program each, and the index of the one to use for h."""
    several = getattr(solver, "variants", None)
    return ([solver], 0) if several is None else several(sde, x, h)


def begin(solver: diffrax.AbstractSolver, sde: SDE, time, x: PyTree[Array]) -> PyTree[Array]:
    """The solver's state at the start of a save interval, for `micro_step`."""
    ours = isinstance(solver, AbstractGeometricSolver)
    return solver.begin(sde, jnp.asarray(time, state_dtype(x)), x) if ours else None


def micro_step(
    solver: diffrax.AbstractSolver,
    sde: SDE,
    time,
    h,
    x: PyTree[Array],
    dw: Float[Array, "*noise"],
    handed: PyTree[Array],
    area: Float[Array, "*noise"] | None = None,
) -> tuple[PyTree[Array], PyTree[Array]]:
    """The state after a step of length h, and what is handed on to the next one.

    `area` is the Lévy area beside the increment `dw`, for solvers that ask for it. Solvers of
    diffrax are begun anew in every step: what they keep need not have derivatives.
    """
    terms = sde.terms(Increment(dw, area), origin=time)
    ours = isinstance(solver, AbstractGeometricSolver)
    if not ours and dw.size == 0:
        # An ordinary differential equation, for which diffrax has more solvers.
        terms = terms.terms[0]
    state = handed if ours else solver.init(terms, 0.0, h, x, None)
    x, _, _, state, _ = solver.step(terms, 0.0, h, x, None, state, False)
    return x, state if ours else None
