"""Noise of a layer's weights that acts on what the layer computed, not on the tokens themselves.

These are limits of residual layers x ← normalise(x + √h W_l f(x)): the weights of a layer are drawn
before anything in it moves, so the equation is an Itô equation, and a step may evaluate f once.
"""

import equinox as eqx
from jaxtyping import Array, Float

from .._arguments import part, scalar
from .._linalg.lanes import gram, transform
from ..drifts import AbstractDrift
from ..manifolds import AbstractManifold
from ._abstract import AbstractNoise, Calculus


class ValueNoise(AbstractNoise):
    """A random value matrix, fresh in every layer, applied to the output of a velocity field.

        dx_i = sigma P_{x_i} dB f_i(X)   (Itô: plus -sigma² (n-1)/2 |f_i|² x_i dt),

    B a matrix of independent standard Brownian motions shared by all tokens. With f = attention
    of strength 1 this is the stochastic transformer; with f_i = x_i it is the full matrix noise
    `IsotropicNoise(sigma, sigma)`. `field` is f, any drift; sigma² is variance per entry and unit
    time.

    Raises ValueError if sigma is negative or not a finite scalar, or `field` is not a drift.
    Source: Fedorov, Sander, Elie, Marion & Laurière, arXiv:2601.21942 (abstract read; the Itô form
    is derived, and its overlap drift agrees with that of arXiv:2604.01978).
    """

    field: AbstractDrift
    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def __check_init__(self):
        _check_field(self.field)

    def shape(self, x: Float[Array, "tokens dim"]) -> tuple[int, ...]:
        """(dim, dim)."""
        return (x.shape[-1], x.shape[-1])

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"], dw: Float[Array, "dim dim"]
    ) -> Float[Array, "tokens dim"]:
        """sigma dB f_i(X) for every token."""
        return self.sigma * transform(dw, self.field(t, x))

    @property
    def isotropic(self) -> bool:
        """True: the rows of a matrix of independent normals are alike."""
        return True

    def covariance(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens tokens"]:
        """sigma² <f_a, f_b>."""
        entering = self.field(t, x)
        return self.sigma**2 * gram(entering, entering)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """The matrix acts on the layer's input; its second-order terms are radial on the sphere."""
        return Calculus.ITO


class ScalarNoise(AbstractNoise):
    """One random number per layer that scales the output of a velocity field.

        X ← project(X + sigma f(X) ΔB),   B one Brownian motion for all tokens

    in the limit of short steps: dX = sigma P f dB in Itô's sense in the ambient space. Normalising
    turns the second order into a drift, -sigma² <x_i, f_i> P f_i dt, so it is a part of the
    equation: with f = unnormalised attention and the same f as drift, two tokens end aligned for
    sigma² < 2 e^(-β) and opposite above. sigma² is variance per unit time.

    Raises ValueError if sigma is negative or not a finite scalar, or `field` is not a drift.
    Source: arXiv:2601.21942, its hybrid model (second-hand; the drift is derived).
    """

    field: AbstractDrift
    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def __check_init__(self):
        _check_field(self.field)

    def shape(self, x: Float[Array, "*state"]) -> tuple[int, ...]:
        """(1,)."""
        return (1,)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "*state"], dw: Float[Array, " 1"]
    ) -> Float[Array, "*state"]:
        """sigma f(X) dB."""
        return self.sigma * dw[0] * self.field(t, x)

    @property
    def spans(self) -> bool:
        """True if the field does: one number knows no dimension."""
        return self.field.spans

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """The normalisation of a layer is part of the equation."""
        return Calculus.LAYER


def _check_field(field: AbstractDrift) -> None:
    part(AbstractDrift)("field", field)
