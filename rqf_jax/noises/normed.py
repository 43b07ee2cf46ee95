"""Noises of normalised networks: fresh weights that read, or write, tokens at unit length."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import part
from .._norm import Norm
from .._special import unit_overlap
from ..manifolds import AbstractLinearSpace, AbstractManifold, State
from ._abstract import AbstractAdditiveNoise, AbstractNoise, Calculus
from .field import AbstractDrawnNoise, correlated


class Normed(AbstractNoise):
    """A noise that sees directions alone: fresh weights in the branch of a Pre-LN layer.

        g(t, x) = g_0(t, N(x)),   N(x) = Γ x/|x|   (Itô)

    On `manifolds.Euclidean` tokens keep their radii. The weights of a layer act on the state before
    it, so the equation is Itô's in the ambient space, and a step of `solvers.GeodesicEuler` is
    the layer x ← x + √h W N(x) itself: one token has the exact law of its radius at every step.
    Stratonovich solvers are refused. Their reading adds (n-1)(σ_s² - σ_a²)/4r to dr/dt for
    `IsotropicNoise`, nothing if σ_s = σ_a (derived).

    **Arguments**

    - `noise`: g_0, any noise of tokens (tokens, dim).
    - `gain`: the diagonal of Γ, (dim,); 1 by default. A transformer's √dim belongs in the noise.
    - `centre`: take the mean over the coordinates of each token out first, as LayerNorm does.

    **Raises** ValueError if `noise` is not a noise, or the gain is no vector of the tokens' size.
    `simulate` refuses initial tokens of norm 0.

    **Example**

    >>> noise = rqf.noises.Normed(rqf.noises.IsotropicNoise(1.0, 1.0))
    >>> noise.calculus(rqf.manifolds.Euclidean()).name
    'ITO'
    """

    noise: AbstractNoise
    norm: Norm

    def __init__(self, noise: AbstractNoise, gain: Any = None, centre: bool = False):
        self.noise = part(AbstractNoise)("noise", noise)
        self.norm = Norm(gain, centre)

    def shape(self, x: Float[Array, "tokens dim"]) -> tuple[int, ...]:
        """The shape of the inner noise."""
        return self.noise.shape(x)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "tokens dim"]:
        """The displacement by the inner noise at N(x)."""
        return self.noise(t, self.norm(x), dw)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Itô in flat space; elsewhere a layer, unless unit tokens are what the noise sees."""
        if isinstance(manifold, AbstractLinearSpace):
            additive = isinstance(self.noise, AbstractAdditiveNoise)
            return Calculus.EITHER if additive else Calculus.ITO
        return self.noise.calculus(manifold) if self.norm.plain else Calculus.LAYER


class UnitOutput(AbstractDrawnNoise):
    """Fresh weights whose output is normalised before it is added: nGPT, and inside `Normed`, Peri.

        E F_ai F_bj = f_n(S_ab/√(S_aa S_bb)) δ_ij dt/n

    S is the covariance of the inner noise, whose strength drops out, and f_n that of
    `kernels.UnitOutput`, of the limit of short steps (derived). `noise` has the same covariance in
    every direction and says so by `isotropic`: a field, `ValueNoise`, `BiasNoise`, `TokenNoise`, or
    `IsotropicNoise` of equal strengths. Raises ValueError for another one.
    """

    noise: AbstractNoise

    def __check_init__(self):
        part(AbstractNoise)("noise", self.noise)
        if not self.noise.isotropic:
            raise ValueError(
                "`noise` must have one covariance in all directions, as fresh matrices of "
                "independent entries have, IsotropicNoise(s, s), ValueNoise and KernelNoise; got "
                f"{self.noise!r}."
            )

    def covariance(self, t: Float[Array, ""], x: State) -> Float[Array, "tokens tokens"]:
        """f_n of the cosines of the inner noise's outputs, over n."""
        overlaps, scale = self._overlaps(t, x)
        return overlaps * (scale[:, None] * scale[None, :])

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"], dw: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """L dW, with lengths apart from directions: a diagonal of 1 makes L cheaper."""
        overlaps, scale = self._overlaps(t, x)
        return scale[:, None] * correlated(overlaps, dw)

    def _overlaps(
        self, t: Float[Array, ""], x: State
    ) -> tuple[Float[Array, "tokens tokens"], Float[Array, " tokens"]]:
        """f_n with a diagonal of 1, and the deviation of each token: 1/√n, or 0 without outputs."""
        s = self.noise.covariance(t, x)  # pyright: ignore[reportAttributeAccessIssue]
        square = jnp.diagonal(s)
        loud = ~(square <= 0)  # NaN too, which a noise has that is not alike in all directions
        inverse = jnp.where(loud, 1 / jnp.sqrt(jnp.where(loud, square, 1)), 0)
        # The factors are multiplied first, so that the result is symmetric to the last bit.
        between = unit_overlap(s * (inverse[:, None] * inverse[None, :]), x.shape[-1])
        overlaps = jnp.where(jnp.eye(square.size, dtype=bool), 1, between)
        return overlaps, jnp.where(loud, x.shape[-1] ** -0.5, 0).astype(s.dtype)
