"""What every part of a config is, and what a model must say of itself."""

import abc
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..._sde import SDE
from ..comparison import ClosedForms

NonNegative = Annotated[float, Field(ge=0)]
Floats = Annotated[tuple[float, ...], Field(strict=False)]
Row = Annotated[tuple[float, ...], Field(strict=False)]
State = Literal["tokens", "square", "rectangular", "eigenvalues"]


def _square(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    if not rows or {len(row) for row in rows} != {len(rows)}:
        raise ValueError(f"must be a square matrix, row by row; got {[list(r) for r in rows]}")
    return rows


Matrix = Annotated[tuple[Row, ...], Field(strict=False), AfterValidator(_square)]


class Section(BaseModel):
    """A part of a config: frozen, with no unknown key and no number that is not finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class AbstractModel(Section, abc.ABC):
    """Parameters of one model, the equation they make, and what theory knows of it."""

    state: ClassVar[State] = "tokens"
    """What moves: tokens, a square or any matrix of weights, or the eigenvalues of one."""
    needs_space: ClassVar[str | None] = None
    """Why tokens must be written in the axes of the space; None where coordinates in their span
    keep the law of overlaps: isotropic shared noise with a drift made of overlaps."""

    @abc.abstractmethod
    def sde(self, *args: Any, **kwargs: Any) -> SDE:
        """The equation in a size: of tokens in R^dim; of columns and, if it is not square, rows of
        a matrix; of so many eigenvalues."""

    @abc.abstractmethod
    def closed_forms(self, *args: Any, **kwargs: Any) -> ClosedForms:
        """What is known in that size."""
