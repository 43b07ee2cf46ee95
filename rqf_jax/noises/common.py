"""Noise that is one vector, or two numbers, for all tokens."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import field, scalar, whole
from ..manifolds import AbstractManifold, Sphere
from ._abstract import AbstractNoise, Calculus


class BiasNoise(AbstractNoise):
    """One Brownian vector shared by all tokens: a random bias in every layer.

        dx_a = sigma P_{x_a} ∘ dW,   W a standard Brownian motion in R^n

    On the sphere every token is Brownian with generator (sigma²/2) Δ and all of them meet in one
    point: the local rate is -sigma² (n-1)/2. sigma² is variance per unit time and direction.

    Raises ValueError if sigma is negative or not a finite scalar.
    Source: Shalova, arXiv:2608.16664, whose γ² is 2 sigma²/sigma_s² (read).
    """

    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def shape(self, x: Float[Array, "tokens dim"]) -> tuple[int, ...]:
        """(dim,)."""
        return (x.shape[-1],)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"], dw: Float[Array, " dim"]
    ) -> Float[Array, "tokens dim"]:
        """sigma dW for every token."""
        return jnp.broadcast_to(self.sigma * dw[None, :], x.shape)

    @property
    def isotropic(self) -> bool:
        """True: a normal vector has no axis."""
        return True

    def covariance(
        self, t: Float[Array, ""], x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens tokens"]:
        """sigma² of all pairs of tokens."""
        return jnp.broadcast_to(self.sigma**2, (x.shape[0], x.shape[0]))

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """Constant in flat space; on the sphere its law is rotation invariant."""
        return Calculus.EITHER


class HarmonicNoise(AbstractNoise):
    """Tokens on the circle that see the noise through their k-th harmonic.

        dφ_a = sigma (cos kφ_a ∘ dB¹ + sin kφ_a ∘ dB²),   x_a = (cos φ_a, sin φ_a)

    Every token is a Brownian motion on the circle, and all of them gather at k equidistant points:
    sin(kδ/2) of a distance δ decays at the almost sure rate sigma² k²/2, and the gap closes without
    going round with probability 1 - kδ_0/2π for δ_0 < 2π/k. k = 1 is `BiasNoise` in the plane; a
    `Sum` over falling k is a cascade of ever coarser clusters. `harmonic` is k ≥ 1.

    Raises ValueError for k < 1, sigma negative or not a finite scalar, and tokens off the circle.
    Source: Shalova, arXiv:2608.16664, section 4 (read); the rate and the probability are derived.
    """

    harmonic: int = eqx.field(static=True, converter=field("harmonic", whole(maximum=1000)))
    sigma: Float[Array, ""] = eqx.field(converter=scalar("sigma", minimum=0))

    def shape(self, x: Float[Array, "tokens 2"]) -> tuple[int, ...]:
        """(2,)."""
        if x.shape[-1] != 2:
            raise ValueError(f"`HarmonicNoise` moves tokens in dimension 2; got {x.shape[-1]}.")
        return (2,)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "tokens 2"], dw: Float[Array, " 2"]
    ) -> Float[Array, "tokens 2"]:
        """sigma (cos kφ dB¹ + sin kφ dB²) along the circle."""
        # cos kφ and sin kφ as powers of cos φ + i sin φ: no angle, so no branch cut.
        cosine, sine = x[:, 0], x[:, 1]
        c, s = jnp.ones_like(cosine), jnp.zeros_like(sine)
        for _ in range(self.harmonic):
            c, s = c * cosine - s * sine, s * cosine + c * sine
        speed = self.sigma * (c * dw[0] + s * dw[1])
        return jnp.stack([-speed * sine, speed * cosine], axis=-1)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """½ ∂_φ(cos² kφ + sin² kφ) = 0: the readings agree."""
        if not isinstance(manifold, Sphere):
            raise ValueError(f"`HarmonicNoise` is a noise of the circle; got {manifold}.")
        return Calculus.EITHER
