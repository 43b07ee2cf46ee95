"""Figures: each function draws on one axis and returns it.

Every band and every bar is named in the legend, and every time axis says its unit. Nothing here
calls `plt.show` or changes `rcParams`; `with style():` makes the figures drawn inside it fit for a
paper. With `ax=None` a function makes a figure of its own, found at `ax.figure`; its
`savefig("name.pdf")` writes PNG, PDF or SVG, by the ending of the name.
"""

from ._canvas import PALETTE as PALETTE, shades as shades, style as style
from .curves import fan as fan, mean_lines as mean_lines
from .densities import (
    angle_histogram as angle_histogram,
    phase_diagram as phase_diagram,
    spectrum as spectrum,
)
from .errors import error_band as error_band, error_bars as error_bars, legend as legend
from .globe import sphere as sphere
