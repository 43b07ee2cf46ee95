"""The spaces that states live in, each with three functions for solvers and one for checks.

A state of the sphere is a matrix of tokens, one unit vector a row; every row moves on its own
unit sphere, so the state space is the product (S^{n-1})^N.
"""

import abc
import functools
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ._arguments import described, part
from ._linalg.lanes import row_dots

__all__ = [
    "AbstractLinearSpace",
    "AbstractManifold",
    "Euclidean",
    "Hermitian",
    "Product",
    "Sphere",
    "Symmetric",
    "WeylChamber",
]


def __dir__() -> list[str]:
    return __all__


State = PyTree[Float[Array, "..."]]
"""One state: an array of floats, or a pytree of such arrays."""


class AbstractManifold(eqx.Module):
    """A submanifold of R^d on which an equation lives, given by three maps.

    `axes` are the names of the axes of a state, such as ("tokens", "dim"); axes of one name have
    one size. Where it is None a state is any array that has axes, or a pytree of arrays. `states`
    is the plural noun by which errors call them.
    """

    axes: ClassVar[tuple[str, ...] | None] = None
    states: ClassVar[str] = "states"
    fault: ClassVar[Callable[..., str] | None] = None
    """A method that says what is wrong with a state that is off the manifold.

    It is the end of a sentence, after "must draw eigenvalues ". Without one the defect says it."""

    __repr__ = described

    @abc.abstractmethod
    def tangent(self, x: State, v: State) -> State:
        """The orthogonal projection of the ambient vector `v` on the tangent space at `x`."""

    @abc.abstractmethod
    def retract(self, x: State, v: State) -> State:
        """The point reached from `x` along the tangent vector `v` (the exponential map)."""

    @abc.abstractmethod
    def project(self, x: State) -> State:
        """The point of the manifold nearest to `x`."""

    @abc.abstractmethod
    def defect(self, x: State) -> Float[Array, ""]:
        """The distance of `x` from the manifold: 0 on it, the largest of its tokens' otherwise."""

    @property
    def parts(self) -> "PyTree[AbstractManifold] | None":
        """A manifold for every part of a state; None where a state is one."""
        return None

    def misfit(self, x: PyTree[jax.ShapeDtypeStruct]) -> str | None:
        """The rule that shapes like `x` break as a state, for an error; None if they keep it."""
        if self.parts is not None:
            names, manifolds, treedef = _named(self.parts)
            try:
                states = treedef.flatten_up_to(x)
            except ValueError:
                return f"a state with the parts of the manifold, {', '.join(names)}"
            found = [one.misfit(state) for one, state in zip(manifolds, states, strict=True)]
            rules = [f"{rule} at `{name}`" for name, rule in zip(names, found, strict=True) if rule]
            return rules[0] if rules else None
        shape = getattr(x, "shape", None)
        if self.axes is None:
            return "an array with axes" if shape == () else None
        sizes = dict(zip(self.axes, shape or (), strict=False))
        if shape == tuple(sizes.get(axis) for axis in self.axes):
            return None
        names = f"({', '.join(self.axes)}{',' if len(self.axes) == 1 else ''})"
        return f"{self.states}, an array of shape {names}"

    def stray(self, x: State, tolerance: float) -> str:
        """The rule that `x` breaks, which is off the manifold by more than `tolerance`."""
        if self.parts is not None:
            names, manifolds, treedef = _named(self.parts)
            parts = zip(names, manifolds, treedef.flatten_up_to(x), strict=True)
            name, one, state = max(parts, key=lambda part: float(part[1].defect(part[2])))
            return f"at `{name}` {one.stray(state, tolerance)}"
        if self.fault is not None:
            return f"{self.states} {self.fault(x)}"
        name = type(self).__name__
        return (
            f"{self.states} on the {name}, to {tolerance:g}; got one that is off by "
            f"{float(self.defect(x)):.3g}. Project it first: "
            f"`rqf_jax.manifolds.{name}().project(x0)`."
        )


class AbstractLinearSpace(AbstractManifold):
    """A linear subspace of R^d: its projection says it all, and straight lines are geodesics."""

    def tangent(self, x: State, v: State) -> State:
        """The projection of `v`, the same at every `x`."""
        return self.project(v)

    def retract(self, x: State, v: State) -> State:
        """x + v, projected, because rounding adds up in what no step takes away."""
        return self.project(jax.tree.map(jnp.add, x, v))

    def defect(self, x: State) -> Float[Array, ""]:
        """The largest entry of x - project(x)."""
        far = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b), initial=0), x, self.project(x))
        return functools.reduce(jnp.maximum, jax.tree.leaves(far))


