"""Float32 functions as arithmetic, for compilers that have no vector library.

Each is written for one number in `jax.numpy` and used as a jaxpr. Errors are below 5 units in the
last place (8 for erfc; tested against float64), sines and cosines of up to 10⁴ are right to 2e-7,
and special values are those of `jax.numpy`. Coefficients are least-squares fits at Chebyshev
points, computed for this file.
"""

import functools
import inspect
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_MAGIC = np.float32(1.5 * 2**23)
"""Added to a number below 2²² in size, it leaves the nearest integer in the last bits."""


def _int(x):
    return lax.bitcast_convert_type(x, jnp.int32)


def _float(bits):
    return lax.bitcast_convert_type(bits, jnp.float32)


def _polynomial(coefficients, x):
    total = np.float32(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + np.float32(coefficient)
    return total


_LOG2_HIGH, _LOG2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)


def _exp(x):
    # Kept to where the result is neither 0 nor infinite by more than a rounding; NaN passes.
    x = jnp.where(x < -104, np.float32(-104), jnp.where(x > 89, np.float32(89), x))
    shifted = x * np.float32(1 / math.log(2)) + _MAGIC
    whole = shifted - _MAGIC
    return _power((x - whole * _LOG2_HIGH) - whole * _LOG2_LOW, shifted)


def _exp2(x):
    x = jnp.where(x < -151, np.float32(-151), jnp.where(x > 129, np.float32(129), x))
    shifted = x + _MAGIC
    return _power((x - (shifted - _MAGIC)) * np.float32(math.log(2)), shifted)


def _power(r, shifted):
    """e^r 2^n, for n in the last bits of `shifted`."""
    value = 1 + (r + r * r * _polynomial(_EXP, r))
    # 2^n in two factors, for results near the ends of the range.
    n = _int(shifted) - _int(_MAGIC)
    half = lax.shift_right_arithmetic(n, np.int32(1))
    return value * _float((half + 127) << 23) * _float((n - half + 127) << 23)


def _expm1(x):
    small = x + x * x * _polynomial(_EXP, x)
    return jnp.where(jnp.abs(x) < np.float32(0.34), small, _exp(x) - 1)


def _log(x):
    tiny = x < np.float32(1.1754944e-38)
    scaled = jnp.where(tiny, x * np.float32(2.0**23), x)
    bits = _int(scaled)
    # The mantissa in [√½, √2).
    shifted = bits - 0x3F3504F3
    exponent = lax.shift_right_arithmetic(shifted, np.int32(23))
    y = _float(bits - (exponent << 23)) - 1
    whole = (exponent - jnp.where(tiny, np.int32(23), np.int32(0))).astype(jnp.float32)
    square = y * y
    value = y - np.float32(0.5) * square + square * y * _polynomial(_LOG, y)
    value = whole * _LOG2_LOW + value + whole * _LOG2_HIGH
    value = jnp.where(x == np.float32(np.inf), x, value)
    value = jnp.where(x == 0, np.float32(-np.inf), value)
    return jnp.where(x >= 0, value, np.float32(np.nan))


def _log2(x):
    return _log(x) * np.float32(1 / math.log(2))


def _one_minus_square(x):
    return (1 + x) * (1 - x)


def _log1p(x):
    u = 1 + x
    rest = x - (u - 1)
    value = jnp.where(u > 0, _log(u) + rest / u, _log(u))
    return jnp.where(u == 1, x, jnp.where(u == np.float32(np.inf), u, value))


_HALF_PI = (
    np.float32(1.5703125),
    np.float32(4.837512969970703e-4),
    np.float32(7.549789948768648e-8),
)


def _reduced(x):
    """x less its nearest multiple of π/2, and that multiple's number."""
    shifted = x * np.float32(2 / math.pi) + _MAGIC
    whole = shifted - _MAGIC
    for part in _HALF_PI:
        x = x - whole * part
    return x, _int(shifted) & 3


def _sin_cos(x, quarter: int):
    r, quadrant = _reduced(x)
    quadrant = (quadrant + quarter) & 3
    square = r * r
    sine = r + r * square * _polynomial(_SIN, square)
    cosine = 1 - np.float32(0.5) * square + square * square * _polynomial(_COS, square)
    value = jnp.where((quadrant & 1) == 1, cosine, sine)
    value = jnp.where(quadrant >= 2, -value, value)
    # Beyond this, neighbours in float32 are half a radian apart: no number is the sine of it.
    return jnp.where(jnp.abs(x) < np.float32(2.0**22), value, np.float32(np.nan))


def _tanh(x):
    size = jnp.abs(x)
    square = x * x
    small = x + x * square * _polynomial(_TANH, square)
    t = _exp(-2 * size)
    large = jnp.where(x < 0, -(1 - t) / (1 + t), (1 - t) / (1 + t))
    return jnp.where(size < np.float32(0.55), small, large)


def _logistic(x):
    t = _exp(-jnp.abs(x))
    return jnp.where(x < 0, t, np.float32(1)) / (1 + t)


