"""Noises made of noises: sums of independent ones, strengths that change in time, and layers."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._arguments import each, part
from ..manifolds import AbstractManifold, State
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

    def shape(self, x: State) -> tuple[int, ...]:
        """One axis, as long as the parts together."""
        return (sum(math.prod(noise.shape(x)) for noise in self.noises),)

    def parts(self, x: State, dw: Float[Array, " numbers"]) -> list[Float[Array, "..."]]:
        """The increment of every part, in its own shape."""
        return _divided(dw, [noise.shape(x) for noise in self.noises])

    def __call__(self, t: Float[Array, ""], x: State, dw: Float[Array, " numbers"]) -> State:
        """The sum of the displacements."""
        total = jax.tree.map(jnp.zeros_like, x)
        for noise, own in zip(self.noises, self.parts(x, dw), strict=True):
            total = jax.tree.map(jnp.add, total, noise(t, x, own))
        return total

    @property
    def spans(self) -> bool:
        """True if all parts do."""
        return all(noise.spans for noise in self.noises)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """The strictest of the parts: Itô corrections of independent noises add up."""
        return _strictest([(noise, manifold) for noise in self.noises])


class Product(AbstractNoise):
    """Independent noises of the parts of a composite state.

        Product({"q": NoNoise(), "p": TokenNoise(sigma)})   for states {"q": ..., "p": ...}

    `noises` is a pytree of noises; each moves the part of the state that is in its place, and the
    Brownian motions are laid end to end in one axis. Raises ValueError for leaves that are no
    noises and, when called, for a state without these parts.
    """

    noises: PyTree[AbstractNoise]

    def __check_init__(self):
        for leaf in jax.tree.leaves(self.noises, is_leaf=_is_noise):
            part(AbstractNoise)("noises", leaf)

    def shape(self, x: State) -> tuple[int, ...]:
        """One axis, as long as the parts together."""
        return (sum(math.prod(noise.shape(own)) for noise, own in self.pairs(x)),)

    def __call__(self, t: Float[Array, ""], x: State, dw: Float[Array, " numbers"]) -> State:
        """The displacement of every part by its own noise."""
        pairs = self.pairs(x)
        parts = _divided(dw, [noise.shape(own) for noise, own in pairs])
        moved = [noise(t, x, own) for (noise, x), own in zip(pairs, parts, strict=True)]
        return self._structure().unflatten(moved)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """The strictest of the parts, each on its own part of a product of manifolds."""
        if manifold.parts is None:
            return _strictest([(noise, manifold) for noise in self._noises()])
        return _strictest(self.pairs(manifold.parts))

    def _noises(self) -> list[AbstractNoise]:
        return jax.tree.leaves(self.noises, is_leaf=_is_noise)

    def _structure(self) -> Any:
        return jax.tree.structure(self.noises, is_leaf=_is_noise)

    def pairs(self, whole: PyTree) -> list[tuple[AbstractNoise, Any]]:
        """Every noise with the part of `whole` in its place."""
        try:
            parts = self._structure().flatten_up_to(whole)
        except ValueError as error:
            raise ValueError(
                f"`noises` must have the parts of the state, {jax.tree.structure(whole)}; got "
                f"{self._structure()}."
            ) from error
        return list(zip(self._noises(), parts, strict=True))


def _is_noise(part: Any) -> bool:
    return isinstance(part, AbstractNoise)


def _divided(
    dw: Float[Array, " numbers"], shapes: Sequence[tuple[int, ...]]
) -> list[Float[Array, "..."]]:
    """Pieces of one axis in their own shapes."""
    found, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        found.append(dw[start:stop].reshape(shape))
        start = stop
    return found


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

    def shape(self, x: State) -> tuple[int, ...]:
        """That of the inner noise."""
        return self.noise.shape(x)

    def __call__(self, t: Float[Array, ""], x: State, dw: Float[Array, "*noise"]) -> State:
        """s(t) times the displacement by the inner noise."""
        factor = self.schedule(t)
        return jax.tree.map(lambda dx: jnp.asarray(factor, dx.dtype) * dx, self.noise(t, x, dw))

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

    def shape(self, x: State) -> tuple[int, ...]:
        """That of the inner noise."""
        return self.noise.shape(x)

    def __call__(self, t: Float[Array, ""], x: State, dw: Float[Array, "*noise"]) -> State:
        """The displacement by the inner noise."""
        return self.noise(t, x, dw)

    def calculus(self, manifold: AbstractManifold) -> Calculus:
        """A step is what is asked for, not its limit."""
        return Calculus.LAYER


def _strictest(pairs: Sequence[tuple[AbstractNoise, AbstractManifold]]) -> Calculus:
    found = {noise.calculus(manifold) for noise, manifold in pairs} - {Calculus.EITHER}
    if Calculus.STRATONOVICH in found and len(found) > 1:
        other = (found - {Calculus.STRATONOVICH}).pop()
        raise ValueError(
            "`noises` must agree on a solver; got one that needs "
            f"{Calculus.STRATONOVICH.value} and one that needs {other.value}."
        )
    if Calculus.LAYER in found:
        return Calculus.LAYER
    return found.pop() if found else Calculus.EITHER
