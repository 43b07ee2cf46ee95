"""From a job to a finished store, whatever happened before and whatever happens meanwhile.

A job that was never begun is begun; one that was interrupted goes on with what is missing; one
that is complete is checked, and has what is damaged computed again; what belongs to another
config, or to other code, is left alone. With several processes (hosts of a cluster) each computes
its share of the chunks into the same store, and process 0 does all the rest.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import jax
import numpy as np
import xarray
from jax.experimental import multihost_utils
from jaxtyping import PyTree
from rich.console import Console

from .. import _store, io
from .._ensemble.program import Problem, Program
from . import chunks

T = TypeVar("T")
Compute = Callable[[Problem, int, int], tuple[PyTree, np.ndarray]]
"""Saved values and status of members, from a problem, the first one's number and how many."""


class Result(NamedTuple):
    """One region: values for the store, summaries for the journal, how many members failed."""

    values: Mapping[str, np.ndarray]
    summaries: Mapping[str, _store.Summary]
    failed: int


@dataclass(frozen=True)
class Job:
    """What is to be computed and where to.

    `config` is the text that is compared with what is there; `plan` lays out the store of a job
    that was never begun; `compute` computes one region; `finish` makes of the journal, taken
    record by record to its end, what the store holds besides, with the run's attributes. `problem`
    is what a program is compiled for, `every` how many save intervals of it are computed at a time
    (None: all), `size` how many units of work a region is.
    """

    out: Path
    config: str
    problem: Problem
    every: int | None
    plan: Callable[[], tuple[_store.Plan, Program]]
    compute: Callable[[Compute, _store.Plan, int], Result]
    finish: Callable[[Iterator[_store.Record]], xarray.Dataset]
    size: Callable[[_store.Plan, int], int]
    unit: str = "members"


class Damaged(io.DataFileError):
    """A finished run has lost what no chunk can bring back."""


def carry_out(job: Job, *, force: bool, console: Console) -> bool:
    """Make the store of `job` complete; False if it was, and nothing had to be done.

    Raises `_store.LockedError` if another process is at it, FileExistsError for what must not be
    replaced (with what differs, a line each), and what the computation raises. `force` replaces a
    finished run, and an unfinished one of something else.
    """
    with contextlib.ExitStack() as stack:

        def begin() -> tuple[_store.Draft, Program | None] | None:
            stack.enter_context(_store.locked(job.out))
            if not force and _is_complete(job, console):
                return None
            return _begin_or_continue(job, force, console)

        begun = _on_the_first(job, begin)
        draft, program = begun or (_store.Draft.find(job.out), None)
        if draft is None:
            return False
        _all_shares(job, lambda: _work(job, draft, program, console), console)
        _on_the_first(job, lambda: _commit(job, draft))
        return True


def share(todo: Sequence[int], number: int, count: int) -> Sequence[int]:
    """The regions that process `number` of `count` does; all processes have the same `todo`."""
    return todo[number::count]


def join(hosts: str) -> bool:
    """Become one process of several; whether this is the first of them.

    `hosts` is "auto", for what SLURM, Open MPI or Kubernetes tell each process, or the address of
    process 0, the number of processes and the number of this one: "10.0.0.1:1234,4,0". Raises
    ValueError for anything else.
    """
    if hosts == "auto":
        jax.distributed.initialize()
        return _meet()
    address, *numbers = hosts.split(",")
    if ":" not in address or len(numbers) != 2 or not all(map(str.isdigit, numbers)):
        raise io.DataFileError(
            f'`hosts` must be "auto" or like "10.0.0.1:1234,4,0"; got {hosts!r}.'
        )
    count, number = map(int, numbers)
    jax.distributed.initialize(address, count, number)
    return _meet()


def _meet() -> bool:
    # The first exchange between CPUs must begin everywhere within 30 seconds, later ones may wait.
    multihost_utils.sync_global_devices("rqf_jax")
    return _leads()


def _on_the_first(job: Job, step: Callable[[], T]) -> T | None:
    """What `step` gives on process 0, and None on others; where it fails there, all end."""
    result, error = None, None
    if _leads():
        try:
            result = step()
        except BaseException as caught:
            error = caught
    if not _agree(error is None):
        raise error or io.DataFileError(f"{job.out}: process 0 could not go on, and says why.")
    return result


def _all_shares(job: Job, work: Callable[[], None], console: Console) -> None:
    """Do the share of this process, and wait for the others; where one fails, all end then.

    A process that failed waits too: nobody could tell its leaving from its death, and what the
    others have in hand would be lost.
    """
    error = None
    try:
        work()
    except BaseException as caught:
        if jax.process_count() == 1:
            raise
        error = caught
        console.print(f"Process {jax.process_index()}: {caught}; waiting for the others.")
    if not _all_agree(error is None):
        raise error or io.DataFileError(
            f"{job.out}: another process could not do its share, and says why; the same commands "
            "do what is missing."
        )


def _work(job: Job, draft: _store.Draft, program: Program | None, console: Console) -> None:
    """Compute what is missing; a draft without a single region is not left behind."""
    todo = _missing(draft)
    mine = share(todo, jax.process_index(), jax.process_count())
    if not mine:
        return
    planned, devices = draft.plan.batch, jax.local_devices()
    if program is None:
        program = chunks.fitting(job.problem, planned, job.every, devices)
    if program.batch < planned:
        console.print("Less memory is free than when the run was begun.")
        draft.set_batch(program.batch)
    console.print(
        f"Chunks of {job.size(draft.plan, 0):,} {job.unit}, {draft.plan.regions:,} in all; "
        f"computed by {program.batch:,} members on every device, of which there are "
        f"{len(program.devices)}."
    )
    worker = chunks.Worker(program, console, draft.set_batch)

    def work(region: int, after: Callable[[float], None]) -> None:
        safe = draft.checkpoints(job.out, region)
        compute = functools.partial(worker, safe=safe, after=after)
        draft.write(region, *job.compute(compute, draft.plan, region))

    try:
        _fill(job, draft.plan, todo, mine, work, console)
    except BaseException:
        if jax.process_count() == 1 and not (draft.written() or draft.under_way()):
            draft.discard()
        raise


