"""The engine: a batch of members through all save intervals, as one diffrax solve.

diffrax drives the outer loop, one diffrax step per save interval, on the save index k = 0, 1, …,
K as its time; the real times are looked up. So every save falls on a step end, irregular save
times cost nothing, and diffrax's adjoints differentiate the result. One such step is a block of
`substeps` micro-steps of the whole ensemble: an inner scan that draws its noise a few steps at a
time and applies the solver's step, written for one member and vmapped. A virtual Brownian tree
and one diffrax step per micro-step cost some hundred times more for this kind of problem.

Where the members' axis goes is a matter of speed alone: last, so that members are the lanes of
the vector unit, in tiny dimensions and for states that are vectors; first, so that a member's
matrices are contiguous, in all others (2 to 5 times in either direction, measured on a CPU).
"""

import math
from typing import cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, UInt32

from .._brownian.path import Increment, area_stream, draw, increment, levy_area, stream
from .._linalg.unrolled import LIMIT
from .._sde import SDE
from ..solvers import ProjectiveFlow, begin, micro_step
from .members import member_keys

CACHE_BYTES = 2**20
"""The noise that is held at a time: what fits a core's cache."""

PART_NUMBERS = 2**15
"""How many numbers of states and noise a CPU takes back at a time in reverse mode."""

_BLOCK_STEPS = 16


@eqx.filter_jit
def ensemble(
    sde, law, ts, key, first, solver, save, adjoint, substeps, members, batch_size
) -> tuple[PyTree[Array], Int[Array, " members"]]:
    """Saved values and status of members first, …, first + members - 1, batch after batch."""
    state = eqx.filter_eval_shape(law, key)
    # What `save` closes over becomes part of it, and so can be differentiated.
    model = (sde, law, ts, solver, eqx.filter_closure_convert(save, state))
    sizes = (substeps, members, batch_size)
    if isinstance(adjoint, diffrax.RecursiveCheckpointAdjoint):
        return _reversible(model, key, first, adjoint, sizes)
    return _batches(model, key, first, adjoint, sizes)


@eqx.filter_jit
def segment(
    model, key, first, substeps, members, batch_size, most, start, stop, x, status
) -> tuple[PyTree[Array], Int[Array, " members"], Array]:
    """Saved values from save `start` to save `stop`; status and states of the members there.

    `model` is equation, law, save times, solver and what to save. `x` and `status` are the
    members' at `start`; at 0 their law is asked instead. There is room for `most` intervals, and
    what is saved after `stop` are no numbers: one program does all segments of a path.
    """
    law = model[1]

    def batch(ids, x, status):
        law_keys, noise_keys = jax.vmap(member_keys, in_axes=(None, 0))(key, ids)
        x = lax.cond(start == 0, lambda: jax.vmap(law)(law_keys), lambda: x)
        adjoint, end = diffrax.RecursiveCheckpointAdjoint(), diffrax.SubSaveAt(t1=True)
        ys, status, (x,) = _solve(
            model, noise_keys, x, status, start, stop, most, adjoint, substeps, end
        )
        return ys, status, x

    return _in_batches(batch, first, members, batch_size, x, status)


def _batches(model, key, first, adjoint, sizes):
    """Saved values and status, `batch_size` members at a time."""
    substeps, members, batch_size = sizes
    return _in_batches(
        lambda ids: _batch(model, key, ids, adjoint, substeps), first, members, batch_size
    )


def _in_batches(batch, first, members, batch_size, *given):
    """`batch`, a function of members' ids and of what is `given` for each, over all members."""
    one = jnp.arange(batch_size, dtype=jnp.uint32)
    if batch_size == members:
        return batch(first + one, *given)
    batches = math.ceil(members / batch_size)
    whole = batches * batch_size

    def split(leaf):
        spare = jnp.broadcast_to(leaf[-1:], (whole - members, *leaf.shape[1:]))
        return jnp.concatenate([leaf, spare]).reshape(batches, batch_size, *leaf.shape[1:])

    starts = first + batch_size * jnp.arange(batches, dtype=jnp.uint32)
    stacked = lax.map(lambda xs: batch(xs[0] + one, *xs[1:]), (starts, *map(split, given)))
    return jax.tree.map(lambda leaf: leaf.reshape(whole, *leaf.shape[2:])[:members], stacked)