def _atan2(y, x):
    size_y, size_x = jnp.abs(y), jnp.abs(x)
    low, high = jnp.minimum(size_y, size_x), jnp.maximum(size_y, size_x)
    # Infinities of both give 45 degrees, zeros of both give 0.
    ratio = jnp.where(high == 0, np.float32(0), low / high)
    ratio = jnp.where(low == np.float32(np.inf), np.float32(1), ratio)
    wide = ratio > np.float32(math.tan(math.pi / 8))
    t = jnp.where(wide, (ratio - 1) / (ratio + 1), ratio)
    square = t * t
    angle = t + t * square * _polynomial(_ATAN, square)
    angle = jnp.where(wide, np.float32(math.pi / 4) + angle, angle)
    angle = jnp.where(size_y > size_x, np.float32(math.pi / 2) - angle, angle)
    negative = lax.shift_right_logical(_int(x), np.int32(31)) == 1
    angle = jnp.where(negative, np.float32(math.pi) - angle, angle)
    below = lax.shift_right_logical(_int(y), np.int32(31)) == 1
    angle = jnp.where(below, -angle, angle)
    return jnp.where((x != x) | (y != y), np.float32(np.nan), angle)


def _erf(x):
    far = 1 - _erfc_positive(jnp.abs(x))
    return jnp.where(jnp.abs(x) < 1, x * _erf_ratio(x), jnp.where(x < 0, -far, far))


def _erf_ratio(x):
    """erf x / x for x up to 1 in size."""
    square = x * x
    return np.float32(2 / math.sqrt(math.pi)) + square * _polynomial(_ERF, square)


def _erfc(x):
    far = _erfc_positive(jnp.abs(x))
    # One rounding in a fused product and sum.
    return jnp.where(jnp.abs(x) < 1, 1 - x * _erf_ratio(x), jnp.where(x < 0, 2 - far, far))


def _erfc_positive(x):
    """1 - erf x for x from 1 on."""
    t = 1 / (1 + np.float32(0.5) * x)
    # The square of the leading bits of x is exact.
    leading = _float(_int(x) & np.int32(-4096))
    tail = _exp(-leading * leading) * _exp((leading - x) * (leading + x)) * _polynomial(_ERFCX, t)
    return jnp.where(x > np.float32(10.2), np.float32(0), tail)


def _ordered(x):
    """Integers in the order of floats, where -0 is before 0 and NaN at the ends."""
    bits = _int(x)
    return bits ^ (lax.shift_right_arithmetic(bits, np.int32(31)) & 0x7FFFFFFF)


def _eq_to(x, y):
    return _int(x) == _int(y)


def _lt_to(x, y):
    return _ordered(x) < _ordered(y)


def _le_to(x, y):
    return _ordered(x) <= _ordered(y)


def _sin(x):
    return _sin_cos(x, 0)


def _cos(x):
    return _sin_cos(x, 1)


# (e^x - 1 - x) / x² on [-.35, .35]; (log(1+y) - y + y²/2) / y³ on [√½-1, √2-1]; in t² up to
# (π/4)²: (sin t - t) / t³ and (cos t - 1 + t²/2) / t⁴; (tanh x - x) / x³ in x² up to .55²;
# (atan t - t) / t³ in t² up to tan²(π/8); (erf x / x - 2/√π) / x² in x² up to 1; and
# e^(x²) (1 - erf x) in 1 / (1 + x/2) for x from 1 to 10.3.
_EXP = (0.5, 0.166666672, 0.041666247, 0.00833327882, 0.00139475928, 0.000199110073)
_LOG = (
    *(0.333332956, -0.250000149, 0.200030118, -0.166683421, 0.142045036),
    *(-0.123918474, 0.119732924, -0.117821336, 0.0669813305),
)
_SIN = (-0.166666672, 0.00833332818, -0.000198390131, 2.71578324e-06)
_COS = (0.0416666679, -0.00138888834, 2.47994885e-05, -2.7207858e-07)
_TANH = (-0.333333313, 0.133332938, -0.0539596118, 0.0217826255, -0.00841346849, 0.00239536865)
_ATAN = (-0.333333135, 0.199984416, -0.142430648, 0.105907731, -0.0607130416)
_ERF = (
    *(-0.376126379, 0.112837836, -0.0268655028, 0.00522120902, -0.000848643365),
    *(0.000112818328, -9.70980091e-06),
)
_ERFCX = (
    *(7.03608578e-07, 0.28207159, 0.282428265, 0.244092658, 0.190415964, 0.0372278951),
    *(0.0897570699, -0.1508587, -0.0763407722, 0.155429021, -0.0543562956),
)

PROGRAMS = {
    "exp": _exp,
    "exp2": _exp2,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "log2": _log2,
    "one_minus_square": _one_minus_square,
    "sin": _sin,
    "cos": _cos,
    "tanh": _tanh,
    "logistic": _logistic,
    "atan2": _atan2,
    "erf": _erf,
    "erfc": _erfc,
    "eq_to": _eq_to,
    "lt_to": _lt_to,
    "le_to": _le_to,
}
"""The function behind each primitive, by the primitive's name."""


@functools.cache
def program(name: str) -> Any:
    """The function behind a primitive as a closed jaxpr of numbers."""
    function = PROGRAMS[name]
    numbers = [np.float32(0)] * len(inspect.signature(function).parameters)
    with jax.numpy_dtype_promotion("standard"):
        return jax.make_jaxpr(function)(*numbers)
