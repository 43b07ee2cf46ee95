"""Velocities that are learned from data, and stay bounded while they are."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import Key, fitting, integer, part, prng_key, scalar, sizes
from ._abstract import AbstractDrift


class Network(AbstractDrift):
    """A bounded velocity field with free parameters: a perceptron of the whole state.

        f = bound · tanh( L_depth ∘ swish ∘ … ∘ swish ∘ L_0 (x) )

    No entry of f ever exceeds `bound`, whatever the weights are, so that beside a `Pull` the motion
    has bounded moments during the whole of a fit. Fit the weights by
    `rqf_jax.fit(..., where=lambda sde: sde.drift)`.

    **Arguments**

    - `state`: the shape of a state, a tuple of sizes.
    - `width`, `depth`: sizes of the hidden layers.
    - `bound`: the largest entry of f, at least 0.
    - `key`: the JAX key from which the weights are drawn.

    **Raises** ValueError for sizes that are not positive integers, a negative bound and, when
    called, a state of another shape.

    **Example**

    >>> drift = rqf.drifts.Network((2,), bound=0.1, key=jax.random.key(0))
    >>> bool(jnp.max(jnp.abs(drift(0.0, jnp.array([3.0, -4.0])))) <= 0.1)
    True
    """

    network: eqx.nn.MLP
    bound: Float[Array, ""] = eqx.field(converter=scalar("bound", minimum=0))
    state: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        state: tuple[int, ...],
        *,
        width: int = 32,
        depth: int = 2,
        bound: Any = 1.0,
        key: Key,
    ):
        self.state = sizes("state", state)
        self.bound = bound
        size, width = math.prod(self.state), integer("width", width)
        fitting("width", (width, max(size, width)))
        self.network = eqx.nn.MLP(
            size,
            size,
            width,
            integer("depth", depth, maximum=1000),
            activation=jax.nn.silu,
            final_activation=jnp.tanh,
            key=prng_key("key", key),
        )

    def __call__(self, t: Float[Array, ""], x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """The velocity of the state as one vector."""
        if x.shape != self.state:
            raise ValueError(f"`x` must have the shape {self.state}; got {x.shape}.")
        return self.bound * self.network(x.ravel()).reshape(x.shape)


class Geometric(AbstractDrift):
    """Growth at a rate: every entry is multiplied, so that none changes sign.

        f_i = x_i γ_i(t, x)

    `rates` is γ, any drift. With `noises.LinearNoise` and a constant γ, x = x_0 e^(γt + σB), and 0
    is absorbing. Raises ValueError if `rates` is not a drift.
    """

    rates: AbstractDrift

    def __check_init__(self):
        part(AbstractDrift)("rates", self.rates)

    def __call__(self, t: Float[Array, ""], x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """x γ(t, x), entry by entry."""
        return x * self.rates(t, x)
