"""Survival: times to synchronise or to leave a metastable state, when not all have.

A member that has not passed when the run ends is censored: its time is known to be longer.
Leaving it out, or counting the end of the run as its time, would make every mean too short.
"""

import math
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float
from scipy.special import gammaincinv, ndtri

from .._arguments import data, host, part, real
from .._ensemble.trajectories import Trajectories


class Durations(eqx.Module):
    """Times of members, measured from the first save, and whether they were seen to end.

    `times` (members,); `observed` (members,) False where the time is a lower bound.
    """

    times: Float[np.ndarray, " members"]
    observed: Bool[np.ndarray, " members"]

    def __init__(self, times: Any, observed: Any):
        self.times = data("times", times)
        host("observed", observed)
        self.observed = np.asarray(observed)
        if self.times.ndim != 1 or not self.times.size or np.any(self.times < 0):
            raise ValueError(f"`times` must be one axis of times ≥ 0; got {self.times}.")
        if self.observed.shape != self.times.shape or self.observed.dtype != bool:
            raise ValueError(
                f"`observed` must be {self.times.size} booleans, one for each of `times`; got "
                f"{self.observed.dtype} of shape {self.observed.shape}."
            )

    def __repr__(self) -> str:
        return f"Durations(members={self.times.size}, observed={int(self.observed.sum())})"


class SurvivalCurve(eqx.Module):
    """The Kaplan-Meier curve: at each of the distinct `times` at which some member ended.

    `survival` is P(T > t) just after the time, `stderr` Greenwood's, `lower` and
    `upper` the log-log interval at `confidence`. `at_risk` and `events` count members.
    """

    times: Float[np.ndarray, " times"]
    at_risk: Float[np.ndarray, " times"]
    events: Float[np.ndarray, " times"]
    survival: Float[np.ndarray, " times"]
    stderr: Float[np.ndarray, " times"]
    lower: Float[np.ndarray, " times"]
    upper: Float[np.ndarray, " times"]
    last: float
    confidence: float = eqx.field(static=True)

    def restricted_mean(self, horizon: Any) -> tuple[float, float]:
        """E min(T, h) = ∫_0^h S dt up to the `horizon` h, and its standard error.

        Var = Σ_i (∫_{t_i}^h S dt)² d_i / (r_i (r_i - d_i)), over events before h (Greenwood's).
        Raises ValueError unless 0 < h ≤ the longest time of any member, beyond which S is not
        known (unless it is 0).
        """
        horizon = real("horizon", horizon, minimum=0)
        ended = self.survival.size > 0 and self.survival[-1] == 0
        if not 0 < horizon <= (math.inf if ended else self.last):
            raise ValueError(f"`horizon` must be in (0, {self.last:g}]; got {horizon:g}.")
        inside = self.times < horizon
        edges = np.concatenate([[0.0], self.times[inside], [horizon]])
        areas = np.concatenate([[1.0], self.survival[inside]]) * np.diff(edges)
        beyond = np.cumsum(areas[::-1])[::-1][1:]
        variance = np.sum(beyond**2 * _greenwood(self.at_risk[inside], self.events[inside]))
        return float(areas.sum()), math.sqrt(variance)

    @property
    def median(self) -> float:
        """The first time by which half have ended; infinite if the curve stays above 1/2."""
        below = self.survival <= 0.5
        return float(self.times[np.argmax(below)]) if below.any() else math.inf

    def __repr__(self) -> str:
        ended = int(self.events.sum())
        return (
            f"SurvivalCurve({len(self.times)} times, {ended} events, median {self.median:.4g}, "
            f"S({self.last:.4g}) = {self.survival[-1] if ended else 1.0:.3f})"
        )


class RateEstimate(eqx.Module):
    """The rate of an exponential law, its standard error and its interval at `confidence`."""

    rate: float
    stderr: float
    lower: float
    upper: float
    events: int
    confidence: float = eqx.field(static=True)

    def __repr__(self) -> str:
        return (
            f"RateEstimate({self.rate:.4g} ± {self.stderr:.2g}, "
            f"{self.confidence:.0%} [{self.lower:.4g}, {self.upper:.4g}], {self.events} events)"
        )


def first_below(runs: Trajectories, threshold: Any) -> Durations:
    """The first save time at which a scalar observable is at or below `threshold`.

    `runs.ys` is one number for every member and time: simulate with `save=` the observable. Times
    are on the grid of saves, so a mean is late by about half an interval, and by what happens
    between saves unseen (`theory.sphere.discrete_monitoring_shift`). A member that failed
    is censored at its last finite save.

    Raises ValueError if `runs.ys` is not one number for every member and time.
    """
    return _first(runs, lambda values, level: values <= level, threshold)


