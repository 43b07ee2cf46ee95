"""Checks of what processes are given: laws, data sets, batches."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from .._arguments import finite, part
from ..laws import AbstractLaw


def drawing(law: Any, shape: tuple[int | None, ...] | None = None) -> AbstractLaw:
    """`law`, a law of arrays of `shape` if there is one, where None is any size."""
    part(AbstractLaw)("law", law)
    if shape is None:
        return law
    found = eqx.filter_eval_shape(law, jax.random.key(0)).shape
    fits = len(found) == len(shape) and all(
        want in (None, size) for want, size in zip(shape, found, strict=True)
    )
    if not fits:
        sizes = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"`law` must draw weights of shape ({sizes}); got shape {found}.")
    return law


def examples(name: str, values: Any, features: int, batch: int) -> Float[Array, "samples features"]:
    """A finite data set of at least one batch of vectors."""
    array = finite(name, values)
    if array.ndim != 2 or array.shape[1] != features:
        raise ValueError(
            f"`{name}` must be examples of shape (samples, {features}); got shape {array.shape}."
        )
    check_batch(batch, array.shape[0])
    return array


def check_batch(batch: int, samples: int) -> None:
    """ValueError if a batch is more than the data set has."""
    if batch > samples:
        raise ValueError(f"`batch` must be at most the {samples} examples there are; got {batch}.")
