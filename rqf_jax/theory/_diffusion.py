"""One-dimensional diffusions in the rapidity u = artanh r: hitting probabilities and mean times.

    du = b(u) dt + √(2 a(u)) dW

No float64 overlap other than ±1 has a rapidity beyond ±20. Coefficients may go on changing, where
a large number multiplies 1 ∓ tanh u, but beyond ±40 less than 1e-16 of any integral is left:
integrals run over [-40, 40] and tails are exponentials.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ._rapidity import Values, log_cosh

Function = Callable[[np.ndarray], Values]

REACH = 40.0


def _collocation(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1], and the matrix of integrals from 0 to each node.

    The integral over [0, x] of the interpolating polynomial is that of its Legendre series:
    ∫ P_k = (P_{k+1} - P_{k-1})/(2k + 1).
    """
    x, weights = np.polynomial.legendre.leggauss(size)
    values = np.polynomial.legendre.legvander(x, size)
    degrees = np.arange(size)
    analysis = (2 * degrees[:, None] + 1) / 2 * values[:, :size].T * weights
    primitive = np.empty((size, size))
    primitive[:, 0] = x + 1
    primitive[:, 1:] = (values[:, 2:] - values[:, :-2]) / (2 * degrees[1:] + 1)
    return (x + 1) / 2, weights / 2, primitive @ analysis / 2


NODES, WEIGHTS, PRIMITIVE = _collocation(16)


def nodes(edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, "panels nodes"]:
    """The quadrature nodes of the panels between `edges`."""
    return edges[:-1, None] + np.diff(edges)[:, None] * NODES


def totals(edges: np.ndarray, values: np.ndarray) -> Float[np.ndarray, "*batch panels"]:
    """∫ over each panel of a function known at the nodes."""
    return np.diff(edges) * (values @ WEIGHTS)


def primitives(edges: np.ndarray, values: np.ndarray) -> Float[np.ndarray, "panels nodes"]:
    """∫ from the start of its panel to each node of a function known at the nodes."""
    return np.diff(edges)[:, None] * (values @ PRIMITIVE.T)


def panels(
    rate: Function, start: float, stop: float, points: np.ndarray, *, most: float = np.inf
) -> Float[np.ndarray, " edges"]:
    """Edges of panels in which ∫ (1 + |rate|) is below about 1, all `points` among them.

    Panels end where ∫ |rate| passes `most`.
    """
    grid = np.linspace(start, stop, 16001)
    # Cut, because a rate may overflow; panels that are still too long are split below.
    rates = np.minimum(np.abs(rate(nodes(grid))), min(most, 1e9) / (grid[1] - grid[0]))
    steepness = np.concatenate([[0], np.cumsum(totals(grid, rates))])
    last = min(int(np.searchsorted(steepness, most)), len(grid) - 1)
    count = (grid - start + steepness)[: last + 1]
    wanted = _room(count[-1])
    edges = np.interp(np.linspace(0, count[-1], wanted), count, grid[: last + 1])
    edges = np.unique(np.concatenate([edges, np.clip(points, edges[0], edges[-1])]))
    while True:
        costs = totals(edges, np.minimum(np.abs(rate(nodes(edges))), 1e9 / np.diff(edges)[:, None]))
        last = int(np.searchsorted(np.cumsum(costs), most)) + 1
        edges, costs = edges[: last + 1], costs[:last]
        parts = np.where((costs > 4) & (np.diff(edges) > 1e-15), 8, 1)
        if parts.max() == 1:
            return edges
        _room(float(parts.sum()))
        within = np.concatenate([np.arange(n) / n for n in parts])
        inner = np.repeat(edges[:-1], parts) + np.repeat(np.diff(edges), parts) * within
        edges = np.unique(np.append(inner, edges[-1]))


def _room(panels: float) -> int:
    """As many edges as so many panels have, unless there is no room for them."""
    if not panels < 1e7:
        raise ValueError(
            "Rates must differ less: the quadrature would take more than 10 million panels, "
            f"{1e7 * len(NODES) * 8:.2g} bytes. Take a smaller `dim`, `beta` or `strength`."
        )
    return math.ceil(panels) + 1


def probability_down(pull: Function, start: Values) -> Values:
    """P(u → -∞ before +∞) from the rapidities `start`, where b/a = tanh u + pull(u).

    ∫_{u_0}^∞ s' du / ∫ s' du with s' = sech(u) exp(-∫_0^u pull), 0 if s' is not integrable at -∞
    and 1 if it is not integrable at +∞. `pull` has one sign and is constant beyond ±40.
    """
    start = np.asarray(start)
    lower, upper = np.asarray(pull(np.array([-np.inf, np.inf])))
    if lower < 0:  # the mirror image, so that s' falls from left to right
        return 1 - probability_down(lambda u: -pull(-u), -start)
    result = np.where(start == -np.inf, 1.0, 0.0)
    inside = np.isfinite(start)
    if lower >= 1 or not inside.any():
        return result[()]
    inner = start[inside]
    # Beyond a factor e^800 there is nothing left in float64.
    edges = panels(
        lambda u: np.tanh(u) + pull(u), -REACH, REACH, np.append(inner, 0.0), most=1600.0
    )
    points = nodes(edges)
    rates = np.asarray(pull(points))
    exponent = np.concatenate([[0], np.cumsum(totals(edges, rates))])
    slope = -log_cosh(points) - exponent[:-1, None] - primitives(edges, rates)
    ends = -log_cosh(edges[[0, -1]]) - exponent[[0, -1]]
    shift = max(slope.max(), ends[0])
    below = np.exp(ends[0] - shift) / (1 - lower)
    above = np.exp(ends[1] - shift) / (1 + upper) if edges[-1] == REACH else 0.0
    masses = np.concatenate([totals(edges, np.exp(slope - shift)), [above]])
    rest = np.cumsum(masses[::-1])[::-1]
    result[inside] = rest[np.searchsorted(edges, np.minimum(inner, edges[-1]))] / (rest[0] + below)
    return result[()]


def mean_passage_time(
    drift: Function, half_variance: Function, start: Values, stop: float, *, bottom: float
) -> Values:
    """Mean first time with u ≥ `stop` from the rapidities `start`, where -∞ is an entrance.

    ∫ h du from u_0 to the barrier, where h = s' ∫_{-∞}^u dv/(a s') solves h' = (1 - b h)/a. Below
    `bottom` the coefficients must be those of a diffusion entering from r = -1: b/a constant and a
    proportional to 1/(1 + r), so that h decays as e^{2u}.
    """
    reached = np.clip(start, bottom, stop)
    edges = panels(lambda u: drift(u) / half_variance(u), bottom, stop, reached.ravel())
    points = nodes(edges)
    half = np.asarray(half_variance(points))
    ratio = np.asarray(drift(points)) / half
    growth, total = primitives(edges, ratio), totals(edges, ratio)
    gain = primitives(edges, np.exp(growth) / half)
    gains = totals(edges, np.exp(growth) / half)
    # Down there h' = 2h, and less than 1e-16 of the time is spent below `bottom`.
    first = edges[:1]
    level = float(np.asarray(1 / (2 * half_variance(first) + drift(first)))[0])
    times = np.zeros(len(edges))
    for panel in range(len(edges) - 1):
        height = np.exp(-growth[panel]) * (level + gain[panel])
        times[panel + 1] = times[panel] + (edges[panel + 1] - edges[panel]) * (height @ WEIGHTS)
        level = np.exp(-total[panel]) * (level + gains[panel])
    return (times[-1] - times[np.searchsorted(edges, reached)])[()]
