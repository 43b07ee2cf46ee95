"""The log density of noise strengths, for samplers and for the interval of a σ_a that may be 0."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._data import double_precision
from ._likelihood import deviance, total
from ._result import log_normal
from ._steps import Steps

NAMES = ("symmetric", "antisymmetric")
"""The parameters, σ_s and σ_a."""


class LogDensity(eqx.Module):
    """The log quasi-likelihood of whitened steps at strengths given by name.

    It is taken at the θ that finite steps look like, so that its maximum is the estimate, and has a
    `weight`, so that it is as sure of it as the estimate's error: see `corrected`.
    """

    steps: Steps
    error: Float[Array, " parameters"]
    weight: Float[Array, ""]
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, parameters: dict[str, Array]) -> Float[Array, ""]:
        """Up to a constant, at `parameters` like `FitResult.estimate`."""
        logs = jnp.stack([2 * jnp.log(parameters[name]) for name in self.names])
        return -self.deviance(logs.astype(self.steps.dt.dtype)) / 2

    def deviance(self, theta: Float[Array, " parameters"]) -> Float[Array, ""]:
        """-2 ln of the density at θ, the logarithms of squared strengths."""
        seen = theta[:1] + self.error[:1]
        if theta.size == 2:
            least = jnp.finfo(theta.dtype).tiny
            other = jnp.maximum(jnp.exp(theta[1:]) + self.error[1:], least)
            seen = jnp.concatenate([seen, jnp.log(other)])
        return self.weight * total(deviance(seen, self.steps))


def corrected(
    steps: Steps,
    seen: Float[np.ndarray, " parameters"],
    theta: Float[np.ndarray, " parameters"],
    inexact: float,
) -> LogDensity:
    """The density of `steps` whose quasi-likelihood is largest at `seen`, and their noise at θ.

    The length of steps adds to ln σ_s² and, by commutators, to σ_a² itself, which may be 0 without
    them. `inexact` is the variance of θ over that of the quasi-likelihood, the mean over θ.
    """
    error, dtype = np.asarray(seen - theta), steps.dt.dtype
    if error.size == 2:
        error[1] = math.exp(seen[1]) - math.exp(theta[1])
    return LogDensity(
        steps, jnp.asarray(error, dtype), jnp.asarray(1 / inexact, dtype), NAMES[: error.size]
    )


def two_intervals(names, theta, covariance, density: LogDensity, level: float):
    """Normal in ln σ; from 0 to the profile likelihood's end for a σ_a that may be 0."""
    from scipy.special import ndtri

    errors = np.sqrt(np.diagonal(covariance))
    found = log_normal(names, np.exp(theta / 2), errors / 2, level)
    if errors[1] > 0.5:
        grid, dtype = np.linspace(theta[0] - 12, theta[0] + 3, 151), density.steps.dt.dtype
        with double_precision(dtype == np.float64):
            log_p, log_r = (jnp.asarray(part, dtype) for part in (theta[0], grid))
            profile = np.asarray(_profile(density, log_p, log_r), float)
        inside = np.flatnonzero(profile - profile.min() <= ndtri((1 + level) / 2) ** 2)
        found[names[1]] = (0.0, math.exp(float(grid[min(inside[-1] + 1, 150)]) / 2))
    return found


@eqx.filter_jit
def _profile(density: LogDensity, log_p, grid):
    """-2 ln likelihood at every ln r of the grid, the best ln p found by Newton's method."""

    def at(log_r):
        def objective(point):
            return density.deviance(jnp.stack([point, log_r]))

        def move(_, point):
            slope, curvature = jax.grad(objective)(point), jax.grad(jax.grad(objective))(point)
            return point - jnp.clip(slope / jnp.abs(curvature), -0.5, 0.5)

        return objective(jax.lax.fori_loop(0, 8, move, log_p))

    return jax.lax.map(at, grid)
