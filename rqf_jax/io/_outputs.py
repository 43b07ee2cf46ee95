"""Hidden states as programs and files hold them, as sentences."""

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._arguments import file_path, flag, shown
from .._store.files import DataFileError, replacing
from ._containers import as_array
from ._sentence import HiddenStates, Sentence

_MASKS, _TOKENS = ("attention_mask", "mask"), ("tokens", "input_ids")
_EQUAL, _UNEQUAL = 1e-3, 1e-2


def as_hidden_states(
    hidden_states: Any,
    *,
    mask: Any = None,
    tokens: Any = None,
    texts: Any = None,
    final_norm: bool | None = None,
) -> HiddenStates:
    """Make sentences from the hidden states of a model, for `inference.explain` and others.

    **Arguments**

    - `hidden_states`: what `output_hidden_states=True` returns: a tuple of arrays (batch, tokens,
      dim) or (tokens, dim), one for the embedding and one for each block; or one array of
      them, (layers, [batch,] tokens, dim); or a list of such tuples, one for each batch.
      Arrays of NumPy, JAX or PyTorch, in any float type.
    - `mask`: the attention mask, (batch, tokens) of 0 and 1; a list of them for a list of batches.
      Tokens at 0 are left out.
    - `tokens`: names or numbers of the tokens, (batch, tokens), such as `input_ids`; a list of them
      for a list of batches. Without them no token counts as a repeated one.
    - `texts`: one string for each sentence.
    - `final_norm`: whether the last entry has passed the final norm of a Pre-LN model, as in GPT-2,
      Llama, Pythia and Gemma. It is no output of a block, and is left out if True. None
      leaves it out, with a warning, if its tokens have one norm and those before have not;
      the gains of a trained norm hide that, so say it for a trained model.

    **Returns** `HiddenStates`, a sequence of `Sentence`.

    **Raises** ValueError for layers that differ in shape, a mask that leaves a sentence empty, and
    arrays of other shapes.

    **Example**

    >>> outputs = tuple(np.ones((2, 3, 4), np.float16) for _ in range(5))
    >>> found = rqf.io.as_hidden_states(outputs, mask=[[1, 1, 1], [1, 1, 0]])
    >>> [sentence.states.shape for sentence in found]
    [(5, 3, 4), (5, 2, 4)]
    """
    batches = _batches(hidden_states)
    many = len(batches) > 1 or _is_list_of_batches(hidden_states)
    masks, names = (
        _each("mask", mask, len(batches), many),
        _each("tokens", tokens, len(batches), many),
    )
    parts = [_batch(*one) for one in zip(batches, masks, names, strict=True)]
    sentences = [one for part in parts for one in part]
    if texts is not None:
        given = [texts] if isinstance(texts, str) else _listed("texts", texts)
        if len(given) != len(sentences):
            raise ValueError(
                f"`texts` must be one for each of {len(sentences)} sentences; got {len(given)}."
            )
        sentences = [
            one._replace(text=str(text)) for one, text in zip(sentences, given, strict=True)
        ]
    normed = _is_normed(sentences) if final_norm is None else flag("final_norm", final_norm)
    if normed:
        if final_norm is None:
            warnings.warn(
                "the last hidden state has tokens of one norm, and those before have not: it was "
                "taken for the output of the final norm, which is no block, and left out. Pass "
                "`final_norm=False` to keep it, or True to leave this warning out.",
                stacklevel=2,
            )
        sentences = [one._replace(states=one.states[:-1]) for one in sentences]
    shapes = {(one.states.shape[0], one.states.shape[2]) for one in sentences}
    if len(shapes) != 1 or min(shapes)[0] < 1:
        raise ValueError(
            "`hidden_states` must have the same layers and dimension in all batches; got "
            f"{sorted(shapes)} (layers, dim)."
        )
    return HiddenStates(
        None,
        tuple(
            Sentence(one.text, tuple(one.names or (f"{i}.{j}" for j in range(one.states.shape[1]))),
                     one.states)
            for i, one in enumerate(sentences)
        ),
    )  # fmt: skip


