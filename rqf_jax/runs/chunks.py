"""An ensemble that outgrows memory: computed in chunks, each safe on disk before the next.

A chunk is what is written at once, and lost at most when a run is killed; of paths that are cut
into segments, which are kept as they come, a segment is. A batch is what one device computes at
once. Members are functions of the run's key and their own number, so neither changes them but by
rounding, and both are written down, so that a run that was interrupted ends bit for bit as one
that was not.
"""

import contextlib
import math
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
import xarray
from jaxtyping import Float, PyTree
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .. import _store
from .._ensemble.program import (
    Problem,
    Program,
    Segment,
    free_bytes,
    is_out_of_memory,
    joined,
    outputs,
)
from .._ensemble.trajectories import NonFiniteError

Keep = Literal["trajectories", "summaries"]
Failures = Literal["stop", "mark"]

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

_DIMS = {
    "state": ("token", "dim"),
    "overlaps": ("pair",),
    "angles": ("pair",),
    "cluster_signs": ("token",),
    "spectrum": ("eigenvalue",),
    "singular_values": ("value",),
}


class OutOfMemoryError(MemoryError):
    """Even the smallest batch of members needs more memory than there is."""


class Interrupted(BaseException):
    """A signal asked the run to stop. No Exception, so that nothing takes it for a failure."""

    def __init__(self, number: int, done: str):
        super().__init__(f"stopped by {signal.Signals(number).name}; {done}")
        self.number = number


def choose(
    problem: Problem, members: int, chunk: int | None, every: int | None, devices: Sequence[Any]
) -> tuple[int, Program]:
    """Members of a chunk, and the program for segments of `every` intervals of a batch of them.

    Without a given `chunk`: a power of two for each device, some hundredth of the run, within
    what the outputs of a chunk (256 MiB) and the compiler's account of the program (60 % of the
    free memory) allow. Raises `OutOfMemoryError` if 8 members are too many.
    """
    places = max(_DEVICES, len(devices))
    if chunk is not None:
        batch = max(SMALLEST, math.ceil(chunk / places))
    else:
        saved = outputs(problem).values()
        one = sum(math.prod(y.shape) * y.dtype.itemsize for y in saved)
        largest = _LARGEST.get(devices[0].platform, _LARGEST_ON_ACCELERATORS)
        room = _CHUNK_BYTES / (one * places * _BATCHES)
        wanted = min(members / (128 * places / _DEVICES), room, largest)
        batch = 2 ** math.floor(math.log2(max(SMALLEST, wanted)))
    program = fitting(problem, batch, every, devices)
    return min(members, chunk or program.batch * places * _BATCHES), program


def fitting(problem: Problem, batch: int, every: int | None, devices: Sequence[Any]) -> Program:
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
    raise OutOfMemoryError(_too_large(batch, f"{needed:,} bytes of {free:,} that are free"))


def variables(problem: Problem, keep: Keep, inner: Mapping[str, int] | None = None):
    """What a store holds of every region: saved values if they are kept, and each member's status.

    `inner` are axes between the divided ones and those of one member, by name and size.
    """
    inner = inner or {}
    names, sizes = tuple(inner), tuple(inner.values())
    kept = [_store.Variable("status", names, sizes, "int32")]
    if keep == "trajectories":
        for name, y in outputs(problem).items():
            rest = _rest(name, len(y.shape) - 1)
            kept.append(
                _store.Variable(name, (*names, "time", *rest), (*sizes, *y.shape), y.dtype.name)
            )
    return tuple(kept)


def _rest(name: str, axes: int) -> tuple[str, ...]:
    """The names of an observable's own axes."""
    named = _DIMS.get(name, ())
    return named if len(named) == axes else tuple(f"{name}_{axis}" for axis in range(axes))


