"""Errors of forecasts, member by member: how long they hold, and how far they are off."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ..._arguments import data, real
from ._record import Distance, Series, scales, series_of, surrogates_of, whole


def valid_prediction_time(
    truth: Any, forecasts: Any, times: Any = None, *, exponent: float, threshold: float = 0.4
) -> Distance:
    """The time for which forecasts hold, in units of the Lyapunov time 1/λ: the longer the better.

        t_valid = λ · first t with |x̂(t) - x(t)| > threshold · √(Σ_i Var x_i)

    The variance is that of the truth over members and times. A forecast that holds to its end
    counts with its whole length, and is `censored`: the mean is then a lower bound. The null is
    the truth of another member as the forecast: what a surrogate with the right law and no
    knowledge of the start would reach.

    **Arguments**

    - `truth`: `Trajectories` or an array ([members,] times, dim), the first time that of the start.
    - `forecasts`: the same from the same starts, or a list, one for each seed; member i is a
      forecast of member i. A forecast that became NaN or infinite holds no longer.
    - `times`: of an array; `Trajectories` know their own. They need not be equally spaced.
    - `exponent`: λ > 0, the largest Lyapunov exponent, per unit time.
    - `threshold`: > 0; 0.4 is usual, and numbers from 0.3 to 0.5 are in use.

    **Returns** a `Distance`, of times. **Raises** ValueError for other shapes and numbers, and for
    a truth with one member.

    **Example**

    >>> t = np.arange(8.0)
    >>> truth = np.random.default_rng(0).normal(size=(20, 8, 2))
    >>> forecast = truth + (t[:, None] > 4.5)
    >>> found = rqf.analysis.surrogates.valid_prediction_time(truth, forecast, t, exponent=0.5)
    >>> found.value
    2.5
    """
    rate, level = real("exponent", exponent, minimum=1e-30), real("threshold", threshold, minimum=0)
    xs, others = _pairs(truth, forecasts)
    ts = _times(truth, times, xs.shape[1])
    limit = level * np.linalg.norm(scales(xs))
    clock = rate * (ts - ts[0])

    def valid(x: Series, forecast: Series) -> tuple[float, int]:
        with np.errstate(invalid="ignore", over="ignore"):
            wrong = ~(np.linalg.norm(forecast - x, axis=2) <= limit)
        ended = wrong.any(1)
        times = np.where(ended, clock[np.argmax(wrong, 1)], clock[-1])
        return float(times.mean()), int(np.sum(~ended))

    found = [valid(xs, one) for one in others]
    null = np.array([valid(xs, np.roll(xs, turn, 0))[0] for turn in _turns(len(xs))])
    seeds = np.array([time for time, _ in found])
    censored = sum(count for _, count in found)
    return Distance("valid prediction time", seeds, null, censored=censored)


def forecast_error(truth: Any, forecasts: Any) -> Distance:
    """sMAPE, the symmetric mean absolute percentage error of forecasts, in [0, 200].

        200 · mean |x̂ - x| / (|x̂| + |x|)

    Over members, times after the start, and coordinates; 0/0 counts as 0. The null is the truth of
    another member as the forecast. `truth` and `forecasts` are as of `valid_prediction_time`, and
    the times do not matter. A forecast that became NaN or infinite counts with 200 where it did.
    Raises ValueError for other shapes, a truth that is not finite, and one with one member.
    """
    xs, others = _pairs(truth, forecasts)

    def error(x: Series, forecast: Series) -> float:
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            ratio = np.abs(forecast - x) / (np.abs(forecast) + np.abs(x))
        ratio = np.where((forecast == 0) & (x == 0), 0.0, ratio)
        return float(200 * np.mean(np.where(np.isfinite(ratio), ratio, 1.0)[:, 1:]))

    seeds = np.array([error(xs, one) for one in others])
    null = np.array([error(xs, np.roll(xs, turn, 0)) for turn in _turns(len(xs))])
    return Distance("sMAPE", seeds, null)


def _pairs(truth: Any, forecasts: Any) -> tuple[Series, list[Series]]:
    """The truth and its forecasts, in one shape."""
    xs = whole("truth", series_of("truth", truth))
    if len(xs) < 2:
        raise ValueError("`truth` must have at least 2 members, for the null; got 1.")
    others = surrogates_of(xs, forecasts, argument="forecasts")
    for i, one in enumerate(others):
        if one.shape != xs.shape:
            raise ValueError(
                f"`forecasts[{i}]` must have the shape of `truth`, {xs.shape}; got {one.shape}."
            )
    return xs, others


def _turns(members: int) -> list[int]:
    """By how many places to turn members, so that none is a forecast of itself."""
    return sorted({1 + i * (members - 1) // 4 for i in range(4)} - {members})


def _times(truth: Any, times: Any, count: int) -> Float[np.ndarray, " times"]:
    given = getattr(truth, "ts", times)
    if given is None:
        raise ValueError(
            "`times` must be given when `truth` is an array: steps may be of any length."
        )
    ts = data("times", given)
    if ts.shape != (count,):
        raise ValueError(f"`times` must have shape ({count},), as `truth` has; got {ts.shape}.")
    if not np.all(np.diff(ts) > 0):
        raise ValueError("`times` must be strictly increasing.")
    return ts
