"""From a job to a finished store, whatever happened before and whatever happens meanwhile.

A run that was never begun is begun; one that was interrupted goes on with the chunks that are
missing; one that is complete is checked, and damaged chunks are computed again; a run of another
config, or by other code, is left alone.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from .. import _store, io
from .._store import Draft, Plan, Repair, Root
from . import hosts, progress
from .job import AbstractJob
from .plan import fitting, portions
from .screen import compiling
from .worker import Worker


def carry_out(job: AbstractJob, out: Path, *, force: bool, console: Console) -> bool:
    """Make the store of `job` at `out` complete; False if it was, and nothing had to be done.

    Raises `_store.LockedError` if another process is at it, FileExistsError for a run that must not
    be replaced (with the differences, a line each), `io.DataFileError` for a place where no store
    can be, and the errors of the computation. `force` replaces a finished run, and an unfinished
    one of something else.
    """
    out, draft = _store.real_target(out), None
    with contextlib.ExitStack() as held:
        with hosts.first(out) as leads:
            if leads:
                held.enter_context(_store.locked(out))
                draft = _opened(job, out, force, console)
        with hosts.all_of_them(out, console):
            draft = draft or Draft.find(out)
            if draft is not None:
                _compute_missing(job, draft, console)
        if draft is None:
            return False
        with hosts.first(out) as leads:
            if leads:
                draft.commit(job.finish(draft.records(), console))
    return True


def _compute_missing(job: AbstractJob, draft: Draft, console: Console) -> None:
    """Do this process's share of the chunks; a draft without a single one is not left behind."""
    differences = _differences(job, draft.plan)
    if differences:
        raise FileExistsError(
            _told("this process computes another run than process 0", differences)
        )
    todo, mine = hosts.mine(draft.missing() if hosts.leads() else [], draft.plan.chunks)
    try:
        _compute(job, draft, todo, mine, console)
    except BaseException:
        if jax.process_count() == 1 and not (draft.written() or draft.under_way()):
            Draft.discard(draft.out)
        raise


def _compute(
    job: AbstractJob,
    work: Draft | Repair,
    todo: Sequence[int],
    mine: Sequence[int],
    console: Console,
) -> None:
    """Compute and write the chunks `mine`, of those `todo`: the loop of every run."""
    if not mine:
        return
    with console.status("Compiling the program …"):
        program = fitting(job.problem, work.plan.batch, job.every, jax.local_devices())
    if program.batch < work.plan.batch:
        console.print("Less memory is free than when the run was begun.")
        work.set_batch(program.batch)
    console.print(
        f"Chunks of {work.plan.size(0):,} {job.unit}, {work.plan.chunks:,} in all; computed by "
        f"{program.batch:,} members on every device, of which there are {len(program.devices)}."
    )
    with progress.shown(work.plan, todo, mine, job.unit, console) as bar:
        worker = Worker(program, work, bar, console)
        for chunk in mine:
            work.write(chunk, job.compute(worker, chunk))
            bar.advance()


def _opened(job: AbstractJob, out: Path, force: bool, console: Console) -> Draft | None:
    """The unfinished run to work at; None if there is a complete one, perhaps after a repair."""
    draft = _found(out, force)
    if draft is None and out.exists() and not force:
        _check(job, out, console)
        return None
    if draft is not None:
        differences = _differences(job, draft.plan)
        if not differences:
            if force:
                _store.check_target(out, overwrite=True)
                draft.may_replace(_store.digest_of(out))
            draft.check_target()
            draft.describe()
            console.print(f"Continuing {draft}.")
            return draft
        if not force:
            raise FileExistsError(
                _told(f"{draft.folder} is another run, unfinished", differences, draft.plan)
            )
        Draft.discard(out)
    _store.check_target(out, overwrite=force)
    with compiling(console):
        plan = _planned(job)
    return Draft.begin(out, plan, _store.digest_of(out))


def _planned(job: AbstractJob) -> Plan:
    """The layout of the store of a run that begins now, and its division into chunks."""
    devices = jax.local_devices()
    chunk, batch = portions(job.problem, job.members, job.chunk, job.every, devices)
    divided = tuple(
        (name, size, chunk if count is None else count) for name, size, count in job.divided
    )
    return Plan(job.text, job.files, _store.identity(), divided, job.kept, batch)


def _found(out: Path, force: bool) -> Draft | None:
    """The unfinished run beside `out`, without what is none any more."""
    try:
        draft = Draft.find(out)
    except io.DataFileError:
        if not force:
            raise
        Draft.discard(out)
        return None
    if draft is None or draft.store.exists():
        return draft
    Draft.discard(out)  # its store became the run at `out`, or was moved away
    return None


def _check(job: AbstractJob, out: Path, console: Console) -> None:
    """Repair the finished run at `out` if it is damaged; FileExistsError if it is another one."""
    try:
        root = Root.read(out)
    except io.DataFileError as error:
        raise FileExistsError(f"{out} exists, and is no run of rqf_jax ({error})") from error
    if root.manifest is None or root.manifest.plan is None:
        raise FileExistsError(f"{out} exists.")
    plan = Plan.from_json(root.manifest.plan, out)
    differences = plan.differences(job.text, job.files)
    if differences:
        raise FileExistsError(_told(f"{out} exists, and is another run", differences))
    Draft.clear(out)
    faults = root.faults(out, "everything")
    if faults.strange:
        names = ", ".join(faults.strange[:3])
        console.print(f"{out} holds files that were not written with it: {names}.")
    if not faults.damaged:
        console.print(f"{out} is complete: {len(root.manifest.files)} files, all as written.")
        return
    chunks, others = plan.chunks_of(faults.damaged)
    if others:
        raise _store.DamagedError(
            f"{out}: {', '.join(others[:3])} damaged, which no chunk of members brings back. "
            "Replace the run with --force, or in Python with `overwrite=True`."
        )
    differences = _differences(job, plan)
    if differences:
        raise FileExistsError(
            _told(f"{out} has damaged chunks, and was made by other code", differences, plan)
        )
    console.print(f"{len(chunks)} of {plan.chunks} chunks are damaged, and computed again.")
    repair = Repair(out, plan, root, root.manifest)
    _compute(job, repair, chunks, chunks, console)
    if repair.commit():
        console.print("They came back bit for bit.")
    else:
        console.print("They came back, rounded differently: they were computed in smaller batches.")


def _differences(job: AbstractJob, plan: Plan) -> list[str]:
    return plan.differences(job.text, job.files, _store.identity())


def _told(title: str, differences: Sequence[str], plan: Plan | None = None) -> str:
    """A title, the differences, and how to end a run that another version of rqf_jax began."""
    lines = "".join(f"  {line}\n" for line in differences)
    version = _store.identity()["rqf_jax"] if plan is None else plan.identity.get("rqf_jax", "?")
    if version == _store.identity()["rqf_jax"]:
        return f"{title}:\n{lines}"
    return f"{title}:\n{lines}Finish it with rqf_jax {version}, which began it, or begin again.\n"
