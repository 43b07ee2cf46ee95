"""Layers of random networks at initialisation: the discrete twins of the equations.

A layer is a map from one state to the next with fresh weights, x ← normalise(…): tokens stay on
the sphere. `rqf_jax.propagate` sends an ensemble through a stack of them. With residual steps √h
at depth 1/h per unit time a stack converges to an equation of `rqf_jax.models`: weakly at order 1
in h, and at order 1/2 path by path.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ._arguments import described, each, fitting, integer, maybe, one_of, part, scalar
from .drifts import AbstractDrift
from .kernels import ACTIVATIONS, Activation
from .manifolds import Sphere

__all__ = [
    "AbstractBranch",
    "AbstractLayer",
    "Block",
    "Fixed",
    "Plain",
    "RandomLinear",
    "RandomMLP",
    "Residual",
]


def __dir__() -> list[str]:
    return __all__


class AbstractBranch(eqx.Module):
    """The function of the tokens that a layer computes, with weights that it draws."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The output for every token, by the weights that belong to `key`."""


class RandomLinear(AbstractBranch):
    """One random matrix for all tokens, acting on them or on a function of them.

        W x_i   or   W f_i(x),   W_kl independent normals of variance `variance`

    `field` is f, any drift: attention for a random value matrix, None for the tokens themselves.
    Raises ValueError if the variance is negative or not a finite scalar, or f is not a drift.
    """

    variance: Float[Array, ""] = eqx.field(converter=scalar("variance", minimum=0))
    field: AbstractDrift | None = None

    def __check_init__(self):
        maybe(part(AbstractDrift))("field", self.field)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """W x_i, or W f_i(x)."""
        weights = jnp.sqrt(self.variance) * jax.random.normal(key, (x.shape[1],) * 2, x.dtype)
        entering = x if self.field is None else self.field(jnp.zeros((), x.dtype), x)
        return jnp.matmul(entering, weights.T, precision="highest")


class RandomMLP(AbstractBranch):
    """A perceptron with one hidden layer of finite width.

        F(x) = m^(-1/2) Σ_j w_j φ(u_j·x/√d + σ_U b_j) + σ_W c

    with independent standard normals w_j, u_j, c in R^d and b_j. Its covariance of two tokens is
    `kernels.MLP(activation, dim, bias_in, bias_out)` at every width m, and it is Gaussian for
    m → ∞.

    **Arguments**

    - `activation`: φ, one of relu, tanh, gelu, silu, sigmoid.
    - `width`: m.
    - `bias_in`, `bias_out`: σ_U ≥ 0 and σ_W ≥ 0.

    **Raises** ValueError for another activation, width < 1, and biases that are negative.

    **Example**

    >>> branch = rqf.layers.RandomMLP("gelu", 16)
    >>> branch(jax.random.key(0), jnp.eye(3)).shape
    (3, 3)

    Source: Agazzi, Bruno, Mosig García, Saviozzi & Romito, arXiv:2604.26898 (theory part read).
    """

    activation: Activation = eqx.field(static=True)
    width: int = eqx.field(static=True)
    bias_in: Float[Array, ""] = eqx.field(converter=scalar("bias_in", minimum=0), default=0.0)
    bias_out: Float[Array, ""] = eqx.field(converter=scalar("bias_out", minimum=0), default=0.0)

    def __check_init__(self):
        fitting("width", (integer("width", self.width), 4))
        one_of(*ACTIVATIONS)("activation", self.activation)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The perceptron's output for every token."""
        dim, width = x.shape[1], self.width
        entering, hidden_bias, leaving, bias = (
            jax.random.normal(k, shape, x.dtype)
            for k, shape in zip(
                jax.random.split(key, 4),
                [(dim, width), (1, width), (width, dim), (1, dim)],
                strict=True,
            )
        )
        with jax.default_matmul_precision("highest"):
            hidden = x @ entering * dim**-0.5 + self.bias_in * hidden_bias
            return ACTIVATIONS[self.activation](hidden) @ leaving * width**-0.5 + (
                self.bias_out * bias
            )


class AbstractLayer(eqx.Module):
    """A map of the tokens on the sphere to themselves, with weights that it draws."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The tokens after the layer, by the weights that belong to `key`."""


class Plain(AbstractLayer):
    """A layer without a residual stream: x ← normalise(F(x)).

    Raises ValueError if `branch` is not one of `rqf_jax.layers`.
    """

    branch: AbstractBranch

    def __check_init__(self):
        _check_branch(self.branch)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """normalise(F(x))."""
        return Sphere().project(self.branch(key, x))


class Residual(AbstractLayer):
    """A layer that adds to the residual stream: x ← normalise(x + √step F(x)).

    `step` is the time that one layer takes in the limiting equation. Raises ValueError if it is
    negative or not a finite scalar, or if `branch` is not one of `rqf_jax.layers`.
    """

    branch: AbstractBranch
    step: Float[Array, ""] = eqx.field(converter=scalar("step", minimum=0))

    def __check_init__(self):
        _check_branch(self.branch)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """normalise(x + √step F(x))."""
        return Sphere().project(x + jnp.sqrt(self.step) * self.branch(key, x))


class Fixed(AbstractLayer):
    """A layer without random weights: x ← normalise(x + step f(x)).

    `field` is f, any drift; attention, for instance. Raises ValueError if it is not a drift, or if
    the step is negative or not a finite scalar.
    """

    field: AbstractDrift
    step: Float[Array, ""] = eqx.field(converter=scalar("step", minimum=0))

    def __check_init__(self):
        part(AbstractDrift)("field", self.field)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """normalise(x + step f(x))."""
        return Sphere().project(x + self.step * self.field(jnp.zeros((), x.dtype), x))


class Block(AbstractLayer):
    """Layers one after another as one: attention, then a perceptron, in a transformer.

    Raises ValueError for no layers, and for parts that are not layers.
    """

    layers: tuple[AbstractLayer, ...]

    def __init__(self, *layers: AbstractLayer):
        self.layers = each(part(AbstractLayer))("layers", layers)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The tokens after all of them."""
        for layer, own in zip(self.layers, jax.random.split(key, len(self.layers)), strict=True):
            x = layer(own, x)
        return x


def _check_branch(branch: Any) -> None:
    part(AbstractBranch)("branch", branch)
