"""All steps of an ensemble in whitened coordinates, a bounded number at a time."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._linalg.unrolled import LIMIT
from .increments import half_angle
from .whitening import Whitened, choose, whiten

_BYTES = 2**21
"""How much of the data is whitened at a time: a few times what fits a core's cache."""

_LARGEST_THRESHOLD = 0.5


class Steps(eqx.Module):
    """Whitened steps with any leading axes, and their lengths `dt` (the same leading axes)."""

    whitened: Whitened
    dt: Float[Array, "*steps"]
    dim: int = eqx.field(static=True)


def threshold(p: Float[Array, ""], dt: Float[Array, ""], dim: int) -> Float[Array, ""]:
    """The smallest squared distance of a token from the span of the others that is kept.

        p dt (n+2)/8 + (4 ε)²/(p dt) + 64 ε,   at most 1/2

    The first term keeps the second-order errors of the increments, which the whitening divides by
    the distance, below the increments (`levy_floor` over p), the second does so for the rounding ε
    of the data, and the third for that of the factorisation.
    """
    eps = float(jnp.finfo(p.dtype).eps)
    moved = p * dt
    rounding = (4 * eps) ** 2 / jnp.maximum(moved, eps**2) + 64 * eps
    return jnp.minimum(moved * (dim + 2) / 8 + rounding, _LARGEST_THRESHOLD)


def chosen(
    x: Float[Array, "tokens dim"],
    y: Float[Array, "tokens dim"],
    least: Float[Array, ""],
    available: Bool[Array, " tokens"],
) -> tuple[Float[Array, "kept dim"], Float[Array, "kept dim"], Bool[Array, " kept"]]:
    """The tokens of the step from x to y that are well apart at x, and which of them count.

    Tokens that do not count, which come last, stand still at a pole: both ends are e_1.
    """
    indices, active = choose(jnp.where(available[:, None], x, 0.0), least, available)
    pole = jnp.eye(1, x.shape[-1], dtype=x.dtype)
    here = active[:, None]
    return jnp.where(here, x[indices], pole), jnp.where(here, y[indices], pole), active


def whitened_step(
    x: Float[Array, "kept dim"], y: Float[Array, "kept dim"], active: Bool[Array, " kept"]
) -> Whitened:
    """Half-angle increments of tokens that are well apart, whitened."""
    middle, increment = half_angle(x, y)
    return whiten(middle, increment, active)


def over_steps(function, dim: int):
    """`function` of one step mapped over the first axis: steps are lanes in tiny dimensions."""
    if dim > LIMIT:
        return jax.vmap(function)

    def mapped(*arguments):
        moved = [jnp.moveaxis(argument, 0, -1) for argument in arguments]
        return jax.vmap(function, in_axes=-1)(*moved)

    return mapped


@eqx.filter_jit
def whitened_steps(
    xs: Float[Array, "members times tokens dim"],
    dt: Float[Array, " steps"],
    mask: Bool[Array, "members times tokens"] | None,
    p: Float[Array, ""],
) -> Steps:
    """All steps of all members; `p` is a first guess of σ_s², for the choice of tokens alone."""
    members, times, tokens, dim = xs.shape
    least = jax.vmap(lambda h: threshold(p, h, dim))(dt)
    step = over_steps(whitened_step, dim)

    def batch(x, seen):
        size = x.shape[0] * (times - 1)
        x0, x1 = (part.reshape(size, tokens, dim) for part in (x[:, :-1], x[:, 1:]))
        both = jnp.ones((size, tokens), bool)
        if seen is not None:
            both = (seen[:, :-1] & seen[:, 1:]).reshape(size, tokens)
        repeated = jnp.broadcast_to(least, (x.shape[0], times - 1)).reshape(size)
        result = step(*jax.vmap(chosen)(x0, x1, repeated, both))
        return jax.tree.map(
            lambda leaf: leaf.reshape(x.shape[0], times - 1, *leaf.shape[1:]), result
        )

    size = xs.dtype.itemsize * (times - 1) * tokens * dim
    count = min(members, max(1, _BYTES // size))
    batches = math.ceil(members / count)
    if batches == 1:
        whitened = batch(xs, mask)
    else:
        # The last batch overlaps the one before: no padding, no copy of the data.
        starts = jnp.minimum(jnp.arange(batches) * count, members - count)

        def some(start):
            x = lax.dynamic_slice_in_dim(xs, start, count)
            return batch(x, None if mask is None else lax.dynamic_slice_in_dim(mask, start, count))

        result = lax.map(some, starts)
        extra = batches * count - members

        def join(leaf):
            whole = leaf[:-1].reshape((batches - 1) * count, *leaf.shape[2:])
            return jnp.concatenate([whole, leaf[-1, extra:]])

        whitened = jax.tree.map(join, result)
    return Steps(whitened, jnp.broadcast_to(dt, (members, times - 1)), dim)
