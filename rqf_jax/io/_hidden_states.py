"""Hidden states of a language model, from files."""

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from .._arguments import flag, maybe
from .._store.files import DataFileError
from ._containers import SUFFIXES, check_file, named_arrays, opened_npz
from ._outputs import from_arrays, without_last
from ._sentence import HiddenStates, Sentence


def example_hidden_states() -> HiddenStates:
    """Five sentences through all-MiniLM-L6-v2: 7 layers, 12 to 20 tokens in R^384.

    The file comes with the package; its NOTICE names the model, its licence and what was computed.
    """
    with resources.as_file(resources.files("rqf_jax") / "data" / "minilm_5_sentences.npz") as path:
        return read_hidden_states(path)


def read_hidden_states(path: str | os.PathLike, *, final_norm: bool | None = None) -> HiddenStates:
    """The sentences of a file of hidden states: .npz, .npy, .safetensors, .h5, .pt.

    It holds one of

    - what `write_hidden_states` writes: `sentences` (S,) of strings and for each i = 00, 01, ...
      `tokens_i` (tokens,) of strings and `hidden_i` (layers, tokens, dim) of floats;
    - one array of floats (layers, [batch,] tokens, dim), called `hidden_states` or alone;
    - one array ([batch,] tokens, dim) for each layer, whose names differ in the number at their
      end, such as `layer_0`, `layer_1`, ... or the `arr_0`, ... of `numpy.savez(path, *states)`.

    The last two may come with `attention_mask` and `input_ids` (batch, tokens); `as_hidden_states`
    says how they are read, and what `final_norm` does with a last entry behind the final norm: it
    is looked for, except in the first form, where only True leaves it out. HDF5 needs the
    extra `files`, PyTorch's files the extra `models`. Nothing in a file is run; pickled objects are
    refused.

    Raises `DataFileError`, a ValueError, that names the file, the array and the rule if the file
    is missing, is of another kind, is cut short, encrypted or compressed by a method that NumPy
    does not write, if an array is missing or has the wrong type or shape, or, in the first form, if
    a token is not finite or of norm zero, so that it has no place on the sphere.
    """
    path = Path(path)
    check_file(path)
    if path.suffix not in SUFFIXES or path.suffix == ".npz":
        with opened_npz(path) as file:
            ours = {"sentences", "tokens_00", "hidden_00"} & set(file.files)
            if ours or path.suffix != ".npz":
                found = HiddenStates(path, _sentences(_Arrays(path, file)))
                return without_last(found) if maybe(flag)("final_norm", final_norm) else found
    return from_arrays(path, named_arrays(path), final_norm)


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
