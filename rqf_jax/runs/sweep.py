"""A config at many values of some of its keys: one program, one labelled store.

Points that differ in real numbers alone run by one compilation, because those are arguments of
the compiled program, and as many in one call as make some thousand members together: a call by
itself costs as much as a hundred members. Points of other sizes (tokens, substeps) are compiled
once for each size, and run one by one.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from .. import _store
from .._ensemble.abstract import AbstractProblem
from .._store import Record, Result, Summary, Variable
from . import session
from .config import AbstractConfig, ConfigError
from .design import Design
from .job import AbstractJob
from .look import Form, is_drawn, look, place_of_figures
from .problem import Poser, check_all, inputs
from .summaries import digest, summarised, variables
from .worker import Worker

# Members of all points that are computed by one call.
_TOGETHER = 2**12


def sweep(
    config: AbstractConfig,
    design: Design,
    out: Path,
    *,
    force: bool,
    console: Console,
    form: Form = "png",
) -> None:
    """Simulate `config` at every point of `design`, into the one store `out`.

    Every point has all members of the config, by the same key: their noise is common to all
    points, so differences between points are sharper than each of them. The store holds summaries
    over members, with dimensions named by the keys; every member's values too if `run.keep` says
    "trajectories". `failed` counts the members of each point that became NaN or infinite, which are
    left out of its summaries; `Design.failed` are those points, for a sweep of their own with the
    smaller steps that they need.

    Raises `ConfigError` for a point that cannot be run, before anything is compiled, and see
    `session.carry_out`.
    """
    folder, config = place_of_figures(out), config.once()
    design = design.of(config)
    points = math.prod(design.shape.values())
    console.print(f"{points:,} points of {config.run.members:,} members\n")
    job = SweepJob.of(config, design, console)
    new = session.carry_out(job, out, force=force, console=console)
    if jax.process_index() == 0 and (new or not is_drawn(out, folder)):
        look(out, folder, console, form=form)
        console.print(f"The sweep is {out}. To look into it: rqf-jax info {out}", soft_wrap=True)


@dataclass(frozen=True)
class SweepJob(AbstractJob):
    """The ensembles of all points of a design, in blocks of points. Construct it with `of`."""

    config: AbstractConfig
    design: Design
    problems: Sequence[AbstractProblem]
    block: int

    unit: ClassVar[str] = "points"

    @classmethod
    def of(cls, config: AbstractConfig, design: Design, console: Console) -> "SweepJob":
        """The job of a config and a design with full keys; ConfigError for an impossible point."""
        poser, problems = Poser(), []
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task("checking points", total=math.prod(design.shape.values()))
            for one in design.configs(config):
                problems.append(poser.problem(one))
                if len(problems) % 256 == 0:
                    progress.update(task, completed=len(problems))
            kinds = check_all(problems, config.run.members, design.corners())
        shapes = {str(jax.tree.map(jnp.shape, one.outputs())) for one in kinds}
        if len(shapes) > 1:
            raise ConfigError(
                f"points must save arrays of one shape; got {', '.join(sorted(shapes))}."
            )
        run, last = config.run, tuple(design.shape.values())[-1]
        alone = len(kinds) > 1 or run.segment is not None
        block = 1 if alone else max(1, min(last, _TOGETHER // run.members))
        kept = [Variable("failed", (), (), "int32")]
        if run.keep == "trajectories":
            kept += variables(problems[0], run.keep, {"member": run.members})
        return cls(
            text=config.toml() + design.toml(),
            files=inputs(poser.source(config)),
            problem=_stacked(problems[:block], block),
            every=run.segment,
            members=run.members,
            # Few members are not divided further: one device may compute all of a point.
            chunk=run.chunk or (8 * run.members if block > 1 else None),
            divided=design.divided(block),
            kept=tuple(kept),
            config=config,
            design=design,
            problems=problems,
            block=block,
        )

    def compute(self, worker: Worker, chunk: int) -> Result:
        """The members of one block of points."""
        shape = tuple(self.design.shape.values())
        mine = np.arange(len(self.problems)).reshape(shape)[worker.work.plan.slices(chunk)]
        block = _stacked([self.problems[int(i)] for i in mine.flat], self.block)
        ys, status = worker.members(block, chunk, 0, self.config.run.members)
        if self.block == 1:
            ys, status = jax.tree.map(lambda leaf: leaf[np.newaxis], (ys, status))
        ys, status = jax.tree.map(lambda leaf: leaf[: mine.size], (ys, status))
        each = [
            digest({name: y[i] for name, y in ys.items()}, status[i], 0, "mark")
            for i in range(mine.size)
        ]
        summaries = {n: Summary.combined(np.stack, [one[n] for one in each]) for n in each[0]}
        failed = np.sum(status > 0, axis=1, dtype=np.int32)
        values = {
            name: y.reshape(mine.shape + y.shape[1:])
            for name, y in (ys | {"status": status, "failed": failed}).items()
        }
        return Result(values, summaries, int(np.sum(failed > 0)))

    def finish(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """The summaries of every point, with the values of the keys as coordinates."""
        failed, parts = 0, []
        for record in records:
            failed += record.failed
            parts.append(record.summaries)
        whole = {n: Summary.combined(self._whole, [part[n] for part in parts]) for n in parts[0]}
        dataset = summarised(whole, self.config.grid().astype(float), tuple(self.design.shape))
        if failed:
            console.print(
                f"{failed:,} of {len(self.problems):,} points have failed members.",
                style="bold red",
            )
        run = self.config.run
        facts = {"config": self.text, "seed": run.seed, "members": run.members}
        dataset = dataset.assign_coords(self.design.coordinates())
        return dataset.assign_attrs(facts | _store.provenance())

    def _whole(self, blocks: list[np.ndarray]) -> np.ndarray:
        """The arrays of all blocks as one, with the axes of the design."""
        whole = np.concatenate(blocks)
        return whole.reshape(tuple(self.design.shape.values()) + whole.shape[1:])


def _stacked(problems: Sequence[AbstractProblem], block: int) -> AbstractProblem:
    """A block of points as one problem, the last of them repeated if it is not full."""
    if block == 1:
        return problems[0]
    return AbstractProblem.stack([*problems, *[problems[-1]] * (block - len(problems))])
