"""Special functions without overflow, and differences of them without cancellation.

All are classical; the series were derived here from those of ln Γ (Stirling) and of the Bessel
functions (Debye, recalled), and the tests compare each with 40-digit arithmetic.
"""

import math

import numpy as np
from jaxtyping import Float
from numpy.polynomial import Polynomial
from scipy.special import bernoulli, ellipkm1, euler, gamma, gammaln, ive

Values = Float[np.ndarray, "..."] | float

# (2 - 2^{1-2k}) B_{2k}, k = 1, ..., 8: the coefficients of Γ(a + 1/2)/Γ(a) for large a.
_K = np.arange(1, 9)
_HALF = (2 - 2.0 ** (1 - 2 * _K)) * bernoulli(16)[2::2]
_BERNOULLI = bernoulli(16)[2::2]
_STEPS = 12


def gamma_defect(a: Values) -> Values:
    """ln[√a Γ(a)/Γ(a + 1/2)] > 0, about 1/(8a), for a > 0; each term is positive up to a = 12."""
    a = np.asarray(a, float)
    steps = a[..., None] + np.arange(_STEPS)
    # 1/(4a(a+1)), where the product may overflow or underflow.
    rise = np.log1p(0.25 / steps / (steps + 1)).sum(-1) / 2
    z = a + _STEPS
    return rise + np.sum(_HALF / (2 * _K * (2 * _K - 1)) * z[..., None] ** (1.0 - 2 * _K), -1)


def stirling_defect(a: Values) -> Values:
    """ln Γ(a) - [(a - 1/2) ln a - a + ln(2π)/2] > 0, about 1/(12a), for a > 0."""
    a = np.asarray(a, float)
    near = gammaln(a) - ((a - 0.5) * np.log(a) - a + math.log(2 * math.pi) / 2)
    terms = _BERNOULLI / (2 * _K * (2 * _K - 1))
    far = np.sum(terms * np.maximum(a, _STEPS)[..., None] ** (1.0 - 2 * _K), -1)
    return np.where(a < _STEPS, near, far)


def exponential_excess(x: Values) -> Values:
    """e^x - 1 - x ≥ 0, without cancellation near 0."""
    x = np.asarray(x, float)
    near = np.clip(x, -0.5, 0.5)
    series = np.zeros_like(x)
    for k in range(18, 1, -1):
        series = near / k * (1 + series) if k > 2 else near**2 / 2 * (1 + series)
    return np.where(np.abs(x) < 0.5, series, np.expm1(x) - x)


def sinh_excess(u: Values) -> Values:
    """sinh u - gd u ≥ 0 for u ≥ 0, about u³/3, without cancellation near 0."""
    u = np.asarray(u, float)
    # gd u is the odd series with Euler's numbers, of radius π/2.
    near = np.minimum(u, 0.5)
    k = np.arange(3, 34, 2)
    coefficients = (1 - euler(32)[2:][::2]) / gamma(k + 1)
    series = np.sum(coefficients * near[..., None] ** k, -1)
    return np.where(u < 0.5, series, np.sinh(u) - 2 * np.arctan(np.tanh(u / 2)))


def log_gamma_step(a: Values) -> Values:
    """ln[Γ(a + 1/2)/Γ(a)] for a > 0."""
    return np.log(a) / 2 - gamma_defect(a)


def digamma_step(a: Values) -> Values:
    """ψ(a + 1/2) - ψ(a) for a > 0, about 1/(2a)."""
    a = np.asarray(a, float)
    steps = a[..., None] + np.arange(_STEPS)
    z = a + _STEPS
    late = 0.5 / z + np.sum(_HALF / (2 * _K) * z[..., None] ** (-2.0 * _K), -1)
    return (0.5 / steps / (steps + 0.5)).sum(-1) + late


def elliptic(log_complement: Values) -> Values:
    """K of parameter 1 - c from ln c ≤ 0; c may be below the range of float64."""
    log_c = np.asarray(log_complement, float)
    small = log_c < -600
    return np.where(small, math.log(4) - log_c / 2, ellipkm1(np.exp(np.where(small, 0.0, log_c))))


# ---- modified Bessel functions


