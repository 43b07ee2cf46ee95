"""One path of the noise of `simulate`, taken step by step, for any number of states at once."""

import math
from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float, Int, PyTree, UInt32

from .._brownian.path import draw, increment
from .._sde import SDE
from ..manifolds import AbstractManifold
from ..noises import AbstractFieldNoise, SpanNoise
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
    ts: Float[Array, " times"]
    words: UInt32[Array, "2"]
    substeps: int = eqx.field(static=True)

    def begin(self, time: Float[Array, ""], x: Float[Array, "*state"]) -> tuple[Array, PyTree]:
        """A state at a save time, with what the solver hands on from step to step."""
        return x, begin(self.solver, self.sde, time, x)

    def step(
        self,
        time: Float[Array, ""],
        h: Float[Array, ""],
        moving: tuple[Float[Array, "*state"], PyTree],
        pairs: Complex[Array, "*half"],
    ) -> tuple[Float[Array, "*state"], PyTree]:
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
        h = (self.ts[index + 1] - self.ts[index]) / self.substeps

        def block(carry, first):
            number = (index * self.substeps + first).astype(jnp.int32)
            pairs = draw(self.words, number, count, shape, self.ts.dtype)
            offsets = (first + jnp.arange(count, dtype=jnp.int32)).astype(h.dtype) * h

            def micro(carry, xs):
                time, pairs = xs
                return body(carry, time, h, pairs), None

            carry = lax.scan(micro, carry, (self.ts[index] + offsets, pairs))[0]
            return after(carry), None

        firsts = count * jnp.arange(self.substeps // count, dtype=jnp.int32)
        return lax.scan(block, carry, firsts)[0]


def check_flow(sde: SDE) -> None:
    """Raise ValueError if one increment of the noise does not move every state."""
    drawn_for_one = (SpanNoise, AbstractFieldNoise)
    parts = jax.tree.leaves(sde.noise, is_leaf=lambda part: isinstance(part, drawn_for_one))
    for part in parts:
        if isinstance(part, drawn_for_one):
            raise ValueError(
                "`sde` must have a noise whose increment moves all states alike; got "
                f"{type(part).__name__}, whose increment is drawn for one state: others under the "
                "same noise, and derivatives, have no meaning."
            )


def cast(sde: SDE, dtype: jnp.dtype) -> SDE:
    """`sde` with its parameters in the dtype of the state, as the engine takes it."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, sde
    )


def dimension(manifold: AbstractManifold, shape: tuple[int, ...]) -> int:
    """The dimension of the manifold whose points are arrays of `shape`: the trace of P_x.

    Raises ValueError if it is 0, as for tokens in one dimension, which are 1 or -1 for ever.
    """
    # Inside `jit` operations on known arrays are traced too, unless told otherwise.
    with jax.ensure_compile_time_eval():
        found = round(float(_trace(manifold, shape)))
    if not found:
        raise ValueError(
            "`manifold` must leave states room to move; got states of shape "
            f"{shape} on the {type(manifold).__name__}, which has dimension 0 there."
        )
    return found


@eqx.filter_jit
def _trace(manifold: AbstractManifold, shape: tuple[int, ...]) -> Float[Array, ""]:
    x = manifold.project(jax.random.normal(jax.random.key(0), shape))
    return jnp.trace(_projector(manifold, x))


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