def write_hidden_states(
    path: str | os.PathLike,
    hidden_states: Any,
    *,
    mask: Any = None,
    tokens: Any = None,
    texts: Any = None,
    final_norm: bool | None = None,
    overwrite: bool = False,
) -> HiddenStates:
    """Write hidden states to an npz file that `read_hidden_states` and `rqf-jax explain` read.

    **Arguments**

    - `path`: the file to be, with the ending .npz.
    - `hidden_states`: as in `as_hidden_states`, or `HiddenStates`.
    - `mask`: the attention mask, as there.
    - `tokens`: names or numbers of the tokens, as there.
    - `texts`: one string for each sentence.
    - `final_norm`: whether the last entry has passed the final norm, as there.
    - `overwrite`: whether a file at `path` is replaced.

    **Returns** the `HiddenStates` that were written.

    **Raises** ValueError as in `as_hidden_states`, for another ending, and for `HiddenStates` with
    any of `mask`, `tokens`, `texts` and `final_norm`. FileExistsError: for an existing path, unless
    `overwrite` is True.

    **Example**

    >>> outputs = tuple(np.random.default_rng(0).normal(size=(5, 2, 3, 4)))
    >>> found = rqf.io.write_hidden_states("few.npz", outputs)  # doctest: +SKIP
    """
    path, overwrite = Path(file_path("path", path)), flag("overwrite", overwrite)
    if path.suffix != ".npz":
        raise ValueError(f"`path` must end in .npz; got {path.name!r}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Pass `overwrite=True` to replace it.")
    if isinstance(hidden_states, HiddenStates):
        given = {"mask": mask, "tokens": tokens, "texts": texts, "final_norm": final_norm}
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"`{name}` must be left out, because `hidden_states` are sentences already; "
                    f"got {shown(value)}. Pass it to `as_hidden_states`."
                )
        found = hidden_states
    else:
        found = as_hidden_states(
            hidden_states, mask=mask, tokens=tokens, texts=texts, final_norm=final_norm
        )
    arrays: dict[str, Any] = {"sentences": np.array([one.text for one in found])}
    for i, one in enumerate(found):
        arrays |= {f"tokens_{i:02d}": np.array(one.tokens), f"hidden_{i:02d}": one.states}
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)
    return HiddenStates(path, tuple(found))


def without_last(found: HiddenStates) -> HiddenStates:
    """The same sentences without their last layer."""
    kept = (Sentence(one.text, one.tokens, one.states[:-1]) for one in found)
    return HiddenStates(found.path, tuple(kept))


def from_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], final_norm: bool | None
) -> HiddenStates:
    """Sentences from the named arrays of a file; `DataFileError` if they are none."""
    mask = next((arrays[name] for name in _MASKS if name in arrays), None)
    tokens = next((arrays[name] for name in _TOKENS if name in arrays), None)
    rest = {name: a for name, a in arrays.items() if name not in (*_MASKS, *_TOKENS)}
    try:
        found = as_hidden_states(_layers(rest), mask=mask, tokens=tokens, final_norm=final_norm)
    except ValueError as error:
        raise DataFileError(f"{path}: {error}") from error
    return HiddenStates(path, found.sentences)


def _layers(arrays: Mapping[str, np.ndarray]) -> Any:
    """One array of all layers, or an array for each, in the order of their numbers."""
    floats = {name: a for name, a in arrays.items() if jnp.issubdtype(a.dtype, jnp.floating)}
    if "hidden_states" in floats:
        return floats["hidden_states"]
    if len(floats) == 1:
        return next(iter(floats.values()))
    numbered: dict[str, dict[int, np.ndarray]] = {}
    for name, array in floats.items():
        match = re.fullmatch(r"(.*?)(\d+)", name)
        if match:
            numbered.setdefault(match[1], {})[int(match[2])] = array
    if len(numbered) != 1 or sum(map(len, numbered.values())) != len(floats):
        raise ValueError(
            "must hold `hidden_states` (layers, [batch,] tokens, dim), or one array for each "
            "layer whose names differ in a number at their end, or `sentences` as "
            "`rqf_jax.io.read_hidden_states` describes; and perhaps `attention_mask` and "
            f"`input_ids`. It holds {', '.join(sorted(arrays)) or 'nothing'}."
        )
    (layers,) = numbered.values()
    return [layers[number] for number in sorted(layers)]


class _Part(NamedTuple):
    text: str
    names: list[str] | None
    states: np.ndarray


def _is_list_of_batches(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(one, list | tuple) for one in value)


