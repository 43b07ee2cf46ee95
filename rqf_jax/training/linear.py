"""Linear networks that learn a teacher by stochastic gradient descent."""

import math
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._arguments import integer, scalar, square
from ..laws import AbstractLaw
from ._data import drawing, examples, in_turn
from ._process import AbstractProcess, mean_product, normal, product, symmetric_normal


class TeacherStudent(AbstractProcess[Array]):
    """One square matrix that learns another from batches of examples, with noise on the gradient.

        W ← W - α [ (W - T) (1/B) Σ x xᵀ + A S/√B ]

    x are standard normal inputs and S, drawn for every update, is a symmetric Gaussian matrix of
    variance 1 off the diagonal and 2 on it: noise of strength A for each example. Without `inputs`
    every seed draws fresh ones in every update. `inputs` (samples, n) are the same for all seeds,
    taken B at a time in their order, over and over, what is left over at the end unused: then the
    seeds share the noise of their last 1/α batches, and a mean over seeds does not average it.

    Around a teacher c·1 singular values have the gap `theory.learning.teacher_gap`. `teacher` is
    T (n, n), `law` draws the first W, `learning_rate` is α ≥ 0 and `noise` A ≥ 0. Raises ValueError
    for other values or shapes, and for a batch larger than the data set.

    Source: the program released with Aarts, Lucini & Park, arXiv:2407.16427 (read), with n = 2,
    T = 2·1, B = 16, A = 0.1, α = 0.1 and shared inputs.
    """

    teacher: Float[Array, "n n"]
    law: AbstractLaw
    learning_rate: Float[Array, ""]
    noise: Float[Array, ""]
    inputs: Float[Array, "samples n"] | None
    batch: int = eqx.field(static=True)

    def __init__(
        self,
        teacher: Any,
        law: AbstractLaw,
        *,
        learning_rate: Any,
        batch: int,
        noise: Any = 0.0,
        inputs: Any = None,
    ):
        self.teacher = square("teacher")(teacher)
        self.law = drawing(law, self.teacher.shape)
        self.learning_rate = scalar("learning_rate", minimum=0)(learning_rate)
        self.noise = scalar("noise", minimum=0)(noise)
        self.batch = integer("batch", batch)
        features = self.teacher.shape[1]
        self.inputs = None if inputs is None else examples("inputs", inputs, features, self.batch)

    def start(self, key: PRNGKeyArray) -> Float[Array, "n n"]:
        """A draw of the law."""
        return self.law(key)

    def update(
        self, key: PRNGKeyArray, number: Int[Array, ""], state: Float[Array, "n n"]
    ) -> Float[Array, "n n"]:
        """One step down the gradient of a batch."""
        input_key, noise_key = jax.random.split(key)
        if self.inputs is None:
            x = normal(input_key, (self.batch, state.shape[1]), state.dtype)
        else:
            x = in_turn(self.inputs, number, self.batch)
        kick = symmetric_normal(noise_key, state.shape[0], state.dtype) / math.sqrt(self.batch)
        error = product(state - self.teacher, mean_product(x, x))
        return state - self.learning_rate * (error + self.noise * kick)

    def weights(self, state: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """W."""
        return state
