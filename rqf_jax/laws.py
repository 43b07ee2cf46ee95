"""Initial laws: a key in, one state out.

A law is called once for every member with that member's own key, so an ensemble of `Uniform`
tokens has independent starts and an ensemble of `Fixed` tokens a common one.
"""

import abc
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ._arguments import (
    Key,
    described,
    finite,
    fitting,
    integer,
    part,
    prng_key,
    scalar,
    sizes,
    takes,
)
from ._linalg.spectral import eigenvalues
from ._linalg.triangle import triangle

__all__ = [
    "AbstractLaw",
    "Equiangular",
    "Fixed",
    "GaussianEnsemble",
    "InSpan",
    "Normal",
    "Pair",
    "Product",
    "Uniform",
    "Zeros",
]


def __dir__() -> list[str]:
    return __all__


class AbstractLaw(eqx.Module):
    """The law of the initial state of one member."""

    in_span: ClassVar[bool] = False
    """True if tokens are given by coordinates in their span, without the dimension around it."""

    __repr__ = described

    @abc.abstractmethod
    def __call__(self, key: Key) -> PyTree[Float[Array, "..."]]:
        """One draw: an array, or a pytree of arrays of one dtype."""


class Uniform(AbstractLaw):
    """Independent tokens, uniform on the sphere: x_a = g_a/|g_a|, g_a standard normal in R^n.

    Shape (tokens, dim). Raises ValueError unless tokens ≥ 1 and dim ≥ 1.
    """

    tokens: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, tokens: int, dim: int):
        self.tokens, self.dim = integer("tokens", tokens), integer("dim", dim)
        fitting(("tokens", "dim"), (self.tokens, self.dim))

    @takes(key=prng_key)
    def __call__(self, key: Key) -> Float[Array, "tokens dim"]:
        """A fresh cloud of tokens."""
        return _normalise(_normal(key, (self.tokens, self.dim), jnp.result_type(float)))


class Fixed(AbstractLaw):
    """The same state for every member: a point mass at `x0`.

    `x0` is any float array, one state; its dtype is the dtype of the simulation. Whether it lies
    on the manifold is checked by `simulate`. Raises ValueError for NaN or infinite entries.
    """

    x0: Float[Array, "*state"]

    def __init__(self, x0: Any):
        self.x0 = finite("x0", x0)

    @takes(key=prng_key)
    def __call__(self, key: Key) -> Float[Array, "*state"]:
        """`x0`, whatever the key."""
        return self.x0


class Zeros(AbstractLaw):
    """The zero array of a given shape, the usual start of a flat matrix equation."""

    state: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...]):
        self.state = sizes("shape", shape)

    @takes(key=prng_key)
    def __call__(self, key: Key) -> Float[Array, "*state"]:
        """Zeros, whatever the key."""
        return jnp.zeros(self.state)


class Normal(AbstractLaw):
    """Independent normal entries with standard deviation `scale` around `mean`.

    The usual start of weights, with mean 0: squared singular values fill Marchenko & Pastur's law.
    `mean` is a number or one state; the dtype is that of `scale`. Raises ValueError for a shape
    that is no tuple of sizes, for scale < 0 and for a mean that does not have the shape.
    """

    state: tuple[int, ...] = eqx.field(static=True)
    scale: Float[Array, ""]
    mean: Float[Array, "*state"]

    def __init__(self, shape: tuple[int, ...], scale: Any = 1.0, mean: Any = 0.0):
        self.state = sizes("shape", shape)
        self.scale = scalar("scale", minimum=0)(scale)
        self.mean = finite("mean", mean)
        if self.mean.shape not in ((), self.state):
            raise ValueError(
                f"`mean` must be a number or have shape {self.state}; got shape {self.mean.shape}."
            )

    @takes(key=prng_key)
    def __call__(self, key: Key) -> Float[Array, "*state"]:
        """A fresh array."""
        dtype = self.scale.dtype
        return self.mean.astype(dtype) + self.scale * _normal(key, self.state, dtype)


class GaussianEnsemble(AbstractLaw):
    """Eigenvalues of a Gaussian matrix for any Dyson index β > 0, ascending.

    Density ∝ Π|λ_i - λ_j|^β exp(-Σ λ_i²/(2v)), shape (n,). Dyson's motion from zero has it with
    v = 2g²τ, τ the `theory.dyson.effective_time`, and stays in it with v = g²/κ. Drawn as the
    eigenvalues of a tridiagonal matrix (Dumitriu & Edelman 2002, recalled). `variance` is v.
    Raises ValueError unless n ≥ 1, v ≥ 0 and β ≥ 0.
    """

    n: int = eqx.field(static=True)
    variance: Float[Array, ""]
    beta: Float[Array, ""]

    def __init__(self, n: int, variance: Any, beta: Any = 1.0):
        self.n = integer("n", n)
        fitting("n", (self.n, self.n))
        self.variance = scalar("variance", minimum=0)(variance)
        self.beta = scalar("beta", minimum=0)(beta)

    @takes(key=prng_key)
    def __call__(self, key: Key) -> Float[Array, " n"]:
        """Fresh eigenvalues."""
        diagonal_key, other_key = jax.random.split(key)
        dtype = self.variance.dtype
        diagonal = jnp.sqrt(self.variance) * _normal(diagonal_key, (self.n,), dtype)
        # χ_k² is twice a gamma variable of shape k/2.
        shapes = self.beta.astype(dtype) / 2 * jnp.arange(self.n - 1, 0, -1, dtype=dtype)
        chi = jax.random.gamma(other_key, shapes.astype(jnp.float32)).astype(dtype)
        other = jnp.sqrt(self.variance * chi)
        matrix = jnp.diag(diagonal) + jnp.diag(other, 1) + jnp.diag(other, -1)
        return eigenvalues(matrix)


