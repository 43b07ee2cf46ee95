"""The members of an ensemble: their keys, their numbers, and what became of them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Integer, PyTree

from .._arguments import Key, integer, is_concrete, prng_key
from .trajectories import NonFiniteError


def whole_state(x: PyTree) -> PyTree:
    """The state itself: what `simulate` saves if not told otherwise."""
    return x


def member_keys(key: Key, member: int | Integer[Array, ""]) -> tuple[Key, Key]:
    """The keys of one member: for its initial law, and for its noise.

    Functions of the run's key and the member's global index alone, whatever the size of the
    ensemble, its batches and its devices. Raises ValueError for a `key` that is none, and a
    `member` that is no integer from 0 to 2³² - 1.
    """
    key = prng_key("key", key)
    if is_concrete(member):
        plain = isinstance(member, jax.Array) and jnp.issubdtype(member.dtype, jnp.integer)
        known = np.asarray(member)[()] if plain else member
        member = integer("member", known, minimum=0, maximum=2**32 - 1)
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


def raise_failed(
    ys: PyTree[Array], status: Int[Array, " members"], first_member: int, throw: bool | None = True
) -> PyTree[Array]:
    """`ys`, unless members failed: then NonFiniteError, if `throw` is not False.

    Inside `jit` nothing is raised but at run time and where `throw` is True: that needs a callback
    to Python, and JAX's cache on disk keeps no program that has one.
    """
    if not is_concrete(status):
        if not throw:
            return ys
        return eqx.error_if(
            ys, jnp.any(status > 0), "some members became NaN or infinite; see `throw` of simulate."
        )
    failed = np.flatnonzero(np.asarray(status)) if throw is not False else np.zeros(0)
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
