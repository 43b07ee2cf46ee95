"""Learning curves of deep linear networks: each singular mode of the target by itself.

Gradient flow of |W₂W₁ - T|²/2 with whitened inputs splits into modes. With a and b the weights of
a mode in the two layers and s its singular value in the target,

    τ da/dt = b (s - ab),   τ db/dt = a (s - ab),   D = a² - b² conserved.

`scale` is τ, the inverse learning rate; time is in the same unit. Functions compute in float64 and
return float64 numbers or arrays; a bad argument raises ValueError.

Source: Saxe, McClelland & Ganguli, arXiv:1312.6120, for balanced layers (recalled); the unbalanced
solution was derived for this library. Both are checked against gradient descent in its tests.
"""

from typing import cast

import numpy as np
from scipy.optimize import brentq
from scipy.special import hyp2f1

from ._contract import finite
from ._numbers import Real, check, count, nonnegative, positive, real
from ._rapidity import Values


@finite
def balanced_mode(time: Real, start: Real, *, target: Real, scale: Real = 1.0) -> Values:
    """a(t) = s e^{2st/τ}/(e^{2st/τ} - 1 + s/a₀), the product ab for equal layers, from a₀ > 0.

    **Arguments** `time`: t ≥ 0; `start`: a₀ > 0; `target`: s > 0; `scale`: τ > 0, the time
    constant. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.linear_networks.balanced_mode([0.0, 1.0], 0.1, target=1.0), 6))
    [0.1      0.450853]
    """
    s, a0 = positive("target", target), positive("start", start)
    # Divided by the exponential, which overflows at late times, and by s/a₀, which may.
    decay = np.exp(-2 * s * nonnegative("time", time) / positive("scale", scale))
    return s * (a0 / (a0 + (s - a0) * decay))


@finite
def balanced_time(end: Real, start: Real, *, target: Real, scale: Real = 1.0) -> Values:
    """(τ/2s) ln[a_f (s - a₀)/(a₀ (s - a_f))], when the product has grown from a₀ to a_f.

    **Arguments** `end`: a_f, at least a₀ and below s; `start`: a₀ > 0; `target`: s > 0; `scale`:
    τ > 0, the time constant. **Returns** a number or an array. **Raises** ValueError for arguments
    out of range. **Example**

    >>> print(np.round(rqf.theory.linear_networks.balanced_time(0.9, 0.1, target=1.0), 6))
    2.197225
    """
    s, a0, af = positive("target", target), positive("start", start), positive("end", end)
    check("end", af, (af >= a0) & (af < s), "lie between `start` and `target`")
    # A sum of two positive logarithms, precise for the shortest times.
    growth = np.log1p((af - a0) / a0) + np.log1p((af - a0) / (s - af))
    return positive("scale", scale) / (2 * s) * growth


@finite
def unbalanced_mode(
    time: Real, start: Real, *, target: Real, imbalance: Real, scale: Real = 1.0
) -> Values:
    """θ(t) = ab for layers with D = a² - b² > 0, from any θ₀: τ dθ/dt = √(D² + 4θ²) (s - θ).

    With θ = (D/4)(w - 1/w) the velocity is quadratic in w, so that (w - w₊)/(w - w₋) decays as
    exp(-√(4s² + D²) t/τ), w± = (2s ± √(4s² + D²))/D.

    **Arguments** `time`: t ≥ 0; `start`: θ₀, any real number; `target`: s > 0; `imbalance`: D > 0;
    `scale`: τ > 0, the time constant. **Returns** a number or an array. **Raises** ValueError for
    arguments out of range. **Example**

    >>> print(np.round(rqf.theory.linear_networks.unbalanced_mode(
    ...     [0.0, 1.0], 0.1, target=1.0, imbalance=1.0
    ... ), 6))
    [0.1      0.783347]
    """
    s, d = positive("target", target), positive("imbalance", imbalance)
    theta = real("start", start)
    speed = np.hypot(2 * s, d)
    # Dw, so that D may be small. w₊ w₋ = -1; taken from the larger, where nothing cancels. The same
    # for w from θ₀.
    high = 2 * s + speed
    low = -d * (d / high)
    half = 2 * np.abs(theta) + np.hypot(2 * theta, d)
    w = np.where(theta >= 0, half, d * (d / half))
    decay = np.exp(-speed * nonnegative("time", time) / positive("scale", scale))
    ratio = (w - high) / (w - low) * decay
    w = (high - low * ratio) / (1 - ratio)
    return (w - d * (d / w)) / 4


