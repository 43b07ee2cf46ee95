"""A config's parts as this library's: the initial law, the equation, and what to save."""

import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .. import _store, io, laws
from .._ensemble.abstract import AbstractProblem
from .._ensemble.members import member_keys, member_range
from .._ensemble.problem import Problem
from .._ensemble.program import free_bytes
from .._ensemble.times import SaveTimes
from .._ensemble.trajectories import variables_of
from .._sde import SDE
from ..training._problem import Counts, Training
from .catalogue import ConfigError, Learning, Start
from .config import AbstractConfig, Config, SeedsConfig

_ARGUMENT = r"`(\w+)`"
# Problems whose first states are drawn together.
_TOGETHER = 2**8


class Save(eqx.Module):
    """A state to a dict of the values that a config asks to save of it."""

    functions: tuple[tuple[str, Callable[[Any], PyTree]], ...]

    def __call__(self, x: Any) -> dict[str, Array]:
        """Each value under its own name; of one with parts, each part under `name.part`."""
        return variables_of({name: function(x) for name, function in self.functions})


def initial(config: Config) -> Start:
    """The initial law of a config; ConfigError if there is no such law."""
    try:
        return config.law.start()
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"law: {error}") from error


def learning(config: SeedsConfig) -> Learning:
    """The process that the seeds of a config go through; ConfigError if there is none."""
    try:
        return config.seeded.learning()
    except (ConfigError, io.DataFileError):
        raise
    except ValueError as error:
        words = re.sub(_ARGUMENT, _named, str(error))
        raise ConfigError(f"{config.section}.{words}") from error


def equation(config: Config, size: tuple[int, ...]) -> SDE:
    """The equation of a config for states of a size; ConfigError if there is none.

    `size` is the dimension of tokens, or the numbers of columns and rows of a matrix.
    """
    try:
        return config.model.sde(*size)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error
    except ArithmeticError as error:
        raise ConfigError(f"model: its numbers must be of moderate size; got {error}.") from error


