"""The projective flow: shared matrix noise on the sphere, exactly as a linear map."""

from collections.abc import Sequence
from typing import cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .._arguments import field, maybe, one_of
from .._linalg.exponential import act, directions, expm1, taylor
from .._linalg.lanes import in_lanes, is_tiny, transform
from .._sde import SDE
from ..drifts import NoDrift
from ..manifolds import Sphere
from ..noises import AbstractMatrixNoise, AbstractNoise, Calculus, Sum
from ._abstract import AbstractGeometricSolver


class ProjectiveFlow(AbstractGeometricSolver, diffrax.AbstractStratonovichSolver):
    """Shared matrix noise as the normalised flow of a linear equation.

    dX = -P_X ∂A X on the sphere is what dY = -∂A Y looks like after normalising, so one step is

        x_a ← exp(Ω) x_a / |exp(Ω) x_a|,   Ω = `noise.log_flow(t, ΔB, h)`,

    one random linear map for all tokens. Weak order that of the noise's `log_flow` (2 for
    `IsotropicNoise`), strong order 1/2. Further noises of a `noises.Sum` are added after the map,
    along geodesics; the weak order with them is 1.

    A drift is added by Strang splitting: half a step of drift by Euler's method, noise, half a step
    by its adjoint, for one evaluation of the drift a step. It is evaluated where a whole step with
    the velocity at the start leads after the noise, and what is found there is the velocity at the
    end of this step and at the start of the next one. It is off by h^(3/2) in an odd function of
    the noise, and moments by h³ in a step, which weak order 2 allows (derived, and tested against
    backward equations). The first step of a save interval evaluates the drift once more.

    As the map is rotation invariant in law, three identities hold for EVERY step length: the mean
    angle of two tokens is conserved, P(two tokens end aligned) = 1 - θ/π, and E ln det G is
    linear in time. What h changes is the clock: keep the control number n h (sigma_s² +
    sigma_a²) below 1; above 2 `rqf_jax.simulate` warns.

    The exponential of Ω is as good as the step asks for. Where the noise is a rotation, or mostly
    one, and in dimensions up to 4, it is exact to rounding, so that a rotation keeps overlaps at
    every step length. Elsewhere nothing is conserved, and for small control numbers a polynomial of
    degree 2 to 6 does (a truncation keeps the three identities, being still one rotation-invariant
    map): for N ≥ n as a matrix, else as Taylor terms applied to the tokens.

    Source: the projectivised linear flow is classical (see Engel & Shalova, arXiv:2603.06187, for
    this equation); the coefficients of Ω are derived in `IsotropicNoise.log_flow`.
    """

    level: int | None = eqx.field(
        static=True, default=None, converter=field("level", maybe(one_of(0, 1, 2)))
    )
    """The accuracy of exp(Ω): 0 a polynomial of degree 2, 1 of degree 4 to 6, 2 to rounding.

    None asks the noise what is good for the step at hand (`AbstractMatrixNoise.level`). In
    dimensions up to 4 every level is exact."""

    def begin(self, sde: SDE, t, x: Float[Array, "tokens dim"]):
        """The velocity by the drift; None without one."""
        if isinstance(sde.drift, NoDrift):
            return None
        with jax.default_matmul_precision("highest"):
            return sde.manifold.tangent(x, sde.drift(t, x))

    def advance(
        self,
        sde: SDE,
        t,
        h,
        x: Float[Array, "tokens dim"],
        dw: Float[Array, "*noise"],
    ) -> Float[Array, "tokens dim"]:
        """A step with the velocity at its own start."""
        return self.follow(sde, t, h, x, dw, self.begin(sde, t, x))[0]

    def follow(
        self, sde: SDE, t, h, x: Float[Array, "tokens dim"], dw: Float[Array, "*noise"], handed
    ):
        """Half a drift step, the linear map, half a drift step; the velocity at the end.

        Straight steps, projected afterwards, are off geodesics by the cube of the step, and by its
        square times the normal part of the velocity, which is of order h or odd in the noise.
        """
        if self.level is None:
            solvers, index = self.variants(sde, x, h)
            solvers = cast(Sequence[ProjectiveFlow], solvers)
            steps = [lambda s=solver: s.follow(sde, t, h, x, dw, handed) for solver in solvers]
            return lax.switch(index, steps) if len(steps) > 1 else steps[0]()
        manifold, (tokens, dim) = sde.manifold, x.shape
        flow = _small_flow if is_tiny(dim) else _FLOWS[self.level]
        (shared, part), *others = _parts(sde.noise, x, dw)
        with jax.default_matmul_precision("highest"):
            if handed is not None:
                # Half a step, and a whole one, which the noise takes to where this one will end.
                # Lengths do not matter to a linear map.
                x = jnp.concatenate([x + handed * (h / 2), x + handed * h])
            x = flow(cast(AbstractMatrixNoise, shared), t, h, x, part)
            for noise, part in others:
                step = noise(t, x[:tokens], part)
                step = step if handed is None else jnp.concatenate([step, step])
                x = manifold.retract(x, manifold.tangent(x, step))
            if handed is None:
                return x, None
            handed = self.begin(sde, t + h, x[tokens:])
            return manifold.project(x[:tokens] + handed * (h / 2)), handed

    def variants(
        self, sde: SDE, x: Float[Array, "tokens dim"], h: Float[Array, ""]
    ) -> tuple[Sequence[diffrax.AbstractSolver], Int[Array, ""] | int]:
        """Solvers with one polynomial each, and the index of the first good for steps of length h.

        The choice costs as much as a step, so it is to be made once for many of them.
        """
        if self.level is not None or is_tiny(x.shape[-1]):
            return [ProjectiveFlow(level=self.level or 0)], 0
        noise = cast(AbstractMatrixNoise, shared_matrix(sde.noise))
        return [ProjectiveFlow(level=i) for i in range(len(_FLOWS))], noise.level(x.shape[-1], h)

    def explicit_part(self, sde: SDE) -> SDE:
        """All of it."""
        return sde

    def misfit(self, sde: SDE) -> str | None:
        """Anything but a shared matrix noise on the sphere, alone or with others."""
        if not isinstance(sde.manifold, Sphere):
            return f"{type(sde.manifold).__name__} is not the sphere"
        if shared_matrix(sde.noise) is None:
            return f"{type(sde.noise).__name__} is not one matrix shared by all tokens"
        for noise in sde.noise.noises if isinstance(sde.noise, Sum) else ():
            calculus = noise.calculus(sde.manifold)
            if not isinstance(noise, AbstractMatrixNoise) and calculus not in _GEODESIC:
                return f"beside the matrix, {type(noise).__name__} needs {calculus.value}"
        return None

    def order(self, terms):
        """2 without noise."""
        return 2

    def strong_order(self, terms):
        """1/2."""
        return 0.5


