"""Potentials of matrices, through their eigenvalues."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import one_of, part
from .._linalg import spectral as _spectral
from ..potentials import AbstractPotential
from ._abstract import AbstractDrift
from .pull import Pull


class MatrixWell(AbstractDrift):
    """A symmetric (beta = 1) or Hermitian (beta = 2) matrix in a potential beside a linear pull.

        f = -rate (H - target) - V'(H),   V'(H) = U V'(Λ) U* for H = U Λ U*

    the negative gradient of rate |H - target|²/2 + tr V(H). With the noise of `models.dyson` the
    matrix is stationary with density exp(-[rate |H - target|²/2 + tr V(H)]/g²), and without a
    target its eigenvalues are the gas of `drifts.Coulomb`. A Hermitian state is one real matrix,
    see `manifolds.Hermitian`. `solvers.Strang` steps it.

    **Arguments**

    - `potential`: V, one of `rqf_jax.potentials` or your own.
    - `rate`: pull ≥ 0 per unit time, to `target`: a number for all entries, or one matrix (n, n).
    - `beta`: 1 or 2.

    **Raises** ValueError for a potential of another kind, another beta, a negative rate, and a
    target that is not finite.

    **Example**

    >>> well = rqf.drifts.MatrixWell(rqf.potentials.Quartic(1.0))
    >>> [float(force) for force in jnp.diag(well(0.0, jnp.diag(jnp.array([1.0, 2.0]))))]
    [-1.0, -8.0]
    """

    pull: Pull
    potential: AbstractPotential
    beta: int = eqx.field(static=True)

    def __init__(
        self, potential: AbstractPotential, rate: Any = 0.0, target: Any = 0.0, *, beta: int = 1
    ):
        part(AbstractPotential)("potential", potential)
        self.pull = Pull(rate, target)
        self.potential = potential
        self.beta = one_of(1, 2)("beta", beta)

    def __call__(self, t: Float[Array, ""], x: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """Pull and force."""
        return self.pull(t, x) - self._of(_slope, x, self.potential)

    def flow(self, x: Float[Array, "n n"], h: Float[Array, ""]) -> Float[Array, "n n"]:
        """The matrix that dH/dt = -V'(H) makes of `x` in a time h: the flow of its eigenvalues."""
        return self._of(_flow, x, self.potential, h)

    def _of(
        self, function: Callable[..., Float[Array, " n"]], x: Float[Array, "n n"], *parameters: Any
    ) -> Float[Array, "n n"]:
        if self.beta == 1:
            return _spectral.spectral_function(function, (x + x.T) / 2, *parameters)
        image = _spectral.spectral_function(function, _spectral.hermitian(x), *parameters)
        return jnp.real(image) + jnp.imag(image)


def _slope(values: Float[Array, " n"], potential: AbstractPotential) -> Float[Array, " n"]:
    return potential.slope(values)


def _flow(
    values: Float[Array, " n"], potential: AbstractPotential, h: Float[Array, ""]
) -> Float[Array, " n"]:
    return potential.flow(values, h)
