"""Heads: states enter and leave a network as cells of a grid, or as numbers with a normal law."""

import abc
import itertools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import Key, described, fitting, integer, part, prng_key, real
from .grid import Grid, numbers


class AbstractHead(eqx.Module):
    """Two ends of a network of some width: states to vectors, and vectors to laws of states."""

    size: eqx.AbstractVar[int]
    width: eqx.AbstractVar[int]

    __repr__ = described

    @abc.abstractmethod
    def vector(self, x: Float[Array, " size"]) -> Float[Array, " width"]:
        """The vector of a state."""

    @abc.abstractmethod
    def log_density(
        self, hidden: Float[Array, " width"], x: Float[Array, " size"], y: Float[Array, " size"]
    ) -> Float[Array, ""]:
        """The logarithm of the density of the next state `y` after `x`."""

    @abc.abstractmethod
    def draw(
        self, key: Key, hidden: Float[Array, " width"], x: Float[Array, " size"]
    ) -> Float[Array, " size"]:
        """A next state after `x`."""

    @abc.abstractmethod
    def refined(self, factor: int = 2) -> "AbstractHead":
        """The head on a grid with `factor` times as many cells along each coordinate.

        Raises ValueError for a head without cells.
        """


class CellHead(AbstractHead):
    """States as cells of a grid, with a tensor train for vectors and a chain of laws.

    The vector of the cell (i_1, …, i_d) is a product of d matrices, a tensor train of some rank,

        G_1[i_1] G_2[i_2] … G_d[i_d],        G_1[i] 1 × rank, …, G_d[i] rank × width,

    so that a table of cellsᵈ vectors has d · cells · rank² numbers. The next cell is drawn one
    coordinate after the other,

        p(i_1, …, i_d | h) = Π_j p(i_j | h, i_1, …, i_{j-1}),

    and the next state is uniform in it: its density is that of a histogram.

    **Arguments**

    - `grid`: the cells, a `Grid`.
    - `width`: the width of the network.
    - `rank`: the rank of the tensor train.
    - `key`: the JAX key from which the weights are drawn.

    **Raises** ValueError for arguments of another kind.

    **Example**

    >>> grid = rqf.surrogates.Grid([0.0], [1.0], 4)
    >>> head = rqf.surrogates.CellHead(grid, width=8, rank=2, key=jax.random.key(0))
    >>> head.vector(jnp.array([0.1])).shape
    (8,)

    Source: the idea is that of Shalova & Oseledets 2020, "Tensorized transformer for dynamical
    systems modeling", of which only the abstract was read; train and chain are ours.
    """

    grid: Grid
    cores: tuple[Float[Array, "cells left right"], ...]
    chosen: tuple[Float[Array, "cells width"], ...]
    logits: tuple[Float[Array, "cells width"], ...]
    offsets: tuple[Float[Array, " cells"], ...]
    width: int = eqx.field(static=True)

    def __init__(self, grid: Grid, *, width: int, rank: int = 8, key: Key):
        part(Grid)("grid", grid)
        self.grid, self.width = grid, integer("width", width)
        rank = integer("rank", rank)
        ranks = [1, *[rank] * (grid.size - 1), self.width]
        fitting(("grid", "width", "rank"), (grid.cells, max(ranks[:-1]), max(ranks[1:])))
        keys = iter(jax.random.split(prng_key("key", key), 3 * grid.size))
        # Entries of unit variance in the products: each sum over a rank keeps its size.
        self.cores = tuple(
            jax.random.normal(next(keys), (grid.cells, left, right)) / math.sqrt(left)
            for left, right in itertools.pairwise(ranks)
        )
        table = (grid.cells, self.width)
        self.chosen = tuple(jax.random.normal(next(keys), table) for _ in range(grid.size - 1))
        scale = 1 / math.sqrt(self.width)
        self.logits = tuple(scale * jax.random.normal(next(keys), table) for _ in range(grid.size))
        self.offsets = tuple(jnp.zeros(grid.cells) for _ in range(grid.size))

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return self.grid.size

    def vector(self, x: Float[Array, " size"]) -> Float[Array, " width"]:
        """The product of the matrices of a state's cell."""
        cell = self.grid.cell(x)
        row = self.cores[0][cell[0]]
        for core, place in zip(self.cores[1:], cell[1:], strict=True):
            row = jnp.matmul(row, core[place], precision="highest")
        return row[0]

    def _law(self, j: int, hidden: Float[Array, " width"]) -> Float[Array, " cells"]:
        """Logarithms of the probabilities of coordinate j."""
        shape = hidden / jnp.sqrt(jnp.mean(hidden**2) + 1e-6)
        scores = jnp.matmul(self.logits[j], shape, precision="highest") + self.offsets[j]
        return jax.nn.log_softmax(scores)

    def _given(self, j: int, hidden: Any, place: Any) -> Float[Array, " width"]:
        """The hidden vector once coordinate j is known."""
        return hidden + self.chosen[j][place] if j + 1 < self.size else hidden

    def log_density(
        self, hidden: Float[Array, " width"], x: Float[Array, " size"], y: Float[Array, " size"]
    ) -> Float[Array, ""]:
        """The logarithm of the probability of the cell of `y`, per volume."""
        cell = self.grid.cell(y)
        total = -jnp.sum(jnp.log(self.grid.width))
        for j in range(self.size):
            total = total + self._law(j, hidden)[cell[j]]
            hidden = self._given(j, hidden, cell[j])
        return total

    def draw(
        self, key: Key, hidden: Float[Array, " width"], x: Float[Array, " size"]
    ) -> Float[Array, " size"]:
        """A uniform point of a drawn cell."""
        *keys, last = jax.random.split(key, self.size + 1)
        places = []
        for j, one in enumerate(keys):
            places.append(jax.random.categorical(one, self._law(j, hidden)))
            hidden = self._given(j, hidden, places[-1])
        return self.grid.inside(last, jnp.stack(places))

    def refined(self, factor: int = 2) -> "CellHead":
        """The head on a finer grid that gives every state the vector and the law it had.

        Each cell becomes `factor` cells along each coordinate, with the weights of the old one.
        Train on: the new cells part where the data tell them apart.
        """
        fine = self.grid.refined(factor)

        def copied(arrays: tuple) -> tuple:
            return tuple(jnp.repeat(array, factor, axis=0) for array in arrays)

        return eqx.tree_at(
            lambda h: (h.grid, h.cores, h.chosen, h.logits, h.offsets),
            self,
            (fine, *map(copied, (self.cores, self.chosen, self.logits, self.offsets))),
        )


