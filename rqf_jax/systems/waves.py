"""A partial differential equation on a ring."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Float

from .._arguments import integer, scalar
from ..drifts import AbstractSemilinear
from ._abstract import AbstractFlow, Exponents


class KuramotoSivashinsky(AbstractFlow, AbstractSemilinear):
    """Fronts of flames, a wave u(x) on the ring [0, 2π), at equally spaced points.

        u_t = -α u u_x - β u_xx - γ u_xxxx

    Waves of number k grow at the rate β k² - γ k⁴, linearly; the product hands what they win to
    short waves, which damp it. The mean of u stays, and shifts along the ring are a symmetry. The
    product is made on the points, and of its waves the shortest third is left out, so that none is
    taken for another. `solvers.default` takes `solvers.ExponentialRungeKutta`, which is exact in
    the linear part.

    **Arguments**

    - `points`: of the ring, an even number of at least 8; keep waves up to points/3 well above
      √(β/γ), the shortest that grows.
    - `advection`: α; `instability`: β ≥ 0; `viscosity`: γ > 0.

    **Raises** ValueError for numbers that break a rule and, when called, for a state of another
    shape.

    **Example**

    >>> flow = rqf.systems.KuramotoSivashinsky()
    >>> sde = rqf.SDE(flow, rqf.noises.NoNoise(), rqf.manifolds.Euclidean())
    >>> type(rqf.solvers.default(sde)).__name__
    'ExponentialRungeKutta'

    Source: the constants are those of a chaotic test of Wang, Sankaran & Perdikaris,
    arXiv:2203.07404 (recalled).
    """

    points: int = eqx.field(static=True)
    advection: Float[Array, ""]
    instability: Float[Array, ""]
    viscosity: Float[Array, ""]

    reference: ClassVar[Exponents | None] = Exponents(
        (8.96, 7.88, 7.01, 5.94),
        (0.20, 0.16, 0.15, 0.13),
        "12 members over 6 time units, ExponentialRungeKutta with h = 1/400, float64",
    )

    def __init__(
        self,
        points: int = 192,
        advection: Any = 100 / 16,
        instability: Any = 100 / 16**2,
        viscosity: Any = 100 / 16**4,
    ):
        self.points = integer("points", points, minimum=8, maximum=2**20)
        if self.points % 2:
            raise ValueError(f"`points` must be even; got {self.points}.")
        self.advection = scalar("advection")(advection)
        self.instability = scalar("instability", minimum=0)(instability)
        self.viscosity = scalar("viscosity", minimum=1e-30)(viscosity)

    @property
    def rates(self) -> Float[Array, " modes"]:
        """β k² - γ k⁴."""
        square = self._numbers**2
        return self.instability * square - self.viscosity * square**2

    def modes(self, x: Float[Array, " points"]) -> Complex[Array, " modes"]:
        """Fourier's coefficients of the wave."""
        if jnp.shape(x) != (self.points,):
            raise ValueError(f"`x` must have shape ({self.points},); got shape {jnp.shape(x)}.")
        return jnp.fft.rfft(x)

    def state(self, v: Complex[Array, " modes"]) -> Float[Array, " points"]:
        """The wave of coefficients."""
        return jnp.fft.irfft(v, self.points)

    def nonlinear(
        self, t: Float[Array, ""], v: Complex[Array, " modes"]
    ) -> Complex[Array, " modes"]:
        """-α (u²/2)_x, of waves that the points can tell apart."""
        numbers = self._numbers
        kept = jnp.where(numbers < self.points / 3, v, 0)
        square = jnp.fft.rfft(self.state(kept) ** 2)
        slope = lax.complex(-numbers * square.imag, numbers * square.real)
        half = (self.advection / 2).astype(v.dtype)
        return jnp.where(numbers < self.points / 3, -half * slope, 0)

    @property
    def start(self) -> Float[Array, " points"]:
        """cos x (1 + sin x)."""
        x = jnp.asarray(2 * np.pi * np.arange(self.points) / self.points, self.advection.dtype)
        return jnp.cos(x) * (1 + jnp.sin(x))

    @property
    def divergence(self) -> Float[Array, ""]:
        """The sum of the rates of all waves, of which the product changes nothing."""
        # A wave and its conjugate: a cosine and a sine, but for the first and the last.
        return 2 * jnp.sum(self.rates) - self.rates[0] - self.rates[-1]

    @property
    def _numbers(self) -> Float[Array, " modes"]:
        return jnp.arange(self.points // 2 + 1, dtype=self.advection.dtype)
