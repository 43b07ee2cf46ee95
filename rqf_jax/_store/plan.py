"""The plan of a run: everything that is decided before its first chunk is computed."""

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .files import DataFileError


@dataclass(frozen=True)
class Variable:
    """An array of the store, without the axes that chunks divide."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first chunk: two runs of one plan are the same.

    `config` says what is computed, `inputs` is the SHA-256 of every file that the config reads, by
    its key (None: rqf_jax 0.1 did not note it), and `identity` says by what it is computed;
    `divided` are the leading axes, as (name, size, size of a chunk); `batch` is how many members a
    device computes at a time.
    """

    config: str
    inputs: dict[str, str] | None
    identity: dict[str, str]
    divided: tuple[tuple[str, int, int], ...]
    variables: tuple[Variable, ...]
    batch: int

    @property
    def grid(self) -> tuple[int, ...]:
        """How many chunks along each divided axis."""
        return tuple(math.ceil(size / chunk) for _, size, chunk in self.divided)

    @property
    def chunks(self) -> int:
        """How many chunks."""
        return math.prod(self.grid)

    def slices(self, chunk: int) -> tuple[slice, ...]:
        """The part of the divided axes that is `chunk`."""
        where = np.unravel_index(chunk, self.grid)
        return tuple(
            slice(int(i) * length, min((int(i) + 1) * length, size))
            for i, (_, size, length) in zip(where, self.divided, strict=True)
        )

    def size(self, chunk: int) -> int:
        """How many members, or points of a sweep, `chunk` holds."""
        return math.prod(part.stop - part.start for part in self.slices(chunk))

    def file(self, variable: Variable, chunk: int) -> str:
        """The file of one variable's part in `chunk`."""
        where = [*np.unravel_index(chunk, self.grid), *(0 for _ in variable.shape)]
        return "/".join([variable.name, "c", *map(str, where)])

    def chunks_of(self, files: Iterable[str]) -> tuple[list[int], list[str]]:
        """The chunks that some of `files` belong to, and the files that belong to none."""
        where = {self.file(v, c): c for c in range(self.chunks) for v in self.variables}
        files = list(files)
        chunks = sorted({where[name] for name in files if name in where})
        return chunks, [name for name in files if name not in where]

    def differences(
        self, config: str, inputs: Mapping[str, str], identity: Mapping[str, str] | None = None
    ) -> list[str]:
        """How this plan differs from a config, its input files and an identity, a line each.

        Without an `identity` only the config and its files are compared: a finished run stays
        what it is when the library changes.
        """
        mine = dict(_flat(tomllib.loads(self.config)))
        others = dict(_flat(tomllib.loads(config)))
        if self.inputs is not None:
            mine, others = mine | _of_files(self.inputs), others | _of_files(inputs)
        if identity is not None:
            mine, others = mine | self.identity, others | dict(identity)
        return [
            f"{name}: {mine.get(name, 'none')} in the run, {others.get(name, 'none')} here"
            for name in [*mine, *(name for name in others if name not in mine)]
            if mine.get(name) != others.get(name)
        ]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON has it."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], source: Path) -> "Plan":
        """The plan that `to_json` wrote; `DataFileError` naming `source` for anything else."""
        try:
            plan = cls(
                str(entry["config"]),
                dict(entry["inputs"]) if "inputs" in entry else None,
                dict(entry["identity"]),
                tuple((str(name), int(size), int(chunk)) for name, size, chunk in entry["divided"]),
                tuple(
                    Variable(v["name"], tuple(v["dims"]), tuple(v["shape"]), v["dtype"])
                    for v in entry["variables"]
                ),
                int(entry["batch"]),
            )
            tomllib.loads(plan.config)
            for variable in plan.variables:
                np.dtype(variable.dtype)
                if not re.fullmatch(r"[^/]*[^/.][^/]*", variable.name):
                    raise ValueError(f"a variable named {variable.name!r}")
            if any(size < 1 or chunk < 1 for _, size, chunk in plan.divided):
                raise ValueError(f"axes of {plan.divided}")
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataFileError(f"{source}: its plan cannot be read ({error!r}).") from error
        return plan


def _of_files(inputs: Mapping[str, str]) -> dict[str, str]:
    return {f"SHA-256 of {key}": digest for key, digest in inputs.items()}


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys of a nested table, with their values as text."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False)
