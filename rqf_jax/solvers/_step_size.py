"""Warnings of steps that are too long for an equation, found before anything is simulated."""

import math
import warnings

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._sde import SDE
from ..drifts import NoDrift
from ._abstract import AbstractGeometricSolver
from .projective import shared_matrix

_CONTROL = 2.0
"""Control numbers of matrix noise above this are warned of; weak order 2 shows below 1."""

_STEP = 1.0
"""The largest step, in units of one over the drift's rate, for which an explicit step is good: it
is off by some 10 % of a relaxation there, and grows without end above 2."""

_ITERATIONS = 16


def warn_of_long_steps(
    solver: diffrax.AbstractSolver,
    sde: SDE,
    t: float,
    h: float,
    dim: int,
    x: Float[Array, "*state"] | None,
    *,
    stacklevel: int,
) -> None:
    """Warn if a step of length `h` is too long for the shared matrix noise or the drift of `sde`.

    `x` is an initial state, at which the rate of the drift is found, or None where it is not known;
    `dim` its last size. Noise is looked at through `AbstractMatrixNoise.control`, and the drift
    only where the solver is explicit in it (`AbstractGeometricSolver.explicit`).
    """
    noise = shared_matrix(sde.noise)
    # Inside `jit` operations on known arrays are traced too, unless told otherwise.
    with jax.ensure_compile_time_eval():
        control = 0.0 if noise is None else float(noise.control(dim, jnp.asarray(h)))
        rate = 0.0
        if x is not None and _is_explicit(solver, sde):
            # Arrays: another time or step compiles nothing.
            rate = float(_rate(sde, jnp.asarray(t), jnp.asarray(h), x))
    if control > _CONTROL:
        excess, part = control, "noise: its control number, n h (sigma_s² + sigma_a²) where it is"
        part = f"{part} isotropic, is {control:.3g}"
    elif not h * rate <= _STEP:
        excess, part = h * rate, f"drift: h times its rate, {rate:.3g} per unit time near the start"
        part = f"{part}, is {excess:.3g}"
    else:
        return
    more = f"{excess:.3g} times as many" if math.isfinite(excess) else "many more"
    warnings.warn(
        f"the step h = {h:.3g} is long for this {part} and should be at most 1. Use {more} "
        "`substeps`.",
        stacklevel=stacklevel + 1,
    )


def _is_explicit(solver: diffrax.AbstractSolver, sde: SDE) -> bool:
    if isinstance(sde.drift, NoDrift):
        return False
    if isinstance(solver, AbstractGeometricSolver):
        return solver.explicit
    return not isinstance(solver, diffrax.AbstractImplicitSolver)


@eqx.filter_jit
def _rate(sde: SDE, t, h, x: Float[Array, "*state"]) -> Float[Array, ""]:
    """The larger of the drift's rates at `x` and where a step of Euler's leads from there."""
    arrays, rest = eqx.partition(sde, eqx.is_inexact_array)
    sde = eqx.combine(jax.tree.map(lambda a: a.astype(x.dtype), arrays), rest)
    t, h = jnp.asarray(t, x.dtype), jnp.asarray(h, x.dtype)

    def velocity(y):
        return sde.manifold.tangent(y, sde.drift(t, y))

    def rate(y):
        # Power iteration for the largest modulus of an eigenvalue of the tangent Jacobian.
        def iterate(v, _):
            w = sde.manifold.tangent(y, jax.jvp(velocity, (y,), (v,))[1])
            size = jnp.sqrt(jnp.sum(w * w))
            return w / jnp.where(size > 0, size, 1), size

        v = sde.manifold.tangent(y, jax.random.normal(jax.random.key(0), y.shape, y.dtype))
        v = v / jnp.sqrt(jnp.sum(v * v))
        sizes = lax.scan(iterate, v, length=_ITERATIONS)[1]
        # A pair of complex eigenvalues turns vectors, whose growth is that of many steps.
        return jnp.exp(jnp.mean(jnp.log(sizes[_ITERATIONS // 2 :])))

    return jnp.maximum(rate(x), rate(sde.manifold.retract(x, h * velocity(x))))
