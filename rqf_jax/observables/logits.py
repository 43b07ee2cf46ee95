"""The size of attention's logits, whose growth makes training unstable."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import floating
from ._state import one_state


def largest_logit(x: Float[Array, "tokens dim"], query_key: Any) -> Float[Array, ""]:
    """max_ij x_i·(M x_j), the largest logit of an attention of `query_key` M.

    M is one matrix (dim, dim), or a number β for β 1. For weights that train, map it over tokens
    that a layer reads, `save=lambda w: largest_logit(x, w["query"].T @ w["key"])`. Logits that grow
    without bound put all attention on one token and stop its gradient.

    Raises ValueError if `x` is not one state (tokens, dim), and for a matrix of another size.
    """
    x, matrix = one_state(x), floating("query_key", query_key)
    dim = x.shape[1]
    if matrix.shape not in ((), (dim, dim)):
        raise ValueError(
            f"`query_key` must be a number or a matrix ({dim}, {dim}); got shape {matrix.shape}."
        )
    matrix = matrix.astype(x.dtype)
    seen = jnp.matmul(x, matrix.T, precision="highest") if matrix.ndim else matrix * x
    return jnp.max(jnp.matmul(x, seen.T, precision="highest"))
