"""What is safe of a region whose members' paths are longer than a job: its segments so far."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import read_arrays, write_arrays


@dataclass(frozen=True)
class Checkpoints:
    """The segments of one region, numbered from 0, one file each in `folder`.

    A file appears at once, when all of it is on the disk.
    """

    folder: Path

    def read(self) -> Iterator[dict[str, np.ndarray]]:
        """The segments up to the first one that is missing or damaged; those after it are deleted.

        What follows a damaged segment may have been computed from another one than will follow.
        """
        number = 0
        while (arrays := read_arrays(self._file(number))) is not None:
            yield arrays
            number += 1
        for path in self.folder.glob("*.npz"):
            if int(path.stem) >= number:
                path.unlink()

    def write(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Add segment `number`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_arrays(self._file(number), arrays)

    def discard(self) -> None:
        """Delete all segments."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08d}.npz"
