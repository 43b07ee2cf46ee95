"""What is safe of a region whose members' paths are longer than a job: its segments so far."""

import hashlib
import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._files import replace

_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoints:
    """The segments of one region, numbered from 0, one file each in `folder`.

    A file is the SHA-256 of its rest, then arrays in NumPy's npz format. It appears at once, when
    all of it is on the disk.
    """

    folder: Path

    def read(self) -> Iterator[dict[str, np.ndarray]]:
        """The segments up to the first one that is missing or damaged; those after it are deleted.

        What follows a damaged segment may have been computed from another one than will follow.
        """
        number = 0
        while (arrays := self._segment(number)) is not None:
            yield arrays
            number += 1
        for path in self.folder.glob("*.npz"):
            if int(path.stem) >= number:
                path.unlink()

    def write(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Add segment `number`."""
        buffer = io.BytesIO()
        named: dict[str, Any] = dict(arrays)
        np.savez(buffer, **named)
        data = buffer.getvalue()
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self._file(number), hashlib.sha256(data).digest() + data)

    def discard(self) -> None:
        """Delete all segments."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _segment(self, number: int) -> dict[str, np.ndarray] | None:
        try:
            data = self._file(number).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            return None
        with np.load(io.BytesIO(data[_DIGEST:]), allow_pickle=False) as arrays:
            return dict(arrays)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08d}.npz"
