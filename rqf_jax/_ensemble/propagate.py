"""The other verb: an ensemble of tokens through a stack of random layers."""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, PyTree, UInt32

from .._arguments import Key, each, flag, integer, is_concrete, maybe, part
from .._sde import in_dtype
from ..laws import AbstractLaw
from ..layers import AbstractLayer
from .compiled import compiled
from .engine import in_batches
from .members import member_keys, member_range, raise_failed, typed_key, whole_state
from .problem import check_start, state_shape
from .program import check_room
from .trajectories import Trajectories
from .validity import check_layers, check_saved


def propagate(
    layer: AbstractLayer | Sequence[AbstractLayer],
    law: AbstractLaw,
    depth: int | None = None,
    *,
    members: int,
    key: Key,
    every: int = 1,
    save: Callable[[PyTree], PyTree] = whole_state,
    batch_size: int | None = None,
    throw: bool | None = None,
    first_member: int = 0,
) -> Trajectories:
    """An ensemble of independent networks of `depth` layers, each moving its own tokens.

        x^(l+1) = layer_l(key_l, x^(l)),   x^(0) from `law`

    Every member is one network: its layers draw their weights from the member's key and their own
    number alone, so that neither the ensemble's size nor its batches change a member.

    **Arguments**

    - `layer`: one of `rqf_jax.layers`, which is repeated, or a list with one for every depth. If
      layers differ in numbers alone, such as variances, one of them is compiled.
    - `law`: the law of the tokens that enter, on the first layer's stream.
    - `depth`: number of layers; not needed for a list.
    - `every`: states are saved after every so many layers, and before the first.
    - `members`, `key`, `save`, `batch_size`, `throw`, `first_member`: as in `simulate`; all members
      are simulated at a time by default.

    **Returns** `Trajectories`, whose `ts` counts layers: 0, every, 2 every, …, depth.

    **Raises** ValueError for arguments that break a rule above, a depth that is not a multiple of
    `every`, tokens that are off the sphere by more than 1e-5 where the first layer asks for unit
    tokens, and tokens of norm 0 where a layer normalises them; `NonFiniteError` for members that
    became NaN or infinite.

    **Example**

    >>> law, key = rqf.laws.Uniform(tokens=4, dim=8), jax.random.key(0)
    >>> layer = rqf.layers.Residual(rqf.layers.RandomMLP("tanh", width=16))
    >>> rqf.propagate(layer, law, 3, members=5, key=key).ys.shape
    (5, 4, 4, 8)
    """
    if isinstance(layer, AbstractLayer) or not isinstance(layer, Sequence):
        layers = (part(AbstractLayer, "a layer of `rqf_jax.layers`, or a list")("layer", layer),)
        depth = integer("depth", depth, maximum=2**31 - 1)
    else:
        layers = each(part(AbstractLayer, "a layer of `rqf_jax.layers`"))("layer", layer)
        if depth is not None and integer("depth", depth) != len(layers):
            raise ValueError(
                f"`depth` must be {len(layers)}, the number of layers in the list; got {depth}."
            )
        depth = len(layers)
    if not isinstance(law, AbstractLaw):
        raise ValueError(f"`law` must be a law of `rqf_jax.laws`; got {law!r}.")
    if not callable(save):
        raise ValueError(f"`save` must be a function of one state; got {save!r}.")
    every = integer("every", every)
    if depth % every:
        raise ValueError(f"`depth` must be a multiple of `every`, {every}; got {depth}.")
    throw = maybe(flag)("throw", throw)
    members, first_member = member_range(members, first_member)
    batch_size = members if batch_size is None else min(integer("batch_size", batch_size), members)
    key = typed_key(key)
    stream = layers[0].enters
    state = state_shape(stream, law, key)
    if getattr(state, "ndim", 0) != 2:
        raise ValueError(f"`law` must draw tokens (tokens, dim); got {state}.")
    check_start(stream, law, key, first_member, (layers, law, key))
    check_layers(layers, key, state)
    check_saved(save, state)
    stack = _Stack(layers, law, key, save, depth, every)
    first = jnp.asarray(first_member, jnp.uint32)
    if is_concrete((stack, first)):
        kept = jax.tree.leaves(eqx.filter_eval_shape(save, state))
        one = sum(y.size * y.dtype.itemsize for y in kept) * (depth // every + 1)
        check_room(members, one, first)
    ys, status = _networks(stack, first, members, batch_size)
    ys = raise_failed(ys, status, first_member, throw)
    return Trajectories(np.arange(0, depth + 1, every).astype(float), ys, status)


class _Stack(eqx.Module):
    """A stack of layers, one that is repeated or one for every depth, and the tokens that enter."""

    layers: tuple[AbstractLayer, ...]
    law: AbstractLaw
    key: Key
    save: Callable[[PyTree], PyTree]
    depth: int = eqx.field(static=True)
    every: int = eqx.field(static=True)

    def member(self, number: UInt32[Array, ""]) -> tuple[PyTree[Array], Int[Array, ""]]:
        """Saved values and status of one member."""
        law_key, weight_key = member_keys(self.key, number)
        x0 = self.law(law_key)
        layers = in_dtype(self.layers, x0.dtype)

        def through(layer, number, x):
            return layer(jax.random.fold_in(weight_key, number), x)

        def seen(x):
            return self.save(x), jnp.all(jnp.isfinite(x))

        if len(layers) == self.depth > 1 and not _alike(layers):
            found, x = [], x0
            for i, layer in enumerate(layers):
                x = through(layer, i, x)
                found += [seen(x)] if (i + 1) % self.every == 0 else []
            saved, finite = jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)
        else:
            # One layer as it is, or the numbers of each with the structure of the first.
            one, same = len(layers) == 1, eqx.filter(layers[0], eqx.is_array, inverse=True)
            numbers = [eqx.filter(layer, eqx.is_array) for layer in layers]
            own = None if one else jax.tree.map(lambda *leaves: jnp.stack(leaves), *numbers)
            shape = self.depth // self.every, self.every
            given = jax.tree.map(
                lambda a: a.reshape(*shape, *a.shape[1:]), (jnp.arange(self.depth), own)
            )

            def step(x, at):
                number, own = at
                return through(layers[0] if one else eqx.combine(own, same), number, x), None

            def interval(x, some):
                x, _ = lax.scan(step, x, some)
                return x, seen(x)

            _, (saved, finite) = lax.scan(interval, x0, given)
        start = self.save(x0)
        ys = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, saved)
        return ys, jnp.where(jnp.all(finite), 0, jnp.argmin(finite) + 1)


def _alike(layers: tuple[AbstractLayer, ...]) -> bool:
    """True if layers differ in the values of arrays alone."""
    arrays, static = eqx.partition(layers, eqx.is_array)
    shapes = [jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), layer) for layer in arrays]
    first = jax.tree.flatten((shapes[0], static[0]))
    return all(jax.tree.flatten(pair) == first for pair in zip(shapes, static, strict=True))


@compiled
def _networks(
    stack: _Stack, first: UInt32[Array, ""], members: int, batch_size: int
) -> tuple[PyTree[Array], Int[Array, " members"]]:
    """Saved values and status of members first, …, first + members - 1, batch after batch."""
    return in_batches(jax.vmap(lambda i: stack.member(i)), first, (members, batch_size))
