"""A config becomes an ensemble on disk, with its figures and its comparison with closed forms.

Everything that can be wrong with a config, its files and its output path is found before anything
is compiled, and what is written appears complete or not at all; see `session`.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import xarray
from rich.console import Console

from .. import laws
from .._ensemble.problem import Problem
from .._ensemble.simulate import simulate
from .._store import Record
from . import exponents, session
from .catalogue import TOKENS, Learning, Start
from .config import AbstractConfig, Config, SeedsConfig
from .job import AbstractEnsembleJob, whole
from .look import Form, is_drawn, look, place_of_figures
from .problem import Poser, Save, check, equation, inputs

# No ensemble has this member, so its key is free for the companion run.
_COMPANION = 2**32 - 1


def run(
    config: AbstractConfig, out: Path, *, force: bool, console: Console, form: Form = "png"
) -> None:
    """Simulate, compare, draw and write: the store `out` and a folder of that name without .zarr.

    A run that was interrupted continues, and one that is complete is only checked. `force` replaces
    the run at `out`, and nothing that is not a run; `form` is the file format of the figures.

    Raises `ConfigError`, `io.DataFileError` and FileExistsError before anything is compiled,
    `NonFiniteError` if members became NaN or infinite and the config does not have them marked,
    and see `session.carry_out`.
    """
    folder = place_of_figures(out)
    job = _job(config)
    console.print(job.title, style="bold")
    console.print(f"{config.run.members:,} members to t = {config.grid()[-1]:g}\n")
    new = session.carry_out(job, out, force=force, console=console)
    if jax.process_index() == 0 and (new or not is_drawn(out, folder)):
        look(out, folder, console, form=form)
        console.print(f"The run is {out}. To look into it: rqf-jax info {out}", soft_wrap=True)


def _job(config: AbstractConfig) -> AbstractEnsembleJob:
    if isinstance(config, SeedsConfig):
        return TrainingJob.of(config)
    assert isinstance(config, Config)
    return EnsembleJob.of(config)


@dataclass(frozen=True)
class TrainingJob(AbstractEnsembleJob):
    """The seeds of a process. Construct it with `of`."""

    learning: Learning

    @classmethod
    def of(cls, config: SeedsConfig) -> "TrainingJob":
        """The job of a config; everything that can be wrong with the config is found here.

        Raises `ConfigError` and `io.DataFileError`.
        """
        poser = Poser()
        one, learning = poser.problem(config), poser.learning(config)
        check(one, config.run.members)
        return cls(**whole(config, one, inputs(learning)), learning=learning)

    @property
    def title(self) -> str:
        """The process in a few words."""
        return self.learning.title

    def finish(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """Summaries of all seeds."""
        return self.summarised(records, console)


@dataclass(frozen=True)
class EnsembleJob(AbstractEnsembleJob):
    """The ensemble of an equation. Construct it with `of`."""

    config: Config
    start: Start
    companion: Problem | None

    @classmethod
    def of(cls, config: Config) -> "EnsembleJob":
        """The job of a config; everything that can be wrong with the config is found here.

        Raises `ConfigError` and `io.DataFileError`.
        """
        poser = Poser()
        start, one = poser.start(config), poser.equation(config)
        for token in config.report.angle_pair if start.tokens else ():
            start.place(token)
        check(one, config.run.members)
        exponents.check(one, config.report)
        companion = None if config.companion is None else _companion(config, one)
        return cls(**whole(config, one, inputs(start)), start=start, companion=companion)

    @property
    def title(self) -> str:
        """The initial law in a few words."""
        return self.start.title

    def finish(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """Summaries of all members, exponents, the language model's layers, the companion run."""
        start, dataset = self.start, self.summarised(records, console)
        if start.layers is not None:
            dataset["layer_overlaps"] = (("layer", "pair"), start.layers)
        if self.companion is not None:
            dataset["companion"] = (("time", "companion_token", "axis"), _path(self.companion))
        if self.config.report.exponents:
            assert isinstance(self.problem, Problem)
            report, members = self.config.report, self.config.run.members
            found = exponents.rates(self.problem, report, members, console)
            dataset["exponents"] = (("exponent_member", "exponent"), found)
        pair = [start.place(token) for token in self.config.report.angle_pair if start.tokens]
        facts = {
            "tokens": start.labels(),
            "dim": start.dim,
            **({} if start.rows is None else {"rows": start.rows}),
            "angle_pair": pair,
        }
        return dataset.assign_attrs(facts)


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
