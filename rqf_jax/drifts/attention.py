"""Self-attention as a velocity: every token moves towards a weighted mean of what it attends to."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._arguments import integer, mask, optional, scalar, square
from .._unrolled import LIMIT
from ._abstract import AbstractDrift


class Attention(AbstractDrift):
    """Self-attention with softmax weights, one head.

        f_i = strength Σ_j a_ij V x_j,   a_ij = exp(β x_iᵀ M x_j) / Σ_k exp(β x_iᵀ M x_k)

    M = QᵀK is `query_key` and V is `value`, any real d×d matrices and both the identity when left
    out; β is `beta` (a factor 1/√d of a transformer belongs in it) and `strength` any real number,
    negative for repulsion. Several heads are a `Sum` of attentions. `mask` (tokens, tokens) says
    with True which j token i may attend to, for instance `causal_mask(tokens)`. One evaluation
    takes O(N²) memory a member; with `chunk_size` c, queries go c at a time and it is O(cN).

    Raises ValueError for a β or strength that is not a finite scalar, matrices that are not square
    and finite or, when called, not of the tokens' size, and a mask with an empty row.
    Source: Geshkovski, Letrouit, Polyanskiy & Rigollet, arXiv:2312.10794 (the model, recalled).
    """

    beta: Float[Array, ""] = eqx.field(converter=scalar("beta"))
    strength: Float[Array, ""] = eqx.field(converter=scalar("strength"), default=1.0)
    query_key: Float[Array, "d d"] | None = eqx.field(
        converter=optional(square("query_key")), default=None
    )
    value: Float[Array, "d d"] | None = eqx.field(converter=optional(square("value")), default=None)
    mask: Bool[Array, "N N"] | None = eqx.field(converter=optional(mask("mask")), default=None)
    chunk_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.chunk_size is not None:
            integer("chunk_size", self.chunk_size)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """strength Σ_j a_ij V x_j for every token i."""
        mean = _attend(self, x, _softmax_mean)
        return self.strength * mean


class UnnormalisedAttention(AbstractDrift):
    """Self-attention with the partition function replaced by the number of tokens.

        f_i = (strength / N) Σ_j exp(β x_iᵀ M x_j) V x_j

    For M = V = 1 its flow on the sphere is the gradient ascent of the interaction energy
    E = Σ_ij exp(β <x_i, x_j>) / (2 β N²), up to the factor N. A mask takes terms out of the sum and
    leaves N as it is. Arguments, errors and source are those of `Attention`.
    """

    beta: Float[Array, ""] = eqx.field(converter=scalar("beta"))
    strength: Float[Array, ""] = eqx.field(converter=scalar("strength"), default=1.0)
    query_key: Float[Array, "d d"] | None = eqx.field(
        converter=optional(square("query_key")), default=None
    )
    value: Float[Array, "d d"] | None = eqx.field(converter=optional(square("value")), default=None)
    mask: Bool[Array, "N N"] | None = eqx.field(converter=optional(mask("mask")), default=None)
    chunk_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.chunk_size is not None:
            integer("chunk_size", self.chunk_size)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """(strength / N) Σ_j exp(β x_iᵀ M x_j) V x_j for every token i."""
        total = _attend(self, x, _exponential_sum)
        return (self.strength / x.shape[0]) * total


def causal_mask(tokens: int) -> Bool[Array, "tokens tokens"]:
    """Token i attends to tokens 0, …, i and to no later one; for `mask` of an attention.

    Raises ValueError unless tokens ≥ 1.
    """
    tokens = integer("tokens", tokens)
    return jnp.tril(jnp.ones((tokens, tokens), bool))


def _attend(head: Any, x: Float[Array, "tokens dim"], combine: Any):
    """`combine` of scores and values, all queries at once or `head.chunk_size` at a time."""
    tokens, dim = x.shape
    for name in ("query_key", "value"):
        matrix = getattr(head, name)
        if matrix is not None and matrix.shape[-1] != dim:
            raise ValueError(
                f"`{name}` must be {dim} x {dim} for tokens in dimension {dim}; "
                f"got shape {matrix.shape}."
            )
    if head.mask is not None and head.mask.shape != (tokens, tokens):
        raise ValueError(
            f"`mask` must be {tokens} x {tokens} for {tokens} tokens; got {head.mask.shape}."
        )
    # On the smaller side of the products: N rows once, instead of N² scores.
    queries = head.beta * (x if head.query_key is None else _times(x, head.query_key))
    values = x if head.value is None else _times(x, head.value.T)

    def rows(queries, allowed):
        return combine(_scores(queries, x), values, allowed)

    chunk = head.chunk_size
    if chunk is None or chunk >= tokens:
        return rows(queries, head.mask)
    # Recomputed in the backward pass, so that reverse mode is O(cN) as well.
    one = jax.checkpoint(rows, prevent_cse=False)
    whole = tokens // chunk * chunk

    def block(first, count):
        allowed = (
            None if head.mask is None else lax.dynamic_slice_in_dim(head.mask, first, count, axis=0)
        )
        return one(lax.dynamic_slice_in_dim(queries, first, count, axis=0), allowed)

    firsts = jnp.arange(0, whole, chunk)
    result = lax.map(lambda first: block(first, chunk), firsts).reshape(whole, dim)
    if whole == tokens:
        return result
    return jnp.concatenate([result, block(whole, tokens - whole)])


def _softmax_mean(scores, values, allowed):
    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    top = lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True))
    weights = jnp.exp(scores - top)
    return _average(weights, values) / _total(weights)


def _exponential_sum(scores, values, allowed):
    weights = jnp.exp(scores)
    return _average(weights if allowed is None else jnp.where(allowed, weights, 0.0), values)


# In tiny dimensions members are the lanes of these arrays. There a batch of dot products would be a
# loop of tiny calls, and a reduction over an axis between others half as fast as adding its slices.

_FEW = 8


def _times(x: Float[Array, "tokens dim"], matrix: Float[Array, "dim dim"]):
    """x @ matrix."""
    return jnp.matmul(x, matrix, precision="highest")


def _scores(queries: Float[Array, "some dim"], keys: Float[Array, "tokens dim"]):
    """queries @ keysᵀ."""
    if keys.shape[-1] > LIMIT:
        return jnp.matmul(queries, keys.T, precision="highest")
    return sum(queries[:, k, None] * keys[None, :, k] for k in range(keys.shape[-1]))


def _average(weights: Float[Array, "some tokens"], values: Float[Array, "tokens dim"]):
    """weights @ values."""
    tokens, dim = values.shape
    if dim > LIMIT:
        return jnp.matmul(weights, values, precision="highest")
    if tokens > _FEW:
        columns = [jnp.sum(weights * values[None, :, k], axis=1) for k in range(dim)]
    else:
        columns = [
            sum(weights[:, j] * values[j, k] for j in range(tokens))  # pyright: ignore
            for k in range(dim)
        ]
    return jnp.stack(columns, axis=-1)


def _total(weights: Float[Array, "some tokens"]) -> Float[Array, "some 1"]:
    """The sum over tokens."""
    if weights.shape[-1] > _FEW:
        return jnp.sum(weights, axis=-1, keepdims=True)
    return sum(weights[:, j, None] for j in range(weights.shape[-1]))  # pyright: ignore
