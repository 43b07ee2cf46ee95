"""Series of states as users hand them over: an ensemble, an array with its times, or labelled data.

Times are differenced in float64 on the host, so that an offset of time costs no digits.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import data, host, is_concrete, shown
from .trajectories import Trajectories

_EQUAL = 1e-3
"""The largest relative distance from their mean of steps that count as equal."""


def equally_spaced(
    runs: Any, times: Any, *, least: int, gaps: bool = False
) -> tuple[Float[np.ndarray, "members times ..."], float]:
    """States (members, times, *state) in float64 and the length of a step.

    With `gaps` the states may be NaN, where nothing was observed.
    """
    values, ts = read(runs, times)
    xs = _with_gaps(values) if gaps else data("runs", values)
    if ts.ndim != 1 or ts.size < least:
        raise ValueError(f"`times` must be one axis of at least {least}; got shape {ts.shape}.")
    if xs.ndim >= 2 and xs.shape[0] == ts.size and not (xs.ndim > 2 and xs.shape[1] == ts.size):
        xs = xs[None]
    if xs.ndim < 3 or xs.shape[1] != ts.size or 0 in xs.shape:
        raise ValueError(
            f"`runs` must have shape ([members,] {ts.size}, *state) for {ts.size} `times`; got "
            f"{xs.shape}."
        )
    lengths = steps(ts, ts.size)
    h = float(lengths.mean())
    if not np.all(np.abs(lengths - h) <= _EQUAL * h):
        raise ValueError(
            "`times` must be equally spaced; got steps from "
            f"{lengths.min():.6g} to {lengths.max():.6g}."
        )
    return xs, h


def _with_gaps(values: Any) -> np.ndarray:
    """`values` in float64, of which some may be NaN; ValueError for infinite ones."""
    xs = host("runs", values)
    if np.any(np.isinf(xs)):
        raise ValueError("`runs` must be finite, or NaN where missing; got an infinite entry.")
    return xs


def read(runs: Any, times: Any) -> tuple[Array | np.ndarray, np.ndarray]:
    """States ([members,] times, ...) as they were given, and their times."""
    if isinstance(runs, Trajectories):
        if times is not None:
            raise ValueError("`times` must be left out for `Trajectories`, which know their times.")
        values, times = runs.ys, runs.ts
        if not isinstance(values, jax.Array | np.ndarray):
            raise ValueError(
                "`runs` must hold whole states, one array; these trajectories hold "
                f"{jax.tree.structure(values)}. Simulate without `save`, or pass one of the arrays "
                "with `times`."
            )
    elif _is_labelled(runs):
        values, times = _labelled(runs, times)
    else:
        values = runs
        if not isinstance(values, jax.Array | np.ndarray):
            raise ValueError(
                "`runs` must be `Trajectories`, an array with `times`, or a DataArray of xarray; "
                f"got {shown(runs)}."
            )
    if times is None:
        raise ValueError(
            "`times` must be given when `runs` is an array: steps may be of any length."
        )
    if not is_concrete(values):
        raise ValueError(
            "`runs` must be known, because a fit looks at its data; got a traced array. Call the "
            "fit outside `jit`, `vmap` and `grad`."
        )
    return values, _times(times)


def _is_labelled(runs: Any) -> bool:
    """Whether `runs` is a DataArray of xarray, which takes a second to import."""
    return all(hasattr(runs, name) for name in ("dims", "coords", "to_numpy"))


def _labelled(runs: Any, times: Any) -> tuple[np.ndarray, Any]:
    if "time" not in runs.dims:
        raise ValueError(f"`runs` must have a dimension 'time'; got {runs.dims}.")
    if times is None and "time" in runs.coords:
        times = runs["time"].to_numpy()
    first = [name for name in ("member", "time") if name in runs.dims]
    return runs.transpose(*first, ...).to_numpy(), times


def _times(times: Any) -> np.ndarray:
    """A NumPy array of the dtype that was given, finite."""
    exact = data("times", times)
    given = np.asarray(times)
    return given if jnp.issubdtype(given.dtype, jnp.floating) else exact


def steps(ts: np.ndarray, count: int) -> Float[np.ndarray, " steps"]:
    """Lengths of the steps in float64. Steps that are equal but for the rounding of their times in
    the type in which they were given are equal."""
    if ts.shape != (count,):
        raise ValueError(f"`times` must have shape ({count},) like the data; got {ts.shape}.")
    if count < 2:
        raise ValueError(f"`times` must be at least 2, for one step; got {count}.")
    exact = ts.astype(np.float64)
    steps = np.diff(exact)
    if not np.all(steps > 0):
        i = int(np.flatnonzero(~(steps > 0))[0])
        raise ValueError(
            f"`times` must be strictly increasing; got {ts[i]} then {ts[i + 1]} at index {i}."
        )
    mean = (exact[-1] - exact[0]) / steps.size
    eps = float(jnp.finfo(ts.dtype).eps) if jnp.issubdtype(ts.dtype, jnp.floating) else 0.0
    if np.all(np.abs(steps - mean) <= 2 * eps * np.abs(exact).max()):
        return np.full_like(steps, mean)
    return steps
