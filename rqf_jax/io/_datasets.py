"""Ensembles as labelled datasets: to zarr, from zarr, to netCDF."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import xarray

from .._arguments import file_path, flag, maybe, part, takes
from .._ensemble.trajectories import Trajectories
from .._store import (
    DataFileError,
    Manifest,
    Root,
    attributes_of,
    check_arrays,
    check_target,
    provenance,
    real_target,
    remove_store,
    sync,
    write_dataset,
)

_NETCDF3_BYTES = 2**32 - 4
_ARRAY = "/zarr.json"
FACTS = maybe(part(Mapping, "a mapping of names to facts"))


@takes(
    runs=part(Trajectories),
    path=file_path,
    attributes=FACTS,
    overwrite=flag,
)
def save(
    runs: Trajectories,
    path: str | os.PathLike,
    *,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write an ensemble and where it came from to the zarr store `path`, or write nothing.

    **Arguments**

    - `runs`: the ensemble, as `simulate` returns it.
    - `path`: the store to be, by custom with the ending .zarr.
    - `attributes`: your own facts (seed, parameters, the text of a config) as numbers, strings and
      lists of them. Versions, device, calculus and time of writing are added.
    - `overwrite`: whether a store of this library at `path` is replaced.

    **Raises** see `save_dataset`. `load` is the way back.

    **Example**

    >>> import jax, rqf_jax as rqf
    >>> sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(3, 4)
    >>> ts, key = jax.numpy.linspace(0.0, 1.0, 3), jax.random.key(0)
    >>> runs = rqf.simulate(sde, law, ts, substeps=4, members=2, key=key)
    >>> rqf.save(runs, "few.zarr", attributes={"seed": 0})  # doctest: +SKIP
    """
    save_dataset(runs.to_xarray(), path, attributes=attributes or {}, overwrite=overwrite)


