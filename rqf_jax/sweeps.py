"""A config at many values of some of its keys: one program, one labelled store.

Points that differ in real numbers alone run by one compilation, because those are arguments of
the compiled program; points of other sizes (tokens, substeps) are compiled once for each size.
"""

import itertools
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from rich.console import Console

from . import chunks, config as configs, io, laws, session
from ._program import Problem, Program, check
from .config import Config, ConfigError
from .problems import Save, equation, initial

# A random sweep draws its points by the seed of the run, but not from the members' numbers.
_DRAWS = 0x5EED


@dataclass(frozen=True)
class Axis:
    """One key of a config and its values, equally spaced or listed."""

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

    @property
    def divided(self) -> tuple[tuple[str, int, int], ...]:
        """The leading axes of the store, one point to a region."""
        if self.zipped:
            return (("point", len(self.axes[0].values), 1),)
        return tuple((axis.name, len(axis.values), 1) for axis in self.axes)

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
    points, so differences between points are sharper than each of them. What is stored are the
    summaries over members, with dimensions named by the keys; every member's values too if
    `run.keep` says "trajectories". `failed` counts the members of each point that became NaN or
    infinite, which are left out of its summaries: take the smaller steps that such points need in
    a sweep of their own.

    Raises `ConfigError` for a point that cannot be run, before anything is compiled, and see
    `session.carry_out`.
    """
    if out.suffix != ".zarr":
        raise ConfigError(f"the path of a sweep must end in .zarr; got {out}.")
    points = design.points()
    problems = [_problem(config, design, values) for values in points]
    for problem in problems:
        check(problem, config.run.members)
    shapes = {str(jax.tree.map(jnp.shape, chunks.outputs(problem))) for problem in problems}
    if len(shapes) > 1:
        raise ConfigError(f"points must save arrays of one shape; got {', '.join(sorted(shapes))}.")
    members, every = config.run.members, config.run.checkpoint
    text = config.toml() + design.toml()
    console.print(f"{len(points):,} points of {members:,} members\n")

    def plan() -> tuple[io.Plan, Program]:
        _, program = chunks.choose(
            problems[0], members, config.run.chunk, every, jax.local_devices()
        )
        kept = [io.Variable("failed", (), (), "int32")]
        if config.run.keep == "trajectories":
            kept += chunks.variables(problems[0], config.run.keep, {"member": members})
        return io.Plan(text, io.identity(), design.divided, tuple(kept), program.batch), program

    def compute(ensemble: session.Compute, plan: io.Plan, region: int) -> session.Result:
        ys, status = ensemble(problems[region], 0, members)
        failed = int(np.sum(status > 0))
        summaries = chunks.digest(ys, status, 0, "mark")
        one = (1,) * len(design.divided)
        values = {name: y.reshape(one + y.shape) for name, y in (ys | {"status": status}).items()}
        return session.Result(values | {"failed": np.full(one, failed, "int32")}, summaries, failed)

    def finish(plan: io.Plan, records: Sequence[io.Record]) -> xarray.Dataset:
        parts = [chunks.summarised([record]) for record in records]
        dataset = _stacked(parts, plan).assign_coords(design.coordinates())
        dataset = dataset.assign_coords(time=np.asarray(problems[0].ts))
        failed = sum(record.failed > 0 for record in records)
        if failed:
            console.print(f"[bold red]{failed:,} of {len(points):,} points have failed members.[/]")
        facts = {"config": text, "seed": config.run.seed, "members": members}
        return dataset.assign_attrs(facts | io.provenance())

    job = session.Job(out, text, problems[0], every, plan, compute, finish, lambda *_: 1, "points")
    session.carry_out(job, force=force, console=console)
    console.print(f"The sweep is {out}; rqf-jax info {out} looks into it.", soft_wrap=True)


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
    start = initial(one.law)
    law = laws.InSpan(start.law) if one.run.coordinates == "overlaps" else start.law
    ts, key = jnp.asarray(one.times.grid()), jax.random.key(one.run.seed)
    sde = equation(one, start.dim)
    return Problem(sde, law, ts, key, Save(one.run.save), one.run.substeps)


def _stacked(parts: Sequence[xarray.Dataset], plan: io.Plan) -> xarray.Dataset:
    """The summaries of all points along the divided axes."""
    names, sizes = [name for name, *_ in plan.divided], plan.grid
    whole = xarray.Dataset()
    for name, variable in parts[0].variables.items():
        if str(name).endswith("_edges"):
            whole[name] = variable
            continue
        values = np.stack([part[name].values for part in parts])
        whole[name] = ((*names, *variable.dims), values.reshape(*sizes, *variable.shape))
    return whole