_GEODESIC = (Calculus.EITHER, Calculus.ITO)
"""The kinds of noise beside the matrix whose increment a geodesic step may use once."""


def shared_matrix(noise: AbstractNoise) -> AbstractMatrixNoise | None:
    """The one shared matrix noise that `noise` is or has as a part; None if there is not one."""
    parts = noise.noises if isinstance(noise, Sum) else (noise,)
    matrices = [part for part in parts if isinstance(part, AbstractMatrixNoise)]
    return matrices[0] if len(matrices) == 1 else None


def _parts(noise: AbstractNoise, x: Float[Array, "tokens dim"], dw: Float[Array, "..."]):
    """Noises and their increments, the shared matrix first."""
    pairs = zip(noise.noises, noise.parts(x, dw), strict=True) if isinstance(noise, Sum) else []
    pairs = list(pairs) or [(noise, dw)]
    return sorted(pairs, key=lambda pair: not isinstance(pair[0], AbstractMatrixNoise))


def _small_flow(noise: AbstractMatrixNoise, t, h, x, dw):
    """The exponential to rounding, which costs next to nothing in tiny dimensions."""
    return directions(noise.log_flow(t, in_lanes(dw), h, degree=12), x)


def _quadratic_flow(noise: AbstractMatrixNoise, t, h, x, dw):
    """1 + Ω + Ω²/2: one product."""
    omega, trace, identity = _traced(noise, t, h, x, dw, degree=2)
    if x.shape[0] < x.shape[1]:
        return _normalised(taylor(omega, trace, x, 2))
    constant, linear = 1 - trace + trace * trace / 2, 1 - trace
    return _normalised(transform(identity * constant + omega * linear + (omega @ omega) * 0.5, x))


def _short_flow(noise: AbstractMatrixNoise, t, h, x, dw):
    """Taylor's polynomial of degree 6 of few tokens; of many, its matrix of degree 4 in halves."""
    omega, trace, identity = _traced(noise, t, h, x, dw, degree=6)
    if x.shape[0] < x.shape[1]:
        return _normalised(taylor(omega, trace, x, 6))
    half = (omega - identity * trace) * 0.5
    square = half @ half
    root = identity + half + square @ (identity * 0.5 + half * (1 / 6) + square * (1 / 24))
    return _normalised(transform(root @ root, x))


def _exact_flow(noise: AbstractMatrixNoise, t, h, x, dw):
    """The exponential to rounding."""
    omega, trace, identity = _traced(noise, t, h, x, dw, degree=12)
    # Twice the typical norm of a Gaussian matrix, which no step exceeds.
    size = jnp.sqrt(8 * noise.control(x.shape[-1], h))
    if x.shape[0] < x.shape[1]:
        return _normalised(act(omega, trace, x, size))
    return _normalised(x + transform(expm1(omega - identity * trace, size), x))


_FLOWS = (_quadratic_flow, _short_flow, _exact_flow)


def _traced(noise: AbstractMatrixNoise, t, h, x, dw, *, degree: int):
    """Ω, a number on its diagonal, and the identity.

    An exponential turns the trace part into a factor, which normalising removes; a polynomial has
    to be taken without it.
    """
    omega, dim = noise.log_flow(t, dw, h, degree=degree), x.shape[-1]
    return omega, jnp.sum(jnp.diagonal(omega)) / dim, jnp.eye(dim, dtype=x.dtype)


def _normalised(y):
    return y * lax.rsqrt(jnp.sum(y * y, -1, keepdims=True))
