"""The points of a sweep: axes, every combination of their values or all in step, and configs."""

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import io
from . import config as configs, keys
from .catalogue import Sweep
from .config import AbstractConfig, ConfigError, toml_value

# A random sweep draws its points by the seed of the run, but not from the members' numbers.
_DRAWS = 0x5EED
# Keys of [run] that an axis may be; any other one labels equal ensembles.
_SWEPT = ("seed", "substeps")
_MOST_POINTS = 1_000_000


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
                _check_count(int(count))
                values = np.linspace(float(low), float(high), int(count))
            else:
                values = np.array([float(value) for value in rule.split(",")])
        except ConfigError:
            raise
        except ValueError:
            values = np.array([])
        if not equals or not key.strip() or not values.size or not np.all(np.isfinite(values)):
            raise ConfigError(
                f"--grid {text}: must look like section.key=from:to:count or section.key=a,b,c, "
                "with finite numbers."
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
        counts = {axis.key: len(axis.values) for axis in self.axes}
        if not self.zipped:
            _check_count(math.prod(counts.values()))
        elif len(set(counts.values())) > 1:
            raise ConfigError(f"zipped axes must have equally many values; got {counts}.")

    @classmethod
    def random(cls, ranges: Sequence[str], points: int, seed: int) -> "Design":
        """`points` points, uniform in ranges such as "model.sigma=0:1.2"."""
        _check_count(points)
        axes = []
        sequences = np.random.SeedSequence([seed, _DRAWS]).spawn(len(ranges))
        for text, sequence in zip(ranges, sequences, strict=True):
            key, _, rule = text.partition("=")
            try:
                low, high = map(float, rule.split(":"))
                values = np.random.default_rng(sequence).uniform(low, high, points)
            except (ValueError, OverflowError):
                raise ConfigError(
                    f"--random {text}: must look like section.key=from:to, with finite numbers."
                ) from None
            axes.append(Axis(key.strip(), tuple(values.tolist())))
        return cls(tuple(axes), zipped=True)

    @classmethod
    def named(cls, sweep: Sweep) -> "Design":
        """The design of a config's own section."""
        return cls(tuple(Axis(key, values) for key, values in sweep.axes.items()), sweep.zipped)

    @classmethod
    def stored(cls, text: str) -> "Design | None":
        """The design in the text that `toml` wrote behind a config; None if there is none."""
        table = configs.loaded(text, "the stored config").get("sweep")
        if table is None:
            return None
        axes = [Axis(key, tuple(values)) for key, values in table["axes"].items()]
        return cls(tuple(axes), table["zipped"])

    @classmethod
    def failed(cls, store: Path) -> "Design":
        """The points of the finished sweep at `store` that have failed members, one by one.

        Raises `ConfigError` if it has none, and `io.DataFileError` for what is no sweep.
        """
        with io.load(store) as dataset:
            design = cls.stored(dataset.attrs.get("config", ""))
            if design is None:
                raise io.DataFileError(f"{store}: not a sweep.")
            where = np.flatnonzero(dataset.failed.values)
        points = design.points()
        if not where.size:
            raise ConfigError(f"{store}: none of its {len(points):,} points has failed members.")
        columns = zip(*(points[i] for i in where), strict=True)
        return cls(tuple(map(Axis, (axis.key for axis in design.axes), columns)), zipped=True)

    def of(self, config: AbstractConfig) -> "Design":
        """The same with full keys: a bare one stands for the only key of `config` of that name.

        Raises `ConfigError` for a key that cannot be swept.
        """
        table = {name: getattr(config, name).model_dump() for name in config.swept}
        known = [f"{section}.{name}" for section, keys in table.items() for name in keys]
        besides = [f"run.{name}" for name in _SWEPT if name in type(config.run).model_fields]
        numbers = [*(key for key in known if _is_number(table, key)), *besides]

        def full(axis: Axis) -> Axis:
            if axis.key in known:  # of another type, which the error of its value says
                return axis
            if axis.key.partition(".")[0] in config.swept:  # unknown, and told with its section
                return axis
            return Axis(keys.full(axis.key, numbers, "cannot be swept"), axis.values)

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

    def corners(self) -> list[int]:
        """The points at which some axis has its least or its largest value first."""
        columns = np.array(self.points()).T
        return sorted({int(find(column)) for column in columns for find in (np.argmin, np.argmax)})

    def configs(self, config: AbstractConfig) -> Iterator[AbstractConfig]:
        """The config of every point; ConfigError for one whose values are not possible."""
        table = tomllib.loads(config.toml())
        places: dict[str, list[tuple[str, int]]] = {}
        for number, axis in enumerate(self.axes):
            section, _, name = axis.key.partition(".")
            places.setdefault(section, []).append((name, number))
        made: dict[tuple[str, tuple[float, ...]], Any] = {}  # sections that points share
        for values in self.points():
            sections, mine, told = dict(config), {}, []
            for section, own in places.items():
                mine[section] = section, tuple(values[number] for _, number in own)
                old = table.get(section, {})
                given = {name: _whole(old.get(name), values[number]) for name, number in own}
                told += [f"{section}.{name}={value!r}" for name, value in given.items()]
                sections[section] = made.get(mine[section], {**old, **given})
            one = configs.validated(sections, ", ".join(told))
            made |= {key: getattr(one, section) for section, key in mine.items()}
            yield one

    def coordinates(self) -> dict[str, tuple[str, np.ndarray]]:
        """The values along the axes of the store."""
        return {
            axis.name: ("point" if self.zipped else axis.name, np.array(axis.values))
            for axis in self.axes
        }

    def toml(self) -> str:
        """The design as a section, to be stored behind the config."""
        axes = "".join(f'"{axis.key}" = {toml_value(axis.values)}\n' for axis in self.axes)
        return f"\n[sweep]\nzipped = {str(self.zipped).lower()}\n[sweep.axes]\n{axes}"


def _check_count(points: int) -> None:
    if points > _MOST_POINTS:
        raise ConfigError(
            f"a sweep must have at most {_MOST_POINTS:,} points; got {points:,}. Take fewer values."
        )


def _whole(old: Any, value: float) -> float:
    """`value`, as an integer if the key it is for has one."""
    return int(value) if isinstance(old, int) and value == math.floor(value) else value


def _is_number(table: Mapping[str, Mapping[str, Any]], key: str) -> bool:
    section, _, name = key.partition(".")
    return type(table[section][name]) in (int, float)
