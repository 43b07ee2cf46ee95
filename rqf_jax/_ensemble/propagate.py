"""The other verb: an ensemble of tokens through a stack of random layers."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from .._arguments import Key, integer
from ..laws import AbstractLaw
from ..layers import AbstractLayer
from ..manifolds import Sphere
from .members import first_state, member_keys, member_range, raise_failed, typed_key, whole_state
from .trajectories import Trajectories


def propagate(
    layer: AbstractLayer,
    law: AbstractLaw,
    depth: int,
    *,
    members: int,
    key: Key,
    every: int = 1,
    save: Callable[[PyTree], PyTree] = whole_state,
    batch_size: int | None = None,
    throw: bool = True,
    first_member: int = 0,
) -> Trajectories:
    """An ensemble of independent networks of `depth` equal layers, each moving its own tokens.

        x^(l+1) = layer(key_l, x^(l)),   x^(0) from `law`

    Every member is one network: its layers draw their weights from the member's key and their own
    number alone, so that neither the ensemble's size nor its batches change a member.

    - `layer`: one of `rqf_jax.layers`; `law`: the law of the tokens that enter.
    - `every`: states are saved after every so many layers, and before the first.
    - `members`, `key`, `save`, `batch_size`, `throw`, `first_member`: as in `simulate`; all members
      are simulated at a time by default.

    **Returns** `Trajectories`, whose `ts` counts layers: 0, every, 2 every, …, depth.

    **Raises** ValueError for arguments that break a rule above, a depth that is not a multiple of
    `every`, and tokens off the sphere by more than 1e-5; `NonFiniteError` for members that became
    NaN or infinite.
    """
    if not isinstance(layer, AbstractLayer):
        raise ValueError(f"`layer` must be a layer of `rqf_jax.layers`; got {layer!r}.")
    if not isinstance(law, AbstractLaw):
        raise ValueError(f"`law` must be a law of `rqf_jax.laws`; got {law!r}.")
    if not callable(save):
        raise ValueError(f"`save` must be a function of one state; got {save!r}.")
    depth, every = integer("depth", depth), integer("every", every)
    if depth % every:
        raise ValueError(f"`depth` must be a multiple of `every`, {every}; got {depth}.")
    members, first_member = member_range(members, first_member)
    batch_size = members if batch_size is None else min(integer("batch_size", batch_size), members)
    key = typed_key(key)
    dtype = first_state(Sphere(), law, key, first_member, (layer, law, key)).dtype
    ys, status = _networks(
        layer,
        law,
        key,
        jnp.asarray(first_member, jnp.uint32),
        save,
        depth,
        every,
        members,
        batch_size,
    )
    if throw:
        ys = raise_failed(ys, status, first_member)
    return Trajectories(every * jnp.arange(depth // every + 1, dtype=dtype), ys, status)


@eqx.filter_jit
def _networks(layer, law, key, first, save, depth, every, members, batch_size):
    """Saved values and status of members first, …, first + members - 1, batch after batch."""

    def one(member):
        law_key, weight_key = member_keys(key, member)
        x0 = law(law_key)
        own = jax.tree.map(
            lambda leaf: leaf.astype(x0.dtype) if eqx.is_inexact_array(leaf) else leaf, layer
        )

        def step(x, number):
            return own(jax.random.fold_in(weight_key, number), x), None

        def interval(x, number):
            x, _ = lax.scan(step, x, number * every + jnp.arange(every))
            return x, (save(x), jnp.all(jnp.isfinite(x)))

        _, (saved, finite) = lax.scan(interval, x0, jnp.arange(depth // every))
        ys = jax.tree.map(lambda start, rest: jnp.concatenate([start[None], rest]), save(x0), saved)
        return ys, jnp.where(jnp.all(finite), 0, jnp.argmin(finite) + 1)

    batches = math.ceil(members / batch_size)
    ids = first + jnp.arange(batches * batch_size, dtype=jnp.uint32)
    if batches == 1:
        return jax.vmap(one)(ids)
    stacked = lax.map(jax.vmap(one), ids.reshape(batches, batch_size))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:members], stacked)
