"""The closed forms of a model, as a record that the comparison and the figures read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...systems import Exponents
from ...theory._rapidity import Values

SYNCHRONISED = 6.0
"""sigma² T from which on limits t → ∞ are compared with the last save (their distance, of order
exp(-sigma² T/4) in expectations, is then a few 1e-3 or less)."""

STATIONARY = 8.0
"""Times the slowest rate from which on ensembles are compared with stationary laws (their distance
in second moments is then of order exp(-16))."""


@dataclass(frozen=True)
class Statistic:
    """A quantity of eigenvalues or singular values, its value in theory, and what to average:
    (members, n) to (members,)."""

    quantity: str
    theory: Values
    of: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ClosedForms:
    """What theory knows of the ensembles of one model; None where it knows nothing.

    Only what is here gets rows in the comparison and lines in the figures.
    """

    hyperplane_time: float | None = None
    """The time from which tokens are as good as split by one uniformly random hyperplane."""
    volume_rate: float | None = None
    """E ln det G of N tokens falls at N(N-1) times it, from every start."""
    close_pair_rate: float | None = None
    """E ln sin θ of two tokens falls at this rate in the limit θ → 0."""
    antipodal_probability: Callable[[np.ndarray], Values] | None = None
    """The probability that two tokens end opposite, from their overlap."""
    one_point: Callable[[float], Values] | None = None
    """E<x(t), x(0)> of every token, from the time."""
    moments: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray] | None] | None = None
    """E G_ab and E G_ab² (times, pairs) from times and initial overlaps (starts, pairs), the mean
    over the starts; None for starts it does not cover."""
    angle_density: Callable[[np.ndarray, float, float], Values] | None = None
    """The density of an angle, from it, the time and the initial angle."""
    spectrum: Callable[[float, np.ndarray], list[Statistic]] | None = None
    """What is known of the eigenvalues or singular values of a matrix, from the time and from the
    members' first ones (members, n)."""
    square_sum: Callable[[np.ndarray, np.ndarray], Values | Sequence[float]] | None = None
    """The mean of the sum of their squares, from the times and the same."""
    edge: Callable[[float], Values] | None = None
    """Where the semicircle of many of them ends, from the time, if they start at zero."""
    density: Callable[[float], tuple[np.ndarray, np.ndarray] | None] | None = None
    """Another law of many of them, points and its density there, from the time."""
    means: Mapping[str, Callable[[float], Values]] = field(default_factory=dict)
    """The mean of an observable over members and its own axes, by the observable's name, from the
    time since the start; NaN at times at which it is not known."""
    exponents: Exponents | None = None
    """Lyapunov exponents, the largest first, with their own standard errors."""
    stable_split: Callable[[int, int], bool] | None = None
    """Whether tokens without noise can stay at the two ends of one axis, so many at each."""
    notes: tuple[str, ...] = ()
    """Thresholds and rates, one sentence each."""
