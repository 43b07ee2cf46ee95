"""A small language model: a decoder-only transformer trained by AdamW, all of whose spectra show.

    x ← x + O softmax(QᵀK) V norm(x),   x ← x + W_out gelu(W_in norm(x))

with RMS norms without gains, learnt positions, and logits from the embedding. Text is a sequence of
whole numbers, such as the bytes of a file.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from .._arguments import Key, fitting, host, integer, is_concrete, scalar
from ..observables import singular_values
from ._descent import AbstractDescent
from .data import AbstractMemorylessSource, AbstractSource
from .injections import AbstractInjection

MATRICES = ("query", "key", "value", "output", "mlp_in", "mlp_out")
"""The weight matrices of every layer."""


class Transformer(eqx.Module):
    """The weights of a language model, layers stacked along the first axis of each matrix."""

    embedding: Float[Array, "vocabulary width"]
    position: Float[Array, "context width"]
    query: Float[Array, "layers width width"]
    key: Float[Array, "layers width width"]
    value: Float[Array, "layers width width"]
    output: Float[Array, "layers width width"]
    mlp_in: Float[Array, "layers hidden width"]
    mlp_out: Float[Array, "layers width hidden"]
    heads: int = eqx.field(static=True)

    def __call__(self, tokens: Int[Array, " length"]) -> Float[Array, "length vocabulary"]:
        """Logits of the next token at every place of one text, each seeing what is before it."""
        length, width = tokens.shape[0], self.embedding.shape[1]
        x = self.embedding[tokens] + self.position[:length]
        before = jnp.tril(jnp.ones((length, length), bool))
        for layer in range(self.query.shape[0]):
            seen = _normalise(x)
            query, key, value = (
                (seen @ matrix[layer].T).reshape(length, self.heads, width // self.heads)
                for matrix in (self.query, self.key, self.value)
            )
            scores = jnp.einsum("qhd,khd->hqk", query, key) / math.sqrt(width // self.heads)
            attention = jax.nn.softmax(jnp.where(before[None], scores, -jnp.inf), axis=-1)
            mixed = jnp.einsum("hqk,khd->qhd", attention, value)
            x = x + mixed.reshape(length, width) @ self.output[layer].T
            x = x + jax.nn.gelu(_normalise(x) @ self.mlp_in[layer].T) @ self.mlp_out[layer].T
        return _normalise(x) @ self.embedding.T


def cross_entropy(model: Transformer, text: Int[Array, " length"]) -> Float[Array, ""]:
    """-mean ln p of each next token of one text, in nats; ln(vocabulary) for a uniform guess."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(model(text[:-1]), text[1:]))


def spectra(model: Transformer) -> dict[str, Float[Array, "layers least"]]:
    """The singular values of every matrix of every layer, ascending, by its name."""
    return {name: jax.vmap(singular_values)(getattr(model, name)) for name in MATRICES}


class Record(eqx.Module):
    """Save the spectra of a language model, and its loss on texts it has not seen.

    `texts` (count, length) are whole numbers. For `train(process, updates, save=Record(texts))`.
    """

    texts: Int[Array, "count length"] = eqx.field(
        converter=lambda texts: _whole_numbers("texts", texts)
    )

    def __call__(self, model: Transformer) -> dict[str, Float[Array, "..."]]:
        """`spectra`, and `loss` in nats per token."""
        return spectra(model) | {
            "loss": jnp.mean(jax.vmap(cross_entropy, (None, 0))(model, self.texts))
        }


