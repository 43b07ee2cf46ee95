"""Arrays of a store: described by us, so that a description can be made again; filled by zarr.

Every chunk ends in its own CRC-32C, which any zarr reader checks, and is a file even if it is all
zeros, so that a missing file is always a loss.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray
import zarr

from .documents import array_document, is_number, plain
from .files import fingerprint, is_partial, replace, sync

GROUP = "zarr.json"
"""The name of the file that describes a group or an array."""

_CHUNK_BYTES = 2**26
_OF_A_STORE = re.compile(r"([^/]+/)?zarr\.json|[^/]+/c(/\d+)*")


@dataclass(frozen=True)
class Layout:
    """An array of a store: its name, the names and sizes of its axes and chunks, its type."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    attributes: Mapping[str, Any]

    @property
    def document(self) -> bytes:
        """Its `zarr.json`."""
        return array_document(self.shape, self.chunks, self.dtype, self.dims, self.attributes)

    def describe(self, store: Path) -> None:
        """Write its `zarr.json`, unless that is there, and what it should be."""
        path = store / self.name / GROUP
        if path.is_file() and path.read_bytes() == self.document:
            return
        path.parent.mkdir(exist_ok=True)
        replace(path, self.document)
        sync(store)

    def write(
        self, store: Path, where: tuple[slice, ...], values: np.ndarray
    ) -> dict[str, tuple[str, int]]:
        """Put the values of whole chunks into place, wait for the disk, and return their files.

        Writing parts of a chunk from two places would lose one of them.
        """
        ranges = [self._chunks_of(part, axis) for axis, part in enumerate(where)]
        ranges += [range(1)] * (len(self.shape) - len(where))
        expected = (*(part.stop - part.start for part in where), *self.shape[len(where) :])
        values = np.asarray(values)
        if values.shape != expected or values.dtype != self.dtype:
            raise AssertionError(f"{self.name}: {values.dtype}{values.shape}, not {expected}")
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = zarr.open_array(store / self.name, mode="r+", zarr_format=3)
        array[where or ...] = values
        files = {}
        for index in product(*ranges):
            name = "/".join([self.name, "c", *map(str, index)])
            sync(store / name)
            files[name] = fingerprint(store / name)
        for folder in {folder for name in files for folder in _above(name)}:
            sync(store / folder)
        return files

    def _chunks_of(self, part: slice, axis: int) -> range:
        size, chunk = self.shape[axis], self.chunks[axis]
        if part.start % chunk or (part.stop % chunk and part.stop != size):
            raise AssertionError(f"{self.name}: {part} is not made of chunks of {chunk}")
        return range(part.start // chunk, math.ceil(part.stop / chunk))


def write_dataset(store: Path, dataset: xarray.Dataset) -> dict[str, tuple[str, int]]:
    """Write every variable of a dataset into a store, chunk by chunk, and return the files.

    Raises ValueError for a variable whose values are no numbers, and for a name that no file can
    have; TypeError for an attribute that JSON cannot hold.
    """
    layouts = [_layout(str(name), variable) for name, variable in dataset.variables.items()]
    files = {}
    for layout in layouts:
        layout.describe(store)
        files[f"{layout.name}/{GROUP}"] = fingerprint(store / layout.name / GROUP)
        values = dataset.variables[layout.name]
        for where in _pieces(layout):
            part = values[where].to_numpy().astype(layout.dtype, copy=False)
            files |= layout.write(store, where, part)
    return files


def attributes_of(dataset: xarray.Dataset) -> dict[str, Any]:
    """The attributes of a dataset, with the names of those coordinates that are no dimensions.

    xarray finds them again by the attribute `coordinates`.
    """
    names = [str(name) for name in dataset.coords if name not in dataset.dims]
    spaced = [name for name in names if len(name.split()) != 1]
    if spaced:
        raise ValueError(f"a coordinate's name must hold no space to be stored; got {spaced[0]!r}.")
    attributes = {str(name): value for name, value in dataset.attrs.items()}
    return attributes | ({"coordinates": " ".join(names)} if names else {})


def is_of_a_store(name: str) -> bool:
    """Whether a store has a file of this name: a description, a chunk, or one half written."""
    return is_partial(name) or _OF_A_STORE.fullmatch(name) is not None


def _layout(name: str, variable: xarray.Variable) -> Layout:
    if not is_number(variable.dtype):
        raise ValueError(
            f"the variable {name!r} must hold numbers or booleans to be stored; got dtype "
            f"{variable.dtype}. Convert it, or keep it as an attribute."
        )
    dtype = np.dtype(variable.dtype).newbyteorder("=")
    room, chunks = max(1, _CHUNK_BYTES // dtype.itemsize), []
    for size in reversed(variable.shape):  # whole last axes, as many as there is room for
        chunks.append(max(1, min(size, room)))
        room //= chunks[-1]
    attributes = {str(key): plain(value) for key, value in variable.attrs.items()}
    dims = tuple(map(str, variable.dims))
    return Layout(name, dims, variable.shape, tuple(reversed(chunks)), dtype, attributes)


def _pieces(layout: Layout) -> Iterator[tuple[slice, ...]]:
    """The chunks of an array, as slices of its axes."""
    starts = [range(0, size, c) for size, c in zip(layout.shape, layout.chunks, strict=True)]
    for corner in product(*starts):
        yield tuple(
            slice(start, min(start + chunk, size))
            for start, chunk, size in zip(corner, layout.chunks, layout.shape, strict=True)
        )


def _above(name: str) -> Iterator[str]:
    parts = name.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))