class Worker:
    """Computes members on all local devices, in smaller batches once memory has run out."""

    def __init__(
        self, program: Program, console: Console, note: Callable[[int], None] = lambda batch: None
    ):
        self.program, self.console, self.note = program, console, note

    def __call__(
        self,
        problem: Problem,
        first: int,
        count: int,
        *,
        safe: _store.Checkpoints,
        after: Callable[[float], None],
    ) -> tuple[PyTree, np.ndarray]:
        """Saved values and status of members first, …, first + count - 1.

        Segments that are `safe` are gone on from, and new ones put there. `after` each but the
        last it is told which share of the path is done.
        """
        while True:
            batch = self.program.batch
            try:
                if self.program.every is None:
                    return self.program(problem, first, count)
                return self._path(problem, first, count, safe, after)
            except (MemoryError, jax.errors.JaxRuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            if batch <= SMALLEST:
                raise OutOfMemoryError(_too_large(batch, reason))
            devices, every = self.program.devices, self.program.every
            self.program = Program(problem, max(SMALLEST, batch // 2), devices, every)
            self.console.print(f"Out of memory: now {self.program.batch:,} members at a time.")
            self.note(self.program.batch)

    def _path(self, problem, first, count, safe, after):
        segments, last = [_segment(arrays) for arrays in safe.read()], problem.ts.size - 1
        start = segments[-1] if segments else None
        for segment in self.program.segments(problem, first, count, start):
            segments.append(segment)
            if segment.stop < last:
                safe.write(len(segments) - 1, _arrays(segment))
                after(segment.stop / last)
        return joined(segments)


_SAVED = "saved."


def _arrays(segment: Segment) -> dict[str, np.ndarray]:
    ys = {_SAVED + name: y for name, y in segment.ys.items()}
    return {"stop": np.array(segment.stop), "status": segment.status, "x": segment.x} | ys


def _segment(arrays: Mapping[str, np.ndarray]) -> Segment:
    ys = {name[len(_SAVED) :]: y for name, y in arrays.items() if name.startswith(_SAVED)}
    return Segment(int(arrays["stop"]), ys, arrays["status"], arrays["x"])


def _too_large(batch: int, detail: str) -> str:
    return (
        f"{batch} members at a time need more memory than there is ({detail}). Save less of a "
        "member, or at fewer times."
    )


def digest(
    ys: Mapping[str, np.ndarray], status: np.ndarray, first: int, failures: Failures
) -> dict[str, _store.Summary]:
    """Summaries of the members that stayed finite; NonFiniteError if others may not be."""
    bad = np.flatnonzero(status)
    if bad.size and failures == "stop":
        ids = ", ".join(str(first + int(i)) for i in bad[:5])
        more, save = ", …" if bad.size > 5 else "", int(status[bad[0]])
        raise NonFiniteError(
            f"{bad.size} of {status.size} members became NaN or infinite: {ids}{more} (the first "
            f"between saves {save - 1} and {save}). Take smaller steps, or set run.failures to "
            "'mark' to get them marked."
        )
    return {name: _store.Summary.of(y, _store.edges(name), status == 0) for name, y in ys.items()}


def summarised(
    summaries: Mapping[str, _store.Summary],
    ts: Float[np.ndarray, " times"],
    leading: tuple[str, ...] = (),
) -> xarray.Dataset:
    """Mean, variance and histogram of every observable over members, behind the `leading` axes.

    `<name>_mean`, `<name>_variance` and `<name>_count` (..., time, ...), `<name>_histogram` with
    the axis bin besides, whose edges are `<name>_edges`.
    """
    dataset = xarray.Dataset(coords={"time": ts})
    for name, total in summaries.items():
        dims = (*leading, "time", *_rest(name, total.mean.ndim - len(leading) - 1))
        dataset[f"{name}_mean"] = (dims, total.mean)
        dataset[f"{name}_variance"] = (dims, total.variance)
        dataset[f"{name}_count"] = (dims, total.count)
        dataset[f"{name}_histogram"] = ((*dims, "bin"), total.histogram)
        dataset[f"{name}_edges"] = ("edge", _store.edges(name))
    for variable in dataset.variables.values():
        variable.attrs["units"] = "1"
    return dataset


def fill(
    todo: Sequence[int],
    mine: Sequence[int],
    regions: int,
    work: Callable[[int, Callable[[float], None]], None],
    *,
    size: Callable[[int], int],
    unit: str,
    console: Console,
) -> None:
    """Do the regions that are `mine` among those `todo`, behind a progress bar for all `regions`.

    `work` computes and writes one region, and calls the function it is given with the share of it
    that is safe by then; `size` is how many units of work a region is. Raises `Interrupted` after
    SIGINT or SIGTERM, once the region or the share in hand is safe.
    """
    total, sizes = sum(map(size, range(regions))), np.cumsum([0, *map(size, todo)]).tolist()
    before = total - sizes[-1]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress, _signals(console) as received:
        task = progress.add_task("simulating", total=total, completed=before)
        for place, region in enumerate(mine):
            # As far as one process knows, the others are as far as it is.
            there, then = (len(todo) * n // len(mine) for n in (place, place + 1))

            def after(share, there=there, then=then):
                done = sizes[there] + share * (sizes[then] - sizes[there])
                progress.update(task, completed=before + done)
                if received and done < sizes[-1]:
                    safe = regions - len(todo) + (then if share == 1 else there)
                    more = f", and {share:.0%} of what is under way" if share < 1 else ""
                    raise Interrupted(received[0], f"{safe} of {regions} chunks are safe{more}")

            work(region, after)
            after(1)


@contextlib.contextmanager
def _signals(console: Console) -> Iterator[list[int]]:
    """The signals that arrived; the second one is an exception at once."""
    received: list[int] = []

    def note(number, frame):
        if received:
            raise Interrupted(number, "what was in hand is dropped")
        received.append(number)
        console.print("Stopping when what is in hand is safe; once more to drop it.")

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # only the main thread hears signals
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Rate(ProgressColumn):
    """Units of work per second."""

    def __init__(self, unit: str):
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The rate, once there is one."""
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        return Text(f"{speed:,.{1 if speed < 10 else 0}f} {self.unit}/s")
