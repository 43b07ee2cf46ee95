"""Where a state lives: three functions that solvers need of a manifold, and one that checks need.

A state of the sphere is a matrix of tokens, one unit vector a row; every row moves on its own
unit sphere, so the state space is the product (S^{n-1})^N.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._unrolled import row_dots


class AbstractManifold(eqx.Module):
    """A submanifold of R^d on which an equation lives, given by three maps."""

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
        """How far `x` is off the manifold: 0 on it, the largest distance of a token otherwise."""


class Euclidean(AbstractManifold):
    """Flat space R^d: every vector is tangent and straight lines are geodesics."""

    def tangent(
        self, x: Float[Array, "*state"], v: Float[Array, "*state"]
    ) -> Float[Array, "*state"]:
        """`v` itself."""
        return v

    def retract(
        self, x: Float[Array, "*state"], v: Float[Array, "*state"]
    ) -> Float[Array, "*state"]:
        """x + v."""
        return x + v

    def project(self, x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """`x` itself."""
        return x

    def defect(self, x: Float[Array, "*state"]) -> Float[Array, ""]:
        """Zero."""
        return jnp.zeros((), x.dtype)


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
