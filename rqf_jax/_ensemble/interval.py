"""One save interval of a batch of members: micro-steps of a solver, with their noise.

Small steps in float32 are one fused kernel (see `kernel`). For all others a scan draws the noise a
few steps at a time and applies the solver's step, written for one member and vmapped. A virtual
Brownian tree and one diffrax step per micro-step cost some hundred times more for this kind of
problem.

Where the members' axis goes is a matter of speed alone: last, so that members are the lanes of
the vector unit, in tiny dimensions and for states that are vectors; first, so that a member's
matrices are contiguous, in all others (2 to 5 times in either direction, measured on a CPU).
"""

import functools
import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, Key, PyTree, UInt32

from .._brownian.path import area_stream, draw, increment, levy_area, stream
from .._linalg.unrolled import LIMIT
from .._sde import SDE, in_dtype, state_dtype
from ..solvers import begin, micro_step, variants
from .abstract import AbstractBatch, is_finite
from .kernel import Interval, advance
from .times import SaveTimes
from .validity import noise_shape

CACHE_BYTES = 2**20
"""The noise that is held at a time: what fits a core's cache."""

_BLOCK_STEPS = 16


class Batch(AbstractBatch):
    """Members of an equation, and all that is the same in every save interval."""

    sde: SDE
    solver: diffrax.AbstractSolver
    times: SaveTimes
    streams: UInt32[Array, "2 members"]
    shape: tuple[int, ...] = eqx.field(static=True)
    axis: int = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    fused: str = eqx.field(static=True)

    def __init__(
        self,
        model: tuple[SDE, diffrax.AbstractSolver],
        times: SaveTimes,
        noise_keys: Key[Array, " members"],
        *,
        like: PyTree[jax.ShapeDtypeStruct],
        substeps: int,
        fused: str,
    ):
        dtype = state_dtype(like)
        self.sde, self.solver = in_dtype(model[0], dtype), model[1]
        self.substeps, self.fused = substeps, fused
        self.times = times.astype(dtype)
        self.streams = jax.vmap(stream, out_axes=-1)(noise_keys)
        self.shape = noise_shape(self.sde.noise, like)
        leaves = jax.tree.leaves(like)
        tiny = all(leaf.ndim < 2 or leaf.shape[-1] <= LIMIT for leaf in leaves)
        self.axis = -1 if tiny else 0

    def taken(
        self, x: PyTree[Array], places: Int[Array, " members"]
    ) -> tuple[UInt32[Array, "2 members"], PyTree[Array]]:
        """Streams and states of the members at `places`."""
        return self.streams[:, places], jax.tree.map(lambda y: jnp.take(y, places, self.axis), x)

    def sound(self, x: PyTree[Array]) -> Bool[Array, ""]:
        """True for a state without NaN and infinity."""
        return is_finite(x)

    def advance(self, index: Int[Array, ""], x: PyTree[Array]) -> PyTree[Array]:
        """States one save interval later than save `index`."""
        return self._advanced(index, x, reverse=False)

    def reversible(self, index: Int[Array, ""], x: PyTree[Array]) -> PyTree[Array]:
        """The same, with a derivative in reverse mode alone, which is faster."""
        return self._advanced(index, x, reverse=True)

    def _advanced(self, index, x, *, reverse):
        h = self.times.lengths[index] / self.substeps
        one = jax.tree.map(lambda leaf: jnp.take(leaf, 0, axis=self.axis), x)
        solvers, choice = variants(self.solver, self.sde, one, h)
        interval = Interval(index * self.substeps, self.times.at[index], h, self.substeps)

        def by(solver):
            model = self.sde, solver
            if self.fused:
                given = model, self.streams, interval, x, self.axis
                return advance(self._scan, *given, reverse=reverse)
            return self._scan(model, self.streams, interval, x)

        runs = [functools.partial(by, solver) for solver in solvers]
        return lax.switch(choice, runs) if len(runs) > 1 else runs[0]()

    def _scan(self, model, streams, interval, x):
        """The same by one solver, as a scan over its micro-steps."""
        (sde, solver), axis, h = model, self.axis, interval.h
        dtype = state_dtype(x)
        # diffrax's stochastic Runge-Kutta methods ask for Lévy areas beside the increments.
        needs_areas = isinstance(solver, diffrax.AbstractSRK)

        def step(time, moving, pairs, others):
            x, handed = moving
            dw = increment(pairs, h, self.shape)
            area = levy_area(others, h, self.shape) if needs_areas else None
            return micro_step(solver, sde, time, h, x, dw, handed, area)

        micro = jax.vmap(step, in_axes=(None, axis, axis, axis), out_axes=axis)

        def some_steps(moving, first, count):
            number = interval.number + first

            def normals(streams):
                return draw(streams, number, count, self.shape, dtype, lanes_last=axis == -1)

            pairs = normals(streams)
            others = normals(area_stream(streams)) if needs_areas else None
            offsets = (first + jnp.arange(count, dtype=jnp.int32)).astype(h.dtype) * h

            def one_step(moving, xs):
                time, pairs, others = xs
                return micro(time, moving, pairs, others), None

            times = interval.start + offsets
            return lax.scan(rematerialised(one_step), moving, (times, pairs, others))[0]

        # The noise is made a few steps at a time: a block that fits the cache, and a loop input,
        # which XLA has to store and so cannot recompute for each of its uses.
        count = block_steps(self.substeps, self.shape, streams.shape[-1], dtype)
        blocks, rest = divmod(self.substeps, count)
        firsts = count * jnp.arange(blocks, dtype=jnp.int32)
        block = rematerialised(lambda moving, first: (some_steps(moving, first, count), None))
        moving = jax.vmap(lambda x: (x, begin(solver, sde, interval.start, x)), axis, axis)(x)
        moving = lax.scan(block, moving, firsts)[0]
        if rest:
            moving = some_steps(moving, jnp.asarray(blocks * count, jnp.int32), rest)
        return moving[0]


def block_steps(substeps: int, shape: tuple[int, ...], members: int, dtype: jnp.dtype) -> int:
    """How many micro-steps of noise to hold at a time: what fits a cache, from 2 to 16.

    A divisor of the number of steps where a large one fits: what is left over after whole
    blocks is a second copy of the step, which takes as long again to compile.
    """
    numbers = math.prod(shape) * members
    fitting = CACHE_BYTES // max(1, numbers * dtype.itemsize)
    most = min(substeps, max(2, min(_BLOCK_STEPS, fitting)))
    divisors = (d for d in range(most, most // 2, -1) if substeps % d == 0)
    return next(divisors, most)


def rematerialised(body):
    """`body` of a scan, of which reverse mode stores the states and makes the rest again.

    Nothing in a loop can be merged with its own recomputation, so the barriers against that are
    left out.
    """
    return jax.checkpoint(body, prevent_cse=False)
