"""What is computed chunk by chunk and written to one store."""

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import xarray
from rich.console import Console

from .._ensemble.problem import Problem
from .._store import Plan, Record, Result
from .worker import Worker


@dataclass(frozen=True)
class AbstractJob(abc.ABC):
    """One ensemble, or a sweep of many: how it is divided, computed and put together.

    `text` is the TOML that is compared with a run that is there, `files` the SHA-256 of every file
    that it reads; a program is compiled for `problem`, in segments of `every` save intervals (None:
    whole paths).
    """

    text: str
    files: dict[str, str]
    problem: Problem
    every: int | None

    unit: ClassVar[str]
    """What a chunk holds many of, for the progress bar."""

    @abc.abstractmethod
    def plan(self, devices: Sequence[Any]) -> Plan:
        """How the store is laid out and divided into chunks, for a run that begins now."""

    @abc.abstractmethod
    def compute(self, worker: Worker, chunk: int) -> Result:
        """Compute one chunk of the plan that the worker works at."""

    @abc.abstractmethod
    def finish(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """Put together what the store holds besides chunks, and the attributes of the run."""
