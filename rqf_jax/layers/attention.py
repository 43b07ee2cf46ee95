"""Attention with all its matrices drawn afresh."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import field, fitting, flag, maybe, optional, scalar, whole
from ..drifts import causal_mask
from ..drifts.rotary import frequencies_of, rotated
from ._abstract import AbstractBranch


class RandomAttention(AbstractBranch):
    """Softmax attention of several heads with fresh queries, keys, values and outputs.

        F_i = Σ_h O_h Σ_j a^h_ij V_h x_j,   a^h_ij = softmax_j(τ q^h_i·k^h_j/√size)

    with q = Q_h x_i, k = K_h x_j turned by their positions, and independent normal matrices of
    variances 1 (Q, K, V) and v/(heads · size) (O). For unit tokens scores have the variance τ², and
    the covariance of two outputs is, as that of `RandomLinear` on attention, v <m_i, m_j> in every
    direction, m_i = Σ_j a_ij x_j, in the mean over heads (derived).

    **Arguments**

    - `heads`, `head_dim`: number of heads, and size of each.
    - `variance`: v ≥ 0.
    - `score_variance`: τ² ≥ 0; 0 is the mean over the tokens seen.
    - `key_heads`: heads of keys and values, which groups of heads share; `heads` by default.
    - `causal`: whether token i sees only tokens 0, …, i.
    - `frequencies`: radians per position by which planes of queries and keys turn (rotary
      positions, `drifts.rotary_frequencies`); none by default. Plane m has the coordinates m and
      planes + m.

    **Raises** ValueError for sizes below 1, `key_heads` that do not divide `heads`, variances that
    are negative, and more planes than a head has.

    **Example**

    >>> branch = rqf.layers.RandomAttention(4, 8, key_heads=2, causal=True)
    >>> branch(jax.random.key(0), jnp.eye(5)).shape
    (5, 5)
    """

    heads: int = eqx.field(static=True, converter=field("heads", whole()))
    head_dim: int = eqx.field(static=True, converter=field("head_dim", whole()))
    variance: Float[Array, ""] = eqx.field(converter=scalar("variance", minimum=0), default=1.0)
    score_variance: Float[Array, ""] = eqx.field(
        converter=scalar("score_variance", minimum=0), default=1.0
    )
    key_heads: int | None = eqx.field(
        static=True, default=None, converter=field("key_heads", maybe(whole()))
    )
    causal: bool = eqx.field(static=True, default=False)
    frequencies: Float[Array, " planes"] | None = eqx.field(
        converter=optional(field("frequencies", frequencies_of)), default=None
    )

    def __check_init__(self):
        flag("causal", self.causal)
        fitting(("heads", "head_dim"), (self.heads, self.head_dim))
        if self.key_heads is not None and self.heads % self.key_heads:
            raise ValueError(
                f"`key_heads` must divide `heads`, {self.heads}; got {self.key_heads}."
            )
        if self.frequencies is not None and 2 * self.frequencies.size > self.head_dim:
            raise ValueError(
                f"`frequencies` must be at most {self.head_dim // 2}, planes of a head; got "
                f"{self.frequencies.size}."
            )

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The output of all heads for every token."""
        (tokens, dim), size = x.shape, self.head_dim
        groups = self.heads if self.key_heads is None else self.key_heads
        inner = self.heads * size
        of_queries, of_keys, of_values, of_outputs = jax.random.split(key, 4)

        def heads(own, count):
            weights = jax.random.normal(own, (dim, count * size), x.dtype)
            return jnp.moveaxis((x @ weights).reshape(tokens, count, size), 1, 0)

        def turned(states):
            if self.frequencies is None:
                return states
            return jax.vmap(rotated, (0, None))(states, self.frequencies)

        seen = causal_mask(tokens) if self.causal else jnp.ones((tokens, tokens), bool)
        with jax.default_matmul_precision("highest"):
            queries = turned(heads(of_queries, self.heads))
            queries = queries.reshape(groups, self.heads // groups, tokens, size)
            keys, values = turned(heads(of_keys, groups)), heads(of_values, groups)
            scores = jnp.einsum("ghik,gjk->ghij", queries, keys)
            scores = jnp.sqrt(self.score_variance / size) * scores
            scores = jnp.where(seen[None, None], scores, -jnp.inf)
            mixed = jnp.einsum("ghij,gjk->ighk", jax.nn.softmax(scores, -1), values)
            weights = jax.random.normal(of_outputs, (inner, dim), x.dtype)
            return mixed.reshape(tokens, inner) @ weights * jnp.sqrt(self.variance / inner)
