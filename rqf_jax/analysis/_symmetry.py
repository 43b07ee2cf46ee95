"""Rotations that a drift of tokens commutes with: they explain its neutral modes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..drifts import AbstractDrift
from ..manifolds import AbstractManifold

_SPREADS = (0.03, 0.3, 3.0)
"""Sample states are clouds this wide: in far ones coupled tokens may not feel each other."""


def neutral_by_symmetry(
    drift: AbstractDrift, manifold: AbstractManifold, x: Float[Array, "tokens dim"], neutral: int
) -> int:
    """The number of independent tangent vectors at `x` that are rotations the drift commutes with.

    Rotations of all tokens together, and of each by itself only if the first are fewer than the
    `neutral` modes that there are to explain.
    """
    explained = 0
    for generators in (_together(x.shape), _apart(x.shape)):
        if explained >= neutral or not len(generators):
            break
        symmetric = _commuting(drift, manifold, x, generators)
        moves = np.einsum("tn,gtnm->gtm", np.asarray(x, float), symmetric)
        explained = _rank(moves.reshape(len(symmetric), x.size), x.dtype)
    return explained


def _pairs(dim: int) -> Float[np.ndarray, "pairs dim dim"]:
    rows, columns = np.triu_indices(dim, 1)
    generators, index = np.zeros((len(rows), dim, dim)), np.arange(len(rows))
    generators[index, rows, columns], generators[index, columns, rows] = 1.0, -1.0
    return generators


def _together(shape) -> Float[np.ndarray, "generators tokens dim dim"]:
    return np.repeat(_pairs(shape[1])[:, None], shape[0], axis=1)


def _apart(shape) -> Float[np.ndarray, "generators tokens dim dim"]:
    tokens, dim = shape
    return np.einsum("ts,gnm->tgsnm", np.eye(tokens), _pairs(dim)).reshape(-1, tokens, dim, dim)


def _commuting(drift, manifold, x, generators) -> Float[np.ndarray, "some tokens dim dim"]:
    """A basis of the combinations of `generators` A with Dv(y)[yA] = v(y)A at all sample states."""
    key = jax.random.key(0)
    noise = jax.random.normal(key, (len(_SPREADS), *x.shape), x.dtype)
    centre = jax.random.normal(jax.random.fold_in(key, 1), x.shape[1:], x.dtype)
    spread = jnp.asarray(_SPREADS, x.dtype)[:, None, None]
    states = jax.vmap(manifold.project)(centre[None, None, :] + spread * noise)
    columns = _brackets(drift, manifold, states, jnp.asarray(generators, x.dtype))
    matrix = np.asarray(columns, float).reshape(len(generators), -1)
    left, sizes, _ = np.linalg.svd(matrix)
    found = np.zeros(len(generators))
    found[: len(sizes)] = sizes
    broken = found > _resolution(x.dtype) * max(sizes.max(initial=0), 1e-300)
    return np.tensordot(left[:, ~broken].T, generators, 1)


@eqx.filter_jit
def _brackets(drift, manifold, states, generators):
    def bracket(y, a):
        def velocity(y):
            return manifold.tangent(y, drift(jnp.zeros((), y.dtype), y))

        turned = jnp.einsum("tn,tnm->tm", y, a)
        v, moved = jax.jvp(velocity, (y,), (turned,))
        difference = moved - jnp.einsum("tn,tnm->tm", v, a)
        # In units of the velocities, which are small where tokens are near each other.
        return difference / jnp.max(jnp.abs(v))

    return jax.vmap(lambda a: jax.vmap(lambda y: bracket(y, a))(states))(generators)


def _rank(vectors: Float[np.ndarray, "many size"], dtype) -> int:
    if not len(vectors):
        return 0
    sizes = np.linalg.svd(vectors, compute_uv=False)
    return int(np.sum(sizes > _resolution(dtype) ** 0.5))


def _resolution(dtype) -> float:
    return float(jnp.finfo(dtype).eps) ** (2 / 3)
