"""Equilibria of a drift on a manifold: where they are, what they are, and whether they attract."""

from typing import Any, cast

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
from jax import lax
from jaxtyping import Array, Bool, Complex, Float, Int

from .._arguments import finite, is_concrete, part, scalar
from .._ensemble.validity import check_flow
from .._sde import in_dtype
from ..drifts import AbstractDrift
from ..manifolds import AbstractManifold, Sphere
from ._flow import dimension, tangent_basis
from ._symmetry import neutral_by_symmetry
from .patterns import cluster_sizes, pattern

NEUTRAL = 1e-6
"""Rates below this part of the largest one are neutral: a symmetry moves the equilibrium."""


class Equilibria(eqx.Module):
    """Distinct equilibria, the most often reached first, and what the starts came to.

    `states` (equilibria, ...); `residuals` the largest entry of each one's velocity; `spectra`
    (equilibria, modes) eigenvalues of the tangent Jacobian, the least stable first; `neutral` how
    many of them are zero to 1e-6 of the largest; `metastable` whether more modes are neutral than
    symmetries of the drift explain, so that the state is at rest only to rounding, and `lifetimes`
    the time 1/|v| that its velocity v needs for a distance of 1 (an order of magnitude, at most
    1e16 times the fastest relaxation; infinite for the others); `kinds` and `sizes` the pattern of
    the tokens and the sizes of their clusters; `counts` how many of the `starts` initial states
    went to each.
    The rest had not settled.
    """

    states: Float[Array, "equilibria *state"]
    residuals: Float[np.ndarray, " equilibria"]
    spectra: Complex[np.ndarray, "equilibria modes"]
    neutral: Int[np.ndarray, " equilibria"]
    metastable: Bool[np.ndarray, " equilibria"]
    lifetimes: Float[np.ndarray, " equilibria"]
    counts: Int[np.ndarray, " equilibria"]
    kinds: tuple[str, ...] = eqx.field(static=True)
    sizes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    starts: int = eqx.field(static=True)

    @property
    def growth_rates(self) -> Float[np.ndarray, " equilibria"]:
        """The largest real part of the eigenvalues that are not neutral; -inf if there is none."""
        size = np.abs(self.spectra)
        neutral = size <= NEUTRAL * np.max(size, 1, keepdims=True)
        return np.max(np.where(neutral, -np.inf, np.real(self.spectra)), 1)

    @property
    def stable(self) -> tuple[bool, ...]:
        """True where all modes but the neutral ones decay and a symmetry explains those."""
        rates = zip(self.growth_rates, self.metastable, strict=True)
        return tuple(bool(rate < 0 and not slow) for rate, slow in rates)

    @property
    def unsettled(self) -> int:
        """The number of starts that reached no equilibrium in the given time."""
        return self.starts - int(np.sum(self.counts))

    def basin_frequencies(
        self,
    ) -> tuple[Float[np.ndarray, " equilibria"], Float[np.ndarray, " equilibria"]]:
        """The share of starts that went to each equilibrium, and its binomial standard error.

        p = k / m ± √(p (1 - p) / m),  k = `counts`, m = `starts`: an estimate of the measure of
        the basins where the starts are independent draws of a law.
        """
        share = self.counts / self.starts
        return share, np.sqrt(share * (1 - share) / self.starts)

    def __repr__(self) -> str:
        head = f"Equilibria({len(self.kinds)} of {self.starts} starts, {self.unsettled} unsettled)"
        share, error = self.basin_frequencies()
        lines = [
            f"{kind:<10} {'+'.join(map(str, sizes)):<10} max Re {rate:+.4f}  neutral {neutral}  "
            f"basin {p:.3f} ± {e:.3f}{f'  metastable, lifetime ~{life:.0e}' if slow else ''}"
            for kind, sizes, rate, neutral, p, e, slow, life in zip(
                self.kinds,
                self.sizes,
                self.growth_rates,
                self.neutral,
                share,
                error,
                self.metastable,
                self.lifetimes,
                strict=True,
            )
        ]
        return "\n".join([head, *lines])


