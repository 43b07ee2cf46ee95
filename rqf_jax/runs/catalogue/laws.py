"""The initial laws that a config may name."""

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from ... import io, laws
from ._section import MOST, AbstractLaw, ConfigError, Floats, Size, Start, State
from .states import EIGENVALUES, NUMBERS, PARTICLES, RECTANGULAR, SQUARE, TOKENS


def _token(value: Any) -> str | int:
    # One error instead of pydantic's two, one for each type of a union.
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"must be the text or the number of a token; got {value!r}")
    return value


Token = Annotated[str | int, PlainValidator(_token)]
Tokens = Annotated[tuple[Token, ...], Field(strict=False)]
Several = Annotated[int, Field(ge=2, le=MOST)]
Index = Annotated[int, Field(ge=0, le=MOST)]


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    for place, (a, b) in enumerate(pairwise(values)):
        if b <= a:
            raise ValueError(f"must be strictly ascending; got {a} then {b} at index {place}")
    return values


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError(f"must be the path of a file; got {text!r}")
    return text


class HiddenStatesLaw(AbstractLaw):
    """The tokens of a sentence in one layer of a language model, projected to the sphere."""

    name: Literal["hidden_states"]
    """The law."""
    file: Annotated[str, AfterValidator(_path)] | None = None
    """An npz file as `rqf_jax.io.read_hidden_states` describes; by default the five sentences that
    come with the package. A relative path starts at the config's folder."""
    sentence: Index = 0
    """Which sentence of the file, counted from 0."""
    layer: Index = 0
    """Which layer; 0 is the output of the embedding."""
    tokens: Annotated[Tokens, Field(min_length=2)] | None = None
    """Which tokens, by text (every occurrence) or by number; all by default."""

    @property
    def states(self) -> tuple[State, ...]:
        """Tokens."""
        return (TOKENS,)

    def start(self) -> Start:
        """The tokens of the file, the same for every member."""
        read = io.example_hidden_states if self.file is None else io.read_hidden_states
        sentences = read(*(() if self.file is None else (self.file,)))
        sentence = sentences[_below("sentence", self.sentence, len(sentences))]
        layer = _below("layer", self.layer, len(sentence.states))
        numbers = self._numbers(sentence.tokens)
        if len(numbers) < 2:
            raise ConfigError(f"law.tokens: must be at least 2 tokens; got {len(numbers)}.")
        chosen, dim = sentence.select(numbers), sentence.states.shape[-1]
        title = f"“{sentence.text}”\n{len(numbers)} tokens of layer {layer} in R^{dim}"
        files = {} if self.file is None else {"law.file": self.file}
        law = laws.Fixed(chosen.unit(layer))
        return Start(title, law, dim, chosen.tokens, numbers, chosen.overlaps(), files=files)

    def _numbers(self, tokens: tuple[str, ...]) -> tuple[int, ...]:
        """The places of the tokens that are asked for, in the order of the sentence."""
        if self.tokens is None:
            return tuple(range(len(tokens)))
        for token in self.tokens:
            if token not in (range(len(tokens)) if isinstance(token, int) else tokens):
                raise ConfigError(
                    f"law.tokens: must be among the sentence's {len(tokens)} tokens, "
                    f"{' '.join(tokens)}; got {token!r}."
                )
        wanted = self.tokens
        return tuple(i for i, token in enumerate(tokens) if i in wanted or token in wanted)


def _below(key: str, number: int, count: int) -> int:
    if number >= count:
        raise ConfigError(f"law.{key}: must be below {count}, the number of {key}s; got {number}.")
    return number


class UniformLaw(AbstractLaw):
    """Independent uniform tokens, drawn anew for every member."""

    name: Literal["uniform"]
    """The law."""
    tokens: Annotated[Several, Field(examples=[8])]
    """Number of tokens."""
    dim: Annotated[Several, Field(examples=[3])]
    """Dimension of the space; the sphere has one less."""

    @property
    def states(self) -> tuple[State, ...]:
        """Tokens."""
        return (TOKENS,)

    def start(self) -> Start:
        """`laws.Uniform`."""
        drawn = laws.Uniform(self.tokens, self.dim)
        return Start.of_tokens(self.name, drawn, self.tokens, self.dim)


class PairLaw(AbstractLaw):
    """Two tokens at a given angle."""

    name: Literal["pair"]
    """The law."""
    angle: Annotated[float, Field(ge=0, le=3.1415926535897931, examples=[1.0])]
    """The angle, in radians."""
    dim: Annotated[Several, Field(examples=[3])]
    """Dimension of the space; the sphere has one less."""

    @property
    def states(self) -> tuple[State, ...]:
        """Tokens."""
        return (TOKENS,)

    def start(self) -> Start:
        """`laws.Pair`."""
        return Start.of_tokens(self.name, laws.Pair(self.angle, self.dim), 2, self.dim)


