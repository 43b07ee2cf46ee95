"""Ratios that are 1 if the noise is common and isotropic, from sums over whitened steps.

Arguments `n` and `simulated` are the sums of `noise.summary` by name, the latter with the ratios of
`_step_error.SHAPE`. A ratio at a fitted θ scatters less than at the true one: with the derivative t
by θ, which is minus its covariance with the score, the information F and the covariance C of θ̂,

    variance = that at the true θ - 2 tᵀF⁻¹t + tᵀC t                     (derived, first order)
"""

import math

import numpy as np


def in_out(n: dict, squares, fisher, covariance, simulated: dict | None) -> tuple[float, float]:
    """The strength seen in the span of the tokens over that seen out of it, squared; its error."""
    if not (n["n_s"] and n["n_o"]):
        return math.nan, math.nan
    p, outside = squares[0], np.sum(squares) / 2
    ratio = (n["s"] / n["n_s"] / p) / (n["o"] / n["n_o"] / outside)
    share = 1 - p / (2 * outside)
    slope = np.array([-share, share])[: len(squares)]
    variance = _fitted(2 / n["n_s"] + 2 / n["n_o"], slope, fisher, covariance)
    if simulated is None:
        return ratio, math.sqrt(variance)
    expected = simulated["in_out"]
    return ratio / expected, math.sqrt(variance + simulated["in_out_variance"] / expected**2)


def scatter(n: dict, squares, fisher, covariance, simulated: dict | None) -> tuple[float, float]:
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
    share = 1 - p / (2 * outside)
    slope = np.array([n["n_s"] + n["n_o"] * (1 - share), n["n_o"] * share])[: len(squares)]
    spread = 2 + 12 * steps / dof if simulated is None else simulated["spread"]
    variance = _fitted(spread / steps, -2 * slope / dof, fisher, covariance)
    if simulated is None:
        return ratio, math.sqrt(variance)
    expected = simulated["scatter"]
    return ratio / expected, math.sqrt(variance + simulated["scatter_variance"]) / expected


def _fitted(variance: float, slope, fisher, covariance) -> float:
    """The variance of a ratio at a fitted θ; see the head of this module."""
    found = variance - 2 * slope @ np.linalg.pinv(fisher) @ slope + slope @ covariance @ slope
    # Where the fit uses nothing else than the ratio, nothing but rounding is left of it; a tenth of
    # the error at the true θ keeps z from being the quotient of two roundings.
    return max(float(found), variance / 100)


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
