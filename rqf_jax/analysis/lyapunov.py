"""Lyapunov exponents of the flow under common noise: do two copies forget that they differed?

The noise is that of `simulate`: member i of a spectrum is driven by the path of member i of an
ensemble with the same key, times and substeps, and its exponents belong to that trajectory.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PyTree, UInt32

from .._arguments import (
    Key,
    Times,
    calling,
    data,
    floating,
    function_of,
    host,
    integer,
    is_concrete,
    part,
)
from .._ensemble.compiled import compiled
from .._ensemble.members import member_keys, member_range
from .._ensemble.problem import Problem
from .._ensemble.times import SaveTimes, host_times
from .._ensemble.trajectories import NonFiniteError, Trajectories
from .._sde import SDE, state_dtype
from ..laws import AbstractLaw
from ._flow import Flow, check_flow, dimension


class LyapunovSpectrum(eqx.Module):
    """Lyapunov exponents, the largest first, with their standard errors.

    `ts` (times,) save times after the transient; `growths` (members, intervals, exponents) the
    growth ln |R_ii| in every save interval, i.e. interval length times finite-time exponent.

    Standard errors: over members where there are at least two, else by batch means (about √K
    batches of the K intervals; NaN for K < 4).
    """

    ts: Float[Array | np.ndarray, " times"]
    growths: Float[Array, "members intervals exponents"]

    @property
    def exponents(self) -> Float[Array, " exponents"]:
        """λ_i = E ln |R_ii| per unit time, i = 1, 2, …"""
        return jnp.mean(jnp.sum(self.growths, 1), 0) / self._lengths(np.array([0, -1]))[0]

    @property
    def stderr(self) -> Float[Array, " exponents"]:
        """One standard error of every exponent."""
        members, intervals, _ = self.growths.shape
        if members > 1:
            rates = jnp.sum(self.growths, 1) / self._lengths(np.array([0, -1]))[0]
            return jnp.std(rates, 0, ddof=1) / math.sqrt(members)
        count = math.isqrt(intervals)
        if count < 2:
            return jnp.full(self.growths.shape[-1:], jnp.nan, self.growths.dtype)
        edges = np.linspace(0, intervals, count + 1).astype(int)
        batches = [jnp.sum(self.growths[0, a:b], 0) for a, b in itertools.pairwise(edges)]
        sums = jnp.stack(batches)
        rates = sums / self._lengths(edges)[:, None]
        return jnp.std(rates, 0, ddof=1) / math.sqrt(count)

    @property
    def finite_time(self) -> Float[Array, "members intervals exponents"]:
        """The exponents of every member over every save interval."""
        return self.growths / self._lengths(slice(None))[None, :, None]

    def _lengths(self, edges: Any) -> Float[Array, " intervals"]:
        """The times between those save times."""
        return SaveTimes.of(self.ts[edges]).lengths.astype(self.growths.dtype)

    @property
    def total(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Σ λ_i and its standard error; with all exponents, the mean divergence of the flow."""
        one = LyapunovSpectrum(self.ts, jnp.sum(self.growths, -1, keepdims=True))
        return one.exponents[0], one.stderr[0]

    @property
    def kaplan_yorke(self) -> float:
        """The Kaplan-Yorke dimension of the exponents; see `kaplan_yorke_dimension`."""
        return kaplan_yorke_dimension(np.asarray(self.exponents))

    def __repr__(self) -> str:
        if not is_concrete(self) or self.growths.ndim != 3:
            return f"LyapunovSpectrum(growths={self.growths.dtype}{list(self.growths.shape)})"
        members, intervals, exponents = self.growths.shape
        head = f"LyapunovSpectrum(members={members}, intervals={intervals}, exponents={exponents}"
        source = "over members" if members > 1 else "batch means"
        rows = zip(np.asarray(self.exponents), np.asarray(self.stderr), strict=True)
        lines = [
            f"{i:>4}  {value:>10.5g} ± {error:.2g}" for i, (value, error) in enumerate(rows, 1)
        ]
        end = float(self.ts[-1])
        return "\n".join([f"{head}, t={float(self.ts[0]):g}…{end:g}), ± {source}", *lines])


