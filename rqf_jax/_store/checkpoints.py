"""The segments computed so far of a chunk whose paths are longer than a job."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import is_partial, listing, read_arrays, remove, write_arrays


@dataclass(frozen=True)
class Checkpoints:
    """The segments of one chunk, numbered from 0, one file each in `folder`.

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
        for name in self._names():
            if int(name[:8]) >= number:
                (self.folder / name).unlink()

    def write(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Add segment `number`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_arrays(self._file(number), arrays)

    def discard(self) -> None:
        """Delete all segments."""
        partial = [name for name in listing(self.folder) if is_partial(name)]
        remove(self.folder, [*self._names(), *partial])

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:08d}.npz"

    def _names(self) -> list[str]:
        return [name for name in listing(self.folder) if re.fullmatch(r"\d{8}\.npz", name)]
