"""Descents under ONE noise: copies with different first weights, and small differences of weights.

A seed has one noise: its batches, masks and labels. `Copies` lets several first weights learn by
it, `Tangents` follows differences that are infinitely small. Both are processes, for `train`.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._arguments import integer, part
from ._abstract import AbstractProcess
from ._descent import AbstractDescent, Learner


class Copies(AbstractProcess[Learner]):
    """Several draws of the first weights that learn from the same batches, masks and labels.

    The weights that `train` saves have a first axis of copies. Copy 0 is the seed that `process`
    would be by itself. Do copies forget that they differed?

    **Arguments** `process`: a `Process`, or another descent; `copies`: at least 2. **Raises**
    ValueError for other values. **Example**

    >>> process = rqf.training.TeacherStudent(
    ...     jnp.eye(2), rqf.laws.Normal((2, 2)), learning_rate=0.1, batch=4
    ... )
    >>> pairs = rqf.training.Copies(process, 2)
    >>> rqf.training.train(pairs, [0, 10], seeds=5, key=jax.random.key(0)).ys.shape
    (5, 2, 2, 2, 2)
    """

    process: AbstractDescent
    copies: int = eqx.field(static=True, converter=partial(integer, "copies", minimum=2))

    def __check_init__(self):
        part(AbstractDescent)("process", self.process)

    def start(self, key: PRNGKeyArray) -> Learner:
        """Draws of the law, all with the examples and the memories of the first."""
        others = [jax.random.fold_in(key, i) for i in range(1, self.copies)]
        drawn = [self.process.start(one) for one in (key, *others)]
        first = drawn[0]
        alike = [Learner(d.point, d.frozen, d.optimiser, first.source, first.injections)
                 for d in drawn]  # fmt: skip
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *alike)

    def update(self, key: PRNGKeyArray, number: Int[Array, ""], state: Learner) -> Learner:
        """One update of every copy, by one draw of everything that is random."""
        return jax.vmap(lambda one: self.process.update(key, number, one))(state)

    def weights(self, state: Learner) -> PyTree:
        """The weights of all copies."""
        return eqx.filter_vmap(self.process.weights)(state)


class Frame(eqx.Module):
    """A learner, tangent vectors at it (as rows), and how much each has grown."""

    learner: Learner
    vectors: Float[Array, "exponents floats"]
    growth: Float[Array, " exponents"]


class Tangents(AbstractProcess[Frame]):
    """Small differences of weights that learn by the same noise, in place of the weights.

        V ← D update(w) V,   V = Q R,   growth_i = Σ ln |R_ii|

    `train` saves the growths, the largest first, of the seed that `process` would be by itself.
    Over k updates λ_i = growth_i/k are the Lyapunov exponents of learning: copies that are near
    meet if λ_1 < 0. For exponents with standard errors, after a transient of one save,

        runs = train(Tangents(process), [0, 1000, 2000], seeds=20, key=key)
        analysis.LyapunovSpectrum(runs.ts[1:], jnp.diff(runs.ys[:, 1:], axis=1))

    A momentum, and any memory of floats, is a part of what differs. Weights that do not learn are
    not.

    **Arguments** `process`: a `Process`, or another descent; `exponents`: how many, at most the
    number of weights that learn. **Raises** ValueError for other values. **Example**

    >>> process = rqf.training.TeacherStudent(
    ...     jnp.eye(2), rqf.laws.Normal((2, 2)), learning_rate=0.1, batch=1000
    ... )
    >>> runs = rqf.training.train(
    ...     rqf.training.Tangents(process), [0, 10], seeds=5, key=jax.random.key(0)
    ... )
    >>> bool(jnp.all(jnp.abs(runs.ys[:, 1, 0] / 10 - jnp.log(0.9)) < 0.02))
    True

    Source: Benettin et al. (1980), recalled; checked against `theory.synchronisation`.
    """

    process: AbstractDescent
    exponents: int = eqx.field(
        static=True, default=1, converter=partial(integer, "exponents", minimum=1)
    )

    def __check_init__(self):
        part(AbstractDescent)("process", self.process)
        point = eqx.filter_eval_shape(self.process.start, jax.random.key(0)).point
        count = sum(leaf.size for leaf in jax.tree.leaves(point))
        if self.exponents > count:
            raise ValueError(
                f"`exponents` must be at most {count}, the weights that learn; got "
                f"{self.exponents}."
            )

    def start(self, key: PRNGKeyArray) -> Frame:
        """The seed's start, and orthonormal directions of the weights that learn."""
        learner = self.process.start(key)
        flat = ravel_pytree(_floats(learner)[0])[0]
        point, shaped = ravel_pytree(learner.point)
        # Any generic frame will do, and the seed's own keys are spent.
        drawn = jax.random.normal(jax.random.key(0), (point.size, self.exponents), point.dtype)
        still = jax.tree.map(jnp.zeros_like, _floats(learner)[0])

        def placed(v):
            return ravel_pytree(eqx.tree_at(lambda one: one.point, still, shaped(v)))[0]

        vectors = jax.vmap(placed)(jnp.linalg.qr(drawn)[0].T)
        return Frame(learner, vectors, jnp.zeros(self.exponents, flat.dtype))

    def update(self, key: PRNGKeyArray, number: Int[Array, ""], state: Frame) -> Frame:
        """One update of the seed, and of its tangent vectors, which are straightened."""
        floats, rest = _floats(state.learner)
        flat, shaped = ravel_pytree(floats)

        def moved(flat):
            learner = self.process.update(key, number, eqx.combine(shaped(flat), rest))
            floats, rest_ = _floats(learner)
            return ravel_pytree(floats)[0], rest_

        def pushed(v):
            return jax.jvp(moved, (flat,), (v,), has_aux=True)

        # The seed is not mapped over, so that it is moved once for all vectors.
        flat, vectors, rest = jax.vmap(pushed, out_axes=(None, 0, None))(state.vectors)
        q, r = jnp.linalg.qr(vectors.T)
        growth = state.growth + jnp.log(jnp.abs(jnp.diagonal(r)))
        return Frame(eqx.combine(shaped(flat), rest), q.T, growth)

    def weights(self, state: Frame) -> Float[Array, " exponents"]:
        """The growths."""
        return state.growth


def _floats(learner: Learner) -> tuple[Learner, Learner]:
    """The arrays of floats, and all else."""
    return eqx.partition(learner, eqx.is_inexact_array)
