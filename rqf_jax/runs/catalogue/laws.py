"""The initial laws that a config may name."""

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from ._section import Floats, Section, State


def _token(value: Any) -> str | int:
    # One error instead of pydantic's two, one for each type of a union.
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"must be the text or the number of a token; got {value!r}")
    return value


Token = Annotated[str | int, PlainValidator(_token)]
Tokens = Annotated[tuple[Token, ...], Field(strict=False)]


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"must be strictly ascending; got {list(values)}")
    return values


class AbstractLaw(Section):
    """A law of initial states."""

    states: ClassVar[tuple[State, ...]] = ("tokens",)
    """The kinds of state that it draws."""


class HiddenStatesLaw(AbstractLaw):
    """The tokens of a sentence in one layer of a language model, projected to the sphere."""

    name: Literal["hidden_states"]
    """The law."""
    file: str | None = None
    """An npz file as `rqf_jax.io.read_hidden_states` describes; the five sentences that come
    with the package by default. A relative path starts at the config's folder."""
    sentence: Annotated[int, Field(ge=0)] = 0
    """Which sentence of the file, counted from 0."""
    layer: Annotated[int, Field(ge=0)] = 0
    """Which layer; 0 is the output of the embedding."""
    tokens: Annotated[Tokens, Field(min_length=2)] | None = None
    """Which tokens, by text (every occurrence) or by number; all by default."""


class UniformLaw(AbstractLaw):
    """Independent uniform tokens, fresh for every member."""

    name: Literal["uniform"]
    """The law."""
    tokens: Annotated[int, Field(ge=2)]
    """Number of tokens."""
    dim: Annotated[int, Field(ge=2)]
    """Dimension of the space; the sphere has one less."""


class PairLaw(AbstractLaw):
    """Two tokens at a given angle."""

    name: Literal["pair"]
    """The law."""
    angle: Annotated[float, Field(ge=0, le=3.1415926535897931)]
    """The angle, in radians."""
    dim: Annotated[int, Field(ge=2)]
    """Dimension of the space; the sphere has one less."""


class EquiangularLaw(AbstractLaw):
    """Tokens with one common overlap."""

    name: Literal["equiangular"]
    """The law."""
    tokens: Annotated[int, Field(ge=2)]
    """Number of tokens."""
    dim: Annotated[int, Field(ge=2)]
    """Dimension of the space, at least `tokens`."""
    overlap: Annotated[float, Field(ge=-1, le=1)]
    """The overlap of every pair, at least -1/(tokens - 1)."""


class ZerosLaw(AbstractLaw):
    """A matrix of zeros."""

    states: ClassVar[tuple[State, ...]] = ("square", "rectangular")

    name: Literal["zeros"]
    """The law."""
    size: Annotated[int, Field(ge=1)]
    """Number of its columns, and of its rows unless they are given."""
    rows: Annotated[int, Field(ge=1)] | None = None
    """Number of its rows, at least `size`, where it is no square."""

    @model_validator(mode="after")
    def _is_tall(self) -> "ZerosLaw":
        if self.rows is not None and self.rows < self.size:
            raise ValueError(
                f"rows must be at least size, {self.size}; got {self.rows}: transpose the matrix"
            )
        return self


class EigenvaluesLaw(AbstractLaw):
    """Given eigenvalues, the same for every member."""

    states: ClassVar[tuple[State, ...]] = ("eigenvalues",)

    name: Literal["eigenvalues"]
    """The law."""
    values: Annotated[Floats, Field(min_length=1), AfterValidator(_ascending)]
    """The eigenvalues, strictly ascending."""


Law = HiddenStatesLaw | UniformLaw | PairLaw | EquiangularLaw | ZerosLaw | EigenvaluesLaw
