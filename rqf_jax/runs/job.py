"""What is computed chunk by chunk and written to one store."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import xarray
from rich.console import Console

from .._ensemble.abstract import AbstractProblem
from .._store import Record, Result, Variable
from .worker import Worker


@dataclass(frozen=True)
class AbstractJob(abc.ABC):
    """One ensemble, or a sweep of many: how it is divided, computed and put together.

    `text` is the TOML that is compared with a run that is there, `files` the SHA-256 of every file
    that it reads; a program is compiled for `problem`, of which there are `members`, in segments of
    `every` save intervals (None: whole paths). Chunks divide the axes `divided` of the store (name,
    size, and how many a chunk holds); None there are as many members as `chunk` says, or without it
    as the memory and the disk like. They fill the arrays `kept`.
    """

    text: str
    files: dict[str, str]
    problem: AbstractProblem
    every: int | None
    members: int
    chunk: int | None
    divided: tuple[tuple[str, int, int | None], ...]
    kept: tuple[Variable, ...]

    unit: ClassVar[str]
    """What a chunk holds many of, for the progress bar."""

    @abc.abstractmethod
    def compute(self, worker: Worker, chunk: int) -> Result:
        """Compute one chunk of the plan that the worker works at."""

    @abc.abstractmethod
    def finish(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """Put together what the store holds besides chunks, and the attributes of the run."""
