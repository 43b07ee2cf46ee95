"""Figures of numbers in time, of densities and of grids."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from ..theory.dyson import semicircle_density
from ._canvas import INK, PALETTE, axis, finite


def fan(
    ts: ArrayLike,
    values: ArrayLike,
    *,
    ax: Axes | None = None,
    ylabel: str | None = None,
    theory: ArrayLike | None = None,
    label: str | None = None,
) -> Axes:
    """The mean over members against time, in bands that hold 50 % and 90 % of the members.

    `ts` (times,), `values` (members, times); `theory` (times,), for the mean, is dashed over it.
    The bands are quantiles of the ensemble, not the error of the mean (see `mean_lines`).

    Raises ValueError for other shapes and for values that are not finite.
    """
    ts, values = _series(ts, values, "values")
    curve = None if theory is None else _matching(theory, ts, "theory")
    ax = axis(ax)
    (line,) = ax.plot(ts, values.mean(0), label=label, zorder=3)
    for low, high, alpha in ((0.05, 0.95, 0.15), (0.25, 0.75, 0.25)):
        lower, upper = np.quantile(values, [low, high], axis=0)
        ax.fill_between(
            ts, lower, upper, color=line.get_color(), alpha=alpha, linewidth=0, zorder=2
        )
    if curve is not None:
        _theory_line(ax, ts, curve)
    _time_axis(ax, ylabel)
    _legend(ax)
    return ax


def mean_lines(
    ts: ArrayLike,
    values: Mapping[str, ArrayLike],
    *,
    theory: Mapping[str, ArrayLike] | None = None,
    ax: Axes | None = None,
    ylabel: str | None = None,
) -> Axes:
    """Means over members against time as points with standard errors, theory dashed over them.

    `ts` (times,); `values` maps a label to (members, times), one colour each; `theory` maps some of
    the same labels to (times,). Error bars are one standard error, s / sqrt(members). At most
    30 points of a series are marked; its line holds them all.

    Raises ValueError for other shapes, values that are not finite, fewer than 2 members, and a
    theory whose label has no values.
    """
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
        curves[name] = _matching(curve, series[name][0], f"theory[{name!r}]")
    ax = axis(ax)
    for name, (times, value) in series.items():
        every = math.ceil(len(times) / 30)
        points, _, (bars,) = ax.errorbar(
            times,
            value.mean(0),
            yerr=value.std(0, ddof=1) / math.sqrt(len(value)),
            fmt="o",
            markersize=3,
            markeredgewidth=0,
            elinewidth=0.8,
            markevery=every,
            errorevery=every,
            label=name,
            zorder=3,
        )
        if name in curves:
            _theory_line(ax, times, curves[name])
        else:
            # Without theory an unmarked run of points is hard to follow.
            ax.plot(times, value.mean(0), color=points.get_color(), linewidth=0.6, zorder=2)
        bars.set_zorder(2.5)
    _time_axis(ax, ylabel)
    # Above the axis: curves that start apart and end apart leave no free corner inside.
    handles, names = ax.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: names[i] == "theory")
    ax.legend(
        [handles[i] for i in order],
        [names[i] for i in order],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=min(3, len(names)),
        columnspacing=1.2,
    )
    return ax


def angle_histogram(
    angles: ArrayLike,
    *,
    density: Callable[[np.ndarray], ArrayLike] | tuple[ArrayLike, ArrayLike] | None = None,
    ax: Axes | None = None,
    bins: int = 60,
    label: str | None = None,
) -> Axes:
    """The histogram of angles in [0, pi], with area 1, and a density over it.

    `angles` of any shape, in radians; `density` is a function of an array of angles or a pair of
    arrays (theta, density), drawn as a line. Where the density grows without bound at 0 or pi the
    axis follows the histogram.

    Raises ValueError without angles, for angles outside [0, pi] or not finite, and for `bins` < 1.
    """
    angles = finite(angles, "angles").reshape(-1)
    if angles.size == 0:
        raise ValueError("`angles` must hold at least one angle; got none.")
    outside = angles[(angles < -1e-6) | (angles > math.pi + 1e-6)]
    if outside.size:
        raise ValueError(f"`angles` must lie in [0, pi]; got {outside[0]:g}.")
    if bins < 1:
        raise ValueError(f"`bins` must be at least 1; got {bins}.")
    theory = None if density is None else _density_curve(density)
    ax = axis(ax)
    # The float32 number nearest to pi lies above pi, hence the clip.
    heights, edges = np.histogram(
        np.clip(angles, 0, math.pi), bins=bins, range=(0, math.pi), density=True
    )
    ax.stairs(heights, edges, fill=True, color=PALETTE[0], alpha=0.35, linewidth=0, label=label)
    top = float(heights.max())
    if theory is not None:
        theta, curve = theory
        _theory_line(ax, theta, curve)
        inner = (theta > edges[1]) & (theta < edges[-2])
        top = max([top, *curve[inner]])
    ax.set_ylim(0, 1.08 * top)
    ax.set_xlim(0, math.pi)
    ax.set_xticks([0, math.pi / 2, math.pi], ["$0$", r"$\pi/2$", r"$\pi$"])
    ax.set_xlabel(r"angle $\theta$")
    ax.set_ylabel("probability density")
    _legend(ax)
    return ax


def spectrum(
    values: ArrayLike,
    *,
    edge: ArrayLike | None = None,
    density: tuple[ArrayLike, ArrayLike] | None = None,
    ax: Axes | None = None,
    bins: int = 60,
    label: str | None = None,
) -> Axes:
    """The histogram of eigenvalues, with area 1, and their law over it.

    `values` of any shape; `edge` draws the semicircle that ends there (`theory.dyson.edge`),
    `density` a pair of arrays (value, density), another law.

    Raises ValueError without values, for values that are not finite, for `bins` < 1, for an edge
    that is not one positive number, and if both laws are given.
    """
    values = finite(values, "values").reshape(-1)
    if values.size == 0:
        raise ValueError("`values` must hold at least one eigenvalue; got none.")
    if bins < 1:
        raise ValueError(f"`bins` must be at least 1; got {bins}.")
    if edge is not None and density is not None:
        raise ValueError("`density` must not be given beside `edge`, a law itself; got both.")
    curve = None
    if edge is not None:
        end = finite(edge, "edge")
        if end.ndim or not end > 0:
            raise ValueError(f"`edge` must be one positive number; got {edge}.")
        # Angles, so that the curve is smooth where its slope is infinite.
        x = float(end) * np.cos(np.linspace(math.pi, 0, 400))
        curve = x, np.asarray(semicircle_density(x, float(end)))
    elif density is not None:
        curve = _density_curve(density)
    ax = axis(ax)
    heights, walls = np.histogram(values, bins=bins, density=True)
    ax.stairs(heights, walls, fill=True, color=PALETTE[0], alpha=0.35, linewidth=0, label=label)
    if curve is not None:
        _theory_line(ax, *curve)
    ax.set_xlabel(r"eigenvalue $\lambda$")
    ax.set_ylabel("probability density")
    _legend(ax)
    return ax


def phase_diagram(
    x: ArrayLike,
    y: ArrayLike,
    values: ArrayLike,
    *,
    boundary: tuple[ArrayLike, ArrayLike] | None = None,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    label: str | None = None,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """A quantity on a grid of two parameters, as colours, with a theoretical boundary over it.

    `values` (len(x), len(y)), the first axis along `x`; both grids strictly increasing. `boundary`
    is a curve (x, y), drawn as a line; `label` names the colours and `limits` are their range.

    Raises ValueError for other shapes, grids that do not increase and values that are not finite.
    """
    grids = {"x": finite(x, "x"), "y": finite(y, "y")}
    for name, grid in grids.items():
        if grid.ndim != 1 or grid.size < 2 or np.any(np.diff(grid) <= 0):
            raise ValueError(f"`{name}` must be at least 2 increasing numbers; got {grid}.")
    values = finite(values, "values")
    if values.shape != (grids["x"].size, grids["y"].size):
        raise ValueError(
            f"`values` must have shape {(grids['x'].size, grids['y'].size)}; got {values.shape}."
        )
    ax = axis(ax)
    low, high = (None, None) if limits is None else limits
    image = ax.pcolormesh(grids["x"], grids["y"], values.T, cmap="cividis", vmin=low, vmax=high)
    image.set_rasterized(True)
    ax.figure.colorbar(image, ax=ax, label="" if label is None else label)
    if boundary is not None:
        curve = [finite(part, f"boundary[{i}]") for i, part in enumerate(boundary)]
        view = ax.get_xlim(), ax.get_ylim()
        # White under ink, to be seen on every colour.
        ax.plot(*curve, color="white", linewidth=2.6)
        ax.plot(*curve, "--", color=INK, linewidth=1.2)
        ax.set(xlim=view[0], ylim=view[1])
    if xlabel is not None:
        ax.set_xlabel(xlabel)
    if ylabel is not None:
        ax.set_ylabel(ylabel)
    return ax


def _series(ts: Any, values: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    ts, values = finite(ts, "ts"), finite(values, name)
    if ts.ndim != 1 or ts.size == 0:
        raise ValueError(f"`ts` must be (times,), not empty; got shape {ts.shape}.")
    if values.ndim != 2 or values.shape[1] != len(ts) or len(values) == 0:
        raise ValueError(
            f"`{name}` must be (members, times) with {len(ts)} times; got shape {values.shape}."
        )
    return ts, values


def _matching(value: Any, grid: np.ndarray, name: str) -> np.ndarray:
    array = finite(value, name)
    if array.shape != grid.shape:
        raise ValueError(f"`{name}` must have shape {grid.shape}; got shape {array.shape}.")
    return array


def _density_curve(density: Any) -> tuple[np.ndarray, np.ndarray]:
    if callable(density):
        # Midpoints: the ends, where a density may be infinite, are left out.
        theta = (np.arange(600) + 0.5) * (math.pi / 600)
        return theta, _matching(density(theta), theta, "density(theta)")
    theta = finite(density[0], "density[0]")
    if theta.ndim != 1:
        raise ValueError(f"`density[0]` must be (points,); got shape {theta.shape}.")
    return theta, _matching(density[1], theta, "density[1]")


def _theory_line(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    named = "theory" in ax.get_legend_handles_labels()[1]
    ax.plot(x, y, "--", color=INK, linewidth=1.0, zorder=4, label=None if named else "theory")


def _time_axis(ax: Axes, ylabel: str | None) -> None:
    ax.set_xlabel("time $t$")
    ax.margins(x=0.02)
    if ylabel is not None:
        ax.set_ylabel(ylabel)


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[1]:
        ax.legend()
