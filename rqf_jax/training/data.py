"""Sources of the examples that an update sees: a data set, a law, a set for each seed, tasks.

A finite source hands out all of its examples; a batch of `training.injections` chooses some. Give
`common`, a key, and all seeds draw the same.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from .._arguments import (
    Key,
    count_of,
    described,
    each,
    examples as examples_of,
    function_of,
    integer,
    prng_key,
)
from .._ensemble.members import typed_key
from .._ensemble.validity import taking

__all__ = ["AbstractSource", "Fresh", "Sampled", "Tasks", "Whole"]


def __dir__() -> list[str]:
    return __all__


def common_key(key: Any) -> Key | None:
    """A field converter: a key that all seeds have in common, or None for keys of their own."""
    return None if key is None else typed_key(prng_key("common", key))


class AbstractSource(eqx.Module):
    """The examples of an update, a pytree of arrays whose first axes are one for each example.

    What goes on from one update to the next, such as chains, is `memory`. With a `common` key all
    seeds see the same examples.
    """

    common: Key | None = eqx.field(default=None, converter=common_key, kw_only=True)

    __repr__ = described

    @property
    @abc.abstractmethod
    def samples(self) -> int | None:
        """The number of examples; None if they are drawn afresh."""

    @abc.abstractmethod
    def start(self, key: Key, weights: PyTree) -> PyTree:
        """The memory before the first update, from the weights before it."""

    @abc.abstractmethod
    def __call__(
        self, key: Key, number: Int[Array, ""], weights: PyTree, memory: PyTree
    ) -> tuple[PyTree, PyTree]:
        """The examples of update `number`, and the memory after it."""


class AbstractMemorylessSource(AbstractSource):
    """A source whose examples depend on nothing but the key and the number of an update."""

    @abc.abstractmethod
    def at(self, key: Key, number: Int[Array, ""]) -> PyTree:
        """The examples of update `number`."""

    def start(self, key: Key, weights: PyTree) -> tuple[()]:
        """Nothing."""
        return ()

    def __call__(
        self, key: Key, number: Int[Array, ""], weights: PyTree, memory: tuple[()]
    ) -> tuple[PyTree, tuple[()]]:
        """The examples of update `number`."""
        return self.at(key, number), memory


class Whole(AbstractMemorylessSource):
    """A data set: a pytree of arrays of one length, such as (inputs, targets), all of it.

    Raises ValueError for arrays of different lengths and for NaN or infinite entries.
    """

    examples: PyTree

    def __init__(self, examples: PyTree):
        self.examples, self.common = _arrays("examples", examples), None

    @property
    def samples(self) -> int | None:
        """The number of examples; None without data."""
        return count_of("examples", self.examples)

    def at(self, key: Key, number: Int[Array, ""]) -> PyTree:
        """All examples."""
        return self.examples


class Fresh(AbstractMemorylessSource):
    """New examples in every update: a batch drawn by `law`, a function of one key."""

    law: Callable[[Key], PyTree]

    def __init__(self, law: Callable[[Key], PyTree], *, common: Key | None = None):
        self.law = function_of("one key")("law", law)
        count_of("law", drawn(law))
        self.common = common_key(common)

    @property
    def samples(self) -> None:
        """None: they are endless."""
        return None

    def at(self, key: Key, number: Int[Array, ""]) -> PyTree:
        """A batch that nobody saw before."""
        return self.law(key)


class Sampled(AbstractSource):
    """A data set for each seed, drawn by `law`, a function of one key, before its first update."""

    law: Callable[[Key], PyTree]

    def __init__(self, law: Callable[[Key], PyTree], *, common: Key | None = None):
        self.law = function_of("one key")("law", law)
        self.common = common_key(common)
        count_of("law", drawn(law))

    @property
    def samples(self) -> int | None:
        """The number of examples of one seed."""
        return count_of("law", drawn(self.law))

    def start(self, key: Key, weights: PyTree) -> PyTree:
        """The data set of a seed."""
        return self.law(key if self.common is None else self.common)

    def __call__(
        self, key: Key, number: Int[Array, ""], weights: PyTree, memory: PyTree
    ) -> tuple[PyTree, PyTree]:
        """All of it."""
        return memory, memory


class Tasks(AbstractMemorylessSource):
    """One data set after another: the i-th from update `starts[i]` on, the first from update 0.

    All have examples of the same shapes, as many as each other. Learn a task, switch to another and
    measure what is forgotten.

    **Raises** ValueError for data sets that differ in shape, and for starts that do not begin with
    0 and increase, one for each data set.
    """

    tasks: PyTree
    starts: Int[Array, " tasks"]

    def __init__(self, tasks: Sequence[PyTree], starts: Sequence[int]):
        sets = each(_arrays)("tasks", tasks)
        numbers = each(lambda name, n: integer(name, n, minimum=0, maximum=2**31 - 1))(
            "starts", starts
        )
        shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), one) for one in sets]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError("`tasks` must be data sets of one shape; got sets that differ.")
        rising = numbers[0] == 0 and all(np.diff(numbers) > 0)
        if len(numbers) != len(sets) or not rising:
            raise ValueError(
                f"`starts` must be {len(sets)} increasing numbers, the first of them 0; got "
                f"{numbers}."
            )
        self.tasks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *sets)
        self.starts = jnp.asarray(numbers, jnp.int32)
        self.common = None

    @property
    def samples(self) -> int | None:
        """The number of examples of a task."""
        return count_of("tasks", jax.tree.map(lambda leaf: leaf[0], self.tasks))

    def at(self, key: Key, number: Int[Array, ""]) -> PyTree:
        """The examples of the task of this update."""
        task = jnp.sum(number >= self.starts) - 1
        return jax.tree.map(lambda leaf: leaf[task], self.tasks)


def sourced(data: Any) -> AbstractSource:
    """A source as it is, and a data set as one."""
    return data if isinstance(data, AbstractSource) else Whole(_arrays("data", data))


def _arrays(name: str, value: Any) -> PyTree[Array]:
    """A rule: examples as JAX arrays of one length."""
    arrays = jax.tree.map(jnp.asarray, examples_of(name, value))
    count_of(name, arrays)
    return arrays


def drawn(law: Callable[[Key], PyTree]) -> PyTree:
    """Shapes and dtypes of what a function of one key draws; ValueError if it does not take one."""
    key = jax.random.key(0)
    with taking("law", key):
        return eqx.filter_eval_shape(law, key)