def find_equilibria(
    drift: AbstractDrift,
    manifold: AbstractManifold,
    starts: Float[Array, "starts *state"],
    *,
    duration: Any = 1000.0,
    tolerance: float | None = None,
) -> Equilibria:
    """The attracting equilibria of dX = P_X f(X) dt that are reached from `starts`.

    Every start flows (adaptive Tsit5) until its velocity is small, at most for `duration`, and
    Newton's method in a chart of the tangent space takes it the rest of the way. A start counts as
    settled if the flow had come to rest, the velocity is at most `tolerance` in the end (default
    eps^{2/3}: 4e-11 in float64) and Newton did not take it elsewhere. The drift is taken at t = 0.
    An unstable equilibrium in the result is a saddle where some start was slow enough to pass for
    at rest (velocity 1e-7 in float64; in float32, where it is 1e-4, 1 of 100 starts in one of the
    tests' problems): `growth_rates` tells. Saddles are looked for by `equilibrium`.

    Tokens far apart under a sharp attention move so slowly that rounding hides it: β = 30 leaves
    velocities of e^-38. Such a state is reported with `metastable`, and is not `stable`: some of
    its modes are neutral to 1e-6 of the fastest, and no rotation that the drift commutes with, of
    all tokens or of one, explains them. (A family of equilibria for another reason is called
    metastable as well.)

    States of tokens are one equilibrium if they agree up to the order of the tokens, their
    common sign and a rotation: sorted overlaps and Jacobian spectra are compared, to 1e-4 (so
    equilibria that a symmetry of the drift exchanges are one). Elsewhere than on the sphere states
    are compared as they are.

    **Arguments**

    - `drift`: f, any drift; `manifold`: the space of the states.
    - `starts`: (starts, *state), on the manifold.
    - `duration`: the longest time > 0 that a start may flow.
    - `tolerance`: the largest velocity that counts as none, in units of velocity.

    **Returns** `Equilibria`, the most frequent first.

    **Raises** ValueError if `starts` is empty, not finite or not on the manifold (1e-5), for a
    `duration` that is not positive, and if no start settles.

    **Example**

    >>> sphere = rqf.manifolds.Sphere()
    >>> starts = sphere.project(jax.random.normal(jax.random.key(0), (8, 3, 3)))
    >>> found = rqf.analysis.find_equilibria(rqf.drifts.Attention(1.0), sphere, starts)
    >>> found.sizes  # all tokens in one point
    ((3,),)
    """
    drift, manifold, starts = _checked(drift, manifold, starts, "starts")
    duration = scalar("duration", minimum=0)(duration)
    if not float(duration) > 0:
        raise ValueError(f"`duration` must be positive; got {float(duration):g}.")
    if tolerance is None:
        tolerance = _tolerance(starts.dtype)
    tolerance = float(scalar("tolerance", minimum=0)(tolerance))
    states, residuals, settled = _settle(
        drift,
        manifold,
        starts,
        duration.astype(starts.dtype),
        dimension(manifold, starts[0]),
    )
    found = np.flatnonzero(np.asarray(settled) & (np.asarray(residuals) <= tolerance))
    if not found.size:
        raise ValueError(
            "`duration` must be long enough for some start to settle to `tolerance`; got "
            f"{float(duration):g}."
        )
    states, residuals = states[found], np.asarray(residuals, float)[found]
    spectra = _spectra(drift, manifold, states)
    on_sphere = isinstance(manifold, Sphere) and states.ndim == 3
    first, labels = _distinct(_fingerprints(np.asarray(states, float), spectra, on_sphere))
    counts = np.bincount(labels)
    order = np.argsort(-counts, kind="stable")
    chosen = first[order]
    tokens = [np.asarray(states[i], float) for i in chosen]
    size = np.abs(spectra[chosen])
    neutral = np.sum(size <= NEUTRAL * np.max(size, 1, keepdims=True), 1)
    unexplained = np.array(
        [
            on_sphere and neutral_by_symmetry(drift, manifold, states[i], int(count)) < count
            for i, count in zip(chosen, neutral, strict=True)
        ]
    )
    # Velocities are known to the rounding of the largest rate; a token moves by 1 in the inverse.
    slowest = np.maximum(residuals[chosen], float(jnp.finfo(states.dtype).eps) * size.max(1))
    return Equilibria(
        states=states[chosen],
        residuals=residuals[chosen],
        spectra=spectra[chosen],
        neutral=neutral,
        metastable=unexplained,
        lifetimes=np.where(unexplained, 1 / np.maximum(slowest, 1e-300), np.inf),
        counts=counts[order],
        kinds=tuple(pattern(x) if on_sphere else "point" for x in tokens),
        sizes=tuple(cluster_sizes(x) if on_sphere else () for x in tokens),
        starts=len(starts),
    )