class Poser:
    """Makes problems of configs; a part that two configs share is made once, one object in both."""

    def __init__(self):
        self._made: dict[Hashable, Any] = {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def start(self, config: Config) -> Start:
        """The initial law of a config and its labels."""
        return self._once(config.law, lambda: initial(config))

    def learning(self, config: SeedsConfig) -> Learning:
        """The process that the seeds of a config go through."""
        return self._once(config.seeded, lambda: learning(config))

    def source(self, config: AbstractConfig) -> Start | Learning:
        """The part of a config that reads files."""
        if isinstance(config, SeedsConfig):
            return self.learning(config)
        assert isinstance(config, Config)
        return self.start(config)

    def problem(self, config: AbstractConfig) -> AbstractProblem:
        """The ensemble of a config, not yet checked."""
        if isinstance(config, SeedsConfig):
            return self._training(config)
        assert isinstance(config, Config)
        return self.equation(config)

    def _training(self, config: SeedsConfig) -> Training:
        known, section = self.learning(config), config.seeded
        names = config.run.save or section.saves
        one = Training(
            known.process,
            self._once(tuple(config.grid().tolist()), lambda: Counts.of(config.grid())),
            self._once(config.run.seed, lambda: jax.random.key(config.run.seed)),
            self._once(
                (section, names),
                lambda: Save(tuple((name, known.observables[name]) for name in names)),
            ),
        )
        try:
            return one.checked()
        except ValueError as error:
            raise ConfigError(f"{config.section}: {error}") from error

    def equation(self, config: Config) -> Problem:
        """The ensemble of the config of an equation, not yet checked."""
        run, start = config.run, self.start(config)
        observables = config.model.state.observables
        law = start.law
        if run.coordinates == "overlaps":
            law = self._once((config.law, "span"), lambda: laws.InSpan(start.law))
        return Problem(
            self._once((config.model, start.size), lambda: equation(config, start.size)),
            law,
            self._once(config.times, lambda: SaveTimes.of(config.times.grid())),
            self._once(run.seed, lambda: jax.random.key(run.seed)),
            self._once(
                (config.model.state.name, run.save),
                lambda: Save(tuple((name, observables[name]) for name in run.save)),
            ),
            run.substeps,
        )


def inputs(start: Start | Learning) -> dict[str, str]:
    """The SHA-256 of every file that a config reads, by its key."""
    return {key: _store.fingerprint(Path(file))[0] for key, file in start.files.items()}


def check(problem: AbstractProblem, members: int) -> None:
    """ConfigError, with the keys of a config, for a problem that `simulate` would refuse."""
    try:
        _check_size(problem)
        member_range(members, 0)
        problem.checked().look_at(0)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(re.sub(_ARGUMENT, _named, str(error))) from error


def check_all(
    problems: Sequence[AbstractProblem], members: int, corners: Sequence[int]
) -> list[AbstractProblem]:
    """`check` many problems, far faster than one by one; return one of each kind.

    Problems of a kind differ in the values of arrays alone. One of each kind is checked in full,
    and so are those at the `corners`, where steps may be too long. Of all others the first state is
    drawn, of many problems together.
    """
    alike: dict[Hashable, list[int]] = {}
    for place, problem in enumerate(problems):
        leaves, structure = jax.tree.flatten(problem)
        kinds = tuple((x.shape, x.dtype) if eqx.is_array(x) else x for x in leaves)
        alike.setdefault((structure, kinds), []).append(place)
    for place in sorted({*corners, *(places[0] for places in alike.values())}):
        check(problems[place], members)
    for places in alike.values():
        if len(places) > 1:
            for number in np.flatnonzero(_doubtful([problems[place] for place in places])):
                check(problems[places[number]], members)
    return [problems[places[0]] for places in alike.values()]


def _doubtful(problems: Sequence[AbstractProblem]) -> np.ndarray:
    """For each problem of a kind, whether its first state is not finite or off its manifold."""
    structure = jax.tree.structure(problems[0])
    columns = list(zip(*map(jax.tree.leaves, problems), strict=True))
    own = [eqx.is_array(c[0]) and any(one is not c[0] for one in c) for c in columns]
    values = [_together(c) for c, differs in zip(columns, own, strict=True) if differs]

    def one(mine: list[Any]) -> Array:
        left = iter(mine)
        leaves = [next(left) if differs else c[0] for c, differs in zip(columns, own, strict=True)]
        problem: AbstractProblem = jax.tree.unflatten(structure, leaves)
        return ~problem.sound(problem.law(member_keys(problem.key, 0)[0]))

    if not values:
        return np.zeros(len(problems), bool)
    return np.asarray(
        jax.jit(lambda values: jax.lax.map(one, values, batch_size=_TOGETHER))(values)
    )


def _together(arrays: Sequence[Array]) -> PyTree[Array]:
    """One array of many of one shape; NumPy stacks thousands at once, and JAX does not."""
    if not jnp.issubdtype(arrays[0].dtype, jax.dtypes.prng_key):
        return jnp.asarray(np.stack([np.asarray(one) for one in arrays]))
    data = np.stack([np.asarray(jax.random.key_data(one)) for one in arrays])
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(arrays[0]))  # pyright: ignore[reportArgumentType]


def _check_size(problem: AbstractProblem) -> None:
    """ConfigError if one member alone needs more memory than there is."""
    leaves = jax.tree.leaves((problem.state, problem.outputs()))
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    free = free_bytes(jax.local_devices()[0])
    if needed > free:
        raise ConfigError(
            f"law, times and run.save: one member must fit into memory; it needs {needed:,} bytes "
            f"and {free:,} are free. Use a smaller law, fewer save times, or save less."
        )


def _named(argument: re.Match[str]) -> str:
    """The key of a config that is an argument of `simulate`."""
    keys = {"ts": "times", "members": "run.members", "substeps": "run.substeps"}
    return keys.get(argument[1], argument[1])
