"""The one equation of this library and its translation into diffrax terms.

dX = P_X [ f(t, X) dt + g(t, X) ∘ dB ]
"""

from typing import Any, TypeVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from ._arguments import described, number, part, table
from .drifts import AbstractDrift
from .manifolds import AbstractLinearSpace, AbstractManifold
from .noises import AbstractAdditiveNoise, AbstractNoise


class SDE(eqx.Module):
    """A Stratonovich equation on a manifold: drift f, noise g, projection P.

        dX = P_X [ f(t, X) dt + g(t, X) ∘ dB ]

    `drift`, `noise` and `manifold` describe ONE state; members and times are added by
    `rqf_jax.simulate`. Raises ValueError if a part is not of its kind.
    """

    __repr__ = described

    drift: AbstractDrift
    noise: AbstractNoise
    manifold: AbstractManifold

    def __check_init__(self):
        for name, kind in (
            ("drift", AbstractDrift),
            ("noise", AbstractNoise),
            ("manifold", AbstractManifold),
        ):
            part(kind)(name, getattr(self, name))

    def _repr_html_(self) -> str:
        return table(
            "dX = P_X [ f(t, X) dt + g(t, X) ∘ dB ]",
            {"drift f": self.drift, "noise g": self.noise, "manifold": self.manifold},
        )

    def terms(
        self, path: diffrax.AbstractPath, *, origin: Float[Array, ""] | float = 0.0
    ) -> diffrax.MultiTerm:
        """The equation as diffrax terms, driven by a Brownian `path` of shape `noise.shape(x)`.

        `path` may be any of diffrax's Brownian paths or a `rqf_jax.CounterPath`; the terms go
        into `diffrax.diffeqsolve` with our solvers or diffrax's own. `origin` is the time that
        the terms' clock calls 0: a solver that steps from 0 to h at `origin` = t gets the step
        length h exactly, which t + h - t is not in float32. Raises ValueError for a path or an
        origin of another kind.
        """
        part(diffrax.AbstractPath, "a Brownian path, like `rqf_jax.CounterPath`")("path", path)
        number()("origin", origin)
        return diffrax.MultiTerm(DriftTerm(self, origin), NoiseTerm(self, path, origin))


T = TypeVar("T")


def in_dtype(module: T, dtype: Any) -> T:
    """`module` with its numbers in the dtype of the state they act on."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, module
    )


def state_dtype(x: PyTree) -> Any:
    """The dtype of a state, which all its arrays have."""
    return jax.tree.leaves(x)[0].dtype


class DriftTerm(diffrax.AbstractTerm):
    """P_X f(t, X) dt."""

    sde: SDE
    origin: Float[Array, ""] | float

    def vf(self, t, y: PyTree[Array], args: PyTree) -> PyTree[Array]:
        """The tangential velocity."""
        time = jnp.asarray(self.origin + t, state_dtype(y))
        return self.sde.manifold.tangent(y, self.sde.drift(time, y))

    def contr(self, t0, t1, **kwargs):
        """dt."""
        return t1 - t0

    def prod(self, vf: PyTree[Array], control) -> PyTree[Array]:
        """velocity · dt."""
        _check_straight(self.sde)
        return jax.tree.map(lambda leaf: leaf * jnp.asarray(control, leaf.dtype), vf)


class NoiseOperator(eqx.Module):
    """The linear map dB -> P_X g(t, X) dB at one (t, X); never written as a matrix."""

    sde: SDE
    t: Float[Array, ""]
    x: PyTree[Array]

    def mv(self, dw: Float[Array, "*noise"]) -> PyTree[Array]:
        """The displacement by an increment."""
        return self.sde.manifold.tangent(self.x, self.sde.noise(self.t, self.x, dw))


class NoiseTerm(diffrax.AbstractTerm):
    """P_X g(t, X) ∘ dB.

    Its vector field is a `NoiseOperator`, which also tells a geometric solver what equation it is
    solving: diffrax wraps terms, but hands on what they return.
    """

    sde: SDE
    path: diffrax.AbstractPath
    origin: Float[Array, ""] | float

    def vf(self, t, y: PyTree[Array], args: PyTree) -> NoiseOperator:
        """The operator at (t, y)."""
        flat = isinstance(self.sde.manifold, AbstractLinearSpace)
        if flat and isinstance(self.sde.noise, AbstractAdditiveNoise):
            # The same at every y, of which it needs the shape: diffrax's solvers for additive
            # noise (SRA1, ShARK, ...) ask for no derivative.
            y = lax.stop_gradient(y)
        return NoiseOperator(self.sde, jnp.asarray(self.origin + t, state_dtype(y)), y)

    def contr(self, t0, t1, **kwargs) -> Float[Array, "*noise"] | diffrax.AbstractBrownianIncrement:
        """The increment of the Brownian path, with its Lévy area where a solver asks for it."""
        return self.path.evaluate(t0, t1, **kwargs)

    def prod(self, vf: NoiseOperator, control: Float[Array, "*noise"]) -> PyTree[Array]:
        """The displacement."""
        _check_straight(self.sde)
        return vf.mv(control)


def _check_straight(sde: SDE) -> None:
    """Raise ValueError for a solver of diffrax on a curved manifold: it adds up displacements.

    Solvers of this library ask for the vector fields alone.
    """
    if not isinstance(sde.manifold, AbstractLinearSpace):
        raise ValueError(
            "`solver` must be one of `rqf_jax.solvers` for these terms: solvers of diffrax add up "
            f"displacements, and their steps leave the {type(sde.manifold).__name__}. Pass "
            "`rqf_jax.solvers.default(sde)`."
        )
