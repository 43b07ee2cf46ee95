"""The members of an ensemble: their keys, the first one's state, and what became of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer, PyTree

from .._arguments import Key, integer, is_concrete
from ..laws import AbstractLaw
from ..manifolds import AbstractManifold, Euclidean, Hermitian, Symmetric, WeylChamber
from .trajectories import NonFiniteError

TOLERANCE = 1e-5
"""How far off the manifold an initial state may be (rounding of float32 data): | |x_a| - 1 |."""


def whole_state(x: PyTree) -> PyTree:
    """The state itself: what `simulate` saves if not told otherwise."""
    return x


def member_keys(key: Key, member: int | Integer[Array, ""]) -> tuple[Key, Key]:
    """The keys of one member: for its initial law, and for its noise.

    Functions of the run's key and the member's global index alone, whatever the size of the
    ensemble, its batches and its devices.
    """
    law_key, noise_key = jax.random.split(jax.random.fold_in(key, member))
    return law_key, noise_key


def member_range(members: Any, first_member: Any) -> tuple[int, int]:
    """How many members and the first one's number, both checked: ids fit 32 bits."""
    members = integer("members", members)
    first_member = integer("first_member", first_member, minimum=0)
    if first_member + members > 2**32:
        raise ValueError(f"`first_member` must be at most 2³² - `members`; got {first_member}.")
    return members, first_member


def typed_key(key: Any) -> Key:
    """`key` as a new-style key whose generator may be vmapped."""
    if not isinstance(key, jax.Array):
        raise ValueError(f"`key` must be a JAX key, such as `jax.random.key(0)`; got {key!r}.")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        if key.dtype != jnp.uint32 or key.shape != (2,):
            raise ValueError(
                "`key` must be a JAX key, such as `jax.random.key(0)`; got an array of dtype "
                f"{key.dtype} and shape {key.shape}"
                f"{', an `rbg` key, which cannot be vmapped' if key.shape == (4,) else ''}."
            )
        key = jax.random.wrap_key_data(key, impl="threefry2x32")
    if key.shape != ():
        raise ValueError(f"`key` must be one key; got keys of shape {key.shape}.")
    kind = str(jax.random.key_impl(key))
    if "rbg" in kind:
        raise ValueError(
            "`key` must not be of the `rbg` kind, which under vmap draws every member from the "
            f"first key; got {kind}. Use `jax.random.key(seed, impl='threefry2x32')`."
        )
    return key


def first_state(
    manifold: AbstractManifold, law: AbstractLaw, key: Key, member: int, given: PyTree
) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a state, after a look at the first member's if `given` can be looked at.

    Raises ValueError unless it is one array of floats, with axes, finite and on the manifold.
    """
    state = eqx.filter_eval_shape(law, key)
    if not isinstance(state, jax.ShapeDtypeStruct) or not jnp.issubdtype(state.dtype, jnp.floating):
        raise ValueError(f"`law` must draw one array of floats; got {state}.")
    rule, fits = _shape_rule(manifold, state.shape)
    if not fits:
        raise ValueError(f"`law` must draw {rule}; got shape {state.shape}.")
    if not is_concrete(given):
        return state
    # Inside `jit` operations on known arrays are traced too, unless told otherwise.
    with jax.ensure_compile_time_eval():
        x0 = law(member_keys(key, member)[0])
        finite, defect = bool(jnp.all(jnp.isfinite(x0))), float(manifold.defect(x0))
    if not finite:
        raise ValueError(f"`law` must draw finite states; got {x0}.")
    if defect <= TOLERANCE:
        return state
    if isinstance(manifold, WeylChamber):
        i = int(np.argmax(~(np.diff(np.asarray(x0)) > 0)))
        raise ValueError(
            "`law` must draw eigenvalues in strictly ascending order; got "
            f"{x0[i]:g} then {x0[i + 1]:g} at index {i}."
        )
    name = type(manifold).__name__
    kind = "symmetric matrices" if isinstance(manifold, Symmetric) else f"states on the {name}"
    raise ValueError(
        f"`law` must draw {kind}, to {TOLERANCE:g}; got one that is off by "
        f"{defect:.3g}. Project it first: `rqf_jax.manifolds.{name}().project(x0)`."
    )


def _shape_rule(manifold: AbstractManifold, shape: tuple[int, ...]) -> tuple[str, bool]:
    """What a state of `manifold` is, and whether one of this shape can be it."""
    match manifold:
        case Euclidean():
            return "an array with axes", bool(shape)
        case Symmetric() | Hermitian():
            return "a square matrix", len(shape) == 2 and shape[0] == shape[1]
        case WeylChamber():
            return "eigenvalues, an array of shape (n,)", len(shape) == 1
        case _:
            return "tokens, an array of shape (tokens, dim)", len(shape) == 2


def raise_failed(
    ys: PyTree[Array], status: Int[Array, " members"], first_member: int
) -> PyTree[Array]:
    """`ys`, unless members failed; then NonFiniteError, or an error at run time inside `jit`."""
    if not is_concrete(status):
        return eqx.error_if(
            ys, jnp.any(status > 0), "some members became NaN or infinite; see `throw` of simulate."
        )
    failed = np.flatnonzero(np.asarray(status))
    if failed.size:
        ids = ", ".join(str(first_member + int(i)) for i in failed[:5])
        more = ", …" if failed.size > 5 else ""
        save = int(status[failed[0]])
        raise NonFiniteError(
            f"{failed.size} of {status.size} members became NaN or infinite: {ids}{more} (the "
            f"first between saves {save - 1} and {save}). Take smaller steps, or pass "
            "`throw=False` to get them marked."
        )
    return ys