class Euclidean(AbstractLinearSpace):
    """Flat space R^d, one array or a pytree of arrays: every vector is tangent."""

    def project(self, x: State) -> State:
        """`x` itself."""
        return x


class Symmetric(AbstractLinearSpace):
    """Real symmetric n × n matrices.

    Independent noise of variance 2g² in every entry becomes the noise of the Gaussian orthogonal
    ensemble by projection: variance 2g² on the diagonal and g² off it.
    """

    axes: ClassVar[tuple[str, ...] | None] = ("n", "n")
    states: ClassVar[str] = "symmetric matrices"

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

    axes: ClassVar[tuple[str, ...] | None] = ("n", "n")
    states: ClassVar[str] = "square matrices"

    def project(self, x: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """`x` itself."""
        return x


class WeylChamber(AbstractManifold):
    """Eigenvalues in strictly ascending order, an open part of R^n.

    Every vector is tangent, and a motion by straight lines may leave: solvers that keep the order
    are `solvers.BackwardEuler` and `solvers.MatrixJump`.
    """

    axes: ClassVar[tuple[str, ...] | None] = ("n",)
    states: ClassVar[str] = "eigenvalues"

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

    def fault(self, x: Float[Array, " n"]) -> str:
        """The first two that are not in order."""
        i = int(np.argmax(~(np.diff(np.asarray(x, float)) > 0)))
        return f"in strictly ascending order; got {x[i]:g} then {x[i + 1]:g} at index {i}."


class Sphere(AbstractManifold):
    """Unit tokens: every row of the last axis lies on S^{n-1} in R^n.

    tangent    P_x v = v - <x, v> x
    retract    exp_x(v) = cos|v| x + (sin|v| / |v|) v, renormalised so that rounding cannot grow
    project    x / |x|

    All three act row by row and are smooth at v = 0.
    """

    axes: ClassVar[tuple[str, ...] | None] = ("tokens", "dim")
    states: ClassVar[str] = "tokens"

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


class Product(AbstractManifold):
    """A manifold for every part of a composite state.

        Product({"x": Sphere(), "r": Euclidean()})   for states {"x": ..., "r": ...}

    `manifolds` is a pytree of manifolds; a state is a pytree like it, with the state of each in the
    place of the manifold. A flat composite state needs no product: `Euclidean` takes it whole.
    Raises ValueError for leaves that are no manifolds.
    """

    manifolds: PyTree[AbstractManifold]

    def __check_init__(self):
        for leaf in _leaves(self.manifolds):
            part(AbstractManifold)("manifolds", leaf)

    def tangent(self, x: State, v: State) -> State:
        """Part by part."""
        return self._mapped(lambda one, x, v: one.tangent(x, v), x, v)

    def retract(self, x: State, v: State) -> State:
        """Part by part."""
        return self._mapped(lambda one, x, v: one.retract(x, v), x, v)

    def project(self, x: State) -> State:
        """Part by part."""
        return self._mapped(lambda one, x: one.project(x), x)

    def defect(self, x: State) -> Float[Array, ""]:
        """The largest defect of a part."""
        found = self._mapped(lambda one, x: one.defect(x), x)
        return functools.reduce(jnp.maximum, _leaves(found))

    @property
    def parts(self) -> "PyTree[AbstractManifold] | None":
        """The manifolds."""
        return self.manifolds

    def _mapped(self, function: Callable, *states: State) -> State:
        return jax.tree.map(function, self.manifolds, *states, is_leaf=_is_manifold)


def _is_manifold(part: Any) -> bool:
    return isinstance(part, AbstractManifold)


def _leaves(manifolds: PyTree) -> list[Any]:
    return jax.tree.leaves(manifolds, is_leaf=_is_manifold)


def _named(
    parts: PyTree[AbstractManifold],
) -> tuple[list[str], list[AbstractManifold], Any]:
    """The manifolds of a state's parts, the name of each, and their structure."""
    named, treedef = jax.tree_util.tree_flatten_with_path(parts, is_leaf=_is_manifold)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in named]
    return names, [one for _, one in named], treedef
