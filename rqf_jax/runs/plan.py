"""In what portions a run is computed and written: members of a batch, members of a chunk.

A chunk is written at once, and lost at most when a run is killed. A batch is what one device
computes at once. Members are functions of the run's key and their own number, so both sizes change
them by rounding alone, and both are written down, so that a run that was interrupted ends bit for
bit as one that was not.
"""

import math
from collections.abc import Sequence
from typing import Any

from .._ensemble.abstract import AbstractProblem
from .._ensemble.program import Program, free_bytes

SMALLEST = 8
"""Members that a device computes at a time at least; fewer are rounded differently."""

_LARGEST = {"cpu": 2**12}
_LARGEST_ON_ACCELERATORS = 2**16
# A chunk has room for this many devices, so that runs on fewer of them do not differ.
_DEVICES = 8
# Writing a chunk costs the same for many members as for few, computing a batch does not.
_BATCHES = 4
_CHUNK_BYTES = 2**28
_SHARE_OF_MEMORY = 0.6
_HALVINGS = 6


class OutOfMemoryError(MemoryError):
    """Even the smallest batch of members needs more memory than there is."""


def portions(
    problem: AbstractProblem,
    members: int,
    chunk: int | None,
    every: int | None,
    devices: Sequence[Any],
) -> tuple[int, int]:
    """Members of a chunk and of a batch, for segments of `every` intervals.

    Without a given `chunk`: a power of two for each device, some hundredth of the run, within the
    limits of a chunk's size (256 MiB) and of the compiler's account of the program (60 % of the
    free memory). Raises `OutOfMemoryError` if 8 members are too many.
    """
    places = max(_DEVICES, len(devices))
    if chunk is not None:
        batch = max(SMALLEST, math.ceil(chunk / places))
    else:
        saved = problem.outputs().values()
        one = sum(math.prod(y.shape) * y.dtype.itemsize for y in saved)
        largest = _LARGEST.get(devices[0].platform, _LARGEST_ON_ACCELERATORS)
        room = _CHUNK_BYTES / (one * places * _BATCHES)
        wanted = min(members / (128 * places / _DEVICES), room, largest)
        batch = 2 ** math.floor(math.log2(max(SMALLEST, wanted)))
    batch = fitting(problem, batch, every, devices).batch
    return min(members, chunk or batch * places * _BATCHES), batch


def fitting(
    problem: AbstractProblem, batch: int, every: int | None, devices: Sequence[Any]
) -> Program:
    """A program for `batch` members a device, or for half, a quarter, ... that fits the memory."""
    needed, free = 0, 0
    for _ in range(_HALVINGS + 1):
        program = Program(problem, batch, devices, every)
        together = len(program.devices) if devices[0].platform == "cpu" else 1
        needed, free = program.bytes * together, free_bytes(devices[0])
        if needed <= _SHARE_OF_MEMORY * free:
            return program
        if batch <= SMALLEST:
            break
        batch = max(SMALLEST, batch // 2)
    raise OutOfMemoryError(too_large(batch, f"{needed:,} bytes of {free:,} that are free"))


def too_large(batch: int, detail: str) -> str:
    """The message of an `OutOfMemoryError`."""
    return (
        f"{batch} members at a time need more memory than there is ({detail}). Save less of a "
        "member, with `run.save`, or at fewer times."
    )
