"""Self-attention as a velocity: every token moves towards a weighted mean of what it attends to."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from .._arguments import field, fitting, integer, mask, maybe, optional, scalar, square, whole
from .._linalg.lanes import gram, softmax_mean, transform, weighted_sum
from ._abstract import AbstractDrift
from .rotary import frequencies_of, rotated


class AbstractAttention(AbstractDrift):
    """One head of attention: what `Attention` and `UnnormalisedAttention` share."""

    beta: Float[Array, ""] = eqx.field(converter=scalar("beta"))
    strength: Float[Array, ""] = eqx.field(converter=scalar("strength"), default=1.0)
    query_key: Float[Array, "d d"] | None = eqx.field(
        converter=optional(square("query_key")), default=None
    )
    value: Float[Array, "d d"] | None = eqx.field(converter=optional(square("value")), default=None)
    mask: Bool[Array, "N N"] | None = eqx.field(converter=optional(mask("mask")), default=None)
    chunk_size: int | None = eqx.field(
        static=True, default=None, converter=field("chunk_size", maybe(whole()))
    )
    frequencies: Float[Array, " planes"] | None = eqx.field(
        converter=optional(field("frequencies", frequencies_of)), default=None
    )

    @abc.abstractmethod
    def mean(
        self,
        scores: Float[Array, "some tokens"],
        values: Float[Array, "tokens dim"],
        allowed: Bool[Array, "some tokens"] | None,
    ) -> Float[Array, "some dim"]:
        """The weighted mean of the values for some of the queries."""

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """strength times the mean of the values, all queries at once or a chunk at a time."""
        tokens, dim = x.shape
        self._check(tokens, dim)
        # On the smaller side of the products: N rows once, instead of N² scores.
        queries = self.beta * (x if self.query_key is None else transform(self.query_key.T, x))
        keys = x
        if self.frequencies is not None:
            queries, keys = (rotated(states, self.frequencies) for states in (queries, x))
        values = x if self.value is None else transform(self.value, x)

        def rows(queries, allowed):
            return self.mean(gram(queries, keys), values, allowed)

        chunk = self.chunk_size
        if chunk is None or chunk >= tokens:
            return self.strength * rows(queries, self.mask)
        # Recomputed in the backward pass, so that reverse mode is O(cN) as well.
        rows = jax.checkpoint(rows, prevent_cse=False)
        whole = tokens // chunk * chunk

        def block(first, count):
            some, allowed = (
                None if array is None else lax.dynamic_slice_in_dim(array, first, count, axis=0)
                for array in (queries, self.mask)
            )
            return rows(some, allowed)

        firsts = jnp.arange(0, whole, chunk)
        means = lax.map(lambda first: block(first, chunk), firsts).reshape(whole, dim)
        if whole < tokens:
            means = jnp.concatenate([means, block(whole, tokens - whole)])
        return self.strength * means

    @property
    def spans(self) -> bool:
        """True unless a matrix or a plane points somewhere in space."""
        return self.query_key is None and self.value is None and self.frequencies is None

    def _check(self, tokens: int, dim: int) -> None:
        for name, matrix in (("query_key", self.query_key), ("value", self.value)):
            if matrix is not None and matrix.shape[-1] != dim:
                raise ValueError(
                    f"`{name}` must be {dim} x {dim} for tokens in dimension {dim}; "
                    f"got shape {matrix.shape}."
                )
        if self.mask is not None and self.mask.shape != (tokens, tokens):
            raise ValueError(
                f"`mask` must be {tokens} x {tokens} for {tokens} tokens; got {self.mask.shape}."
            )


class Attention(AbstractAttention):
    """Self-attention with softmax weights, one head.

        f_i = strength Σ_j a_ij V x_j,   a_ij = exp(β x_iᵀ M x_j) / Σ_k exp(β x_iᵀ M x_k)

    Several heads are a `Sum` of attentions.

    **Arguments**

    - `beta`: inverse temperature β, any real number; a factor 1/√d of a transformer belongs in it.
    - `strength`: any real number, negative for repulsion.
    - `query_key`: M = QᵀK (dim, dim); the identity by default.
    - `value`: V (dim, dim); the identity by default.
    - `mask`: (tokens, tokens), True where token i may attend to token j, like
      `causal_mask(tokens)`; all by default.
    - `chunk_size`: so many queries at a time: memory is O(chunk_size · N) a member instead of
      O(N²).
    - `frequencies`: ω_m, radians per position by which planes of the tokens turn before scores are
      taken (rotary positions, `rotary_frequencies`): x_iᵀ M x_j becomes (R^i Mᵀx_i)ᵀ(R^j x_j), R
      the rotation by ω_m in the plane of the coordinates m and planes + m. None by default.

    **Raises** ValueError for a β or strength that is not a finite scalar, matrices that are not
    square and finite or, when called, not of the tokens' size, a mask with an empty row, and more
    planes than half the dimension.

    **Example**

    >>> drift = rqf.drifts.Attention(2.0, mask=rqf.drifts.causal_mask(4))
    >>> drift(0.0, jnp.eye(4)[:, :3]).shape
    (4, 3)

    Source: Geshkovski, Letrouit, Polyanskiy & Rigollet, arXiv:2312.10794 (the model, recalled).
    """

    def mean(
        self,
        scores: Float[Array, "some tokens"],
        values: Float[Array, "tokens dim"],
        allowed: Bool[Array, "some tokens"] | None,
    ) -> Float[Array, "some dim"]:
        """Σ_j a_ij V x_j."""
        if allowed is not None:
            scores = jnp.where(allowed, scores, -jnp.inf)
        return softmax_mean(scores, values)


class UnnormalisedAttention(AbstractAttention):
    """Self-attention with the partition function replaced by the number of tokens.

        f_i = (strength / N) Σ_j exp(β x_iᵀ M x_j) V x_j

    For M = V = 1 its flow on the sphere is the gradient ascent of the interaction energy
    E = Σ_ij exp(β <x_i, x_j>) / (2 β N²), up to the factor N. A mask takes terms out of the sum and
    leaves N as it is.

    **Arguments**

    - `beta`: inverse temperature β; `strength`: both any real numbers.
    - `query_key`, `value`: M and V (dim, dim); the identity by default.
    - `mask`: (tokens, tokens), True where token i may attend to token j; all by default.
    - `chunk_size`: so many queries at a time, for little memory.
    - `frequencies`: radians per position by which planes of the tokens turn; none by default.

    **Raises** and source as of `Attention`, which says more of each argument.

    **Example**

    >>> drift = rqf.drifts.UnnormalisedAttention(0.0)
    >>> bool(jnp.allclose(drift(0.0, jnp.eye(3)), 1 / 3))
    True
    """

    def mean(
        self,
        scores: Float[Array, "some tokens"],
        values: Float[Array, "tokens dim"],
        allowed: Bool[Array, "some tokens"] | None,
    ) -> Float[Array, "some dim"]:
        """Σ_j exp(β x_iᵀ M x_j) V x_j / N."""
        weights = jnp.exp(scores)
        if allowed is not None:
            weights = jnp.where(allowed, weights, 0.0)
        return weighted_sum(weights, values) / values.shape[0]


def causal_mask(tokens: int) -> Bool[Array, "tokens tokens"]:
    """Token i attends to tokens 0, …, i and to no later one; for `mask` of an attention.

    Raises ValueError unless tokens ≥ 1.
    """
    tokens = integer("tokens", tokens)
    fitting("tokens", (tokens, tokens), itemsize=1)
    return jnp.tril(jnp.ones((tokens, tokens), bool))
