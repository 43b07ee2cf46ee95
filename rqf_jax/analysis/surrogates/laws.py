"""Divergences of the law of states, whatever the order of the times."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ..._arguments import Key, integer, one_of, prng_key, real
from ._record import Distance, Series, distance, scales, series_of, surrogates_of


def state_space_divergence(
    truth: Any,
    models: Any,
    *,
    bins: int = 30,
    margin: float = 0.1,
    smoothing: float = 1e-5,
    gaps: str = "raise",
) -> Distance:
    """D_stsp: Kullback-Leibler's divergence of the occupation of cells, truth from surrogate.

        D = Σ_k p_k ln(p_k/q_k),   p_k = (n_k + α)/(Σ n + α cells)

    The cells divide the box of the truth, and one more holds all that is outside, so that a
    surrogate that leaves the box is seen to. Few states make D large even between equal laws: give
    surrogates as many members and times as the truth, and compare with the null.

    **Arguments**

    - `truth`: `Trajectories` or an array ([members,] times, dim). At least 8 members, or times
      that can be cut in as many parts.
    - `models`: the same of a surrogate, or a list of them, one for each training seed.
    - `bins`: cells of every coordinate.
    - `margin`: the box is that of the truth and so many standard deviations more on every side.
    - `smoothing`: α > 0, added to the count of every cell.
    - `gaps`: "raise" for states with a NaN, or "skip" them. Infinite states are outside.

    **Returns** a `Distance`. **Raises** ValueError for other shapes and numbers, for a coordinate
    of the truth that is constant, and for cells so many that α in each outweighs the states.

    **Example**

    >>> x = np.random.default_rng(0).normal(size=(16, 500, 1))
    >>> found = rqf.analysis.surrogates.state_space_divergence(x, [x + 0.5, x + 0.6], bins=10)
    >>> found.value > 5 * found.null
    True

    Source: Koppe et al. (2019) and the released code of Mikhaeil et al. (2022), recalled: bins, box
    and smoothing are theirs, the cell outside is not.
    """
    bins, skip = integer("bins", bins, minimum=2, maximum=10**6), _skips(gaps)
    margin = real("margin", margin, minimum=0)
    alpha = real("smoothing", smoothing, minimum=1e-300)
    xs = series_of("truth", truth)
    others = surrogates_of(xs, models)
    skipped = sum(_gaps(name, one, skip) for name, one in _named(xs, others))
    points = _points(xs)
    deviation, cells = scales(xs), float(bins) ** xs.shape[2] + 1
    finite = points[np.isfinite(points).all(1)]
    low, high = finite.min(0) - margin * deviation, finite.max(0) + margin * deviation
    if not alpha * cells <= 0.1 * len(points):
        raise ValueError(
            f"`bins` must be fewer: {bins} in each of {xs.shape[2]} coordinates are {cells:.3g} "
            f"cells for {len(points)} states. Take fewer bins, less `smoothing`, or "
            "`mixture_divergence`."
        )

    def measure(first: Series, second: Series) -> float:
        counted = [_counts(_points(one), low, high, bins) for one in (first, second)]
        numbers = np.union1d(counted[0][0], counted[1][0])
        n, m = (_spread(numbers, *one) for one in counted)
        p = (n + alpha) / (n.sum() + alpha * cells)
        q = (m + alpha) / (m.sum() + alpha * cells)
        empty = alpha / (n.sum() + alpha * cells), alpha / (m.sum() + alpha * cells)
        rest = (cells - numbers.size) * empty[0] * np.log(empty[0] / empty[1])
        return float(np.sum(p * np.log(p / q)) + rest)

    return distance("D_stsp", measure, xs, others, skipped=skipped)


def _skips(gaps: Any) -> bool:
    return one_of("raise", "skip")("gaps", gaps) == "skip"


def _named(truth: Series, models: list[Series]) -> list[tuple[str, Series]]:
    return [("truth", truth), *((f"models[{i}]", one) for i, one in enumerate(models))]


def _gaps(name: str, xs: Series, skip: bool) -> int:
    """The number of states with a NaN; ValueError if there are some and they may not be skipped."""
    bad = np.isnan(xs).any(2)
    count = int(bad.sum())
    if count and not skip:
        member, time = np.argwhere(bad)[0].tolist()
        raise ValueError(
            f"`{name}` must not be NaN; got {count} states that are, the first at member {member}, "
            f'time {time}. Pass gaps="skip" to leave them out.'
        )
    if count == bad.size:
        raise ValueError(f"`{name}` must have states that are not NaN; got none.")
    return count


def _points(xs: Series) -> Float[np.ndarray, "states dim"]:
    """All states without a NaN."""
    points = xs.reshape(-1, xs.shape[2])
    return points[~np.isnan(points).any(1)]


def _counts(points: np.ndarray, low: np.ndarray, high: np.ndarray, bins: int):
    """The numbers of occupied cells, -1 for the one outside, and how many states each holds."""
    with np.errstate(invalid="ignore", over="ignore"):
        place = np.floor((points - low) / (high - low) * bins)
    inside = np.all((place >= 0) & (place <= bins), axis=1)
    index = np.minimum(np.where(inside.reshape(-1, 1), place, 0), bins - 1).astype(np.int64)
    number = np.zeros(len(points), np.int64)
    for column in index.T:
        number = number * bins + column
    return np.unique(np.where(inside, number, -1), return_counts=True)


def _spread(numbers: np.ndarray, own: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Counts of own cells among all `numbers`."""
    found = np.zeros(numbers.size)
    found[np.searchsorted(numbers, own)] = counts
    return found


