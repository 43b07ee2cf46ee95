"""The verb: many seeds of one training process."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, PyTree

from .._arguments import Key, calling, flag, function_of, integer, maybe, part, prng_key
from .._ensemble.abstract import is_finite
from .._ensemble.engine import without_nan
from .._ensemble.members import member_keys, raise_failed, typed_key
from .._ensemble.trajectories import Trajectories
from .._ensemble.validity import checked_process
from ._abstract import AbstractProcess
from ._problem import counted, equal_batches, updated


def whole_weights(weights: PyTree) -> PyTree:
    """The arrays of the weights: all that `train` saves if not told otherwise."""
    return eqx.filter(weights, eqx.is_array)


def train(
    process: AbstractProcess,
    updates: Int[Any, " times"] | Sequence[int],
    *,
    seeds: int,
    key: Key,
    save: Callable[[PyTree], PyTree] = whole_weights,
    batch_size: int | None = None,
    progress: Callable[[float], None] | None = None,
    throw: bool = True,
    first_seed: int = 0,
) -> Trajectories:
    """Independent runs of a training process, one a seed, seen after the given numbers of updates.

    **Main arguments**

    - `process`: one of `rqf_jax.training`, or your own `AbstractProcess`.
    - `updates`: after how many updates to save: whole numbers, strictly increasing, at least two;
      0 is the start. The first need not be saved at 0.
    - `seeds`: number of runs. All have the same data and differ in everything that is drawn.
    - `key`: one JAX key. Seed i draws from `member_keys(key, i)`, at update k from the second of
      them folded with k; so results depend neither on `updates` nor on how seeds are batched.

    **Other arguments**

    - `save`: what to keep of the weights, a function of ONE seed's weights; all arrays by default.
      Activations and other functions in a network are not kept, so to call the network give
      `save`, such as `def error(net): return loss(net, data)`. Give a named function: each new
      function object compiles anew.
    - `batch_size`: how many seeds are updated at a time; all of them, or on a CPU what fits a
      cache.
    - `progress`: called after each save with the share of all updates that is done, from 0 to 1;
      see `progress_bar`.
    - `throw`: raise if a seed's weights became NaN or infinite, or what is saved of them NaN; with
      False such seeds are marked in `Trajectories.status`.
    - `first_seed`: global index of the first seed, to continue an ensemble.

    **Returns** `Trajectories` whose `ts` are the numbers of updates and whose members are seeds, in
    memory. For seeds on disk, in chunks that are continued after a stop, see `rqf_jax.runs.train`.

    **Raises** ValueError for arguments that break a rule above; `NonFiniteError` for seeds that
    became NaN or infinite.

    **Example**

    >>> process = rqf.training.TeacherStudent(
    ...     jnp.eye(2), rqf.laws.Zeros((2, 2)), learning_rate=0.1, batch=4
    ... )
    >>> rqf.training.train(process, [0, 10, 20], seeds=5, key=jax.random.key(0)).ys.shape
    (5, 3, 2, 2)
    """
    part(AbstractProcess)("process", process)
    function_of("the weights")("save", save)
    maybe(function_of("the share that is done"))("progress", progress)
    throw = flag("throw", throw)
    counts = counted(updates)
    seeds = integer("seeds", seeds, maximum=2**32 - 1)
    first_seed = integer("first_seed", first_seed, minimum=0, maximum=2**32 - seeds)
    key = typed_key(prng_key("key", key))
    moving = checked_process(process, key, save)
    batch_size = _batch_size(process, key, seeds, batch_size)

    ids = first_seed + np.arange(math.ceil(seeds / batch_size) * batch_size, dtype=np.uint32)
    law_keys, keys = _keys(key, jnp.asarray(ids.reshape(-1, batch_size)))
    states = _start(process, law_keys)
    saved, finite, last = [], [], 0
    for count in counts:
        first, last = last, int(count)
        states = _advance(moving, keys, states, jnp.asarray(first), jnp.asarray(last))
        values, good = _look(moving, states, save)
        saved.append(values)
        finite.append(good)
        if progress is not None:
            jax.block_until_ready(good)
            with calling("progress", "be a function of the share that is done"):
                progress(last / int(counts[-1]))
    ys = jax.tree.map(lambda *leaves: jnp.stack(leaves, 1)[:seeds], *saved)
    status = _status(jnp.stack(finite)[:, :seeds])
    if throw:
        ys = raise_failed(ys, status, first_seed)
    return Trajectories(np.asarray(counts, float), ys, status)


@contextlib.contextmanager
def progress_bar(text: str = "training") -> Iterator[Callable[[float], None]]:
    """A bar on the screen, for `train(..., progress=...)`.

    with progress_bar("RBM") as progress:
        runs = train(process, updates, seeds=500, key=key, progress=progress)
    """
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task(text, total=1.0)
        yield lambda share: bar.update(task, completed=share)


@eqx.filter_jit
def _keys(key, ids):
    # By itself, so that it is compiled once for all processes.
    return jax.vmap(jax.vmap(member_keys, (None, 0)), (None, 0))(key, ids)


@eqx.filter_jit
def _start(process, keys):
    return lax.map(jax.vmap(process.start), keys)


@eqx.filter_jit
def _advance(process, keys, states, first, last):
    """Every batch of seeds by the updates first, …, last - 1."""

    return lax.map(lambda xs: updated(process, xs[0], xs[1], first, last), (keys, states))


@eqx.filter_jit
def _look(process, states, save):
    """The saved values of every seed, and True for sound ones; batches put together.

    A seed is sound if its weights are finite and no saved value is NaN, as in any ensemble.
    """

    def together(states):
        saved = jax.vmap(lambda state: save(process.weights(state)))(states)
        sound = jax.vmap(lambda state: is_finite(process.weights(state)))(states)
        return saved, sound & without_nan(saved)

    both = lax.map(together, states)
    # Not -1: a network may have weights of size 0.
    return jax.tree.map(lambda leaf: leaf.reshape(math.prod(leaf.shape[:2]), *leaf.shape[2:]), both)


def _status(finite: Bool[Array, "times seeds"]) -> Int[Array, " seeds"]:
    """The first save, after the initial one, at which a seed is not finite; 0 if it always is."""
    failed = ~finite.at[0].set(True)
    return jnp.where(finite.all(0), 0, jnp.maximum(jnp.argmax(failed, 0), 1)).astype(jnp.int32)


def _batch_size(process: AbstractProcess, key: Key, seeds: int, asked: Any) -> int:
    """Equal batches, as few as asked for or as fit a CPU's cache."""
    if asked is not None:
        limit = integer("batch_size", asked)
    elif jax.default_backend() != "cpu":
        limit = seeds
    else:
        return equal_batches(eqx.filter_eval_shape(process.start, key), seeds)
    return math.ceil(seeds / math.ceil(seeds / limit))
