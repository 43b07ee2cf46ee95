"""What a finished store consists of: every file with its SHA-256, in the attributes of its root.

The root `zarr.json` vouches for all other files, and is sealed by its own checksum. Stores of
rqf_jax 0.1 have no seal, and those that its `io.save` wrote have no manifest either.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .arrays import GROUP, is_of_a_store
from .documents import SEAL, blank, check_array, plain, seal, unseal
from .files import DamagedError, DataFileError, fingerprint, is_partial, listing, replace

ROOT = GROUP
"""The file of the store's root group: written last, it is the commit record."""

_MANIFEST, _FORMAT = "manifest", 2
_RESERVED = (SEAL, _MANIFEST)

Reading = Literal["nothing", "descriptions", "everything"]
"""Which files of a store are compared by content; sizes and names always are."""


@dataclass(frozen=True)
class Manifest:
    """The plan of a run (None for an ensemble from memory), and SHA-256 and size of every file of
    its store but the root's."""

    plan: dict[str, Any] | None
    files: dict[str, tuple[str, int]]

    def write(self, store: Path, attributes: Mapping[str, Any]) -> None:
        """Make this manifest and the `attributes` those of the store, at once.

        Raises ValueError for attributes of two reserved names, TypeError for one that JSON cannot
        hold.
        """
        for name, value in attributes.items():
            if name in _RESERVED:
                raise ValueError(
                    f"the attribute {name!r} is written by the store itself; rename it."
                )
            try:
                seal({"value": plain(value)})
            except (TypeError, ValueError, RecursionError) as error:
                raise TypeError(f"the attribute {name!r} must be JSON; {error}") from error
        files = dict(sorted(self.files.items()))
        entry = {"format": _FORMAT, "plan": self.plan, "files": files}
        given = {str(name): plain(value) for name, value in attributes.items()}
        document = {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": {**blank(), **given, _MANIFEST: entry},
        }
        replace(store / ROOT, seal(document))


@dataclass(frozen=True)
class Root:
    """The root of a store that this library wrote: attributes, and a manifest unless it is old."""

    attributes: dict[str, Any]
    manifest: Manifest | None
    sealed: bool

    @classmethod
    def read(cls, store: Path) -> "Root":
        """The root of the store at `store`.

        Raises `DataFileError` if there is none or if it is not ours, `DamagedError` if it changed.
        """
        run = store.with_suffix("") if store.suffix == ".partial" else store
        if not run.exists() and run.with_name(f"{run.name}.partial").is_dir():
            raise DataFileError(
                f"{run}: not finished. `rqf-jax info {run}` describes it, and the command that "
                "began it finishes it."
            )
        if not store.exists():
            raise DataFileError(f"{store}: no such run.")
        if (store / ROOT).is_symlink() or not (store / ROOT).is_file():
            raise DataFileError(f"{store}: not a zarr store (it has no file {ROOT}).")
        try:
            document, sealed = unseal((store / ROOT).read_bytes(), store / ROOT)
        except OSError as error:
            raise DataFileError(f"{store / ROOT}: cannot be read ({error.strerror}).") from error
        attributes = document.get("attributes")
        if document.get("zarr_format") != 3 or not isinstance(attributes, dict):
            raise DataFileError(f"{store}: not a zarr store of format 3.")
        if "rqf_jax" not in attributes:
            raise DataFileError(f"{store}: not a run of rqf_jax; its attributes name no version.")
        entry = attributes.pop(_MANIFEST, None)
        attributes.pop(SEAL, None)
        manifest = None if entry is None else _manifest(entry, store)
        if sealed != (isinstance(entry, dict) and "format" in entry):
            raise DamagedError(f"{store / ROOT}: damaged; its checksum or its manifest is gone.")
        return cls(attributes, manifest, sealed)

    @property
    def note(self) -> str:
        """A sentence on the checksums that an old store lacks; empty for a new one."""
        if self.sealed:
            return ""
        version = self.attributes["rqf_jax"]
        if self.manifest is None:
            return f"rqf_jax {version} wrote this store without checksums: nothing can be verified."
        return (
            f"rqf_jax {version} wrote this store without a checksum of its root {ROOT}: a changed "
            "config or attribute cannot be found."
        )

    def faults(self, store: Path, read: Reading) -> "Faults":
        """The faults of the store: missing files, other sizes, another SHA-256 of what is read.

        Only regular files inside the store count, whatever names the manifest holds. Where chunks
        are not read, zarr finds a changed byte as it reads the chunk, by the chunk's CRC-32C.
        """
        sizes = listing(store)
        if self.manifest is None:
            return Faults((), tuple(sorted(name for name in sizes if not is_of_a_store(name))))
        damaged, known = [], self.manifest.files
        for name, expected in known.items():
            wanted = read == "everything" or (read == "descriptions" and name.endswith(f"/{GROUP}"))
            if sizes.get(name) != expected[1] or (wanted and fingerprint(store / name) != expected):
                damaged.append(name)
        strange = [name for name in sizes if name not in known and name != ROOT]
        return Faults(tuple(damaged), tuple(sorted(n for n in strange if not is_partial(n))))


@dataclass(frozen=True)
class Faults:
    """How a store differs from its manifest: `damaged` files, and `strange` ones, not of it."""

    damaged: tuple[str, ...]
    strange: tuple[str, ...]


def digest_of(store: Path) -> str | None:
    """What tells a finished run from every other one: SHA-256 of its root; None if it has none."""
    try:
        return fingerprint(store / ROOT)[0]
    except OSError:
        return None


def check_arrays(store: Path) -> None:
    """`DataFileError` unless every array in the store is plain numbers in zarr format 3."""
    for path in sorted(store.glob(f"*/{GROUP}")):
        if path.is_symlink() or path.parent.is_symlink():
            raise DataFileError(f"{path}: is a link; a store holds its own files.")
        check_array(path)


def _manifest(entry: Any, store: Path) -> Manifest:
    """The manifest as it stands in the attributes; `DataFileError` if it is none."""
    try:
        if entry.get("format", _FORMAT) != _FORMAT:
            raise DataFileError(
                f"{store}: a newer rqf_jax wrote it, in format {entry['format']}. Install that."
            )
        if not {"plan", "files"} <= set(entry) <= {"plan", "files", "format"}:
            raise ValueError(f"keys {sorted(entry)}")
        files = {str(name): (str(sha), int(size)) for name, (sha, size) in entry["files"].items()}
        return Manifest(entry["plan"], files)
    except DataFileError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataFileError(f"{store}: its manifest cannot be read ({error!r}).") from error
