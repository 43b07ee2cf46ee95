"""The law of the rapidity u = artanh r of a pair: its density and expectations under it.

Generator ∂_u² + tanh(u) ∂_u in the clock t = σ²t; the formula is in `sphere.angle_density`.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from jaxtyping import Float

from ._special import Values as Values, elliptic

Points = Sequence[float] | Float[np.ndarray, " points"]

# From this clock on a pair has settled: what is left in between is below e^{-1000}.
SETTLED = 4000.0

# Later clocks differ in nothing that a bounded function can tell, and float64 cannot resolve √t.
LATEST = 1e20


def log_cosh(u: Values) -> Values:
    """ln cosh u without overflow, and precise near 0; infinite at infinity."""
    size = np.abs(u)
    near = np.log1p(np.sinh(np.minimum(size, 1.0)) ** 2) / 2
    return np.where(size < 1, near, size + np.log1p(np.exp(-2 * size)) - math.log(2))[()]


def gudermann(u: Values) -> Values:
    """gd u = π/2 - θ, precise at both ends."""
    return 2 * np.arctan(np.tanh(u / 2))


@cache
def _legendre(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, weights / 2


def log_density(start: np.ndarray, shift: np.ndarray, t: float) -> np.ndarray:
    """ln p(u) at u = `start` + `shift`, finite rapidities of one shape, and one t = σ²t > 0.

    The shift is given because u - u_0 would cancel at small t. The nodes suffice for any t where u
    is near 0, and for t above 300 only where |u| is of the order of t.
    """
    u = start + shift
    size, start_size, distance = np.abs(u), np.abs(start), np.abs(shift)
    # |u - u_0| - |u| - |u_0|, which would cancel.
    detour = np.where(u * start > 0, -2 * np.minimum(size, start_size), 0.0)
    scale = np.log1p(np.exp(-2 * size)) + np.log1p(np.exp(-2 * start_size))
    # K(-y) is singular at y = -1, a distance π/(2√t) from the real √x axis: more nodes for large t.
    nodes, weights = _legendre(8 * math.ceil(3 + 2 * math.sqrt(t if t < SETTLED else 100)))
    roots = 6.2 * nodes  # √x, cut where exp(-x) = 2e-17
    masses = 2 * roots * np.exp(-(roots**2)) * 6.2 * weights
    average = np.zeros(u.shape)
    # One node at a time: a broadcast over nodes would cost memory and save no time.
    for root, mass in zip(roots, masses, strict=True):
        path = 2 * math.sqrt(t) * root
        s = np.hypot(distance, path)
        excess = path * (path / (s + distance))  # s - δ without cancellation
        # y overflows where the density is smallest, so its logarithm is what is computed.
        log_y = excess + detour + np.log(-np.expm1(-excess)) + np.log(-np.expm1(-s - distance))
        log_complement = -np.logaddexp(0.0, log_y - scale)
        average += mass * np.exp(log_complement / 2) * elliptic(log_complement)
    # δ²/4t + t/4 - (ln cosh u - ln cosh u_0)/2, where squares of large numbers would cancel.
    bend = (np.log1p(np.exp(-2 * size)) - np.log1p(np.exp(-2 * start_size))) / 2
    same = u * start > 0
    outwards = np.where(same, np.sign(start) * shift, distance)
    gaussian = -(((outwards - t) / math.sqrt(t)) ** 2) / 4 - np.where(same, 0.0, start_size)
    return gaussian + bend - math.log(4 * math.pi * t) / 2 + np.log(2 / np.pi * average)


def expectation(
    function: Callable[[np.ndarray], Values],
    clock: Values,
    start: Values,
    points: Points = (),
) -> Values:
    """E f(u_t) from rapidities `start` at σ²t = `clock`."""
    return moved_expectation(lambda start, shift: function(start + shift), clock, start, points)


def moved_expectation(
    function: Callable[[np.ndarray, np.ndarray], Values],
    clock: Values,
    start: Values,
    points: Points = (),
) -> Values:
    """E f(u_0, u_t - u_0) from rapidities u_0 = `start` at σ²t = `clock`."""
    clock, start = np.broadcast_arrays(np.minimum(clock, LATEST), start)
    frozen = (clock == 0) | np.isinf(start)
    result = np.zeros(clock.shape)
    result[frozen] = function(start[frozen], np.zeros(frozen.sum()))
    nodes, weights = _legendre(32)
    for t in np.unique(clock[~frozen]):
        here = (clock == t) & ~frozen
        middle = start[here][:, None]
        for edges in _windows(middle, float(t), points):
            width = np.diff(edges[:, :, None], axis=1)
            shift = edges[:, :-1, None] + width * nodes
            origin = np.broadcast_to(middle[:, :, None], shift.shape)
            density = np.exp(log_density(origin, shift, float(t)))
            result[here] += np.sum(width * weights * density * function(origin, shift), axis=(1, 2))
    return result[()]


def _windows(middle: np.ndarray, t: float, points: Points) -> list[np.ndarray]:
    """Edges of panels in u - u_0, one row for each u_0 = `middle`, where the density is found.

    p(u) <= exp(-(δ - t)²/4t)/√(4πt). The density is as wide as √(2t) or, later, the distance π/2 of
    its poles; panels of that width make 32 nodes spectrally accurate. At late times it sits at ±t,
    where it is smooth, and near 0.
    """
    spread = 13 * math.sqrt(t)
    near = t - spread
    if near < 100:
        reach = np.full_like(middle, t + spread)
        spans = [(-reach, reach, min(6.0, 14 * math.sqrt(2 * t)))]
    else:
        inner, outer = np.full_like(middle, near), np.full_like(middle, t + spread)
        spans = [(-outer, -inner, math.sqrt(t)), (inner, outer, math.sqrt(t))]
        if t <= SETTLED:
            low, high = (np.clip(end - middle, -near, near) for end in (-100.0, 100.0))
            spans.append((low, high, 6.0))
    edges = []
    for low, high, finest in spans:
        steps = math.ceil(float(np.max(high - low)) / finest)
        grid = low + (high - low) * np.linspace(0, 1, steps + 1)
        kinks = np.clip(np.asarray(points, float) - middle, low, high)
        edges.append(np.sort(np.concatenate([grid, kinks], axis=1), axis=1))
    return edges
