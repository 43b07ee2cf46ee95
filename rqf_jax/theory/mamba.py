"""Tokens of a deep selective state-space model in one dimension: closed forms.

    dx_l/dt = μ x_l Σ_{j≤l} x_j² Δ_j exp(-a Σ_{j<k≤l} Δ_k),   Δ_k = softplus(s x_k + b)

with depth as time and tokens l = 1, 2, ... in order. `product` is μ = S_Cᵀ S_B, `decay` is a,
`step_slope` is s = S_Δ, `step_bias` is b. No token crosses zero, and the first obeys an equation of
its own, dx/dt = μ x³ softplus(s x + b).

Sources. Token dynamics of deep selective state-space models, arXiv:2410.03292 (summary read; the
equation is reconstructed from S6 and confirmed for μ). It has the dichotomy by the sign of μ, the
decay t^{-1/2}, the growth O((ln t)^l) and the blow-up in finite time. The constants, the implicit
law and the blow-up time were derived for this library and are checked in its tests; they show that
(ln t)^l is only an upper bound, since all tokens grow as ln t.
"""

import math
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy.integrate import quad
from scipy.special import lambertw

from .._arguments import host
from ._contract import extended, finite
from ._numbers import Real, check, nonnegative, positive, real, scalar, size
from ._rapidity import Values

# The largest exponent of e that float64 holds.
LARGEST = 709.0


@finite
def decay_constants(
    tokens: int, *, product: float, decay: float, step_bias: float = 0.0
) -> Float[np.ndarray, " tokens"]:
    """lim |x_l| √t for μ < 0: (2|μ|Δ)^{-1/2}, then ((1 - e^{-aΔ})/(2|μ|Δ))^{1/2} for l ≥ 2.

    Δ = softplus(b), ln 2 for b = 0. Raises ValueError unless μ < 0 and a ≥ 0.

    **Arguments** `tokens`: N, an integer; `product`: μ < 0; `decay`: a ≥ 0; `step_bias`: b, any
    real number. **Returns** an array (tokens,). **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.mamba.decay_constants(3, product=-1.0, decay=1.0), 6))
    [0.849322 0.600561 0.600561]
    """
    mu, a = scalar(real, "product", product), scalar(nonnegative, "decay", decay)
    check("product", mu, mu < 0, "be negative")
    # By the logarithm of Δ, which may be far below the range of float64.
    log_step = _log_softplus(scalar(real, "step_bias", step_bias))
    z = a * np.exp(log_step)
    share = -np.expm1(-z) / z if z > 0 else 1.0
    constants = np.full(size("tokens", tokens), np.sqrt(a * share / (-2 * mu)))
    constants[0] = np.exp(-(np.log(-2 * mu) + log_step) / 2)
    return constants


@finite
def slow_growth(time: Real, *, product: float, step_slope: float, step_bias: float = 0.0) -> Values:
    """|x_1(t)| for μ > 0, s x_1 < 0 and large t: the larger root x of

        σx = ln(μσt) + b + 3 ln x,  σ = |s|:   x = -(3/σ) W_{-1}(-(σ/3)(μσt e^b)^{-1/3}),

    W_{-1} the lower real branch of Lambert's function. The relative error falls as 1/ln t. Raises
    ValueError where t is too small for a root, or unless μ > 0 and s ≠ 0.

    **Arguments** `time`: t > 0; `product`: μ > 0; `step_slope`: s, not 0; `step_bias`: b, any real
    number. **Returns** a number or an array. **Raises** ValueError for arguments out of range.
    **Example**

    >>> print(np.round(rqf.theory.mamba.slow_growth(1e6, product=1.0, step_slope=1.0), 6))
    23.255082
    """
    mu, slope = scalar(positive, "product", product), abs(scalar(real, "step_slope", step_slope))
    check("step_slope", step_slope, slope > 0, "differ from 0")
    t = positive("time", time)
    log_scale = np.log(mu) + np.log(slope) + np.log(t) + real("step_bias", step_bias)
    # W = -w with w - ln w = y, y = -ln of minus the argument: W where the argument is a float64.
    y = log_scale / 3 - np.log(slope / 3)
    check("time", time, y >= 1, "be large enough for the growth law")
    w = y + np.log(y)
    for _ in range(60):
        w = y + np.log(w)
    near = -lambertw(-np.exp(-np.minimum(y, 30.0)), -1).real
    return 3 / slope * np.where(y < 30, near, w)