# Reverse mode keeps nothing of the forward pass. It starts again from the keys, for a part of the
# members at a time, so that what a step leaves behind for its derivative, many times what the
# step itself needs, is held for few of them and in a core's cache.
_reversible = eqx.filter_custom_vjp(_batches)


@_reversible.def_fwd
def _forward(perturbed, model, key, first, adjoint, sizes):
    return _batches(model, key, first, adjoint, sizes), None


@_reversible.def_bwd
def _backward(_, cotangents, perturbed, model, key, first, adjoint, sizes):
    """The gradient with respect to the perturbed arrays of `model`, a sum over parts."""
    substeps, members, batch_size = sizes
    part = _part_size(model, key, batch_size)
    parts = math.ceil(members / part)
    arrays, rest = eqx.partition(model, perturbed)
    ys_cotangents = jax.tree.map(
        lambda leaf: jnp.pad(
            leaf, [(0, parts * part - members)] + [(0, 0)] * (leaf.ndim - 1)
        ).reshape(parts, part, *leaf.shape[1:]),
        cotangents[0],
    )

    def add_part(total, xs):
        place, above = xs
        # The spare ones at the end are the last member again, and add nothing to the gradient.
        ids = first + jnp.minimum(place + jnp.arange(part, dtype=jnp.uint32), members - 1)

        def values(arrays):
            ys, _ = _batch(eqx.combine(arrays, rest), key, ids, adjoint, substeps)
            return jax.tree.map(lambda y, g: None if g is None else y, ys, above, is_leaf=_is_none)

        (gradient,) = jax.vjp(values, arrays)[1](above)
        return jax.tree.map(jnp.add, total, gradient), None

    zero = jax.tree.map(jnp.zeros_like, arrays)
    places = part * jnp.arange(parts, dtype=jnp.uint32)
    return lax.scan(add_part, zero, (places, ys_cotangents))[0]


def _part_size(model, key, batch_size: int) -> int:
    """Equal parts of a batch, as few as keep to `PART_NUMBERS`; other devices take it whole."""
    if jax.default_backend() != "cpu":
        return batch_size
    sde, law = model[:2]
    state = eqx.filter_eval_shape(law, key)
    numbers = state.size + math.prod(eqx.filter_eval_shape(sde.noise.shape, state))
    limit = max(1, PART_NUMBERS // max(1, numbers))
    return math.ceil(batch_size / math.ceil(batch_size / limit))


def _is_none(leaf) -> bool:
    return leaf is None


def _batch(model, key, ids, adjoint, substeps):
    """Saved values and status of the members `ids`, together in memory, over the whole path."""
    law, last = model[1], model[2].size - 1
    law_keys, noise_keys = jax.vmap(member_keys, in_axes=(None, 0))(key, ids)
    x0, status = jax.vmap(law)(law_keys), jnp.zeros(ids.size, jnp.int32)
    return _solve(model, noise_keys, x0, status, 0, last, last, adjoint, substeps)[:2]


def _solve(model, noise_keys, x, status, start, stop, most, adjoint, substeps, *others):
    """A batch of members together in memory, from save `start` to save `stop`.

    Saved values, status, and the states that `others`, of diffrax's `SubSaveAt`, ask for.
    """
    sde, _, ts, solver, save = model
    streams = jax.vmap(stream, out_axes=-1)(noise_keys)
    one, dtype = x[0], x.dtype
    sde = jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, sde)
    axis = -1 if one.ndim == 1 or (one.ndim > 1 and one.shape[-1] <= LIMIT) else 0
    saves = diffrax.SubSaveAt(
        t0=True, steps=True, fn=lambda t, y, args: jax.vmap(save, in_axes=axis)(y)
    )
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(_velocity),
        _Blocks(solver, substeps),
        t0=jnp.asarray(start, dtype),
        t1=jnp.asarray(stop, dtype),
        dt0=jnp.ones((), dtype),
        y0=jnp.moveaxis(x, 0, axis),
        args=_Ensemble(sde, ts.astype(dtype), streams, status, sde.noise.shape(one), axis),
        saveat=diffrax.SaveAt(subs=[saves, *others], solver_state=True),
        adjoint=adjoint,
        max_steps=most,
        throw=False,
    )
    ys, *rest = cast(list, solution.ys)
    ys = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), ys)
    return ys, cast(Array, solution.solver_state), [jnp.moveaxis(y[0], axis, 0) for y in rest]


