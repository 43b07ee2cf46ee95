"""Numbers with errors: bands and bars that the legend names, and the dashed line of theory."""

from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .._arguments import Real, maybe, one_of, takes, words
from ._canvas import INK, PALE, STANDARD_ERROR, axis, finite

# Marks artists that only say in a legend what a band or a bar means.
MEANING = "meaning"


@takes(label=maybe(words), band=words)
def error_band(
    x: Real,
    values: Real,
    errors: Real,
    *,
    ax: Axes | None = None,
    label: str | None = None,
    color: Any = None,
    band: str = STANDARD_ERROR,
    step: Literal["pre", "post", "mid"] | None = None,
) -> Axes:
    """Draw a line through measured values, in a band from value − error to value + error.

    **Arguments**

    - `x`: Where the values were measured (points,).
    - `values`: The values (points,).
    - `errors`: Their errors, as long or, below and above, (2, points); not negative.
    - `ax`: The axis to draw on; without it a new figure is made.
    - `label`: The name of the line in the legend.
    - `color`: The colour of line and band; by default the next of the axis.
    - `band`: The meaning of the band in the legend, which names it once on each axis.
    - `step`: Draw steps instead of a polygon, as `matplotlib` names them: "post" for a survival
      curve, whose value holds from its time on.

    **Returns** the axis.

    **Raises** ValueError for other shapes, values that are not finite, and negative errors.

    **Example**

    >>> import rqf_jax as rqf
    >>> ax = rqf.plot.error_band([0, 1, 2], [1.0, 0.5, 0.3], [0.0, 0.1, 0.1], label="mean")
    >>> rqf.plot.legend(ax)
    >>> ax.get_legend().get_texts()[-1].get_text()
    '± 1 standard error'
    """
    x, values, below, above = _measured(x, values, errors)
    step = maybe(one_of("pre", "post", "mid"))("step", step)
    ax = axis(ax)
    drawn = f"steps-{step}" if step else "default"
    (line,) = ax.plot(x, values, drawstyle=drawn, color=color, label=label, zorder=3)
    ax.fill_between(
        x,
        values - below,
        values + above,
        step=step,
        color=line.get_color(),
        alpha=0.25,
        linewidth=0,
        zorder=2,
    )
    if band not in _names(ax):
        ax.fill_between([], [], [], color=PALE, alpha=0.5, linewidth=0, label=band, gid=MEANING)
    return ax


@takes(label=maybe(words), marker=words, bars=words)
def error_bars(
    x: Real,
    values: Real,
    errors: Real,
    *,
    ax: Axes | None = None,
    label: str | None = None,
    color: Any = None,
    marker: str = "o",
    bars: str = STANDARD_ERROR,
) -> Axes:
    """Draw measured values as points with bars from value − error to value + error.

    **Arguments**

    - `x`: Where the values were measured (points,).
    - `values`: The values (points,).
    - `errors`: Their errors, as long or, below and above, (2, points); not negative.
    - `ax`: The axis to draw on; without it a new figure is made.
    - `label`: The name of the points in the legend.
    - `color`: The colour of points and bars; by default the next of the axis.
    - `marker`: The shape of the points, as `matplotlib` names it.
    - `bars`: The meaning of the bars in the legend, which names it once on each axis.

    **Returns** the axis.

    **Raises** ValueError for other shapes, values that are not finite, and negative errors.

    **Example**

    >>> import rqf_jax as rqf
    >>> ax = rqf.plot.error_bars([1, 2], [0.5, 0.3], [0.1, 0.1], bars="95 % interval")
    >>> rqf.plot.legend(ax)
    >>> ax.get_legend().get_texts()[-1].get_text()
    '95 % interval'
    """
    x, values, below, above = _measured(x, values, errors)
    ax = axis(ax)
    ax.errorbar(
        x,
        values,
        yerr=[below, above],
        fmt=marker,
        color=color,
        markersize=3,
        markeredgewidth=0 if marker in Line2D.filled_markers else None,
        elinewidth=0.9,
        label=label,
        zorder=3,
    )
    if bars not in _names(ax):
        ax.plot([], [], "|", color=PALE, markersize=8, label=bars, gid=MEANING)
    return ax


def theory_line(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Draw a curve of theory, dashed above all else; the legend names theory once on each axis."""
    label = None if "theory" in _names(ax) else "theory"
    ax.plot(x, y, "--", color=INK, linewidth=1.0, zorder=4, label=label)


def legend(ax: Axes, **options: Any) -> None:
    """Give `ax` a legend: the series first, then theory, then the meaning of bands and bars.

    `options` are those of `matplotlib.axes.Axes.legend`. Without names there is no legend.
    """
    handles, names = ax.get_legend_handles_labels()

    def place(i: int) -> int:
        meaning = isinstance(handles[i], Artist) and handles[i].get_gid() == MEANING
        return 2 if meaning else 1 if names[i] == "theory" else 0

    if names:
        order = sorted(range(len(names)), key=place)
        ax.legend([handles[i] for i in order], [names[i] for i in order], **options)


def _names(ax: Axes) -> list[str]:
    return ax.get_legend_handles_labels()[1]


def _measured(x: Any, values: Any, errors: Any) -> tuple[np.ndarray, ...]:
    x, values, errors = finite(x, "x"), finite(values, "values"), finite(errors, "errors")
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"`x` must be (points,), not empty; got shape {x.shape}.")
    if values.shape != x.shape:
        raise ValueError(f"`values` must have the shape {x.shape} of `x`; got {values.shape}.")
    if errors.shape not in (x.shape, (2, *x.shape)):
        raise ValueError(
            f"`errors` must have shape {x.shape} or {(2, *x.shape)}; got shape {errors.shape}."
        )
    if np.any(errors < 0):
        raise ValueError(f"`errors` must not be negative; got {errors.min():g}.")
    below, above = errors if errors.ndim == 2 else (errors, errors)
    return x, values, below, above
