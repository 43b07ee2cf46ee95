import abc

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from .._sde import SDE, DriftTerm, NoiseTerm


class AbstractGeometricSolver(diffrax.AbstractSolver):
    """A fixed-step solver that stays on the manifold; written for one state of `SDE.terms`."""

    term_structure = diffrax.MultiTerm[tuple[DriftTerm, NoiseTerm]]
    interpolation_cls = diffrax.LocalLinearInterpolation

    @abc.abstractmethod
    def advance(
        self, sde: SDE, t, h, x: Float[Array, "*state"], dw: Float[Array, "*noise"]
    ) -> Float[Array, "*state"]:
        """The state after a step of length h from (t, x) with Brownian increment `dw`."""

    @abc.abstractmethod
    def misfit(self, sde: SDE) -> str | None:
        """Why this solver must not be used for `sde`; None if it may be."""

    def init(self, terms: PyTree, t0, t1, y0: PyTree, args: PyTree) -> None:
        """No state."""

    def step(self, terms, t0, t1, y0, args, solver_state, made_jump):
        """One step of diffrax."""
        drift, noise = terms.terms
        here = noise.vf(t0, y0, args)
        reason = self.misfit(here.sde)
        if reason is not None:
            raise ValueError(f"`{type(self).__name__}` does not suit this equation: {reason}.")
        h = jnp.asarray(drift.contr(t0, t1), y0.dtype)
        y1 = self.advance(here.sde, here.t, h, y0, noise.contr(t0, t1))
        return y1, None, {"y0": y0, "y1": y1}, None, diffrax.RESULTS.successful

    def func(self, terms, t0, y0, args):
        """The velocity of the drift."""
        return terms.terms[0].vf(t0, y0, args)