class Pair(AbstractLaw):
    """Two tokens at angle θ: x_1 = e_1, x_2 = cos θ e_1 + sin θ e_2.

    `angle` in [0, π] (radians), shape (2, dim). Raises ValueError for an angle outside [0, π], or
    if dim < 2.
    """

    angle: Float[Array, ""] = eqx.field(converter=scalar("angle", minimum=0, maximum=math.pi))
    dim: int = eqx.field(static=True)

    def __init__(self, angle: Any, dim: int):
        self.angle = angle
        self.dim = integer("dim", dim, minimum=2)
        fitting("dim", (2, self.dim))

    @takes(key=prng_key)
    def __call__(self, key: Key) -> Float[Array, "2 dim"]:
        """The pair, in the plane of the first two axes."""
        plane = jnp.stack(
            [
                jnp.stack([jnp.ones_like(self.angle), jnp.zeros_like(self.angle)]),
                jnp.stack([jnp.cos(self.angle), jnp.sin(self.angle)]),
            ]
        )
        return jnp.pad(plane, ((0, 0), (0, self.dim - 2)))


class Equiangular(AbstractLaw):
    """Tokens with one common overlap: <x_a, x_b> = ρ for all a ≠ b.

    The rows of a symmetric square root of G = (1-ρ) 1 + ρ J, padded with zeros; shape
    (tokens, dim). The gradient with respect to ρ is infinite at both ends of its range. Raises
    ValueError unless -1/(tokens-1) ≤ ρ ≤ 1 and dim ≥ tokens.
    """

    tokens: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    overlap: Float[Array, ""]

    def __init__(self, tokens: int, dim: int, overlap: Any):
        self.tokens = integer("tokens", tokens)
        self.dim = integer("dim", dim)
        if self.dim < self.tokens:
            raise ValueError(
                f"`dim` must be at least `tokens`, {self.tokens}; got {self.dim}: at most `dim` "
                "tokens have one common overlap of any size."
            )
        fitting(("tokens", "dim"), (self.tokens, self.dim))
        lowest = -1 / (self.tokens - 1) if self.tokens > 1 else -1.0
        self.overlap = scalar("overlap", minimum=lowest, maximum=1)(overlap)

    @takes(key=prng_key)
    def __call__(self, key: Key) -> Float[Array, "tokens dim"]:
        """The cloud, in the span of the first `tokens` axes."""
        n, rho = self.tokens, self.overlap
        # G = (1-ρ)(1 - J/n) + (1 + (n-1)ρ) J/n, so its root takes the roots of the eigenvalues;
        # the maximum guards against rounding at the two ends of the range.
        mean = jnp.full((n, n), 1 / n, rho.dtype)
        single = jnp.sqrt(jnp.maximum(1 - rho, 0))
        common = jnp.sqrt(jnp.maximum(1 + (n - 1) * rho, 0))
        root = single * (jnp.eye(n, dtype=rho.dtype) - mean) + common * mean
        return jnp.pad(_normalise(root), ((0, 0), (0, self.dim - n)))


class InSpan(AbstractLaw):
    """The tokens of another law in an orthonormal basis of their span: a change of coordinates.

        X = R U,   U orthonormal rows (QR of Xᵀ),   R of shape (tokens, min(tokens, dim))

    R has the overlaps of X, and under isotropic shared noise with any drift built from overlaps
    the Gram matrix has the same law in every dimension n ≥ rank. So where only overlaps are
    observed, N tokens of any dimension cost the same as N tokens in dimension N (derived from the
    autonomous Gram equation; a test compares the laws). `simulate` refuses noises whose overlaps
    depend on the dimension and drifts that know directions: each says so itself
    (`AbstractNoise.spans`, `AbstractDrift.spans`).
    """

    in_span: ClassVar[bool] = True

    law: AbstractLaw

    def __check_init__(self):
        part(AbstractLaw)("law", self.law)

    @takes(key=prng_key)
    def __call__(self, key: Key) -> Float[Array, "tokens rank"]:
        """The coordinates R of one draw of the inner law."""
        return triangle(self.law(key).T).T


class Product(AbstractLaw):
    """Independent laws of the parts of a composite state.

        Product({"q": Normal((3,)), "p": Zeros((3,))})   draws {"q": ..., "p": ...}

    `laws` is a pytree of laws. Raises ValueError for leaves that are no laws.
    """

    laws: PyTree[AbstractLaw]

    def __check_init__(self):
        for leaf in jax.tree.leaves(self.laws, is_leaf=_is_law):
            part(AbstractLaw)("laws", leaf)

    def __call__(self, key: Key) -> PyTree[Float[Array, "..."]]:
        """A draw of every part, with a key of its own."""
        parts, treedef = jax.tree.flatten(self.laws, is_leaf=_is_law)
        keys = jax.random.split(key, len(parts))
        return treedef.unflatten([law(own) for law, own in zip(parts, keys, strict=True)])


def _is_law(part: Any) -> bool:
    return isinstance(part, AbstractLaw)


def _normalise(x: Float[Array, "tokens dim"]) -> Float[Array, "tokens dim"]:
    return x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))


def _normal(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Float[Array, "..."]:
    """Standard normal numbers, drawn in float32 for every dtype: all precisions start alike."""
    return jax.random.normal(key, shape, jnp.float32).astype(dtype)
