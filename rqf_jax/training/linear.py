"""Linear networks that learn a teacher by stochastic gradient descent."""

import itertools
import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .._arguments import Key, each, finite, integer, scalar, square
from ..laws import AbstractLaw, Normal
from ._abstract import mean_product, normal, normals_like, product, quadratic
from ._checks import drawing, examples
from ._descent import AbstractDescent
from .data import AbstractSource, Fresh, Whole
from .injections import AbstractIndependentInjection, AbstractInjection, Draw, InOrder, Langevin


class TeacherStudent(AbstractDescent):
    """One square matrix that learns another from batches of examples, with noise on the gradient.

        W ← W - α [ (W - T) (1/B) Σ x xᵀ + A S/√B ]

    x are standard normal inputs and S, drawn for every update, is a symmetric Gaussian matrix of
    variance 1 off the diagonal and 2 on it: noise of strength A for each example. Without `inputs`
    every seed draws fresh ones in every update. `inputs` (samples, n) are the same for all seeds,
    taken B at a time in their order, over and over, what is left over at the end unused: then the
    seeds share the noise of their last 1/α batches, and a mean over seeds does not average it.
    Around a teacher c·1 singular values have the gap `theory.learning.teacher_gap`.

    **Arguments**

    - `teacher`: T (n, n); `law` draws the first W.
    - `learning_rate`: α ≥ 0; `batch`: B.
    - `noise`: A ≥ 0.
    - `inputs`: (samples, n), or None for fresh ones.

    **Raises** ValueError for other values or shapes, and for a batch larger than the data set.

    **Example**

    >>> process = rqf.training.TeacherStudent(
    ...     2 * jnp.eye(2), rqf.laws.Zeros((2, 2)), learning_rate=0.1, batch=16
    ... )
    >>> rqf.training.train(process, [0, 100], seeds=3, key=jax.random.key(0)).ys.shape
    (3, 2, 2, 2)

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

    @property
    def source(self) -> AbstractSource:
        """The inputs, or fresh ones in every update."""
        if self.inputs is not None:
            return Whole(self.inputs)
        shape = (self.batch, self.teacher.shape[1])
        return Fresh(Normal(shape, jnp.ones((), self.teacher.dtype)))

    @property
    def injections(self) -> tuple[AbstractInjection, ...]:
        """Batches of given inputs, and the noise on the gradient."""
        kick = SymmetricNoise(self.noise / math.sqrt(self.batch))
        return (kick,) if self.inputs is None else (InOrder(self.batch), kick)

    def optimiser(self) -> optax.GradientTransformation:
        """Plain descent."""
        return optax.sgd(cast(Any, self.learning_rate))

    def loss(
        self, weights: Float[Array, "n n"], batch: Float[Array, "batch n"]
    ) -> Float[Array, ""]:
        """Half the mean squared error."""
        return quadratic(weights - self.teacher, mean_product(batch, batch))


class SymmetricNoise(AbstractIndependentInjection):
    """A symmetric Gaussian matrix on the gradient, of variance σ² off the diagonal, 2σ² on it."""

    sigma: Float[Array, ""]

    def change(self, key: Key, draw: Draw, point: Float[Array, "n n"]) -> Draw:
        """A tilted gradient."""
        kick = normal(key, point.shape, point.dtype)
        return draw.tilted(self.sigma, (kick + kick.T) / math.sqrt(2))


class DeepLinear(AbstractDescent):
    """A deep linear network that learns a teacher on whitened inputs, with noise on its gradients.

        W_l ← W_l - α [ (W_L … W_{l+1})ᵀ (W_L … W_1 - T) (W_{l-1} … W_1)ᵀ + A G_l ]

    gradient descent of |W_L … W_1 - T|²/2, with independent matrices G_l of standard normals in
    every update. For A = 0 and small α the modes follow `theory.linear_networks` with time αk; and
    in one mode of two layers the balance D = a² - b² is multiplied by 1 - α²e² in an update of
    error e (derived).

    Weights are the tuple of matrices.

    **Arguments**

    - `teacher`: T (out, in).
    - `layers`: (W_1, …, W_L), from which a seed starts.
    - `learning_rate`: α ≥ 0.
    - `scale`: standard deviation ≥ 0 of independent normal entries that are added to the layers.
    - `noise`: A ≥ 0.

    **Raises** ValueError for other values, and for layers that do not fit each other or the
    teacher.

    **Example**

    >>> process = rqf.training.DeepLinear([[2.0]], [[[1.0]], [[1.0]]], learning_rate=0.5)
    >>> first, second = rqf.training.train(process, [0, 1], seeds=1, key=jax.random.key(0)).ys
    >>> float(first[0, 1, 0, 0]), float(second[0, 1, 0, 0])  # 1 + 0.5 (2 - 1) 1
    (1.5, 1.5)
    """

    teacher: Float[Array, "out in"]
    layers: tuple[Float[Array, "rows columns"], ...]
    learning_rate: Float[Array, ""]
    scale: Float[Array, ""]
    noise: Float[Array, ""]

    def __init__(
        self,
        teacher: Any,
        layers: Sequence[Any],
        *,
        learning_rate: Any,
        scale: Any = 0.0,
        noise: Any = 0.0,
    ):
        self.teacher = finite("teacher", teacher)
        self.layers = each(finite)("layers", layers)
        shapes = [layer.shape for layer in self.layers]
        if self.teacher.ndim != 2:
            raise ValueError(f"`teacher` must be a matrix; got shape {self.teacher.shape}.")
        if not _is_chain(shapes, self.teacher.shape):
            raise ValueError(
                "`layers` must be matrices (W_1, …, W_L) with a product W_L … W_1 of the shape of "
                f"`teacher`, {self.teacher.shape}; got shapes {shapes}."
            )
        self.learning_rate = scalar("learning_rate", minimum=0)(learning_rate)
        self.scale = scalar("scale", minimum=0)(scale)
        self.noise = scalar("noise", minimum=0)(noise)

    def law(self, key: Key) -> tuple[Float[Array, "rows columns"], ...]:
        """The layers, with random entries added."""
        return jax.tree.map(
            lambda w, xi: w + self.scale.astype(w.dtype) * xi,
            self.layers,
            normals_like(key, self.layers),
        )

    @property
    def source(self) -> AbstractSource:
        """No data: the inputs are whitened."""
        return Whole(())

    @property
    def injections(self) -> tuple[AbstractInjection, ...]:
        """The noise on the gradients."""
        return (Langevin(self.noise),)

    def optimiser(self) -> optax.GradientTransformation:
        """Plain descent."""
        return optax.sgd(cast(Any, self.learning_rate))

    def loss(
        self, weights: tuple[Float[Array, "rows columns"], ...], batch: tuple[()]
    ) -> Float[Array, ""]:
        """|W_L … W_1 - T|²/2."""
        whole = reduce(lambda below, w: product(w, below), weights)
        return jnp.sum((whole - self.teacher) ** 2) / 2


def _is_chain(shapes: list[tuple[int, ...]], teacher: tuple[int, ...]) -> bool:
    """True if matrices of these shapes can be multiplied, to the shape of the teacher."""
    if not shapes or any(len(shape) != 2 for shape in shapes):
        return False
    fits = all(above[1] == below[0] for below, above in itertools.pairwise(shapes))
    return fits and (shapes[-1][0], shapes[0][1]) == teacher
