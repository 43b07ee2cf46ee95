"""Files that survive a kill: drafts, manifests, checkpoints, summaries.

An ensemble that outgrows memory is written chunk by chunk, as a `Draft`, and becomes a finished
store in one step. A manifest lists the files of a store with their SHA-256.
"""

from .checkpoints import Checkpoints as Checkpoints
from .draft import (
    Draft as Draft,
    Plan as Plan,
    Record as Record,
    Variable as Variable,
    write_region as write_region,
)
from .files import (
    DataFileError as DataFileError,
    LockedError as LockedError,
    locked as locked,
    tidy as tidy,
)
from .manifest import ROOT as ROOT, Manifest as Manifest, damaged as damaged, seal as seal
from .provenance import identity as identity, provenance as provenance
from .summary import Summary as Summary, edges as edges
