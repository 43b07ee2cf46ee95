"""Losses of weights that are any pytree, checked, and their Hessians on flat vectors."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._arguments import calling, count_of, examples, floats, function_of, shown


def checked_data(data: PyTree) -> PyTree:
    """The data, arrays with one first axis; ValueError for anything else."""
    if count_of("data", examples("data", data)) is None:
        raise ValueError(f"`data` must hold arrays; got {shown(data)}.")
    return data


def checked_examples(loss: Any, weights: PyTree, data: PyTree) -> PyTree:
    """The data of a loss of weights and a batch; ValueError unless all three fit each other."""
    floats("weights", weights)
    one = jax.tree.map(lambda leaf: leaf[:1], checked_data(data))
    check_loss(loss, weights, one, of="weights and a batch")
    return data


def alone(example: PyTree) -> PyTree:
    """One example as a batch."""
    return jax.tree.map(lambda leaf: leaf[None], example)


def check_loss(loss: Any, *args: PyTree, of: str = "weights") -> None:
    """Raise ValueError for a loss that is no function of `args` to one real number."""
    function_of(of)("loss", loss)
    with calling("loss", f"be a function of {of} to one real number"):
        found = eqx.filter_eval_shape(loss, *args)
    if not _is_float(found) or found.shape:
        raise ValueError(f"`loss` must return one real number; got {shown(found)}.")


def check_outputs(outputs: Any, weights: PyTree) -> None:
    """Raise ValueError for a network that is no function of weights to arrays of floats."""
    function_of("weights")("outputs", outputs)
    with calling("outputs", "be a function of weights"):
        made = jax.tree.leaves(eqx.filter_eval_shape(outputs, weights))
    if not made or not all(_is_float(leaf) for leaf in made):
        raise ValueError(f"`outputs` must return arrays of floats; got {shown(made)}.")


def _is_float(leaf: Any) -> bool:
    array = isinstance(leaf, jax.ShapeDtypeStruct)
    return array and jnp.issubdtype(leaf.dtype, jnp.floating)


def flat_hessian(
    loss: Callable[[PyTree], Float[Array, ""]], weights: PyTree
) -> tuple[Callable[[Array], Array], Float[Array, " n"]]:
    """The Hessian as a function of flat vectors, and the weights as one."""
    found, rest = floats("weights", weights)
    check_loss(loss, weights)
    point, shaped = ravel_pytree(found)
    slope = jax.grad(lambda p: loss(eqx.combine(shaped(p), rest)))
    return lambda v: jax.jvp(slope, (point,), (v,))[1], point
