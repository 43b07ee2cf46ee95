"""Trajectories of tokens as arrays for an estimator: checked once, before anything else."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import finite
from .._trajectories import Trajectories

NORM_TOLERANCE = 1e-3
"""How far from 1 the length of a token may be."""


class Observed(NamedTuple):
    """`xs` (members, times, tokens, dim), unit or NaN; `ts` (times,); `mask` where given."""

    xs: Float[Array, "members times tokens dim"]
    ts: Float[Array, " times"]
    mask: Bool[Array, "members times tokens"] | None

    @property
    def dt(self) -> Float[Array, " steps"]:
        """The lengths of the steps."""
        return jnp.diff(self.ts)


def observed(runs: Any, times: Any, mask: Any, normalise: str) -> Observed:
    """The arguments of an estimator, checked; see `fit_noise` for the rules."""
    if normalise not in ("raise", "project"):
        raise ValueError(f"`normalise` must be 'raise' or 'project'; got {normalise!r}.")
    if isinstance(runs, Trajectories):
        if times is not None:
            raise ValueError("`times` must be left out for `Trajectories`, which know their times.")
        values, times = runs.ys, runs.ts
    elif times is None:
        raise ValueError("`times` must be given with an array: steps may be of any length.")
    else:
        values = runs
    if not isinstance(values, jax.Array | np.ndarray):
        raise ValueError(f"`runs` must be trajectories or an array of tokens; got {type(values)}.")
    xs = jnp.asarray(values)
    if not jnp.issubdtype(xs.dtype, jnp.floating):
        raise ValueError(f"`runs` must hold floats; got dtype {xs.dtype}.")
    if xs.dtype.itemsize < 4:
        xs = xs.astype(jnp.float32)
    xs = xs[None] if xs.ndim == 3 else xs
    if xs.ndim != 4 or 0 in xs.shape or xs.shape[-1] < 2:
        raise ValueError(
            "`runs` must be of shape ([members,] times, tokens, dim) with dim at least 2; "
            f"got shape {np.shape(values)}."
        )
    ts = _times(times, xs.shape[1], xs.dtype)
    mask = None if mask is None else _mask(mask, xs.shape[:3])
    return Observed(_unit(xs, mask, normalise), ts, mask)


def _times(times: Any, count: int, dtype) -> Float[Array, " times"]:
    ts = finite("times", times)
    if ts.shape != (count,):
        raise ValueError(f"`times` must have shape ({count},) like the data; got {ts.shape}.")
    if count < 2:
        raise ValueError(f"`times` must be at least 2, for one step; got {count}.")
    steps = np.diff(np.asarray(ts, float))
    if not np.all(steps > 0):
        i = int(np.flatnonzero(~(steps > 0))[0])
        raise ValueError(
            f"`times` must be strictly increasing; got {ts[i]} then {ts[i + 1]} at index {i}."
        )
    return ts.astype(dtype)


def _mask(mask: Any, shape: tuple[int, ...]) -> Bool[Array, "members times tokens"]:
    if not isinstance(mask, jax.Array | np.ndarray) or mask.dtype != bool:
        raise ValueError(f"`mask` must be an array of booleans, True where observed; got {mask!r}.")
    try:
        return jnp.asarray(np.broadcast_to(np.asarray(mask), shape))
    except ValueError:
        raise ValueError(
            f"`mask` must fit (members, times, tokens) = {shape}; got shape {mask.shape}."
        ) from None


def _unit(xs, mask, normalise: str):
    """Tokens of length one; ValueError for those that are not, or have no direction."""
    norms, worst, shortest, some, infinite = _lengths(xs, mask)
    if bool(infinite):
        raise ValueError("`runs` must be finite, or NaN where missing; got an infinite entry.")
    if not bool(some):
        raise ValueError("`runs` must have tokens seen at two times in a row; all are missing.")
    if float(shortest) == 0:
        raise ValueError("`runs` must not hold zero vectors, which have no direction; got one.")
    if float(worst) <= NORM_TOLERANCE:
        return xs
    if normalise == "raise":
        raise ValueError(
            f"`runs` must hold unit tokens, to {NORM_TOLERANCE:g}; got one that is off by "
            f"{float(worst):.3g}. Pass `normalise='project'` if only directions matter."
        )
    return xs / norms[..., None]


@jax.jit
def _lengths(xs, mask):
    norms = jnp.sqrt(jnp.sum(xs * xs, -1))
    there = ~jnp.isnan(norms)
    if mask is not None:
        there = there & mask
    known = jnp.where(there, norms, 1.0)
    some = jnp.any(there[:, 1:] & there[:, :-1])
    infinite = jnp.any(jnp.isinf(known))
    return norms, jnp.max(jnp.abs(known - 1)), jnp.min(known), some, infinite
