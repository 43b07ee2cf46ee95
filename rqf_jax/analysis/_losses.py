"""Losses of weights that are any pytree, checked, and their Hessians on flat vectors."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._arguments import count_of, examples, floats, function_of, shown


def checked_examples(data: PyTree) -> PyTree:
    """The data, arrays with one first axis; ValueError for anything else."""
    if count_of("data", examples("data", data)) is None:
        raise ValueError(f"`data` must hold arrays; got {shown(data)}.")
    return data


def alone(example: PyTree) -> PyTree:
    """One example as a batch."""
    return jax.tree.map(lambda leaf: leaf[None], example)


def check_loss(loss: Any, weights: PyTree) -> None:
    """Raise ValueError for a loss that is no function of weights to one real number."""
    found = eqx.filter_eval_shape(function_of("weights")("loss", loss), weights)
    real = isinstance(found, jax.ShapeDtypeStruct) and jnp.issubdtype(found.dtype, jnp.floating)
    if not real or found.shape:
        raise ValueError(f"`loss` must return one real number; got {shown(found)}.")


def flat_hessian(
    loss: Callable[[PyTree], Float[Array, ""]], weights: PyTree
) -> tuple[Callable[[Array], Array], Float[Array, " n"]]:
    """The Hessian as a function of flat vectors, and the weights as one."""
    found, rest = floats("weights", weights)
    check_loss(loss, weights)
    point, shaped = ravel_pytree(found)
    slope = jax.grad(lambda p: loss(eqx.combine(shaped(p), rest)))
    return lambda v: jax.jvp(slope, (point,), (v,))[1], point
