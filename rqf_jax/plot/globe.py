"""Tokens on the sphere S² as a picture."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Circle

from .._arguments import Real, number
from ._canvas import PALE, PALETTE, axis, finite, shades


def sphere(
    x: Real,
    *,
    ax: Axes | None = None,
    elevation: float = 20.0,
    azimuth: float = 30.0,
) -> Axes:
    """Draw tokens on the unit sphere S^2, seen from afar; tokens behind the sphere are pale.

    Every token keeps one colour. The projection is orthographic and the axis an ordinary one, so it
    fits any panel and stays vector graphics.

    **Arguments**

    - `x`: One state (tokens, 3), drawn as points, or one member's trajectory (times, tokens, 3):
      then each token has a trail of great-circle arcs from its start (ring) to its end (dot).
    - `ax`: The axis to draw on; without it a new figure is made.
    - `elevation`: The latitude of the viewer in degrees.
    - `azimuth`: The longitude of the viewer in degrees.

    **Returns** the axis.

    **Raises** ValueError for other shapes, and for tokens that are not of unit length (1e-3).

    **Example**

    >>> ax = rqf.plot.sphere(np.eye(3), elevation=30.0)
    >>> ax.get_aspect()
    1.0
    """
    x = finite(x, "x")
    if x.ndim not in (2, 3) or x.shape[-1] != 3 or 0 in x.shape:
        raise ValueError(f"`x` must be (tokens, 3) or (times, tokens, 3); got shape {x.shape}.")
    defect = np.max(np.abs(np.linalg.norm(x, axis=-1) - 1))
    if defect > 1e-3:
        raise ValueError(f"`x` must have unit tokens; got a length {defect:g} away from 1.")
    trajectory = x if x.ndim == 3 else x[None]
    tokens = trajectory.shape[1]
    ax = axis(ax)
    view = _view(float(number()("elevation", elevation)), float(number()("azimuth", azimuth)))
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


def _token_colours(tokens: int) -> np.ndarray:
    """The palette while it lasts; more tokens share a smooth scale by index."""
    if tokens <= len(PALETTE):
        return np.array([to_rgba(colour) for colour in PALETTE[:tokens]])
    return np.array(shades(tokens))


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
