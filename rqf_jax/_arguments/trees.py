"""Rules for pytrees: examples with one first axis, and weights with floats among their leaves."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .rules import is_concrete, part
from .shown import shown


def examples(name: str, value: Any) -> Any:
    """A rule: a pytree of arrays of finite real numbers."""
    for leaf in jax.tree.leaves(value):
        part((jax.Array, np.ndarray, np.generic), "a pytree of arrays")(name, leaf)
        if isinstance(leaf, np.ma.MaskedArray):
            raise ValueError(f"`{name}` must not be a masked array, whose mask would be lost.")
        keys = jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        if keys or (leaf.dtype.kind not in "biuf" and leaf.dtype != jnp.bfloat16):
            raise ValueError(f"`{name}` must be real numbers; got dtype {leaf.dtype}.")
        if is_concrete(leaf) and leaf.dtype.kind == "f" and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(f"`{name}` must be finite; got an array with NaN or infinite entries.")
    return value


def count_of(name: str, value: Any) -> int | None:
    """The number of `examples`; None if there are no arrays at all."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(value)]
    lengths = {shape[0] if shape else None for shape in shapes}
    if not shapes:
        return None
    if None in lengths or len(lengths) > 1 or lengths == {0}:
        raise ValueError(
            f"`{name}` must be arrays with one first axis, the examples, of at least one; got "
            f"shapes {shapes}."
        )
    return shapes[0][0]


def floats(name: str, value: Any) -> tuple[Any, Any]:
    """The real float arrays among the leaves of a pytree, of which there must be some, and the
    rest."""
    found, rest = eqx.partition(value, eqx.is_inexact_array)
    leaves = jax.tree.leaves(found)
    masked = any(isinstance(leaf, np.ma.MaskedArray) for leaf in leaves)
    if masked or not any(leaf.size for leaf in leaves):
        raise ValueError(f"`{name}` must hold arrays of floats; got {shown(value)}.")
    if not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise ValueError(f"`{name}` must be real; got complex arrays.")
    return found, rest


def like(name: str, value: Any, other: str, point: Any) -> Any:
    """A pytree with floats of the structure and shapes of `point`, those of the argument `other`,
    in its precision."""
    found = floats(name, value)[0]
    shapes = [[leaf.shape for leaf in jax.tree.leaves(tree)] for tree in (found, point)]
    if jax.tree.structure(found) != jax.tree.structure(point) or shapes[0] != shapes[1]:
        raise ValueError(
            f"`{name}` must be like the floats of `{other}`, of shapes {shapes[1]}; got "
            f"{shown(value)}."
        )
    return jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), found, point)
