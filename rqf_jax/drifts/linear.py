"""Velocities that are linear in the tokens, and the constant one."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import finite, is_concrete, scalar, square
from .._linalg.lanes import transform
from ._abstract import AbstractDrift


class Linear(AbstractDrift):
    """The same linear velocity for every token.

        f_i = V x_i

    On the sphere this is the Oja flow: x(t) = exp(V t) x(0) / |exp(V t) x(0)|, which for symmetric
    V climbs xᵀVx/2 to the leading eigenvector (classical). `matrix` is V, any real d×d matrix.

    Raises ValueError for a matrix that is not square and finite or, when called, not of the
    tokens' size.
    """

    matrix: Float[Array, "d d"] = eqx.field(converter=square("matrix"))

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """V x_i for every token i."""
        return transform(self.matrix_for(x), x)

    def matrix_for(self, x: Float[Array, "tokens dim"]) -> Float[Array, "dim dim"]:
        """V, or ValueError if it is not of the tokens' size."""
        _check_size("matrix", self.matrix, x.shape[-1])
        return self.matrix


class Oja(AbstractDrift):
    """The multi-agent Oja flow: attention with weights that do not change.

        f_i = Σ_j W_ij V x_j

    `weights` is W (tokens, tokens), row-stochastic; `value` is V (dim, dim). W = 1 is the Oja flow
    of every token by itself (`Linear`), W = 11ᵀ/N is attention at β = 0.

    Raises ValueError for weights that are negative or whose rows do not sum to 1 within 1e-5,
    matrices that are not square and finite or, when called, not of the state's size.
    Source: Altafini, arXiv:2511.11553 (the model; its choice of W was not seen, so W is free).
    """

    weights: Float[Array, "N N"]
    value: Float[Array, "d d"]

    def __init__(self, weights: Any, value: Any):
        self.weights = square("weights")(weights)
        self.value = square("value")(value)
        if is_concrete(self.weights):
            w = np.asarray(self.weights, float)
            if w.min() < 0:
                raise ValueError(f"`weights` must not be negative; got {w.min():g}.")
            sums = w.sum(axis=1)
            if np.abs(sums - 1).max() > 1e-5:
                row = int(np.abs(sums - 1).argmax())
                raise ValueError(
                    f"`weights` must have rows that sum to 1; row {row} sums to {sums[row]:g}."
                )

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """Σ_j W_ij V x_j for every token i."""
        _check_size("weights", self.weights, x.shape[0])
        _check_size("value", self.value, x.shape[1])
        return jnp.matmul(self.weights, transform(self.value, x), precision="highest")


class MeanField(AbstractDrift):
    """Every token is drawn to the mean of all of them.

        f_i = strength · (1/N) Σ_j x_j

    On the circle this is Kuramoto's model with equal frequencies; it is `Attention` at β = 0 at a
    cost of O(N). Raises ValueError if `strength` is not a finite scalar.
    """

    strength: Float[Array, ""] = eqx.field(converter=scalar("strength"))

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The scaled mean token, the same for all."""
        return jnp.broadcast_to(self.strength * jnp.mean(x, axis=0, keepdims=True), x.shape)

    @property
    def spans(self) -> bool:
        """True."""
        return True


class Constant(AbstractDrift):
    """A constant velocity shared by all tokens: a bias.

        f_i = c

    On the sphere tokens move towards c / |c|. `velocity` is c, of shape (dim,). Raises ValueError
    unless it is one finite vector or, when called, of the tokens' size.
    """

    velocity: Float[Array, " dim"]

    def __init__(self, velocity: Any):
        self.velocity = finite("velocity", velocity)
        if self.velocity.ndim != 1:
            raise ValueError(f"`velocity` must be one vector; got shape {self.velocity.shape}.")

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """c for every token."""
        _check_size("velocity", self.velocity, x.shape[-1])
        return jnp.broadcast_to(self.velocity[None, :], x.shape)


def _check_size(name: str, array: Array, size: int) -> None:
    if array.shape[-1] != size:
        raise ValueError(f"`{name}` must have size {size} here; got shape {array.shape}.")