def lyapunov_spectrum(
    sde: SDE,
    law: AbstractLaw,
    ts: Times,
    *,
    substeps: int,
    members: int,
    key: Key,
    exponents: int | None = None,
    discard: int = 0,
    solver: diffrax.AbstractSolver | None = None,
    first_member: int = 0,
) -> LyapunovSpectrum:
    """The Lyapunov spectrum of the flow of one state under the noise that moves the state.

        V ← D φ(V),   V = Q R,   λ_i = lim (1/t) Σ ln |R_ii|

    with φ the solver's step on the very increments that move the state (Benettin's method). V is
    a frame of tangent vectors of the manifold, so there is no exponent of a normal direction: a
    state of N tokens on the sphere has N (n-1) of them. With a law of ONE token they are those of
    the one-point flow, which tell whether tokens under shared noise synchronise.

    **Arguments**

    - `sde`, `law`, `ts`, `substeps`, `members`, `key`, `solver`, `first_member`: as of
      `rqf_jax.simulate`.
    - `exponents`: how many, the largest first; all by default.
    - `discard`: how many of the first save intervals to leave out: the transient, in which the
      state finds its invariant law and the frame the fast directions.

    **Returns** a `LyapunovSpectrum`. The frame is straightened every 8 steps (or fewer, where 8
    does not divide `substeps`). The error of a step grows with the index of the exponent: for
    one token under unit shared noise, n = 4 and h = 1/32, `GeodesicEuler` gives λ_3 = -3.8 and
    `GeodesicHeun` -2.6 for -3 (both of first order in h, measured), while `ProjectiveFlow` is
    within 2 % at h = 1/16.

    **Raises** ValueError as `simulate` does, for noises whose increments belong to one state
    (`SpanNoise`, `KernelNoise`), unless 1 ≤ `exponents` ≤ dimension, and unless an interval is
    left after `discard`; `NonFiniteError` if a growth is NaN or infinite.

    **Example**

    >>> found = rqf.analysis.lyapunov_spectrum(
    ...     rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(1, 3), [0.0, 1.0, 2.0],
    ...     substeps=8, members=50, key=jax.random.key(0),
    ... )
    >>> found.exponents.shape  # -1 and -2 for one token in dimension 3
    (2,)

    Source: Benettin et al. (1980), recalled; the tests compare with -i σ_s² on the sphere.
    """
    members, first_member = member_range(members, first_member)
    problem = Problem(sde, law, ts, key, substeps=substeps, solver=solver).checked()
    problem.look_at(first_member)
    check_flow(sde)
    discard = integer("discard", discard, minimum=0)
    if discard > problem.times.intervals - 1:
        raise ValueError(
            f"`discard` must leave one of the {problem.times.intervals} save intervals; "
            f"got {discard}."
        )
    dimensions = dimension(sde.manifold, problem.state)
    exponents = dimensions if exponents is None else integer("exponents", exponents)
    if exponents > dimensions:
        raise ValueError(
            f"`exponents` must be at most the dimension {dimensions} of the flow; got {exponents}."
        )
    first, solver = jnp.asarray(first_member, jnp.uint32), problem.solver
    if isinstance(solver, diffrax.AbstractRungeKutta) and solver.scan_kind is None:
        # diffrax's loop over stages is written for reverse mode unless told otherwise.
        solver = dataclasses.replace(solver, scan_kind="lax")
        problem = eqx.tree_at(lambda p: p.solver, problem, solver)
    growths = _growths(problem, first, members, exponents)[:, discard:]
    if is_concrete(growths) and not bool(jnp.all(jnp.isfinite(growths))):
        bad = np.flatnonzero(~np.isfinite(np.asarray(growths)).all((1, 2)))
        raise NonFiniteError(
            f"{bad.size} of {members} members have a growth that is NaN or infinite, the first is "
            f"{first_member + int(bad[0])}. Take smaller steps."
        )
    return LyapunovSpectrum(host_times(ts)[discard:], growths)


