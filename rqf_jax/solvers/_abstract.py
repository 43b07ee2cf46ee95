import abc
from collections.abc import Sequence
from typing import ClassVar

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from .._sde import SDE, DriftTerm, NoiseTerm, state_dtype


class AbstractGeometricSolver(diffrax.AbstractSolver):
    """A fixed-step solver that stays on the manifold; written for one state of `SDE.terms`.

    Derive from `AbstractMemorylessSolver` for one program whose steps stand alone.
    """

    term_structure = diffrax.MultiTerm[tuple[DriftTerm, NoiseTerm]]
    interpolation_cls = diffrax.LocalLinearInterpolation

    explicit: ClassVar[bool] = True
    """True if a step that is long beside the drift's own time goes wrong, so that users are warned.

    False for steps that are exact or implicit in the drift, or that are what is asked for."""

    @abc.abstractmethod
    def advance(
        self, sde: SDE, t, h, x: PyTree[Array], dw: Float[Array, "*noise"]
    ) -> PyTree[Array]:
        """A step by itself, of length h from (t, x) with Brownian increment `dw`."""

    @abc.abstractmethod
    def misfit(self, sde: SDE) -> str | None:
        """Why this solver must not be used for `sde`; None if it may be."""

    @abc.abstractmethod
    def begin(self, sde: SDE, t, x: PyTree[Array]) -> PyTree[Array]:
        """The solver's state before the first step."""

    @abc.abstractmethod
    def follow(
        self, sde: SDE, t, h, x: PyTree[Array], dw: Float[Array, "*noise"], handed
    ) -> tuple[PyTree[Array], PyTree[Array]]:
        """`advance`, with what the last step `handed` on, and what this one does."""

    @abc.abstractmethod
    def variants(
        self, sde: SDE, x: PyTree[Array], h: Float[Array, ""]
    ) -> tuple[Sequence[diffrax.AbstractSolver], Int[Array, ""] | int]:
        """The solvers that this one stands for, a program each, and the index of that for h."""

    @abc.abstractmethod
    def explicit_part(self, sde: SDE) -> SDE:
        """The equation without the part of the drift that a step is exact in."""

    def init(self, terms: PyTree, t0, t1, y0: PyTree, args: PyTree) -> PyTree[Array]:
        """The solver's state before the first step."""
        here = self._here(terms, t0, y0, args)
        return self.begin(here.sde, here.t, y0)

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """One step of diffrax."""
        drift, noise = terms.terms
        here = self._here(terms, t0, y0, args)
        h = jnp.asarray(drift.contr(t0, t1), state_dtype(y0))
        dw = noise.contr(t0, t1)
        y1, solver_state = self.follow(here.sde, here.t, h, y0, dw, solver_state)
        return y1, None, {"y0": y0, "y1": y1}, solver_state, diffrax.RESULTS.successful

    def _here(self, terms, t0, y0, args):
        """The equation's noise at a point, which knows the equation; ValueError for a misfit."""
        here = terms.terms[1].vf(t0, y0, args)
        reason = self.misfit(here.sde)
        if reason is not None:
            raise ValueError(f"`{type(self).__name__}` does not suit this equation: {reason}.")
        return here

    def func(self, terms, t0, y0, args):
        """The velocity of the drift."""
        return terms.terms[0].vf(t0, y0, args)


class AbstractStandaloneSolver(AbstractGeometricSolver):
    """A solver of one program, whose steps stand alone."""

    def begin(self, sde: SDE, t, x: PyTree[Array]) -> None:
        """Nothing."""

    def follow(
        self, sde: SDE, t, h, x: PyTree[Array], dw: Float[Array, "*noise"], handed: None
    ) -> tuple[PyTree[Array], None]:
        """`advance`, whatever came before."""
        return self.advance(sde, t, h, x, dw), None

    def variants(
        self, sde: SDE, x: PyTree[Array], h: Float[Array, ""]
    ) -> tuple[Sequence[diffrax.AbstractSolver], int]:
        """This one, for every step length."""
        return [self], 0


class AbstractMemorylessSolver(AbstractStandaloneSolver):
    """A solver of one program, whose steps stand alone and are exact in no part of the drift."""

    def explicit_part(self, sde: SDE) -> SDE:
        """All of it."""
        return sde
