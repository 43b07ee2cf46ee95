"""Files: hidden states and text in, ensembles of trajectories out and in again.

Hidden states come in NumPy's npz format. Ensembles go to zarr (format 3), with where they came
from as attributes: versions, device, time of writing and the caller's own. `save` writes an
ensemble in memory; `load` opens one again.
"""

from .._store import DataFileError as DataFileError
from ._datasets import (
    check_target as check_target,
    load as load,
    save as save,
    save_dataset as save_dataset,
    to_netcdf as to_netcdf,
)
from ._hidden_states import (
    HiddenStates as HiddenStates,
    Sentence as Sentence,
    example_hidden_states as example_hidden_states,
    read_hidden_states as read_hidden_states,
)
from ._text import standard_library as standard_library