@compiled
def _growths(problem: Problem, first: UInt32[Array, ""], members: int, exponents: int):
    """ln |R_ii| of every save interval, (members, intervals, exponents)."""

    def one(member):
        law_key, noise_key = member_keys(problem.key, member)
        x = problem.law(law_key)
        flow = Flow.of(problem, state_dtype(x), noise_key)
        return _member(flow, x, exponents)

    return jax.vmap(one)(first + jnp.arange(members, dtype=jnp.uint32))


def _member(flow: Flow, x: PyTree[Array], exponents: int) -> Float[Array, "intervals exponents"]:
    """ln |R_ii| of one member from `x`. Vectors are states by name, and rows of one matrix."""
    manifold, shape = flow.sde.manifold, flow.sde.noise.shape(x)
    flat, unravel = ravel_pytree(x)
    rows = jax.vmap(lambda v: ravel_pytree(v)[0])
    vectors_of = jax.vmap(unravel)

    def pushed(move, start, frame):
        # The state is not mapped over, so it is moved once for all vectors.
        return jax.vmap(lambda v: jax.jvp(move, (start,), (v,)), out_axes=(None, 0))(frame)

    def tangent(x, frame):
        return jax.vmap(lambda v: manifold.tangent(x, v))(frame)

    def body(carry, time, h, pairs):
        moving, (frame, handed), growth = carry
        (y, rest), (frame, handed) = pushed(
            lambda moving: flow.step(time, h, moving, pairs), moving, (frame, handed)
        )
        # Rounding would let a normal component grow, where tangent vectors shrink.
        return (y, rest), (tangent(y, frame), handed), growth

    def straighten(carry):
        moving, (frame, handed), growth = carry
        q, r = jnp.linalg.qr(rows(frame).T)
        # What the solver hands on is linear in the vectors, and goes where they go.
        handed = jax.tree.map(lambda leaf: _combined(r, leaf), handed)
        growth = growth + jnp.log(jnp.abs(jnp.diagonal(r)))
        return moving, (vectors_of(q.T), handed), growth

    def interval(carry, index):
        moving, vectors = pushed(lambda x: flow.begin(index, x), *carry)
        start = (moving, vectors, jnp.zeros(exponents, flat.dtype))
        moving, vectors, growth = flow.interval(index, start, body, shape, straighten)
        return (moving[0], vectors[0]), growth

    # Any generic frame will do, and the member's own keys are spent.
    frame = vectors_of(jax.random.normal(jax.random.key(0), (exponents, flat.size), flat.dtype))
    frame = vectors_of(jnp.linalg.qr(rows(tangent(x, frame)).T)[0].T)
    intervals = jnp.arange(flow.times.intervals, dtype=jnp.int32)
    return lax.scan(interval, (x, frame), intervals)[1]


def _combined(r: Float[Array, "k k"], leaf: Float[Array, "k *rest"]):
    """R^(-T) applied to k arrays: what becomes of V R = W when W is given."""
    flat = leaf.reshape(len(r), -1)
    return solve_triangular(r.T, flat, lower=True).reshape(leaf.shape)


def _alike(x: Any, y: Any) -> tuple[Float[Array, "*state"], Float[Array, "*state"]]:
    """Two states of the same shape."""
    x, y = floating("x", x), floating("y", y)
    if x.shape != y.shape:
        raise ValueError(f"`y` must have the shape {x.shape} of `x`; got {y.shape}.")
    return x, y


def chord(x: Float[Array, "*state"], y: Float[Array, "*state"]) -> Float[Array, ""]:
    """The Euclidean distance |x - y| of two states."""
    x, y = _alike(x, y)
    return jnp.sqrt(jnp.sum((x - y) ** 2))


def line_distance(x: Float[Array, "tokens dim"], y: Float[Array, "tokens dim"]) -> Float[Array, ""]:
    """sin θ = |x - y| |x + y| / 2 for unit tokens, in root mean square: 0 also at antipodes."""
    x, y = _alike(x, y)
    if not x.ndim:
        raise ValueError("`x` must be unit tokens, with axes; got a number.")
    difference, total = jnp.sum((x - y) ** 2, -1), jnp.sum((x + y) ** 2, -1)
    return jnp.sqrt(jnp.mean(difference * total)) / 2


