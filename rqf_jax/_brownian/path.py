"""A Brownian path whose increments are a function of the member's stream and an integer step.

Time is cut once: `substeps` equal micro-steps in every save interval of `ts`, numbered from 0
over the whole run. A path keyed by float times instead would drift with their rounding, and give
other noise to other adjoints of the same solve.
"""

import math

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float, Int, UInt32

from .._arguments import Key, finite, integer, precision, prng_key, sizes
from .._linalg.lanes import halves
from .counter import normal_pairs


def stream(key: Key) -> UInt32[Array, "2"]:
    """The two words that key a member's noise, from any JAX key."""
    return jax.random.bits(key, (2,), jnp.uint32)


def area_stream(words: UInt32[Array, "2 *lanes"]) -> UInt32[Array, "2 *lanes"]:
    """Another stream of the same member, for the space-time Lévy areas of its path."""
    return words ^ jnp.uint32(0x9E3779B9)


def draw(
    words: UInt32[Array, "2 *lanes"],
    first: Int[Array, ""],
    count: int,
    shape: tuple[int, ...],
    dtype: jnp.dtype,
    *,
    lanes_last: bool = True,
) -> Complex[Array, "..."]:
    """The normals of micro-steps first, …, first + count - 1, still in pairs.

    Shape (count, *half, *lanes), or (count, *lanes, *half) if not `lanes_last`, where half is
    `shape` with its first axis halved; `increment` makes a real array of `shape` of it. The lanes
    are the members, one stream each.
    """
    half, lanes = _half(shape), words.shape[1:]
    full = (count, *half, *lanes) if lanes_last else (count, *lanes, *half)
    start = 1 if lanes_last else 1 + len(lanes)
    lane_axes = range(1 + len(half), len(full)) if lanes_last else range(1, 1 + len(lanes))
    first_word, second_word = (lax.broadcast_in_dim(word, full, tuple(lane_axes)) for word in words)
    step = first.astype(jnp.int32) + lax.broadcasted_iota(jnp.int32, full, 0)
    element, stride = jnp.zeros(full, jnp.int32), 1
    for axis in reversed(range(len(half))):
        element = element + stride * lax.broadcasted_iota(jnp.int32, full, start + axis)
        stride *= half[axis]
    return normal_pairs((first_word, second_word), step, element, dtype)


