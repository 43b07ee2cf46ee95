"""Warnings of steps that are too long for an equation, found before anything is simulated."""

import functools
import inspect
import math
import warnings
from collections.abc import Iterator, Sequence

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._arguments import hurried
from .._sde import SDE, in_dtype
from ..drifts import NoDrift
from ..manifolds import State
from ..noises import AbstractNoise, Product
from ._abstract import AbstractGeometricSolver
from .projective import shared_matrix

_CONTROL = 2.0
"""Control numbers of matrix noise above this are warned of; weak order 2 shows below 1."""

_STEP = 1.0
"""The largest step, in units of one over the drift's rate, for which an explicit step is good: it
is off by some 10 % of a relaxation there, and grows without end above 2."""

_ITERATIONS = 16
_OURS = {"rqf_jax", "equinox", "jaxtyping"}


def warn_of_long_steps(
    solver: diffrax.AbstractSolver,
    sde: SDE,
    steps: Sequence[tuple[float, float]],
    like: PyTree[jax.ShapeDtypeStruct | Array],
    x: State | None,
) -> None:
    """Warn if a step is too long for the shared matrix noise or the drift of `sde`.

    `steps` are times and lengths of some of them, such as the first and the longest. A state is
    `like` that one; `x` is an initial one, at which the rate of the drift is found, or None where
    it is not known. Noise is looked at through `AbstractMatrixNoise.control`, and the drift only
    where the solver is explicit in it (`AbstractGeometricSolver.explicit`).
    """
    longest = max(h for _, h in steps)
    # Inside `jit` operations on known arrays are traced too, unless told otherwise.
    with jax.ensure_compile_time_eval():
        control = float(_control(sde.noise, like, jnp.asarray(longest)))
        h, rate = longest, 0.0
        if x is not None and _is_explicit(solver, sde):
            ours = isinstance(solver, AbstractGeometricSolver)
            explicit = solver.explicit_part(sde) if ours else sde
            # Arrays: another time or step compiles nothing.
            # The seed is one that no initial state is made from: along itself it has no tangent.
            size = sum(y.size for y in jax.tree.leaves(x))
            along = np.random.default_rng(7_104_513_869).normal(size=size)
            rates = [
                float(_rate(explicit, np.asarray(t), np.asarray(h), x, along)) for t, h in steps
            ]
            h, rate = max(
                ((h, rate) for (_, h), rate in zip(steps, rates, strict=True)),
                key=lambda step: math.inf if math.isnan(step[1]) else step[0] * step[1],
            )
    if control > _CONTROL:
        h, excess = longest, control
        part = "noise: its control number, n h (sigma_s² + sigma_a²) where it is isotropic, is "
        part = f"{part}{control:.3g}"
    elif not h * rate <= _STEP:
        excess, part = h * rate, f"drift: h times its rate, {rate:.3g} per unit time near the start"
        part = f"{part}, is {excess:.3g}"
    else:
        return
    more = f"{excess:.3g} times as many" if math.isfinite(excess) else "many more"
    warn(
        f"the step h = {h:.3g} is long for this {part} and should be at most 1. Use {more} "
        "`substeps`."
    )


def warn(text: str) -> None:
    """Warn at the line of the user, the innermost one outside of this package and its checks."""
    frame, level = inspect.currentframe(), 0
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level + 1)


@hurried
def _control(
    noise: AbstractNoise, like: PyTree[jax.ShapeDtypeStruct | Array], h: Float[Array, ""]
) -> Float[Array, ""]:
    """The largest control number, 0 without shared matrix noise."""
    return functools.reduce(jnp.maximum, _controls(noise, like, h), jnp.zeros_like(h))


def _controls(
    noise: AbstractNoise, like: PyTree[jax.ShapeDtypeStruct | Array], h: Float[Array, ""]
) -> Iterator[Float[Array, ""]]:
    """The control number of every shared matrix noise, of all parts of a state."""
    if isinstance(noise, Product):
        for one, part in noise.pairs(like):
            yield from _controls(one, part, h)
        return
    matrix = shared_matrix(noise)
    if matrix is not None:
        yield matrix.control(like.shape[-1], h)


def _is_explicit(solver: diffrax.AbstractSolver, sde: SDE) -> bool:
    if isinstance(sde.drift, NoDrift):
        return False
    if isinstance(solver, AbstractGeometricSolver):
        return solver.explicit
    return not isinstance(solver, diffrax.AbstractImplicitSolver)


@hurried
def _rate(sde: SDE, t, h, x: State, along) -> Float[Array, ""]:
    """The larger of the drift's rates at `x` and where a step of Euler's leads from there.

    `along` is any vector of as many numbers: where the search for the fastest direction starts.
    """
    # One axis for all numbers of a state: the norm of all its parts together.
    start, whole = ravel_pytree(x)
    sde = in_dtype(sde, start.dtype)
    t, h, along = (jnp.asarray(given, start.dtype) for given in (t, h, along))

    def tangent(y, v):
        return ravel_pytree(sde.manifold.tangent(whole(y), whole(v)))[0]

    def velocity(y):
        return tangent(y, ravel_pytree(sde.drift(t, whole(y)))[0])

    def rate(y):
        # Power iteration for the largest modulus of an eigenvalue of the tangent Jacobian.
        def iterate(v, _):
            w = tangent(y, jax.jvp(velocity, (y,), (v,))[1])
            size = jnp.sqrt(jnp.sum(w * w))
            return w / jnp.where(size > 0, size, 1), size

        v = tangent(y, along)
        size = jnp.sqrt(jnp.sum(v * v))
        v = v / jnp.where(size > 0, size, 1)
        sizes = lax.scan(iterate, v, length=_ITERATIONS)[1]
        # A pair of complex eigenvalues turns vectors, whose growth is that of many steps.
        return jnp.exp(jnp.mean(jnp.log(sizes[_ITERATIONS // 2 :])))

    moved = ravel_pytree(sde.manifold.retract(x, whole(h * velocity(start))))[0]
    return jnp.max(jax.vmap(rate)(jnp.stack([start, moved])))
