"""Dictionaries of functions of a state, and series that they can be fitted to."""

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._arguments import integer
from .._ensemble.validity import shapes_of, taking


class Monomials(eqx.Module):
    """All products of the numbers of a state, from the constant to a degree: a dictionary.

        1, x_0, x_1, …, x_0², x_0 x_1, …

    `size` is how many numbers a state has, of any shape; `names` says which product is which.
    Raises ValueError unless size ≥ 1, degree ≥ 1, and for more than 10⁴ products.
    """

    size: int = eqx.field(static=True)
    degree: int = eqx.field(static=True)

    def __init__(self, size: int, degree: int):
        self.size = integer("size", size, maximum=10**4)
        self.degree = integer("degree", degree, maximum=10**2)
        count = 1
        for k in range(1, self.degree + 1):
            count = count * (self.size + k) // k
            if count > 10**4:
                raise ValueError(
                    f"`degree` must make at most 10⁴ products of {self.size} numbers; got {degree}."
                )

    @property
    def _products(self) -> list[tuple[int, ...]]:
        places = range(self.size)
        degrees = range(self.degree + 1)
        return [p for d in degrees for p in itertools.combinations_with_replacement(places, d)]

    @property
    def names(self) -> tuple[str, ...]:
        """The products, like "1", "x0" and "x0 x1"."""
        return tuple(" ".join(f"x{i}" for i in product) or "1" for product in self._products)

    def __call__(self, x: Float[Array, "*state"]) -> Float[Array, " functions"]:
        """The products of one state."""
        flat = jnp.concatenate([jnp.ravel(x), jnp.ones(1, x.dtype)])
        if flat.size != self.size + 1:
            raise ValueError(f"`size` must be {flat.size - 1} for this state; got {self.size}.")
        # Products of lower degree are filled up with ones.
        rows = [(*p, *[self.size] * (self.degree - len(p))) for p in self._products]
        return jnp.prod(flat[np.asarray(rows)], axis=1)


class Lift(eqx.Module):
    """The functions of a dictionary at many windows, in float64."""

    dictionary: Callable[[Any], Any]
    delays: int = eqx.field(static=True)

    def __call__(self, windows: np.ndarray) -> Shaped[np.ndarray, "windows functions"]:
        """(windows, functions), real or complex."""
        with jax.enable_x64(True):
            given = jnp.asarray(windows if self.delays > 1 else windows[:, 0])
            one = jax.ShapeDtypeStruct(given.shape[1:], given.dtype)
            with taking("dictionary", one):
                found = eqx.filter_eval_shape(self.dictionary, one)
            if not isinstance(found, jax.ShapeDtypeStruct) or found.ndim != 1 or not found.size:
                raise ValueError(
                    "`dictionary` must return one axis of functions, an array (functions,); got "
                    f"{shapes_of(found)}."
                )
            return np.asarray(jax.jit(jax.vmap(self._one))(given))

    def _one(self, x: Array) -> Array:
        values = self.dictionary(x)
        return values if jnp.iscomplexobj(values) else values.astype(float)


def check_moving(xs: np.ndarray) -> None:
    """Raise ValueError for coordinates that are the same at all times of all members."""
    flat = xs.reshape(-1, *xs.shape[2:])
    gone = np.isnan(flat)
    if np.any(gone.all(axis=0)):
        index = tuple(np.argwhere(gone.all(axis=0))[0].tolist())
        raise ValueError(f"`runs` must have every coordinate seen; coordinate {index} never is.")
    low, high = np.nanmin(flat, axis=0), np.nanmax(flat, axis=0)
    still = high - low <= 1e-13 * np.maximum(np.abs(low), np.abs(high))
    if np.any(still):
        index = tuple(np.argwhere(still)[0].tolist())
        raise ValueError(
            f"`runs` must move in every coordinate; coordinate {index} is {low[index]:g} at all "
            "times. Leave it out."
        )


def check_finite(values: np.ndarray, name: str) -> None:
    """Raise ValueError for functions of a dictionary that are not finite."""
    bad = ~np.isfinite(values)
    if bad.any():
        pair, function = np.argwhere(bad)[0].tolist()
        raise ValueError(
            f"`dictionary` must be finite on the data; function {function} is "
            f"{values[pair, function]} at the {name} of pair {pair}."
        )
