"""The law of one step in coordinates in which it is independent normal numbers.

Under dA = σ_s dQ + σ_a dR with p = σ_s² and r = σ_a², the tangent increments V of N ≤ n tokens X
over a short step dt are normal with

    Cov(V_a, V_b) = (dt/2) [(p + r) G_ab P_a P_b + (p - r) (P_a x_b)(P_b x_a)ᵀ],   G = X Xᵀ.

This covariance is singular (noise shared by all tokens has few degrees of freedom), and for every
(p, r) it is diagonal in one basis, written down here in closed form. With the frame E of the
tokens, X = L E (rows, L lower triangular), the increments are those of the noise L⁻¹V, up to the
scale of every token: M_a = Lᵀ e_a e_aᵀ L⁻ᵀ acts on token a alone. From <M_a, M_b> = (G∘G⁻¹)_ab
and <M_a, M_bᵀ> = δ_ab follows:

    q_o  squared noise out of the span               N(n-N) numbers of variance (p+r)/2 dt
    q_s  squared symmetric noise without sym(M_a)    N(N-1)/2 of variance p dt
    q_a  squared antisymmetric without anti(M_a)     (N-1)(N-2)/2 of variance r dt
    z_i  mixed, i = 1, …, N-1                        variance [p w_i + r (1-w_i)] dt

with w_i = (1 - 1/h_i)/2 and h_i ≥ 1 the eigenvalues of G∘G⁻¹ other than the trivial 1. Cost
N³ + N² n instead of (N n)³. (Derived for this library; a test compares with the dense law.)
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._unrolled import LIMIT, Unrolled
from ._eigen import eigh


class Whitened(eqx.Module):
    """One step in whitened coordinates; see the head of the module `inference.whitening`.

    `q_s`, `q_a`, `q_o` are sums of squares of `n_s`, `n_a`, `n_o` numbers; `z` (tokens - 1,) are
    the mixed numbers with the weights `w`, and `mixed` says which of them are there. `tokens` is
    the number of tokens that were used.
    """

    q_s: Float[Array, ""]
    q_a: Float[Array, ""]
    q_o: Float[Array, ""]
    n_s: Float[Array, ""]
    n_a: Float[Array, ""]
    n_o: Float[Array, ""]
    z: Float[Array, " rest"]
    w: Float[Array, " rest"]
    mixed: Bool[Array, " rest"]
    tokens: Float[Array, ""]

    @property
    def dof(self) -> Float[Array, "*steps"]:
        """The rank of the covariance under symmetric noise: what the step says about σ_s."""
        return self.n_s + self.n_o + jnp.sum(self.mixed, -1).astype(self.n_s.dtype)


def choose(
    x: Float[Array, "tokens dim"],
    threshold: Float[Array, ""],
    available: Bool[Array, " tokens"],
) -> tuple[Int[Array, " kept"], Bool[Array, " kept"]]:
    """Tokens that are well apart: indices (min(tokens, dim),), and which of them count.

    The greedy pivoted Cholesky factorisation of the Gram matrix: the next token is the one with the
    largest squared distance from the span of those before, while that is at least `threshold`. A
    subset of the tokens obeys the same equation, so nothing is approximated; tokens nearly in the
    span of others carry little information, and the whitening would blow up their second-order
    errors. Those that count come first.
    """
    tokens, dim = x.shape
    kept = min(tokens, dim)
    lines = jnp.arange(tokens)
    residual = jnp.where(available, jnp.sum(x * x, -1), -1.0)

    def pick(slot, state):
        factor, residual, indices, active, alive = state
        pivot = jnp.argmax(residual)
        height = residual[pivot]
        alive = alive & (height >= threshold)
        column = _times(x, x[pivot]) - _times(factor, factor[pivot])
        column = column / jnp.sqrt(jnp.where(alive, height, 1.0))
        residual = jnp.where(lines == pivot, -1.0, residual - column * column)
        here = jnp.arange(kept) == slot
        factor = jnp.where(here[None, :], jnp.where(alive, column, 0.0)[:, None], factor)
        indices = jnp.where(here, pivot, indices)
        return factor, residual, indices, jnp.where(here, alive, active), alive

    state = (
        jnp.zeros((tokens, kept), x.dtype),
        residual,
        jnp.zeros(kept, lines.dtype),
        jnp.zeros(kept, bool),
        jnp.ones((), bool),
    )
    if kept > LIMIT:
        state = lax.fori_loop(0, kept, pick, state)
    else:
        for slot in range(kept):
            state = pick(slot, state)
    return state[2], state[3]


def whiten(
    x: Float[Array, "tokens dim"],
    v: Float[Array, "tokens dim"],
    active: Bool[Array, " tokens"] | None = None,
) -> Whitened:
    """The increments `v`, tangent at the tokens `x`, in whitened coordinates.

    At most `dim` tokens, linearly independent; those that `active` marks with False (they must be
    the last) are left out. Everything is finite for orthogonal tokens too, where h = 1 and the
    mixed numbers say nothing about p, and so are gradients up to 9 tokens.
    """
    tokens, dim = x.shape
    active = jnp.ones(tokens, bool) if active is None else active
    on = active.astype(x.dtype)
    count = jnp.sum(on)
    frame, noise, lower, inverse = _frame(x, v * on[:, None], active)
    # Without the barriers XLA computes the frame again for every number that needs it.
    frame, noise, lower, inverse = lax.optimization_barrier((frame, noise, lower, inverse))
    inside = lax.optimization_barrier(
        _product(noise, frame.T)
    )  # the transpose of the in-span noise
    q_o = _squares(noise - _product(inside, frame))
    q_s, q_a, z, w, mixed = _inside(inside, lower, inverse, active)
    return Whitened(
        q_s,
        q_a,
        q_o,
        n_s=count * (count - 1) / 2,
        n_a=jnp.maximum((count - 1) * (count - 2) / 2, 0.0),
        n_o=count * (dim - count),
        z=z,
        w=w,
        mixed=mixed,
        tokens=count,
    )


def _inside(inside, lower, inverse, active):
    """q_s, q_a, z, w and which z are there, from the noise in the span."""
    tokens, dtype = inside.shape[0], inside.dtype
    on = active.astype(dtype)
    count = jnp.maximum(jnp.sum(on), 1.0)
    symmetric, skew = (inside + inside.T) / 2, (inside.T - inside) / 2
    trace = jnp.sum(jnp.diagonal(symmetric))
    q_s = _squares(symmetric) - trace**2 / count
    q_a = _squares(skew)
    if tokens == 1:
        none = jnp.zeros(0, dtype)
        return jnp.zeros((), dtype), jnp.zeros((), dtype), none, none, none.astype(bool)
    # Rows: an orthonormal basis of the vectors of the first j tokens with sum zero. The vector of
    # ones is the trivial eigenvector, so that what is left is the matrix in this basis.
    basis = jnp.asarray(_contrasts(tokens), dtype)
    there = active[1:]
    gram, inverse_gram = _product(lower, lower.T), _product(inverse.T, inverse)
    h = _product(_product(basis, gram * inverse_gram), basis.T)
    h = jnp.where(there[:, None] & there[None, :], h, 0.0)
    h, vectors = eigh(h)
    scores = [  # <M_a, S> of the symmetric and of the antisymmetric noise, in the eigenbasis
        _times(vectors.T, _times(basis, _rows(_product(lower, part), inverse.T)))
        for part in (symmetric, skew)
    ]
    mixed = h - 1 > 1000 * float(jnp.finfo(dtype).eps)
    there = h > 0.5
    h = jnp.where(mixed, h, 2.0)
    # With h = 1 there is no antisymmetric direction of its own, and <M_a, T> is zero.
    from_s = jnp.where(there, scores[0] / jnp.sqrt((jnp.where(mixed, h, 1.0) + 1) / 2), 0.0)
    from_a = jnp.where(mixed, scores[1] / jnp.sqrt((h - 1) / 2), 0.0)
    z = (jnp.sqrt((h + 1) / 2) * from_a - jnp.sqrt((h - 1) / 2) * from_s) / jnp.sqrt(h)
    z, w = jnp.where(mixed, z, 0.0), jnp.where(mixed, (1 - 1 / h) / 2, 0.0)
    # Rounding may leave a sum of squares with nothing in it slightly negative.
    q_s = jnp.maximum(q_s - _squares(from_s), 0.0)
    q_a = jnp.maximum(q_a - _squares(from_a), 0.0)
    return q_s, q_a, z, w, mixed


def _frame(x, v, active):
    """Frame E, L⁻¹V, L and L⁻¹ of X = L E; tokens that do not count have zero rows."""
    tokens = x.shape[0]
    identity = jnp.eye(tokens, dtype=x.dtype)
    if tokens > LIMIT:

        def next_row(i, done):
            frame, inverse, lower = done
            here, token, usable = identity[i], x[i], active[i]
            coefficients = jnp.zeros(tokens, x.dtype)
            for _ in range(2):  # Gram and Schmidt, twice is enough
                found = _times(frame, token)
                token = token - _times(frame.T, found)
                coefficients = coefficients + found
            length, scale = _length(token, usable)
            unit = here - _times(inverse.T, coefficients)
            row = jnp.where(usable, coefficients + length * here, 0.0)
            frame, inverse = frame.at[i].set(token * scale), inverse.at[i].set(unit * scale)
            return frame, inverse, lower.at[i].set(row)

        empty = (jnp.zeros_like(x), jnp.zeros_like(identity), jnp.zeros_like(identity))
        frame, inverse, lower = lax.fori_loop(0, tokens, next_row, empty)
        return frame, _product(inverse, v), lower, inverse
    rows, lower = [], []
    for a in range(tokens):
        token, coefficients = x[a], [jnp.zeros((), x.dtype)] * tokens
        for _ in range(2):
            found = [_dot(row[0], token) for row in rows]
            for b, c in enumerate(found):
                token = token - c * rows[b][0]
                coefficients[b] = coefficients[b] + c
        length, scale = _length(token, active[a])
        moved, unit = v[a], identity[a]
        for b in range(a):
            moved = moved - coefficients[b] * rows[b][1]
            unit = unit - coefficients[b] * rows[b][2]
        rows.append((token * scale, moved * scale, unit * scale))
        coefficients[a] = length
        lower.append(jnp.where(active[a], jnp.stack(coefficients), 0.0))
    frame, noise, inverse = (jnp.stack(part) for part in zip(*rows, strict=True))
    return frame, noise, jnp.stack(lower), inverse


def _length(token, usable):
    """|token| and its inverse; 1 and 0 for tokens that are not there."""
    square = _dot(token, token)
    usable = usable & (square > 0)
    length = jnp.sqrt(jnp.where(usable, square, 1.0))
    return length, jnp.where(usable, 1 / length, 0.0)


def _contrasts(tokens: int) -> np.ndarray:
    """Helmert's basis: row j is (1, …, 1, -j, 0, …)/√(j(j+1)) with j ones, j = 1, …, tokens - 1."""
    rows = np.tril(np.ones((tokens - 1, tokens)))
    j = np.arange(1, tokens)
    rows[j - 1, j] = -j
    return rows / np.sqrt(j * (j + 1))[:, None]


# In tiny dimensions steps are the lanes of the arrays: written out entry by entry, a sum of
# products is vector arithmetic, where a batch of dot products or of short sums would be a loop.


def _product(a, b):
    if max(*a.shape, *b.shape) > LIMIT:
        return jnp.matmul(a, b, precision="highest")
    return (Unrolled.of(a) @ Unrolled.of(b)).array()


def _times(a, b):
    if a.shape[1] > LIMIT:
        return jnp.matmul(a, b, precision="highest")
    return sum(a[:, i] * b[i] for i in range(a.shape[1]))


def _dot(a, b) -> Any:
    if a.size > LIMIT:
        return jnp.sum(a * b)
    return sum(a[i] * b[i] for i in range(a.size))


def _rows(a, b):
    """Row by row, the dot products."""
    if a.shape[1] > LIMIT:
        return jnp.sum(a * b, -1)
    return sum(a[:, i] * b[:, i] for i in range(a.shape[1]))


def _squares(a) -> Any:
    return _dot(a, a) if a.ndim == 1 else sum(_dot(row, row) for row in a)
