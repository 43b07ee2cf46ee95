"""A config's parts as this library's: the initial law, the equation, and what to save."""

import re
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _store, io, laws, observables
from .._ensemble.program import Problem, check as _check
from .._sde import SDE
from . import catalogue
from .config import Config, ConfigError


class Save(eqx.Module):
    """A state to a dict of what a config asks to keep of it."""

    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*state"]) -> dict[str, Array]:
        """The state under "state", an observable under its own name."""
        return {name: _seen(name, x) for name in self.names}


def _seen(name: str, x: Float[Array, "*state"]) -> Array:
    # A vector is a spectrum already.
    whole = name == "state" or (name == "spectrum" and x.ndim == 1)
    return x if whole else getattr(observables, name)(x)


@dataclass(frozen=True)
class Start:
    """The initial law of a config, and what is known about its tokens.

    They are in R^`dim`, or there are none and the state is a matrix of so many columns and `rows`,
    `dim` if they are None, or so many eigenvalues; `numbers` are the tokens' places in their
    sentence, `layers` (layers, pairs) their overlaps in every layer of the language model, if there
    is one.
    """

    title: str
    law: laws.AbstractLaw
    dim: int
    tokens: tuple[str, ...]
    numbers: tuple[int, ...]
    layers: Float[np.ndarray, "layers pairs"] | None = None
    rows: int | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """What a model asks for: `dim`, and `rows` where they differ."""
        return (self.dim,) if self.rows is None else (self.dim, self.rows)

    def labels(self) -> list[str]:
        """The tokens, with their numbers where one occurs twice."""
        return [
            f"{token}({number})" if self.tokens.count(token) > 1 else token
            for token, number in zip(self.tokens, self.numbers, strict=True)
        ]

    def place(self, token: str | int) -> int:
        """Where a token that a config names stands in the state; ConfigError if nowhere."""
        known = self.numbers if isinstance(token, int) else self.tokens
        if known.count(token) == 1:
            return known.index(token)
        listed = ", ".join(f"{n} {t!r}" for n, t in zip(self.numbers, self.tokens, strict=True))
        rule = "one of the tokens" if token not in known else "a number, for it occurs twice"
        raise ConfigError(f"report.angle_pair: must be {rule} ({listed}); got {token!r}.")


def initial(law: catalogue.Law) -> Start:
    """The initial law that a config's section `law` names; ConfigError if there is no such law."""
    try:
        match law:
            case catalogue.HiddenStatesLaw():
                return _sentence(law)
            case catalogue.UniformLaw():
                drawn = laws.Uniform(law.tokens, law.dim)
            case catalogue.PairLaw():
                drawn = laws.Pair(law.angle, law.dim)
            case catalogue.ZerosLaw():
                shape = (law.rows or law.size, law.size)
                title = f"a matrix of {shape[0]} x {shape[1]}"
                return Start(title, laws.Zeros(shape), law.size, (), (), rows=law.rows)
            case catalogue.EigenvaluesLaw():
                title = f"{len(law.values)} eigenvalues"
                return Start(title, laws.Fixed(law.values), len(law.values), (), ())
            case catalogue.EquiangularLaw():
                drawn = laws.Equiangular(law.tokens, law.dim, law.overlap)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"law: {error}") from error
    tokens = jax.eval_shape(drawn, jax.random.key(0)).shape[0]
    title = f"{law.name}: {tokens} tokens in R^{law.dim}"
    return Start(title, drawn, law.dim, tuple(map(str, range(tokens))), tuple(range(tokens)))


def equation(config: Config, size: tuple[int, ...]) -> SDE:
    """The equation that a config's section `model` names; ConfigError if there is none of a size.

    `size` is the dimension of tokens, or the numbers of columns and rows of a matrix.
    """
    try:
        return config.model.sde(*size)
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error
    except ArithmeticError as error:
        raise ConfigError(f"model: its numbers must be of moderate size; got {error}.") from error


def problem(config: Config, start: Start) -> Problem:
    """The ensemble of a config that starts by `start`, not yet checked."""
    law = laws.InSpan(start.law) if config.run.coordinates == "overlaps" else start.law
    ts, key = jnp.asarray(config.times.grid()), jax.random.key(config.run.seed)
    sde = equation(config, start.size)
    return Problem(sde, law, ts, key, Save(config.run.save), config.run.substeps)


def inputs(config: Config) -> dict[str, str]:
    """The SHA-256 of every file that a config reads, by its key."""
    file = getattr(config.law, "file", None)
    return {} if file is None else {"law.file": _store.fingerprint(Path(file))[0]}


def check(problem: Problem, members: int) -> None:
    """ConfigError, with the keys of a config, for what `simulate` would refuse."""
    try:
        _check(problem, members)
    except ValueError as error:
        raise ConfigError(re.sub(r"`(\w+)`", _named, str(error))) from error


def _named(argument: re.Match[str]) -> str:
    """The key of a config that is an argument of `simulate`."""
    keys = {"ts": "times", "members": "run.members", "substeps": "run.substeps"}
    return keys.get(argument[1], argument[1])


def _sentence(law: catalogue.HiddenStatesLaw) -> Start:
    sentences = io.example_hidden_states() if law.file is None else io.read_hidden_states(law.file)
    if law.sentence >= len(sentences):
        raise ConfigError(
            f"law.sentence: must be below {len(sentences)}, the number of sentences; "
            f"got {law.sentence}."
        )
    sentence = sentences[law.sentence]
    if law.layer >= len(sentence.states):
        raise ConfigError(
            f"law.layer: must be below {len(sentence.states)}, the number of layers; "
            f"got {law.layer}."
        )
    numbers = _numbers(sentence.tokens, law.tokens)
    if len(numbers) < 2:
        raise ConfigError(f"law.tokens: must be at least 2 tokens; got {len(numbers)}.")
    chosen = sentence.select(numbers)
    title = (
        f"“{sentence.text}”\n{len(numbers)} tokens of layer {law.layer} "
        f"in R^{sentence.states.shape[-1]}"
    )
    start = laws.Fixed(chosen.unit(law.layer))
    dim = sentence.states.shape[-1]
    return Start(title, start, dim, chosen.tokens, numbers, chosen.overlaps())


def _numbers(tokens: tuple[str, ...], wanted: tuple[str | int, ...] | None) -> tuple[int, ...]:
    """The places of the tokens that a config asks for, in the order of the sentence."""
    if wanted is None:
        return tuple(range(len(tokens)))
    for token in wanted:
        if token not in (range(len(tokens)) if isinstance(token, int) else tokens):
            raise ConfigError(
                f"law.tokens: must be among the sentence's {len(tokens)} tokens, "
                f"{' '.join(tokens)}; got {token!r}."
            )
    return tuple(i for i, token in enumerate(tokens) if i in wanted or token in wanted)
