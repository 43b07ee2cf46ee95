"""A run written down: TOML to a complete, frozen, validated `Config`, and back.

    [run]        seed, members, substeps, chunk, segment, coordinates, save, keep, failures
    [times]      stop and points, or values
    [model]      name and its parameters
    [law]        name and its parameters: the initial states
    [report]     times and pairs of the comparison with closed forms      (optional)
    [companion]  a run in 3 dimensions, for the figure of the sphere      (optional)

or, of a training process,

    [run]        seed, members, chunk, segment, save, keep, failures
    [updates]    stop and points, or values
    [process]    name and its parameters

or, of an untrained transformer, which is saved after every block,

    [run]          seed, members, chunk, segment, save, keep, failures
    [architecture] name and its parameters, or file, a config.json, and what differs from it

and of any of them, to run it at many values of some keys,

    [sweep]      axes, zipped                                             (optional)

Every key that is left out gets its default, so that the config stored with a run is complete.
A key that does not exist, is missing or has a wrong value is an error that names it in full.
"""

import abc
import json
import math
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import ValidationError, model_validator

from . import catalogue, keys, shipped
from .catalogue import (
    AbstractSeeded,
    Architecture,
    Companion,
    ConfigError as ConfigError,
    Ensemble,
    Law,
    Model,
    Process,
    Report,
    Run,
    Section,
    Seeds,
    Sweep,
    Times,
    Updates,
)

_LARGEST_FILE = 2**20
# Python's reader takes time that grows with the square of the number of parts of a key.
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")


class AbstractConfig(Section, abc.ABC):
    """Everything that determines a run. Construct it with `read` or `parse`."""

    swept: ClassVar[tuple[str, ...]]
    """The sections whose numbers a sweep may change."""

    run: Ensemble
    sweep: Sweep | None = None

    @abc.abstractmethod
    def grid(self) -> np.ndarray:
        """The save times (times,)."""

    def toml(self) -> str:
        """The config with all defaults filled in; `parse` reads it back."""
        parts = []
        for name, section in self.model_dump(exclude_none=True).items():
            lines = (f"{key} = {toml_value(value)}\n" for key, value in section.items())
            parts.append(f"[{name}]\n{''.join(lines)}")
        return "\n".join(parts)

    def once(self) -> "AbstractConfig":
        """The same without its sweep."""
        return self.model_copy(update={"sweep": None})


class Config(AbstractConfig):
    """The config of an ensemble of an equation."""

    swept: ClassVar[tuple[str, ...]] = ("model", "law")

    run: Run
    times: Times
    model: Model
    law: Law
    report: Report = Report()
    companion: Companion | None = None

    @model_validator(mode="after")
    def _steps_can_be_counted(self) -> "Config":
        times = self.times.points or len(self.times.values or ())
        if (times - 1) * self.run.substeps >= 2**31:
            raise ValueError(
                f"run.substeps must make fewer than 2³¹ steps in {times - 1:,} intervals of times; "
                f"got {self.run.substeps:,}"
            )
        return self

    @model_validator(mode="after")
    def _times_exist(self) -> "Config":
        wanted = {
            f"report.{name}[{i}]": time
            for name in ("log_det_times", "one_point_times", "spectrum_times")
            for i, time in enumerate(getattr(self.report, name))
        }
        if self.report.angle_time is not None:
            wanted["report.angle_time"] = self.report.angle_time
        if self.report.exponents_from is not None:
            wanted["report.exponents_from"] = self.report.exponents_from
        grid = self.times.grid() if wanted else np.zeros(1)
        for name, time in wanted.items():
            if np.min(np.abs(time - grid)) > 1e-6 * grid[-1]:
                raise ValueError(f"{name} must be one of the save times; got {time}")
        return self

    @model_validator(mode="after")
    def _state_fits(self) -> "Config":
        name, state = self.model.name, self.model.state  # pyright: ignore[reportAttributeAccessIssue]
        if state not in self.law.states:
            got = ", ".join(f"{k} = {json.dumps(v)}" for k, v in self.law if v is not None)
            raise ValueError(
                f"law must draw {state.name} for {name}, as do {', '.join(laws_of(state))}; got "
                f"{got}, which draws {self.law.states[0].name}"
            )
        known = list(state.observables)
        for place, saved in enumerate(self.run.save):
            if saved not in known:
                raise ValueError(f"run.save[{place}] {catalogue.unknown(saved, known)}")
        if not state.has_tokens and self.companion is not None:
            raise ValueError(f"companion must be left out for {name}, which has no tokens")
        return self

    @model_validator(mode="after")
    def _coordinates_do(self) -> "Config":
        full = self.run.coordinates == "full"
        if self.model.needs_space is not None and not full:
            raise ValueError(
                f'run.coordinates must be "full" for {self.model.name}, because '  # pyright: ignore[reportAttributeAccessIssue]
                f'{self.model.needs_space}; got "overlaps"'
            )
        if self.report.one_point_times and not (full and "state" in self.run.save):
            raise ValueError(
                'report.one_point_times must be empty unless run.coordinates is "full" and '
                f'run.save has "state"; got {list(self.report.one_point_times)}'
            )
        return self

    @model_validator(mode="after")
    def _exponents_have_room(self) -> "Config":
        if self.report.exponents and self.run.coordinates != "full":
            raise ValueError(
                'report.exponents must be 0 unless run.coordinates is "full", for they are of all '
                f"tangent directions; got {self.report.exponents}"
            )
        last = self.times.grid()[-1] if self.report.exponents else math.inf
        if (self.report.exponents_from or 0) >= last:
            raise ValueError(
                f"report.exponents_from must be before the last save time, {last:g}; got "
                f"{self.report.exponents_from}"
            )
        return self

    def grid(self) -> np.ndarray:
        """The save times."""
        return self.times.grid()


