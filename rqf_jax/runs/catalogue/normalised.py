"""Tokens with radii: random layers under the normalisation schemes of networks."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ... import models
from ..._sde import SDE
from ...theory import normalisation
from ._section import AbstractModel, NonNegative, State
from .closed_forms import ClosedForms
from .states import TOKENS


class NormalisedLayers(AbstractModel):
    """`rqf_jax.models.normalised_layers`: random layers as Post-, Pre-, Peri-LN or nGPT."""

    state: ClassVar[State] = TOKENS
    needs_space: ClassVar[str | None] = "radii grow with the dimension"

    name: Literal["normalised_layers"]
    """The model."""
    scheme: Annotated[Literal["post", "ngpt", "pre", "peri"], Field(examples=["pre"])]
    """"post" and "ngpt" keep tokens on the sphere; "pre" and "peri" let radii grow. "ngpt" and
    "peri" normalise the output of every branch."""
    sigma: NonNegative = 1.0
    """Standard deviation of an entry of a matrix, per √time; normalised outputs have none."""
    beta: float | None = None
    """Inverse temperature of attention beside the matrices; without it there is none."""
    strength: float = 1.0
    """Strength of attention, per unit time."""

    def sde(self, dim: int) -> SDE:
        """The same for every dimension."""
        return models.normalised_layers(self.scheme, self.sigma, self.beta, self.strength)

    def closed_forms(self, dim: int) -> ClosedForms:
        """Without attention, the squared radius, and how fast close tokens meet in depth."""
        if self.beta is not None or self.sigma == 0:
            return ClosedForms()
        kept = self.scheme in ("pre", "peri")
        value = 1 / dim if self.scheme in ("ngpt", "peri") else self.sigma**2

        def square(time: float) -> float:
            mean = normalisation.squared_radius_mean(time, 1.0, value=value, dim=dim)
            return float(mean) if kept else 1.0

        if dim < 3:
            return ClosedForms(means={"squared_radii": square})
        rate = float(normalisation.exponent(self.scheme, dim))
        depth = f"{-rate * value:.4g} per unit time"
        if kept:
            depth = f"{-rate / (dim - 2):.4g} per unit of ln t"
        moved = "Close tokens part" if rate > 0 else "Close tokens meet"
        index = normalisation.INDEX[self.scheme]
        return ClosedForms(
            means={"squared_radii": square},
            notes=(
                f"{moved}: E ln sin of their angle falls by {depth}.",
                f"Wide tokens: a = {index:g} in dz = -a z(1-z²) ds + √2 (1-z²) dW.",
            ),
        )
