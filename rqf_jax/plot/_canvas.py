"""The look that all figures share, and the checks of their arguments."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import rcsetup
from matplotlib.axes import Axes

from .._arguments import host, integer, part, shown

# Okabe & Ito's colours, told apart with every common colour blindness; yellow, too pale for lines
# on white, is left out.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK = "#222222"
PALE = "#9a9a9a"
TIME = "time $t$ (dimensionless)"
STANDARD_ERROR = "± 1 standard error"


def shades(count: int) -> list[tuple[float, float, float, float]]:
    """Return `count` colours from dark to light, for curves whose labels are ordered numbers.

    A reader then sees the order without the legend, also in black and white. `PALETTE` is for
    labels without an order. Raises ValueError for `count` < 1.
    """
    count = integer("count", count, maximum=10**6)
    scale = matplotlib.colormaps["viridis"]
    return [scale(place) for place in np.linspace(0.0, 0.88, count)]


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


def finite(value: Any, name: str) -> np.ndarray:
    """`value` as an array of floats; ValueError that names it where one is not finite."""
    array = host(name, value)
    if not np.all(np.isfinite(array)):
        bad = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ValueError(f"`{name}` must be finite; got {array[bad]} at index {bad}.")
    return array


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """`value` as two things; ValueError otherwise."""
    sequence = isinstance(value, tuple | list) or getattr(value, "ndim", 0) > 0
    if not sequence or len(value) != 2:
        raise ValueError(f"`{name}` must be a pair; got {shown(value)}.")
    return value[0], value[1]


def axis(ax: Axes | None) -> Axes:
    """`ax`, or the axis of a new figure."""
    if ax is None:
        return plt.subplots(layout="constrained")[1]
    return part(Axes, "an axis of matplotlib")("ax", ax)