class SeedsConfig(AbstractConfig):
    """The config of many seeds of one process."""

    section: ClassVar[str]
    """The section that says what seeds go through."""

    run: Seeds

    @property
    def seeded(self) -> AbstractSeeded:
        """The process that seeds go through."""
        return getattr(self, self.section)

    @model_validator(mode="after")
    def _saves_exist(self) -> "SeedsConfig":
        known = self.seeded.saves
        for place, saved in enumerate(self.run.save):
            if saved not in known:
                raise ValueError(f"run.save[{place}] {catalogue.unknown(saved, known)}")
        return self


class ProcessConfig(SeedsConfig):
    """The config of many seeds of a training process."""

    section: ClassVar[str] = "process"
    swept: ClassVar[tuple[str, ...]] = ("process",)

    updates: Updates
    process: Process

    def grid(self) -> np.ndarray:
        """The numbers of updates."""
        return self.updates.grid()


class ArchitectureConfig(SeedsConfig):
    """The config of many random networks of one untrained transformer."""

    section: ClassVar[str] = "architecture"
    swept: ClassVar[tuple[str, ...]] = ("architecture",)

    architecture: Architecture

    def grid(self) -> np.ndarray:
        """The numbers of blocks: all of them."""
        return np.arange(self.architecture.layers + 1)


def toml_value(value: Any) -> str:
    """A number, a text, lists of them, which JSON and TOML write alike but for one character, or a
    table of those on one line."""
    if isinstance(value, Mapping):
        entries = (f"{toml_value(key)} = {toml_value(one)}" for key, one in value.items())
        return f"{{{', '.join(entries)}}}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def laws_of(state: catalogue.State) -> list[str]:
    """The names of the laws that draw such states."""
    names = catalogue.names(catalogue.AbstractLaw)
    laws = [catalogue.example(catalogue.AbstractLaw, name) for name in names]
    return [law.name for law in laws if state in law.states]  # pyright: ignore[reportAttributeAccessIssue]


def read(path: str | os.PathLike, changes: Iterable[str] = ()) -> AbstractConfig:
    """The config of a TOML file, with `changes` such as "model.sigma=0.5" put into it.

    The name of a config that comes with the package, such as "demo", stands for that file. Raises
    `ConfigError` for a file that cannot be read, and see `parse`. A relative path in the file
    starts at the file's folder, one in a change at the working directory.
    """
    path = shipped.found(Path(path))
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read ({reason}).") from error
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f"{path}: a config must be at most 1 MiB; this file is larger.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: a config must be UTF-8 text; got bytes that are not, from byte "
            f"{error.start} on. Save the file as UTF-8."
        ) from error
    return parse(text, changes, source=str(path), folder=path.parent)


def parse(
    text: str,
    changes: Iterable[str] = (),
    *,
    source: str = "config",
    folder: Path = Path(),
) -> AbstractConfig:
    """The config of a TOML text, with `changes` such as "model.sigma=0.5" put into it.

    Raises `ConfigError` for text that is not TOML and for every key that is unknown, missing or
    has a wrong value, all in one message; `source` is the name of the text in the message, `folder`
    the start of relative paths in the text.
    """
    table = loaded(text, source)
    match table:
        case {"law": {"file": str(file)} as section} | {"process": {"file": str(file)} as section}:
            section["file"] = str(folder / file)
        case {"architecture": {"file": str(file)} as section}:
            del section["file"]
            table["architecture"] = catalogue.of_file(folder / file) | section
    for change in changes:
        keys.put(kind_of(table), table, change)
    return validated(table, source)


def loaded(text: str, source: str) -> dict[str, Any]:
    """The table of a TOML text; ConfigError if it is none."""
    if _DEEP_KEY.search(text):
        raise ConfigError(f"{source}: a key is nested too deeply; keys are section.key.")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML ({error}).") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: its values are nested too deeply.") from error
    except ValueError as error:  # of `int`, which reads a few thousand digits at most
        raise ConfigError(f"{source}: a number has too many digits ({error}).") from error


def kind_of(table: Mapping[str, Any]) -> type[AbstractConfig]:
    """The kind of a config: by its section `process` or `architecture`, or else an equation."""
    return next(
        (kind for kind in (ProcessConfig, ArchitectureConfig) if kind.section in table), Config
    )


def validated(table: Mapping[str, Any], source: str) -> AbstractConfig:
    """The config of a table; ConfigError with a line for everything that is wrong."""
    kind = kind_of(table)
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        problems = keys.explained(kind, dict(table), error)
    lines = "\n".join(f"  {problem}" for problem in problems)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ConfigError(f"{source}: {count}\n{lines}")
