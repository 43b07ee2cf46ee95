"""Distance of the powers of frequencies, whatever the phases."""

from typing import Any

import numpy as np
from jaxtyping import Float

from ..._arguments import data, real
from ._record import Distance, Series, distance, scales, series_of, surrogates_of, whole

_LEAST = 16
"""The least number of times that have a spectrum."""


def spectral_distance(
    truth: Any, models: Any, *, times: Any = None, smoothing: float = 2.0
) -> Distance:
    """Hellinger's distance of normalised power spectra, in [0, 1]: the mean over coordinates.

        H = √(1 - Σ_f √(P_f Q_f)),   P the mean periodogram over members, smoothed, Σ P = 1

    The mean of every series is taken off. A surrogate that is constant in a coordinate shares no
    power with the truth, and its distance there is 1. The null halves the truth by members, or by
    times where they are few: its spectra are shorter then.

    **Arguments**

    - `truth`: `Trajectories` or an array ([members,] times, dim), at equal steps.
    - `models`: the same of a surrogate at the same times, or a list, one for each seed. A truth
      with fewer than 8 members is cut in parts along its times, and they are, too.
    - `times`: of an array, to check that steps are equal; left out, they are taken to be.
    - `smoothing`: standard deviation ≥ 0 of the Gaussian that smooths spectra, in frequencies of
      the truth's whole series.

    **Returns** a `Distance`. **Raises** ValueError for other shapes, steps that are not equal,
    entries that are not finite, fewer than 16 times, and a constant coordinate of the truth.

    **Example**

    >>> angle = 2 * np.pi * np.arange(256) / 256 + np.arange(8)[:, None]
    >>> waves = [np.sin(k * angle)[..., None] for k in (10, 10, 40)]
    >>> near, far = (rqf.analysis.surrogates.spectral_distance(waves[0], w) for w in waves[1:])
    >>> near.value < 1e-6, far.value > 0.9
    (True, True)

    Source: Mikhaeil et al. (2022), recalled.
    """
    wide = real("smoothing", smoothing, minimum=0)
    xs = whole("truth", series_of("truth", truth, least=_LEAST))
    _check_steps(truth, times, xs.shape[1])
    others = surrogates_of(xs, models, least=_LEAST)
    for i, one in enumerate(others):
        whole(f"models[{i}]", one)
        if one.shape[1] != xs.shape[1]:
            raise ValueError(
                f"`models[{i}]` must have the {xs.shape[1]} times of `truth`; got {one.shape[1]}."
            )
    scales(xs)
    length = xs.shape[1]

    def measure(first: Series, second: Series) -> float:
        p, q = (_spectrum(one, wide * one.shape[1] / length) for one in (first, second))
        # 1 - Σ √(P Q) without cancellation; a constant coordinate has no power, Σ P = 0.
        apart = np.sum((np.sqrt(p) - np.sqrt(q)) ** 2, 0) + (1 - p.sum(0)) + (1 - q.sum(0))
        return float(np.mean(np.sqrt(np.maximum(apart, 0) / 2)))

    return distance("Hellinger of power spectra", measure, xs, others)


def _check_steps(truth: Any, times: Any, count: int) -> None:
    """Raise ValueError unless the times of the truth are equally spaced."""
    given = getattr(truth, "ts", times)
    if given is None:
        return
    ts = data("times", given)
    if ts.shape != (count,):
        raise ValueError(f"`times` must have shape ({count},), as `truth` has; got {ts.shape}.")
    steps = np.diff(ts)
    if not np.all(np.abs(steps - steps.mean()) <= 1e-3 * steps.mean()):
        raise ValueError(
            f"`times` must be equally spaced; got steps from {steps.min():.6g} to "
            f"{steps.max():.6g}."
        )


def _spectrum(xs: Series, wide: float) -> Float[np.ndarray, "frequencies dim"]:
    """Normalised power of every frequency but 0; zeros for a constant coordinate."""
    moving = xs - xs.mean(1, keepdims=True)
    power = np.mean(np.abs(np.fft.rfft(moving, axis=1)) ** 2, axis=0)[1:]
    if wide > 0:
        power = _smoothed(power, wide)
    total = power.sum(0)
    floor = (1e-12 * np.abs(xs).max((0, 1)) * xs.shape[1]) ** 2
    alive = total > floor
    return np.where(alive, power / np.where(alive, total, 1), 0.0)


def _smoothed(power: np.ndarray, wide: float) -> np.ndarray:
    places = np.arange(len(power))
    reach = min(len(power) - 1, int(np.ceil(4 * wide)))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-((offsets / wide) ** 2) / 2)
    # At the ends the rest of the Gaussian has the whole weight.
    norm = np.convolve(np.ones(len(places)), weights, "full")[reach : reach + len(places)]
    columns = [np.convolve(p, weights, "full")[reach : reach + len(p)] / norm for p in power.T]
    return np.stack(columns, axis=1)
