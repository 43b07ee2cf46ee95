"""Figures: each function draws on one axis and returns it.

Nothing here calls `plt.show` or changes `rcParams`; `with style():` makes what is drawn inside it
fit for a paper. With `ax=None` a function makes a figure of its own, found at `ax.figure`.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import rcsetup
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from .theory.dyson import semicircle_density

# Okabe & Ito's colours, told apart with every common colour blindness; yellow, too pale for lines
# on white, is left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#222222"
PALE = "#9a9a9a"


@contextmanager
def style() -> Iterator[None]:
    """A context in which figures look as in a paper: single column, serif, thin, colour-blind safe.

    `with rqf.plot.style(): ax = rqf.plot.fan(...); ax.figure.savefig(...)`. On leaving, all
    `rcParams` are what they were.
    """
    with matplotlib.rc_context(
        {
            "font.family": "STIXGeneral",  # ships with matplotlib, so no machine lacks it
            "mathtext.fontset": "stix",
            "font.size": 9,
            "axes.labelsize": 9,
            "axes.titlesize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "figure.figsize": (3.4, 2.5),
            "figure.dpi": 150,
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": rcsetup.cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "xtick.direction": "out",
            "ytick.direction": "out",
            "lines.linewidth": 1.2,
            "lines.markersize": 3.5,
            "legend.frameon": False,
            "legend.handlelength": 1.8,
            "legend.borderaxespad": 0.2,
            "pdf.fonttype": 42,
        }
    ):
        try:
            yield
        finally:
            # A notebook's backend turns interactive mode on with the first figure; undone on
            # leaving, no later figure would be shown.
            interactive = matplotlib.is_interactive()
    matplotlib.interactive(interactive)


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
    ax = _axis(ax)
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
    ax = _axis(ax)
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
    angles = _finite(angles, "angles").reshape(-1)
    if angles.size == 0:
        raise ValueError("`angles` must hold at least one angle; got none.")
    outside = angles[(angles < -1e-6) | (angles > math.pi + 1e-6)]
    if outside.size:
        raise ValueError(f"`angles` must lie in [0, pi]; got {outside[0]:g}.")
    if bins < 1:
        raise ValueError(f"`bins` must be at least 1; got {bins}.")
    theory = None if density is None else _density_curve(density)
    ax = _axis(ax)
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
    values = _finite(values, "values").reshape(-1)
    if values.size == 0:
        raise ValueError("`values` must hold at least one eigenvalue; got none.")
    if bins < 1:
        raise ValueError(f"`bins` must be at least 1; got {bins}.")
    if edge is not None and density is not None:
        raise ValueError("`density` must not be given beside `edge`, a law itself; got both.")
    curve = None
    if edge is not None:
        end = _finite(edge, "edge")
        if end.ndim or not end > 0:
            raise ValueError(f"`edge` must be one positive number; got {edge}.")
        # Angles, so that the curve is smooth where its slope is infinite.
        x = float(end) * np.cos(np.linspace(math.pi, 0, 400))
        curve = x, np.asarray(semicircle_density(x, float(end)))
    elif density is not None:
        curve = _density_curve(density)
    ax = _axis(ax)
    heights, walls = np.histogram(values, bins=bins, density=True)
    ax.stairs(heights, walls, fill=True, color=PALETTE[0], alpha=0.35, linewidth=0, label=label)
    if curve is not None:
        _theory_line(ax, *curve)
    ax.set_xlabel(r"eigenvalue $\lambda$")
    ax.set_ylabel("probability density")
    _legend(ax)
    return ax


def sphere(
    x: ArrayLike,
    *,
    ax: Axes | None = None,
    elevation: float = 20.0,
    azimuth: float = 30.0,
) -> Axes:
    """Tokens on the unit sphere S^2, seen from afar; what is behind the sphere is faded.

    `x` is one state (tokens, 3), drawn as points, or one member's trajectory (times, tokens, 3):
    then each token has a trail of great-circle arcs from its start (ring) to its end (dot). Every
    token keeps one colour. `elevation` and `azimuth` of the viewer are in degrees. The projection
    is orthographic and the axis an ordinary one, so it fits any panel and stays vector graphics.

    Raises ValueError for other shapes, and for tokens that are not of unit length (1e-3).
    """
    x = _finite(x, "x")
    if x.ndim not in (2, 3) or x.shape[-1] != 3 or 0 in x.shape:
        raise ValueError(f"`x` must be (tokens, 3) or (times, tokens, 3); got shape {x.shape}.")
    defect = np.max(np.abs(np.linalg.norm(x, axis=-1) - 1))
    if defect > 1e-3:
        raise ValueError(f"`x` must have unit tokens; got a length {defect:g} away from 1.")
    trajectory = x if x.ndim == 3 else x[None]
    tokens = trajectory.shape[1]
    ax = _axis(ax)
    view = _view(elevation, azimuth)
    _draw_globe(ax, view)
    colours = _token_colours(tokens)
    if len(trajectory) > 1:
        for token, colour in zip(np.swapaxes(trajectory, 0, 1), colours, strict=True):
            curve = _great_circles(token)
            strength = np.linspace(0.3, 0.95, len(curve) - 1)  # the past pales
            width = 0.9 if tokens <= len(PALETTE) else 0.6
            _draw_curve(ax, curve @ view.T, colour, strength, width, 3.0)
        _draw_points(ax, trajectory[0] @ view.T, colours, ring=True)
    _draw_points(ax, trajectory[-1] @ view.T, colours, ring=False)
    ax.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04), aspect="equal")
    ax.set_axis_off()
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
    grids = {"x": _finite(x, "x"), "y": _finite(y, "y")}
    for name, grid in grids.items():
        if grid.ndim != 1 or grid.size < 2 or np.any(np.diff(grid) <= 0):
            raise ValueError(f"`{name}` must be at least 2 increasing numbers; got {grid}.")
    values = _finite(values, "values")
    if values.shape != (grids["x"].size, grids["y"].size):
        raise ValueError(
            f"`values` must have shape {(grids['x'].size, grids['y'].size)}; got {values.shape}."
        )
    ax = _axis(ax)
    low, high = (None, None) if limits is None else limits
    image = ax.pcolormesh(grids["x"], grids["y"], values.T, cmap="cividis", vmin=low, vmax=high)
    image.set_rasterized(True)
    ax.figure.colorbar(image, ax=ax, label="" if label is None else label)
    if boundary is not None:
        curve = [_finite(part, f"boundary[{i}]") for i, part in enumerate(boundary)]
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


def _finite(value: Any, name: str) -> np.ndarray:
    array = np.asarray(value, float)
    if not np.all(np.isfinite(array)):
        bad = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"`{name}` must be finite; got {array[bad]} at index {bad}.")
    return array


def _series(ts: Any, values: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    ts, values = _finite(ts, "ts"), _finite(values, name)
    if ts.ndim != 1 or ts.size == 0:
        raise ValueError(f"`ts` must be (times,), not empty; got shape {ts.shape}.")
    if values.ndim != 2 or values.shape[1] != len(ts) or len(values) == 0:
        raise ValueError(
            f"`{name}` must be (members, times) with {len(ts)} times; got shape {values.shape}."
        )
    return ts, values


def _matching(value: Any, grid: np.ndarray, name: str) -> np.ndarray:
    array = _finite(value, name)
    if array.shape != grid.shape:
        raise ValueError(f"`{name}` must have shape {grid.shape}; got shape {array.shape}.")
    return array


def _density_curve(density: Any) -> tuple[np.ndarray, np.ndarray]:
    if callable(density):
        # Midpoints: the ends, where a density may be infinite, are left out.
        theta = (np.arange(600) + 0.5) * (math.pi / 600)
        return theta, _matching(density(theta), theta, "density(theta)")
    theta = _finite(density[0], "density[0]")
    if theta.ndim != 1:
        raise ValueError(f"`density[0]` must be (points,); got shape {theta.shape}.")
    return theta, _matching(density[1], theta, "density[1]")


def _axis(ax: Axes | None) -> Axes:
    return plt.subplots(layout="constrained")[1] if ax is None else ax


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


def _token_colours(tokens: int) -> np.ndarray:
    """The palette while it lasts; more tokens share a smooth scale by index."""
    if tokens <= len(PALETTE):
        return np.array([to_rgba(colour) for colour in PALETTE[:tokens]])
    return matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, tokens))


def _view(elevation: float, azimuth: float) -> np.ndarray:
    """The rotation whose rows are the viewer's right, up and toward-the-eye directions."""
    up, around = math.radians(elevation), math.radians(azimuth)
    right = [-math.sin(around), math.cos(around), 0.0]
    eye = [math.cos(up) * math.cos(around), math.cos(up) * math.sin(around), math.sin(up)]
    return np.array([right, np.cross(eye, right), eye])


