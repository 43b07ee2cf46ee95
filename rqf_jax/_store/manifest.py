"""What a finished run consists of: every file with its SHA-256, in the attributes of its store."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import DataFileError, fingerprint, replace

ROOT = "zarr.json"
"""The file of the store's root group: written last, it is the commit record."""


@dataclass(frozen=True)
class Manifest:
    """The plan of a run, and SHA-256 and size of every file of its store but the root's."""

    plan: dict[str, Any]
    files: dict[str, tuple[str, int]]

    @classmethod
    def read(cls, store: Path) -> "Manifest | None":
        """The manifest of a store; None if it has none, having been written in one piece.

        Raises `DataFileError` if the store's root cannot be read.
        """
        entry = attributes(store).get("manifest")
        if entry is None:
            return None
        try:
            files = {
                name: (str(digest), int(size)) for name, (digest, size) in entry["files"].items()
            }
            return cls(entry["plan"], files)
        except (KeyError, TypeError, ValueError) as error:
            raise DataFileError(f"{store}: its manifest cannot be read ({error!r}).") from error

    def write(self, store: Path, others: dict[str, Any]) -> None:
        """Make this manifest and the `others` the attributes of the store, at once."""
        root = json.loads((store / ROOT).read_text(encoding="utf-8"))
        entry = {"plan": self.plan, "files": self.files}
        root["attributes"] = {**others, "manifest": entry}
        replace(store / ROOT, json.dumps(root, ensure_ascii=False).encode())


def seal(store: Path) -> str | None:
    """What tells a finished run from every other one: SHA-256 of its root; None if it has none."""
    try:
        return fingerprint(store / ROOT)[0]
    except OSError:
        return None


def attributes(store: Path) -> dict[str, Any]:
    """The attributes of a store's root; `DataFileError` if it has no readable root."""
    if not store.exists():
        raise DataFileError(f"{store}: no such run.")
    try:
        return json.loads((store / ROOT).read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFileError(f"{store}: not a zarr store ({error}).") from error


def damaged(store: Path, manifest: Manifest, *, sizes_only: bool = False) -> Iterator[str]:
    """The files of a store that are missing or not what its manifest says.

    `sizes_only` looks at sizes and reads nothing; zarr then finds a changed byte in a chunk when
    it reads it, by the chunk's own CRC-32C.
    """
    for name, expected in manifest.files.items():
        path = store / name
        try:
            if path.stat().st_size != expected[1] or not (
                sizes_only or fingerprint(path) == expected
            ):
                yield name
        except OSError:
            yield name
