"""A stored sweep: its means beside closed forms, and against the keys that were swept."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import plot
from ..plot.errors import legend, theory_line
from .comparison import Row
from .config import Config
from .design import Design

MEAN = "E r"
_PANELS, _CURVES = 6, 6
# Curves that start apart and end apart leave no free corner inside.
_ABOVE = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 2, "columnspacing": 1.2}


def compare(dataset: xarray.Dataset, config: Config, design: Design) -> list[Row]:
    """A row for each point whose model knows the mean overlap at the last save time.

    The start of a point must be the same for all its members, since a sweep stores no member.
    Overlaps of several pairs are averaged, with the mean of their standard errors, which is the
    error if all pairs move alike and more than it otherwise.
    """
    if "overlaps_mean" not in dataset:
        return []
    time = np.asarray(dataset.time, float)
    means, errors = final(dataset, "overlaps")
    points = len(design.points())
    start = _flat(dataset.overlaps_mean, points)[:, 0]
    spread = _flat(dataset.overlaps_variance, points)[:, 0]
    rows = []
    for place, one in enumerate(design.configs(config)):
        if not np.all(spread[place] == 0) or not np.isfinite(means[place]):
            continue
        assert isinstance(one, Config)
        dim = one.law.start().dim
        known = one.model.closed_forms(dim).moments
        moments = None if known is None else known(time, start[place].reshape(1, -1))
        if moments is not None:
            theory = float(np.mean(moments[0][-1]))
            rows.append(Row(MEAN, label(design, place), theory, means[place], errors[place]))
    return rows


def label(design: Design, place: int) -> str:
    """The keys and values of a point."""
    values = design.points()[place]
    return ", ".join(f"{axis.name} = {v:.4g}" for axis, v in zip(design.axes, values, strict=True))


def final(dataset: xarray.Dataset, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of an observable at the last time, averaged over its own axes.

    Both (points,), in the order of the points; NaN for a point whose members all failed.
    """
    points = dataset.failed.size
    mean, variance, count = (
        _flat(dataset[f"{name}_{part}"], points)[:, -1].reshape(points, -1)
        for part in ("mean", "variance", "count")
    )
    mean = np.where(count > 0, mean, np.nan)
    return mean.mean(1), np.sqrt(variance / np.maximum(count, 1)).mean(1)


def _flat(array: xarray.DataArray, points: int) -> np.ndarray:
    """(points, times, ...)."""
    values = np.asarray(array, float)
    leading = values.ndim - len(array.dims[array.dims.index("time") :])
    return values.reshape(points, *values.shape[leading:])


def figures(dataset: xarray.Dataset, design: Design, rows: Sequence[Row]) -> Mapping[str, Figure]:
    """One figure for each observable: its final mean against the keys that were swept.

    One panel for each key if all change together or at random. Of a grid, curves against the first
    key, one for each value of the second; colours if those are many. Further keys of a grid are
    held at their first value.
    """
    names = [str(name).removesuffix("_mean") for name in dataset if str(name).endswith("_mean")]
    theory = {row.label: row.theory for row in rows}
    known = np.array(
        [theory.get(label(design, place), np.nan) for place in range(dataset.failed.size)]
    )
    drawn = {}
    for name in names:
        words = f"mean of {name.replace('_', ' ')} at $t = {float(dataset.time[-1]):g}$"
        measured = _Measured(*final(dataset, name), known if name == "overlaps" else known * np.nan)
        drawn[name] = (_panels if design.zipped else _grid)(design, measured, words)
    return drawn


class _Measured(NamedTuple):
    """Means, standard errors and theory of points; NaN where there is none."""

    mean: np.ndarray
    error: np.ndarray
    theory: np.ndarray

    def at(self, places: np.ndarray) -> "_Measured":
        return _Measured(*(values.ravel()[places] for values in self))


def _panels(design: Design, measured: _Measured, words: str) -> Figure:
    shown = design.axes[:_PANELS]
    figure = Figure(figsize=(3.4 * len(shown), 2.6))
    for ax, axis in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
        _curve(ax, np.array(axis.values), measured, "simulation", None)
        ax.set(xlabel=axis.key, ylabel=words)
        legend(ax, **_ABOVE)
    return figure


def _grid(design: Design, measured: _Measured, words: str) -> Figure:
    varying = [axis for axis in design.axes if len(axis.values) > 1] or list(design.axes[:1])
    x, y, *others = [*varying, None][: max(2, len(varying))]
    index = np.arange(measured.mean.size).reshape([len(axis.values) for axis in design.axes])
    places = np.squeeze(
        index[tuple(slice(None) if axis in (x, y) else slice(1) for axis in design.axes)],
        tuple(i for i, axis in enumerate(design.axes) if axis not in (x, y)),
    ).reshape(len(x.values), -1)
    columns, rows = np.argsort(x.values), np.argsort(y.values) if y else np.array([0])
    places = places[np.ix_(columns, rows)]
    figure = Figure(figsize=(3.8, 2.8))
    ax = figure.subplots()
    abscissa = np.array(x.values)[columns]
    if y is not None and (
        len(y.values) > _CURVES
        and np.all(np.isfinite(measured.mean[places]))
        and all(len(set(axis.values)) == len(axis.values) for axis in (x, y))
    ):
        ordinate = np.array(y.values)[rows]
        plot.phase_diagram(abscissa, ordinate, measured.mean[places], ax=ax, label=words)
        ax.set(xlabel=x.key, ylabel=y.key)
    else:
        for number, (colour, row) in enumerate(zip(plot.shades(len(rows)), rows, strict=True)):
            name = f"{y.name} = {y.values[row]:.4g}" if y else "simulation"
            _curve(ax, abscissa, measured.at(places[:, number]), name, colour)
        ax.set(xlabel=x.key, ylabel=words)
        legend(ax, **_ABOVE)
    held = ", ".join(f"{axis.name} = {axis.values[0]:.4g}" for axis in others if axis)
    if held:
        ax.set_xlabel(f"{x.key}   ({held})")
    return figure


def _curve(ax: Axes, x: np.ndarray, measured: _Measured, name: str, colour: Any) -> None:
    order = np.argsort(x, kind="stable")
    x, (mean, error, theory) = x[order], measured.at(order)
    there = np.isfinite(mean) & np.isfinite(error)
    if np.any(there):
        plot.error_bars(x[there], mean[there], error[there], ax=ax, label=name, color=colour)
    known = np.isfinite(theory)
    if np.any(known):
        theory_line(ax, x[known], theory[known])
