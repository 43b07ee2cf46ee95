"""Ratios that are 1 if the noise is common and isotropic, from sums over whitened steps.

Arguments `n` and `simulated` are the sums of `noise.summary` by name.
"""

import math

import numpy as np


def in_out(n: dict, squares) -> tuple[float, float]:
    """The strength seen in the span of the tokens over that seen out of it, squared; its error."""
    if not (n["n_s"] and n["n_o"]):
        return math.nan, math.nan
    outside = np.sum(squares) / 2
    ratio = (n["s"] / n["n_s"] / squares[0]) / (n["o"] / n["n_o"] / outside)
    return ratio, math.sqrt(2 / n["n_s"] + 2 / n["n_o"])


def scatter(n: dict, squares) -> tuple[float, float]:
    """How much the χ² numbers of the steps scatter over how much they should; its error.

    The mean of (y - d)²/2d over steps, with y of d degrees of freedom: the variance of one is
    2 + 12/d, and the fitted strength takes one step away.
    """
    dof, steps = n["n_s"] + n["n_o"], n["steps"]
    if steps < 3 or not dof:
        return math.nan, math.nan
    p, outside = squares[0], np.sum(squares) / 2
    square = n["ss"] / p**2 + 2 * n["so"] / (p * outside) + n["oo"] / outside**2
    ratio = (square - 2 * (n["s"] / p + n["o"] / outside) + dof) / (2 * (steps - 1))
    return ratio, math.sqrt((2 + 12 * steps / dof) / steps)


def null_error(n: dict, simulated: dict, p: float, variance: float) -> float:
    """The standard error of the null ratio (Σ q_a)/p̂² over that of the simulation.

    `variance` is that of ln p̂. With m the mean of a = q_a/dt over N steps, simulated at p̂, and
    b = (q_s + 2 q_o)/(dof p dt) - 1 the part of a step in ln p̂ (derived, first order in 1/N)

        (var a/m²) (1/N + 1/N_simulated) + 4 variance - 4 cov(a/m, b)/N
    """
    steps = simulated["steps"]
    mean = simulated["a"] / steps
    spread = (simulated["aa"] / steps - mean**2) / mean**2
    strength = simulated["s"] + 2 * simulated["o"]
    dof = p * (simulated["n_s"] + simulated["n_o"])
    shared = ((simulated["sa"] + 2 * simulated["oa"]) / mean - strength) / dof
    square = spread * (1 / n["steps"] + 1 / steps) + 4 * variance - 4 * shared / n["steps"]
    # The covariance is itself an estimate: it may not eat up the variance of the first part.
    return math.sqrt(max(square, spread / n["steps"] / 4))
