"""One path of the noise of `simulate`, taken step by step, for any number of states at once."""

import math
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float, Int, PRNGKeyArray, PyTree, UInt32

from .._brownian.path import draw, increment, stream
from .._ensemble.problem import Problem
from .._ensemble.times import SaveTimes
from .._sde import SDE, in_dtype
from ..manifolds import AbstractManifold
from ..noises import SpanNoise
from ..noises.field import AbstractDrawnNoise
from ..solvers import begin, micro_step

LONGEST = 8
"""At most so many micro-steps are taken at a time: noise is drawn, and frames are straightened,
between such blocks."""


class Flow(eqx.Module):
    """The stochastic flow of `sde` along the noise of one member, on the grid of `simulate`.

    `words` is the member's stream; a state moved by `interval` goes where `simulate` takes that
    member, if it starts there.
    """

    sde: SDE
    solver: diffrax.AbstractSolver
    times: SaveTimes
    words: UInt32[Array, "2"]
    substeps: int = eqx.field(static=True)

    @classmethod
    def of(cls, problem: Problem, dtype: jnp.dtype, noise_key: PRNGKeyArray) -> "Flow":
        """The flow of a problem, in a dtype, along the noise of one key."""
        return cls(
            in_dtype(problem.sde, dtype),
            problem.chosen,
            problem.times.astype(dtype),
            stream(noise_key),
            problem.substeps,
        )

    def begin(self, index: Int[Array, ""], x: PyTree[Array]) -> tuple[PyTree[Array], PyTree]:
        """A state at save `index`, with what the solver hands on from step to step."""
        return x, begin(self.solver, self.sde, self.times.at[index], x)

    def step(
        self,
        time: Float[Array, ""],
        h: Float[Array, ""],
        moving: tuple[PyTree[Array], PyTree],
        pairs: Complex[Array, "*half"],
    ) -> tuple[PyTree[Array], PyTree]:
        """One micro-step of one state and what goes with it."""
        x, handed = moving
        dw = increment(pairs, h, self.sde.noise.shape(x))
        return micro_step(self.solver, self.sde, time, h, x, dw, handed)

    def interval(
        self,
        index: Int[Array, ""],
        carry: PyTree[Array],
        body: Callable,
        shape: tuple[int, ...],
        after: Callable[[PyTree], PyTree] = lambda carry: carry,
    ) -> PyTree[Array]:
        """`carry` through one save interval: `body(carry, time, h, pairs)` for every micro-step,
        and `after(carry)` for every block of them. `shape` is that of the noise."""
        count = max(d for d in range(1, LONGEST + 1) if self.substeps % d == 0)
        h, start = self.times.lengths[index] / self.substeps, self.times.at[index]

        def block(carry, first):
            number = (index * self.substeps + first).astype(jnp.int32)
            pairs = draw(self.words, number, count, shape, start.dtype)
            offsets = (first + jnp.arange(count, dtype=jnp.int32)).astype(h.dtype) * h

            def micro(carry, xs):
                time, pairs = xs
                return body(carry, time, h, pairs), None

            carry = lax.scan(micro, carry, (start + offsets, pairs))[0]
            return after(carry), None

        firsts = count * jnp.arange(self.substeps // count, dtype=jnp.int32)
        return lax.scan(block, carry, firsts)[0]


def check_flow(sde: SDE) -> None:
    """Raise ValueError if one increment of the noise does not move every state."""
    drawn_for_one = (SpanNoise, AbstractDrawnNoise)
    parts = jax.tree.leaves(sde.noise, is_leaf=lambda part: isinstance(part, drawn_for_one))
    for part in parts:
        if isinstance(part, drawn_for_one):
            raise ValueError(
                "`sde` must have a noise whose increment moves all states alike; got "
                f"{type(part).__name__}, whose increment is drawn for one state: others under the "
                "same noise, and derivatives, have no meaning."
            )


def dimension(manifold: AbstractManifold, x: PyTree) -> int:
    """The dimension of the manifold with points like `x`, of which shapes count: tr P_x.

    Raises ValueError if it is 0, as for tokens in one dimension, which are 1 or -1 for ever.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), x)
    # Inside `jit` operations on known arrays are traced too, unless told otherwise.
    with jax.ensure_compile_time_eval():
        found = round(float(_trace(manifold, shapes)))
    if not found:
        raise ValueError(
            "`manifold` must leave states room to move; got states of shape "
            f"{jax.tree.map(jnp.shape, x)} on the {type(manifold).__name__}, which has dimension 0 "
            "there."
        )
    return found


@eqx.filter_jit
def _trace(manifold: AbstractManifold, shapes: PyTree) -> Float[Array, ""]:
    flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes))
    x = manifold.project(unravel(jax.random.normal(jax.random.key(0), flat.shape)))
    columns = jax.vmap(lambda unit: ravel_pytree(manifold.tangent(x, unravel(unit)))[0])
    return jnp.trace(columns(jnp.eye(flat.size, dtype=flat.dtype)))


def tangent_basis(
    manifold: AbstractManifold, x: Float[Array, "*state"], modes: int
) -> Float[Array, "modes *state"]:
    """An orthonormal basis of the tangent space at `x`, which has `modes` dimensions."""
    vectors = jnp.linalg.eigh(_projector(manifold, x))[1]
    return vectors[:, vectors.shape[0] - modes :].T.reshape(modes, *x.shape)


def _projector(manifold: AbstractManifold, x: Float[Array, "*state"]) -> Float[Array, "size size"]:
    size = math.prod(x.shape)
    units = jnp.eye(size, dtype=x.dtype).reshape(size, *x.shape)
    return jax.vmap(lambda v: manifold.tangent(x, v))(units).reshape(size, size)
