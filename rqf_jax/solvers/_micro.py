"""One step of any solver from one state, with its increment given: what every loop is made of."""

from collections.abc import Sequence

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .._brownian.path import Increment
from .._sde import SDE, state_dtype
from ._abstract import AbstractGeometricSolver


def variants(
    solver: diffrax.AbstractSolver, sde: SDE, x: PyTree[Array], h: Float[Array, ""]
) -> tuple[Sequence[diffrax.AbstractSolver], Int[Array, ""] | int]:
    """The solvers that stand for one, a program each, and the index of the one to use for h.

    **Arguments** `solver` and `sde`, which fit together; a state like `x`; the step length `h`.

    **Returns** a list of solvers, and an index.

    **Raises** nothing of its own: `simulate` checks that the parts fit together.

    **Example**

    >>> sde = rqf.models.random_quadratic_form(1.0)
    >>> solver = rqf.solvers.default(sde)
    >>> len(rqf.solvers.variants(solver, sde, jnp.eye(5), jnp.asarray(0.1))[0])
    3
    """
    if not isinstance(solver, AbstractGeometricSolver):
        return [solver], 0
    return solver.variants(sde, x, h)


def begin(solver: diffrax.AbstractSolver, sde: SDE, time, x: PyTree[Array]) -> PyTree[Array]:
    """The solver's state at the start of a save interval, for `micro_step`.

    **Arguments** `solver` and `sde`, which fit together; `time` and the state `x` there.

    **Returns** a pytree of arrays, or None.

    **Raises** nothing of its own: `simulate` checks that the parts fit together.

    **Example**

    >>> sde = rqf.models.random_quadratic_form(1.0)
    >>> rqf.solvers.begin(rqf.solvers.default(sde), sde, jnp.zeros(()), jnp.eye(3)) is None
    True
    """
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

    Solvers of diffrax are begun anew in every step: what they keep need not have derivatives.

    **Arguments**

    - `solver`, `sde`: which fit together.
    - `time`, `h`, `x`: start and length of the step, and the state at the start.
    - `dw`: the Brownian increment, of the shape of the noise; `area`: its Lévy area, for solvers
      that ask for it.
    - `handed`: that of `begin`, or of the step before.

    **Returns** the state at the end, and the next `handed`.

    **Raises** nothing of its own: `simulate` checks that the parts fit together.

    **Example**

    >>> sde, x, t = rqf.models.random_quadratic_form(1.0), jnp.eye(3), jnp.zeros(())
    >>> solver = rqf.solvers.default(sde)
    >>> handed = rqf.solvers.begin(solver, sde, t, x)
    >>> dw = jnp.zeros(sde.noise.shape(x))
    >>> moved, _ = rqf.solvers.micro_step(solver, sde, t, jnp.asarray(0.1), x, dw, handed)
    >>> bool(jnp.allclose(moved, x))
    True
    """
    terms = sde.terms(Increment(dw, area), origin=time)
    ours = isinstance(solver, AbstractGeometricSolver)
    if not ours and dw.size == 0:
        # An ordinary differential equation, for which diffrax has more solvers.
        terms = terms.terms[0]
    state = handed if ours else solver.init(terms, 0.0, h, x, None)
    x, _, _, state, _ = solver.step(terms, 0.0, h, x, None, state, False)
    return x, state if ours else None