def equilibrium(
    drift: AbstractDrift, manifold: AbstractManifold, start: Float[Array, "*state"]
) -> Float[Array, "*state"]:
    """The equilibrium that Newton's method finds from `start`, stable or not.

        B_sᵀ f(exp_s(B_s v)) = 0,   x = exp_s(B_s v),   B_s a basis of the tangent space at s

    Steps and derivatives are least-squares solutions, so neutral directions are left alone. The
    result is differentiable in the parameters of `drift` by the implicit function theorem,
    dx = -J⁺ ∂f, J⁺ the pseudo-inverse: along a family of equilibria it is the derivative that does
    not drift along the family. The result is NaN if Newton's method does not converge in 64 steps.

    Raises ValueError if `start` is not finite or not on the manifold, to 1e-5.
    """
    drift, manifold, start = _checked(drift, manifold, start, "start")
    return _newton(drift, manifold, start, dimension(manifold, start))


def stability(
    drift: AbstractDrift, manifold: AbstractManifold, x: Float[Array, "*state"]
) -> Complex[np.ndarray, " modes"]:
    """Eigenvalues of the Jacobian of the velocity on the tangent space at an equilibrium `x`.

        J = B_xᵀ D(P f)(x) B_x,   the least stable (largest real part) first

    Raises ValueError if `x` is not finite or not on the manifold, to 1e-5.
    """
    drift, manifold, x = _checked(drift, manifold, x, "x")
    return _spectra(drift, manifold, x[None])[0]


def gradient_defect(
    drift: AbstractDrift, manifold: AbstractManifold, x: Float[Array, "*state"]
) -> Float[Array, ""]:
    """The distance of the velocity from a gradient field at `x`: |J - Jᵀ| / |J|, Frobenius norms.

    J = B_xᵀ D(P f)(x) B_x is the covariant derivative, and a field is locally a gradient if and
    only if it is symmetric everywhere (Schwarz). At most 2; 0 where J vanishes.

    Raises ValueError if `x` is not finite or not on the manifold, to 1e-5.
    """
    drift, manifold, x = _checked(drift, manifold, x, "x")
    jacobian = _jacobians(drift, manifold, x[None], dimension(manifold, x))[0]
    size = jnp.sqrt(jnp.sum(jacobian**2))
    skew = jnp.sqrt(jnp.sum((jacobian - jacobian.T) ** 2))
    return jnp.where(size == 0, 0.0, skew / jnp.where(size == 0, 1.0, size))


def _tolerance(dtype) -> float:
    return float(jnp.finfo(dtype).eps) ** (2 / 3)


def _checked(drift, manifold, x, name: str):
    """The arguments, with the drift's parameters in the dtype of the state."""
    part(AbstractDrift)("drift", drift)
    part(AbstractManifold)("manifold", manifold)
    x = finite(name, x)
    if x.ndim < (2 if name == "starts" else 1) or not x.size:
        raise ValueError(f"`{name}` must be states with axes; got shape {x.shape}.")
    drift = in_dtype(drift, x.dtype)
    check_flow(drift, manifold, x[0] if name == "starts" else x)
    if is_concrete(x):
        # Inside `jit` operations on known arrays are traced too, unless told otherwise.
        with jax.ensure_compile_time_eval():
            defect = float(manifold.defect(x))
        if not defect <= 1e-5:
            raise ValueError(
                f"`{name}` must lie on the {type(manifold).__name__}, to 1e-05; got a state that "
                f"is off by {defect:.3g}."
            )
    return drift, manifold, x


def _velocity(drift, manifold, x):
    return manifold.tangent(x, drift(jnp.zeros((), x.dtype), x))


