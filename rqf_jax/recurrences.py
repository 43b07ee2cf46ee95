"""Attention, state spaces and gates as one linear recurrence over tokens, of input-dependent terms.

    h_i = Λ_i h_{i-1} + B_i u_i,   y_i = C_i h_i

with a diagonal Λ_i. The functions make a `Recurrence` from queries, keys and values, from steps of
a state space, or from gates; what tells them apart is where the eigenvalues Λ_i lie along the
tokens: near 1 a token remembers, near 0 it forgets.

Source: the dynamical-systems framework of Sieber et al., arXiv:2405.15731 (recalled).
"""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ._arguments import described, finite, fitting, flag, floating, integer

__all__ = [
    "Recurrence",
    "exponential_features",
    "gated",
    "linear_attention",
    "softmax_attention",
    "state_space",
]


def __dir__() -> list[str]:
    return __all__


class Recurrence(eqx.Module):
    """h_i = Λ_i h_{i-1} + B_i u_i, y_i = Σ_s C_i h_i, from h = 0 before the first token.

    A hidden state is (states, channels). `keep` Λ, `write` B and `read` C have the axes (tokens,
    states, channels), where an axis of states or channels may be of size 1 for all; `inputs` u are
    (tokens, channels).

    **Arguments** `keep`, `write`, `read`, `inputs`: as above. **Raises** ValueError for arrays that
    do not fit each other. **Example**

    >>> one = jnp.ones((3, 1, 1))
    >>> sums = rqf.recurrences.Recurrence(one, one, one, jnp.array([[1.0], [2.0], [3.0]]))
    >>> [float(y) for y in sums.outputs()[:, 0]]
    [1.0, 3.0, 6.0]
    """

    keep: Float[Array, "tokens #states #channels"]
    write: Float[Array, "tokens #states #channels"]
    read: Float[Array, "tokens #states #channels"]
    inputs: Float[Array, "tokens channels"]

    __repr__ = described

    def __init__(self, keep: Any, write: Any, read: Any, inputs: Any):
        self.keep, self.write = floating("keep", keep), floating("write", write)
        self.read, self.inputs = floating("read", read), floating("inputs", inputs)
        if self.inputs.ndim != 2 or not self.inputs.size:
            raise ValueError(f"`inputs` must be (tokens, channels); got shape {self.inputs.shape}.")
        tokens, channels = self.inputs.shape
        states = max((a.shape[1] for a in self._terms if a.ndim == 3), default=1)
        for name, array in zip(("keep", "write", "read"), self._terms, strict=True):
            fits = array.ndim == 3 and array.shape[0] == tokens
            if not (fits and array.shape[1] in (1, states) and array.shape[2] in (1, channels)):
                raise ValueError(
                    f"`{name}` must be (tokens, states, channels), here ({tokens}, {states} or 1, "
                    f"{channels} or 1); got shape {array.shape}."
                )
        fitting("inputs", (tokens, states, channels))

    @property
    def _terms(self) -> tuple[Array, Array, Array]:
        return self.keep, self.write, self.read

    @property
    def _whole(self) -> tuple[Array, Array]:
        """Λ_i, and B_i u_i, with all their axes."""
        entering = self.write * self.inputs[:, None, :]
        shape = jnp.broadcast_shapes(self.keep.shape, entering.shape, self.read.shape)
        return jnp.broadcast_to(self.keep, shape), jnp.broadcast_to(entering, shape)

    def eigenvalues(self) -> Float[Array, "tokens states channels"]:
        """Λ_i along the tokens: near 1 for memory, near 0 for forgetting."""
        return self._whole[0]

    def outputs(self) -> Float[Array, "tokens channels"]:
        """y for all tokens at once, by an associative scan of logarithmic depth."""
        return jnp.sum(self.read * _scanned(*self._whole), 1)

    def one_by_one(self) -> Float[Array, "tokens channels"]:
        """y, token after token, with one hidden state in memory."""

        def step(h, one):
            keep, entering, read = one
            h = keep * h + entering
            return h, jnp.sum(read * h, 0)

        keep, entering = self._whole
        return lax.scan(step, jnp.zeros_like(keep[0]), (keep, entering, self.read))[1]

    def kernel(self) -> Float[Array, "channels tokens tokens"]:
        """K with y_i = Σ_{j≤i} K_ij u_j in every channel, C_i Λ_i … Λ_{j+1} B_j: as attention."""
        keep = self._whole[0]
        tokens = keep.shape[0]

        def step(products, one):
            keep, read, place = one
            # Λ_i … Λ_{j+1} for all j, of which that of j = i is 1.
            products = jnp.where(
                (place == jnp.arange(tokens))[:, None, None], 1.0, keep[None] * products
            )
            return products, jnp.sum(read[None] * products * self.write, 1)

        start = jnp.zeros((tokens, *keep.shape[1:]), keep.dtype)
        rows = lax.scan(step, start, (keep, self.read, jnp.arange(tokens)))[1]
        return jnp.moveaxis(rows, 2, 0)


