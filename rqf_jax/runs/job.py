"""What is computed chunk by chunk and written to one store."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import xarray
from rich.console import Console

from .. import _store
from .._ensemble.abstract import AbstractProblem
from .._store import Record, Result, Variable
from .config import AbstractConfig
from .summaries import digest, summarised, total, variables
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


@dataclass(frozen=True)
class AbstractEnsembleJob(AbstractJob):
    """One ensemble, in chunks of members."""

    config: AbstractConfig

    unit: ClassVar[str] = "members"

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """A line for the screen."""

    def compute(self, worker: Worker, chunk: int) -> Result:
        """The members of one chunk."""
        (part,) = worker.work.plan.slices(chunk)
        ys, status = worker.members(self.problem, chunk, part.start, part.stop - part.start)
        summaries = digest(ys, status, part.start, self.config.run.failures)
        return Result(ys | {"status": status}, summaries, int(np.sum(status > 0)))

    def summarised(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """Summaries of all members, and the attributes that every run has; says who failed."""
        run = self.config.run
        summaries, failed = total(records)
        if failed:
            console.print(f"{failed:,} of {run.members:,} members failed.", style="bold red")
        facts = {"config": self.text, "seed": run.seed, "failed": failed}
        dataset = summarised(summaries, self.config.grid().astype(float))
        return dataset.assign_attrs(facts | _store.provenance())


def whole(
    config: AbstractConfig, problem: AbstractProblem, files: dict[str, str]
) -> dict[str, Any]:
    """The fields of the job of one ensemble."""
    run = config.run
    return {
        "text": config.toml(),
        "files": files,
        "problem": problem,
        "every": run.segment,
        "members": run.members,
        "chunk": run.chunk,
        "divided": (("member", run.members, None),),
        "kept": variables(problem, run.keep),
        "config": config,
    }
