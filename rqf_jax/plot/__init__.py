"""Figures: each function draws on one axis and returns it.

Every band and every bar is named in the legend, and every time axis says its unit. Nothing here
calls `plt.show` or changes `rcParams`; `with style():` makes the figures drawn inside it fit for a
paper. With `ax=None` a function makes a figure of its own, found at `ax.figure`; its
`savefig("name.pdf")` writes PNG, PDF or SVG, by the ending of the name.
"""

from ._canvas import PALETTE, shades, style
from .curves import fan, mean_lines
from .densities import (
    angle_histogram,
    phase_diagram,
    spectrum,
)
from .errors import error_band, error_bars, legend
from .globe import sphere
from .koopman import koopman
from .rivals import rivals

__all__ = [
    "PALETTE",
    "angle_histogram",
    "error_band",
    "error_bars",
    "fan",
    "koopman",
    "legend",
    "mean_lines",
    "phase_diagram",
    "rivals",
    "shades",
    "spectrum",
    "sphere",
    "style",
]


def __dir__() -> list[str]:
    return __all__
