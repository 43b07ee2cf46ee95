"""A run written down: TOML to a complete, frozen, validated `Config`, and back.

    [run]        seed, members, substeps, chunk, coordinates, save, keep, failures
    [times]      stop and points, or values
    [model]      name and its parameters
    [law]        name and its parameters: the initial tokens
    [report]     times and pairs of the comparison with closed forms      (optional)
    [companion]  a run in 3 dimensions, for the figure of the sphere      (optional)

Every key that is left out gets its default, so that what is stored with a run says everything.
A key that does not exist, is missing or has a wrong value is an error that names it in full.
"""

import difflib
import json
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from . import shipped
from .catalogue import Floats, Law, Model, Section, State, Token, ZerosLaw

# Seeds beyond 32 bits would lose their upper half on a machine without 64-bit integers.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]
# The last number of 32 bits is that of the companion run, which no ensemble has.
Members = Annotated[int, Field(ge=1, lt=2**32)]
Time = Annotated[float, Field(ge=0)]
Saved = Literal[
    "state",
    "overlaps",
    "angles",
    "gram",
    "polar_order",
    "nematic_order",
    "log_det_gram",
    "cluster_signs",
    "spectrum",
    "singular_values",
]
_OF_WEIGHTS = {"square": "spectrum", "rectangular": "singular_values", "eigenvalues": "spectrum"}


class ConfigError(ValueError):
    """A config that cannot be run: names every key that is wrong, its value and the rule."""


class Run(Section):
    """The ensemble."""

    seed: Seed = 0
    """Seed of the run's one key; member i depends on it and on i alone."""
    members: Members
    """Number of members of the ensemble."""
    substeps: Count
    """Micro-steps per save interval; keep dim * sigma² * step at 1 or below."""
    chunk: Count | None = None
    """Members that are written at a time, and lost at most when a run is killed; by default from
    the memory there is. It changes results by rounding at most."""
    checkpoint: Count | None = None
    """Save intervals after which the members in hand are safe, for paths that are longer than a
    job; by default they are when their chunk is. It changes results by rounding at most."""
    keep: Literal["trajectories", "summaries"] = "trajectories"
    """What is stored of what is saved: every member's, or only its mean, variance and histogram
    over members, which are stored in any case."""
    failures: Literal["stop", "mark"] = "stop"
    """What happens when members become NaN or infinite: the run ends there, or they are marked
    in `status`, left out of the summaries, and counted."""
    coordinates: Literal["overlaps", "full"] = "overlaps"
    """How tokens are written: "overlaps" in an orthonormal basis of their span, far cheaper in high
    dimensions, for models where that keeps the law of overlaps; "full" in the axes of the space."""
    save: Annotated[
        tuple[Saved, ...],
        Field(strict=False, min_length=1),
    ] = ("overlaps", "log_det_gram")
    """What is kept of each state: "state", or observables of `rqf_jax.observables`. The
    comparison and the figures need "overlaps", and its volumes "log_det_gram"; of weights only
    "spectrum" is kept, or "singular_values" where they are no square matrix."""


class Times(Section):
    """The save times: `stop` and `points`, or `values`."""

    stop: Annotated[float, Field(gt=0)] | None = None
    """The last of `points` equally spaced times that start at 0."""
    points: Annotated[int, Field(ge=2)] | None = None
    """How many of them."""
    values: Annotated[Floats, Field(min_length=2)] | None = None
    """The times themselves, increasing, the first being the time of the initial state."""

    @model_validator(mode="after")
    def _one_way(self) -> "Times":
        given = {name for name in ("stop", "points", "values") if getattr(self, name) is not None}
        if given not in ({"stop", "points"}, {"values"}):
            have = " and ".join(sorted(given)) or "neither"
            raise ValueError(f"must have stop and points, or values alone; got {have}")
        if self.values and any(b <= a for a, b in pairwise(self.values)):
            raise ValueError(f"values must increase; got {list(self.values)}")
        return self

    def grid(self) -> tuple[float, ...]:
        """The save times."""
        if self.values is not None:
            return self.values
        assert self.stop is not None and self.points is not None
        last = self.points - 1
        return tuple(self.stop * i / last for i in range(self.points))


