"""Rival explanations of the layers of a model, by their gain on held-out sentences."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .._arguments import shown
from ._canvas import INK, PALETTE, axis
from .errors import error_bars

_MARKERS = "os^Dv<>PX*hpd"


@runtime_checkable
class Gains(Protocol):
    """The part of an `inference.Explanation` that is drawn: gains and their standard errors."""

    @property
    def names(self) -> Sequence[str]:
        """The explanations."""
        ...

    @property
    def gains(self) -> Float[np.ndarray, "layers rivals"]:
        """Nats per number over private noise."""
        ...

    @property
    def stderr(self) -> Float[np.ndarray, "layers rivals"]:
        """Standard errors of `gains`."""
        ...


def rivals(explanation: Gains, *, ax: Axes | None = None) -> Axes:
    """Draw the gain of every rival over private noise in every layer, with standard errors.

    Layer i is that from state i - 1 to state i; the errors are from the scatter between folds of
    sentences. `explanation` is what `inference.explain` returns. Raises ValueError for anything
    else.
    """
    if not isinstance(explanation, Gains):
        raise ValueError(
            "`explanation` must be an `inference.Explanation`, as `inference.explain` returns; got "
            f"{shown(explanation)}."
        )
    ax = axis(ax)
    gains, errors = np.asarray(explanation.gains), np.asarray(explanation.stderr)
    number = np.arange(1, len(gains) + 1)
    ax.axhline(0.0, color=INK, linestyle="--", linewidth=0.8)
    shift = 0.5 / max(len(explanation.names), 1)
    drawn = 0
    for column, name in enumerate(explanation.names):
        if not np.any(gains[:, column]) and not np.any(errors[:, column]):
            continue  # private noise itself, the dashed line
        error_bars(
            number + shift * (column - len(explanation.names) / 2),
            gains[:, column],
            errors[:, column],
            ax=ax,
            marker=_MARKERS[drawn % len(_MARKERS)],
            color=PALETTE[drawn % len(PALETTE)],
            label=name,
        )
        drawn += 1
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="layer", ylabel="gain over private noise\n(nats per number)")
    return ax
