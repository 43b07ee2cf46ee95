"""The projective flow: shared matrix noise on the sphere, exactly as a linear map."""

from functools import partial
from typing import cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._arguments import field, maybe, one_of
from .._linalg.unrolled import LIMIT, Unrolled, transform
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

    The exponential is a polynomial in Ω, of the degree that the control number asks for (a
    truncation keeps the three identities, being still one rotation-invariant map): for N ≥ n, and
    where n is tiny, the matrix by scaling and squaring, else Taylor terms applied to the tokens.

    Source: the projectivised linear flow is classical (see Engel & Shalova, arXiv:2603.06187, for
    this equation); the coefficients of Ω are derived in `IsotropicNoise.log_flow`.
    """

    level: int | None = eqx.field(
        static=True, default=None, converter=field("level", maybe(one_of(0, 1, 2)))
    )
    """The polynomial: 0 is quadratic, for `noise.quadratic` steps, 1 and 2 are good for control
    numbers up to 1 and about 4; None is the first that is good for the step at hand. In dimensions
    up to 4 there is only the best."""

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
            steps = [lambda s=solver: s.follow(sde, t, h, x, dw, handed) for solver in solvers]
            return lax.switch(index, steps) if len(steps) > 1 else steps[0]()
        manifold, (tokens, dim) = sde.manifold, x.shape
        flow = _unrolled_flow if dim <= LIMIT else _LEVELS[self.level]
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

    def variants(self, sde: SDE, x: Float[Array, "tokens dim"], h: Float[Array, ""]):
        """Solvers with one polynomial each, and the index of the first good for steps of length h.

        The choice costs as much as a step, so it is to be made once for many of them.
        """
        if self.level is not None or x.shape[-1] <= LIMIT:
            return [ProjectiveFlow(level=self.level or 0)], 0
        noise = cast(AbstractMatrixNoise, shared_matrix(sde.noise))
        quadratic = noise.quadratic(x.shape[-1], h)
        index = jnp.where(quadratic, 0, 1 + (noise.control(x.shape[-1], h) > 1).astype(jnp.int32))
        return [ProjectiveFlow(level=level) for level in range(len(_LEVELS))], index

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


def _unrolled_flow(noise: AbstractMatrixNoise, t, h, x, dw):
    """The map entry by entry: in tiny dimensions the best polynomial costs next to nothing."""
    omega = noise.log_flow(t, Unrolled.of(dw), h, degree=4)
    identity = Unrolled.of(jnp.eye(x.shape[-1], dtype=x.dtype))
    trace = sum(row[i] for i, row in enumerate(omega.rows)) / x.shape[-1]
    exponential = _exponential(omega + identity * -trace, identity, 3)
    # Normalised before it is one array: XLA would compute the exponential again for each use.
    columns = exponential.columns(x)
    scale = lax.rsqrt(sum(column * column for column in columns))
    return jnp.stack([column * scale for column in columns], axis=-1)


def _flow(noise: AbstractMatrixNoise, t, h, x, dw, *, degree: int, squarings: int):
    """The map of few tokens by a Taylor polynomial of `degree`, of many by its matrix."""
    tokens, dim = x.shape
    identity = jnp.eye(dim, dtype=x.dtype)
    omega = noise.log_flow(t, dw, h, degree=degree)
    # An exponential turns the trace part into a factor, which normalising removes; a polynomial
    # has to be taken without it, here Ω - τ, in terms that cost no pass over the matrix.
    trace = jnp.sum(jnp.diagonal(omega)) / dim
    if tokens < dim:
        y = _taylor(omega, trace, x, degree)
    elif degree == 2:
        constant, linear = 1 - trace + trace * trace / 2, 1 - trace
        y = transform(identity * constant + omega * linear + (omega @ omega) * 0.5, x)
    else:
        y = transform(_exponential(omega - identity * trace, identity, squarings), x)
    return y * lax.rsqrt(jnp.sum(y * y, -1, keepdims=True))


_LEVELS = (
    partial(_flow, degree=2, squarings=0),
    partial(_flow, degree=6, squarings=1),
    partial(_flow, degree=12, squarings=3),
)


def _exponential(omega, identity, squarings: int):
    """exp(Ω) ≈ p(Ω / 2^s)^(2^s) with p(Ω) = 1 + Ω + Ω²/2 + Ω³/6 + Ω⁴/24 in two products."""
    omega = omega * 2.0**-squarings
    square = omega @ omega
    result = identity + omega + square @ (identity * 0.5 + omega * (1 / 6) + square * (1 / 24))
    for _ in range(squarings):
        result = result @ result
    return result


def _taylor(omega, trace, x, degree: int):
    """Σ (Ω - τ)^k x / k! for k up to `degree`."""
    total = term = x
    for k in range(1, degree + 1):
        term = (transform(omega, term) - trace * term) * (1 / k)
        total = total + term
    return total