class EquiangularLaw(AbstractLaw):
    """Tokens with one common overlap."""

    name: Literal["equiangular"]
    """The law."""
    tokens: Annotated[Several, Field(examples=[8])]
    """Number of tokens."""
    dim: Annotated[Several, Field(examples=[8])]
    """Dimension of the space, at least `tokens`."""
    overlap: Annotated[float, Field(ge=-1, le=1, examples=[0.5])]
    """The overlap of every pair, at least -1/(tokens - 1)."""

    @property
    def states(self) -> tuple[State, ...]:
        """Tokens."""
        return (TOKENS,)

    def start(self) -> Start:
        """`laws.Equiangular`."""
        drawn = laws.Equiangular(self.tokens, self.dim, self.overlap)
        return Start.of_tokens(self.name, drawn, self.tokens, self.dim)


class ZerosLaw(AbstractLaw):
    """A matrix of zeros."""

    name: Literal["zeros"]
    """The law."""
    size: Annotated[Size, Field(examples=[16])]
    """Number of its columns, and of its rows unless they are given."""
    rows: Size | None = None
    """Number of its rows, at least `size`; left out for a square matrix."""

    @model_validator(mode="after")
    def _is_tall(self) -> "ZerosLaw":
        if self.rows is not None and self.rows < self.size:
            raise ValueError(
                f"rows must be at least size, {self.size}; got {self.rows}: transpose the matrix"
            )
        return self

    @property
    def states(self) -> tuple[State, ...]:
        """A square matrix, unless `rows` says otherwise, or any."""
        return (SQUARE, RECTANGULAR) if self.rows is None else (RECTANGULAR,)

    def start(self) -> Start:
        """`laws.Zeros`."""
        shape = (self.rows or self.size, self.size)
        title = f"a matrix of {shape[0]} x {shape[1]}"
        return Start(title, laws.Zeros(shape), self.size, rows=self.rows)


class EigenvaluesLaw(AbstractLaw):
    """Given eigenvalues, the same for every member."""

    name: Literal["eigenvalues"]
    """The law."""
    values: Annotated[
        Floats, Field(min_length=1, examples=[[-1.0, 0.0, 2.0]]), AfterValidator(_ascending)
    ]
    """The eigenvalues, strictly ascending."""

    @property
    def states(self) -> tuple[State, ...]:
        """Eigenvalues."""
        return (EIGENVALUES,)

    def start(self) -> Start:
        """`laws.Fixed`."""
        count = len(self.values)
        return Start(f"{count} eigenvalues", laws.Fixed(self.values), count)


class RestLaw(AbstractLaw):
    """A particle at rest at a given position, the same for every member."""

    name: Literal["rest"]
    """The law."""
    position: Annotated[Floats, Field(min_length=1, examples=[[1.0, 1.0]])]
    """The coordinates of the position; the momentum is zero."""

    @property
    def states(self) -> tuple[State, ...]:
        """A particle."""
        return (PARTICLES,)

    def start(self) -> Start:
        """`laws.Product` of a fixed position and no momentum."""
        dim = len(self.position)
        law = laws.Product({"q": laws.Fixed(self.position), "p": laws.Zeros((dim,))})
        return Start(f"a particle in R^{dim}, at rest", law, dim)


class NormalLaw(AbstractLaw):
    """Independent normal numbers around a state, drawn anew for every member."""

    name: Literal["normal"]
    """The law."""
    mean: Annotated[Floats, Field(min_length=1, examples=[[1.0, 1.0, 0.5]])]
    """Mean of each number of the state, or one mean for all of them."""
    size: Size | None = None
    """Length of the state, if `mean` is one number."""
    scale: Annotated[float, Field(ge=0)] = 0.1
    """Standard deviation of every number."""

    @model_validator(mode="after")
    def _has_one_size(self) -> "NormalLaw":
        if self.size is not None and len(self.mean) not in (1, self.size):
            raise ValueError(
                f"size must be left out, or be {len(self.mean)}, the numbers of mean; got "
                f"{self.size}"
            )
        return self

    @property
    def states(self) -> tuple[State, ...]:
        """Numbers."""
        return (NUMBERS,)

    def start(self) -> Start:
        """`laws.Normal`."""
        count = self.size or len(self.mean)
        mean = self.mean if len(self.mean) == count else self.mean * count
        law = laws.Normal((count,), self.scale, mean)
        return Start(f"{count} numbers around a state", law, count)