class Report(Section):
    """What the comparison with closed forms and the figures show."""

    log_det_times: Floats = ()
    """Save times at which E ln det G is compared; early ones, before tokens collapse. Most models
    have a closed form only for two tokens while they are close (0.1 radians)."""
    one_point_times: Floats = ()
    """Save times at which E<x(t), x(0)> is compared; needs the "state" in "full" coordinates."""
    spectrum_times: Floats = ()
    """Save times at which eigenvalues are compared; by default the last."""
    angle_pair: Annotated[tuple[Token, Token], Field(strict=False)] = (0, 1)
    """The two tokens, by text or by number, of the figure of angles."""
    angle_time: Time | None = None
    """The save time of the figure of angles; without it there is none."""


class Companion(Section):
    """Uniform tokens in 3 dimensions under the same model, one member: the figure of the sphere."""

    tokens: Annotated[int, Field(ge=2)]
    """Number of tokens."""


def _fitting(state: State) -> str:
    """The names of the laws of a kind of state."""
    if state == "tokens":
        return "a law of tokens"
    laws = typing.get_args(Law)
    names = [law.model_fields["name"].annotation for law in laws if state in law.states]
    return " or ".join(f'"{typing.get_args(name)[0]}"' for name in names)


class Config(Section):
    """Everything that determines a run. Construct it with `read` or `parse`."""

    run: Run
    times: Times
    model: Model
    law: Annotated[Law, Field(discriminator="name")]
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
        grid = self.times.grid()
        wanted = {
            f"report.{name}[{i}]": time
            for name in ("log_det_times", "one_point_times", "spectrum_times")
            for i, time in enumerate(getattr(self.report, name))
        }
        if self.report.angle_time is not None:
            wanted["report.angle_time"] = self.report.angle_time
        for name, time in wanted.items():
            if min(abs(time - t) for t in grid) > 1e-6 * grid[-1]:
                raise ValueError(f"{name} must be one of the save times; got {time}")
        return self

    @model_validator(mode="after")
    def _state_fits(self) -> "Config":
        name, state = self.model.name, self.model.state
        if state not in self.law.states:
            raise ValueError(
                f'law.name must be {_fitting(state)} for {name}; got "{self.law.name}"'
            )
        if isinstance(self.law, ZerosLaw) and self.law.rows is not None and state == "square":
            raise ValueError(
                f"law.rows must be left out for {name}, whose matrices are square; got "
                f"{self.law.rows}"
            )
        every, weights = set(typing.get_args(Saved)), set(_OF_WEIGHTS.values())
        known = every - weights if state == "tokens" else {_OF_WEIGHTS[state]}
        wrong = [saved for saved in self.run.save if saved not in known]
        if wrong:
            kind = "tokens" if state == "tokens" else f"weights, {min(known)},"
            raise ValueError(f"run.save must be known of {kind} for {name}; got {wrong}")
        if state != "tokens" and self.companion is not None:
            raise ValueError(f"companion must be left out for {name}, which has no tokens")
        return self

    @model_validator(mode="after")
    def _coordinates_do(self) -> "Config":
        full = self.run.coordinates == "full"
        if self.model.needs_space is not None and not full:
            raise ValueError(
                f'run.coordinates must be "full" for {self.model.name}, because '
                f'{self.model.needs_space}; got "overlaps"'
            )
        if self.report.one_point_times and not (full and "state" in self.run.save):
            raise ValueError(
                'report.one_point_times must be empty unless run.coordinates is "full" and '
                f'run.save has "state"; got {list(self.report.one_point_times)}'
            )
        return self

    def toml(self) -> str:
        """The config with all defaults filled in; `parse` reads it back."""
        sections = []
        for name, section in self.model_dump(exclude_none=True).items():
            # Numbers, strings and lists of them are written alike in JSON and in TOML.
            lines = (f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in section.items())
            sections.append(f"[{name}]\n{''.join(lines)}")
        return "\n".join(sections)


