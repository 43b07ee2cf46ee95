"""The spaces that states live in, each with three functions for solvers and one for checks.

A state of the sphere is a matrix of tokens, one unit vector a row; every row moves on its own
unit sphere, so the state space is the product (S^{n-1})^N.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._arguments import described
from ._linalg.lanes import row_dots

__all__ = [
    "AbstractLinearSpace",
    "AbstractManifold",
    "Euclidean",
    "Hermitian",
    "Sphere",
    "Symmetric",
    "WeylChamber",
]


def __dir__() -> list[str]:
    return __all__


class AbstractManifold(eqx.Module):
    """A submanifold of R^d on which an equation lives, given by three maps."""

    __repr__ = described

    @abc.abstractmethod
    def tangent(
        self, x: Float[Array, "*state"], v: Float[Array, "*state"]
    ) -> Float[Array, "*state"]:
        """The orthogonal projection of the ambient vector `v` on the tangent space at `x`."""

    @abc.abstractmethod
    def retract(
        self, x: Float[Array, "*state"], v: Float[Array, "*state"]
    ) -> Float[Array, "*state"]:
        """The point reached from `x` along the tangent vector `v` (the exponential map)."""

    @abc.abstractmethod
    def project(self, x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """The point of the manifold nearest to `x`."""

    @abc.abstractmethod
    def defect(self, x: Float[Array, "*state"]) -> Float[Array, ""]:
        """The distance of `x` from the manifold: 0 on it, the largest of its tokens' otherwise."""


class AbstractLinearSpace(AbstractManifold):
    """A linear subspace of R^d: its projection says it all, and straight lines are geodesics."""

    def tangent(
        self, x: Float[Array, "*state"], v: Float[Array, "*state"]
    ) -> Float[Array, "*state"]:
        """The projection of `v`, the same at every `x`."""
        return self.project(v)

    def retract(
        self, x: Float[Array, "*state"], v: Float[Array, "*state"]
    ) -> Float[Array, "*state"]:
        """x + v, projected, because rounding adds up in what no step takes away."""
        return self.project(x + v)

    def defect(self, x: Float[Array, "*state"]) -> Float[Array, ""]:
        """The largest entry of x - project(x)."""
        return jnp.max(jnp.abs(x - self.project(x)), initial=0)


class Euclidean(AbstractLinearSpace):
    """Flat space R^d: every vector is tangent."""

    def project(self, x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """`x` itself."""
        return x


class Symmetric(AbstractLinearSpace):
    """Real symmetric n × n matrices.

    Independent noise of variance 2g² in every entry becomes the noise of the Gaussian orthogonal
    ensemble by projection: variance 2g² on the diagonal and g² off it.
    """

    def project(self, x: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """(x + xᵀ)/2."""
        return (x + x.T) / 2


class Hermitian(AbstractLinearSpace):
    """Complex Hermitian n × n matrices, each written as ONE real matrix.

        x = Re H + Im H,   H = (x + xᵀ)/2 + i (x - xᵀ)/2

    Re H is symmetric and Im H antisymmetric, so every real matrix is one Hermitian matrix, with
    the same Frobenius norm: linear pulls, additive noise and distances need no other formula, and
    the engine sees a real state. Independent noise of variance 2g² in every entry is the noise of
    the Gaussian unitary ensemble: E|dH_ij|² = 2g² dt. `observables.hermitian` gives H,
    `observables.hermitian_spectrum` its eigenvalues.
    """

    def project(self, x: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """`x` itself."""
        return x


class WeylChamber(AbstractManifold):
    """Eigenvalues in strictly ascending order, an open part of R^n.

    Every vector is tangent, and a motion by straight lines may leave: solvers that keep the order
    are `solvers.BackwardEuler` and `solvers.MatrixJump`.
    """

    def tangent(self, x: Float[Array, " n"], v: Float[Array, " n"]) -> Float[Array, " n"]:
        """`v` itself."""
        return v

    def retract(self, x: Float[Array, " n"], v: Float[Array, " n"]) -> Float[Array, " n"]:
        """x + v, wherever that is."""
        return x + v

    def project(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The eigenvalues in order."""
        return jnp.sort(x)

    def defect(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """0 inside, infinite elsewhere: equal eigenvalues repel infinitely."""
        return jnp.where(jnp.all(jnp.diff(x) > 0), 0.0, jnp.inf).astype(x.dtype)


class Sphere(AbstractManifold):
    """Unit tokens: every row of the last axis lies on S^{n-1} in R^n.

    tangent    P_x v = v - <x, v> x
    retract    exp_x(v) = cos|v| x + (sin|v| / |v|) v, renormalised so that rounding cannot grow
    project    x / |x|

    All three act row by row and are smooth at v = 0.
    """

    def tangent(
        self, x: Float[Array, "*rows dim"], v: Float[Array, "*rows dim"]
    ) -> Float[Array, "*rows dim"]:
        """P_x v = v - <x, v> x."""
        return v - row_dots(x, v) * x

    def retract(
        self, x: Float[Array, "*rows dim"], v: Float[Array, "*rows dim"]
    ) -> Float[Array, "*rows dim"]:
        """exp_x(v), the great circle from `x` with initial velocity `v`, at time 1."""
        square = row_dots(v, v)
        # cos and sinc are analytic in |v|^2; the series keeps value and gradient exact at v = 0.
        small = square < 1e-6
        norm = jnp.sqrt(jnp.where(small, 1.0, square))
        cosine = jnp.where(small, 1 - square / 2 + square**2 / 24, jnp.cos(norm))
        sinc = jnp.where(small, 1 - square / 6 + square**2 / 120, jnp.sin(norm) / norm)
        return self.project(cosine * x + sinc * v)

    def project(self, x: Float[Array, "*rows dim"]) -> Float[Array, "*rows dim"]:
        """x / |x| for every row; NaN for a zero row, which has no nearest point."""
        return x / jnp.sqrt(row_dots(x, x))

    def defect(self, x: Float[Array, "*rows dim"]) -> Float[Array, ""]:
        """The largest | |x_a| - 1 | over the tokens."""
        return jnp.max(jnp.abs(jnp.sqrt(jnp.sum(x * x, -1)) - 1))