@extended
def first_token_time(
    start: float, stop: float, *, product: float, step_slope: float, step_bias: float = 0.0
) -> float:
    """Time in which x_1 goes from `start` to `stop`: ∫ dx/(μx³ softplus(sx + b)), to 1e-9.

    It solves the first token exactly, in all regimes. Infinite if `stop` is 0, or so far that the
    time leaves float64; `stop` may be infinite (`blow_up_time`). Negative if the token moves the
    other way. Raises ValueError unless start and stop have one sign, and start and μ are not 0.

    **Arguments** `start`: the state at the start, not 0; `stop`: the state at the end; it may be 0
    or infinite; `product`: μ, not 0; `step_slope`: s, not 0; `step_bias`: b, any real number.
    **Returns** a number or an array. **Raises** ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.mamba.first_token_time(
    ...     1.0, 2.0, product=1.0, step_slope=1.0
    ... ), 6))
    0.242514
    """
    x0, mu = scalar(real, "start", start), scalar(real, "product", product)
    s, b = scalar(real, "step_slope", step_slope), scalar(real, "step_bias", step_bias)
    check("start", x0, x0 != 0, "differ from 0")
    check("product", mu, mu != 0, "differ from 0")
    stop = float(scalar(host, "stop", stop))
    check("stop", stop, stop * x0 >= 0, "have the sign of `start`")
    if stop == 0:
        return math.copysign(math.inf, -mu)
    # With x = x_0 e^y: dx/(μ x³ Δ) = dy/(μ x² Δ), by its logarithm.
    origin = math.log(abs(x0))

    def log_slowness(y: Values) -> Values:
        x = np.sign(x0) * np.exp(origin + y)
        return -2 * (origin + y) - math.log(abs(mu)) - _log_softplus(s * x + b)

    end = math.log(abs(stop)) - origin if math.isfinite(stop) else max(20.0, 20.0 - origin)
    edges = np.linspace(0.0, end, max(1, math.ceil(abs(end))) + 1)
    ends = log_slowness(edges)
    if not np.all(ends < LARGEST):
        return math.copysign(math.inf, mu * end)
    total = sum(
        quad(lambda y: np.exp(log_slowness(y)), low, high, epsabs=0.0, epsrel=1e-11)[0]
        for low, high in pairwise(edges)
    )
    return float(math.copysign(total, mu * end))


@finite
def blow_up_time(
    start: float, *, product: float, step_slope: float, step_bias: float = 0.0
) -> float:
    """T* = ∫_{x_0}^∞ dx/(μx³ softplus(sx + b)), finite for s x_0 > 0; one token, μ > 0.

    Raises ValueError unless μ > 0 and s x_0 > 0.

    **Arguments** `start`: x_0, of the sign of s; `product`: μ > 0; `step_slope`: s, not 0;
    `step_bias`: b, any real number. **Returns** a number or an array. **Raises** ValueError for
    arguments out of range. **Example**

    >>> print(np.round(rqf.theory.mamba.blow_up_time(1.0, product=1.0, step_slope=1.0), 6))
    0.282963
    """
    check("product", product, scalar(real, "product", product) > 0, "be positive")
    moving = scalar(real, "start", start) * scalar(real, "step_slope", step_slope)
    check("start", start, moving > 0, "have the sign of `step_slope`")
    return first_token_time(
        start,
        math.copysign(math.inf, start),
        product=product,
        step_slope=step_slope,
        step_bias=step_bias,
    )


def _log_softplus(x: Values) -> Values:
    """ln ln(1 + e^x), which is x for large negative x."""
    safe = np.maximum(x, -30.0)
    return np.where(np.asarray(x) < -30, x, np.log(np.logaddexp(0.0, safe)))[()]
