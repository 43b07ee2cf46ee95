"""The verb: an ensemble of trajectories of one equation.

diffrax drives the outer loop, one diffrax step per save interval, on the save index k = 0, 1, …,
K as its time; the real times are looked up. So every save falls on a step end, irregular save
times cost nothing, and diffrax's adjoints differentiate the result. One such step is a block of
`substeps` micro-steps of the whole ensemble: an inner scan that draws its noise a few steps at a
time and applies the solver's step, written for one member and vmapped. A virtual Brownian tree
and one diffrax step per micro-step cost some hundred times more for this kind of problem.

Where the members' axis goes is a matter of speed alone: last, so that members are the lanes of
the vector unit, in tiny dimensions; first, so that a member's matrices are contiguous, in all
others (2 to 5 times in either direction, measured on a CPU).
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Integer, PRNGKeyArray, PyTree, UInt32

from . import solvers
from ._arguments import finite, integer, is_concrete
from ._path import Increment, draw, increment, stream
from ._sde import SDE
from ._unrolled import LIMIT
from .laws import AbstractLaw
from .manifolds import Euclidean
from .noises import AbstractMatrixNoise

if TYPE_CHECKING:
    import xarray

TOLERANCE = 1e-5
"""How far off the manifold an initial state may be (rounding of float32 data): | |x_a| - 1 |."""

_CACHE_BYTES = 2**20
_BLOCK_STEPS = 16


class NonFiniteError(ArithmeticError):
    """Some members of an ensemble became NaN or infinite."""


class Trajectories(eqx.Module):
    """An ensemble of trajectories: save times, saved values, and what became of each member.

    `ts` (times,); `ys` a pytree of arrays (members, times, ...): whole states, or what `save`
    made of them; `status` (members,): 0 if the member stayed finite to the end, otherwise the
    index in `ts` of the first save after the initial one at which its state is NaN or infinite.
    """

    ts: Float[Array, " times"]
    ys: PyTree[Array, "T"]
    status: Int[Array, " members"]

    def observe(self, observable: Callable[[PyTree], PyTree]) -> PyTree[Array]:
        """`observable`, a function of one saved value, for all members and times.

        Returns a pytree of arrays (members, times, ...).
        """
        return _observe(observable, self.ys)

    def to_xarray(self, dims: dict[str, tuple[str, ...]] | None = None) -> "xarray.Dataset":
        """A labelled dataset with dimensions member and time and the coordinate `time`.

        A bare array of whole states (tokens, dim) becomes the variable `state` with dimensions
        (member, time, token, dim); a dict of arrays becomes one variable a key. `dims` names the
        remaining dimensions of a variable; without a name they are called `<variable>_<axis>`.
        """
        import xarray

        named = {"state": ("token", "dim")} | (dims or {})
        values = self.ys if isinstance(self.ys, dict) else {"state": self.ys}
        variables = {}
        for name, value in values.items():
            array = np.asarray(value)
            rest = named.get(name, ())
            if len(rest) != array.ndim - 2:
                rest = tuple(f"{name}_{axis}" for axis in range(array.ndim - 2))
            variables[name] = (("member", "time", *rest), array)
        variables["status"] = (("member",), np.asarray(self.status))
        return xarray.Dataset(variables, coords={"time": np.asarray(self.ts)})

    def __repr__(self) -> str:
        shapes = jax.tree.map(lambda y: f"{y.dtype}{list(y.shape[2:])}", self.ys)
        if not is_concrete(self):
            return f"Trajectories(members={self.status.size}, times={self.ts.size}, ys={shapes})"
        failed = int(jnp.sum(self.status > 0))
        return (
            f"Trajectories(members={self.status.size}, times={self.ts.size}, "
            f"t={float(self.ts[0]):g}…{float(self.ts[-1]):g}, ys={shapes}, failed={failed})"
        )


def whole_state(x: PyTree) -> PyTree:
    """The state itself: what `simulate` saves if not told otherwise."""
    return x


def member_keys(
    key: PRNGKeyArray, member: int | Integer[Array, ""]
) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of one member: for its initial law, and for its noise.

    Functions of the run's key and the member's global index alone, whatever the size of the
    ensemble, its batches and its devices.
    """
    law_key, noise_key = jax.random.split(jax.random.fold_in(key, member))
    return law_key, noise_key


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
    _check_state(sde, law, key, first_member)
    solver = solvers.default(sde) if solver is None else solver
    if not isinstance(solver, diffrax.AbstractSolver):
        raise ValueError(f"`solver` must be a diffrax solver; got {solver!r}.")
    solvers.check(solver, sde)
    state = eqx.filter_eval_shape(law, key)
    _check_step_size(solver, sde, state, ts, substeps)

    if batch_size is None:
        batch_size = _batch_size(sde, state, members)
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    if not isinstance(adjoint, diffrax.AbstractAdjoint):
        raise ValueError(f"`adjoint` must be one of diffrax's adjoints; got {adjoint!r}.")
    first = jnp.asarray(first_member, jnp.uint32)
    ys, status = _ensemble(
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
    limit = max(1, _CACHE_BYTES // max(1, noise.size * noise.dtype.itemsize))
    return math.ceil(members / math.ceil(members / limit))


@eqx.filter_jit
def _observe(observable, ys):
    return jax.vmap(jax.vmap(observable))(ys)


@eqx.filter_jit
def _ensemble(
    sde, law, ts, key, first, solver, save, adjoint, substeps, members, batch_size
) -> tuple[PyTree[Array], Int[Array, " members"]]:
    """Saved values and status of members first, …, first + members - 1, batch after batch."""

    def batch(start):
        ids = start + jnp.arange(batch_size, dtype=jnp.uint32)
        return _batch(sde, law, ts, key, ids, solver, save, adjoint, substeps)

    if batch_size == members:
        return batch(first)
    batches = math.ceil(members / batch_size)
    starts = first + batch_size * jnp.arange(batches, dtype=jnp.uint32)
    stacked = lax.map(batch, starts)
    return jax.tree.map(
        lambda leaf: leaf.reshape(batches * batch_size, *leaf.shape[2:])[:members], stacked
    )


def _batch(sde, law, ts, key, ids, solver, save, adjoint, substeps):
    """Saved values and status of the members `ids`, together in memory."""
    law_keys, noise_keys = jax.vmap(member_keys, in_axes=(None, 0))(key, ids)
    x0 = jax.vmap(law)(law_keys)
    streams = jax.vmap(stream, out_axes=-1)(noise_keys)
    one = jax.tree.map(lambda leaf: leaf[0], x0)
    dtype = one.dtype
    sde = jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, sde)
    shape = sde.noise.shape(one)
    axis = -1 if one.ndim and one.shape[-1] <= LIMIT else 0
    intervals = ts.size - 1
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(_velocity),
        _Blocks(solver, substeps),
        t0=jnp.zeros((), dtype),
        t1=jnp.asarray(intervals, dtype),
        dt0=jnp.ones((), dtype),
        y0=jnp.moveaxis(x0, 0, axis),
        args=_Ensemble(sde, ts.astype(dtype), streams, shape, axis),
        saveat=diffrax.SaveAt(
            t0=True,
            steps=True,
            fn=lambda t, y, args: jax.vmap(save, in_axes=axis)(y),
            solver_state=True,
        ),
        adjoint=adjoint,
        max_steps=intervals,
        throw=False,
    )
    ys = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), solution.ys)
    return ys, cast(Array, solution.solver_state)


