"""What is kept of an ensemble whose trajectories are not: moments and histograms, merged online."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

BINS = 64
"""Bins of every histogram."""

_RANGES = {
    "overlaps": (-1.0, 1.0),
    "gram": (-1.0, 1.0),
    "angles": (0.0, math.pi),
    "polar_order": (0.0, 1.0),
    "nematic_order": (0.0, 1.0),
}


def edges(name: str) -> Float[np.ndarray, " edges"]:
    """The edges of the histogram of an observable, known before anything is simulated.

    Equal bins where the observable has a range; otherwise sinh of equal bins of [-12, 12], fine at
    0 and wide far out, up to 8e4. Finite values beyond the ends are counted in the last bin there.
    """
    if name in _RANGES:
        return np.linspace(*_RANGES[name], BINS + 1)
    return np.sinh(np.linspace(-12.0, 12.0, BINS + 1))


@dataclass(frozen=True)
class Summary:
    """Moments over members of an array of numbers (times, ...), each on its own.

    `count` of members with a finite value; their `mean`; `squares`, the sum of their squared
    distances from it; `histogram` (times, ..., bins). In float64, merged as Chan, Golub & LeVeque
    do (recalled, and tested against all values at once), so that neither the order of 10⁹ members
    nor a large mean loses digits.
    """

    count: Int[np.ndarray, "*shape"]
    mean: Float[np.ndarray, "*shape"]
    squares: Float[np.ndarray, "*shape"]
    histogram: Int[np.ndarray, "*shape bins"]

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        edges: Float[np.ndarray, " edges"],
        keep: Bool[np.ndarray, " members"],
    ) -> "Summary":
        """The summary of `values` (members, times, ...) over the members to `keep`."""
        times = [_moments(at_one_time, edges, keep) for at_one_time in values.swapaxes(0, 1)]
        return cls.combined(np.stack, [cls(*moments) for moments in times])

    @classmethod
    def combined(
        cls, how: Callable[[list[np.ndarray]], np.ndarray], parts: Sequence["Summary"]
    ) -> "Summary":
        """Each array made of those of all `parts`: stacked, concatenated."""
        names = [field.name for field in fields(cls)]
        return cls(*(how([getattr(part, name) for part in parts]) for name in names))

    def __add__(self, other: "Summary") -> "Summary":
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        step = other.mean - self.mean
        return Summary(
            count,
            self.mean + step * share,
            self.squares + other.squares + step**2 * self.count * share,
            self.histogram + other.histogram,
        )

    @property
    def variance(self) -> Float[np.ndarray, "*shape"]:
        """The unbiased variance over members; NaN for fewer than two."""
        return np.where(self.count > 1, self.squares / np.maximum(self.count - 1, 1), np.nan)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The four arrays under `name`.count and so on, as `read` takes them."""
        return {f"{name}.{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def read(cls, name: str, arrays: Mapping[str, np.ndarray]) -> "Summary":
        """The summary that `arrays` wrote."""
        return cls(*(arrays[f"{name}.{field.name}"] for field in fields(cls)))


def _moments(values, edges, keep):
    """Count, mean, squares and histogram of the values (members, ...) at one time."""
    values = np.asarray(values if keep.all() else values[keep], np.float64)
    bins = len(edges) - 1
    shape = values.shape[1:]
    values = values.reshape(len(values), math.prod(shape))
    finite = np.isfinite(values)
    count = finite.sum(0)
    every = bool(count.sum() == finite.size)
    known = values if every else np.where(finite, values, 0.0)
    mean = known.sum(0) / np.maximum(count, 1)
    distance = known - mean
    squares = (distance * distance).sum(0, where=True if every else finite)
    # Equal bins need no search.
    if np.allclose(np.diff(edges), edges[1] - edges[0]):
        place = ((known - edges[0]) * (bins / (edges[-1] - edges[0]))).astype(np.int64)
    else:
        place = np.searchsorted(edges, known, side="right") - 1
    np.clip(place, 0, bins - 1, out=place)
    place += bins * np.arange(values.shape[1])
    places = place.ravel() if every else place[finite]
    histogram = np.bincount(places, minlength=bins * values.shape[1])
    return (
        count.reshape(shape),
        mean.reshape(shape),
        squares.reshape(shape),
        histogram.reshape(*shape, bins),
    )
