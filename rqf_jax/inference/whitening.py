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
    q_a  squared antisymmetric without anti(M_a)     (N-1)(N-2)/2 of variance r dt (more if h_i = 1)
    z_i  mixed, i = 1, …, N-1                        variance [p w_i + r (1-w_i)] dt

with w_i = (1 - 1/h_i)/2 and h_i ≥ 1 the eigenvalues of G∘G⁻¹ other than the trivial 1. Cost
N³ + N² n instead of (N n)³. (Derived for this library; a test compares with the dense law.)
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from .._linalg.jacobi import eigh
from .._linalg.unrolled import LIMIT, Unrolled


class Whitened(eqx.Module):
    """One step in whitened coordinates; see the head of the module `inference.whitening`.

    `q_s`, `q_a`, `q_o` are sums of squares of `n_s`, `n_a`, `n_o` numbers; `z` (tokens,) are the
    mixed numbers with the weights `w`, and `mixed` says which of them are there. `tokens` is
    the number of tokens that were used.
    """

    q_s: Float[Array, ""]
    q_a: Float[Array, ""]
    q_o: Float[Array, ""]
    n_s: Float[Array, ""]
    n_a: Float[Array, ""]
    n_o: Float[Array, ""]
    z: Float[Array, " tokens"]
    w: Float[Array, " tokens"]
    mixed: Bool[Array, " tokens"]
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
    # All products at once, unless that would take more memory than the tokens.
    gram = _product(x, x.T) if tokens <= dim else None

    def pick(slot, state):
        factor, residual, indices, active, alive = state
        pivot = jnp.argmax(residual)
        height = residual[pivot]
        alive = alive & (height >= threshold)
        products = _times(x, x[pivot]) if gram is None else gram[pivot]
        row = products - _times(factor.T, factor[:, pivot])
        row = row / jnp.sqrt(jnp.where(alive, height, 1.0))
        residual = jnp.where(lines == pivot, -1.0, residual - row * row)
        here = jnp.arange(kept) == slot
        factor = factor.at[slot].set(jnp.where(alive, row, 0.0))
        indices = jnp.where(here, pivot, indices)
        return factor, residual, indices, jnp.where(here, alive, active), alive

    state = (
        jnp.zeros((kept, tokens), x.dtype),
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
    the last) are left out. Everything is finite for orthogonal tokens too, where h = 1 and numbers
    that would be mixed say nothing about p and belong to q_a; so are gradients up to 8 tokens.
    """
    tokens, dim = x.shape
    active = jnp.ones(tokens, bool) if active is None else active
    count = jnp.sum(active.astype(x.dtype))
    gram = _product(x, x.T)
    # Without the barriers XLA computes all this again for every number that needs it.
    nearly, back, lower, inverse = lax.optimization_barrier(_factors(x, gram, active))
    noise = _product(inverse, v)  # L⁻¹V
    across = _product(noise, nearly.T)
    inside = _product(across, back.T)  # L⁻¹VEᵀ, the transpose of the noise in the span
    noise, inside = lax.optimization_barrier((noise, inside))
    q_s, q_a, z, w, mixed = _inside(inside, gram, lower, inverse, active)
    return Whitened(
        q_s,
        q_a,
        q_o=_squares(noise - _product(_product(inside, back), nearly)),
        n_s=count * (count - 1) / 2,
        # Where h = 1 no antisymmetric direction is mixed, and one more is free.
        n_a=jnp.maximum(count * (count - 1) / 2 - jnp.sum(mixed.astype(x.dtype)), 0.0),
        n_o=count * (dim - count),
        z=z,
        w=w,
        mixed=mixed,
        tokens=count,
    )


def _inside(inside, gram, lower, inverse, active):
    """q_s, q_a, z, w and which z are there, from the noise in the span, G, L and L⁻¹."""
    dtype = inside.dtype
    on = active.astype(dtype)
    count = jnp.maximum(jnp.sum(on), 1.0)
    symmetric, skew = (inside + inside.T) / 2, (inside.T - inside) / 2
    q_s = _squares(symmetric) - jnp.sum(jnp.diagonal(symmetric)) ** 2 / count
    q_a = _squares(skew)
    inverse_gram = _product(inverse.T, inverse)
    both = on[:, None] * on[None, :]
    # The vector of ones has the eigenvalue 1, here -1, with which it is not taken for a mixed one.
    h, vectors = eigh(both * (gram * inverse_gram - 2 / count))
    there = h > 0.5
    # <M_a, B> is the sum of row a of VXᵀ∘G⁻¹, and <M_a, Bᵀ> that of the column.
    weighted = _product(_product(lower, inside), lower.T) * inverse_gram
    rows, columns = jnp.sum(weighted, 1), jnp.sum(weighted, 0)
    from_s = jnp.where(there, _times(vectors.T, (rows + columns) / 2), 0.0)
    from_a = jnp.where(there, _times(vectors.T, (columns - rows) / 2), 0.0)
    mixed = h - 1 > 1000 * float(jnp.finfo(dtype).eps)
    h = jnp.where(mixed, h, 2.0)
    # With h = 1 there is no antisymmetric direction of its own, and <M_a, Bᵀ - B> is zero.
    from_s = from_s / jnp.sqrt((jnp.where(mixed, h, 1.0) + 1) / 2)
    from_a = jnp.where(mixed, from_a / jnp.sqrt((h - 1) / 2), 0.0)
    z = (jnp.sqrt((h + 1) / 2) * from_a - jnp.sqrt((h - 1) / 2) * from_s) / jnp.sqrt(h)
    z, w = jnp.where(mixed, z, 0.0), jnp.where(mixed, (1 - 1 / h) / 2, 0.0)
    # Rounding may leave a sum of squares with nothing in it slightly negative.
    q_s = jnp.maximum(q_s - _squares(from_s), 0.0)
    q_a = jnp.maximum(q_a - _squares(from_a), 0.0)
    return q_s, q_a, z, w, mixed


def _factors(x, gram, active):
    """F, C⁻¹, L and L⁻¹ of X = L E, E = C⁻¹F; tokens that do not count have zero rows.

    By Cholesky's factorisation of the Gram matrix, and once more of that of F = L⁻¹X, which is
    nearly the identity: with nearly dependent tokens one factorisation errs by ε/distance², two
    by ε/distance, and almost all work is in matrix products (CholeskyQR2, Yamamoto et al. 2015,
    recalled).
    """
    lower, inverse = _cholesky(gram, active)
    nearly = _product(inverse, x)
    again, back = _cholesky(_product(nearly, nearly.T), active)
    return nearly, back, _product(lower, again), _product(back, inverse)


def _cholesky(gram, active):
    """L and L⁻¹ of a Gram matrix G = L Lᵀ, row by row.

    Rounding may leave nothing of a small pivot, or less: it is held at 16 ε, which a second
    factorisation makes good (see `_factors`).
    """
    tokens = gram.shape[0]
    identity = jnp.eye(tokens, dtype=gram.dtype)
    least = 16 * float(jnp.finfo(gram.dtype).eps)

    def next_row(i, done):
        lower, inverse = done
        known = _times(inverse, gram[i])
        square = jnp.where(active[i], gram[i, i] - _dot(known, known), 1.0)
        length = jnp.sqrt(jnp.maximum(square, least))
        row = jnp.where(active[i], known + length * identity[i], 0.0)
        unit = jnp.where(active[i], (identity[i] - _times(inverse.T, known)) / length, 0.0)
        return lower.at[i].set(row), inverse.at[i].set(unit)

    done = jnp.zeros_like(gram), jnp.zeros_like(gram)
    if tokens > LIMIT:
        return lax.fori_loop(0, tokens, next_row, done)
    for i in range(tokens):
        done = next_row(i, done)
    return done


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


def _squares(a) -> Any:
    return _dot(a, a) if a.ndim == 1 else sum(_dot(row, row) for row in a)
