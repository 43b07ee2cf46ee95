"""Files: hidden states and text in, ensembles of trajectories out and in again.

Hidden states come in NumPy's npz format. Ensembles go to zarr (format 3), with where they came
from as attributes: versions, device, time of writing and the caller's own. `save` writes an
ensemble in memory; `load` opens one again.
"""

from .._store import DamagedError, DataFileError
from ._datasets import (
    load,
    save,
    save_dataset,
    to_netcdf,
)
from ._hidden_states import (
    HiddenStates,
    Sentence,
    example_hidden_states,
    read_hidden_states,
)
from ._text import standard_library

__all__ = [
    "DamagedError",
    "DataFileError",
    "HiddenStates",
    "Sentence",
    "example_hidden_states",
    "load",
    "read_hidden_states",
    "save",
    "save_dataset",
    "standard_library",
    "to_netcdf",
]


def __dir__() -> list[str]:
    return __all__