def _batches(hidden_states: Any) -> list[np.ndarray]:
    """Arrays (layers, batch, tokens, dim), one for each batch."""
    if not _is_list_of_batches(hidden_states):
        return [_stacked(hidden_states)]
    return [_stacked(one) for one in hidden_states]


def _stacked(layers: Any) -> np.ndarray:
    if isinstance(layers, list | tuple):
        arrays = [_array("hidden_states", one) for one in layers]
        shapes = [one.shape for one in arrays]
        if len(set(shapes)) != 1:
            other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), 0)
            got = (
                f"{shapes[0]} in layer 0 and {shapes[other]} in layer {other}" if shapes else "none"
            )
            raise ValueError(f"`hidden_states` must have one shape in all layers; got {got}.")
        array = np.stack(arrays)
    else:
        array = _array("hidden_states", layers)
    if array.dtype == object:
        raise ValueError(
            "`hidden_states` must be an array of floats, or a tuple or list of them; got "
            f"{shown(layers)}."
        )
    if (
        not jnp.issubdtype(array.dtype, jnp.floating)
        or array.ndim not in (3, 4)
        or 0 in array.shape
    ):
        raise ValueError(
            "`hidden_states` must be floats of shape (layers, [batch,] tokens, dim), none of them "
            f"0; got dtype {array.dtype} and shape {array.shape}."
        )
    return array if array.ndim == 4 else array[:, None]


def _each(name: str, value: Any, count: int, many: bool) -> list[Any]:
    """`value` of each of `count` batches."""
    if value is None:
        return [None] * count
    if not many:
        return [value]
    if not isinstance(value, list | tuple) or len(value) != count:
        raise ValueError(f"`{name}` must be a list of one for each of {count} batches.")
    return list(value)


def _batch(states: np.ndarray, mask: Any, tokens: Any) -> list[_Part]:
    batch, length = states.shape[1:3]
    kept = np.ones((batch, length), bool) if mask is None else _array("mask", mask)
    kept = kept[None] if kept.ndim == 1 else kept
    if kept.shape != (batch, length) or not np.all((kept == 0) | (kept == 1)):
        raise ValueError(
            f"`mask` must be 0 and 1 of shape {(batch, length)}, (batch, tokens) of "
            f"`hidden_states`; got dtype {kept.dtype} and shape {kept.shape}."
        )
    empty = np.flatnonzero(~np.any(kept != 0, axis=1))
    if empty.size:
        raise ValueError(
            f"`mask` must leave a token in every sentence; sentence {empty[0]} has none."
        )
    names = _names(tokens, batch, length)
    found = []
    for i in range(batch):
        there = np.flatnonzero(kept[i])
        own = None if names is None else [names[i][j] for j in there]
        found.append(_Part("", own, states[:, i, there]))
    return found


def _names(tokens: Any, batch: int, length: int) -> list[list[str]] | None:
    if tokens is None:
        return None
    rows = _listed("tokens", tokens)
    if rows and not (isinstance(rows[0], list | tuple) or np.ndim(rows[0])):
        rows = [rows]
    names = [[str(one) for one in _listed("tokens", row)] for row in rows]
    if len(names) != batch or any(len(row) != length for row in names):
        raise ValueError(
            f"`tokens` must name {length} tokens of each of {batch} sentences; got "
            f"{shown([len(row) for row in names])}."
        )
    return names


def _listed(name: str, value: Any) -> list[Any]:
    """A list, a tuple or an array as a list."""
    if isinstance(value, list | tuple):
        return list(value)
    array = _array(name, value)
    if not array.ndim:
        raise ValueError(f"`{name}` must be a list or an array; got {shown(value)}.")
    return array.tolist()


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return as_array(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"`{name}` must be an array; got {shown(value)} ({error}).") from None


def _is_normed(sentences: list[_Part]) -> bool:
    """True if tokens have one norm in the last entry and several in the one before."""
    if any(one.states.shape[0] < 3 for one in sentences):
        return False
    norms = np.concatenate(
        [np.linalg.norm(one.states[-2:].astype(np.float64), axis=-1) for one in sentences], axis=1
    )
    if not np.all(np.isfinite(norms)) or norms.shape[1] < 2 or not np.all(norms.mean(1) > 0):
        return False
    before, last = norms.std(axis=1) / norms.mean(axis=1)
    return bool(last < _EQUAL and before > _UNEQUAL)
