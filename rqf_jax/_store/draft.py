"""A run on its way to disk, region after region, to be continued after any interruption.

`RUN.partial` holds the zarr store, the plan of the run, and a journal with one record for every
region that is safe in the store. A region is one chunk of every array: no two regions share a
file, so regions can be written by different processes and in any order. A record appears, at once,
after the files it vouches for are on the disk; the store's manifest appears after all records;
then the store is renamed to RUN. Whatever moment the power fails at, what counts is whole. The
segments of regions that are under way are beside them; see `Checkpoints`.
"""

import dataclasses
import json
import math
import os
import shutil
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from .checkpoints import Checkpoints
from .files import (
    PARTIAL,
    DataFileError,
    fingerprint,
    read_arrays,
    replace,
    sync,
    tidy,
    write_arrays,
)
from .manifest import ROOT, Manifest, seal
from .summary import Summary

_PLAN, _STORE, _JOURNAL, _OLD = "plan.json", "store", "journal", "old"
_CHECKPOINTS, _REPLACES = "checkpoints", "replaces"
_OURS = {_STORE, _JOURNAL, _OLD, _CHECKPOINTS, _REPLACES}


@dataclass(frozen=True)
class Variable:
    """An array of the store, without the axes that regions divide."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first region: two runs of one plan are the same.

    `config` and `identity` say what is computed and by what; `divided` are the leading axes, as
    (name, size, size of a region); `batch` is how many members a device computes at a time.
    """

    config: str
    identity: dict[str, str]
    divided: tuple[tuple[str, int, int], ...]
    variables: tuple[Variable, ...]
    batch: int

    @property
    def grid(self) -> tuple[int, ...]:
        """How many regions along each divided axis."""
        return tuple(math.ceil(size / chunk) for _, size, chunk in self.divided)

    @property
    def regions(self) -> int:
        """How many regions."""
        return math.prod(self.grid)

    def slices(self, region: int) -> tuple[slice, ...]:
        """The part of the divided axes that is `region`."""
        where = np.unravel_index(region, self.grid)
        return tuple(
            slice(int(i) * chunk, min((int(i) + 1) * chunk, size))
            for i, (_, size, chunk) in zip(where, self.divided, strict=True)
        )

    def file(self, variable: Variable, region: int) -> str:
        """The file of one variable's part in `region`."""
        where = [*np.unravel_index(region, self.grid), *(0 for _ in variable.shape)]
        return "/".join([variable.name, "c", *map(str, where)])

    def differences(self, config: str, identity: Mapping[str, str]) -> list[str]:
        """How this plan's config and identity differ from those given, a line for each field."""
        mine, others = (
            dict(_flat(tomllib.loads(text))) | facts
            for text, facts in ((self.config, self.identity), (config, dict(identity)))
        )
        return [
            f"{name}: {mine.get(name, 'none')} in the run, {others.get(name, 'none')} here"
            for name in [*mine, *(name for name in others if name not in mine)]
            if mine.get(name) != others.get(name)
        ]

    def regions_of(self, files: Iterable[str]) -> tuple[list[int], list[str]]:
        """The regions that some of `files` belong to, and the files that belong to none."""
        where = {self.file(v, r): r for r in range(self.regions) for v in self.variables}
        files = list(files)
        regions = sorted({where[name] for name in files if name in where})
        return regions, [name for name in files if name not in where]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Plan":
        """The plan that `to_json` wrote."""
        return cls(
            entry["config"],
            dict(entry["identity"]),
            tuple((str(name), int(size), int(chunk)) for name, size, chunk in entry["divided"]),
            tuple(
                Variable(v["name"], tuple(v["dims"]), tuple(v["shape"]), v["dtype"])
                for v in entry["variables"]
            ),
            int(entry["batch"]),
        )


@dataclass(frozen=True)
class Record:
    """What the journal says of one region: its files, its failed members, its summaries."""

    files: dict[str, tuple[str, int]]
    failed: int
    summaries: dict[str, Summary]


