"""Figures of an ensemble in time: the spread of its members, or means with standard errors."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .._arguments import Real, maybe, part, takes, words
from ._canvas import TIME, axis, finite
from .errors import MEANING, error_band, legend, theory_line


@takes(label=maybe(words), xlabel=words, ylabel=maybe(words))
def fan(
    ts: Real,
    values: Real,
    *,
    ax: Axes | None = None,
    xlabel: str = TIME,
    ylabel: str | None = None,
    theory: Real | None = None,
    label: str | None = None,
) -> Axes:
    """Draw the mean over members against time, in bands that hold 50 % and 90 % of the members.

    The bands show how members differ, not how well the mean is known; see `mean_lines` for that.

    **Arguments**

    - `ts`: The save times (times,).
    - `values`: One number for each member and time (members, times).
    - `ax`: The axis to draw on; without it a new figure is made.
    - `xlabel`: The label of the time axis, with its unit.
    - `ylabel`: The label of the values.
    - `theory`: The mean in theory (times,), drawn as a dashed line.
    - `label`: The name of the mean in the legend; by default "mean of M members".

    **Returns** the axis.

    **Raises** ValueError for other shapes and for values that are not finite.

    **Example**

    >>> import numpy as np, rqf_jax as rqf
    >>> ts = np.linspace(0.0, 1.0, 5)
    >>> paths = np.random.default_rng(0).normal(size=(100, 5)) + ts
    >>> ax = rqf.plot.fan(ts, paths, theory=ts, ylabel="height")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['mean of 100 members', 'theory', 'half of the members', '90 % of the members']
    """
    ts, values = _series(ts, values, "values")
    curve = None if theory is None else matching(theory, ts, "theory")
    ax = axis(ax)
    named = ax.get_legend_handles_labels()[1]
    name = f"mean of {len(values):,} members" if label is None else label
    (line,) = ax.plot(ts, values.mean(0), label=name, zorder=3)
    for low, high, alpha, meaning in (
        (0.25, 0.75, 0.25, "half of the members"),
        (0.05, 0.95, 0.15, "90 % of the members"),
    ):
        lower, upper = np.quantile(values, [low, high], axis=0)
        ax.fill_between(
            ts,
            lower,
            upper,
            color=line.get_color(),
            alpha=alpha,
            linewidth=0,
            zorder=2,
            label=None if meaning in named else meaning,
            gid=MEANING,
        )
    if curve is not None:
        theory_line(ax, ts, curve)
    _labels(ax, xlabel, ylabel)
    legend(ax)
    return ax


@takes(xlabel=words, ylabel=maybe(words))
def mean_lines(
    ts: Real,
    values: Mapping[str, Real],
    *,
    theory: Mapping[str, Real] | None = None,
    ax: Axes | None = None,
    differences: Axes | None = None,
    xlabel: str = TIME,
    ylabel: str | None = None,
) -> Axes:
    """Draw means over members against time in bands of one standard error, theory dashed over them.

    The standard error of a mean is s / √members, with s the standard deviation of the members. Of
    many members it is thinner than a line: `differences` then shows simulation − theory.

    **Arguments**

    - `ts`: The save times (times,).
    - `values`: For each label, one number for each member and time (members, times).
    - `theory`: For some of these labels, the mean in theory (times,).
    - `ax`: The axis to draw on; without it a new figure is made.
    - `differences`: A second axis, below the first, for simulation − theory in the same bands.
    - `xlabel`: The label of the time axis, with its unit.
    - `ylabel`: The label of the values.

    **Returns** the axis of the means.

    **Raises** ValueError for other shapes, values that are not finite, fewer than 2 members, and a
    theory whose label has no values.

    **Example**

    >>> import numpy as np, rqf_jax as rqf
    >>> ts = np.linspace(0.0, 1.0, 5)
    >>> paths = np.random.default_rng(0).normal(size=(100, 5)) + ts
    >>> ax = rqf.plot.mean_lines(ts, {"height": paths}, theory={"height": ts})
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['height', 'theory', '± 1 standard error']
    """
    part(Mapping, "a mapping from labels to arrays (members, times)")("values", values)
    maybe(part(Mapping, "a mapping from labels to arrays (times,)"))("theory", theory)
    series = {name: _series(ts, value, f"values[{name!r}]") for name, value in values.items()}
    if not series:
        raise ValueError("`values` must hold at least one series; got none.")
    for name, (_, value) in series.items():
        if len(value) < 2:
            raise ValueError(f"`values[{name!r}]` must have at least 2 members; got {len(value)}.")
    curves = {}
    for name, curve in ({} if theory is None else theory).items():
        if name not in series:
            raise ValueError(
                f"`theory` must have labels of `values`, {list(series)}; got {name!r}."
            )
        curves[name] = matching(curve, series[name][0], f"theory[{name!r}]")
    ax = axis(ax)
    for name, (times, value) in series.items():
        mean, error = value.mean(0), value.std(0, ddof=1) / math.sqrt(len(value))
        error_band(times, mean, error, ax=ax, label=name)
        line = ax.get_lines()[-1]
        # Marks show the save times; a line between far ones is no measurement.
        line.set(marker=".", markersize=4, markevery=math.ceil(len(times) / 30))
        if name in curves:
            theory_line(ax, times, curves[name])
        if name in curves and differences is not None:
            gap = mean - curves[name]
            error_band(times, gap, error, ax=differences, color=line.get_color())
    _labels(ax, xlabel, ylabel)
    if differences is not None:
        ax.set_xlabel("")
        ax.tick_params(labelbottom=False)
        theory_line(differences, series[name][0], np.zeros(len(series[name][0])))
        _labels(differences, xlabel, "simulation\n− theory")
    # Above the axis: curves that start apart and end apart leave no free corner inside.
    legend(
        ax,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=min(2, len(ax.get_legend_handles_labels()[1])),
        columnspacing=1.2,
    )
    return ax


def matching(value: Any, grid: np.ndarray, name: str) -> np.ndarray:
    """`value` as finite numbers of the shape of `grid`; ValueError that names it otherwise."""
    array = finite(value, name)
    if array.shape != grid.shape:
        raise ValueError(f"`{name}` must have shape {grid.shape}; got shape {array.shape}.")
    return array


def _series(ts: Any, values: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    ts, values = finite(ts, "ts"), finite(values, name)
    if ts.ndim != 1 or ts.size == 0:
        raise ValueError(f"`ts` must be (times,), not empty; got shape {ts.shape}.")
    if values.ndim != 2 or values.shape[1] != len(ts) or len(values) == 0:
        raise ValueError(
            f"`{name}` must be (members, times) with the {len(ts)} times of `ts`; got shape "
            f"{values.shape}."
        )
    return ts, values


def _labels(ax: Axes, xlabel: str, ylabel: str | None) -> None:
    ax.set_xlabel(xlabel)
    ax.margins(x=0.02)
    if ylabel is not None:
        ax.set_ylabel(ylabel)