def _great_circles(points: np.ndarray) -> np.ndarray:
    """The points joined by arcs of great circles, about two degrees a step."""
    parts = []
    for start, end in pairwise(points):
        angle = 2 * math.atan2(np.linalg.norm(end - start), np.linalg.norm(end + start))
        weight = np.linspace(0, 1, max(2, math.ceil(angle / 0.035)), endpoint=False)[:, None]
        parts.append((1 - weight) * start + weight * end)
    curve = np.concatenate([*parts, points[-1:]])
    # Antipodal points have no unique arc: the straight line through the centre is left alone.
    length = np.linalg.norm(curve, axis=-1, keepdims=True)
    return curve / np.where(length > 1e-6, length, 1.0)


def _draw_curve(
    ax: Axes, curve: np.ndarray, colour: Any, strength: Any, width: float, zorder: float
) -> None:
    """A curve given in the viewer's frame, faded where it runs behind the sphere."""
    colours = np.tile(to_rgba(colour), (len(curve) - 1, 1))
    segments = np.stack([curve[:-1, :2], curve[1:, :2]], 1)
    front = curve[:-1, 2] + curve[1:, 2] >= 0
    for visible, fade, layer in ((front, 1.0, zorder), (~front, 0.3, 1.0)):
        colours[:, 3] = fade * strength
        ax.add_collection(
            LineCollection(
                list(segments[visible]),
                colors=colours[visible],
                linewidths=width,
                capstyle="butt",
                zorder=layer,
            )
        )