@eqx.filter_jit
def _newton(drift, manifold, start, modes: int):
    start = lax.stop_gradient(manifold.project(start))
    basis = tangent_basis(manifold, start, modes)

    def point(v):
        return manifold.retract(start, jnp.tensordot(v, basis, 1))

    def residual(v, drift):
        return jnp.tensordot(basis, _velocity(drift, manifold, point(v)), start.ndim)

    # Near an equilibrium a neutral direction has a rate as small as the velocity that is left.
    least_squares = lx.SVD(rcond=NEUTRAL)
    tolerance = _tolerance(start.dtype)
    solution = optx.root_find(
        residual,
        optx.Newton(rtol=tolerance, atol=tolerance, linear_solver=least_squares),
        jnp.zeros(modes, start.dtype),
        args=drift,
        max_steps=64,
        adjoint=optx.ImplicitAdjoint(linear_solver=least_squares),
        throw=False,
    )
    x = point(solution.value)
    return jnp.where(solution.result == optx.RESULTS.successful, x, jnp.nan)


@eqx.filter_jit
def _settle(drift, manifold, starts, duration, modes: int):
    """The end of every start, the velocity that is left there, and True if the flow had settled."""
    accuracy = max(1e-8, 100 * float(jnp.finfo(starts.dtype).eps))

    def velocity(t, x, args):
        # The state leaves the manifold by the error of a step; the velocity is that of its foot.
        return _velocity(drift, manifold, manifold.project(x))

    def one(start):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(velocity),
            diffrax.Tsit5(),
            t0=0.0,
            t1=duration,
            dt0=None,
            y0=start,
            stepsize_controller=diffrax.PIDController(rtol=accuracy, atol=accuracy),
            event=diffrax.Event(diffrax.steady_state_event(rtol=0.0, atol=10 * accuracy)),
            saveat=diffrax.SaveAt(t1=True),
            max_steps=None,
            adjoint=diffrax.ForwardMode(),
            throw=False,
        )
        flowed = manifold.project(cast(Array, solution.ys)[0])
        at_rest = solution.result == diffrax.RESULTS.event_occurred
        x = _newton(drift, manifold, flowed, modes)
        left = jnp.max(jnp.abs(_velocity(drift, manifold, x)))
        near = jnp.max(jnp.abs(x - flowed)) < 1e-2
        return x, left, at_rest & near

    return jax.vmap(one)(starts)


def _jacobian(drift, manifold, x, modes: int):
    basis = tangent_basis(manifold, x, modes)

    def along(v):
        return jax.jvp(lambda y: _velocity(drift, manifold, y), (x,), (v,))[1]

    return jnp.tensordot(
        jax.vmap(along)(basis).reshape(modes, -1), basis.reshape(modes, -1), ([1], [1])
    ).T


@eqx.filter_jit
def _jacobians(drift, manifold, states, modes: int):
    return jax.vmap(lambda x: _jacobian(drift, manifold, x, modes))(states)


def _spectra(drift, manifold, states) -> Complex[np.ndarray, "states modes"]:
    jacobians = _jacobians(drift, manifold, states, dimension(manifold, states[0]))
    values = np.linalg.eigvals(np.asarray(jacobians, float)).astype(complex)
    order = np.lexsort((-np.imag(values), -np.real(values)))
    return np.take_along_axis(values, order, axis=1)


def _fingerprints(states, spectra, on_sphere: bool) -> Float[np.ndarray, "states features"]:
    """Numbers that agree where states are one equilibrium."""
    flat = states.reshape(len(states), -1)
    if not on_sphere:
        return flat
    overlaps = np.sort((states @ np.swapaxes(states, 1, 2)).reshape(len(states), -1), axis=1)
    scale = np.maximum(1.0, np.abs(spectra).max(1, keepdims=True))
    # Real and imaginary parts are sorted apart: a pair at equal rates has no order of its own.
    real, imaginary = np.real(spectra), np.abs(np.imag(spectra))
    parts = [np.sort(real, 1) / scale, np.sort(imaginary, 1) / scale]
    return np.concatenate([overlaps, *parts], axis=1)


def _distinct(features) -> tuple[Int[np.ndarray, " distinct"], Int[np.ndarray, " states"]]:
    """The first row of every kind, and the kind of every row."""
    first: list[int] = []
    labels = np.empty(len(features), int)
    for i, row in enumerate(features):
        near = [k for k, j in enumerate(first) if np.max(np.abs(row - features[j])) < 1e-4]
        labels[i] = near[0] if near else len(first)
        if not near:
            first.append(i)
    return np.asarray(first), labels
