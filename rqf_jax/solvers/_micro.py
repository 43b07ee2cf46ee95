"""One step of any solver from one state, with its increment given: what every loop is made of."""

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._brownian.path import Increment
from .._sde import SDE
from ._abstract import AbstractGeometricSolver


def begin(
    solver: diffrax.AbstractSolver, sde: SDE, time, x: Float[Array, "*state"]
) -> PyTree[Array]:
    """The solver's state at the start of a save interval, for `micro_step`."""
    ours = isinstance(solver, AbstractGeometricSolver)
    return solver.begin(sde, jnp.asarray(time, x.dtype), x) if ours else None


def micro_step(
    solver: diffrax.AbstractSolver,
    sde: SDE,
    time,
    h,
    x: Float[Array, "*state"],
    dw: Float[Array, "*noise"],
    handed: PyTree[Array],
    area: Float[Array, "*noise"] | None = None,
) -> tuple[Float[Array, "*state"], PyTree[Array]]:
    """The state after a step of length h, and what is handed on to the next one.

    `area` is the Lévy area beside the increment `dw`, for solvers that ask for it. Solvers of
    diffrax are begun anew in every step: what they keep need not have derivatives.
    """
    terms = sde.terms(Increment(dw, area), origin=time)
    ours = isinstance(solver, AbstractGeometricSolver)
    state = handed if ours else solver.init(terms, 0.0, h, x, None)
    x, _, _, state, _ = solver.step(terms, 0.0, h, x, None, state, False)
    return x, state if ours else None