def _draw_points(ax: Axes, points: np.ndarray, colours: np.ndarray, *, ring: bool) -> None:
    front = points[:, 2] >= 0
    for visible, alpha, layer in ((front, 1.0, 5.0), (~front, 0.3, 1.5)):
        shade = colours[visible].copy()
        shade[:, 3] = alpha
        white = to_rgba("white", alpha)
        ax.scatter(
            *points[visible, :2].T,
            s=14 if ring else 22,
            facecolors=white if ring else list(shade),
            edgecolors=list(shade) if ring else white,
            linewidths=0.9 if ring else 0.5,
            zorder=layer + (0 if ring else 0.5),
        )


def _draw_globe(ax: Axes, view: np.ndarray) -> None:
    """A softly shaded ball with its outline and a graticule every 30 degrees."""
    outline = Circle((0, 0), 1, facecolor="none", edgecolor=PALE, linewidth=0.7, zorder=2)
    ax.add_patch(outline)
    grid = np.linspace(-1, 1, 301)
    u, v = np.meshgrid(grid, grid)
    depth = np.sqrt(np.clip(1 - u**2 - v**2, 0, None))
    light = np.array([-0.45, 0.55, 0.70]) / np.linalg.norm([-0.45, 0.55, 0.70])
    shade = 0.89 + 0.11 * np.clip(light[0] * u + light[1] * v + light[2] * depth, 0, 1)
    image = ax.imshow(
        shade, cmap="gray", vmin=0, vmax=1, extent=(-1, 1, -1, 1), origin="lower", zorder=0
    )
    image.set_clip_path(outline)
    turn = np.linspace(0, 2 * math.pi, 181)
    for latitude in np.radians([-60, -30, 0, 30, 60]):
        ring = [math.cos(latitude) * np.cos(turn), math.cos(latitude) * np.sin(turn)]
        circle = np.stack([*ring, np.full_like(turn, math.sin(latitude))], -1)
        _draw_curve(ax, circle @ view.T, PALE, 0.85, 0.35, 1.8)
    for longitude in np.radians([0, 30, 60, 90, 120, 150]):
        ring = np.cos(turn)
        circle = np.stack(
            [ring * math.cos(longitude), ring * math.sin(longitude), np.sin(turn)], -1
        )
        _draw_curve(ax, circle @ view.T, PALE, 0.85, 0.35, 1.8)
