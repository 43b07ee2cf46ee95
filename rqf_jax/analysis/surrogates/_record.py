import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..._arguments import host, shown
from ..._ensemble.trajectories import Trajectories

_PARTS = 8
"""A truth of fewer members is cut along its times in so many parts at least, to be halved."""
_SPLITS = 4
"""So many ways to halve the truth make the null."""

Series = Float[np.ndarray, "_ _ _"]
"""(members, times, dim)."""


class Distance(eqx.Module):
    """A distance of surrogates from the truth, and that of the truth from itself.

    `seeds` (surrogates,) is the distance of each surrogate, `halves` (splits,) that of one half of
    the truth from the other. Ensembles of one size can be compared at once: a half of the truth is
    compared with a half of a surrogate, too. `skipped` states held a gap and were left out, and
    `censored` forecasts were still valid when they ended.
    """

    name: str = eqx.field(static=True)
    seeds: Float[np.ndarray, " surrogates"]
    halves: Float[np.ndarray, " splits"]
    skipped: int = 0
    censored: int = 0

    @property
    def value(self) -> float:
        """The mean over surrogates."""
        return float(self.seeds.mean())

    @property
    def stderr(self) -> float:
        """One standard error over surrogates; NaN for one."""
        return _stderr(self.seeds)

    @property
    def null(self) -> float:
        """The mean over ways to halve the truth."""
        return float(self.halves.mean())

    @property
    def null_stderr(self) -> float:
        """Its standard error over them, which overlap: a scale, not a test."""
        return _stderr(self.halves)

    def __repr__(self) -> str:
        more = "".join(
            f", {name}={count}"
            for name, count in (("skipped", self.skipped), ("censored", self.censored))
            if count
        )
        return (
            f"Distance({self.name}: {self.value:.4g} ± {self.stderr:.2g} over {self.seeds.size} "
            f"surrogates; null {self.null:.4g} ± {self.null_stderr:.2g}{more})"
        )


def _stderr(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(values.size)) if values.size > 1 else math.nan


def series_of(name: str, runs: Any, *, least: int = 2) -> Series:
    """States (members, times, dim) in float64, of which some may be NaN or infinite.

    `runs` are `Trajectories` or an array ([members,] times, dim); all further axes are one.
    """
    values = runs.ys if isinstance(runs, Trajectories) else runs
    if not hasattr(values, "shape"):
        raise ValueError(
            f"`{name}` must be `Trajectories` or an array ([members,] times, dim); got "
            f"{shown(runs)}."
        )
    xs = host(name, values)
    xs = xs[None] if xs.ndim == 2 else xs
    if xs.ndim < 3 or not xs.size:
        raise ValueError(f"`{name}` must have shape ([members,] times, dim); got {xs.shape}.")
    if xs.shape[1] < least:
        raise ValueError(f"`{name}` must be at least {least} times long; got {xs.shape[1]}.")
    return xs.reshape(*xs.shape[:2], -1)


def surrogates_of(
    truth: Series, models: Any, *, least: int = 2, argument: str = "models"
) -> list[Series]:
    """The series of one surrogate, or of each in a list, with as many coordinates as the truth."""
    given = models if isinstance(models, list | tuple) else [models]
    if not given:
        raise ValueError(f"`{argument}` must be at least one; got none.")
    found = []
    for i, one in enumerate(given):
        name = f"{argument}[{i}]" if isinstance(models, list | tuple) else argument
        xs = series_of(name, one, least=least)
        if xs.shape[2] != truth.shape[2]:
            raise ValueError(
                f"`{name}` must have {truth.shape[2]} coordinates, as `truth` has; got "
                f"{xs.shape[2]}."
            )
        found.append(xs)
    return found


def scales(truth: Series) -> Float[np.ndarray, " dim"]:
    """The standard deviation of every coordinate of the truth; ValueError for a constant one."""
    deviation = np.nanstd(truth, axis=(0, 1))
    flat = ~(deviation > 1e-12 * np.nanmax(np.abs(truth), axis=(0, 1)))
    if np.any(flat):
        raise ValueError(
            f"`truth` must vary in every coordinate; coordinate {int(np.argmax(flat))} is "
            f"constant, at {np.nanmean(truth[..., flat], axis=(0, 1))[0]:g}. Leave it out."
        )
    return deviation


def whole(name: str, xs: Series) -> Series:
    """`xs` without NaN or infinity; ValueError otherwise."""
    bad = np.argwhere(~np.isfinite(xs))
    if bad.size:
        member, time, coordinate = bad[0]
        raise ValueError(
            f"`{name}` must be finite, because this measure needs equal steps; got "
            f"{xs[member, time, coordinate]} at member {member}, time {time}."
        )
    return xs


def _cuts(truth: Series) -> int:
    """The number of parts that the times of a member are cut in, so that all can be halved."""
    count = -(-_PARTS // len(truth)) if len(truth) < _PARTS else 1
    if truth.shape[1] // count < 2:
        raise ValueError(
            f"`truth` must have {_PARTS} members or {2 * count} times, to be halved for the null; "
            f"got shape {truth.shape[:2]}."
        )
    return count


def _halves(xs: Series, cuts: int, split: int) -> tuple[Series, Series]:
    """Two halves of a series: of its members, cut along their times in so many parts."""
    length = xs.shape[1] // cuts
    parts = xs[:, : cuts * length].reshape(-1, length, xs.shape[2])
    if len(parts) < 2:
        raise ValueError(f"`models` must have at least 2 members, to be halved; got {len(parts)}.")
    order, middle = np.random.default_rng(split).permutation(len(parts)), len(parts) // 2
    return parts[order[:middle]], parts[order[middle : 2 * middle]]


def distance(
    name: str,
    measure: Callable[[Series, Series], float],
    truth: Series,
    models: list[Series],
    **counts: int,
) -> Distance:
    """`measure` of halves of the truth with halves of each surrogate, and with each other."""
    cuts, splits = _cuts(truth), range(_SPLITS)
    parts = [_halves(truth, cuts, split) for split in splits]
    seeds = [
        np.mean([measure(parts[split][0], _halves(one, cuts, split)[0]) for split in splits])
        for one in models
    ]
    null = [measure(*both) for both in parts]
    return Distance(name, np.array(seeds), np.array(null), **counts)
