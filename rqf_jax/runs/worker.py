"""The worker: computes members of a chunk on all local devices, whatever the memory allows."""

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import PyTree
from rich.console import Console

from .._ensemble.abstract import AbstractProblem
from .._ensemble.program import Program, Segment, is_out_of_memory, joined
from .._ensemble.trajectories import variables_of
from .._store import Draft, Repair
from .plan import SMALLEST, OutOfMemoryError, too_large
from .progress import Bar

_SAVED, _MOVING = "saved.", "state."


class Worker:
    """Computes members for a run on its way to disk, in smaller batches once memory ran out.

    Segments of paths are written as they come, and those that are there are gone on from.
    """

    def __init__(self, program: Program, work: Draft | Repair, bar: Bar, console: Console):
        self.program, self.work, self.bar, self.console = program, work, bar, console

    def members(
        self, problem: AbstractProblem, chunk: int, first: int, count: int
    ) -> tuple[PyTree, np.ndarray]:
        """Saved values and status of members first, …, first + count - 1 of `chunk`."""
        while True:
            batch = self.program.batch
            try:
                if self.program.every is None:
                    return self.program(problem, first, count)
                return self._path(problem, chunk, first, count)
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            if batch <= SMALLEST:
                raise OutOfMemoryError(too_large(batch, reason))
            devices, every = self.program.devices, self.program.every
            self.program = Program(problem, max(SMALLEST, batch // 2), devices, every)
            self.console.print(f"Out of memory: now {self.program.batch:,} members at a time.")
            self.work.set_batch(self.program.batch)

    def _path(
        self, problem: AbstractProblem, chunk: int, first: int, count: int
    ) -> tuple[PyTree, np.ndarray]:
        """The same segment by segment, each on disk before the next."""
        safe = self.work.segments(chunk)
        last = problem.times.intervals
        segments = [_segment(arrays, problem.state) for arrays in safe.read()]
        start = segments[-1] if segments else None
        for segment in self.program.segments(problem, first, count, start):
            segments.append(segment)
            if segment.stop < last:
                safe.write(len(segments) - 1, _arrays(segment))
                self.bar.advance(segment.stop / last)
        return joined(segments)


def _arrays(segment: Segment) -> dict[str, np.ndarray]:
    ys = {_SAVED + name: y for name, y in segment.ys.items()}
    x = {_MOVING + name: leaf for name, leaf in variables_of(segment.x).items()}
    return {"stop": np.array(segment.stop), "status": segment.status} | ys | x


def _segment(arrays: Mapping[str, np.ndarray], state: PyTree) -> Segment:
    ys = {name[len(_SAVED) :]: y for name, y in arrays.items() if name.startswith(_SAVED)}
    leaves = [arrays[_MOVING + name] for name in variables_of(state)]
    x = jax.tree.unflatten(jax.tree.structure(state), leaves)
    return Segment(int(arrays["stop"]), ys, arrays["status"], x)
