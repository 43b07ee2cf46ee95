"""Figures: each function draws on one axis and returns it.

Nothing here calls `plt.show` or changes `rcParams`; `with style():` makes what is drawn inside it
fit for a paper. With `ax=None` a function makes a figure of its own, found at `ax.figure`.
"""

from ._canvas import PALETTE as PALETTE, style as style
from .curves import (
    angle_histogram as angle_histogram,
    fan as fan,
    mean_lines as mean_lines,
    phase_diagram as phase_diagram,
    spectrum as spectrum,
)
from .globe import sphere as sphere
