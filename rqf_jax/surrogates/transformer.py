"""A causal transformer that reads the states of a path and gives the law of the next one."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._arguments import Key, finite, fitting, integer, part, prng_key
from ._abstract import AbstractSurrogate
from .heads import AbstractHead


class Memory(eqx.Module):
    """Keys and values of the last states, in a ring of `context` places; the present state."""

    keys: Float[Array, "blocks context heads dim"]
    values: Float[Array, "blocks context heads dim"]
    seen: Int[Array, ""]
    x: Float[Array, " size"]
    hidden: Float[Array, " width"]


class Block(eqx.Module):
    """Pre-LN: attention with a learned bias for every age, then a perceptron."""

    before: eqx.nn.RMSNorm
    between: eqx.nn.RMSNorm
    projections: eqx.nn.Linear
    out: eqx.nn.Linear
    perceptron: eqx.nn.MLP
    bias: Float[Array, "heads context"]

    def __init__(self, width: int, heads: int, context: int, blocks: int, key: Key):
        first, second, third = jax.random.split(key, 3)
        self.before, self.between = eqx.nn.RMSNorm(width), eqx.nn.RMSNorm(width)
        self.projections = eqx.nn.Linear(width, 3 * width, use_bias=False, key=first)
        out = eqx.nn.Linear(width, width, use_bias=False, key=second)
        scale = 1 / math.sqrt(2 * blocks)
        self.out = eqx.tree_at(lambda linear: linear.weight, out, scale * out.weight)
        self.perceptron = eqx.nn.MLP(width, width, 4 * width, 1, jax.nn.gelu, key=third)
        self.bias = jnp.zeros((heads, context))

    def parts(self, x: Float[Array, " width"]) -> tuple[Float[Array, "heads dim"], ...]:
        """Query, key and value of one vector."""
        heads = self.bias.shape[0]
        query, key, value = jnp.split(self.projections(self.before(x)), 3)
        return tuple(part.reshape(heads, -1) for part in (query, key, value))

    def attended(self, query, keys, values, ages):
        """The mean value for one query; `ages` of keys that it may not see are negative."""
        context = self.bias.shape[1]
        scores = jnp.einsum("hd,khd->hk", query, keys, precision="highest")
        scores = scores / math.sqrt(query.shape[1]) + self.bias[:, jnp.clip(ages, 0, context - 1)]
        seen = (ages >= 0) & (ages < context)
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), axis=-1)
        return jnp.einsum("hk,khd->hd", weights, values, precision="highest").reshape(-1)

    def finished(self, x, attended):
        """The stream after attention and perceptron."""
        x = x + self.out(attended)
        return x + self.perceptron(self.between(x))


class Transformer(AbstractSurrogate):
    """A causal transformer of the states of a path: a law of the next state.

    Its blocks are Pre-LN with a learned bias for each age of a key instead of positions, so that a
    ring of the last `context` keys and values is all its memory: a step costs the same after ten
    thousand steps, and a path may be of any length.

    **Arguments**

    - `head`: how states enter and leave, a `CellHead` or a `GaussianHead`; the width is its own.
    - `blocks`, `heads`: numbers of blocks, and of heads in each; `heads` divides the width.
    - `context`: how many states attention sees, the present one included. Windows to learn from
      are best one longer.
    - `key`: the JAX key from which the weights are drawn.

    `objective` is the mean negative log-density of the next state, in nats: the same unit for every
    head and every grid.

    **Raises** ValueError for sizes that do not fit, and windows shorter than two states.

    **Example**

    >>> head = rqf.surrogates.GaussianHead([0.0], [1.0], width=16, key=jax.random.key(0))
    >>> model = rqf.surrogates.Transformer(head, blocks=1, context=8, key=jax.random.key(1))
    >>> runs = rqf.surrogates.sample(model, [[0.0]], 5, members=3, key=jax.random.key(2))
    >>> runs.ys.shape
    (3, 6, 1)

    Source: learned on paths and judged by the law of its states and its largest Lyapunov exponent,
    as Shalova & Oseledets 2020 propose (abstracts read, the rest is our reconstruction).
    """

    head: AbstractHead
    blocks: tuple[Block, ...]
    context: int = eqx.field(static=True)

    def __init__(
        self, head: AbstractHead, *, blocks: int = 2, heads: int = 4, context: int = 32, key: Key
    ):
        part(AbstractHead)("head", head)
        blocks, heads = integer("blocks", blocks), integer("heads", heads)
        self.head, self.context = head, integer("context", context)
        if head.width % heads:
            raise ValueError(
                f"`heads` must divide the width {head.width} of the head; got {heads}."
            )
        fitting(("heads", "context"), (heads, self.context))
        fitting(("head", "blocks"), (blocks, 12 * head.width, head.width))
        keys = jax.random.split(prng_key("key", key), blocks)
        self.blocks = tuple(Block(head.width, heads, self.context, blocks, one) for one in keys)

    @property
    def size(self) -> int:
        """The number of coordinates of a state."""
        return self.head.size

    def log_densities(self, window: Any) -> Float[Array, " steps"]:
        """The log-density of each state of a window after the first, given those before it.

        `window` has shape (times, size), at least two times. Raises ValueError for other shapes.
        """
        window = self._checked(window, 2)
        hidden = self._read(window[:-1])[0]
        return jax.vmap(self.head.log_density)(hidden, window[:-1], window[1:])

    def objective(self, window: Float[Array, "times size"]) -> Float[Array, ""]:
        """The mean negative log-density of a step, in nats."""
        return -jnp.mean(self.log_densities(window))

    def begin(self, past: Float[Array, "times size"]) -> Memory:
        """The memory after reading these states."""
        past = self._checked(past, 1)
        hidden, keys, values = self._read(past)
        times, context = past.shape[0], self.context
        places = jnp.arange(max(0, times - context), times)

        def ring(rows: Float[Array, "times heads dim"]) -> Float[Array, "context heads dim"]:
            empty = jnp.zeros((context, *rows.shape[1:]), rows.dtype)
            return empty.at[places % context].set(rows[places])

        return Memory(
            jnp.stack([ring(rows) for rows in keys]),
            jnp.stack([ring(rows) for rows in values]),
            jnp.asarray(times, jnp.int32),
            past[-1],
            hidden[-1],
        )

    def step(self, key: Key, memory: Memory) -> tuple[Memory, Float[Array, " size"]]:
        """A drawn state, and the memory with it."""
        x = self.head.draw(key, memory.hidden, memory.x)
        place = memory.seen % self.context
        # Ages of the places in the ring; those not yet filled are older than all that was seen.
        ages = (place - jnp.arange(self.context, dtype=jnp.int32)) % self.context
        ages = jnp.where(ages <= memory.seen, ages, -1)
        hidden, keys, values = self.head.vector(x), memory.keys, memory.values
        for i, block in enumerate(self.blocks):
            query, new_key, value = block.parts(hidden)
            keys = keys.at[i, place].set(new_key)
            values = values.at[i, place].set(value)
            hidden = block.finished(hidden, block.attended(query, keys[i], values[i], ages))
        return Memory(keys, values, memory.seen + 1, x, hidden), x

    def refined(self, factor: int = 2) -> "Transformer":
        """The transformer on a finer grid, with the same laws; see `CellHead.refined`.

        Raises ValueError for a head without cells.
        """
        return eqx.tree_at(lambda model: model.head, self, self.head.refined(factor))

    def _read(self, states):
        """Hidden vectors of all states, and the keys and values of each block."""
        hidden = jax.vmap(self.head.vector)(states)
        times = jnp.arange(states.shape[0], dtype=jnp.int32)
        ages = times[:, None] - times[None, :]
        keys, values = [], []
        for block in self.blocks:
            query, key, value = jax.vmap(block.parts)(hidden)
            attend = jax.vmap(block.attended, in_axes=(0, None, None, 0))
            hidden = jax.vmap(block.finished)(hidden, attend(query, key, value, ages))
            keys.append(key)
            values.append(value)
        return hidden, keys, values

    def _checked(self, states, least):
        states = finite("window", states)
        if states.ndim != 2 or states.shape[0] < least or states.shape[1] != self.size:
            raise ValueError(
                f"`window` must have shape (times, {self.size}) with at least {least} times; got "
                f"shape {states.shape}."
            )
        return states
