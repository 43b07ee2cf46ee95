"""Many states under ONE noise: the random attractor that they are drawn to, and how near they are.

`simulate` gives every member noise of its own. Here a cloud of initial states shares the noise of
one member of an ensemble, so that what is left of the cloud is the noise's doing.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt32

from .._arguments import Key, Times, fitting, floating, integer
from .._ensemble.compiled import compiled
from .._ensemble.members import member_keys
from .._ensemble.problem import Problem
from .._ensemble.times import host_times
from .._ensemble.trajectories import Trajectories
from .._sde import SDE
from ..laws import AbstractLaw
from ..observables._state import one_state, safe_sqrt
from ._flow import Flow, check_flow


def common_noise(
    sde: SDE,
    law: AbstractLaw,
    ts: Times,
    *,
    substeps: int,
    points: int,
    key: Key,
    member: int = 0,
    solver: diffrax.AbstractSolver | None = None,
) -> Trajectories:
    """A cloud of `points` initial states, all driven forward by the noise of one member.

    The noise is on the grid of `simulate`, so a point that starts like `member` goes where
    `simulate` takes it.

    **Arguments**

    - `sde`, `law`, `ts`, `substeps`, `solver`: as of `simulate`.
    - `points`: number of initial states, those of members 0, …, points - 1 of `simulate` with the
      same key.
    - `key`: one JAX key.
    - `member`: the member of the ensemble whose noise drives all of them.

    **Returns** `Trajectories` whose members are the points.

    **Raises** ValueError as `simulate` does, and for noises whose increments belong to one state
    (`SpanNoise`, `KernelNoise`).

    **Example**

    >>> sde = rqf.models.random_quadratic_form(1.0)
    >>> cloud = rqf.analysis.common_noise(
    ...     sde, rqf.laws.Uniform(1, 3), [0.0, 0.5], substeps=8, points=5, key=jax.random.key(0)
    ... )
    >>> cloud.ys.shape
    (5, 2, 1, 3)
    """
    problem = Problem(sde, law, ts, key, substeps=substeps, solver=solver).checked()
    ys = _forward(problem, *_checked(problem, points, member))
    finite = jnp.isfinite(ys).reshape(*ys.shape[:2], -1).all(-1)
    status = jnp.where(finite.all(1), 0, jnp.argmin(finite, 1)).astype(jnp.int32)
    return Trajectories(host_times(ts), ys, status)


def pullback(
    sde: SDE,
    law: AbstractLaw,
    ts: Times,
    *,
    substeps: int,
    points: int,
    key: Key,
    member: int = 0,
    solver: diffrax.AbstractSolver | None = None,
) -> Float[Array, "times points *state"]:
    """Clouds that started at every one of `ts` and were carried to the last by ONE noise.

        entry j:  φ(t_j → t_K, ω) x   for `points` initial states x, the same for every j

    The longer ago the start, the nearer is the cloud to the random attractor A(ω) of the fixed
    past ω: entry 0 is the best estimate of A, and the distances of the other entries to it are
    the rate of pullback attraction. Entry K is the initial cloud. One run carries all clouds, so
    the cost is that of times x points states.

    **Arguments**

    - `sde`, `law`, `ts`, `substeps`, `solver`: as of `simulate`.
    - `points`: number of initial states, those of members 0, …, points - 1 of `simulate` with the
      same key.
    - `key`: one JAX key.
    - `member`: the member of the ensemble whose noise drives all of them.

    **Returns** an array (times, points, *state).

    **Raises** ValueError as `common_noise` does.

    **Example**

    >>> sde = rqf.models.random_quadratic_form(1.0)
    >>> clouds = rqf.analysis.pullback(
    ...     sde, rqf.laws.Uniform(1, 3), [0.0, 0.5], substeps=8, points=5, key=jax.random.key(0)
    ... )
    >>> clouds.shape
    (2, 5, 1, 3)
    """
    problem = Problem(sde, law, ts, key, substeps=substeps, solver=solver).checked()
    return _backward(problem, *_checked(problem, points, member))


def antipodal_pair(x: Float[Array, "tokens dim"]) -> Float[Array, "2 dim"]:
    """The pair {a, -a} nearest to the tokens, a the leading eigenvector of XᵀX."""
    x = one_state(x)
    axis = jnp.linalg.eigh(jnp.matmul(x.T, x, precision="highest"))[1][:, -1]
    return jnp.stack([axis, -axis])


def centre(x: Float[Array, "tokens dim"]) -> Float[Array, "1 dim"]:
    """The direction of the mean token; NaN where the mean is zero."""
    mean = jnp.mean(one_state(x), 0, keepdims=True)
    return mean / jnp.sqrt(jnp.sum(mean**2))


def attractor_distances(
    x: Float[Array, "tokens dim"], attractor: Float[Array, "points dim"]
) -> Float[Array, " tokens"]:
    """The geodesic distance of every token to the nearest of the points of an attractor.

        min_k 2 atan2(|x - a_k|, |x + a_k|)   in [0, π]

    Small distances keep their relative accuracy. `antipodal_pair` and `centre` estimate the
    attractor of a synchronised cloud.
    """
    x, attractor = one_state(x), one_state(attractor, "attractor")
    if attractor.shape[1] != x.shape[1]:
        raise ValueError(
            f"`attractor` must be points in the dimension {x.shape[1]} of `x`; got shape "
            f"{attractor.shape}."
        )
    apart = jax.vmap(lambda a: jnp.sum((x - a[None]) ** 2, -1))(attractor)
    beside = jax.vmap(lambda a: jnp.sum((x + a[None]) ** 2, -1))(attractor)
    return jnp.min(2 * jnp.atan2(safe_sqrt(apart), safe_sqrt(beside)), 0)


def dispersion(cloud: Float[Array, "points *state"]) -> Float[Array, ""]:
    """The root mean square distance of the states of a cloud from their mean; 0 for one point."""
    cloud = floating("cloud", cloud)
    if not cloud.ndim or not cloud.size:
        raise ValueError(f"`cloud` must be states (points, ...); got shape {cloud.shape}.")
    offsets = (cloud - jnp.mean(cloud, 0, keepdims=True)).reshape(cloud.shape[0], -1)
    return safe_sqrt(jnp.mean(jnp.sum(offsets**2, -1)))


def _checked(problem: Problem, points: Any, member: Any) -> tuple[int, UInt32[Array, ""]]:
    """How many points, and the noise's member as an array: another one compiles nothing."""
    points = integer("points", points, maximum=2**32 - 1)
    member = integer("member", member, minimum=0, maximum=2**32 - 1)
    problem.look_at(0)
    check_flow(problem.sde)
    fitting("points", (points, problem.times.intervals + 1, *problem.state.shape))
    return points, jnp.asarray(member, jnp.uint32)