def _scanned(
    keep: Float[Array, "tokens *state"], entering: Float[Array, "tokens *state"]
) -> Float[Array, "tokens *state"]:
    """h_i = keep_i h_{i-1} + entering_i for all i at once."""
    return lax.associative_scan(lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1]), (keep, entering))[1]


def linear_attention(queries: Any, keys: Any, values: Any, *, normalise: bool = True) -> Recurrence:
    """Causal attention with weights q_i·k_j of features: y_i = Σ_{j≤i} (q_i·k_j) v_j / n_i.

    With `normalise` n_i = q_i·Σ_{j≤i} k_j and the state is kept divided by it, so that its
    eigenvalues are ratios of sums of keys as query i sees them; without it n = 1, and Λ = 1.

    **Arguments** `queries`, `keys`: (tokens, states), positive weights if they are normalised;
    `values`: (tokens, channels); `normalise`: True or False. **Returns** a `Recurrence`. **Raises**
    ValueError for shapes that do not fit. **Example**

    >>> one = jnp.ones((2, 1))
    >>> mean = rqf.recurrences.linear_attention(one, one, jnp.array([[1.0], [3.0]]))
    >>> [float(y) for y in mean.outputs()[:, 0]], [float(e) for e in mean.eigenvalues()[:, 0, 0]]
    ([1.0, 2.0], [0.0, 0.5])
    """
    q, k, v = floating("queries", queries), floating("keys", keys), floating("values", values)
    if q.ndim != 2 or q.shape != k.shape or v.ndim != 2 or v.shape[0] != q.shape[0]:
        raise ValueError(
            "`queries`, `keys` and `values` must be (tokens, states), the same and (tokens, "
            f"channels); got shapes {q.shape}, {k.shape} and {v.shape}."
        )
    keep, write = jnp.ones((len(q), 1, 1), q.dtype), k[:, :, None]
    if flag("normalise", normalise):
        size = jnp.sum(q * jnp.cumsum(k, 0), 1)[:, None, None]
        before = jnp.concatenate([jnp.zeros_like(size[:1]), size[:-1]])
        keep, write = before / size, write / size
    return Recurrence(keep, write, q[:, :, None], v)


def exponential_features(x: Any, order: int) -> Float[Array, "tokens states"]:
    """φ with φ(x)·φ(y) = Σ_{k≤order} (x·y)^k/k!: the monomials of x with their weights.

    There are Σ_k (dim + k - 1 choose k) of them. The kernel misses e^{x·y} by less than
    |x·y|^{p+1} e^{|x·y|}/(p+1)! of it. Raises ValueError unless x is (tokens, dim) and `order` at
    least 0.
    """
    return _features("x", x, order)


def _features(name: str, value: Any, order: int) -> Float[Array, "tokens states"]:
    """`exponential_features` of the argument `name`."""
    x, order = floating(name, value), integer("order", order, minimum=0)
    if x.ndim != 2:
        raise ValueError(f"`{name}` must be (tokens, dim); got shape {x.shape}.")
    tokens, dim = x.shape
    fitting((name, "order"), (tokens, math.comb(dim + order, order)))
    powers = np.array(
        [
            np.bincount(chosen, minlength=dim)
            for k in range(order + 1)
            for chosen in map(list, itertools.combinations_with_replacement(range(dim), k))
        ],
        dtype=int,
    )
    # (x·y)^k/k! is the sum of x^m y^m/m! over the multi-indices m of size k.
    weights = [1 / math.sqrt(math.prod(map(math.factorial, row))) for row in powers.tolist()]
    table = jnp.stack([x**k for k in range(order + 1)])
    monomials = jnp.asarray(weights, x.dtype)[:, None]
    for i in range(dim):
        monomials = monomials * table[powers[:, i], :, i]
    return monomials.T