class GaussianHead(AbstractHead):
    """States as numbers: the next one is normal around the present one.

        y = x + scale ∘ [μ(h) + L(h) ξ],      ξ independent standard normal numbers,

    with a triangular matrix L of positive diagonal.

    **Arguments**

    - `mean`, `scale`: of the states (size,): the network sees (x - mean)/scale. `scale` > 0.
    - `width`: the width of the network.
    - `spread`: the diagonal of L at the start, a number > 0.
    - `key`: the JAX key from which the weights are drawn.

    **Raises** ValueError for other shapes, and scales that are not positive.

    **Example**

    >>> head = rqf.surrogates.GaussianHead([0.0], [1.0], width=8, key=jax.random.key(0))
    >>> head.vector(jnp.array([0.1])).shape
    (8,)
    """

    mean: tuple[float, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)
    inward: eqx.nn.Linear
    outward: eqx.nn.Linear
    width: int = eqx.field(static=True)

    def __init__(self, mean: Any, scale: Any, *, width: int, spread: float = 0.1, key: Key):
        self.mean, self.scale = numbers("mean")(mean), numbers("scale")(scale)
        if len(self.mean) != len(self.scale):
            raise ValueError(
                f"`mean` and `scale` must be as long as each other; got {len(self.mean)} and "
                f"{len(self.scale)} numbers."
            )
        if min(self.scale) <= 0:
            raise ValueError(
                f"`scale` must be positive in every coordinate; got {min(self.scale)}. Leave "
                "constant coordinates out."
            )
        spread = real("spread", spread, minimum=1e-6)
        self.width, size = integer("width", width), len(self.mean)
        fitting("width", (self.width, size + size * (size + 1) // 2))
        first, second = jax.random.split(prng_key("key", key))
        self.inward = eqx.nn.Linear(size, self.width, key=first)
        outward = eqx.nn.Linear(self.width, size + size * (size + 1) // 2, key=second)
        # All laws begin alike, with no drift and the given spread.
        rest = spread + math.log(-math.expm1(-spread))  # the softplus of it is the spread
        diagonal = [rest if i == j else 0.0 for i in range(size) for j in range(i + 1)]
        bias = jnp.concatenate([jnp.zeros(size), jnp.asarray(diagonal)])
        self.outward = eqx.tree_at(
            lambda linear: (linear.weight, linear.bias), outward, (0.01 * outward.weight, bias)
        )

    @property
    def size(self) -> int:
        """The number of coordinates."""
        return len(self.mean)

    def vector(self, x: Float[Array, " size"]) -> Float[Array, " width"]:
        """A linear function of the standardised state."""
        mean, scale = jnp.asarray(self.mean, x.dtype), jnp.asarray(self.scale, x.dtype)
        return self.inward((x - mean) / scale)

    def law(
        self, hidden: Float[Array, " width"]
    ) -> tuple[Float[Array, " size"], Float[Array, "size size"]]:
        """μ and L."""
        size = self.size
        numbers = self.outward(hidden / jnp.sqrt(jnp.mean(hidden**2) + 1e-6))
        rows, columns = jnp.tril_indices(size)
        lower = jnp.zeros((size, size), numbers.dtype).at[rows, columns].set(numbers[size:])
        diagonal = jnp.diag(jax.nn.softplus(jnp.diag(lower)) + 1e-4)
        return numbers[:size], jnp.tril(lower, -1) + diagonal

    def log_density(
        self, hidden: Float[Array, " width"], x: Float[Array, " size"], y: Float[Array, " size"]
    ) -> Float[Array, ""]:
        """The log-density of the normal law."""
        scale = jnp.asarray(self.scale, x.dtype)
        centre, lower = self.law(hidden)
        rest = jax.scipy.linalg.solve_triangular(lower, (y - x) / scale - centre, lower=True)
        volume = jnp.sum(jnp.log(scale)) + jnp.sum(jnp.log(jnp.diag(lower)))
        return -0.5 * jnp.sum(rest**2) - volume - 0.5 * self.size * math.log(2 * math.pi)

    def draw(
        self, key: Key, hidden: Float[Array, " width"], x: Float[Array, " size"]
    ) -> Float[Array, " size"]:
        """A normal state."""
        scale = jnp.asarray(self.scale, x.dtype)
        centre, lower = self.law(hidden)
        xi = jax.random.normal(key, (self.size,), hidden.dtype)
        return x + scale * (centre + jnp.matmul(lower, xi, precision="highest"))

    def refined(self, factor: int = 2) -> "GaussianHead":
        """Raises ValueError: there is no grid."""
        raise ValueError("`head` must have a grid to refine; got a GaussianHead.")
