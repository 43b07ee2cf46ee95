"""Weight matrices of a model, and of a series of checkpoints."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import file_path, integer, maybe, shown, takes, whole, words
from .._ensemble.trajectories import Trajectories
from .._store.files import DataFileError
from ._containers import SUFFIXES, as_array, named_arrays
from ._families import KINDS, KNOWN, Named, by_family, by_pattern

_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_WHOLE = ("model.safetensors", "pytorch_model.bin", "weights.npz")
_STEP = re.compile(
    r"(?i)(?:^|[-_.=]|(?<![a-z])(?:step|steps|checkpoint|ckpt|epoch|iter|iteration|update|batch|tokens))"
    r"(\d+)(?![a-z0-9])"
)
_HEADS = ("num_attention_heads", "n_head")


@dataclass(frozen=True)
class WeightMatrix:
    """One weight matrix: its `layer` from 0, its `kind`, its `name` in the file, and `values`
    (outputs, inputs). Kinds are Q, K, V, O of attention, up, gate, down of the MLP, and QKV for a
    matrix that holds three whose places are not known."""

    layer: int
    kind: str
    name: str
    values: Float[np.ndarray, "outputs inputs"]


@dataclass(frozen=True)
class Weights(Sequence[WeightMatrix]):
    """The weight matrices of one model, by layer and kind; `others` are names that are none.

    `family` is that of the names, None for a pattern of yours.
    """

    path: Path
    matrices: tuple[WeightMatrix, ...]
    others: tuple[str, ...]
    family: str | None

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, index):
        return self.matrices[index]

    def __iter__(self) -> Iterator[WeightMatrix]:
        return iter(self.matrices)

    def __repr__(self) -> str:
        layers = len({one.layer for one in self.matrices})
        kinds = ", ".join(dict.fromkeys(one.kind for one in self.matrices))
        return f"Weights({self.path.name}: {layers} layers of {kinds}; {len(self.others)} others)"

    def get(self, layer: int, kind: str) -> WeightMatrix:
        """The matrix of one layer and kind. Raises KeyError if there is none."""
        for one in self.matrices:
            if (one.layer, one.kind) == (layer, kind):
                return one
        raise KeyError(f"{self.path}: no {kind} in layer {layer}.")


@takes(path=file_path, pattern=maybe(words), heads=maybe(whole()))
def read_weights(
    path: str | os.PathLike, pattern: str | None = None, *, heads: int | None = None
) -> Weights:
    r"""Read the weight matrices of a model, each with its layer and kind.

    **Arguments**

    - `path`: a file (.safetensors, .npz, .h5, or PyTorch's .pt, .pth, .bin), or a folder as Hugging
      Face models have them, with one file or several and their index. PyTorch's files need
      the extra `models`; nothing in a file is run.
    - `pattern`: a regular expression for whole names with the groups `layer` and `kind`, such as
      `blocks\.(?P<layer>\d+)\.(?P<kind>q|k|v)\.weight`. Without it names are those of
      GPT-2, GPT-NeoX, Pythia, Llama, Gemma 2, BERT or `rqf_jax.training.GPT`.
    - `heads`: the number of heads, with which Q, K and V of GPT-NeoX come apart; by default that
      of a `config.json` beside the file. Without either the kind is QKV.

    **Returns** `Weights`.

    **Raises** DataFileError for files that cannot be read, names that are not known, and matrices
    that are not finite.

    **Example**

    >>> np.savez("w.npz", **{"h.0.mlp.c_fc.weight": np.ones((2, 8))})  # doctest: +SKIP
    >>> rqf.io.read_weights("w.npz").get(0, "up").values.shape  # doctest: +SKIP
    (8, 2)
    """
    path = Path(path)
    compiled = None if pattern is None else _compiled(pattern)
    arrays: dict[str, np.ndarray] = {}
    part = re.fullmatch(r".*-\d+-of-(\d+)\.\w+", path.name)
    if part and int(part[1]) > 1 and pattern is None and path.is_file():
        raise DataFileError(
            f"{path}: is one of {int(part[1])} files of a model. Give their folder or their index, "
            "or a `pattern` to read it alone."
        )
    for file in _files(path):
        arrays |= named_arrays(file)
    folder = path if path.is_dir() else path.parent
    family = None
    if compiled is None:
        found, others, family = by_family(arrays, heads or _heads(folder))
    else:
        found, others = by_pattern(arrays, compiled)
    if not found:
        few = ", ".join(sorted(arrays)[:4]) + (", …" if len(arrays) > 4 else "")
        rule = "names of " + KNOWN if compiled is None else f"names that match {pattern!r}"
        raise DataFileError(
            f"{path}: must hold matrices with {rule}; it holds {few}. Pass a `pattern` with the "
            "groups `layer` and `kind`."
        )
    matrices = tuple(_matrix(path, one) for one in sorted(found, key=_order))
    if family == "GPT-2" and (odd := [one for one in matrices if one.kind == "QKV"]):
        raise DataFileError(
            f"{path}: `{odd[0].name}` must hold Q, K and V side by side, in columns whose number "
            f"is a multiple of 3; got shape {odd[0].values.shape[::-1]}."
        )
    twice = {(one.layer, one.kind) for one in matrices}
    if len(twice) != len(matrices):
        raise DataFileError(
            f"{path}: must have one matrix of each layer and kind; some have two. Pass a `pattern` "
            "that tells them apart."
        )
    return Weights(path, matrices, tuple(others), family)


@dataclass(frozen=True)
class Checkpoints:
    """The weights of one model at several steps of its training.

    `steps` ascend; `paths` are their files or folders. Weights are read when they are asked for.
    """

    steps: Float[np.ndarray, " times"]
    paths: tuple[Path, ...]
    pattern: str | None
    heads: int | None
    shapes: dict[tuple[int, str], tuple[int, int]]

    def weights(self, layer: int, kind: str) -> Trajectories:
        """One matrix at all steps, (1, steps, outputs, inputs).

        Raises KeyError if there is none of that layer and kind.
        """
        if (layer, kind) not in self.shapes:
            raise KeyError(f"no {kind} in layer {layer}.")
        values = [read.get(layer, kind).values for read in self]
        return _trajectories(self.steps, np.stack(values))

    def spectra(self) -> Trajectories:
        """Singular values of every matrix at all steps, ascending, by a name like "0.Q".

        The times of the `Trajectories` are the steps.
        """
        found: dict[str, list[np.ndarray]] = {f"{i}.{kind}": [] for i, kind in self.shapes}
        for weights in self:
            for one in weights:
                values = np.linalg.svd(one.values.astype(float), compute_uv=False)
                found[f"{one.layer}.{one.kind}"].append(values[::-1])
        return _trajectories(self.steps, {name: np.stack(rows) for name, rows in found.items()})

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Weights]:
        for path in self.paths:
            weights = read_weights(path, self.pattern, heads=self.heads)
            shapes = {(one.layer, one.kind): one.values.shape for one in weights}
            if shapes != self.shapes:
                first = next(iter(set(shapes.items()) ^ set(self.shapes.items())))
                raise DataFileError(
                    f"{path}: must have the matrices of {self.paths[0]}; they differ in layer "
                    f"{first[0][0]}, {first[0][1]}."
                )
            yield weights


@takes(folder=file_path, pattern=maybe(words), heads=maybe(whole()))
def read_checkpoints(
    folder: str | os.PathLike, pattern: str | None = None, *, heads: int | None = None
) -> Checkpoints:
    """Find the checkpoints in a folder: files or folders whose names hold the step.

    **Arguments**

    - `folder`: with entries such as `step1000`, `checkpoint-500`, `step_20.npz` or `model-20`; the
      step is the last number in the name that stands alone, between `-`, `_`, `.` or `=`, or
      behind a word such as step, checkpoint, epoch. Other entries are passed over. The folder of
      one model, with `model.safetensors` or the like, or one file of weights is one checkpoint of
      step 0.
    - `pattern`: of the names of matrices, as in `read_weights`.
    - `heads`: the number of heads, as there.

    **Returns** `Checkpoints`, at least one, whose `spectra()` are `Trajectories` over the steps.

    **Raises** DataFileError for a folder without checkpoints, two of one step, and weights that
    `read_weights` refuses.

    **Example**

    >>> rqf.io.read_checkpoints("runs/model").spectra()  # doctest: +SKIP
    """
    place = Path(folder)
    if not place.exists():
        raise DataFileError(f"{place}: no such file or folder.")
    found: dict[int, Path] = {}
    alone = place.is_file() or any((place / name).is_file() for name in (*_INDEX, *_WHOLE))
    for entry in () if alone else sorted(place.iterdir()):
        numbers = _STEP.findall(entry.stem if entry.is_file() else entry.name)
        usable = entry.is_dir() or entry.suffix in SUFFIXES
        if entry.name.startswith(".") or not numbers or not usable:
            continue
        step = int(numbers[-1])
        if step in found:
            raise DataFileError(f"{place}: step {step} is in {found[step].name} and {entry.name}.")
        found[step] = entry
    if alone:
        found = {0: place}
    if not found:
        raise DataFileError(
            f"{place}: must hold checkpoints, files or folders with a step in their names, such "
            "as step1000; it has none."
        )
    steps = sorted(found)
    first = read_weights(found[steps[0]], pattern, heads=heads)
    return Checkpoints(
        np.array(steps, float),
        tuple(found[step] for step in steps),
        pattern,
        heads,
        {(one.layer, one.kind): one.values.shape for one in first},
    )


def _trajectories(steps: np.ndarray, values: Any) -> Trajectories:
    def member(array):
        return jnp.asarray(array[None], float)

    ys = {k: member(v) for k, v in values.items()} if isinstance(values, dict) else member(values)
    return Trajectories(steps, ys, jnp.zeros(1, int))


def _files(path: Path) -> list[Path]:
    """The files that hold the weights of a model."""
    if path.name in _INDEX:
        return _shards(path)
    if not path.is_dir():
        return [path]
    for name in _INDEX:
        index = path / name
        if index.is_file():
            return _shards(index)
    for name in _WHOLE:
        if (path / name).is_file():
            return [path / name]
    rest = [file for file in sorted(path.iterdir()) if file.suffix in SUFFIXES]
    if len(rest) == 1:
        return rest
    raise DataFileError(
        f"{path}: must hold {', '.join(_WHOLE)}, the index of several files, or one file of "
        f"weights; it holds {', '.join(file.name for file in rest) or 'none'}."
    )


def _shards(index: Path) -> list[Path]:
    try:
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataFileError(f"{index}: must be JSON with a weight_map of names to files.") from None
    bad = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if bad:
        raise DataFileError(f"{index}: must name files of its own folder; got {shown(bad[0])}.")
    return [index.parent / name for name in sorted(names)]


def _heads(folder: Path) -> int | None:
    """The number of heads in a `config.json` in the folder."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        found = next(config[name] for name in _HEADS if name in config)
        return integer("heads", found)
    except (OSError, ValueError, TypeError, RecursionError, StopIteration):
        return None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"`pattern` must be a regular expression; got {error}.") from None
    if not {"layer", "kind"} <= compiled.groupindex.keys():
        raise ValueError(
            "`pattern` must have the groups (?P<layer>…) and (?P<kind>…); got "
            f"{', '.join(compiled.groupindex) or 'none'}."
        )
    return compiled


def _order(one: Named) -> tuple[int, int, str]:
    return one.layer, KINDS.index(one.kind) if one.kind in KINDS else len(KINDS), one.kind


def _matrix(path: Path, one: Named) -> WeightMatrix:
    values = as_array(one.values)
    if values.dtype.kind != "f":
        raise DataFileError(f"{path}: `{one.name}` must hold floats; got dtype {values.dtype}.")
    if 0 in values.shape or not np.all(np.isfinite(values)):
        raise DataFileError(f"{path}: `{one.name}` must be finite, and not empty.")
    return WeightMatrix(one.layer, one.kind, one.name, np.ascontiguousarray(values))