def read(path: str | os.PathLike, overrides: Iterable[str] = ()) -> Config:
    """The config of a TOML file, with `overrides` such as "model.sigma=0.5" put into it.

    The name of a config that comes with the package, such as "demo", stands for that file. Raises
    `ConfigError` for a file that cannot be read, and see `parse`. A relative path in the file
    starts at the file's folder, one in an override at the working directory.
    """
    path = shipped.found(Path(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    return parse(text, overrides, source=str(path), folder=path.parent)


def parse(
    text: str,
    overrides: Iterable[str] = (),
    *,
    source: str = "config",
    folder: Path = Path(),
) -> Config:
    """The config of a TOML text, with `overrides` such as "model.sigma=0.5" put into it.

    Raises `ConfigError` for text that is not TOML and for every key that is unknown, missing or
    has a wrong value, all in one message; `source` is what the message calls the text, `folder`
    where the text's relative paths start.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not TOML ({error}).") from error
    match table:
        case {"law": {"file": str(file)} as law}:
            law["file"] = str(folder / file)
    for override in overrides:
        _put(table, override)
    try:
        return Config.model_validate(table)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        inside = {one["loc"][:-1] for one in errors}
        # A list whose items are wrong is also reported as too short, for want of right ones.
        problems = [
            _problem(one)
            for one in errors
            if not (one["type"] == "too_short" and one["loc"] in inside)
        ]
        lines = "\n".join(f"  {problem}" for problem in problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{source}: {count}\n{lines}") from error


def _put(table: dict[str, Any], override: str) -> None:
    """Put "a.b=c" into the nested table; c is a TOML value, or a word without quotes."""
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"--set {override}: must look like section.key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if not re.fullmatch(r"[\w./~-]+", text.strip()):
            raise ConfigError(
                f"--set {override}: the value must be a TOML value, such as 0.5, [1, 2] or "
                "'\"text\"'."
            ) from None
        value = text.strip()
    for name in path[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {name} is a value, not a section.")
    table[path[-1]] = value


def _problem(error: Any) -> str:
    """One line for one of pydantic's errors."""
    key, section = _follow(error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    allowed = f"Keys here: {', '.join(section.model_fields)}."
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(str(error["loc"][-1]), section.model_fields, 1)
        return f"{key}: unknown key.{f' Did you mean {close[0]}?' if close else ''} {allowed}"
    if kind == "missing":
        return f"{key}: missing.{'' if key.endswith(']') else f' {allowed}'}"
    if kind == "union_tag_not_found":
        return f"{key}.name: missing; must be one of {', '.join(_tags(Config, key))}."
    if kind == "union_tag_invalid":
        return f"{key}.name: must be one of {context['expected_tags']}; got '{context['tag']}'."
    if kind == "value_error":
        return f"{key}: {context['error']}." if key else f"{context['error']}."
    rule = re.sub("^(Input|Value|Tuple) should | after validation, not.*", "", error["msg"])
    return f"{key}: must {rule.replace('tuple', 'list')}; got {error['input']!r}."


def _follow(location: Sequence[str | int]) -> tuple[str, type[Section]]:
    """The dotted key of pydantic's location, and the section that the key is in."""
    key, section, tags = "", Config, {}
    for part in location:
        if part in tags:  # pydantic also names the member of a union, which is no key
            section, tags = tags[part], {}
            continue
        if isinstance(part, int):
            key += f"[{part}]"
            continue
        key += f".{part}" if key else part
        if part is not location[-1] and part in section.model_fields:
            tags = _tags(section, part)
            section = tags.get("", section)
    return key, section


def _tags(section: type[Section], name: str) -> dict[str, type[Section]]:
    """The sections that may stand at a key, by their names; "" for the only one."""
    annotation = section.model_fields[name].annotation
    choices = typing.get_args(annotation) or (annotation,)
    sections = [c for c in choices if isinstance(c, type) and issubclass(c, Section)]
    if len(sections) == 1:
        return {"": sections[0]}
    return {typing.get_args(c.model_fields["name"].annotation)[0]: c for c in sections}
