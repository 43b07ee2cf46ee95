"""Surrogates: maps and laws that learn to continue paths, and ensembles drawn from them.

    head = surrogates.CellHead(surrogates.grid_of(paths, 32), width=64, key=keys[0])
    law = lambda key: surrogates.Transformer(head, context=32, key=key)
    process = training.Process(surrogates.loss, law, surrogates.windows(paths, 33), optimiser=...)

Train it as any other process, draw paths by `sample`, and judge them by `analysis.surrogates`.
"""

from ._abstract import AbstractSurrogate, loss
from ._windows import windows
from .grid import Grid, grid_of
from .heads import AbstractHead, CellHead, GaussianHead
from .recurrent import (
    AbstractRecurrent,
    AlmostLinear,
    ShallowPiecewise,
    forced_loss,
    teacher_forcing,
)
from .sampling import sample
from .transformer import Transformer

__all__ = [
    "AbstractHead",
    "AbstractRecurrent",
    "AbstractSurrogate",
    "AlmostLinear",
    "CellHead",
    "GaussianHead",
    "Grid",
    "ShallowPiecewise",
    "Transformer",
    "forced_loss",
    "grid_of",
    "loss",
    "sample",
    "teacher_forcing",
    "windows",
]


def __dir__() -> list[str]:
    return __all__
