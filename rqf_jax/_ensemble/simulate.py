"""The verb: an ensemble of trajectories of one equation."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from .. import solvers
from .._arguments import Key, Times, finite, integer, is_concrete
from .._sde import SDE
from ..laws import AbstractLaw, check_span
from ..solvers._step_size import warn_of_long_steps
from .engine import CACHE_BYTES, ensemble
from .members import first_state, member_keys, member_range, raise_failed, typed_key, whole_state
from .trajectories import Trajectories


def simulate(
    sde: SDE,
    law: AbstractLaw,
    ts: Times,
    *,
    substeps: int,
    members: int,
    key: Key,
    solver: diffrax.AbstractSolver | None = None,
    save: Callable[[PyTree], PyTree] = whole_state,
    batch_size: int | None = None,
    throw: bool = True,
    first_member: int = 0,
    adjoint: diffrax.AbstractAdjoint | None = None,
) -> Trajectories:
    """An ensemble of independent trajectories of `sde`, started from `law`, seen at `ts`.

    **Main arguments**

    - `sde`, `law`: the equation, and the law of one initial state.
    - `ts`: save times, strictly increasing, at least two, spaced as you like; the first is the
      time of the initial state.
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
      `Trajectories.status`. Inside `jit` or `vmap` the error is raised at run time, without ids.
    - `first_member`: global index of the first member; `simulate(..., first_member=1000)`
      continues an ensemble of 1000.
    - `adjoint`: how diffrax differentiates; default `diffrax.RecursiveCheckpointAdjoint()`
      (reverse mode; what steps leave behind is held for a part of the members at a time),
      `diffrax.ForwardMode()` for `jax.jvp` and `jax.jacfwd`.

    **Returns** `Trajectories`, members first.

    **Raises** ValueError, before anything is compiled, for arguments that break a rule above, for
    an initial state off the manifold by more than 1e-5 or not finite, for a solver that does not
    suit the equation, and for `rbg` keys, which draw the noise of a whole batch from its first
    key; `NonFiniteError` for members that became NaN or infinite.
    """
    if not callable(save):
        raise ValueError(f"`save` must be a function of one state; got {save!r}.")
    if batch_size is not None:
        batch_size = min(integer("batch_size", batch_size), integer("members", members))
    run = checked(sde, law, ts, substeps, members, key, solver, first_member)
    if batch_size is None:
        batch_size = default_batch_size(sde, run.state, members)
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    if not isinstance(adjoint, diffrax.AbstractAdjoint):
        raise ValueError(f"`adjoint` must be one of diffrax's adjoints; got {adjoint!r}.")

    first = jnp.asarray(first_member, jnp.uint32)
    ys, status = ensemble(
        sde, law, run.ts, run.key, first, run.solver, save, adjoint, substeps, members, batch_size
    )
    if throw:
        ys = raise_failed(ys, status, first_member)
    return Trajectories(run.ts, ys, status)


class Run(NamedTuple):
    """What the arguments of a run come to, once they are checked."""

    ts: Float[Array, " times"]
    key: Key
    solver: diffrax.AbstractSolver
    state: jax.ShapeDtypeStruct


def checked(sde, law, ts, substeps, members, key, solver, first_member) -> Run:
    """Save times, key, solver and the kind of state of a run; ValueError as `simulate` has it."""
    if not isinstance(sde, SDE):
        raise ValueError(f"`sde` must be an `rqf_jax.SDE`; got {sde!r}.")
    if not isinstance(law, AbstractLaw):
        raise ValueError(f"`law` must be a law of `rqf_jax.laws`; got {law!r}.")
    substeps = integer("substeps", substeps)
    members, first_member = member_range(members, first_member)
    key = typed_key(key)
    ts = _save_times(ts, substeps)
    state = first_state(sde.manifold, law, key, first_member, (sde, law, key))
    solver = solvers.default(sde) if solver is None else solver
    if not isinstance(solver, diffrax.AbstractSolver):
        raise ValueError(f"`solver` must be a diffrax solver; got {solver!r}.")
    solvers.check(solver, sde)
    check_span(law, sde.drift, sde.noise)
    if is_concrete((sde, ts)):
        longest = float(np.diff(np.asarray(ts, float)).max()) / substeps
        known = is_concrete((law, key))
        warn_of_long_steps(
            solver,
            sde,
            float(ts[0]),
            longest,
            state.shape[-1],
            law(member_keys(key, first_member)[0]) if known else None,
            stacklevel=3,
        )
    return Run(ts, key, solver, state)


def default_batch_size(sde: SDE, state: Any, members: int) -> int:
    """Equal batches, as few as let the noise of one step fit a CPU's cache."""
    if jax.default_backend() != "cpu":
        return members
    noise = eqx.filter_eval_shape(lambda x: jnp.zeros(sde.noise.shape(x), x.dtype), state)
    limit = max(1, CACHE_BYTES // max(1, noise.size * noise.dtype.itemsize))
    return math.ceil(members / math.ceil(members / limit))


def _save_times(ts: Any, substeps: int) -> Float[Array, " times"]:
    ts = finite("ts", ts)
    if ts.ndim != 1 or ts.size < 2:
        raise ValueError(f"`ts` must be one axis of at least 2 times; got shape {ts.shape}.")
    if (ts.size - 1) * substeps >= 2**31:
        raise ValueError(
            f"`ts` and `substeps` must make fewer than 2³¹ steps; got {(ts.size - 1) * substeps}."
        )
    if is_concrete(ts):
        steps = np.diff(np.asarray(ts, float))
        wrong = np.flatnonzero(~(steps > 0))
        if wrong.size:
            i = int(wrong[0])
            raise ValueError(
                f"`ts` must be strictly increasing; got {ts[i]} then {ts[i + 1]} at index {i}."
            )
    return ts
