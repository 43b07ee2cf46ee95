"""The verb: an ensemble of trajectories of one equation."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray, PyTree

from . import solvers
from ._arguments import finite, integer, is_concrete
from ._engine import CACHE_BYTES, ensemble, member_keys
from ._sde import SDE
from ._trajectories import NonFiniteError, Trajectories
from .laws import AbstractLaw
from .manifolds import AbstractManifold, Euclidean, Hermitian, Symmetric, WeylChamber

TOLERANCE = 1e-5
"""How far off the manifold an initial state may be (rounding of float32 data): | |x_a| - 1 |."""


def whole_state(x: PyTree) -> PyTree:
    """The state itself: what `simulate` saves if not told otherwise."""
    return x


def simulate(
    sde: SDE,
    law: AbstractLaw,
    ts: Float[ArrayLike, " times"] | Sequence[float],
    *,
    substeps: int,
    members: int,
    key: PRNGKeyArray,
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

    - `solver`: default `solvers.default(sde)`; flat problems also take any of diffrax's.
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
      (reverse mode), `diffrax.ForwardMode()` for `jax.jvp` and `jax.jacfwd`.

    **Returns** `Trajectories`, members first.

    **Raises** ValueError, before anything is compiled, for arguments that break a rule above, for
    an initial state off the manifold by more than 1e-5 or not finite, for a solver that does not
    suit the equation, and for `rbg` keys, which draw the noise of a whole batch from its first
    key; `NonFiniteError` for members that became NaN or infinite.
    """
    if not isinstance(sde, SDE):
        raise ValueError(f"`sde` must be an `rqf_jax.SDE`; got {sde!r}.")
    if not isinstance(law, AbstractLaw):
        raise ValueError(f"`law` must be a law of `rqf_jax.laws`; got {law!r}.")
    if not callable(save):
        raise ValueError(f"`save` must be a function of one state; got {save!r}.")
    substeps, members = integer("substeps", substeps), integer("members", members)
    first_member = integer("first_member", first_member, minimum=0)
    if batch_size is not None:
        batch_size = min(integer("batch_size", batch_size), members)
    key = _typed_key(key)
    ts = _save_times(ts, substeps)
    if first_member + members > 2**32:
        raise ValueError(f"`first_member` must be at most 2³² - `members`; got {first_member}.")
    state = _state(sde, law, key, first_member)
    solver = solvers.default(sde) if solver is None else solver
    if not isinstance(solver, diffrax.AbstractSolver):
        raise ValueError(f"`solver` must be a diffrax solver; got {solver!r}.")
    solvers.check(solver, sde)
    _check_step_size(sde, state, ts, substeps)
    if batch_size is None:
        batch_size = _batch_size(sde, state, members)
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    if not isinstance(adjoint, diffrax.AbstractAdjoint):
        raise ValueError(f"`adjoint` must be one of diffrax's adjoints; got {adjoint!r}.")

    first = jnp.asarray(first_member, jnp.uint32)
    ys, status = ensemble(
        sde, law, ts, key, first, solver, save, adjoint, substeps, members, batch_size
    )
    if throw:
        ys = _throw(ys, status, first_member)
    return Trajectories(ts, ys, status)


