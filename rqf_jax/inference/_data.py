"""Trajectories of tokens as arrays for an estimator: checked once, before anything else."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import finite
from .._ensemble.trajectories import Trajectories

NORM_TOLERANCE = 1e-3
"""How far from 1 the length of a token may be."""

_SAMPLE = 4096
"""So many numbers are looked at to see whether the data are rounded."""


class Observed(NamedTuple):
    """`xs` (members, times, tokens, dim), unit or NaN; lengths `dt` of the steps; `mask` where
    given; `grid`, the spacing of the grid on which the first numbers lie as they were given, or 0.
    """

    xs: Float[Array, "members times tokens dim"]
    dt: Float[np.ndarray, " steps"]
    mask: Bool[Array, "members times tokens"] | None
    grid: Float[np.ndarray, ""]


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
    if xs.ndim not in (3, 4) or 0 in xs.shape or xs.shape[-1] < 2:
        raise ValueError(
            "`runs` must be of shape ([members,] times, tokens, dim) with dim at least 2; "
            f"got shape {np.shape(values)}."
        )
    shape = xs.shape if xs.ndim == 4 else (1, *xs.shape)
    dt = _steps(times, shape[1])
    mask = None if mask is None else _mask(mask, shape[:3])
    xs, grid = _unit(xs, mask, normalise)
    # NumPy's, which compiled functions take as they are: a conversion each costs more than a fit.
    return Observed(xs, dt.astype(xs.dtype), mask, np.asarray(grid, xs.dtype))


def _steps(times: Any, count: int) -> Float[np.ndarray, " steps"]:
    ts = np.asarray(finite("times", times), float)
    if ts.shape != (count,):
        raise ValueError(f"`times` must have shape ({count},) like the data; got {ts.shape}.")
    if count < 2:
        raise ValueError(f"`times` must be at least 2, for one step; got {count}.")
    steps = np.diff(ts)
    if not np.all(steps > 0):
        i = int(np.flatnonzero(~(steps > 0))[0])
        raise ValueError(
            f"`times` must be strictly increasing; got {ts[i]} then {ts[i + 1]} at index {i}."
        )
    return steps


def _mask(mask: Any, shape: tuple[int, ...]) -> Bool[Array, "members times tokens"]:
    if not isinstance(mask, jax.Array | np.ndarray) or mask.dtype != bool:
        raise ValueError(f"`mask` must be an array of booleans, True where observed; got {mask!r}.")
    try:
        return jnp.asarray(np.broadcast_to(np.asarray(mask), shape))
    except ValueError:
        raise ValueError(
            f"`mask` must fit (members, times, tokens) = {shape}; got shape {mask.shape}."
        ) from None


def _unit(values, mask, normalise: str):
    """Tokens of length one, and `Observed.grid`; ValueError for those without a length or a
    direction."""
    xs, norms, seen = _lengths(values, mask)
    first, worst, shortest, some, infinite = jax.device_get(seen)
    if infinite:
        raise ValueError("`runs` must be finite, or NaN where missing; got an infinite entry.")
    if not some:
        raise ValueError("`runs` must have tokens seen at two times in a row; all are missing.")
    if shortest == 0:
        raise ValueError("`runs` must not hold zero vectors, which have no direction; got one.")
    if worst <= NORM_TOLERANCE:
        return xs, _spacing(first)
    if normalise == "raise":
        raise ValueError(
            f"`runs` must hold unit tokens, to {NORM_TOLERANCE:g}; got one that is off by "
            f"{worst:.3g}. Pass `normalise='project'` if only directions matter."
        )
    return _divide(xs, norms), _spacing(first)


@jax.jit
def _lengths(values, mask):
    """The tokens with all four axes, at least in single precision; their lengths; what there is to
    say about them before anything is fitted."""
    xs = values if values.ndim == 4 else values[None]
    xs = xs.astype(jnp.float32) if xs.dtype.itemsize < 4 else xs
    norms = jnp.sqrt(jnp.sum(xs * xs, -1))
    there = ~jnp.isnan(norms)
    if mask is not None:
        there = there & mask
    known = jnp.where(there, norms, 1.0)
    some = jnp.any(there[:, 1:] & there[:, :-1])
    infinite = jnp.any(jnp.isinf(known))
    first = xs[0, : max(2, _SAMPLE // (xs.shape[2] * xs.shape[3]))]
    return xs, norms, (first, jnp.max(jnp.abs(known - 1)), jnp.min(known), some, infinite)


@jax.jit
def _divide(xs, norms):
    return xs / norms[..., None]


def _spacing(first: np.ndarray) -> float:
    sample = first[np.isfinite(first)]
    if not sample.size:
        return 0.0
    eps = float(jnp.finfo(sample.dtype).eps)
    for decimals in range(1, 7):
        grid = 10.0**-decimals
        if np.all(np.abs(sample / grid - np.round(sample / grid)) <= 4 * eps / grid):
            return grid
    for half in (jnp.bfloat16, np.float16):
        if np.array_equal(sample.astype(half).astype(sample.dtype), sample):
            return float(jnp.finfo(half).eps) / 2 * float(np.sqrt(np.mean(sample**2)))
    return 0.0
