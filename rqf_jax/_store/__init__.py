"""Files that survive a kill: drafts, manifests, checkpoints, summaries.

An ensemble that outgrows memory is written chunk by chunk, as a `Draft`, and becomes a finished
store in one step. A manifest lists the files of a store with their SHA-256, and every chunk of an
array ends in its own CRC-32C.
"""

from .arrays import attributes_of as attributes_of, write_dataset as write_dataset
from .checkpoints import Checkpoints as Checkpoints
from .documents import plain as plain
from .draft import (
    Draft as Draft,
    Record as Record,
    Result as Result,
    remove_store as remove_store,
)
from .files import (
    DamagedError as DamagedError,
    DataFileError as DataFileError,
    LockedError as LockedError,
    fingerprint as fingerprint,
    locked as locked,
    sync as sync,
)
from .manifest import (
    ROOT as ROOT,
    Faults as Faults,
    Manifest as Manifest,
    Root as Root,
    check_arrays as check_arrays,
    digest_of as digest_of,
)
from .plan import Plan as Plan, Variable as Variable
from .provenance import identity as identity, provenance as provenance
from .repair import Repair as Repair
from .summary import Summary as Summary, edges as edges
from .target import check_target as check_target, real_target as real_target
