"""Files: hidden states and text in, ensembles of trajectories out and in again.

Hidden states come in NumPy's npz format. Ensembles go to zarr (format 3), with where they came
from as attributes: versions, device, time of writing and the caller's own. An ensemble in memory
is written by `save`; one that outgrows memory chunk by chunk, as a `Draft`.
"""

from ._checkpoints import Checkpoints as Checkpoints
from ._datasets import (
    check_target as check_target,
    load as load,
    save as save,
    save_dataset as save_dataset,
    to_netcdf as to_netcdf,
)
from ._draft import (
    Draft as Draft,
    Plan as Plan,
    Record as Record,
    Variable as Variable,
    write_region as write_region,
)
from ._files import (
    DataFileError as DataFileError,
    LockedError as LockedError,
    locked as locked,
    tidy as tidy,
)
from ._hidden_states import (
    HiddenStates as HiddenStates,
    Sentence as Sentence,
    example_hidden_states as example_hidden_states,
    read_hidden_states as read_hidden_states,
)
from ._manifest import ROOT as ROOT, Manifest as Manifest, damaged as damaged, seal as seal
from ._provenance import identity as identity, provenance as provenance
from ._summary import Summary as Summary, edges as edges
from ._text import standard_library as standard_library
