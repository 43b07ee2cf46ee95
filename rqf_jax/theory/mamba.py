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

from .._arguments import integer
from ._numbers import Real, check, nonnegative, positive, real
from ._rapidity import Values


def decay_constants(
    tokens: int, *, product: float, decay: float, step_bias: float = 0.0
) -> Float[np.ndarray, " tokens"]:
    """lim |x_l| √t for μ < 0: (2|μ|Δ)^{-1/2}, then ((1 - e^{-aΔ})/(2|μ|Δ))^{1/2} for l ≥ 2.

    Δ = softplus(b), ln 2 for b = 0. Raises ValueError unless μ < 0 and a ≥ 0.
    """
    mu, a = float(real("product", product)), float(nonnegative("decay", decay))
    check("product", mu, mu < 0, "be negative")
    step = np.logaddexp(0.0, real("step_bias", step_bias))
    factors = np.full(integer("tokens", tokens), -np.expm1(-a * step))
    factors[0] = 1
    return np.sqrt(factors / (-2 * mu * step))


def slow_growth(time: Real, *, product: float, step_slope: float, step_bias: float = 0.0) -> Values:
    """|x_1(t)| for μ > 0, s x_1 < 0 and large t: the larger root x of

        σx = ln(μσt) + b + 3 ln x,  σ = |s|:   x = -(3/σ) W_{-1}(-(σ/3)(μσt e^b)^{-1/3}),

    W_{-1} the lower real branch of Lambert's function. The relative error falls as 1/ln t. Raises
    ValueError where t is too small for a root, or unless μ > 0 and s ≠ 0.
    """
    mu, slope = float(positive("product", product)), abs(float(real("step_slope", step_slope)))
    check("step_slope", step_slope, slope > 0, "differ from 0")
    t = positive("time", time)
    scale = mu * slope * t * np.exp(real("step_bias", step_bias))
    argument = -slope / 3 * scale ** (-1 / 3)
    check("time", time, argument >= -math.exp(-1), "be large enough for the growth law")
    return -3 / slope * lambertw(argument, -1).real


def first_token_time(
    start: float, stop: float, *, product: float, step_slope: float, step_bias: float = 0.0
) -> float:
    """Time in which x_1 goes from `start` to `stop`: ∫ dx/(μx³ softplus(sx + b)), to 1e-9.

    It solves the first token exactly, in all regimes. Infinite if `stop` is 0, or so far that the
    time leaves float64; `stop` may be infinite (`blow_up_time`). Negative if the token moves the
    other way. Raises ValueError unless start and stop have one sign, and start and μ are not 0.
    """
    x0, mu = float(real("start", start)), float(real("product", product))
    s, b = float(real("step_slope", step_slope)), float(real("step_bias", step_bias))
    check("start", x0, x0 != 0, "differ from 0")
    check("product", mu, mu != 0, "differ from 0")
    stop = float(stop)
    check("stop", stop, stop * x0 >= 0, "have the sign of `start`")
    if stop == 0:
        return math.copysign(math.inf, -mu)
    # Where softplus has underflowed the token has all but stopped.
    if s * x0 < 0 and s * stop + b < -700:
        return math.copysign(math.inf, mu)

    # With x = x_0 e^y: dx/(μ x³ Δ) = dy/(μ x² Δ).
    def slowness(y: float) -> float:
        x = x0 * math.exp(y)
        return math.exp(-2 * y) / _softplus(s * x + b)

    end = math.log(stop / x0) if math.isfinite(stop) else 20.0
    pieces = max(1, math.ceil(abs(end)))
    edges = np.linspace(0.0, end, pieces + 1)
    total = sum(
        quad(slowness, low, high, epsabs=0.0, epsrel=1e-11)[0] for low, high in pairwise(edges)
    )
    return total / (mu * x0**2)


def blow_up_time(
    start: float, *, product: float, step_slope: float, step_bias: float = 0.0
) -> float:
    """T* = ∫_{x_0}^∞ dx/(μx³ softplus(sx + b)), finite for s x_0 > 0; one token, μ > 0.

    Raises ValueError unless μ > 0 and s x_0 > 0.
    """
    check("product", product, float(real("product", product)) > 0, "be positive")
    moving = float(real("start", start)) * float(real("step_slope", step_slope))
    check("start", start, moving > 0, "have the sign of `step_slope`")
    return first_token_time(
        start,
        math.copysign(math.inf, start),
        product=product,
        step_slope=step_slope,
        step_bias=step_bias,
    )


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