def _cloud_and_flow(
    problem: Problem, points: int, member: UInt32[Array, ""]
) -> tuple[Float[Array, "points *state"], Callable, Int[Array, " intervals"]]:
    """Initial states, how to take them through an interval by the member's noise, and all those."""
    ids = jnp.arange(points, dtype=jnp.uint32)
    cloud = jax.vmap(lambda i: problem.law(member_keys(problem.key, i)[0]))(ids)
    flow = Flow.of(problem, cloud.dtype, member_keys(problem.key, member)[1])
    shape = flow.sde.noise.shape(cloud[0])

    def advance(states: Float[Array, "all *state"], index: Int[Array, ""]):
        def body(moving, time, h, pairs):
            return jax.vmap(lambda one: flow.step(time, h, one, pairs))(moving)

        moving = jax.vmap(lambda x: flow.begin(index, x))(states)
        return flow.interval(index, moving, body, shape)[0]

    return cloud, advance, jnp.arange(flow.times.intervals, dtype=jnp.int32)


@compiled
def _forward(problem, points, member):
    cloud, advance, intervals = _cloud_and_flow(problem, points, member)

    def interval(states, index):
        states = advance(states, index)
        return states, states

    rest = lax.scan(interval, cloud, intervals)[1]
    return jnp.moveaxis(jnp.concatenate([cloud[None], rest]), 0, 1)


@compiled
def _backward(problem, points, member):
    cloud, advance, intervals = _cloud_and_flow(problem, points, member)
    state, times = cloud.shape[1:], intervals.size + 1

    def interval(clouds, index):
        moved = advance(clouds.reshape(-1, *state), index).reshape(clouds.shape)
        # A cloud waits until its own start.
        started = (jnp.arange(times, dtype=index.dtype) <= index).reshape(
            -1, *[1] * (clouds.ndim - 1)
        )
        return jnp.where(started, moved, clouds), None

    clouds = jnp.broadcast_to(cloud[None], (times, *cloud.shape))
    return lax.scan(interval, clouds, intervals)[0]
