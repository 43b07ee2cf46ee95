"""Covariance kernels κ(r) of one-hidden-layer perceptrons with random Gaussian weights.

    F(x) = m^{-1/2} Σ_k W_k φ(U_k·x/√n + b_k) + c,   W_k, U_k ~ N(0, I), b_k ~ N(0, σ_U²),
    c ~ N(0, σ_W² I):   E F_i(x) F_j(y) = κ(<x,y>) δ_ij,   κ(r) = E φ(ξ) φ(η) + σ_W²,

ξ, η normal of variance s = 1/n + σ_U² and covariance r/n + σ_U². And κ'(r) = E φ'(ξ) φ'(η)/n.
`activation` names φ, `dim` is n, `input_bias` is σ_U, `output_bias` is σ_W. GELU is x Φ(x) with the
normal distribution function Φ, not its approximation by tanh.

Sources. Agazzi, Bruno, Mosig García, Saviozzi and Romito, arXiv:2604.26898 (read), have this model
and kernel; the formula they display for κ' lacks the 1/n that their table has. ReLU has the
arc-cosine kernels of Cho and Saul (recalled); both are checked in the tests.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import expit, ndtr

from .._arguments import integer
from ._numbers import Real, nonnegative, overlaps
from ._rapidity import Values


def _normal_density(x: np.ndarray) -> np.ndarray:
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def _silu_slope(x: np.ndarray) -> np.ndarray:
    return expit(x) * (1 + x * expit(-x))


Function = Callable[[np.ndarray], np.ndarray]

_SMOOTH: dict[str, tuple[Function, Function]] = {
    "gelu": (lambda x: x * ndtr(x), lambda x: ndtr(x) + x * _normal_density(x)),
    "sigmoid": (expit, lambda x: expit(x) * expit(-x)),
    "silu": (lambda x: x * expit(x), _silu_slope),
    # Clipped where 1/cosh² is below 1e-300.
    "tanh": (np.tanh, lambda x: 1 / np.cosh(np.clip(x, -350, 350)) ** 2),
}

ACTIVATIONS = ("relu", *_SMOOTH)
"""The names of the activations."""


def kernel(
    overlap: Real,
    activation: str,
    *,
    dim: int,
    input_bias: float = 0.0,
    output_bias: float = 0.0,
) -> Values:
    """κ(r) at every `overlap`, to a relative 1e-12 for s ≤ 10.

    ReLU: (s/2π)[√(1-ρ²) + ρ(π - arccos ρ)] + σ_W², ρ = (r/n + σ_U²)/s. The others by the trapezoid
    rule for both normals, which for smooth φ converges faster than Gauss-Hermite nodes when s is
    large. Raises ValueError for an unknown activation, r outside [-1, 1] or negative biases.
    """
    correlation, scale = _correlation(overlap, dim, input_bias)
    bias = float(nonnegative("output_bias", output_bias)) ** 2
    if _known(activation) == "relu":
        sine = np.sqrt((1 - correlation) * (1 + correlation))
        arc = np.pi - np.arctan2(sine, correlation)
        return scale**2 / (2 * np.pi) * (sine + correlation * arc) + bias
    return _average(_SMOOTH[activation][0], correlation, scale) + bias


def kernel_slope(overlap: Real, activation: str, *, dim: int, input_bias: float = 0.0) -> Values:
    """κ'(r) = E φ'(ξ) φ'(η)/n at every `overlap` (Price's theorem); ReLU: (π - arccos ρ)/2πn."""
    correlation, scale = _correlation(overlap, dim, input_bias)
    if _known(activation) == "relu":
        sine = np.sqrt((1 - correlation) * (1 + correlation))
        return (np.pi - np.arctan2(sine, correlation)) / (2 * np.pi * dim)
    return _average(_SMOOTH[activation][1], correlation, scale) / dim


def _known(activation: str) -> str:
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"`activation` must be one of {', '.join(ACTIVATIONS)}; got {activation!r}."
        )
    return activation


def _correlation(overlap: Real, dim: int, input_bias: float) -> tuple[Values, float]:
    """ρ and √s."""
    r = overlaps("overlap", overlap)
    inner = 1 / integer("dim", dim)
    bias = float(nonnegative("input_bias", input_bias)) ** 2
    return np.clip((inner * r + bias) / (inner + bias), -1, 1), math.sqrt(inner + bias)


def _average(function: Function, correlation: Values, scale: float) -> Values:
    """E f(√s z) f(√s z') for unit normals of the given correlation."""
    # φ has poles at a distance of at least π/2: the rule errs by exp(-π²/(spacing √s)).
    count = math.ceil(9 * max(4.0, 4.0 * scale))
    z = np.linspace(-9, 9, 2 * count + 1)
    weights = _normal_density(z) * 9 / count
    first = weights * function(scale * z)
    result = np.empty(np.shape(correlation))
    for index in np.ndindex(result.shape):
        rho = float(np.asarray(correlation)[index])
        other = rho * z[:, None] + math.sqrt((1 - rho) * (1 + rho)) * z
        result[index] = first @ function(scale * other) @ weights
    return result[()]
