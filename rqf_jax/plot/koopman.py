"""Koopman eigenvalues in the complex plane, coloured by their residual."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize

from .._arguments import shown
from ._canvas import INK, axis, shades


def koopman(modes: Any, *, ax: Axes | None = None) -> Axes:
    """Draw eigenvalues in the complex plane, coloured by residual, beside the unit circle.

    Modes within the bound are dots, those above it crosses. `modes` is what
    `analysis.koopman_modes` returns. Raises ValueError for anything else.
    """
    if not all(hasattr(modes, name) for name in ("eigenvalues", "residuals", "within_bound")):
        raise ValueError(
            "`modes` must be an `analysis.KoopmanModes`, as `analysis.koopman_modes` returns; got "
            f"{shown(modes)}."
        )
    ax = axis(ax)
    turn = np.linspace(0.0, 2 * np.pi, 200)
    ax.plot(np.cos(turn), np.sin(turn), "--", color=INK, linewidth=0.8, zorder=1)
    values, inside = np.asarray(modes.eigenvalues, complex), np.asarray(modes.within_bound)
    logs = np.log10(np.maximum(np.asarray(modes.residuals, float), np.finfo(float).eps))
    # A scale of some width, also where all residuals are one.
    scale = Normalize(logs.min(), max(logs.max(), logs.min() + 1))
    colours = ListedColormap(shades(256))
    for chosen, marker, sign in ((inside, "o", "≤"), (~inside, "x", ">")):
        if chosen.any():
            ax.scatter(
                np.real(values[chosen]),
                np.imag(values[chosen]),
                c=logs[chosen],
                marker=marker,
                s=16,
                norm=scale,
                cmap=colours,
                label=f"residual {sign} {modes.bound:g}",
                zorder=3,
            )
    ax.figure.colorbar(ScalarMappable(scale, colours), ax=ax, label="residual (decimal logarithm)")
    ax.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    # Above the axis, where it hides no eigenvalue.
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return ax
