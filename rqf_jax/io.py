"""Files: hidden states of a language model in, ensembles of trajectories out and in again.

Hidden states come in NumPy's npz format. Ensembles go to zarr (format 3) through xarray, with
where they came from as attributes: versions, device, time of writing and the caller's own.
"""

import importlib.metadata
import os
import platform
import shutil
import sysconfig
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray
from jaxtyping import Float, Int

from ._arguments import integer
from ._trajectories import Trajectories

_PACKAGES = ("rqf_jax", "jax", "jaxlib", "diffrax", "equinox", "numpy", "xarray", "zarr")


class DataFileError(ValueError):
    """A file that cannot be read as what it should be: names the file, the array and the rule."""


def standard_library(tokens: int) -> Int[np.ndarray, " tokens"]:
    """The first `tokens` ASCII characters of the standard library's sources, as numbers below 128.

    A text that every machine with Python has: its top modules in alphabetical order. Raises
    ValueError if there are not so many, or tokens < 1.
    """
    tokens = integer("tokens", tokens)
    parts, size = [], 0
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        part = np.frombuffer(file.read_bytes(), np.uint8)
        parts.append(part[part < 128])
        size += parts[-1].size
        if size >= tokens:
            return np.concatenate(parts)[:tokens].astype(np.int32)
    raise ValueError(f"`tokens` must be at most the {size} characters there are; got {tokens}.")


@dataclass(frozen=True)
class Sentence:
    """One sentence on its way through a model: its tokens and their hidden states.

    `states` (layers, tokens, dim); layer 0 is the output of the embedding.
    """

    text: str
    tokens: tuple[str, ...]
    states: Float[np.ndarray, "layers tokens dim"]

    def select(self, indices: Sequence[int]) -> "Sentence":
        """The same sentence with only the tokens `indices`, in the order given."""
        kept = tuple(self.tokens[i] for i in indices)
        return Sentence(self.text, kept, self.states[:, list(indices)])

    def unit(self, layer: int) -> Float[np.ndarray, "tokens dim"]:
        """The tokens of one layer on the unit sphere, x_a = h_a / |h_a|, in float64."""
        states = self.states[layer].astype(np.float64)
        return states / np.linalg.norm(states, axis=-1, keepdims=True)

    def overlaps(self) -> Float[np.ndarray, "layers pairs"]:
        """The cosine of every pair of tokens a < b in every layer, pairs as in `observables`."""
        rows, columns = np.triu_indices(len(self.tokens), 1)
        units = (self.unit(layer) for layer in range(len(self.states)))
        return np.stack([(x @ x.T)[rows, columns] for x in units])


@dataclass(frozen=True)
class HiddenStates(Sequence[Sentence]):
    """The sentences of one file, a sequence of `Sentence`."""

    path: Path
    sentences: tuple[Sentence, ...]

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index):
        return self.sentences[index]

    def __iter__(self) -> Iterator[Sentence]:
        return iter(self.sentences)


def example_hidden_states() -> HiddenStates:
    """Five sentences through all-MiniLM-L6-v2: 7 layers, 12 to 20 tokens in R^384.

    The file comes with the package; its NOTICE names the model, its licence and what was computed.
    """
    with resources.as_file(resources.files("rqf_jax") / "data" / "minilm_5_sentences.npz") as path:
        return read_hidden_states(path)


def read_hidden_states(path: str | os.PathLike) -> HiddenStates:
    """The sentences of an npz file of hidden states.

    For S sentences the file holds `sentences` (S,) of strings and for each i = 00, 01, ...
    `tokens_i` (tokens,) of strings and `hidden_i` (layers, tokens, dim) of floats. Write one with

        np.savez_compressed(path, sentences=texts, tokens_00=tokens, hidden_00=states, ...)

    Raises `DataFileError`, a ValueError, that names the file, the array and the rule if the file
    is missing, is not an npz file or is cut short, if an array is missing or has the wrong type
    or shape, or if a token is not finite or of norm zero, so that it has no place on the sphere.
    """
    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"{path}: no such file.")
    try:
        # NumPy leaves a file that it opened itself open if it is no zip archive.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataFileError(f"{path}: must be an npz file; got a single npy array.")
            with file:
                return HiddenStates(path, _sentences(_Arrays(path, file)))
    # NumPy takes whatever has neither magic number for a pickle, and refuses with a ValueError.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{path}: not an npz file, or cut short ({error}).") from error


@dataclass(frozen=True)
class _Arrays:
    """An open npz file that says what is wrong with it."""

    path: Path
    file: Any

    def strings(self, name: str) -> np.ndarray:
        array = self._read(name, 1)
        if array.dtype.kind != "U":
            raise self.error(name, f"must be an array of strings; got dtype {array.dtype}")
        return array

    def floats(self, name: str, ndim: int) -> np.ndarray:
        array = self._read(name, ndim)
        if array.dtype.kind != "f":
            raise self.error(name, f"must be an array of floats; got dtype {array.dtype}")
        return array

    def error(self, name: str, rule: str) -> DataFileError:
        return DataFileError(f"{self.path}: `{name}` {rule}.")

    def _read(self, name: str, ndim: int) -> np.ndarray:
        if name not in self.file:
            raise self.error(name, f"is missing; the file has {', '.join(sorted(self.file))}")
        array = self.file[name]
        if array.ndim != ndim:
            raise self.error(name, f"must have rank {ndim}; got shape {array.shape}")
        return array


def _sentences(arrays: _Arrays) -> tuple[Sentence, ...]:
    texts = arrays.strings("sentences")
    if not texts.size:
        raise arrays.error("sentences", "must hold at least one sentence")
    return tuple(_sentence(arrays, i, text) for i, text in enumerate(texts.tolist()))


def _sentence(arrays: _Arrays, index: int, text: str) -> Sentence:
    name = f"hidden_{index:02d}"
    tokens = arrays.strings(f"tokens_{index:02d}")
    states = arrays.floats(name, 3)
    if 0 in states.shape:
        raise arrays.error(name, f"must not be empty; got shape {states.shape}")
    if states.shape[1] != tokens.size:
        raise arrays.error(
            name,
            f"must have shape (layers, tokens, dim) with the {tokens.size} tokens of "
            f"`tokens_{index:02d}`; got shape {states.shape}",
        )
    norms = np.linalg.norm(states.astype(np.float64), axis=-1)
    for rule, wrong in (("be finite", ~np.isfinite(norms)), ("have norm > 0", norms == 0)):
        if np.any(wrong):
            layer, token = np.argwhere(wrong)[0].tolist()
            raise arrays.error(
                name, f"must {rule}; layer {layer}, token {token} ({str(tokens[token])!r}) does not"
            )
    return Sentence(text, tuple(tokens.tolist()), states)


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
    dataset = dataset.assign_attrs({**attributes, **_provenance()})
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
        load(path).close()
    except DataFileError as error:
        raise FileExistsError(f"{path} exists, and is no run of rqf_jax.") from error


def load(path: str | os.PathLike) -> xarray.Dataset:
    """The dataset of a store that `save` wrote; arrays are read when they are used.

    Raises `DataFileError` if there is no such store, or if this library did not write it.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileError(f"{path}: no such run.")
    try:
        dataset = xarray.open_zarr(path, consolidated=False, chunks=None)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError) as error:
        raise DataFileError(f"{path}: not a zarr store ({error}).") from error
    if "rqf_jax" not in dataset.attrs:
        raise DataFileError(f"{path}: not a run of rqf_jax; its attributes name no version.")
    return dataset


def _provenance() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return versions | {
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "calculus": "Stratonovich",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
