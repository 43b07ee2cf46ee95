"""One number in a double well under noise: stationary law, rates of jumps, times of passage.

    dx = -U'(x) dt + σ dB,   U = barrier (1 - (x/position)²)²

the equation of `systems.DoubleWell` beside `noises.TokenNoise(sigma)`. Everything but Kramers'
rate is a quadrature of an exact formula. Source: Gardiner, Handbook of Stochastic Methods
(recalled); Kramers, Physica 7 (1940), recalled.
"""

import math

import numpy as np

from .._arguments import integer
from ._contract import finite
from ._numbers import Real, positive, real, scalar
from ._rapidity import Values

_POINTS = 4001
"""Points of the quadratures."""


@finite
def height(x: Real, *, barrier: float = 0.25, position: float = 1.0) -> Values:
    """U(x). Raises ValueError unless `barrier` and `position` are positive."""
    return _height(real("x", x), *_shape(barrier, position))


@finite
def density(x: Real, sigma: float, *, barrier: float = 0.25, position: float = 1.0) -> Values:
    """The stationary density at x, exp(-2U(x)/σ²)/Z.

    **Arguments**

    - `x`: numbers.
    - `sigma`: σ > 0 of the noise.
    - `barrier`, `position`: > 0, of the wells.

    **Returns** the density. **Raises** ValueError for other numbers. **Example**

    >>> x = np.linspace(-3.0, 3.0, 601)
    >>> print(round(float(np.sum(rqf.theory.wells.density(x, 0.5)) * 0.01), 6))
    1.0
    """
    s = scalar(positive, "sigma", sigma)
    shape = _shape(barrier, position)
    points, width = _grid(s, *shape)
    mass = np.sum(np.exp(-2 * _height(points, *shape) / s**2) * width)
    return np.exp(-2 * _height(real("x", x), *shape) / s**2) / mass


@finite
def moment(power: int, sigma: float, *, barrier: float = 0.25, position: float = 1.0) -> float:
    """E x^power of the stationary law; 0 for odd powers.

    **Arguments**

    - `power`: an integer ≥ 0.
    - `sigma`: σ > 0 of the noise.
    - `barrier`, `position`: > 0, of the wells.

    **Returns** a number. **Raises** ValueError for other numbers. **Example**

    >>> print(round(rqf.theory.wells.moment(2, 0.5), 4))
    0.8521
    """
    power, s = integer("power", power, minimum=0, maximum=100), scalar(positive, "sigma", sigma)
    shape = _shape(barrier, position)
    points, _ = _grid(s, *shape)
    weights = np.exp(-2 * _height(points, *shape) / s**2)
    return float(np.sum(weights * points**power) / np.sum(weights)) if power % 2 == 0 else 0.0


@finite
def exponent(sigma: float, *, barrier: float = 0.25, position: float = 1.0) -> float:
    """The Lyapunov exponent under common noise, -E U''(x): two copies under one noise meet.

        λ = -E U'' = -(2/σ²) E U'²  < 0

    Raises ValueError unless all numbers are positive.
    """
    tall, wide = _shape(barrier, position)
    square = moment(2, sigma, barrier=barrier, position=position)
    return float(4 * tall / wide**2 * (1 - 3 * square / wide**2))


@finite
def kramers_rate(sigma: float, *, barrier: float = 0.25, position: float = 1.0) -> float:
    """The rate of jumps from one well to the other as σ → 0.

        √(U''(position) |U''(0)|)/(2π) exp(-2 barrier/σ²) = (2√2 barrier)/(π position²) exp(…)

    The correction is of relative order σ²/barrier. Raises ValueError unless all numbers are
    positive.
    """
    tall, wide = _shape(barrier, position)
    s = scalar(positive, "sigma", sigma)
    return float(2 * math.sqrt(2) * tall / (math.pi * wide**2) * np.exp(-2 * tall / s**2))


@finite
def passage_time(
    start: float, stop: float, sigma: float, *, barrier: float = 0.25, position: float = 1.0
) -> float:
    """The mean time at which a path from `start` first reaches `stop`, on either side of it.

        T = (2/σ²) ∫_start^stop e^{2U(y)/σ²} ∫_{-∞}^y e^{-2U(z)/σ²} dz dy,   stop > start

    From well to well it tends to 1/`kramers_rate` as σ → 0.

    **Arguments**

    - `start`, `stop`: numbers.
    - `sigma`: σ > 0 of the noise.
    - `barrier`, `position`: > 0, of the wells.

    **Returns** a time. **Raises** ValueError for other numbers. **Example**

    >>> print(round(rqf.theory.wells.passage_time(-1.0, 1.0, 0.5), 2))
    41.03
    """
    s = scalar(positive, "sigma", sigma)
    a, b = scalar(real, "start", start), scalar(real, "stop", stop)
    if a == b:
        return 0.0
    if a > b:  # the mirror image
        a, b = -a, -b
    shape = _shape(barrier, position)
    far = -_reach(s, *shape)
    ends = np.concatenate(
        [np.linspace(min(far, a - 1), a, _POINTS)[:-1], np.linspace(a, b, _POINTS)]
    )
    exponents = 2 * _height(ends, *shape) / s**2
    below = np.concatenate([[0], np.cumsum(np.diff(ends) * _middle(np.exp(-exponents)))])
    outer = (np.exp(exponents) * below)[_POINTS - 1 :]
    return float(2 / s**2 * np.sum(_middle(outer) * np.diff(ends[_POINTS - 1 :])))


def _middle(values: np.ndarray) -> np.ndarray:
    return (values[1:] + values[:-1]) / 2


def _shape(barrier: float, position: float) -> tuple[np.float64, np.float64]:
    return scalar(positive, "barrier", barrier), scalar(positive, "position", position)


def _height(x: Values, barrier: np.float64, position: np.float64) -> Values:
    return barrier * (1 - (x / position) ** 2) ** 2


def _reach(s: np.float64, barrier: np.float64, position: np.float64) -> np.float64:
    """A number beyond which e^{-2U/σ²} is below e^{-40}."""
    return position * np.sqrt(1 + np.sqrt(20 * s**2 / barrier))


def _grid(
    s: np.float64, barrier: np.float64, position: np.float64
) -> tuple[np.ndarray, np.float64]:
    """Points and spacing of the trapezoidal rule, which is exact to rounding for such a law."""
    far = _reach(s, barrier, position)
    points = np.linspace(-far, far, _POINTS)
    return points, points[1] - points[0]
