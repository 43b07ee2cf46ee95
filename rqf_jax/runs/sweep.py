"""A config at many values of some of its keys: one program, one labelled store.

Points that differ in real numbers alone run by one compilation, because those are arguments of
the compiled program, and as many in one call as make some thousand members together: a call by
itself costs as much as a hundred members. Points of other sizes (tokens, substeps) are compiled
once for each size, and run one by one.
"""

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from rich.console import Console

from .. import _store, io
from .._ensemble.program import Problem, outputs
from .._store import Plan, Record, Result, Summary, Variable
from . import config as configs, session
from .config import Config, ConfigError
from .job import AbstractJob
from .plan import portions
from .problem import check, initial, inputs, problem
from .summaries import digest, summarised, variables
from .worker import Worker

# A random sweep draws its points by the seed of the run, but not from the members' numbers.
_DRAWS = 0x5EED
# What an axis may be besides a key of [model] or [law]; any other key labels equal ensembles.
_SWEPT = ("run.seed", "run.substeps")
# Members of all points that are computed by one call.
_TOGETHER = 2**12


@dataclass(frozen=True)
class Axis:
    """One key of a config, or its last part, and its values, equally spaced or listed."""

    key: str
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Axis":
        """The axis "model.sigma=0:1.2:24" (from, to, how many) or "model.sigma=0.1,0.2,0.5"."""
        key, equals, rule = text.partition("=")
        try:
            if rule.count(":") == 2:
                low, high, count = rule.split(":")
                values = np.linspace(float(low), float(high), int(count))
            else:
                values = np.array([float(value) for value in rule.split(",")])
        except ValueError:
            values = np.array([])
        if not equals or not key.strip() or not values.size or not np.all(np.isfinite(values)):
            raise ConfigError(
                f"{text}: must look like section.key=from:to:count or section.key=a,b,c."
            )
        return cls(key.strip(), tuple(values.tolist()))

    @property
    def name(self) -> str:
        """The key without its section: the dimension of the store."""
        return self.key.rpartition(".")[2]


@dataclass(frozen=True)
class Design:
    """The points of a sweep: every combination of its `axes`, or all axes in step (`zipped`)."""

    axes: tuple[Axis, ...]
    zipped: bool = False

    def __post_init__(self):
        names = [axis.name for axis in self.axes]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"a sweep needs axes with different names; got {names}.")
        if self.zipped and len({len(axis.values) for axis in self.axes}) > 1:
            counts = {axis.key: len(axis.values) for axis in self.axes}
            raise ConfigError(f"zipped axes must have equally many values; got {counts}.")

    @classmethod
    def random(cls, ranges: Sequence[str], points: int, seed: int) -> "Design":
        """`points` points, uniform in ranges such as "model.sigma=0:1.2"."""
        axes = []
        sequences = np.random.SeedSequence([seed, _DRAWS]).spawn(len(ranges))
        for text, sequence in zip(ranges, sequences, strict=True):
            key, _, rule = text.partition("=")
            try:
                low, high = map(float, rule.split(":"))
            except ValueError:
                raise ConfigError(f"{text}: must look like section.key=from:to.") from None
            values = np.random.default_rng(sequence).uniform(low, high, points)
            axes.append(Axis(key.strip(), tuple(values.tolist())))
        return cls(tuple(axes), zipped=True)

    @classmethod
    def failed(cls, store: Path) -> "Design":
        """The points of the finished sweep at `store` that have failed members, one by one.

        Raises `ConfigError` if it has none, and `io.DataFileError` for what is no sweep.
        """
        with io.load(store) as dataset:
            table = tomllib.loads(dataset.attrs.get("config", "")).get("sweep")
            if table is None:
                raise io.DataFileError(f"{store}: not a sweep.")
            axes = [Axis(key, tuple(values)) for key, values in table["axes"].items()]
            where = np.flatnonzero(dataset.failed.values)
        points = cls(tuple(axes), table["zipped"]).points()
        if not where.size:
            raise ConfigError(f"{store}: none of its {len(points):,} points has failed members.")
        columns = zip(*(points[i] for i in where), strict=True)
        return cls(tuple(map(Axis, (axis.key for axis in axes), columns)), zipped=True)

    def of(self, config: Config) -> "Design":
        """The same with full keys: a bare one stands for the only key of `config` of that name.

        Raises `ConfigError` for a key that cannot be swept.
        """
        table = {name: getattr(config, name).model_dump() for name in ("model", "law", "run")}
        keys = [f"{section}.{name}" for section, keys in table.items() for name in keys]
        swept = [key for key in keys if not key.startswith("run.") or key in _SWEPT]

        def full(axis: Axis) -> Axis:
            same = [key for key in swept if key.rpartition(".")[2] == axis.key]
            if len(same) == 1:
                return Axis(same[0], axis.values)
            if axis.key.startswith(("model.", "law.")) or axis.key in _SWEPT:
                return axis
            numbers = [key for key in swept if _is_number(table, key)]
            rule = "is more than one key" if same else "cannot be swept"
            raise ConfigError(f"{axis.key} {rule}; the keys that can: {', '.join(numbers)}.")

        return Design(tuple(map(full, self.axes)), self.zipped)

    @property
    def shape(self) -> dict[str, int]:
        """The leading axes of the store, and their sizes."""
        axes = {axis.name: len(axis.values) for axis in self.axes}
        return {"point": next(iter(axes.values()))} if self.zipped else axes

    def divided(self, block: int) -> tuple[tuple[str, int, int], ...]:
        """Those axes in regions of at most `block` points along the last one."""
        *others, (last, size) = self.shape.items()
        return (*((name, size, 1) for name, size in others), (last, size, min(block, size)))

    def points(self) -> list[tuple[float, ...]]:
        """The values of every point, in the order of the store."""
        columns = [axis.values for axis in self.axes]
        return list(zip(*columns, strict=True) if self.zipped else itertools.product(*columns))

    def coordinates(self) -> dict[str, tuple[str, np.ndarray]]:
        """The values along the axes of the store."""
        return {
            axis.name: ("point" if self.zipped else axis.name, np.array(axis.values))
            for axis in self.axes
        }

    def toml(self) -> str:
        """The design as a section, to be stored behind the config."""
        axes = "".join(f'"{axis.key}" = {list(axis.values)}\n' for axis in self.axes)
        return f"\n[sweep]\nzipped = {str(self.zipped).lower()}\n[sweep.axes]\n{axes}"