class _Ensemble(eqx.Module):
    """What is the same for all save intervals of a batch: diffrax's `args`."""

    sde: SDE
    ts: Float[Array, " times"]
    streams: UInt32[Array, "2 members"]
    shape: tuple[int, ...] = eqx.field(static=True)
    axis: int = eqx.field(static=True)


def _velocity(t, y, args: _Ensemble):
    """Velocity of all members by the drift, per save interval."""
    interval = _index(t)
    one = args.sde.terms(Increment(jnp.zeros(args.shape, y.dtype))).terms[0]
    velocity = jax.vmap(one.vf, (None, args.axis, None), args.axis)
    return velocity(args.ts[interval], y, None) * (args.ts[interval + 1] - args.ts[interval])


def _index(t) -> Int[Array, ""]:
    """The save index that diffrax's time stands for; in between it may have been rescaled."""
    return jnp.round(t).astype(jnp.int32)


class _Blocks(diffrax.AbstractSolver):
    """One save interval of a whole batch: a scan over micro-steps of `solver`.

    The solver state is each member's status.
    """

    solver: diffrax.AbstractSolver
    substeps: int = eqx.field(static=True)

    term_structure = diffrax.ODETerm
    interpolation_cls = diffrax.LocalLinearInterpolation

    def init(self, terms, t0, t1, y0, args):
        """No member has failed."""
        return jnp.zeros(args.streams.shape[-1:], jnp.int32)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """From one save time to the next."""
        interval = _index(t0)
        h = (args.ts[interval + 1] - args.ts[interval]) / self.substeps
        variants, index = [self.solver], 0
        if isinstance(self.solver, solvers.ProjectiveFlow):
            one = jnp.take(y0, 0, axis=args.axis)
            variants, index = self.solver.variants(args.sde, one, h)
        runs = [lambda s=solver: self._interval(s, args, interval, h, y0) for solver in variants]
        y1 = lax.switch(index, runs) if len(runs) > 1 else runs[0]()

        # 0 · x is 0 for finite and NaN for other numbers: one pass, and no overflow of the sum.
        bad = jax.vmap(lambda x: jnp.isnan(jnp.sum(0 * x)), args.axis)(y1)
        status = jnp.where((solver_state == 0) & bad, interval + 1, solver_state)
        return y1, None, {"y0": y0, "y1": y1}, status, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        """Velocity of all members by the drift."""
        return terms.vf(t0, y0, args)

    def _interval(self, solver, ensemble, interval, h, y):
        """All micro-steps of one save interval by one solver."""

        def step(time, x, pairs):
            dw = increment(pairs, h, ensemble.shape)
            terms = ensemble.sde.terms(Increment(dw), origin=time)
            return solver.step(terms, 0.0, h, x, None, solver.init(terms, 0.0, h, x, None), False)[
                0
            ]

        axis = ensemble.axis
        micro = jax.vmap(step, in_axes=(None, axis, axis), out_axes=axis)

        def some_steps(y, first, count):
            lanes_last, number = axis == -1, interval * self.substeps + first
            pairs = draw(
                ensemble.streams, number, count, ensemble.shape, y.dtype, lanes_last=lanes_last
            )
            offsets = (first + jnp.arange(count, dtype=jnp.int32)).astype(h.dtype) * h
            times = ensemble.ts[interval] + offsets

            def one_step(y, xs):
                time, pairs = xs
                return micro(time, y, pairs), None

            return lax.scan(_rematerialised(one_step), y, (times, pairs))[0]

        # The noise is made a few steps at a time: a block that fits the cache, and a loop input,
        # which XLA has to store and so cannot recompute for each of its uses.
        count = self._block_steps(ensemble, y.dtype)
        blocks, rest = divmod(self.substeps, count)
        firsts = count * jnp.arange(blocks, dtype=jnp.int32)
        block = _rematerialised(lambda y, first: (some_steps(y, first, count), None))
        y = lax.scan(block, y, firsts)[0]
        return some_steps(y, jnp.asarray(blocks * count, jnp.int32), rest) if rest else y

    def _block_steps(self, ensemble, dtype) -> int:
        """How many micro-steps of noise to hold at a time: what fits a cache, from 2 to 16."""
        numbers = math.prod(ensemble.shape) * ensemble.streams.shape[-1]
        fitting = _CACHE_BYTES // max(1, numbers * dtype.itemsize)
        return min(self.substeps, max(2, min(_BLOCK_STEPS, fitting)))


