"""The other verb: an ensemble of tokens through a stack of random layers."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PyTree, UInt32

from .._arguments import Key, integer
from .._sde import in_dtype, state_dtype
from ..laws import AbstractLaw
from ..layers import AbstractLayer
from ..manifolds import Sphere
from .compiled import compiled
from .engine import in_batches
from .members import member_keys, member_range, raise_failed, typed_key, whole_state
from .problem import check_start, state_shape
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
    throw: bool | None = None,
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
    dtype = state_dtype(state_shape(Sphere(), law, key))
    check_start(Sphere(), law, key, first_member, (layer, law, key))
    stack = _Stack(layer, law, key, save, depth, every)
    first = jnp.asarray(first_member, jnp.uint32)
    ys, status = _networks(stack, first, members, batch_size)
    ys = raise_failed(ys, status, first_member, throw)
    return Trajectories(np.arange(0, depth + 1, every, dtype=dtype), ys, status)


class _Stack(eqx.Module):
    """A stack of equal layers, and the tokens that enter."""

    layer: AbstractLayer
    law: AbstractLaw
    key: Key
    save: Callable[[PyTree], PyTree]
    depth: int = eqx.field(static=True)
    every: int = eqx.field(static=True)

    def member(self, number: UInt32[Array, ""]) -> tuple[PyTree[Array], Int[Array, ""]]:
        """Saved values and status of one member."""
        law_key, weight_key = member_keys(self.key, number)
        x0 = self.law(law_key)
        layer = in_dtype(self.layer, x0.dtype)

        def step(x, number):
            return layer(jax.random.fold_in(weight_key, number), x), None

        def interval(x, number):
            x, _ = lax.scan(step, x, number * self.every + jnp.arange(self.every))
            return x, (self.save(x), jnp.all(jnp.isfinite(x)))

        _, (saved, finite) = lax.scan(interval, x0, jnp.arange(self.depth // self.every))
        start = self.save(x0)
        ys = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, saved)
        return ys, jnp.where(jnp.all(finite), 0, jnp.argmin(finite) + 1)


@compiled
def _networks(
    stack: _Stack, first: UInt32[Array, ""], members: int, batch_size: int
) -> tuple[PyTree[Array], Int[Array, " members"]]:
    """Saved values and status of members first, …, first + members - 1, batch after batch."""
    return in_batches(jax.vmap(lambda i: stack.member(i)), first, (members, batch_size))
