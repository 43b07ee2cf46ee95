"""Noises made of noises: sums of independent ones, strengths that change in time, and layers."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import each, part
from ..manifolds import AbstractManifold
from ..schedules import AbstractSchedule
from ._abstract import AbstractNoise, Calculus


class Sum(AbstractNoise):
    """Independent noises, all at once: a common matrix and a noise of every token.

        g ∘ dB = g_1 ∘ dB_1 + g_2 ∘ dB_2 + …

    The Brownian motions of the parts are laid end to end in one axis. One part may be a shared
    matrix noise, for which `solvers.ProjectiveFlow` keeps its exact step. Raises ValueError for no
    noises, and for parts that are not noises.
    """

    noises: tuple[AbstractNoise, ...]

    def __init__(self, *noises: AbstractNoise):
        self.noises = each(part(AbstractNoise))("noises", noises)

    def shape(self, x: Float[Array, "*state"]) -> tuple[int, ...]:
        """One axis, as long as the parts together."""
        return (sum(math.prod(noise.shape(x)) for noise in self.noises),)

    def parts(
        self, x: Float[Array, "*state"], dw: Float[Array, " numbers"]
    ) -> list[Float[Array, "..."]]:
        """The increment of every part, in its own shape."""
        found, start = [], 0
        for noise in self.noises:
            shape = noise.shape(x)
            stop = start + math.prod(shape)
            found.append(dw[start:stop].reshape(shape))
            start = stop
        return found

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "*state"], dw: Float[Array, " numbers"]
    ) -> Float[Array, "*state"]:
        """The sum of the displacements."""
        total = jnp.zeros_like(x)
        for noise, own in zip(self.noises, self.parts(x, dw), strict=True):
            total = total + noise(t, x, own)
        return total

    @property
    def spans(self) -> bool:
        """True if all parts do."""
        return all(noise.spans for noise in self.noises)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """The strictest of the parts: Itô corrections of independent noises add up."""
        return _strictest(self.noises, manifold)


class Scheduled(AbstractNoise):
    """A noise whose strength is a function of time.

        g(t, X) = s(t) g_0(t, X)

    `schedule` is s, one of `rqf_jax.schedules`, read at the start of every step: weak order 1 in
    its variation. Raises ValueError if a part is not of its kind.
    """

    noise: AbstractNoise
    schedule: AbstractSchedule

    def __check_init__(self):
        part(AbstractNoise)("noise", self.noise)
        part(AbstractSchedule)("schedule", self.schedule)

    def shape(self, x: Float[Array, "*state"]) -> tuple[int, ...]:
        """That of the inner noise."""
        return self.noise.shape(x)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "*state"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "*state"]:
        """s(t) times the displacement by the inner noise."""
        return jnp.asarray(self.schedule(t), x.dtype) * self.noise(t, x, dw)

    @property
    def spans(self) -> bool:
        """True if the inner noise does."""
        return self.noise.spans

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """That of the inner noise."""
        return self.noise.calculus(manifold)


class Layered(AbstractNoise):
    """A noise whose steps are the layers of a network, for what layers do before their limit.

        X ← project(X + f h + g ΔB)

    at every step, so that 1/h steps are a network with 1/h layers per unit time: the solver is
    `solvers.ProjectedEuler` (diffrax's Itô solvers pass in flat space too, where only `Euler` is a
    layer). Raises ValueError if `noise` is not a noise.
    """

    noise: AbstractNoise

    def __check_init__(self):
        part(AbstractNoise)("noise", self.noise)

    def shape(self, x: Float[Array, "*state"]) -> tuple[int, ...]:
        """That of the inner noise."""
        return self.noise.shape(x)

    def __call__(
        self, t: Float[Array, ""], x: Float[Array, "*state"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "*state"]:
        """The displacement by the inner noise."""
        return self.noise(t, x, dw)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """A step is what is asked for, not its limit."""
        return Calculus.LAYER


def _strictest(noises: tuple[AbstractNoise, ...], manifold: AbstractManifold) -> Calculus:
    found = {noise.calculus(manifold) for noise in noises} - {Calculus.EITHER}
    if Calculus.STRATONOVICH in found and len(found) > 1:
        other = (found - {Calculus.STRATONOVICH}).pop()
        raise ValueError(
            "`noises` must agree on a solver; got one that needs "
            f"{Calculus.STRATONOVICH.value} and one that needs {other.value}."
        )
    if Calculus.LAYER in found:
        return Calculus.LAYER
    return found.pop() if found else Calculus.EITHER
