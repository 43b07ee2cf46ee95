"""Ensembles of continued paths."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from .._arguments import Key, finite, flag, integer, part, prng_key
from .._ensemble.compiled import compiled
from .._ensemble.members import member_keys, raise_failed, typed_key
from .._ensemble.trajectories import Trajectories
from ._abstract import AbstractSurrogate


def sample(
    surrogate: AbstractSurrogate,
    past: Any,
    steps: int,
    *,
    members: int,
    key: Key,
    every: int = 1,
    throw: bool = True,
) -> Trajectories:
    """Paths that a surrogate continues from states of the past, as one program.

    **Arguments**

    - `surrogate`: one of `rqf_jax.surrogates`, trained.
    - `past`: states (times, size), the same for all members, or (members, times, size). The last
      one is the present, save 0.
    - `steps`: how many steps to go.
    - `members`: how many paths.
    - `key`: one JAX key. Member i draws from the second of `member_keys(key, i)`, at step k from it
      folded with k, so that a longer path begins as a shorter one does.
    - `every`: save each so-many-th state; it divides `steps`.
    - `throw`: raise if a member becomes NaN or infinite; with False it is marked in
      `Trajectories.status`.

    **Returns** `Trajectories` with `ys` (members, saves, size) and the numbers of steps as `ts`.

    **Raises** ValueError for a past of another shape or with numbers that are not finite, and an
    `every` that does not divide `steps`; `NonFiniteError` for members that explode.

    **Example**

    >>> network = rqf.surrogates.AlmostLinear(1, latent=3, pieces=1, key=jax.random.key(0))
    >>> key = jax.random.key(1)
    >>> rqf.surrogates.sample(network, [[0.3]], 10, members=2, every=5, key=key).ys.shape
    (2, 3, 1)
    """
    part(AbstractSurrogate)("surrogate", surrogate)
    steps, members = integer("steps", steps), integer("members", members, maximum=2**32 - 1)
    every, throw = integer("every", every), flag("throw", throw)
    key = typed_key(prng_key("key", key))
    past = finite("past", past)
    if steps % every:
        raise ValueError(f"`every` must divide `steps` = {steps}; got {every}.")
    if past.ndim == 2:
        past = jnp.broadcast_to(past, (members, *past.shape))
    if past.ndim != 3 or past.shape[::2] != (members, surrogate.size) or not past.shape[1]:
        raise ValueError(
            f"`past` must have shape (times, {surrogate.size}) or ({members}, times, "
            f"{surrogate.size}); got shape {past.shape}."
        )
    ys, status = _continued(surrogate, past, key, steps // every, every)
    ys = raise_failed(ys, status, 0, throw)
    return Trajectories(np.arange(0, steps + 1, every).astype(float), ys, status)


@compiled
def _continued(surrogate, past, key, saves, every):
    """Saved states (members, saves, size), and each member's first save that is not finite."""
    ids = jnp.arange(past.shape[0], dtype=jnp.uint32)
    keys = jax.vmap(lambda i: member_keys(key, i)[1])(ids)
    memory = jax.vmap(surrogate.begin)(past)

    def step(memory, number):
        at_step = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
        return jax.vmap(surrogate.step)(at_step, memory)

    def save(memory, first):
        numbers = first + jnp.arange(every, dtype=jnp.uint32)

        def one(carry, number):
            return step(carry[0], number), None

        x = jnp.zeros((past.shape[0], surrogate.size), past.dtype)
        return lax.scan(one, (memory, x), numbers)[0]

    starts = every * jnp.arange(saves, dtype=jnp.uint32)
    ys = jnp.moveaxis(lax.scan(save, memory, starts)[1], 0, 1)
    ys = jnp.concatenate([past[:, -1:], ys], axis=1)
    return ys, _status(ys)


def _status(ys: Any) -> Int[Array, " members"]:
    bad = ~jnp.all(jnp.isfinite(ys), axis=-1)
    return jnp.where(jnp.any(bad, axis=1), jnp.argmax(bad, axis=1), 0).astype(jnp.int32)
