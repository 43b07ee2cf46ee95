"""A progress bar around the loop of a run, and the signals that end the loop between two chunks."""

import contextlib
import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from .._store import Plan


class Interrupted(BaseException):
    """A signal asked the run to stop. No Exception, so that nothing takes it for a failure."""

    def __init__(self, number: int, done: str):
        super().__init__(f"stopped by {signal.Signals(number).name}; {done}")
        self.number = number


@dataclass
class Bar:
    """How far a run of so many `chunks` is.

    Those that are missing have `sizes` (cumulative, from 0); this process computes `mine` of them,
    one after the other.
    """

    chunks: int
    mine: int
    sizes: Sequence[int]
    received: list[int]
    progress: Progress
    task: TaskID
    total: int
    place: int = 0

    def advance(self, share: float = 1.0) -> None:
        """The current chunk is safe on disk, or this `share` of the paths in it.

        Raises `Interrupted` if a signal arrived and something is still to be done.
        """
        # As far as one process knows, the others are as far as it is.
        todo = len(self.sizes) - 1
        there, then = (todo * place // self.mine for place in (self.place, self.place + 1))
        left = self.sizes[-1] - self.sizes[there] - share * (self.sizes[then] - self.sizes[there])
        self.progress.update(self.task, completed=self.total - left)
        self.place += share == 1
        if self.received and left > 0:
            safe = self.chunks - todo + (then if share == 1 else there)
            more = f", and {share:.0%} of the paths of the next one" if share < 1 else ""
            raise Interrupted(self.received[0], f"{safe} of {self.chunks} chunks are safe{more}")


@contextlib.contextmanager
def shown(
    plan: Plan, todo: Sequence[int], mine: Sequence[int], unit: str, console: Console
) -> Iterator[Bar]:
    """A progress bar for the whole run, which counts members or points (`unit`).

    After SIGINT or SIGTERM the bar ends the loop at its next step; a second signal ends it at once.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress, _signals(console) as received:
        total, sizes = math.prod(size for _, size, _ in plan.divided), [0]
        for chunk in todo:
            sizes.append(sizes[-1] + plan.size(chunk))
        task = progress.add_task("simulating", total=total, completed=total - sizes[-1])
        yield Bar(plan.chunks, len(mine), sizes, received, progress, task, total)


@contextlib.contextmanager
def _signals(console: Console) -> Iterator[list[int]]:
    """The signals that arrived; the second one is an exception at once."""
    received: list[int] = []

    def note(number, frame):
        if received:
            raise Interrupted(number, "the chunk in hand is lost")
        received.append(number)
        console.print(
            "Finishing the current chunk, then stopping. "
            "Press Ctrl-C again to stop now and lose it."
        )

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
