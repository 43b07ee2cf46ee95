"""Ensembles as labelled datasets: to zarr, from zarr, to netCDF."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from .._ensemble.trajectories import Trajectories
from .._store.draft import Draft
from .._store.files import DataFileError
from .._store.manifest import Manifest, attributes as attributes_of, damaged
from .._store.provenance import provenance

_NETCDF3_BYTES = 2**32 - 4


def save(
    runs: Trajectories,
    path: str | os.PathLike,
    *,
    attributes: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write an ensemble and where it came from to the zarr store `path`, or write nothing.

    `attributes` are the caller's own facts (seed, parameters, the text of a config) as numbers,
    strings and lists of them; versions, device, calculus and time of writing are added. See
    `save_dataset` for what happens to the path, and `load` for the way back.
    """
    save_dataset(runs.to_xarray(), path, attributes=attributes, overwrite=overwrite)


def save_dataset(
    dataset: xarray.Dataset,
    path: str | os.PathLike,
    *,
    attributes: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """`save` for an ensemble that is a labelled dataset already, perhaps with variables added.

    The store is written beside `path` under a temporary name and renamed when it is complete, so
    a reader finds the old store, the new one or none, never a part.

    Raises FileExistsError for an existing path, unless `overwrite` is True and `path` is a store
    that this library wrote: nothing else is ever deleted.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    dataset = dataset.assign_attrs({**attributes, **provenance()})
    path.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        new, old = workshop / "new", workshop / "old"
        dataset.to_zarr(new, mode="w", zarr_format=3, consolidated=False)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
    finally:
        shutil.rmtree(workshop)


def check_target(path: Path, *, overwrite: bool) -> None:
    """FileExistsError unless `save` may write `path`; the message says why."""
    if not path.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{path} exists.")
    try:
        _facts(path)
    except DataFileError as error:
        raise FileExistsError(f"{path} exists, and is no run of rqf_jax.") from error


def _facts(path: Path) -> dict[str, Any]:
    """The attributes of a store that this library wrote; `DataFileError` for every other."""
    facts = attributes_of(path)
    if "rqf_jax" not in facts:
        raise DataFileError(f"{path}: not a run of rqf_jax; its attributes name no version.")
    return facts


def load(path: str | os.PathLike, *, check: bool = True) -> xarray.Dataset:
    """The run, sweep or ensemble at `path`, as a labelled dataset; also `rqf_jax.open`.

    Arrays are read when they are used, part by part if indexed first, so the run may be larger
    than memory: `rqf_jax.open(path).overlaps[:1000].mean()`. Dimensions are member, time and those
    of each observable; attributes say where the run came from.

    Raises `DataFileError` if there is no such store, if it is not finished, if this library did
    not write it, or, unless `check` is False, if files of it are missing or have another size. A
    byte that changed is found when its chunk is read (ValueError), and by `rqf-jax verify`.
    """
    path = Path(path)
    draft = Draft.folder_of(path)
    if not path.exists() and draft.exists():
        raise DataFileError(f"{path}: not finished, see {draft}; the same `run` continues it.")
    _facts(path)
    manifest = Manifest.read(path)
    if manifest is not None and check:
        lost = list(damaged(path, manifest, sizes_only=True))
        if lost:
            raise DataFileError(
                f"{path}: {len(lost)} of {len(manifest.files)} files are missing or cut short "
                f"({lost[0]}{', …' if len(lost) > 1 else ''}); the same `run` computes them again."
            )
    try:
        dataset = xarray.open_zarr(path, consolidated=False, chunks=None)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise DataFileError(f"{path}: not a zarr store ({error}).") from error
    dataset.attrs.pop("manifest", None)
    return dataset.assign_coords(_labels(dataset))


def to_netcdf(dataset: xarray.Dataset, path: str | os.PathLike) -> None:
    """Write a dataset to one netCDF file (classic format with 64-bit offsets, read by everything).

    Raises `DataFileError` for a variable of 4 GiB or more, which that format cannot hold, and for a
    folder that does not exist; FileExistsError for an existing path.
    """
    path = Path(path)
    for name, variable in dataset.variables.items():
        if variable.nbytes > _NETCDF3_BYTES:
            raise DataFileError(
                f"{path}: `{name}` must be below 4 GiB for netCDF; got {variable.nbytes:,} bytes."
            )
    if path.exists():
        raise FileExistsError(f"{path} exists.")
    if not path.parent.is_dir():
        raise DataFileError(f"{path}: there is no folder {path.parent}.")
    plain = {
        name: "\n".join(map(str, value)) if isinstance(value, list) else value
        for name, value in dataset.attrs.items()
    }
    bare = dataset.assign_attrs(plain)
    wide = {n: v.astype(np.float64) for n, v in bare.variables.items() if v.dtype == np.int64}
    temporary = path.with_name(f".{path.name}.partial")
    try:
        bare.assign(wide).to_netcdf(temporary, engine="scipy", format="NETCDF3_64BIT")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _labels(dataset: xarray.Dataset) -> dict[str, Any]:
    """Names of tokens and pairs as coordinates, where the run knows its tokens' names."""
    tokens = [str(token) for token in dataset.attrs.get("tokens", ())]
    pairs = [f"{a}–{b}" for a, b in combinations(tokens, 2)]
    named = {"token": tokens, "pair": pairs}
    return {name: (name, v) for name, v in named.items() if v and dataset.sizes.get(name) == len(v)}
