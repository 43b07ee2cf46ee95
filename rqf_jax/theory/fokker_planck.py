"""Densities of dx = -∇L dt + √(2D) dB on a grid in one or two dimensions, to check ensembles with.

    ∂p/∂t = ∇·(p ∇L) + D Δp;   φ = ln p obeys  ∂φ/∂t = ∇L·∇φ + ΔL + D (Δφ + |∇φ|²)

the second a KPZ equation. Nothing leaves the grid.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.linalg import expm_multiply

from .._arguments import Real, fitting
from ._contract import finite
from ._numbers import check, duration, nonnegative, positive, real, scalar, vector

_MOST_JUMPS = 10**6
"""The most jumps: they take some seconds on a grid of a hundred points."""


@finite
def density(
    loss: Real, start: Real, times: Sequence[float], *, spacing: float, diffusion: float
) -> Float[np.ndarray, "times *grid"]:
    """The density at some times, from its values on a grid at time 0.

    Finite volumes whose rates between neighbours are (D/h²) b(ΔL/D), b(x) = x/(e^x - 1)
    (Scharfetter & Gummel, recalled): mass is kept, no density becomes negative, and e^{-L/D} stays
    exactly. The error is of second order in h; in time there is none.

    **Arguments**

    - `loss`: L on a grid with one or two axes, at distances `spacing` h > 0 in each.
    - `start`: p ≥ 0 on the same grid; it is divided by its mass.
    - `times`: at least 0; `diffusion`: D > 0.

    The work grows with the jumps between neighbours, the last time over the shortest stay at a
    place, about h²/2D or less on a slope; beyond 10⁶ of them the times are refused.

    **Returns** an array (times, *grid), of mass Σ p h^axes = 1. **Raises** ValueError for other
    shapes and values. **Example**

    >>> x = np.linspace(-5.0, 5.0, 201)
    >>> p = rqf.theory.fokker_planck.density(
    ...     x**2 / 2, np.exp(-((x - 1) ** 2)), [30.0], spacing=0.05, diffusion=1.0
    ... )
    >>> print(np.round(np.sum(p[0] * x**2) * 0.05, 3))  # the variance of e^{-x²/2}
    1.0
    """
    height, mass = np.asarray(real("loss", loss)), np.asarray(nonnegative("start", start))
    h, d = scalar(positive, "spacing", spacing), scalar(positive, "diffusion", diffusion)
    if height.ndim not in (1, 2) or min(height.shape, default=0) < 2:
        raise ValueError(
            f"`loss` must be on a grid with one or two axes of at least two points; got shape "
            f"{height.shape}."
        )
    if mass.shape != height.shape:
        raise ValueError(
            f"`start` must be of the shape of `loss`, {height.shape}; got {mass.shape}."
        )
    check("start", mass.sum(), mass.sum() > 0, "have mass")
    instants = vector("times", duration("times", real("times", times)))
    fitting(("times", "loss"), (instants.size, height.size), 8)
    rates = _rates(height, d) * (d / h**2)
    last = float(instants.max())
    jumps = last * float(-rates.diagonal().min()) if last else 0.0
    if not jumps <= _MOST_JUMPS:
        raise ValueError(
            f"`times` must need at most {_MOST_JUMPS:,} jumps between neighbours of the grid; got "
            f"{jumps:.2g} until {last:g}. Take a larger `spacing`, or, where the density has "
            "become stationary, e^(-`loss`/`diffusion`) over its mass."
        )
    found = np.empty((instants.size, height.size))
    now, p = 0.0, (mass / mass.sum()).reshape(-1)
    for k in np.argsort(instants):  # from each time to the next
        p = expm_multiply(rates * (instants[k] - now), p) if instants[k] > now else p
        now, found[k] = instants[k], p
    return (found / h**height.ndim).reshape(-1, *height.shape)


def _rates(height: Float[np.ndarray, "*grid"], d: float) -> sparse.csr_array:
    """The generator of jumps between neighbours, a column for each place that is left."""
    places = np.arange(height.size).reshape(height.shape)
    rows, columns, values = [], [], []
    for axis in range(height.ndim):
        low = np.take(places, range(height.shape[axis] - 1), axis).reshape(-1)
        high = np.take(places, range(1, height.shape[axis]), axis).reshape(-1)
        for source, target in ((low, high), (high, low)):
            up = (height.reshape(-1)[target] - height.reshape(-1)[source]) / d
            rate = np.where(np.abs(up) < 1e-12, 1 - up / 2, up / np.expm1(up))
            rate = np.where(up > 700, 0.0, rate)
            rows += [target, source]
            columns += [source, source]
            values += [rate, -rate]
    shape = (height.size, height.size)
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(entries, shape=shape)
