"""The law of the rapidity u = artanh r of a pair: its density and expectations under it.

Generator ∂_u² + tanh(u) ∂_u in the clock t = σ²t; the formula is in `sphere.angle_density`.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from jaxtyping import Float
from scipy.special import ellipkm1

Values = Float[np.ndarray, "..."] | float


def log_cosh(u: Values) -> Values:
    """ln cosh u without overflow; infinite at infinity."""
    return np.abs(u) + np.log1p(np.exp(-2 * np.abs(u))) - math.log(2)


def gudermann(u: Values) -> Values:
    """gd u = π/2 - θ, precise at both ends."""
    return 2 * np.arctan(np.tanh(u / 2))


@cache
def _legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, weights / 2


def log_density(u: np.ndarray, start: np.ndarray, t: float) -> np.ndarray:
    """ln p(u) of `angle_density` for finite rapidities of one shape and one t = σ²t > 0."""
    size, start_size, distance = np.abs(u), np.abs(start), np.abs(u - start)
    scale = 1 / ((1 + np.exp(-2 * size)) * (1 + np.exp(-2 * start_size)))
    # K(-y) is singular at y = -1, a distance π/(2√t) from the real √x axis: more nodes for large t.
    nodes, weights = _legendre(8 * math.ceil(2 + 2 * math.sqrt(t)))
    roots = 6.2 * nodes  # √x, cut where exp(-x) = 2e-17
    masses = 2 * roots * np.exp(-(roots**2)) * 6.2 * weights
    average = np.zeros(u.shape)
    # One node at a time: a broadcast over nodes would cost memory and save no time.
    for root, mass in zip(roots, masses, strict=True):
        s = np.sqrt(distance**2 + 4 * t * root**2)
        excess = 4 * t * root**2 / (s + distance)  # s - δ without cancellation
        rise = np.expm1(-excess) * np.expm1(-s - distance)
        y = np.exp(s - size - start_size) * rise * scale
        complement = 1 / (1 + y)
        average += mass * np.sqrt(complement) * ellipkm1(complement)
    gaussian = -(distance**2) / (4 * t) - t / 4 - math.log(4 * math.pi * t) / 2
    return gaussian + (log_cosh(u) - log_cosh(start)) / 2 + np.log(2 / np.pi * average)


def expectation(
    function: Callable[[np.ndarray], Values],
    clock: Values,
    start: Values,
    points: Sequence[float] = (),
) -> Values:
    """E f(u_t) from rapidities `start` at σ²t = `clock`."""
    clock, start = np.broadcast_arrays(clock, start)
    frozen = (clock == 0) | np.isinf(start)
    result = np.empty(clock.shape)
    result[frozen] = function(start[frozen])
    nodes, weights = _legendre(32)
    for t in np.unique(clock[~frozen]):
        here = (clock == t) & ~frozen
        middle = start[here][:, None]
        # p(u) <= exp(-(δ - t)²/4t)/√(4πt). The density is as wide as √(2t) or, later, the distance
        # π/2 of its poles; panels of that width make 32 nodes spectrally accurate.
        reach = t + 13 * math.sqrt(t)
        panels = math.ceil(2 * reach / min(6.0, 14 * math.sqrt(2 * t)))
        edges = middle + np.linspace(-reach, reach, panels + 1)
        inner = np.clip(np.asarray(points, float), middle - reach, middle + reach)
        edges = np.sort(np.concatenate([edges, inner], axis=1), axis=1)[:, :, None]
        width = np.diff(edges, axis=1)
        u = edges[:, :-1] + width * nodes
        density = np.exp(log_density(u, middle[:, :, None], t))
        result[here] = np.sum(width * weights * density * function(u), axis=(1, 2))
    return result[()]