def softmax_attention(queries: Any, keys: Any, values: Any, order: int) -> Recurrence:
    """Causal softmax attention, its exponential cut at a power: a state of finite size.

        y_i = Σ_{j≤i} e_p(q_i·k_j) v_j / Σ_{j≤i} e_p(q_i·k_j),   e_p(x) = Σ_{k≤p} x^k/k!

    Softmax itself would need infinitely many states; see `exponential_features` for the error.

    **Arguments** `queries`, `keys`: (tokens, dim), the scale of scores in them; `values`: (tokens,
    channels); `order`: p, even, so that all weights are positive. **Returns** a `Recurrence`.
    **Raises** ValueError for odd orders and shapes that do not fit. **Example**

    >>> x = jnp.array([[1.0], [0.5]])
    >>> rqf.recurrences.softmax_attention(x, x, x, 4).eigenvalues().shape
    (2, 5, 1)
    """
    if integer("order", order, minimum=0) % 2:
        raise ValueError(f"`order` must be even, so that weights are positive; got {order}.")
    features = _features("queries", queries, order), _features("keys", keys, order)
    return linear_attention(*features, values)


def state_space(steps: Any, write: Any, read: Any, inputs: Any, *, decay: Any = 1.0) -> Recurrence:
    """A selective state space: Λ_i = e^{-aΔ_i}, B_i u_i = Δ_i b_i u_i, in every channel.

    **Arguments** `steps`: Δ ≥ 0 (tokens, channels); `write`, `read`: b and c (tokens, states);
    `inputs`: u (tokens, channels); `decay`: a, a number or one for each channel. **Returns** a
    `Recurrence`. **Raises** ValueError for shapes that do not fit. **Example**

    >>> one = jnp.ones((3, 1))
    >>> y = rqf.recurrences.state_space(one, one, one, one, decay=0.0).outputs()
    >>> [float(value) for value in y[:, 0]]
    [1.0, 2.0, 3.0]
    """
    delta, u, a = floating("steps", steps), floating("inputs", inputs), finite("decay", decay)
    b, c = floating("write", write), floating("read", read)
    if u.ndim != 2 or delta.shape != u.shape or a.shape not in ((), u.shape[1:]):
        raise ValueError(
            "`steps` and `inputs` must be (tokens, channels), and `decay` a number or one a "
            f"channel; got shapes {delta.shape}, {u.shape} and {a.shape}."
        )
    if b.ndim != 2 or c.shape != b.shape or len(b) != len(u):
        raise ValueError(
            f"`write` and `read` must be (tokens, states) with the {len(u)} tokens of `inputs`; "
            f"got shapes {b.shape} and {c.shape}."
        )
    keep = jnp.exp(-delta * jnp.reshape(a, (1, -1)))[:, None, :]
    return Recurrence(keep, delta[:, None, :] * b[:, :, None], c[:, :, None], u)


def gated(gates: Any, inputs: Any) -> Recurrence:
    """A gated recurrence h_i = σ(g_i) h_{i-1} + (1 - σ(g_i)) u_i, y = h, channel by channel.

    It is a state space of one state with Δ_i = ln(1 + e^{-g_i}) and a = 1, but for the input's
    weight. Raises ValueError unless `gates` g and `inputs` u are both (tokens, channels).
    """
    g, u = floating("gates", gates), floating("inputs", inputs)
    if u.ndim != 2 or g.shape != u.shape:
        raise ValueError(
            f"`gates` and `inputs` must both be (tokens, channels); got {g.shape} and {u.shape}."
        )
    keep = jax.nn.sigmoid(g)[:, None, :]
    write = jax.nn.sigmoid(-g)[:, None, :]
    return Recurrence(keep, write, jnp.ones((len(u), 1, 1), u.dtype), u)