def first_above(runs: Trajectories, threshold: Any) -> Durations:
    """The first save time at which a scalar observable is at or above `threshold`.

    As `first_below`.
    """
    return _first(runs, lambda values, level: values >= level, threshold)


def kaplan_meier(durations: Durations, *, confidence: Any = 0.95) -> SurvivalCurve:
    """The Kaplan-Meier estimate of the survival function, with Greenwood's errors.

        S(t) = Π_{t_i ≤ t} (1 - d_i / r_i),   se² = S² Σ d_i / (r_i (r_i - d_i)),
        interval  S^{exp(± z se / (S |ln S|))}

    d_i members ended at t_i out of r_i still at risk; a member censored at t_i counts as at risk
    then. The log-log interval stays in [0, 1]; where S is 0 its ends are 0 and NaN.

    Raises ValueError unless 0 < confidence < 1. Source: classical; compared with scipy.stats.ecdf
    in the tests, which has no standard errors.
    """
    part(Durations)("durations", durations)
    confidence = _confidence(confidence)
    times, ended = np.unique(durations.times[durations.observed], return_counts=True)
    ordered = np.sort(durations.times)
    at_risk = len(ordered) - np.searchsorted(ordered, times)
    survival = np.cumprod(1 - ended / at_risk)
    relative = np.sqrt(np.cumsum(_greenwood(at_risk, ended)))
    alive = survival > 0
    log = np.log(np.where(alive, survival, 0.5))
    spread = np.exp(ndtri((1 + confidence) / 2) * relative / -log)
    return SurvivalCurve(
        times=times,
        at_risk=at_risk.astype(float),
        events=ended.astype(float),
        survival=survival,
        stderr=np.where(alive, survival * relative, 0.0),
        lower=np.where(alive, np.exp(log * spread), 0.0),
        upper=np.where(alive, np.exp(log / spread), np.nan),
        last=float(ordered[-1]),
        confidence=confidence,
    )


def exponential_rate(durations: Durations, *, confidence: Any = 0.95) -> RateEstimate:
    """The maximum likelihood rate of an exponential law from censored times.

        rate = d / Σ t,   se = rate / √d,   d the number of observed ends

    The interval is χ²_{2d}(α/2) / (2 Σ t) to χ²_{2d+2}(1 - α/2) / (2 Σ t), that of a Poisson
    count: exact or wider whatever ends the observation, and (0, …) without an event.

    Raises ValueError if all times are 0, and unless 0 < confidence < 1.
    """
    part(Durations)("durations", durations)
    confidence = _confidence(confidence)
    total, events = float(durations.times.sum()), int(durations.observed.sum())
    if total == 0:
        raise ValueError("`durations` must have a time above 0; got 0 for every member.")
    tail = (1 - confidence) / 2
    # χ²_{2d} is twice a gamma variable of shape d.
    lower = float(gammaincinv(events, tail)) / total if events else 0.0
    upper = float(gammaincinv(events + 1, 1 - tail)) / total
    rate = events / total
    return RateEstimate(rate, rate / math.sqrt(max(events, 1)), lower, upper, events, confidence)


def _first(runs: Trajectories, passes: Any, threshold: Any) -> Durations:
    part(Trajectories)("runs", runs)
    level = real("threshold", threshold)
    values = host("runs.ys", runs.ys)
    ts, status = np.asarray(runs.ts, float), np.asarray(runs.status)
    if values.shape != (status.size, ts.size):
        raise ValueError(
            "`runs.ys` must be one number for every member and time, of shape "
            f"{(status.size, ts.size)}; got {values.shape}."
        )
    failed = np.where(status > 0, status, ts.size)
    passed = passes(values, level) & (np.arange(ts.size) < failed[:, None])
    observed = passed.any(1)
    index = np.where(observed, np.argmax(passed, 1), failed - 1)
    return Durations(ts[index] - ts[0], observed)


def _greenwood(at_risk, events):
    """d / (r (r - d)), 0 where all end: the curve is 0 from there on."""
    left = at_risk - events
    return np.where(left > 0, events / (at_risk * np.maximum(left, 1)), 0.0)


def _confidence(value: Any) -> float:
    confidence = real("confidence", value)
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1); got {confidence:g}.")
    return confidence
