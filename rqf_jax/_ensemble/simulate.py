"""The verb: an ensemble of trajectories of one equation."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from .._arguments import Key, Times, flag, integer, is_concrete, maybe
from .._sde import SDE
from ..laws import AbstractLaw
from .engine import ensemble
from .kinds import once_for_each_kind
from .members import member_range, raise_failed, whole_state
from .problem import Problem
from .program import check_room
from .times import SaveTimes, host_times
from .trajectories import Trajectories


def simulate(
    sde: SDE,
    law: AbstractLaw,
    ts: Times | SaveTimes,
    *,
    substeps: int,
    members: int,
    key: Key,
    solver: diffrax.AbstractSolver | None = None,
    save: Callable[[PyTree], PyTree] = whole_state,
    batch_size: int | None = None,
    throw: bool | None = None,
    first_member: int = 0,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Trajectories:
    """An ensemble of independent trajectories of `sde`, started from `law`, seen at `ts`.

    **Main arguments**

    - `sde`, `law`: the equation, and the law of one initial state.
    - `ts`: save times, strictly increasing, at least two, spaced as you like; the first is the
      time of the initial state. Times that are known are differenced in float64, so that their
      offset changes nothing; inside `jit`, times that are traced in their own dtype.
    - `substeps`: number of equal micro-steps in each save interval. For shared matrix noise in
      dimension n keep n h (sigma_s² + sigma_a²) ≤ 1 for h the longest of them.
    - `members`: size of the ensemble.
    - `key`: one JAX key for the run. Member i draws from `member_keys(key, i)`.

    **Other arguments**

    - `solver`: default `solvers.default(sde)`; flat problems also take any of diffrax's, with the
      Lévy areas that `diffrax.ShARK()` and its kind ask for.
    - `save`: what to keep of a state, a function of ONE state; the whole state by default. Give a
      named function (or a module) and not a fresh lambda: each new function object compiles anew.
    - `batch_size`: how many members are simulated at a time. By default all of them, but on a
      CPU no more than let the noise of one step fit the cache. It changes speed and memory, and
      results by rounding at most.
    - `throw`: raise if members became NaN or infinite; with False they are returned, marked in
      `Trajectories.status`. By default this raises where it can without a callback to Python:
      inside `jit` and `vmap` failed members are only marked, and what is saved of them is no
      number. With True it raises there too, at run time and without ids, and JAX's compilation
      cache then refuses your program.
    - `first_member`: global index of the first member; `simulate(..., first_member=1000)`
      continues an ensemble of 1000.
    - `adjoint`: how the result may be differentiated. By default in reverse mode (`jax.grad`) in
      little memory: states are computed again from the keys, for a part of the members at a time.
      `diffrax.ForwardMode()` is for `jax.jvp`, `jax.jacfwd` and second derivatives; in reverse mode
      it keeps the states at all saves, and so it does where the equation or the law closes over an
      array that is differentiated: hold that in a field.

    **Returns** `Trajectories`, members first.

    **Raises** ValueError, before anything is compiled, for arguments that break a rule above, for
    a drift, noise, manifold, solver or `save` that returns anything but what its class promises,
    for an initial state off the manifold by more than 1e-5 or not finite, for a solver that does
    not suit the equation, and for `rbg` keys, which draw the noise of a whole batch from its first
    key; `NonFiniteError` for members whose states, or what is saved of them, became NaN or
    infinite; MemoryError if there is not enough memory.

    **Example**

        >>> import jax, rqf_jax as rqf
        >>> runs = rqf.simulate(
        ...     rqf.models.random_quadratic_form(sigma=1.0), rqf.laws.Uniform(tokens=4, dim=3),
        ...     ts=[0.0, 0.5, 1.0], substeps=8, members=100, key=jax.random.key(0),
        ... )
        >>> runs.ys.shape
        (100, 3, 4, 3)
    """
    throw = maybe(flag)("throw", throw)
    reverse = _is_reverse(adjoint)
    members, first_member = member_range(members, first_member)
    problem = Problem(sde, law, ts, key, save, substeps, solver).checked()
    problem.look_at(first_member)
    # By arrays that are hidden from the engine JAX differentiates alone.
    reverse = reverse and not problem.hides_traced
    if batch_size is None:
        batch_size = problem.batch_size(members)
    else:
        batch_size = min(integer("batch_size", batch_size), members)
    first = jnp.asarray(first_member, jnp.uint32)
    if is_concrete((problem, first)):
        check_room(members, _bytes_of_one(problem), first)
    try:
        ys, status = ensemble(problem, first, members, batch_size, reverse)
        ys = raise_failed(ys, status, first_member, throw)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(_too_large(problem, members, batch_size, str(error))) from error
    return Trajectories(
        problem.times.at if isinstance(ts, SaveTimes) else host_times(ts), ys, status
    )


def _is_reverse(adjoint: Any) -> bool:
    """Whether derivatives are by reverse mode alone; ValueError for an adjoint of another kind."""
    if adjoint is None or isinstance(adjoint, diffrax.RecursiveCheckpointAdjoint):
        return True
    if isinstance(adjoint, diffrax.ForwardMode | diffrax.DirectAdjoint):
        return False
    raise ValueError(
        "`adjoint` must be None, for reverse mode in little memory, or `diffrax.ForwardMode()`; "
        f"got {adjoint!r}."
    )


@once_for_each_kind
def _bytes_of_one(problem: Problem) -> int:
    """The bytes that are saved of one member."""
    return sum(y.size * y.dtype.itemsize for y in jax.tree.leaves(problem.outputs()))


def _too_large(problem: Problem, members: int, batch_size: int, reason: str) -> str:
    saved = members * _bytes_of_one(problem)
    return (
        f"`members` = {members:,} at {problem.times.intervals + 1:,} times need more memory than "
        f"there is: {saved:,} bytes are saved. Pass `save=` to keep less of a state, save at fewer "
        f"times, or pass a `batch_size` below {batch_size:,}. ({reason.partition(chr(10))[0]})"
    )
