"""The normalisation of tokens by which a branch of a network sees directions alone."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._arguments import described, finite, flag
from ._linalg.lanes import row_dots


class Norm(eqx.Module):
    """RMSNorm, and with `centre` LayerNorm, onto the unit sphere.

        N(x) = Γ x/|x|   or   N(x) = Γ Cx/|Cx|,   Cx = x - mean x

    A transformer's √n belongs in the weights that follow. `gain` is the diagonal of Γ, one number
    for every coordinate, or None. A token without a direction, x = 0 or Cx = 0, gives 0, with
    gradient 0. Raises ValueError for a gain that is no vector of finite numbers.
    """

    __repr__ = described

    gain: Float[Array, " dim"] | None
    centre: bool = eqx.field(static=True)

    def __init__(self, gain: Any = None, centre: bool = False):
        self.gain = None if gain is None else finite("gain", gain)
        self.centre = flag("centre", centre)
        if self.gain is not None and self.gain.ndim != 1:
            raise ValueError(
                "`gain` must be one number for every coordinate of a token; got shape "
                f"{self.gain.shape}."
            )

    def __call__(self, x: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
        """N(x) of every token."""
        directions = unit(self.centred(x))
        if self.gain is None:
            return directions
        if self.gain.shape != x.shape[-1:]:
            raise ValueError(
                f"`gain` must have {x.shape[-1]} numbers, one for every coordinate of a token; got "
                f"{self.gain.size}."
            )
        return self.gain[None, :] * directions

    def centred(self, x: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
        """The tokens that are divided by their norms."""
        return x - jnp.mean(x, -1, keepdims=True) if self.centre else x

    @property
    def plain(self) -> bool:
        """True if directions are all that it makes."""
        return self.gain is None and not self.centre


def unit(x: Float[Array, "*rows dim"]) -> Float[Array, "*rows dim"]:
    """x/|x| of every row; 0 for a zero row."""
    square = row_dots(x, x)
    zero = square == 0
    # The inner `where` keeps the infinite slope out of the backward pass.
    return jnp.where(zero, 0, x * (1 / jnp.sqrt(jnp.where(zero, 1, square))))


def check_directions(model: PyTree, x: PyTree[Array]) -> None:
    """Raise ValueError if a norm in `model` meets a token of the state `x` without a direction."""
    norms = jax.tree.leaves(model, is_leaf=lambda leaf: isinstance(leaf, Norm))
    for norm in (leaf for leaf in norms if isinstance(leaf, Norm) and eqx.is_array(x)):
        y = norm.centred(x)
        square = np.asarray(row_dots(y, y))[..., 0]
        bad = np.flatnonzero(~((square > 0) & np.isfinite(square)))
        if bad.size:
            what = "norm after its mean is taken out" if norm.centre else "norm"
            raise ValueError(
                f"`law` must draw tokens with a {what} that is positive and finite, because the "
                f"equation normalises them; got token {bad[0]} with |x|² = {square[bad[0]]:g} in "
                f"{x.dtype}."
            )
