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
        equal = _equal(edges)
        times = [_moments(at_one_time, edges, equal, keep) for at_one_time in values.swapaxes(0, 1)]
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
        # Members on their way to infinity may differ by more than the root of the largest number.
        with np.errstate(over="ignore", invalid="ignore"):
            step = other.mean - self.mean
            mean = self.mean + step * share
            squares = self.squares + other.squares + step**2 * self.count * share
        return Summary(count, mean, squares, self.histogram + other.histogram)

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


def _equal(edges: Float[np.ndarray, " edges"]) -> bool:
    """Whether all bins are of one width."""
    return np.allclose(np.diff(edges), edges[1] - edges[0])


def _moments(values, edges, equal, keep):
    """Count, mean, squares and histogram of the values (members, ...) at one time."""
    values = np.asarray(values if keep.all() else values[keep], np.float64)
    shape, bins = values.shape[1:], len(edges) - 1
    values = values.reshape(len(values), math.prod(shape))
    total, finite = values.sum(0), None
    count = np.full(total.shape, len(values))
    if not np.isfinite(total).all():  # rare, and so are numbers whose sum is not finite
        finite = np.isfinite(values)
        count, values = finite.sum(0), np.where(finite, values, 0.0)
        total = values.sum(0)
    if equal:  # needs no search
        scale = bins / (edges[-1] - edges[0])
        place = values * scale
        place -= edges[0] * scale
        place = np.clip(place, 0, bins - 1, out=place).astype(np.intp)
    else:
        place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
    if place.shape[1] > 1:
        place += bins * np.arange(place.shape[1])
    places = place.ravel() if finite is None else place[finite]
    histogram = np.bincount(places, minlength=bins * place.shape[1])
    mean = total / np.maximum(count, 1)
    distance = values - mean
    if finite is not None:
        distance[~finite] = 0.0
    # No product of BLAS, whose threads wait for each other between such small pieces.
    squares = np.einsum("ij,ij->j", distance, distance)
    return (
        count.reshape(shape),
        mean.reshape(shape),
        squares.reshape(shape),
        histogram.reshape(*shape, bins),
    )
