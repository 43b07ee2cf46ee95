"""Sections: the parts of a config, and the two kinds that a config chooses by name.

A law or a model is one final class. Defining the class is enough to make its name known; `find`
also looks into other installed packages, which name their modules as entry points of the group
`rqf_jax.sections`.
"""

import abc
import difflib
import importlib.metadata
import inspect
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar

import numpy as np
from jaxtyping import Array, Float, PyTree
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ... import laws, manifolds, training
from ..._sde import SDE
from .closed_forms import ClosedForms

MOST = 2**31 - 1
"""The largest size or number of things that a config may ask for."""
GROUP = "rqf_jax.sections"
"""The group of entry points by which another package adds sections."""

Size = Annotated[int, Field(ge=1, le=MOST)]
NonNegative = Annotated[float, Field(ge=0)]
Floats = Annotated[tuple[float, ...], Field(strict=False)]
Row = Annotated[tuple[float, ...], Field(strict=False)]
Named = TypeVar("Named", bound="AbstractNamed")


class ConfigError(ValueError):
    """A config that cannot be run: names every key that is wrong, its value and the rule."""


def _square(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    if not rows or {len(row) for row in rows} != {len(rows)}:
        sizes = ", ".join(map(str, map(len, rows[:8])))
        raise ValueError(
            f"must be a square matrix, row by row; got rows of {sizes or 'no'} numbers"
        )
    return rows


Matrix = Annotated[tuple[Row, ...], Field(strict=False), AfterValidator(_square)]


class Section(BaseModel):
    """A part of a config: frozen, with no unknown key and no number that is not finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Keys of earlier versions, and the key that each one became."""

    @model_validator(mode="before")
    @classmethod
    def _keys_of_earlier_versions(cls, table: Any) -> Any:
        if not isinstance(table, Mapping):
            return table
        for old in [key for key in cls.renamed if key in table]:
            new = cls.renamed[old]
            if new in table:
                raise ValueError(f"must not have both {old} and {new}, which are the same key")
            warnings.warn(
                f"The config key `{old}` is now called `{new}`; version 0.3 will refuse `{old}`.",
                DeprecationWarning,
                stacklevel=2,
            )
            table = {new if key == old else key: value for key, value in table.items()}
        return table


@dataclass(frozen=True)
class State:
    """A kind of state: what a law draws and a model moves.

    `name` is a plural noun for messages; `observables` maps each name that `run.save` may have to a
    function of one state, which returns an array or a pytree of arrays; `example` is the `run.save`
    of a new config.
    """

    name: str
    observables: Mapping[str, Callable[[manifolds.State], PyTree[Array]]]
    example: tuple[str, ...]
    has_tokens: bool = False


@dataclass(frozen=True)
class Start:
    """The initial law of a config, and the labels of its tokens.

    `dim` is the dimension of tokens, the number of columns of a matrix or the number of
    eigenvalues; `rows` is given for a matrix that is not square. `numbers` are the places of the
    tokens in their sentence, `layers` (layers, pairs) their overlaps in every layer of the
    language model that they come from.
    """

    title: str
    law: laws.AbstractLaw
    dim: int
    tokens: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    layers: Float[np.ndarray, "layers pairs"] | None = None
    rows: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_tokens(cls, name: str, law: laws.AbstractLaw, tokens: int, dim: int) -> "Start":
        """Tokens without a text, labelled 0, 1, 2, …"""
        numbers = tuple(range(tokens))
        title = f"{name}: {tokens} tokens in R^{dim}"
        return cls(title, law, dim, tuple(map(str, numbers)), numbers)

    @property
    def size(self) -> tuple[int, ...]:
        """The arguments of a model's `sde` and `closed_forms`: `dim`, and `rows` if given."""
        return (self.dim,) if self.rows is None else (self.dim, self.rows)

    def labels(self) -> list[str]:
        """The tokens, with their numbers where one occurs twice."""
        return [
            f"{token}({number})" if self.tokens.count(token) > 1 else token
            for token, number in zip(self.tokens, self.numbers, strict=True)
        ]

    def place(self, token: str | int) -> int:
        """The index in the state of a token that a config names; ConfigError if there is none."""
        known = self.numbers if isinstance(token, int) else self.tokens
        if known.count(token) == 1:
            return known.index(token)
        listed = ", ".join(f"{n} {t!r}" for n, t in zip(self.numbers, self.tokens, strict=True))
        rule = "one of the tokens" if token not in known else "a number, for it occurs twice"
        raise ConfigError(f"report.angle_pair: must be {rule} ({listed}); got {token!r}.")


class AbstractNamed(Section, abc.ABC):
    """A section that a config chooses by its key `name`, of type `Literal["the name"]`."""

    known: ClassVar[dict[str, type["AbstractNamed"]]] = {}
    """The final classes of one kind, by name."""

    name: str
    """The first key, as fields of a base class stand before those of the class itself."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        if AbstractNamed in cls.__bases__:
            cls.known = {}
        elif not inspect.isabstract(cls):
            (name,) = typing.get_args(cls.model_fields["name"].annotation)
            other = cls.known.get(name, cls)
            if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise TypeError(
                    f"the section {cls.__name__} must have a name of its own; got {name!r}, which "
                    f"is {other.__module__}.{other.__qualname__}."
                )
            cls.known[name] = cls


class AbstractLaw(AbstractNamed):
    """A law of initial states."""

    @property
    @abc.abstractmethod
    def states(self) -> tuple[State, ...]:
        """The kinds of state that this law can draw."""

    @abc.abstractmethod
    def start(self) -> Start:
        """The law itself; ValueError for parameters that no such law has."""


class AbstractModel(AbstractNamed):
    """Parameters of one model, the equation they make, and what theory knows of it."""

    state: ClassVar[State]
    """The kind of state that moves."""
    needs_space: ClassVar[str | None] = None
    """Why tokens must be written in the axes of the space; None where coordinates in their span
    keep the law of overlaps: isotropic shared noise with a drift made of overlaps."""
    examples: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    """Keys of laws, by a law's name, that suit the model better in a new config than their own
    examples."""
    interval: ClassVar[float] = 0.25
    """The time between two saves in a new config, of which a sixteenth is short for the model."""

    @abc.abstractmethod
    def sde(self, *args: Any, **kwargs: Any) -> SDE:
        """The equation for states of a size, which is `Start.size`."""

    @abc.abstractmethod
    def closed_forms(self, *args: Any, **kwargs: Any) -> ClosedForms:
        """The closed forms for that size."""


@dataclass(frozen=True)
class Fact:
    """A number that theory knows, and the number of every seed (seeds,) whose mean it is."""

    quantity: str
    label: str
    theory: float
    values: np.ndarray


@dataclass(frozen=True)
class Learning:
    """The process that seeds of a config go through, and what may be saved of its weights.

    `files` are the files that it reads, by the key of the config that names them.
    """

    title: str
    process: training.AbstractProcess
    observables: Mapping[str, Callable[[PyTree], PyTree[Array]]]
    files: Mapping[str, str] = field(default_factory=dict)


class AbstractSeeded(abc.ABC):
    """The steps that many seeds of a config go through, and what theory knows of them."""

    saves: ClassVar[tuple[str, ...]]
    """What `run.save` may name; everything by default."""
    unit: ClassVar[str]
    """The plural noun for the steps between saves, such as updates or blocks."""

    @abc.abstractmethod
    def learning(self) -> Learning:
        """The process itself; ValueError for parameters that no such process has."""

    @abc.abstractmethod
    def means(self, counts: np.ndarray) -> Mapping[str, np.ndarray]:
        """The means over seeds that are known, by the name of what is saved: (saves,)."""

    def compared(self, counts: np.ndarray) -> Sequence[int]:
        """The saves at which means are compared: the last one, unless a section says otherwise."""
        return (len(counts) - 1,)

    def facts(self, counts: np.ndarray, seen: Mapping[str, np.ndarray]) -> list[Fact]:
        """Further values of all seeds from their saves, by name: arrays (seeds, saves, ...)."""
        return []

    def bounds(self) -> Mapping[str, float]:
        """The bounds of stability that theory has for what is saved, by name, drawn as lines."""
        return {}


class AbstractProcess(AbstractNamed, AbstractSeeded):
    """Parameters of one training process, and what theory knows of it."""

    unit: ClassVar[str] = "updates"


def find(kind: type[Named], name: str) -> type[Named] | None:
    """The section of that name, of this package or of another one that is installed."""
    if name not in kind.known:
        load_others()
    return kind.known.get(name)  # pyright: ignore[reportReturnType]


def names(kind: type[AbstractNamed]) -> list[str]:
    """All names of a kind of section, those of other installed packages last."""
    load_others()
    return list(kind.known)


_asked: set[str] = set()


def load_others() -> None:
    """Import the modules that other packages name as entry points; warn of one that fails."""
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.value in _asked:
            continue
        _asked.add(entry.value)
        try:
            entry.load()
        except Exception as error:  # of a stranger's module, so of any kind
            warnings.warn(
                f"The sections of {entry.value} are not available: importing it failed with "
                f"{type(error).__name__}: {error}",
                stacklevel=2,
            )


def chosen(kind: type[Named]) -> BeforeValidator:
    """How a table becomes the section of that kind that it names."""

    def build(table: Any) -> Any:
        if isinstance(table, kind) or not isinstance(table, Mapping):
            return table
        if "name" not in table:
            _refuse(f"missing; must be {listed(names(kind))}")
        name = table["name"]
        section = find(kind, name) if isinstance(name, str) else None
        if section is None:
            _refuse(unknown(name, names(kind)))
        return section.model_validate(table)

    return BeforeValidator(build)


def _refuse(rule: Any) -> NoReturn:
    raise PydanticCustomError("section_name", rule)


def listed(choices: Sequence[str]) -> str:
    """'one of a, b, c' or the only one."""
    return f"one of {', '.join(choices)}" if len(choices) != 1 else choices[0]


def unknown(value: Any, choices: Sequence[str]) -> str:
    """The rule for a value that must be one of `choices`, with the nearest of them."""
    close = nearest(str(value), choices)
    return f"must be {listed(choices)}; got {value!r}{f'. Did you mean {close}?' if close else ''}"


def nearest(word: str, choices: Sequence[str]) -> str | None:
    """The one of `choices` that `word` may be a slip of."""
    close = difflib.get_close_matches(word, choices, 1)
    return close[0] if close else None


def example(kind: type[Named], name: str) -> Named:
    """The section of that name with its defaults, and an example of each key that has none."""
    section = find(kind, name)
    if section is None:
        raise ConfigError(f"{name}: {unknown(name, names(kind))}")
    given = {
        key: info.examples[0]
        for key, info in section.model_fields.items()
        if info.is_required() and info.examples
    }
    return section.model_validate({"name": name, **given})


Law = Annotated[SerializeAsAny[AbstractLaw], chosen(AbstractLaw)]
Model = Annotated[SerializeAsAny[AbstractModel], chosen(AbstractModel)]
Process = Annotated[SerializeAsAny[AbstractProcess], chosen(AbstractProcess)]
