"""Hidden states of a language model, from NumPy's npz format."""

import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from .._store.files import DataFileError


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
    is missing, is not an npz file, is cut short, encrypted or compressed by a method that NumPy
    does not write, if an array is missing or has the wrong type or shape, or if a token is not
    finite or of norm zero, so that it has no place on the sphere.
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
                _check_members(path, file.zip.infolist() if file.zip else ())
                return HiddenStates(path, _sentences(_Arrays(path, file)))
    # NumPy takes whatever has neither magic number for a pickle, and refuses with a ValueError.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{path}: not an npz file, or cut short ({error}).") from error


def _check_members(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """DataFileError for a zip archive that NumPy did not write."""
    for member in members:
        if member.flag_bits & 1:
            raise DataFileError(f"{path}: `{member.filename}` is encrypted; save it without.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataFileError(
                f"{path}: `{member.filename}` is compressed by method {member.compress_type}, and "
                "NumPy reads none but 0 and 8; save it with numpy.savez_compressed."
            )


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
        try:
            array = self.file[name]
        except MemoryError as error:
            raise self.error(name, "needs more memory than there is") from error
        if not isinstance(array, np.ndarray):
            raise self.error(name, "must be an array in NumPy's format; got other bytes")
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
