"""A config becomes an ensemble on disk, with its figures and its comparison with closed forms.

Everything that can be wrong with a config, its files and its output path is found before anything
is compiled, and what is written appears complete or not at all; see `session`.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import xarray
from rich.console import Console

from .. import _store, laws
from .._ensemble.problem import Problem
from .._ensemble.simulate import simulate
from .._store import Record, Result
from . import session
from .catalogue import TOKENS, Start
from .config import Config
from .job import AbstractJob
from .look import Form, is_drawn, look, place_of_figures
from .problem import Poser, Save, check, equation, inputs
from .summaries import digest, summarised, total, variables
from .worker import Worker

# No ensemble has this member, so its key is free for the companion run.
_COMPANION = 2**32 - 1


def run(config: Config, out: Path, *, force: bool, console: Console, form: Form = "png") -> None:
    """Simulate, compare, draw and write: the store `out` and a folder of that name without .zarr.

    A run that was interrupted continues, and one that is complete is only checked. `force` replaces
    the run at `out`, and nothing that is not a run; `form` is the file format of the figures.

    Raises `ConfigError`, `io.DataFileError` and FileExistsError before anything is compiled,
    `NonFiniteError` if members became NaN or infinite and the config does not have them marked,
    and see `session.carry_out`.
    """
    folder = place_of_figures(out)
    job = EnsembleJob.of(config)
    console.print(job.start.title, style="bold")
    console.print(f"{config.run.members:,} members to t = {config.times.grid()[-1]:g}\n")
    new = session.carry_out(job, out, force=force, console=console)
    if jax.process_index() == 0 and (new or not is_drawn(out, folder)):
        look(out, folder, console, form=form)
        console.print(f"The run is {out}. To look into it: rqf-jax info {out}", soft_wrap=True)


@dataclass(frozen=True)
class EnsembleJob(AbstractJob):
    """The ensemble of a config. Construct it with `of`."""

    config: Config
    start: Start
    companion: Problem | None

    unit: ClassVar[str] = "members"

    @classmethod
    def of(cls, config: Config) -> "EnsembleJob":
        """The job of a config; everything that can be wrong with the config is found here.

        Raises `ConfigError` and `io.DataFileError`.
        """
        poser = Poser()
        start, one = poser.start(config), poser.problem(config)
        for token in config.report.angle_pair if start.tokens else ():
            start.place(token)
        check(one, config.run.members)
        companion = None if config.companion is None else _companion(config, one)
        run = config.run
        return cls(
            text=config.toml(),
            files=inputs(start),
            problem=one,
            every=run.segment,
            members=run.members,
            chunk=run.chunk,
            divided=(("member", run.members, None),),
            kept=variables(one, run.keep),
            config=config,
            start=start,
            companion=companion,
        )

    def compute(self, worker: Worker, chunk: int) -> Result:
        """The members of one chunk."""
        (part,) = worker.work.plan.slices(chunk)
        ys, status = worker.members(self.problem, chunk, part.start, part.stop - part.start)
        summaries = digest(ys, status, part.start, self.config.run.failures)
        return Result(ys | {"status": status}, summaries, int(np.sum(status > 0)))

    def finish(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """Summaries of all members, the language model's layers and the companion run."""
        start, run, ts = self.start, self.config.run, np.array(self.config.times.grid())
        summaries, failed = total(records)
        dataset = summarised(summaries, ts)
        if start.layers is not None:
            dataset["layer_overlaps"] = (("layer", "pair"), start.layers)
        if self.companion is not None:
            dataset["companion"] = (("time", "companion_token", "axis"), _path(self.companion))
        if failed:
            console.print(f"{failed:,} of {run.members:,} members failed.", style="bold red")
        pair = [start.place(token) for token in self.config.report.angle_pair if start.tokens]
        facts = {
            "config": self.text,
            "seed": run.seed,
            "tokens": start.labels(),
            "dim": start.dim,
            **({} if start.rows is None else {"rows": start.rows}),
            "angle_pair": pair,
            "failed": failed,
        }
        return dataset.assign_attrs(facts | _store.provenance())


def _companion(config: Config, problem: Problem) -> Problem:
    """Uniform tokens in 3 dimensions under the model of a config; ConfigError if it has none."""
    assert config.companion is not None
    save = Save((("state", TOKENS.observables["state"]),))
    law, sde = laws.Uniform(config.companion.tokens, 3), equation(config, (3,))
    companion = dataclasses.replace(problem, sde=sde, law=law, save=save)
    check(companion, 1)
    return companion


def _path(companion: Problem) -> np.ndarray:
    """The states of the one member that no ensemble has (times, tokens, 3)."""
    one = simulate(
        companion.sde,
        companion.law,
        companion.times,
        substeps=companion.substeps,
        members=1,
        key=companion.key,
        first_member=_COMPANION,
    )
    return np.asarray(one.ys[0])