def _debye(orders: int) -> tuple[list[Polynomial], list[Polynomial]]:
    """The polynomials u_k and v_k of the uniform expansions of I_ν and of its derivative."""
    p = Polynomial([0.0, 1.0])
    u, v = [Polynomial([1.0])], [Polynomial([1.0])]
    for _ in range(orders):
        last = u[-1]
        u.append(p**2 * (1 - p**2) * last.deriv() / 2 + ((1 - 5 * p**2) * last).integ() / 8)
        v.append(u[-1] + p * (p**2 - 1) * (last / 2 + p * last.deriv()))
    return u, v


_U, _V = _debye(11)
_WIDE = 30.0


def log_bessel(order: Values, z: Values) -> Values:
    """ln[e^{-z} I_ν(z)] for ν ≥ -1/2 and z ≥ 0; -inf at z = 0 for ν > 0."""
    nu, z = np.broadcast_arrays(np.asarray(order, float), np.asarray(z, float))
    with np.errstate(all="ignore"):
        wide = np.maximum(nu, _WIDE)
        root = np.hypot(wide, z)
        series = sum(u(wide / root) / wide**k for k, u in enumerate(_U))
        uniform = wide**2 / (root + z) + wide * np.log(z / (wide + root))
        uniform = uniform + np.log(series) - np.log(2 * np.pi * root) / 2
        # The power series, which needs no more terms below 1/100.
        h = z**2 / 4 / (nu + 1)
        first = np.where(nu == 0, 0.0, nu * np.log(z / 2)) - gammaln(nu + 1) - z
        first = first + np.log1p(h * (1 + z**2 / 8 / (nu + 2)))
        m = 4 * nu**2
        far = (m - 1) / (8 * z) * (1 - (m - 9) / (16 * z) * (1 - (m - 25) / (24 * z)))
        far = np.log1p(-far) - np.log(2 * np.pi * z) / 2
        middle = np.log(ive(np.minimum(nu, _WIDE), np.clip(z, 1e-3, 1e6)))
        narrow = np.where(z < 1e-2, first, np.where(z > 1e6, far, middle))
        return np.where(nu > _WIDE, uniform, narrow)[()]


def bessel_ratio(order: Values, z: Values) -> Values:
    """I_{ν+1}(z)/I_ν(z) for ν ≥ -1/2 and z ≥ 0.

    From Debye's expansions at order ν + 40 by the recurrence r_ν = 1/(2(ν+1)/z + r_{ν+1}), which
    shrinks errors.
    """
    nu, z = np.broadcast_arrays(np.asarray(order, float), np.asarray(z, float))
    safe = np.where(z > 0, z, 1.0)
    top = nu + 40
    root = np.hypot(top, safe)
    p = top / root
    u = sum(u(p) / top**k for k, u in enumerate(_U))
    excess = sum((v(p) - u(p)) / top**k for k, (u, v) in enumerate(zip(_U, _V, strict=True)))
    ratio = safe / (top + root) + root / safe * (excess / u)
    for step in range(39, -1, -1):
        ratio = 1 / (2 * (nu + step + 1) / safe + ratio)
    return np.where(z > 0, ratio, 0.0)[()]


def log_hypergeometric(order: float, z: Values) -> Values:
    """ln ₀F₁(; ν+1; z²/4) = ln[Γ(ν+1) (2/z)^ν I_ν(z)] at ν = `order` > -1, without cancellation."""
    z = np.abs(np.asarray(z, float))
    if order > _WIDE:
        square = (z / order) ** 2
        root = np.hypot(1.0, z / order)
        # √(1+q²) - 1, q = z/ν; the series at q = 0 undoes Stirling's remainder.
        rise = square / (1 + root)
        series = sum(u(1 / root) / order**k for k, u in enumerate(_U))
        bulk = order * (rise - np.log1p(rise / 2)) - np.log(root) / 2
        return bulk + stirling_defect(order) + np.log(series)
    near = np.minimum(z, 1.0) ** 2 / 4
    term, sums = np.ones_like(z), np.zeros_like(z)
    for k in range(1, 12):
        term = term * near / (k * (order + k))
        sums = sums + term
    safe = np.maximum(z, 1.0)
    far = log_bessel(order, safe) + safe + gammaln(order + 1) - order * np.log(safe / 2)
    return np.where(z < 1, np.log1p(sums), far)
