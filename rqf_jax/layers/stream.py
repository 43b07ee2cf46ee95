"""Layers: what becomes of the stream of tokens when branches are added to it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import each, part, scalar
from .._norm import Norm as _Norm
from ..drifts import AbstractDrift
from ..manifolds import AbstractManifold, Euclidean, Sphere
from ._abstract import AbstractBranch, AbstractLayer


class Plain(AbstractLayer):
    """A layer without a residual stream: x ← normalise(F(x)).

    Raises ValueError if `branch` is not one of `rqf_jax.layers`.
    """

    branch: AbstractBranch

    def __check_init__(self):
        part(AbstractBranch)("branch", self.branch)

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """normalise(F(x))."""
        return Sphere().project(self.branch(key, x))


class Residual(AbstractLayer):
    """A layer that adds to the residual stream: x ← P(x + √step F(x)).

    `step` is the time that one layer takes in the limiting equation, 1 in a transformer. `stream`
    says what P is: `manifolds.Sphere()`, by default, normalises, and `manifolds.Euclidean()` keeps
    the radius. Raises ValueError if the step is negative or not a finite scalar, or if `branch` is
    not one of `rqf_jax.layers`.
    """

    branch: AbstractBranch
    step: Float[Array, ""] = eqx.field(converter=scalar("step", minimum=0), default=1.0)
    stream: AbstractManifold = Sphere()

    def __check_init__(self):
        part(AbstractBranch)("branch", self.branch)
        _check_stream(self.stream)

    @property
    def enters(self) -> AbstractManifold:
        """The stream."""
        return self.stream

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """P(x + √step F(x))."""
        return self.stream.project(x + jnp.sqrt(self.step) * self.branch(key, x))


class Fixed(AbstractLayer):
    """A layer without random weights: x ← P(x + step f(x)).

    `field` is f, any drift; attention, for instance. `stream` is as in `Residual`. Raises
    ValueError if `field` is not a drift, or if the step is negative or not a finite scalar.
    """

    field: AbstractDrift
    step: Float[Array, ""] = eqx.field(converter=scalar("step", minimum=0))
    stream: AbstractManifold = Sphere()

    def __check_init__(self):
        part(AbstractDrift)("field", self.field)
        _check_stream(self.stream)

    @property
    def enters(self) -> AbstractManifold:
        """The stream."""
        return self.stream

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """P(x + step f(x))."""
        return self.stream.project(x + self.step * self.field(jnp.zeros((), x.dtype), x))


class Norm(AbstractLayer):
    """A norm in the stream: x ← Γ x/|x|, the last of a Pre-LN network, or the first of BERT.

    `gain` is the diagonal of Γ, (dim,), 1 by default, and `centre` takes the mean over the
    coordinates of a token out first, as LayerNorm does. Raises ValueError for a gain that is no
    vector of the tokens' size.
    """

    norm: _Norm

    def __init__(self, gain: Any = None, centre: bool = False):
        self.norm = _Norm(gain, centre)

    @property
    def enters(self) -> AbstractManifold:
        """Flat space: any tokens but 0."""
        return Euclidean()

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """Γ x/|x|."""
        return self.norm(x)


class Block(AbstractLayer):
    """Layers one after another as one: attention, then a perceptron, in a transformer.

    Raises ValueError for no layers, and for parts that are not layers.
    """

    layers: tuple[AbstractLayer, ...]

    def __init__(self, *layers: AbstractLayer):
        self.layers = each(part(AbstractLayer))("layers", layers)

    @property
    def enters(self) -> AbstractManifold:
        """The space on which tokens enter the first layer."""
        return self.layers[0].enters

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The tokens after all of them."""
        for layer, own in zip(self.layers, jax.random.split(key, len(self.layers)), strict=True):
            x = layer(own, x)
        return x


def _check_stream(stream: Any) -> None:
    known = "the sphere or flat space, `manifolds.Sphere()` or `manifolds.Euclidean()`"
    part((Sphere, Euclidean), known)("stream", stream)
