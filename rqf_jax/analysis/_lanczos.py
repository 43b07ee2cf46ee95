"""Lanczos's recursion from a random start, reorthogonalised in full."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._arguments import Key


def ritz(
    product: Callable[[Array], Array], like: Float[Array, " n"], key: Key, steps: int
) -> tuple[Float[Array, " steps"], Float[Array, "steps steps"], Float[Array, ""]]:
    """Lanczos from a random start: Ritz values, ascending, their vectors, and the last coupling."""
    n, dtype = like.size, like.dtype

    def direction(number, basis):
        """A random unit vector that is orthogonal to the basis."""
        return _unit(_apart(jax.random.normal(jax.random.fold_in(key, number), (n,), dtype), basis))

    def step(k, carry):
        basis, diagonal, beside, v = carry
        basis = basis.at[k].set(v)
        w = product(v)
        size = jnp.linalg.norm(w)
        diagonal = diagonal.at[k].set(jnp.vdot(v, w, precision="highest"))
        w = _apart(w, basis)
        coupling = jnp.linalg.norm(w)
        # An invariant subspace is found: go on in another.
        whole = coupling <= 100 * jnp.finfo(dtype).eps * size
        beside = beside.at[k].set(jnp.where(whole, 0.0, coupling).astype(dtype))
        v = jnp.where(whole, direction(k + 1, basis), w / jnp.where(whole, 1, coupling))
        return basis, diagonal, beside, v

    empty = jnp.zeros((steps, n), dtype)
    start = (empty, jnp.zeros(steps, dtype), jnp.zeros(steps, dtype), direction(0, empty))
    _, diagonal, beside, _ = lax.fori_loop(0, steps, step, start)
    t = jnp.diag(diagonal) + jnp.diag(beside[:-1], 1) + jnp.diag(beside[:-1], -1)
    values, vectors = jnp.linalg.eigh(t)
    return values, vectors, beside[-1]


def _apart(w: Float[Array, " n"], basis: Float[Array, "k n"]) -> Float[Array, " n"]:
    """w without its part in the basis; twice is enough."""
    for _ in range(2):
        w = w - jnp.matmul(basis.T, jnp.matmul(basis, w, precision="highest"), precision="highest")
    return w


def _unit(w: Float[Array, " n"]) -> Float[Array, " n"]:
    size = jnp.linalg.norm(w)
    return w / jnp.where(size > 0, size, 1)