def increment(
    pairs: Complex[Array, "*half"], h: Float[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "*noise"]:
    """The Brownian increment of one member over a step of length h: √h times its normals."""
    return halves(pairs, jnp.sqrt(h), shape[0])


def levy_area(
    pairs: Complex[Array, "*half"], h: Float[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "*noise"]:
    """H = (1/h) ∫ (B_s - (s/h) B_h) ds over a step of length h: variance h/12, independent of B_h.

    Source: Foster's space-time Lévy area, as diffrax documents it (read).
    """
    return increment(pairs, h / 12, shape)


def _half(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (math.ceil(shape[0] / 2), *shape[1:])


class CounterPath(diffrax.AbstractPath):
    """The Brownian path that `rqf_jax.simulate` gives to one member, for use with diffrax.

    `evaluate(t0, t1)` is the increment over one micro-step [t0, t1] of the grid made of
    `substeps` equal steps in every interval of `ts`: √(t1-t0) Z(key, step). So

        path = rqf_jax.CounterPath(ts, substeps, shape=sde.noise.shape(x0), key=noise_key)
        diffrax.diffeqsolve(sde.terms(path), solver, t0, t1, dt0, x0)

    reproduces the engine's trajectory with any of diffrax's fixed-step machinery, one member at a
    time; `rqf_jax.member_keys(key, i)` are the initial and the noise key of member i.

    **Arguments**

    - `ts`: save times (times,), strictly increasing; `substeps`: steps in every interval, ≥ 1.
    - `shape`: that of the noise, `sde.noise.shape(x0)`, with at least one axis.
    - `key`: the member's noise key.
    - `dtype`: of the increments, float32 or float64; by default that of `ts`.

    **Raises** ValueError for arguments that break a rule; a step that is not a micro-step of the
    grid (an adaptive solver, say) raises at run time.

    **Example**

    >>> ts, key = jnp.array([0.0, 0.5, 1.0]), jax.random.key(0)
    >>> path = rqf.CounterPath(ts, 4, shape=(3,), key=rqf.member_keys(key, 0)[1])
    >>> path.evaluate(ts[0], ts[0] + 0.125).shape
    (3,)
    """

    ts: Float[Array, " times"]
    words: UInt32[Array, "2"]
    substeps: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(
        self,
        ts: Float[Array, " times"],
        substeps: int,
        *,
        shape: tuple[int, ...],
        key: Key,
        dtype: jnp.dtype | None = None,
    ):
        self.ts = finite("ts", ts)
        if self.ts.ndim != 1 or self.ts.size < 2:
            raise ValueError(
                f"`ts` must be one axis of at least 2 times; got shape {self.ts.shape}."
            )
        self.words = stream(prng_key("key", key))
        self.substeps = integer("substeps", substeps)
        self.shape = sizes("shape", shape)
        if not shape:
            raise ValueError("`shape` must have at least one axis; got ().")
        self.dtype = np.dtype(self.ts.dtype if dtype is None else precision("dtype", dtype))

    @property
    def t0(self):
        """The first save time."""
        return self.ts[0]

    @property
    def t1(self):
        """The last save time."""
        return self.ts[-1]

    def evaluate(
        self, t0, t1=None, left: bool = True, use_levy: bool = False
    ) -> Float[Array, "*noise"] | diffrax.SpaceTimeLevyArea:
        """The increment over the micro-step [t0, t1], with its Lévy area if that is asked for."""
        if t1 is None:
            raise ValueError("`t1` is needed: a counter path has increments, not values.")
        # The middle of a step is as far from its neighbours as can be: rounding cannot miss it.
        middle = (t0 + t1) / 2
        interval = jnp.clip(jnp.searchsorted(self.ts, middle) - 1, 0, self.ts.size - 2)
        h = (self.ts[interval + 1] - self.ts[interval]) / self.substeps
        substep = jnp.floor((middle - self.ts[interval]) / h).astype(jnp.int32)
        step = interval.astype(jnp.int32) * self.substeps + substep
        width = eqx.error_if(
            jnp.asarray(t1 - t0, self.dtype),
            (jnp.abs((t1 - t0) / h - 1) > 1e-2)
            | (jnp.abs((t0 - self.ts[interval]) / h - substep.astype(h.dtype)) > 1e-2)
            | (substep < 0)
            | (substep >= self.substeps),
            "a `CounterPath` can only be stepped on its own grid: `substeps` equal steps in "
            "every interval of `ts`.",
        )
        pairs = draw(self.words, step, 1, self.shape, self.dtype)[0]
        dw = increment(pairs, width, self.shape)
        if not use_levy:
            return dw
        pairs = draw(area_stream(self.words), step, 1, self.shape, self.dtype)[0]
        return Increment(dw, levy_area(pairs, width, self.shape)).evaluate(t0, t1, use_levy=True)


class Increment(diffrax.AbstractPath):
    """A path that is known over one step only: its increment, and its Lévy area if needed."""

    dw: Float[Array, "*noise"]
    area: Float[Array, "*noise"] | None = None
    t0: float = 0.0
    t1: float = 1.0

    def evaluate(
        self, t0, t1=None, left: bool = True, use_levy: bool = False
    ) -> Float[Array, "*noise"] | diffrax.SpaceTimeLevyArea:
        """The increment, whatever the times."""
        if not use_levy:
            return self.dw
        if self.area is None:
            raise ValueError("`solver` needs Lévy areas, which this path does not have.")
        dt = jnp.asarray(t1 - t0, self.dw.dtype)
        return diffrax.SpaceTimeLevyArea(dt=dt, W=self.dw, H=self.area)
