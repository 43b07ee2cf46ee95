"""Figures of densities, and of numbers on a grid of two parameters."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from .._arguments import Real, called, integer, maybe, number, takes, words
from ..theory.dyson import semicircle_density
from ._canvas import INK, PALETTE, axis, finite, pair
from .curves import matching
from .errors import legend, theory_line


@takes(label=maybe(words))
def angle_histogram(
    angles: Real,
    *,
    density: Callable[[np.ndarray], Real] | tuple[Real, Real] | None = None,
    ax: Axes | None = None,
    bins: int = 60,
    label: str | None = None,
) -> Axes:
    """Draw the histogram of angles in [0, π], of area 1, with a density over it.

    Where the density grows without bound at 0 or π, the axis follows the histogram.

    **Arguments**

    - `angles`: Angles of any shape, in radians.
    - `density`: The density in theory, a function of an array of angles or a pair of arrays
      (angles, density); drawn as a dashed line.
    - `ax`: The axis to draw on; without it a new figure is made.
    - `bins`: The number of bins of [0, π].
    - `label`: The name of the histogram in the legend.

    **Returns** the axis.

    **Raises** ValueError without angles, for angles outside [0, π] or not finite, and for `bins` <
    1.

    **Example**

    >>> import numpy as np, rqf_jax as rqf
    >>> angles = np.arccos(np.random.default_rng(0).uniform(-1, 1, 1000))
    >>> ax = rqf.plot.angle_histogram(angles, density=lambda theta: np.sin(theta) / 2)
    >>> print(ax.get_xlabel(), ax.get_xlim()[0])
    angle $\\theta$ (radians) 0.0
    """
    angles = finite(angles, "angles").reshape(-1)
    if angles.size == 0:
        raise ValueError("`angles` must hold at least one angle; got none.")
    outside = angles[(angles < -1e-6) | (angles > math.pi + 1e-6)]
    if outside.size:
        raise ValueError(f"`angles` must lie in [0, pi]; got {outside[0]:g}.")
    integer("bins", bins, maximum=10**6)
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
        theory_line(ax, theta, curve)
        inner = (theta > edges[1]) & (theta < edges[-2])
        top = max([top, *curve[inner]])
    ax.set_ylim(0, 1.08 * top)
    ax.set_xlim(0, math.pi)
    ax.set_xticks([0, math.pi / 2, math.pi], ["$0$", r"$\pi/2$", r"$\pi$"])
    ax.set_xlabel(r"angle $\theta$ (radians)")
    ax.set_ylabel("probability density")
    legend(ax)
    return ax


@takes(label=maybe(words))
def spectrum(
    values: Real,
    *,
    edge: Real | None = None,
    density: tuple[Real, Real] | None = None,
    ax: Axes | None = None,
    bins: int = 60,
    label: str | None = None,
) -> Axes:
    """Draw the histogram of eigenvalues, of area 1, with their law over it.

    **Arguments**

    - `values`: Eigenvalues of any shape.
    - `edge`: Where the semicircle ends that is their law (`theory.dyson.edge`).
    - `density`: Another law instead, a pair of arrays (value, density). Where some eigenvalues
      are no part of it, its area is the share of those that are.
    - `ax`: The axis to draw on; without it a new figure is made.
    - `bins`: The number of bins between the least and the largest value.
    - `label`: The name of the histogram in the legend.

    **Returns** the axis.

    **Raises** ValueError without values, for values that are not finite, for `bins` < 1, for an
    edge that is not one positive number, and if both laws are given.

    **Example**

    >>> import numpy as np, rqf_jax as rqf
    >>> matrices = np.random.default_rng(0).normal(size=(50, 30, 30))
    >>> values = np.linalg.eigvalsh((matrices + matrices.transpose(0, 2, 1)) / 2**0.5)
    >>> ax = rqf.plot.spectrum(values, edge=2 * 30**0.5)
    """
    values = finite(values, "values").reshape(-1)
    if values.size == 0:
        raise ValueError("`values` must hold at least one eigenvalue; got none.")
    integer("bins", bins, maximum=10**6)
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
    least, most = float(values.min()), float(values.max())
    # Bins of equal values must be wide enough for their walls to differ.
    margin = max(0.5, 1e-3 * abs(least)) if most - least <= 1e-9 * abs(least) else 0.0
    heights, walls = np.histogram(
        values, bins=bins, range=(least - margin, most + margin), density=True
    )
    ax.stairs(heights, walls, fill=True, color=PALETTE[0], alpha=0.35, linewidth=0, label=label)
    if curve is not None:
        theory_line(ax, *curve)
    ax.set_xlabel(r"eigenvalue $\lambda$")
    ax.set_ylabel("probability density")
    legend(ax)
    return ax


@takes(xlabel=maybe(words), ylabel=maybe(words), label=maybe(words), threshold=words)
def phase_diagram(
    x: Real,
    y: Real,
    values: Real,
    *,
    boundary: tuple[Real, Real] | None = None,
    ax: Axes | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    label: str | None = None,
    limits: tuple[float, float] | None = None,
    threshold: str = "theory",
) -> Axes:
    """Draw a quantity on a grid of two parameters as colours, with a curve of theory over it.

    A cell reaches half way to its neighbours and never beyond the grid, so that nothing is drawn
    for parameters that nobody tried: cells at the rim are half as wide as those inside.

    **Arguments**

    - `x`: The first parameter (columns,), strictly increasing.
    - `y`: The second parameter (rows,), strictly increasing.
    - `values`: The quantity (columns, rows), its first axis along `x`.
    - `boundary`: A curve of theory, a pair of arrays (x, y), drawn as a dashed line.
    - `ax`: The axis to draw on; without it a new figure is made.
    - `xlabel`: The label of the first parameter.
    - `ylabel`: The label of the second parameter.
    - `label`: The label of the colours.
    - `limits`: The values of the first and the last colour; by default the least and the largest.
    - `threshold`: The name of the boundary in the legend, which stands above the axis.

    **Returns** the axis.

    **Raises** ValueError for other shapes, grids that do not increase and values that are not
    finite.

    **Example**

    >>> import numpy as np, rqf_jax as rqf
    >>> sigma, beta = np.linspace(0.0, 1.0, 5), np.linspace(0.0, 2.0, 9)
    >>> ax = rqf.plot.phase_diagram(sigma, beta, np.outer(sigma, beta), xlabel="noise σ")
    >>> print(*ax.get_xlim())
    0.0 1.0
    """
    limits = None if limits is None else pair("limits", limits)
    boundary = None if boundary is None else pair("boundary", boundary)
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
    low, high = (None, None)
    if limits is not None:
        low, high = (float(number()("limits", limit)) for limit in limits)
    walls = [_walls(grid) for grid in grids.values()]
    image = ax.pcolormesh(*walls, values.T, cmap="cividis", vmin=low, vmax=high)
    image.set_rasterized(True)
    ax.figure.colorbar(image, ax=ax, label="" if label is None else label)
    if boundary is not None:
        curve = [finite(part, f"boundary[{i}]") for i, part in enumerate(boundary)]
        if curve[0].shape != curve[1].shape:
            raise ValueError(
                "`boundary` must be a pair of arrays of one shape; got "
                f"{curve[0].shape} and {curve[1].shape}."
            )
        # White under ink, to be seen on every colour.
        ax.plot(*curve, color="white", linewidth=2.6)
        ax.plot(*curve, "--", color=INK, linewidth=1.2, label=threshold)
        legend(ax, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    ax.set(xlim=grids["x"][[0, -1]], ylim=grids["y"][[0, -1]])
    if xlabel is not None:
        ax.set_xlabel(xlabel)
    if ylabel is not None:
        ax.set_ylabel(ylabel)
    return ax


def _walls(grid: np.ndarray) -> np.ndarray:
    """The edges of the cells about the points of a grid, which they do not leave."""
    return np.concatenate([grid[:1], (grid[1:] + grid[:-1]) / 2, grid[-1:]])


def _density_curve(density: Any) -> tuple[np.ndarray, np.ndarray]:
    if not callable(density):
        pair("density", density)
    if callable(density):
        # Midpoints: the ends, where a density may be infinite, are left out.
        theta = (np.arange(600) + 0.5) * (math.pi / 600)
        values = called("an array of angles")("density", density)(theta)
        return theta, matching(values, theta, "density(theta)")
    theta = finite(density[0], "density[0]")
    if theta.ndim != 1:
        raise ValueError(f"`density[0]` must be (points,); got shape {theta.shape}.")
    return theta, matching(density[1], theta, "density[1]")
