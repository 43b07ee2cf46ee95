"""Koopman eigenvalues in the complex plane, coloured by their residual."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from .._arguments import shown
from ._canvas import INK, axis


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
    for chosen, marker, sign in ((inside, "o", "≤"), (~inside, "x", ">")):
        if chosen.any():
            ax.scatter(
                np.real(values[chosen]),
                np.imag(values[chosen]),
                c=logs[chosen],
                marker=marker,
                s=16,
                norm=scale,
                label=f"residual {sign} {modes.bound:g}",
                zorder=3,
            )
    colours = ScalarMappable(scale)
    ax.figure.colorbar(colours, ax=ax, label="residual (decimal logarithm)")
    ax.set(xlabel="real part", ylabel="imaginary part", aspect="equal")
    ax.legend()
    return ax
