"""A run on its way to disk, chunk after chunk, to be continued after any interruption.

`RUN.partial` holds the zarr store, the plan of the run, and a journal with one record for every
chunk that is safe in the store. No two chunks share a file, so they can be written by different
processes and in any order. A record appears, at once, after the files it vouches for are on the
disk; the store's manifest appears after all records; then the store is renamed to RUN. Whatever
moment the power fails at, the plan and the records are whole, and all else is made again from
them. The segments of chunks that are under way are beside them; see `Checkpoints`.

Only files that bear the names of ours are ever deleted, and nothing behind a link.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray

from .arrays import GROUP, Layout, attributes_of, is_of_a_store, write_dataset
from .checkpoints import Checkpoints
from .documents import blank, seal, unseal
from .files import (
    DataFileError,
    fingerprint,
    is_partial,
    listing,
    read_arrays,
    remove,
    replace,
    sync,
    write_arrays,
)
from .manifest import ROOT, Manifest, digest_of
from .plan import Plan
from .summary import Summary
from .target import check_target

_PLAN, _STORE, _JOURNAL, _OLD = "plan.json", "store", "journal", "old"
_CHECKPOINTS, _REPLACES = "checkpoints", "replaces"
_OF_A_DRAFT = re.compile(
    rf"plan\.json|{_REPLACES}|{_JOURNAL}/\d{{8}}\.npz|{_CHECKPOINTS}/\d{{8}}/\d{{8}}\.npz"
)
_FORMAT = 2


@dataclass(frozen=True)
class Record:
    """What the journal says of one chunk: its files, its failed members, its summaries."""

    files: dict[str, tuple[str, int]]
    failed: int
    summaries: dict[str, Summary]


class Result(NamedTuple):
    """A computed chunk: values for the store, summaries for the journal, how many failed."""

    values: Mapping[str, np.ndarray]
    summaries: Mapping[str, Summary]
    failed: int


@dataclass
class Draft:
    """The unfinished run beside `out`. Construct it with `begin` or `find`."""

    out: Path
    plan: Plan
    _files: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)

    @staticmethod
    def folder_of(out: Path) -> Path:
        """Where the unfinished run of `out` is."""
        return out.with_name(f"{out.name}.partial")

    @classmethod
    def checkpoints(cls, out: Path, chunk: int) -> Checkpoints:
        """The segments of a chunk of `out` that is under way, be it missing or to be repaired."""
        return Checkpoints(cls.folder_of(out) / _CHECKPOINTS / f"{chunk:08d}")

    @classmethod
    def find(cls, out: Path) -> "Draft | None":
        """The unfinished run beside `out`, if there is one that got as far as its plan.

        Raises `DataFileError` for a plan that cannot be read, and FileExistsError for a link in the
        place of a folder.
        """
        folder = cls.folder_of(out)
        for link in (folder, folder / _STORE, folder / _JOURNAL, folder / _CHECKPOINTS):
            if link.is_symlink():
                raise FileExistsError(f"{link} is a link; an unfinished run has real folders only.")
        path = folder / _PLAN
        if not path.exists():
            return None
        try:
            entry, sealed = unseal(path.read_bytes(), path)
            if sealed != ("format" in entry):
                raise DataFileError(f"{path}: damaged; its checksum is gone.")
            return cls(out, Plan.from_json(entry, path))
        except DataFileError as error:
            raise DataFileError(f"{error} {_START_AGAIN}") from error

    @classmethod
    def begin(cls, out: Path, plan: Plan, replaces: str | None = None) -> "Draft":
        """Lay out the store of `plan` beside `out`; the caller holds the lock.

        `replaces` is the `digest_of` the run at `out` that this one may replace. Raises
        FileExistsError if something else is in the way.
        """
        draft = cls(out, plan)
        cls.clear(out)
        left = [name for name in listing(draft.folder) if _is_of_a_draft(name)]
        if left or (draft.folder.exists() and not draft.folder.is_dir()):
            raise FileExistsError(f"{draft.folder} is in the way, and no unfinished run. Move it.")
        draft.folder.mkdir(parents=True, exist_ok=True)
        try:
            draft.may_replace(replaces)
            draft.describe()
            draft._write_plan()
            sync(draft.folder.parent)
        except BaseException:
            cls.discard(out)
            raise
        return draft

    def describe(self) -> None:
        """Write every description in the store again that is missing or not as the plan has it."""
        for folder in (self.store, self._journal):
            folder.mkdir(exist_ok=True)
        group = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}}).encode()
        if not (self.store / ROOT).is_file() or (self.store / ROOT).read_bytes() != group:
            replace(self.store / ROOT, group)
        for layout in layouts(self.plan):
            layout.describe(self.store)
        sync(self.folder)

    def __str__(self) -> str:
        more = f", {self.under_way()} under way" if self.under_way() else ""
        return f"{self.folder}: {self.written()} of {self.plan.chunks} chunks are there{more}"

    def set_batch(self, batch: int) -> None:
        """From here on, devices compute `batch` members at a time."""
        self.plan = dataclasses.replace(self.plan, batch=batch)
        self._write_plan()

    def may_replace(self, run: str | None) -> None:
        """The run with this digest, and nothing else at `out`, may be replaced by this one."""
        if run is not None:
            replace(self.folder / _REPLACES, run.encode())

    def check_target(self) -> None:
        """FileExistsError if there is something at `out` that this run may not replace."""
        if not os.path.lexists(self.out):
            return
        agreed, found = self.folder / _REPLACES, digest_of(self.out)
        if found is None or not agreed.exists() or agreed.read_text() != found:
            raise FileExistsError(
                f"{self.out} exists, and came after {self.folder} was begun: move it away."
            )
        check_target(self.out, overwrite=True)

    @property
    def folder(self) -> Path:
        """Where everything is until it is finished."""
        return self.folder_of(self.out)

    @property
    def store(self) -> Path:
        """The zarr store, wherever it has got to."""
        return self.folder / _STORE

    @property
    def _journal(self) -> Path:
        return self.folder / _JOURNAL

    def segments(self, chunk: int) -> Checkpoints:
        """The segments of a chunk that is under way."""
        return self.checkpoints(self.out, chunk)

    def write(self, chunk: int, result: Result) -> None:
        """Put one chunk into the store and, when it is safe there, into the journal."""
        files = write_chunk(self.store, self.plan, chunk, result.values)
        parts = [part.arrays(name) for name, part in result.summaries.items()]
        header = {"files": files, "failed": result.failed, "summaries": list(result.summaries)}
        arrays = {key: array for part in parts for key, array in part.items()}
        named = {"header": np.array(json.dumps(header)), **arrays}
        write_arrays(self._record(chunk), named, np.savez_compressed)
        self.segments(chunk).discard()

    def record(self, chunk: int) -> Record | None:
        """The record of a chunk whose files are what it says; None for every other."""
        arrays = read_arrays(self._record(chunk))
        if arrays is None:
            return None
        header = json.loads(str(arrays["header"]))
        files = {name: (digest, size) for name, (digest, size) in header["files"].items()}
        try:
            if any(fingerprint(self.store / name) != entry for name, entry in files.items()):
                return None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        summaries = {name: Summary.read(name, arrays) for name in header["summaries"]}
        return Record(files, header["failed"], summaries)

    def records(self) -> Iterator[Record]:
        """The record of every chunk, in their order, one at a time; `commit` needs them all read.

        Raises `DataFileError` for a chunk that is missing or damaged.
        """
        self._files.clear()
        for chunk in range(self.plan.chunks):
            record = self.record(chunk)
            if record is None:
                raise DataFileError(
                    f"{self.folder}: chunk {chunk} was lost while others were written; the same "
                    "command computes it again."
                )
            self._files.update(record.files)
            yield record

    def missing(self) -> list[int]:
        """The chunks that have no record, or whose files are not what it says."""
        return [chunk for chunk in range(self.plan.chunks) if self.record(chunk) is None]

    def written(self) -> int:
        """How many chunks the journal names, whether or not their files are still whole."""
        if not self._journal.is_dir():
            return 0
        return sum(path.suffix == ".npz" for path in self._journal.iterdir())

    def under_way(self) -> int:
        """How many chunks have segments that are safe."""
        return sum(1 for _ in (self.folder / _CHECKPOINTS).glob("*/00000000.npz"))

    def commit(self, others: xarray.Dataset) -> None:
        """Add the variables and attributes of `others`, and make the store the run at `out`.

        All `records` have been read. An old run at `out` is gone when, and only when, the new one
        is in its place. Raises FileExistsError for a run that may not be replaced there.
        """
        self.check_target()
        remove(self.store, filter(is_partial, listing(self.store)))
        self.describe()
        described = [f"{variable.name}/{GROUP}" for variable in self.plan.variables]
        files = self._files | {name: fingerprint(self.store / name) for name in described}
        files |= write_dataset(self.store, others)
        Manifest(self.plan.to_json(), files).write(self.store, attributes_of(others))
        self.check_target()
        if self.out.exists():
            remove_store(self.folder / _OLD)
            os.rename(self.out, self.folder / _OLD)
        os.rename(self.store, self.out)
        sync(self.out.parent)
        self.discard(self.out)

    @classmethod
    def discard(cls, out: Path) -> None:
        """Delete the unfinished run of `out`, readable or not."""
        folder = cls.folder_of(out)
        # Without its plan it is debris, whatever else is still there.
        (folder / _PLAN).unlink(missing_ok=True)
        remove(folder, filter(_is_of_a_draft, listing(folder)))

    @classmethod
    def clear(cls, out: Path) -> None:
        """Delete what a `discard` that was killed has left beside `out`, unless more is there."""
        folder = cls.folder_of(out)
        if folder.is_dir() and all(_is_ours(entry.name) for entry in folder.iterdir()):
            remove(folder, filter(_is_of_a_draft, listing(folder)))

    def _write_plan(self) -> None:
        entry = {**blank(), "format": _FORMAT, **self.plan.to_json()}
        replace(self.folder / _PLAN, seal(entry))

    def _record(self, chunk: int) -> Path:
        return self._journal / f"{chunk:08d}.npz"


_START_AGAIN = (
    "The same command with --force, or in Python with `overwrite=True`, discards this unfinished "
    "run, and begins again."
)


def layouts(plan: Plan) -> tuple[Layout, ...]:
    """The arrays that chunks fill."""
    names = tuple(name for name, *_ in plan.divided)
    sizes = tuple(size for _, size, _ in plan.divided)
    chunks = tuple(min(chunk, size) for _, size, chunk in plan.divided)
    return tuple(
        Layout(
            variable.name,
            (*names, *variable.dims),
            (*sizes, *variable.shape),
            (*chunks, *variable.shape),
            np.dtype(variable.dtype),
            {"units": "1"} if np.dtype(variable.dtype).kind == "f" else {},
        )
        for variable in plan.variables
    )


def write_chunk(
    store: Path, plan: Plan, chunk: int, values: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, int]]:
    """Write one chunk of every variable, wait for the disk, and return what its files are."""
    files = {}
    for layout in layouts(plan):
        whole = tuple(slice(0, size) for size in layout.shape[len(plan.divided) :])
        files |= layout.write(store, (*plan.slices(chunk), *whole), values[layout.name])
    return files


def remove_store(store: Path) -> None:
    """Delete a store: descriptions, chunks, and what writes that were killed have left of them."""
    remove(store, filter(is_of_a_store, listing(store)))


def _is_ours(name: str) -> bool:
    """Whether an unfinished run has a file or folder of this name."""
    return name in (_STORE, _JOURNAL, _OLD, _CHECKPOINTS, _REPLACES) or is_partial(name)


def _is_of_a_draft(name: str) -> bool:
    first, _, rest = name.partition("/")
    if first in (_STORE, _OLD):
        return is_of_a_store(rest)
    return is_partial(name) or _OF_A_DRAFT.fullmatch(name) is not None