def _missing(draft: _store.Draft) -> list[int]:
    """The regions that are not in the journal when process 0 looks.

    It looks for all: others that look a moment later may find what was written in between.
    """
    missing = np.zeros(draft.plan.regions, bool)
    if _leads():
        missing[:] = [draft.record(region) is None for region in range(missing.size)]
    if jax.process_count() > 1:
        missing = np.asarray(multihost_utils.broadcast_one_to_all(missing))
    return np.flatnonzero(missing).tolist()


def _fill(job, plan, todo, mine, work, console):
    def size(region: int) -> int:
        return job.size(plan, region)

    chunks.fill(todo, mine, plan.regions, work, size=size, unit=job.unit, console=console)


def _commit(job: Job, draft: _store.Draft) -> None:
    files: dict[str, tuple[str, int]] = {}

    def records() -> Iterator[_store.Record]:
        for region in range(draft.plan.regions):
            record = draft.record(region)
            if record is None:
                raise io.DataFileError(
                    f"{draft.folder}: chunk {region} was lost while others were written; the same "
                    "`run` computes it again."
                )
            files.update(record.files)
            yield record

    draft.commit(job.finish(records()), files)


def _begin_or_continue(
    job: Job, force: bool, console: Console
) -> tuple[_store.Draft, Program | None]:
    draft = _store.Draft.find(job.out)
    if draft is not None and not draft.store.exists():  # and what it became was moved away
        draft.discard()
        draft = None
    if draft is not None:
        differences = draft.plan.differences(job.config, _store.identity())
        if not differences:
            if force:
                io.check_target(job.out, overwrite=True)
                draft.may_replace(_store.seal(job.out))
            draft.check_target()
            console.print(f"Continuing {draft}.")
            return draft, None
        if not force:
            raise FileExistsError(_told(f"{draft.folder} is another run, unfinished", differences))
        draft.discard()
    io.check_target(job.out, overwrite=force)
    replaces = _store.seal(job.out)
    plan, program = job.plan()
    return _store.Draft.begin(job.out, plan, replaces), program


def _is_complete(job: Job, console: Console) -> bool:
    """Whether the run is there, and whole (again); FileExistsError if another run is there."""
    if not job.out.exists():
        return False
    draft = _store.Draft.find(job.out)
    if draft is not None and draft.store.exists():
        return False
    io.check_target(job.out, overwrite=True)
    manifest = _store.Manifest.read(job.out)
    if manifest is None:
        raise FileExistsError(f"{job.out} exists.")
    plan = _store.Plan.from_json(manifest.plan)
    differences = plan.differences(job.config, plan.identity)
    if differences:
        raise FileExistsError(_told(f"{job.out} exists, and is another run", differences))
    if draft is not None:  # killed between the last rename and the tidying up
        draft.discard()
    _store.Draft.clear(job.out)  # or in the midst of it
    damaged = list(_store.damaged(job.out, manifest))
    if damaged:
        _repair(job, plan, manifest, damaged, console)
    else:
        console.print(f"{job.out} is complete: {len(manifest.files)} files, all as written.")
    return True


def _repair(job, plan, manifest, damaged, console) -> None:
    """Compute the regions with damaged files again, into the finished store."""
    regions, others = plan.regions_of(damaged)
    if others:
        raise Damaged(
            f"{job.out}: {', '.join(others[:3])} damaged, which no chunk of members brings back. "
            "Replace the run with --force."
        )
    differences = plan.differences(job.config, _store.identity())
    if differences:
        raise FileExistsError(
            _told(f"{job.out} has damaged chunks, and is of other code", differences)
        )
    console.print(f"{len(regions)} of {plan.regions} chunks are damaged, and computed again.")
    program = chunks.fitting(job.problem, plan.batch, job.every, jax.local_devices())
    worker = chunks.Worker(program, console)
    files = dict(manifest.files)
    _store.tidy(job.out)

    def work(region: int, after: Callable[[float], None]) -> None:
        safe = _store.Draft.checkpoints(job.out, region)
        result = job.compute(functools.partial(worker, safe=safe, after=after), plan, region)
        files.update(_store.write_region(job.out, plan, region, result.values))
        safe.discard()

    _fill(job, plan, regions, regions, work, console)
    _store.Draft(job.out, plan).discard()
    if files == manifest.files:
        console.print("They came back bit for bit.")
    else:
        others = io.load(job.out, check=False).attrs
        _store.Manifest(manifest.plan, files).write(job.out, others)
        console.print("They came back, rounded differently: they were computed in smaller batches.")


def _told(what: str, differences: Sequence[str]) -> str:
    lines = "\n".join(f"  {line}" for line in differences)
    return f"{what}:\n{lines}\n"


def _leads() -> bool:
    return jax.process_index() == 0


def _all_agree(fine: bool) -> bool:
    """Wait for all processes; whether each of them says that all is fine."""
    if jax.process_count() == 1:
        return fine
    return bool(np.all(multihost_utils.process_allgather(np.array(fine))))


def _agree(fine: bool) -> bool:
    """Wait for all processes; whether process 0 says that all is fine."""
    if jax.process_count() == 1:
        return fine
    return bool(multihost_utils.broadcast_one_to_all(np.array(fine)))