def two_point_exponent(
    first: Trajectories,
    second: Trajectories,
    *,
    distance: Callable[[Any, Any], Float[Array, ""]] = chord,
    start: int = 0,
) -> tuple[float, float]:
    """The exponential rate at which two states under the same noise approach, and its error.

        λ = E [ ln d(x_T, y_T) - ln d(x_s, y_s) ] / (T - s),   s = ts[start]

    The rate is the slope between the ends, which is the best estimate where ln d is a Brownian
    motion with drift.

    **Arguments**

    - `first`, `second`: two runs of `simulate` with the same key, times and substeps and with
      different laws. Member i then has the same noise in both (not so for noises whose increments
      belong to one state: `SpanNoise`, `KernelNoise`).
    - `distance`: a function of two states. Near an attractor {a, -a} take `line_distance`, whose
      mean logarithm is linear at all times.
    - `start`: the index s of the first save that counts.

    **Returns** the rate per unit time, and its standard error over members (NaN for one).

    **Example**

    >>> sde, key = rqf.models.random_quadratic_form(1.0), jax.random.key(0)
    >>> first, second = (
    ...     rqf.simulate(sde, rqf.laws.Fixed([x]), [0.0, 2.0], substeps=16, members=400, key=key)
    ...     for x in ([1.0, 0.0, 0.0], [0.8, 0.6, 0.0])
    ... )
    >>> rate, error = rqf.analysis.two_point_exponent(
    ...     first, second, distance=rqf.analysis.line_distance
    ... )
    >>> abs(rate - (-1)) < 5 * error  # sin θ decays at the rate sigma²
    True

    **Raises** ValueError if the runs differ in shape or times, if `start` is not before the last
    save, and if a pair has distance 0 (they have merged to rounding: end earlier).
    """
    part(Trajectories)("first", first)
    part(Trajectories)("second", second)
    function_of("two states")("distance", distance)
    if first.ts.shape != second.ts.shape or not np.array_equal(first.ts, second.ts):
        raise ValueError(f"`second` must have the times of `first`; got {second.ts}.")
    start = integer("start", start, minimum=0)
    if start >= first.ts.size - 1:
        raise ValueError(f"`start` must be less than {first.ts.size - 1}; got {start}.")
    if jnp.shape(first.ys) != jnp.shape(second.ys):
        raise ValueError(
            f"`second` must have states of shape {jnp.shape(first.ys)}; got {jnp.shape(second.ys)}."
        )
    ends = np.asarray([start, first.ts.size - 1])
    with calling("distance", "be a function of two states to a number"):
        both = jax.vmap(jax.vmap(distance))(first.ys[:, ends], second.ys[:, ends])
    distances = np.asarray(both, float)
    if not np.all(distances > 0):
        raise ValueError(
            "`first` and `second` must not have merged; got distance "
            f"{distances.min():g} for member {int(np.argmin(distances.min(1)))}."
        )
    rates = np.log(distances[:, 1] / distances[:, 0]) / np.diff(host("first.ts", first.ts)[ends])[0]
    error = rates.std(ddof=1) / math.sqrt(rates.size) if rates.size > 1 else math.nan
    return float(rates.mean()), float(error)


def kaplan_yorke_dimension(exponents: Any) -> float:
    """The Kaplan-Yorke dimension of an attractor with these Lyapunov exponents.

        D = j + (λ_1 + … + λ_j) / |λ_{j+1}|,   j the largest with λ_1 + … + λ_j ≥ 0

    0 if all exponents are negative (a point), and their number if all sums are ≥ 0.
    Raises ValueError unless `exponents` is one axis of finite numbers.
    """
    values = data("exponents", exponents)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"`exponents` must be one axis of numbers; got shape {values.shape}.")
    values = np.sort(values)[::-1]
    sums = np.cumsum(values)
    j = int(np.sum(sums >= 0))
    if j in (0, values.size):
        return float(j)
    return float(j + sums[j - 1] / -values[j])