def _batch_size(sde: SDE, state: Any, members: int) -> int:
    """Equal batches, as few as let the noise of one step fit a CPU's cache."""
    if jax.default_backend() != "cpu":
        return members
    noise = eqx.filter_eval_shape(lambda x: jnp.zeros(sde.noise.shape(x), x.dtype), state)
    limit = max(1, CACHE_BYTES // max(1, noise.size * noise.dtype.itemsize))
    return math.ceil(members / math.ceil(members / limit))


def _typed_key(key: Any) -> PRNGKeyArray:
    """`key` as a new-style key whose generator may be vmapped."""
    if not isinstance(key, jax.Array):
        raise ValueError(f"`key` must be a JAX key, such as `jax.random.key(0)`; got {key!r}.")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != jnp.uint32 or key.shape != (2,):
            raise ValueError(
                "`key` must be a JAX key, such as `jax.random.key(0)`; got an array of dtype "
                f"{key.dtype} and shape {key.shape}"
                f"{', an `rbg` key, which cannot be vmapped' if key.shape == (4,) else ''}."
            )
        key = jax.random.wrap_key_data(key, impl="threefry2x32")
    if key.shape != ():
        raise ValueError(f"`key` must be one key; got keys of shape {key.shape}.")
    kind = str(jax.random.key_impl(key))
    if "rbg" in kind:
        raise ValueError(
            "`key` must not be of the `rbg` kind, which under vmap draws every member from the "
            f"first key; got {kind}. Use `jax.random.key(seed, impl='threefry2x32')`."
        )
    return key


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


def _state(sde: SDE, law: AbstractLaw, key: PRNGKeyArray, member: int) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a state, after a look at the first member's if it can be looked at."""
    state = eqx.filter_eval_shape(law, key)
    if not isinstance(state, jax.ShapeDtypeStruct) or not jnp.issubdtype(state.dtype, jnp.floating):
        raise ValueError(f"`law` must draw one array of floats; got {state}.")
    rule, fits = _shape_rule(sde.manifold, state.shape)
    if not fits:
        raise ValueError(f"`law` must draw {rule}; got shape {state.shape}.")
    if not is_concrete((sde, law, key)):
        return state
    # Inside `jit` operations on known arrays are traced too, unless told otherwise.
    with jax.ensure_compile_time_eval():
        x0 = law(member_keys(key, member)[0])
        finite, defect = bool(jnp.all(jnp.isfinite(x0))), float(sde.manifold.defect(x0))
    if not finite:
        raise ValueError(f"`law` must draw finite states; got {x0}.")
    if defect <= TOLERANCE:
        return state
    if isinstance(sde.manifold, WeylChamber):
        i = int(np.argmax(~(np.diff(np.asarray(x0)) > 0)))
        raise ValueError(
            "`law` must draw eigenvalues in strictly ascending order; got "
            f"{x0[i]:g} then {x0[i + 1]:g} at index {i}."
        )
    name = type(sde.manifold).__name__
    kind = "symmetric matrices" if isinstance(sde.manifold, Symmetric) else f"states on the {name}"
    raise ValueError(
        f"`law` must draw {kind}, to {TOLERANCE:g}; got one that is off by "
        f"{defect:.3g}. Project it first: `rqf_jax.manifolds.{name}().project(x0)`."
    )


def _shape_rule(manifold: AbstractManifold, shape: tuple[int, ...]) -> tuple[str, bool]:
    """What a state of `manifold` is, and whether one of this shape can be it."""
    match manifold:
        case Euclidean():
            return "an array with axes", bool(shape)
        case Symmetric() | Hermitian():
            return "a square matrix", len(shape) == 2 and shape[0] == shape[1]
        case WeylChamber():
            return "eigenvalues, an array of shape (n,)", len(shape) == 1
        case _:
            return "tokens, an array of shape (tokens, dim)", len(shape) == 2


def _check_step_size(sde: SDE, state, ts, substeps: int) -> None:
    """Warn where the shared matrix noise of one step is too large for its weak order to show."""
    noise = solvers.shared_matrix(sde.noise)
    if noise is None or not is_concrete((sde, ts)):
        return
    longest = float(np.diff(np.asarray(ts, float)).max()) / substeps
    with jax.ensure_compile_time_eval():
        control = float(noise.control(state.shape[-1], jnp.asarray(longest)))
    if control > 2:
        warnings.warn(
            f"the step h = {longest:.3g} is long for this noise: n h (sigma_s² + sigma_a²) = "
            f"{control:.3g} should be at most 1. Use {control:.3g} times as many `substeps`.",
            stacklevel=3,
        )


def _throw(ys: PyTree[Array], status: Int[Array, " members"], first_member: int) -> PyTree[Array]:
    if not is_concrete(status):
        return eqx.error_if(
            ys, jnp.any(status > 0), "some members became NaN or infinite; see `throw` of simulate."
        )
    failed = np.flatnonzero(np.asarray(status))
    if failed.size:
        ids = ", ".join(str(first_member + int(i)) for i in failed[:5])
        more = ", …" if failed.size > 5 else ""
        save = int(status[failed[0]])
        raise NonFiniteError(
            f"{failed.size} of {status.size} members became NaN or infinite: {ids}{more} (the "
            f"first between saves {save - 1} and {save}). Take smaller steps, or pass "
            "`throw=False` to get them marked."
        )
    return ys
