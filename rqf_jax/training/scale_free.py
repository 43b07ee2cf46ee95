"""Learning without growing logits: the gradient across the weights, and StableMax.

A network that has fitted its data lowers the cross entropy further by making its logits larger,
until a softmax of finite precision is exactly one (`theory.learning.collapse_gap`) and learning
stops. Either of the two below leaves that way shut.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .._arguments import flag, floating
from ..drifts.descent import across


def perpendicular(*, rescale: bool = False) -> optax.GradientTransformation:
    """A transformation of optax: u - (w·u) w/|w|², the part of an update across each array w.

    `optax.chain(rqf.training.perpendicular(), optax.sgd(0.1))` is a step of `drifts.Descent` with
    `perpendicular`: |w|² of an array grows by the square of the step alone. With `rescale` the part
    gets the length of the whole update. Raises ValueError for another `rescale`, and in an update
    without weights.

    Source: Prieto et al., arXiv:2501.04697 (the code of its optimiser read, which rescales).
    """
    rescale = flag("rescale", rescale)

    def one(u: Float[Array, "..."], w: Float[Array, "..."]) -> Float[Array, "..."]:
        part = across(u, w)
        if not rescale:
            return part
        square = jnp.sum(part * part)
        return part * jnp.sqrt(jnp.sum(u * u) / jnp.where(square == 0, 1.0, square))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("`params` must be the weights, as the update is across them.")
        return jax.tree.map(one, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def log_stablemax(logits: Any) -> Float[Array, "*shape"]:
    """ln s(z_i) - ln Σ_j s(z_j) along the last axis, s(z) = z + 1 for z ≥ 0 and 1/(1 - z) below.

    In the place of a log-softmax: for a gap g of two logits (g, 0) the loss is ln[(g + 2)/(g + 1)],
    about 1/g, which no precision rounds to zero at gaps where a softmax has collapsed. Raises
    ValueError for logits that are not real or have no axis.

    Source: Prieto et al., arXiv:2501.04697 (recalled).
    """
    z = floating("logits", logits)
    if not z.ndim:
        raise ValueError("`logits` must have an axis; got a number.")
    above = z >= 0
    # ln s(z) = sign(z) ln(1 + |z|), of derivative 1 at 0.
    up, down = jnp.where(above, z, 0.0), jnp.where(above, 0.0, -z)
    log = jnp.where(above, jnp.log1p(up), -jnp.log1p(down))
    return log - jax.nn.logsumexp(log, axis=-1, keepdims=True)
