"""A package of somebody else: walks on the torus, with everything they need, in one file.

    d(a, b) = (ω_1, ω_2) dt + σ dW   for the two angles of every token

A token is ((cos a, sin a), (cos b, sin b)), an array of 4 numbers.
"""

from typing import Annotated, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from scipy.special import i0, i1

import rqf_jax as rqf
from rqf_jax.noises import Calculus
from rqf_jax.runs.catalogue import AbstractLaw, AbstractModel, ClosedForms, Start, State


def circles(x):
    return x.reshape(*x.shape[:-1], 2, 2)


def turned(x):
    """Every circle by a right angle: the direction in which its angle grows."""
    first, second = jnp.moveaxis(circles(x), -1, 0)
    return jnp.stack([-second, first], -1).reshape(x.shape)


class Torus(rqf.manifolds.AbstractManifold):
    """Two circles for every token."""

    axes: ClassVar[tuple[str, ...]] = ("tokens", "dim")

    def tangent(self, x, v):
        along = turned(x)
        return (jnp.sum(circles(v) * circles(along), -1, keepdims=True) * circles(along)).reshape(
            x.shape
        )

    def retract(self, x, v):
        angle = jnp.sum(circles(v) * circles(turned(x)), -1, keepdims=True)
        moved = jnp.cos(angle) * circles(x) + jnp.sin(angle) * circles(turned(x))
        return moved.reshape(x.shape)

    def project(self, x):
        return (circles(x) / jnp.linalg.norm(circles(x), axis=-1, keepdims=True)).reshape(x.shape)

    def defect(self, x):
        return jnp.max(jnp.abs(jnp.linalg.norm(circles(x), axis=-1) - 1))


class Winding(rqf.drifts.AbstractDrift):
    """Both angles grow at rates of their own."""

    rates: jax.Array = eqx.field(converter=jnp.asarray)

    def __call__(self, t, x):
        return (self.rates.astype(x.dtype)[:, None] * circles(turned(x))).reshape(x.shape)


class AngleNoise(rqf.noises.AbstractNoise):
    """A Brownian motion of its own for every angle."""

    sigma: jax.Array = eqx.field(converter=jnp.asarray)

    def shape(self, x):
        return (*x.shape[:-1], 2)

    def __call__(self, t, x, dw):
        return (self.sigma.astype(x.dtype) * dw[..., None] * circles(turned(x))).reshape(x.shape)

    def calculus(self, manifold):
        return Calculus.EITHER


class Turn(rqf.solvers.AbstractMemorylessSolver):
    """Turn every circle: exact on the torus, and wrong everywhere else."""

    def order(self, terms):
        return 1

    def advance(self, sde, t, h, x, dw):
        return sde.manifold.retract(x, h * sde.drift(t, x) + sde.noise(t, x, dw))

    def misfit(self, sde):
        return None if isinstance(sde.manifold, Torus) else "it turns circles"


class VonMises(rqf.laws.AbstractLaw):
    """Von Mises and Fisher's law on every circle, about angle 0, by its inverse distribution."""

    concentration: jax.Array = eqx.field(converter=jnp.asarray)
    tokens: int = eqx.field(static=True)

    def __call__(self, key):
        grid = jnp.linspace(-jnp.pi, jnp.pi, 4097)
        density = jnp.exp(self.concentration * (jnp.cos(grid) - 1))
        below = jnp.concatenate([jnp.zeros(1), jnp.cumsum(density[1:] + density[:-1])])
        angle = jnp.interp(jax.random.uniform(key, (self.tokens, 2)), below / below[-1], grid)
        return jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1).reshape(self.tokens, 4)


def first_cosine(x):
    """The cosine of every token's first angle."""
    return x[..., 0]


POINTS = State(
    "points of the torus",
    {"state": lambda x: x, "first_cosine": first_cosine},
    example=("first_cosine",),
)


class VonMisesSection(AbstractLaw):
    """Angles of von Mises' law about 0."""

    name: Literal["von_mises"]
    """The law."""
    tokens: Annotated[int, Field(ge=1, le=10_000, examples=[3])]
    """Number of tokens."""
    concentration: Annotated[float, Field(ge=0, le=500, examples=[2.0])]
    """Concentration about angle 0; 0 is the uniform law."""

    @property
    def states(self):
        return (POINTS,)

    def start(self):
        law = VonMises(self.concentration, self.tokens)
        return Start.of_tokens(self.name, law, self.tokens, 4)


class TorusWalk(AbstractModel):
    """Walks on the torus, from angles about 0 with concentration 2."""

    state: ClassVar[State] = POINTS
    needs_space: ClassVar[str | None] = "its points are pairs of circles"

    name: Literal["torus_walk"]
    """The model."""
    sigma: Annotated[float, Field(ge=0, examples=[0.7])]
    """Strength of the noise; sigma² is a variance per unit time."""
    rate: float = 1.5
    """Rate of the first angle, per unit time."""

    def sde(self, dim):
        return rqf.SDE(Winding([self.rate, 0.5]), AngleNoise(self.sigma), Torus())

    def closed_forms(self, dim):
        def mean(time):
            start = i1(2.0) / i0(2.0)
            return start * np.exp(-(self.sigma**2) * time / 2) * np.cos(self.rate * time)

        return ClosedForms(means={"first_cosine": mean})