def sweep(config: Config, design: Design, out: Path, *, force: bool, console: Console) -> None:
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
    if out.suffix != ".zarr":
        raise ConfigError(f"the path of a sweep must end in .zarr; got {out}.")
    job = SweepJob.of(config, design)
    console.print(f"{len(job.problems):,} points of {config.run.members:,} members\n")
    session.carry_out(job, out, force=force, console=console)
    console.print(f"The sweep is {out}; rqf-jax info {out} looks into it.", soft_wrap=True)


@dataclass(frozen=True)
class SweepJob(AbstractJob):
    """The ensembles of all points of a design, in blocks of points. Construct it with `of`."""

    config: Config
    design: Design
    problems: Sequence[Problem]
    block: int

    unit: ClassVar[str] = "points"

    @classmethod
    def of(cls, config: Config, design: Design) -> "SweepJob":
        """The job of a config and a design; ConfigError for a point that cannot be run."""
        design = design.of(config)
        problems = [_problem(config, design, values) for values in design.points()]
        for one in problems:
            check(one, config.run.members)
        kinds = {one.structure: one for one in problems}
        shapes = {str(jax.tree.map(jnp.shape, outputs(one))) for one in kinds.values()}
        if len(shapes) > 1:
            raise ConfigError(
                f"points must save arrays of one shape; got {', '.join(sorted(shapes))}."
            )
        every, last = config.run.checkpoint, tuple(design.shape.values())[-1]
        alone = len(kinds) > 1 or every is not None
        block = 1 if alone else max(1, min(last, _TOGETHER // config.run.members))
        first = _stacked(problems[:block], block)
        text = config.toml() + design.toml()
        return cls(text, inputs(config), first, every, config, design, problems, block)

    def plan(self, devices: Sequence[Any]) -> Plan:
        """Points divided into blocks; all members of a point are computed together."""
        run = self.config.run
        # Few members are not divided further: one device may compute all of a point.
        most = run.chunk or (8 * run.members if self.block > 1 else None)
        _, batch = portions(self.problem, run.members, most, self.every, devices)
        kept = [Variable("failed", (), (), "int32")]
        if run.keep == "trajectories":
            kept += variables(self.problems[0], run.keep, {"member": run.members})
        divided = self.design.divided(self.block)
        return Plan(self.text, self.files, _store.identity(), divided, tuple(kept), batch)

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
        dataset = summarised(whole, np.asarray(self.problems[0].ts), tuple(self.design.shape))
        if failed:
            console.print(
                f"[bold red]{failed:,} of {len(self.problems):,} points have failed members.[/]"
            )
        run = self.config.run
        facts = {"config": self.text, "seed": run.seed, "members": run.members}
        dataset = dataset.assign_coords(self.design.coordinates())
        return dataset.assign_attrs(facts | _store.provenance())

    def _whole(self, blocks: list[np.ndarray]) -> np.ndarray:
        """The arrays of all blocks as one, with the axes of the design."""
        whole = np.concatenate(blocks)
        return whole.reshape(tuple(self.design.shape.values()) + whole.shape[1:])


def _is_number(table: Mapping[str, Mapping[str, Any]], key: str) -> bool:
    section, _, name = key.partition(".")
    return type(table[section][name]) in (int, float)


def _problem(config: Config, design: Design, values: tuple[float, ...]) -> Problem:
    """The ensemble of one point; ConfigError if its values are not possible."""
    changes = []
    table = tomllib.loads(config.toml())
    for axis, value in zip(design.axes, values, strict=True):
        section, _, name = axis.key.partition(".")
        old = table.get(section, {}).get(name)
        whole = isinstance(old, int) and value == math.floor(value)
        changes.append(f"{axis.key}={int(value) if whole else repr(value)}")
    one = configs.parse(config.toml(), changes, source=", ".join(changes))
    return problem(one, initial(one.law))


def _stacked(problems: Sequence[Problem], block: int) -> Problem:
    """A block of points as one problem, the last of them repeated if it is not full."""
    if block == 1:
        return problems[0]
    return Problem.stack([*problems, *[problems[-1]] * (block - len(problems))])
