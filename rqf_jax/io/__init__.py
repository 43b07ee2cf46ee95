"""Files: hidden states, weights and text in, ensembles of trajectories out and in again.

Hidden states and weights come in the formats in which models keep them; nothing in a file is run.
Ensembles go to zarr (format 3), with where they came from as attributes: versions, device, time of
writing and the caller's own. `save` writes an ensemble in memory; `load` opens one again.
"""

from .._store import DamagedError, DataFileError
from ._datasets import (
    load,
    save,
    save_dataset,
    to_netcdf,
)
from ._hidden_states import example_hidden_states, read_hidden_states
from ._outputs import as_hidden_states, write_hidden_states
from ._sentence import HiddenStates, Sentence
from ._text import standard_library
from ._weights import Checkpoints, WeightMatrix, Weights, read_checkpoints, read_weights

__all__ = [
    "Checkpoints",
    "DamagedError",
    "DataFileError",
    "HiddenStates",
    "Sentence",
    "WeightMatrix",
    "Weights",
    "as_hidden_states",
    "example_hidden_states",
    "load",
    "read_checkpoints",
    "read_hidden_states",
    "read_weights",
    "save",
    "save_dataset",
    "standard_library",
    "to_netcdf",
    "write_hidden_states",
]


def __dir__() -> list[str]:
    return __all__
