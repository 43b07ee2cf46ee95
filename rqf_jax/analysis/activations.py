"""Massive activations along training: the five numbers of their curve."""

import itertools
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from .._arguments import data
from ..theory.learning import activation_curve, activation_peak

_NAMES = ("amplitude", "decay", "growth", "offset", "level")


class ActivationFit(eqx.Module):
    """A fitted `theory.learning.activation_curve`: its numbers, their errors, and how good it is.

    `estimate` and `stderr` have one number for each argument of the curve; `explained` is R², the
    share of the variance; `peak` the time of the largest value, before the start if it is
    negative.
    """

    estimate: dict[str, float]
    stderr: dict[str, float]
    explained: float
    peak: float

    def __repr__(self) -> str:
        rows = [
            f"{name:>10}  {self.estimate[name]:>10.5g} ± {self.stderr[name]:.2g}" for name in _NAMES
        ]
        head = f"ActivationFit(R² = {self.explained:.4f}, peak at {self.peak:.5g})"
        return "\n".join([head, *rows])


def fit_activation_curve(ts: Any, values: Any) -> ActivationFit:
    """Least squares of A e^{-λx} ln x + K, x = γt + t₀, to the size of activations over time.

    Amplitude and level are linear and solved for; the other three start from a grid, in units of
    the series' length. Errors are those of the linearised model with independent errors of the
    values; where a curve shows no peak, growth and decay are known badly, and the errors say so.

    **Arguments** `ts`: times ≥ 0, increasing; `values`: as many numbers, at least 6. **Returns** an
    `ActivationFit`. **Raises** ValueError for other values.

    >>> t = np.linspace(0.0, 200.0, 60)
    >>> curve = rqf.theory.learning.activation_curve(
    ...     t, amplitude=3.0, decay=0.5, growth=0.05, offset=1.2, level=0.7
    ... )
    >>> round(rqf.analysis.fit_activation_curve(t, curve).estimate["decay"], 3)
    0.5
    """
    times, found = data("ts", ts), data("values", values)
    if times.ndim != 1 or times.size < 6 or np.any(np.diff(times) <= 0) or times[0] < 0:
        raise ValueError(f"`ts` must be at least 6 increasing times ≥ 0; got shape {times.shape}.")
    if found.shape != times.shape:
        raise ValueError(f"`values` must have the shape {times.shape}; got {found.shape}.")
    if np.ptp(found) == 0:
        raise ValueError(f"`values` must differ; got {found[0]:g} alone.")
    unit = times / times[-1]

    def columns(shape: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "times 2"]:
        decay, growth, offset = np.exp(shape)
        x = growth * unit + offset
        return np.stack([np.exp(-decay * x) * np.log(x), np.ones_like(x)], 1)

    def left(shape: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " times"]:
        basis = columns(shape)
        return basis @ np.linalg.lstsq(basis, found, rcond=None)[0] - found

    bounds = (np.log([1e-6, 1e-3, 1e-3]), np.log([1e2, 1e5, 1e2]))
    starts = itertools.product((0.03, 0.5), (1.0, 10.0, 100.0), (0.3, 1.5))
    fits = [least_squares(left, np.log(one), bounds=bounds, x_scale=1.0) for one in starts]
    best = min(fits, key=lambda one: one.cost).x
    amplitude, level = np.linalg.lstsq(columns(best), found, rcond=None)[0]
    decay, growth, offset = np.exp(best)
    whole = np.array([amplitude, decay, growth / times[-1], offset, level])

    def curve(numbers: Float[np.ndarray, " 5"]) -> Float[np.ndarray, " times"]:
        return np.asarray(activation_curve(times, **dict(zip(_NAMES, numbers, strict=True))))

    steps = 1e-5 * np.maximum(np.abs(whole), 1e-8)
    slopes = np.stack(
        [(curve(whole + e) - curve(whole - e)) / (2 * e.sum()) for e in np.diag(steps)], 1
    )
    rest = found - curve(whole)
    variance = rest @ rest / max(1, times.size - 5)
    scale = np.linalg.norm(slopes, axis=0)
    spread = np.linalg.pinv((slopes / scale).T @ (slopes / scale))
    errors = np.sqrt(variance * np.diag(spread)) / scale
    peak = activation_peak(decay=whole[1], growth=whole[2], offset=whole[3])
    return ActivationFit(
        dict(zip(_NAMES, whole.tolist(), strict=True)),
        dict(zip(_NAMES, errors.tolist(), strict=True)),
        float(1 - rest @ rest / np.sum((found - found.mean()) ** 2)),
        float(peak),
    )
