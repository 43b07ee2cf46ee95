"""Two views of the same data that teach each other: linear networks without negative examples."""

from typing import Any

from jaxtyping import Array, Float

from .._arguments import finite, maybe, nonnegative, scalar
from .._linalg.lanes import product
from ._abstract import AbstractDrift

Networks = dict[str, Float[Array, "..."]]
"""{"A": encoder (n, m), "B": predictor (n, n)}, and perhaps {"C": teacher (n, m)}."""


class SelfSupervised(AbstractDrift):
    """The velocity of an encoder A and a predictor B that learn to guess a teacher C.

        R = B A X - C Y,   dA/dt = -(Bᵀ R + decay A),   dB/dt = -(R Aᵀ + decay B)

    from moments X = E x xᵀ and Y = E y xᵀ of two views x, y of the data, both (m, m). C is the
    encoder itself, through which no gradient passes; with `rate` κ it is a part of the state and
    follows it, dC/dt = κ (A - C). With `teacher` moments Z = E y yᵀ the gradient passes through the
    teacher too: dA/dt gains B A Yᵀ - A Z.

    The state is {"A": (n, m), "B": (n, n)}, with "C" where there is a `rate`.

    **Arguments**

    - `inputs`, `cross`: X and Y.
    - `decay`: of the weights, ≥ 0 per unit time.
    - `rate`: κ ≥ 0 of a teacher that follows, or None.
    - `teacher`: Z, for the gradient of both sides, or None.

    **Raises** ValueError for moments of other shapes and negative numbers.

    **Example**

    >>> drift = rqf.drifts.SelfSupervised([[1.0]], [[0.8]], 0.0)
    >>> moved = drift(jnp.zeros(()), {"A": jnp.ones((1, 1)), "B": jnp.ones((1, 1))})
    >>> round(float(moved["B"][0, 0]), 6)
    -0.2
    """

    inputs: Float[Array, "m m"]
    cross: Float[Array, "m m"]
    decay: Float[Array, ""]
    rate: Float[Array, ""] | None
    teacher: Float[Array, "m m"] | None

    def __init__(
        self, inputs: Any, cross: Any, decay: Any, *, rate: Any = None, teacher: Any = None
    ):
        self.inputs, self.cross = finite("inputs", inputs), finite("cross", cross)
        self.decay = scalar("decay", minimum=0)(decay)
        self.rate = maybe(nonnegative)("rate", rate)
        self.teacher = maybe(finite)("teacher", teacher)
        square = (self.inputs.shape[:1] * 2,) * 2
        if self.inputs.ndim != 2 or (self.inputs.shape, self.cross.shape) != square:
            raise ValueError(
                "`inputs` and `cross` must be square matrices of one shape; got shapes "
                f"{self.inputs.shape} and {self.cross.shape}."
            )

    def __call__(self, t: Float[Array, ""], x: Networks) -> Networks:
        """The velocities of all parts."""
        a, b = x["A"], x["B"]
        c = a if self.rate is None else x["C"]
        moved = learned(a, b, c, self.inputs, self.cross)
        moved = {"A": moved["A"] - self.decay * a, "B": moved["B"] - self.decay * b}
        if self.teacher is not None:
            moved["A"] += product(b, a, self.cross.T) - product(a, self.teacher)
        return moved if self.rate is None else moved | {"C": self.rate * (a - c)}


def learned(
    a: Float[Array, "n m"],
    b: Float[Array, "n n"],
    c: Float[Array, "n m"],
    inputs: Float[Array, "m m"],
    cross: Float[Array, "m m"],
) -> Networks:
    """The descent of encoder and predictor by the residual B A X - C Y of two moments."""
    residual = product(b, a, inputs) - product(c, cross)
    return {"A": -product(b.T, residual), "B": -product(residual, a.T)}


def moments(
    x: Float[Array, "samples m"], y: Float[Array, "samples m"], shares: Float[Array, " samples"]
) -> tuple[Float[Array, "m m"], Float[Array, "m m"]]:
    """Σ s_i x_i x_iᵀ and Σ s_i y_i x_iᵀ."""
    weighted = shares[:, None] * x
    return product(x.T, weighted), product(y.T, weighted)
