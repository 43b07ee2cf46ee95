"""Activations and the covariances of their outputs on Gaussian inputs."""

import numpy as np
from jaxtyping import Float
from scipy.special import erf

from .._arguments import one_of
from ._numbers import positive, scalar
from ._special import Values

ORDER = 40
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def _gelu_tanh(u: np.ndarray) -> np.ndarray:
    return 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))


ACTIVATIONS = {
    "gelu": lambda u: 0.5 * u * (1 + erf(u / np.sqrt(2))),
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "silu": lambda u: u * (1 + np.tanh(u / 2)) / 2,
    "swish": lambda u: u * (1 + np.tanh(u / 2)) / 2,
    "relu": lambda u: np.maximum(u, 0.0),
    "tanh": np.tanh,
}
"""The activations by the names that config files use."""

known = one_of(*ACTIVATIONS)


def coefficients(name: str, variance: float) -> Float[np.ndarray, " order"]:
    """c_k with E φ(ξ)φ(η) = Σ c_k z^k, ξ and η normals of `variance` and correlation z.

    Squares of φ's coefficients in Hermite polynomials (Mehler, recalled), 40 of them, by 120 nodes:
    to 1e-6 of κ(1), 1e-3 for relu.
    """
    root = np.sqrt(scalar(positive, "variance", variance))
    polynomials = [np.ones_like(_NODES), _NODES]
    for k in range(1, ORDER - 1):
        following = _NODES * polynomials[k] - np.sqrt(k) * polynomials[k - 1]
        polynomials.append(following / np.sqrt(k + 1))
    outputs = ACTIVATIONS[known("activation", name)](root * _NODES)
    return (np.array(polynomials) @ (_WEIGHTS * outputs)) ** 2


def covariance(series: np.ndarray, overlap: Values) -> Values:
    """Σ c_k z^k."""
    return np.polynomial.polynomial.polyval(overlap, series)
