import abc

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import described
from ..manifolds import AbstractManifold, Sphere


class AbstractBranch(eqx.Module):
    """The function of the tokens that a layer computes, with weights that it draws."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The output for every token, by the weights that belong to `key`."""


class AbstractLayer(eqx.Module):
    """A map of tokens to tokens, with weights that it draws."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The tokens after the layer, by the weights that belong to `key`."""

    @property
    def enters(self) -> AbstractManifold:
        """The space of tokens that enter: the sphere unless a layer says otherwise."""
        return Sphere()