@finite
def deep_time(end: Real, start: Real, *, target: Real, layers: int, scale: Real = 1.0) -> Values:
    """When the product u of `layers` equal weights has gone from u₀ to u_f.

        τ du/dt = L u^{2-2/L} (s - u)

    which is integrated by a hypergeometric function. From small u₀ it takes (τ/2s) ln(1/u₀) for two
    layers, and a power of 1/u₀ for more. From u₀ = 1, orthogonal layers, Lt has a limit for L → ∞.

    **Arguments** `end`: u_f, from u₀ to s, without s; `start`: u₀ > 0, on either side of s;
    `target`: s > 0; `layers`: L, an integer; `scale`: τ > 0, the time constant. **Returns** a
    number or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.linear_networks.deep_time(
    ...     0.9, 0.1, target=1.0, layers=3
    ... ), 6))
    2.009402
    """
    s, first, last = positive("target", target), positive("start", start), positive("end", end)
    between = np.where(first < s, (last >= first) & (last < s), (last <= first) & (last > s))
    check("end", last, between, "lie between `start` and `target`")
    tau = positive("scale", scale)
    return tau * (
        _clock(last, s, count("layers", layers)) - _clock(first, s, count("layers", layers))
    )


@finite
def deep_mode(time: Real, start: Real, *, target: Real, layers: int, scale: Real = 1.0) -> Values:
    """u(t), the product of `layers` equal weights, see `deep_time`: its inverse.

    **Arguments** `time`: t ≥ 0; `start`: u₀ > 0; `target`: s > 0; `layers`: L, an integer; `scale`:
    τ > 0, the time constant. **Returns** a number or an array. **Raises** ValueError for arguments
    out of range. **Example**

    >>> print(np.round(rqf.theory.linear_networks.deep_mode(
    ...     [0.0, 1.0], 0.1, target=1.0, layers=3
    ... ), 6))
    [0.1      0.391947]
    """
    s, first = positive("target", target), positive("start", start)
    clock = nonnegative("time", time) / positive("scale", scale)
    depth = count("layers", layers)

    def one(t, u, s):
        if t == 0 or u == s:
            return u

        def late(y):
            return _clock(s + (u - s) * np.exp(-y), s, depth) - _clock(u, s, depth) - t

        if late(0.0) >= 0:
            return u
        # Distances below e⁻³⁴ of the first are none in float64.
        if late(34.0) <= 0:
            return s
        return s + (u - s) * np.exp(-cast(float, brentq(late, 0.0, 34.0, xtol=1e-14)))

    return np.vectorize(one, otypes=[float])(clock, first, s)[()]


def _clock(u: Values, s: Values, layers: int) -> Values:
    """A primitive of 1/(L u^{2-2/L} (s - u))."""
    if layers == 2:
        return (np.log(u) - np.log(np.abs(s - u))) / (2 * s)
    if layers == 1:
        return -np.log(np.abs(s - u))
    b = 2 / layers
    z = np.where(u < s, u / s, s / u)
    # Series in u/s and, beyond s, in s/u, both with positive parameters.
    inside = u ** (b - 1) / ((b - 1) * s) + u**b / (b * s**2) * hyp2f1(1, b, b + 1, z)
    outside = u ** (b - 2) / (2 - b) * hyp2f1(1, 2 - b, 3 - b, z)
    return np.where(u < s, inside, outside) / layers
