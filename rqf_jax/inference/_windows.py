"""Multiple shooting: a path in windows that must join, and steps of Gauss and Newton on all of it.

The unknowns are the states z_w at the starts of the windows and the parameters θ. A step solves

    min |r - J u|²  so that  c + C u = 0        [JᵀJ  Cᵀ ] [u]   [Jᵀr]
                                                [C   -δ²I] [λ] = [-c ]

with residuals r, defects c between windows, and exact derivatives J and C of the solver's steps.
Early steps take δ > 0, so that windows need not join yet, and the last ones δ = 0. Derivatives
cross one window only, so that they grow as they do over a window and not over the path. The matrix
has a band for the windows and a border for θ: its sparse factors cost as many operations as there
are windows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._sde import SDE, in_dtype
from ..solvers import begin, micro_step


class Windows(eqx.Module):
    """A path in windows: `ys` (windows, inside, seen), NaN where nothing was seen, the times
    `starts` and `lengths` (windows, inside) of the intervals, 0 beyond the last observation. A
    state is `like` that one, and `names` are those of the parameters of `model`."""

    model: Callable[[dict[str, Array]], SDE]
    observe: Callable[[Any], Any]
    solver: diffrax.AbstractSolver
    names: tuple[str, ...] = eqx.field(static=True)
    like: PyTree[Array]
    substeps: int = eqx.field(static=True)
    ys: Float[Array, "windows inside seen"]
    starts: Float[Array, "windows inside"]
    lengths: Float[Array, "windows inside"]

    def interval(self, theta, z, start, length):
        """A raveled state one interval later."""
        named = {name: theta[i] for i, name in enumerate(self.names)}
        sde, h = in_dtype(self.model(named), z.dtype), length / self.substeps
        x = ravel_pytree(self.like)[1](z)
        still = jnp.zeros(sde.noise.shape(x), z.dtype)

        def step(moving, offset):
            x, handed = moving
            return micro_step(self.solver, sde, start + offset * h, h, x, still, handed), None

        moving, offsets = (x, begin(self.solver, sde, start, x)), jnp.arange(self.substeps)
        return ravel_pytree(lax.scan(step, moving, offsets.astype(z.dtype))[0][0])[0]

    def seen(self, z):
        """The observation of a raveled state."""
        return jnp.ravel(self.observe(ravel_pytree(self.like)[1](z)))

    def window(self, both, starts, lengths):
        """Predictions (inside, seen) in one window, and the state at its end, from (z, θ)."""
        z, theta = both[: -len(self.names)], both[-len(self.names) :]

        def visit(z, at):
            return self.interval(theta, z, *at), self.seen(z)

        end, predicted = lax.scan(visit, z, (starts, lengths))
        return predicted, end


@eqx.filter_jit
def synchronised(problem: Windows, theta: Float[Array, " p"], z: Float[Array, " n"]):
    """States (windows, n) at the starts of the windows on a path pulled to the observations.

    At each one the state is moved by the least that explains it, and the other coordinates follow
    if the path synchronises.
    """

    def visit(z, at):
        y, start, length = at
        predicted, back = jax.vjp(problem.seen, z)
        rows = jax.vmap(lambda one: back(one)[0])(jnp.eye(y.size, dtype=z.dtype))
        error = jnp.where(jnp.isnan(y), 0.0, jnp.nan_to_num(y) - predicted)
        z = z + jnp.matmul(jnp.linalg.pinv(rows), error)
        return problem.interval(theta, z, start, length), z

    parts = problem.ys, problem.starts, problem.lengths
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), parts)
    return lax.scan(visit, z, flat)[1][:: problem.ys.shape[1]]


class Parts(NamedTuple):
    """A path near a point, window by window: `errors` (windows, rows) of the predictions, 0 where
    nothing was seen, and the `slopes` (windows, rows, n + p) of the predictions; `defects`
    (windows - 1, n) between windows and the slopes `ends` (windows - 1, n, n + p) of their ends."""

    errors: Any
    slopes: Any
    defects: Any
    ends: Any

    @property
    def finite(self) -> bool:
        """True if the path has no NaN and no infinity."""
        return all(bool(np.all(np.isfinite(part))) for part in self)


@eqx.filter_jit
def linearised(problem: Windows, states: Float[Array, "windows n"], theta: Float[Array, " p"]):
    """The `Parts` at a point, with derivatives in forward mode."""

    def one(z, y, starts, lengths):
        def made(both):
            return problem.window(both, starts, lengths)

        both = jnp.concatenate([z, theta])
        (predicted, end), (slopes, ends) = made(both), jax.jacfwd(made)(both)
        gone = jnp.isnan(y)
        error = jnp.where(gone, 0.0, jnp.nan_to_num(y) - predicted).reshape(-1)
        slopes = jnp.where(gone[..., None], 0.0, slopes).reshape(error.size, -1)
        return error, slopes, end, ends

    errors, slopes, end, ends = jax.vmap(one)(states, problem.ys, problem.starts, problem.lengths)
    return Parts(errors, slopes, end[:-1] - states[1:], ends[:-1])


def step(
    parts: Parts, weights: np.ndarray, spread: np.ndarray, delta: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves of the states (windows, n) and of θ, and the covariance of θ.

    `weights` (rows,) are one over the standard deviations of the errors in a window, and `spread`
    (n + p,) the units of the unknowns. The covariance is the block of θ in the inverse of the
    matrix, which for δ = 0 is that of the constrained least squares.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    windows, size, joints = len(parts.errors), parts.defects.shape[1], len(parts.defects)
    count = spread.size - size
    rows = parts.slopes * weights[:, None] * spread
    ends = parts.ends * spread / spread[:size, None]
    own, each = np.arange(windows)[:, None] * size, np.arange(size)
    border = windows * size + np.arange(count)
    columns = np.concatenate([own + each, np.broadcast_to(border, (windows, count))], 1)
    lines = border[-1] + 1 + np.arange(joints * size).reshape(joints, size)
    normal = np.einsum("wka,wkb->wab", rows, rows)
    blocks = [
        (columns[:, :, None], columns[:, None, :], normal),
        (lines[:, :, None], columns[:-1, None, :], ends),
        (columns[:-1, :, None], lines[:, None, :], np.swapaxes(ends, 1, 2)),
        (lines, columns[1:, :size], -np.ones_like(parts.defects)),
        (columns[1:, :size], lines, -np.ones_like(parts.defects)),
        (lines, lines, np.full_like(parts.defects, -(delta**2))),
    ]
    total = border[-1] + 1 + lines.size
    entries = [[np.broadcast_to(a, b[2].shape).ravel() for a in b] for b in blocks]
    i, j, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    factors = splu(coo_array((values, (i, j)), shape=(total, total)).tocsc())
    right = np.zeros((total, 1 + count))
    pulled = np.einsum("wka,wk->wa", rows, parts.errors * weights)
    np.add.at(right[:, 0], columns, pulled)
    right[lines, 0] = -parts.defects / spread[:size]
    right[border, 1 + np.arange(count)] = 1.0
    solution = factors.solve(right)
    moves = solution[: windows * size, 0].reshape(windows, size) * spread[:size]
    unit = spread[size:]
    return moves, solution[border, 0] * unit, solution[border, 1:] * np.outer(unit, unit)