@takes(
    dataset=part(xarray.Dataset, "a dataset of xarray"),
    path=file_path,
    attributes=FACTS,
    overwrite=flag,
)
def save_dataset(
    dataset: xarray.Dataset,
    path: str | os.PathLike,
    *,
    attributes: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """`save` for an ensemble that is a labelled dataset already, perhaps with variables added.

    The store is written beside `path` under a temporary name and renamed when all of it is on the
    disk, so a reader, and a power cut, finds the old store, the new one or none, never a part.
    Every chunk ends in a CRC-32C that any zarr reader checks, and a manifest in the attributes of
    the store holds the SHA-256 of every file, for `rqf_jax.open` and `rqf-jax verify`. Labels that
    `load` makes from the attribute `tokens` are left out.

    **Arguments**

    - `dataset`: variables of numbers, with the dimensions `member` and `time`.
    - `path`: the store to be, by custom with the ending .zarr.
    - `attributes`: your own facts, as numbers, strings and lists of them.
    - `overwrite`: replace a store of this library at `path`.

    **Raises** FileExistsError for an existing path, unless `overwrite` is True and `path` is a
    store that this library wrote and nobody has put other files into; `DataFileError` for a path
    inside another store; ValueError for a variable that holds no numbers; TypeError for an
    attribute that JSON cannot hold.

    **Example**

    >>> with rqf.open("few.zarr") as runs:  # doctest: +SKIP
    ...     more = runs.assign(radius=abs(runs.state).max("dim"))
    ...     rqf.io.save_dataset(more, "more.zarr", attributes={"of": "few.zarr"})
    """
    path = real_target(Path(path))
    check_target(path, overwrite=overwrite)
    facts = {**dataset.attrs, **attributes}
    labels = [name for name in _labels(facts, dataset.sizes) if dataset[name].dtype.kind in "UOT"]
    dataset = dataset.drop_vars(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    new, old = workshop / "new", workshop / "old"
    try:
        new.mkdir()
        files = write_dataset(new, dataset)
        facts = {**attributes_of(dataset), **attributes, **provenance()}
        Manifest(None, files).write(new, facts)
        sync(new)
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        sync(path.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        remove_store(old)
        workshop.rmdir()


@takes(path=file_path, check=flag)
def load(path: str | os.PathLike, *, check: bool = True) -> xarray.Dataset:
    """Open the run, sweep or ensemble at `path` as a labelled dataset; also `rqf_jax.open`.

    Arrays are read when they are used, part by part if indexed first, so the run may be larger
    than memory: `rqf_jax.open(path).overlaps[:1000].mean()`. Dimensions are member, time and those
    of each observable; attributes say where the run came from, and can be written to netCDF (a
    list of strings is one string with a line for each).

    Damage is never returned as data. Opening checks the attributes, the description of every array
    and the presence and size of every file; each chunk is checked as it is read, by its CRC-32C,
    and a wrong one is a ValueError. `rqf-jax verify` reads every byte. Stores that rqf_jax 0.1
    wrote open too, and have fewer checksums; `rqf-jax verify` says which.

    Raises `DataFileError` if there is no such store, if it is not finished, if this library did
    not write it, if it holds anything but numbers, or, unless `check` is False, if files of it are
    missing or changed, or arrays were added.
    """
    path = Path(path)
    root = Root.read(path)
    if check:
        _check(path, root)
    check_arrays(path)
    try:
        with warnings.catch_warnings():
            # Files that others have put into the store; `rqf-jax verify` names them.
            warnings.filterwarnings("ignore", "Object at .* is not recognized")
            dataset = xarray.open_zarr(
                path, consolidated=False, chunks=None, mask_and_scale=False, decode_times=False
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataFileError(f"{path}: its arrays cannot be read ({error}).") from error
    attributes = {name: _plain(value) for name, value in root.attributes.items()}
    attributes.pop("coordinates", None)
    dataset.attrs = attributes
    return dataset.assign_coords(_labels(root.attributes, dataset.sizes))


def _check(path: Path, root: Root) -> None:
    """`DataFileError` if files of the store are missing or changed, or arrays were added."""
    faults = root.faults(path, "descriptions")
    if faults.damaged:
        total = 0 if root.manifest is None else len(root.manifest.files)
        raise DataFileError(
            f"{path}: {len(faults.damaged)} of {total} files are missing, cut short or changed "
            f"({faults.damaged[0]}{', …' if len(faults.damaged) > 1 else ''}); the same command "
            "that made it computes chunks again."
        )
    added = [name for name in faults.strange if name.endswith(_ARRAY)]
    if added and root.manifest is not None:
        raise DataFileError(
            f"{path}: {added[0].removesuffix(_ARRAY)} was not written with it. Move it out of the "
            "store."
        )


@takes(dataset=part(xarray.Dataset, "a dataset of xarray"), path=file_path)
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
    bare = dataset.assign_attrs({name: _plain(value) for name, value in dataset.attrs.items()})
    wide = {n: v.astype(np.float64) for n, v in bare.variables.items() if v.dtype == np.int64}
    temporary = path.with_name(f".{path.name}.partial")
    try:
        bare.assign(wide).to_netcdf(temporary, engine="scipy", format="NETCDF3_64BIT")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    """An attribute as netCDF can hold it: a text, a number, or a list of numbers."""
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list):
        if all(isinstance(one, int | float) for one in value):
            return value
        if all(isinstance(one, str) for one in value):
            return "\n".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _labels(facts: Mapping[str, Any], sizes: Mapping[Any, int]) -> dict[str, Any]:
    """Names of tokens and pairs as coordinates, where the attributes name the tokens."""
    tokens = facts.get("tokens", [])
    tokens = tokens.split("\n") if isinstance(tokens, str) else tokens
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        return {}
    pairs = [f"{a}–{b}" for a, b in combinations(tokens, 2)] if "pair" in sizes else []
    named = {"token": tokens, "pair": pairs}
    return {name: (name, v) for name, v in named.items() if v and sizes.get(name) == len(v)}