def mixture_divergence(
    truth: Any,
    models: Any,
    *,
    key: Key,
    width: float = 0.1,
    centres: int = 1000,
    samples: int = 1000,
    gaps: str = "raise",
) -> Distance:
    """D_stsp of two mixtures of Gaussians around states, for states of many coordinates.

        D = E_p ln(p/q),   p = mean_i N(x_i, width² S),   q the same of the surrogate

    S is diagonal, the variances of the truth, and the mean is over samples from p.

    **Arguments**

    - `truth`, `models`, `gaps`: as of `state_space_divergence`.
    - `key`: a JAX key for centres and samples.
    - `width`: > 0, of a Gaussian, in standard deviations of the truth.
    - `centres`: so many states at most are centres; `samples`: so many are drawn.

    **Returns** a `Distance`. **Raises** ValueError for other shapes and numbers, for infinite
    states, and for a coordinate of the truth that is constant.

    **Example**

    >>> x = np.random.default_rng(0).normal(size=(16, 50, 8))
    >>> found = rqf.analysis.surrogates.mixture_divergence(
    ...     x, x + 1.0, width=0.5, key=jax.random.key(0)
    ... )
    >>> found.value > 2 * found.null
    True

    Source: Brenner et al. (2022), recalled.
    """
    skip, narrow = _skips(gaps), real("width", width, minimum=1e-10)
    most, drawn = (
        integer("centres", centres, maximum=10**5),
        integer("samples", samples, maximum=10**5),
    )
    words = np.asarray(jax.random.key_data(prng_key("key", key))).tolist()
    xs = series_of("truth", truth)
    others = surrogates_of(xs, models)
    skipped = sum(_gaps(name, one, skip) for name, one in _named(xs, others))
    for name, one in _named(xs, others):
        if np.isinf(one).any():
            raise ValueError(f"`{name}` must be finite; got an infinite state.")
    deviation = scales(xs) * narrow

    def measure(first: Series, second: Series) -> float:
        # Of the same random numbers for both, so that a law is at distance 0 from itself.
        a, b = (
            _some(_points(one) / deviation, most, np.random.default_rng(words))
            for one in (first, second)
        )
        rng = np.random.default_rng([*words, 1])
        x = a[rng.integers(len(a), size=drawn)] + rng.normal(size=(drawn, a.shape[1]))
        return float(np.mean(_log_mixture(x, a) - _log_mixture(x, b)))

    return distance("D_stsp of mixtures", measure, xs, others, skipped=skipped)


def _some(points: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(points) <= most:
        return points
    return points[rng.choice(len(points), most, replace=False)]


def _log_mixture(x: np.ndarray, centres: np.ndarray) -> Float[np.ndarray, " samples"]:
    """ln of the mean of unit Gaussians around centres, without the constant that all share."""
    exponents = x @ centres.T - np.sum(centres**2, 1) / 2
    highest = exponents.max(1)
    total = np.mean(np.exp(exponents - highest[:, None]), 1)
    return np.log(total) + highest - np.sum(x**2, 1) / 2