def _rematerialised(body):
    # Reverse mode then stores states and makes noise and intermediates again. Nothing in a loop
    # can be merged with its own recomputation, so the barriers against that are left out.
    return jax.checkpoint(body, prevent_cse=False)


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


def _check_state(sde: SDE, law: AbstractLaw, key: PRNGKeyArray, member: int) -> None:
    """Look at the first member's initial state, if it can be looked at."""
    state = eqx.filter_eval_shape(law, key)
    if not isinstance(state, jax.ShapeDtypeStruct) or not jnp.issubdtype(state.dtype, jnp.floating):
        raise ValueError(f"`law` must draw one array of floats; got {state}.")
    flat = isinstance(sde.manifold, Euclidean)
    if not state.ndim or not (flat or state.ndim == 2):
        rule = "an array with axes" if flat else "tokens, an array of shape (tokens, dim)"
        raise ValueError(f"`law` must draw {rule}; got shape {state.shape}.")
    if not is_concrete((sde, law, key)):
        return
    # Inside `jit` operations on known arrays are traced too, unless told otherwise.
    with jax.ensure_compile_time_eval():
        x0 = law(member_keys(key, member)[0])
        finite, defect = bool(jnp.all(jnp.isfinite(x0))), float(sde.manifold.defect(x0))
    if not finite:
        raise ValueError(f"`law` must draw finite states; got {x0}.")
    if not defect <= TOLERANCE:
        name = type(sde.manifold).__name__
        raise ValueError(
            f"`law` must draw states on the {name}, to {TOLERANCE:g}; got one that is off by "
            f"{defect:.3g}. Project it first: `rqf_jax.manifolds.{name}().project(x0)`."
        )


def _check_step_size(solver, sde: SDE, state, ts, substeps: int) -> None:
    """Warn where the shared matrix noise of one step is too large for its weak order to show."""
    if not isinstance(sde.noise, AbstractMatrixNoise) or not is_concrete((sde, ts)):
        return
    longest = float(np.diff(np.asarray(ts, float)).max()) / substeps
    with jax.ensure_compile_time_eval():
        control = float(sde.noise.control(state.shape[-1], jnp.asarray(longest)))
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