class _Ensemble(eqx.Module):
    """What is the same for all save intervals of a batch: diffrax's `args`."""

    sde: SDE
    ts: Float[Array, " times"]
    streams: UInt32[Array, "2 members"]
    status: Int[Array, " members"]
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
        """What became of the members so far."""
        return args.status

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """From one save time to the next."""
        interval = _index(t0)
        h = (args.ts[interval + 1] - args.ts[interval]) / self.substeps
        variants, index = [self.solver], 0
        if isinstance(self.solver, ProjectiveFlow):
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

        # diffrax's stochastic Runge-Kutta methods ask for Lévy areas beside the increments.
        needs_areas = isinstance(solver, diffrax.AbstractSRK)

        def start(time, x):
            return x, begin(solver, ensemble.sde, time, x)

        def step(time, moving, pairs, others):
            x, handed = moving
            dw = increment(pairs, h, ensemble.shape)
            area = levy_area(others, h, ensemble.shape) if needs_areas else None
            return micro_step(solver, ensemble.sde, time, h, x, dw, handed, area)

        axis = ensemble.axis
        micro = jax.vmap(step, in_axes=(None, axis, axis, axis), out_axes=axis)

        def some_steps(moving, first, count):
            lanes_last, number = axis == -1, interval * self.substeps + first

            def normals(streams):
                return draw(streams, number, count, ensemble.shape, y.dtype, lanes_last=lanes_last)

            pairs = normals(ensemble.streams)
            others = normals(area_stream(ensemble.streams)) if needs_areas else None
            offsets = (first + jnp.arange(count, dtype=jnp.int32)).astype(h.dtype) * h
            times = ensemble.ts[interval] + offsets

            def one_step(moving, xs):
                time, pairs, others = xs
                return micro(time, moving, pairs, others), None

            return lax.scan(_rematerialised(one_step), moving, (times, pairs, others))[0]

        # The noise is made a few steps at a time: a block that fits the cache, and a loop input,
        # which XLA has to store and so cannot recompute for each of its uses.
        count = self._block_steps(ensemble, y.dtype)
        blocks, rest = divmod(self.substeps, count)
        firsts = count * jnp.arange(blocks, dtype=jnp.int32)
        block = _rematerialised(lambda moving, first: (some_steps(moving, first, count), None))
        moving = jax.vmap(start, (None, axis), axis)(ensemble.ts[interval], y)
        moving = lax.scan(block, moving, firsts)[0]
        if rest:
            moving = some_steps(moving, jnp.asarray(blocks * count, jnp.int32), rest)
        return moving[0]

    def _block_steps(self, ensemble, dtype) -> int:
        """How many micro-steps of noise to hold at a time: what fits a cache, from 2 to 16.

        A divisor of the number of steps where a large one fits: what is left over after whole
        blocks is a second copy of the step, which takes as long again to compile.
        """
        numbers = math.prod(ensemble.shape) * ensemble.streams.shape[-1]
        fitting = CACHE_BYTES // max(1, numbers * dtype.itemsize)
        most = min(self.substeps, max(2, min(_BLOCK_STEPS, fitting)))
        divisors = (d for d in range(most, most // 2, -1) if self.substeps % d == 0)
        return next(divisors, most)


def _rematerialised(body):
    # Reverse mode then stores states and makes noise and intermediates again. Nothing in a loop
    # can be merged with its own recomputation, so the barriers against that are left out.
    return jax.checkpoint(body, prevent_cse=False)