class GPT(AbstractDescent):
    """A small transformer that learns to continue a text, by AdamW.

    An update takes `batch` random pieces of `context` + 1 tokens. Matrices start with independent
    normal entries of variance 1/columns (1/(2 layers columns) where they write to the residual
    stream), so squared singular values fill Marchenko & Pastur's law.

    **Arguments**

    - `text`: (tokens,), whole numbers in [0, vocabulary).
    - `learning_rate`, `weight_decay`: those of AdamW, at least 0; its other numbers are optax's.
    - `batch`: pieces in an update; `context`: tokens of a piece.
    - `layers`, `heads`, `width`: sizes of the transformer; `width` is a multiple of `heads`.
    - `vocabulary`: the number of different tokens.

    **Raises** ValueError for other values and a text shorter than a piece.

    **Example**

    >>> process = rqf.training.GPT(
    ...     jnp.arange(40) % 8, batch=2, context=4, layers=1, heads=1, width=4, vocabulary=8
    ... )
    >>> process.law(jax.random.key(0)).query.shape
    (1, 4, 4)
    """

    text: Int[Array, " tokens"]
    learning_rate: Float[Array, ""]
    weight_decay: Float[Array, ""]
    batch: int = eqx.field(static=True)
    context: int = eqx.field(static=True)
    layers: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    vocabulary: int = eqx.field(static=True)

    def __init__(
        self,
        text: Any,
        *,
        learning_rate: Any = 1e-3,
        weight_decay: Any = 0.1,
        batch: int = 16,
        context: int = 64,
        layers: int = 2,
        heads: int = 4,
        width: int = 128,
        vocabulary: int = 128,
    ):
        self.context = integer("context", context)
        self.vocabulary = integer("vocabulary", vocabulary, minimum=2)
        self.text = _tokens(text, self.vocabulary, self.context)
        self.learning_rate = scalar("learning_rate", minimum=0)(learning_rate)
        self.weight_decay = scalar("weight_decay", minimum=0)(weight_decay)
        self.batch = integer("batch", batch)
        self.layers = integer("layers", layers)
        self.heads = integer("heads", heads)
        self.width = integer("width", width)
        sizes = (self.layers, 4 * self.width, self.width)
        fitting(("layers", "width"), sizes)
        fitting(("vocabulary", "width"), (self.vocabulary, self.width))
        fitting(("batch", "context", "width"), (self.batch, self.context + 1, 4 * self.width))
        if self.width % self.heads:
            raise ValueError(
                f"`width` must be a multiple of `heads`; got {self.width} and {self.heads}."
            )

    def law(self, key: Key) -> Transformer:
        """Random weights."""
        d, hidden, dtype = self.width, 4 * self.width, self.learning_rate.dtype
        keys = iter(jax.random.split(key, 2 + len(MATRICES)))

        def drawn(*shape: int, scale: float) -> Float[Array, "..."]:
            return scale * jax.random.normal(next(keys), shape, dtype)

        square, residual = 1 / math.sqrt(d), 1 / math.sqrt(2 * self.layers)
        return Transformer(
            embedding=drawn(self.vocabulary, d, scale=square),
            position=drawn(self.context, d, scale=square),
            query=drawn(self.layers, d, d, scale=square),
            key=drawn(self.layers, d, d, scale=square),
            value=drawn(self.layers, d, d, scale=square),
            output=drawn(self.layers, d, d, scale=square * residual),
            mlp_in=drawn(self.layers, hidden, d, scale=square),
            mlp_out=drawn(self.layers, d, hidden, scale=residual / math.sqrt(hidden)),
            heads=self.heads,
        )

    @property
    def source(self) -> AbstractSource:
        """Random pieces of the text."""
        return _Pieces(self.text, self.batch, self.context + 1)

    @property
    def injections(self) -> tuple[AbstractInjection, ...]:
        """None: the pieces are random enough."""
        return ()

    def optimiser(self) -> optax.GradientTransformation:
        """AdamW."""
        return optax.adamw(self.learning_rate, weight_decay=self.weight_decay)

    def loss(self, weights: Transformer, batch: Int[Array, "batch length"]) -> Float[Array, ""]:
        """The mean cross entropy of the pieces."""
        return jnp.mean(jax.vmap(cross_entropy, (None, 0))(weights, batch))


class _Pieces(AbstractMemorylessSource):
    """Pieces of one length at random places of a text."""

    text: Int[Array, " tokens"]
    batch: int = eqx.field(static=True)
    length: int = eqx.field(static=True)

    @property
    def samples(self) -> None:
        """None: pieces are drawn afresh."""
        return None

    def at(self, key: Key, number: Int[Array, ""]) -> Int[Array, "batch length"]:
        """A batch of pieces."""
        places = jax.random.randint(key, (self.batch,), 0, self.text.size - self.length + 1)
        return self.text[places[:, None] + jnp.arange(self.length)[None]]


def _normalise(x: Float[Array, "length width"]) -> Float[Array, "length width"]:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def _whole_numbers(name: str, value: Any) -> Int[Array, "..."]:
    if is_concrete(value):
        host(name, value)
    array = value if isinstance(value, jax.Array) else np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"`{name}` must be whole numbers; got dtype {array.dtype}.")
    return jnp.asarray(array)


def _tokens(text: Any, vocabulary: int, context: int) -> Int[Array, " tokens"]:
    array = _whole_numbers("text", text)
    if array.ndim != 1:
        raise ValueError(f"`text` must be along one axis; got shape {array.shape}.")
    if array.size <= context:
        raise ValueError(
            f"`text` must be longer than a piece of `context` + 1 = {context + 1} tokens; got "
            f"{array.size}."
        )
    if is_concrete(array):
        least, most = int(np.min(np.asarray(array))), int(np.max(np.asarray(array)))
        if least < 0 or most >= vocabulary:
            raise ValueError(
                f"`text` must have tokens from 0 to {vocabulary - 1}; got {least} to {most}."
            )
    return array.astype(jnp.int32)