@dataclass
class Draft:
    """The unfinished run beside `out`. Construct it with `begin` or `find`."""

    out: Path
    plan: Plan

    @staticmethod
    def folder_of(out: Path) -> Path:
        """Where the unfinished run of `out` is."""
        return out.with_name(f"{out.name}.partial")

    @classmethod
    def checkpoints(cls, out: Path, region: int) -> Checkpoints:
        """The segments of a region of `out` that is under way, be it missing or to be repaired."""
        return Checkpoints(cls.folder_of(out) / _CHECKPOINTS / f"{region:08d}")

    @classmethod
    def find(cls, out: Path) -> "Draft | None":
        """The unfinished run beside `out`, if there is one that got as far as its plan."""
        path = cls.folder_of(out) / _PLAN
        if not path.exists():
            return None
        try:
            return cls(out, Plan.from_json(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataFileError(f"{path}: cannot be read ({error!r}).") from error

    @classmethod
    def begin(cls, out: Path, plan: Plan, replaces: str | None = None) -> "Draft":
        """Lay out the store of `plan` beside `out`; the caller holds the lock.

        `replaces` is the `seal` of the run at `out` that this one may replace. Raises
        FileExistsError if something else is in the way.
        """
        draft = cls(out, plan)
        cls.clear(out)
        if draft.folder.exists():
            raise FileExistsError(f"{draft.folder} exists, and is no unfinished run.")
        draft.folder.mkdir(parents=True)
        try:
            draft.may_replace(replaces)
            draft._lay_out()
        except BaseException:
            shutil.rmtree(draft.folder)
            raise
        return draft

    def _lay_out(self) -> None:
        self._journal.mkdir()
        group = zarr.create_group(self.store, zarr_format=3)
        sizes = tuple(size for _, size, _ in self.plan.divided)
        chunks = tuple(min(chunk, size) for _, size, chunk in self.plan.divided)
        for variable in self.plan.variables:
            group.create_array(
                variable.name,
                shape=(*sizes, *variable.shape),
                chunks=(*chunks, *variable.shape),
                dtype=variable.dtype,
                fill_value=np.nan if np.dtype(variable.dtype).kind == "f" else 0,
                compressors=[ZstdCodec(level=1), Crc32cCodec()],
                dimension_names=(*(name for name, *_ in self.plan.divided), *variable.dims),
                attributes={"units": "1"} if np.dtype(variable.dtype).kind == "f" else None,
            )
        self._write_plan()

    def __str__(self) -> str:
        more = f", {self.under_way()} under way" if self.under_way() else ""
        return f"{self.folder}: {self.written()} of {self.plan.regions} chunks are there{more}"

    def set_batch(self, batch: int) -> None:
        """From here on, devices compute `batch` members at a time."""
        self.plan = dataclasses.replace(self.plan, batch=batch)
        self._write_plan()

    def may_replace(self, run: str | None) -> None:
        """The run with this `seal`, and nothing else at `out`, may be replaced by this one."""
        if run is not None:
            replace(self.folder / _REPLACES, run.encode())

    def check_target(self) -> None:
        """FileExistsError if there is something at `out` that this run may not replace."""
        if not self.out.exists():
            return
        agreed, found = self.folder / _REPLACES, seal(self.out)
        if found is None or not agreed.exists() or agreed.read_text() != found:
            raise FileExistsError(
                f"{self.out} exists, and came after {self.folder} was begun: move it away."
            )

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

    def write(
        self,
        region: int,
        values: Mapping[str, np.ndarray],
        summaries: Mapping[str, Summary],
        failed: int,
    ) -> None:
        """Put one region into the store and, when it is safe there, into the journal."""
        files = write_region(self.store, self.plan, region, values)
        arrays = {key: a for name, s in summaries.items() for key, a in s.arrays(name).items()}
        header = {"files": files, "failed": failed, "summaries": list(summaries)}
        named = {"header": np.array(json.dumps(header)), **arrays}
        write_arrays(self._record(region), named, np.savez_compressed)
        self.checkpoints(self.out, region).discard()

    def record(self, region: int) -> Record | None:
        """The record of a region whose files are what it says; None for every other."""
        arrays = read_arrays(self._record(region))
        if arrays is None:
            return None
        header = json.loads(str(arrays["header"]))
        files = {name: (digest, size) for name, (digest, size) in header["files"].items()}
        try:
            if any(fingerprint(self.store / name) != entry for name, entry in files.items()):
                return None
        except FileNotFoundError:
            return None
        summaries = {name: Summary.read(name, arrays) for name in header["summaries"]}
        return Record(files, header["failed"], summaries)

    def written(self) -> int:
        """How many regions the journal names, whether or not their files are still whole."""
        return sum(path.suffix == ".npz" for path in self._journal.iterdir())

    def under_way(self) -> int:
        """How many regions have segments that are safe."""
        return sum(1 for _ in (self.folder / _CHECKPOINTS).glob("*/00000000.npz"))

    def commit(self, others: xarray.Dataset, files: Mapping[str, tuple[str, int]]) -> None:
        """Add the variables and attributes of `others`, and make the store the run at `out`.

        `files` are those of all regions. An old run at `out` is gone when, and only when, the new
        one is in its place. Raises FileExistsError for what may not be replaced there.
        """
        self.check_target()
        self._tidy()
        bare = others.drop_attrs(deep=False)
        bare.to_zarr(self.store, mode="a", zarr_format=3, consolidated=False)
        files = dict(files)
        for path in sorted(self.store.rglob("*")):
            name = path.relative_to(self.store).as_posix()
            if path.is_file() and name != ROOT and name not in files:
                sync(path)
                files[name] = fingerprint(path)
        Manifest(self.plan.to_json(), dict(sorted(files.items()))).write(self.store, others.attrs)
        self.check_target()
        if self.out.exists():
            shutil.rmtree(self.folder / _OLD, ignore_errors=True)
            os.rename(self.out, self.folder / _OLD)
        os.rename(self.store, self.out)
        sync(self.out.parent)
        self.discard()

    def _tidy(self) -> None:
        """Delete what writes and commits that were killed have left in the store."""
        tidy(self.store)
        kept = {ROOT, *(variable.name for variable in self.plan.variables)}
        for entry in self.store.iterdir():
            if entry.name not in kept:
                shutil.rmtree(entry)

    def discard(self) -> None:
        """Delete the unfinished run."""
        # Without its plan it is debris, whatever else is still there.
        (self.folder / _PLAN).unlink(missing_ok=True)
        self.clear(self.out)

    @classmethod
    def clear(cls, out: Path) -> None:
        """Delete what a `discard` that was killed has left beside `out`, and nothing else."""
        folder = cls.folder_of(out)
        if folder.exists() and all(map(_is_ours, folder.iterdir())):
            shutil.rmtree(folder)

    def _write_plan(self) -> None:
        text = json.dumps(self.plan.to_json(), ensure_ascii=False)
        replace(self.folder / _PLAN, text.encode())

    def _record(self, region: int) -> Path:
        return self._journal / f"{region:08d}.npz"


def _is_ours(entry: Path) -> bool:
    return entry.name in _OURS or (entry.name.startswith(".") and entry.suffix == PARTIAL)


def write_region(
    store: Path, plan: Plan, region: int, values: Mapping[str, np.ndarray]
) -> dict[str, tuple[str, int]]:
    """Write one region of every variable, wait for the disk, and return what its files are.

    A region is whole chunks of the arrays: writing parts of a chunk from two places loses data.
    """
    slices = plan.slices(region)
    files = {}
    for variable in plan.variables:
        # Also a chunk of nothing but zeros is a file, so that a missing file is always a loss.
        with zarr.config.set({"array.write_empty_chunks": True}):
            array = zarr.open_array(store / variable.name, mode="r+", zarr_format=3)
        value = np.asarray(values[variable.name])
        for part, size, chunk in zip(slices, array.shape, array.chunks, strict=False):
            if part.start % chunk or not (part.stop == size or part.stop - part.start == chunk):
                raise AssertionError(f"{variable.name}: {part} is not one chunk of {chunk}")
        expected = (*(part.stop - part.start for part in slices), *variable.shape)
        if value.shape != expected or value.dtype != array.dtype:
            raise AssertionError(f"{variable.name}: {value.dtype}{value.shape}, not {expected}")
        array[slices] = value
        name = plan.file(variable, region)
        path = store / name
        sync(path)
        files[name] = fingerprint(path)
    return files


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys of a nested table, with their values as text."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False)
