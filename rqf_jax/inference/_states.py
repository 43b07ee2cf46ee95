"""Trajectories of flat states as arrays for an estimator."""

from typing import Any

import jax
import numpy as np

from .._arguments import finite
from .._ensemble.trajectories import Trajectories


def equally_spaced(runs: Any, times: Any, *, least: int) -> tuple[np.ndarray, float]:
    """States (members, times, *state) in float64 and the length of a step."""
    if isinstance(runs, Trajectories):
        if times is not None:
            raise ValueError("`times` must be left out for `Trajectories`, which know their times.")
        runs, times = runs.ys, runs.ts
        runs = runs if isinstance(runs, jax.Array) else None
    elif times is None:
        raise ValueError("`times` must be given with an array: steps may be of any length.")
    if not isinstance(runs, jax.Array | np.ndarray):
        raise ValueError(f"`runs` must be trajectories or an array; got {type(runs)}.")
    xs, ts = np.asarray(finite("runs", runs), float), np.asarray(finite("times", times), float)
    if ts.ndim != 1 or ts.size < least:
        raise ValueError(f"`times` must be one axis of at least {least}; got shape {ts.shape}.")
    if xs.ndim >= 2 and xs.shape[0] == ts.size and not (xs.ndim > 2 and xs.shape[1] == ts.size):
        xs = xs[None]
    if xs.ndim < 3 or xs.shape[1] != ts.size or 0 in xs.shape:
        raise ValueError(
            f"`runs` must have shape ([members,] {ts.size}, *state) for {ts.size} times; got "
            f"{xs.shape}."
        )
    steps = np.diff(ts)
    h = float(ts[-1] - ts[0]) / steps.size
    if not (h > 0 and np.all(np.abs(steps - h) <= 1e-3 * h)):
        raise ValueError(f"`times` must be equally spaced and increase; got steps {steps}.")
    return xs, h
