"""Noises: how a Brownian motion moves one state, g(t, X) ∘ dB, never as a dense matrix."""

from ._abstract import (
    AbstractAdditiveNoise,
    AbstractNoise,
    Calculus,
    NoNoise,
)
from .combined import Layered, Product, Scheduled, Sum
from .common import BiasNoise, HarmonicNoise
from .ensemble import (
    CorrelatedNoise,
    SpectralNoise,
    covariance_factor,
)
from .field import (
    AbstractFieldNoise,
    HomogenisedNoise,
    KernelNoise,
)
from .linear import LinearNoise
from .matrix import (
    AbstractMatrixNoise,
    AnisotropicNoise,
    IsotropicNoise,
    SpanNoise,
)
from .normed import Normed, UnitOutput
from .self_supervised import MomentNoise
from .token import TokenNoise
from .value import ScalarNoise, ValueNoise

__all__ = [
    "AbstractAdditiveNoise",
    "AbstractFieldNoise",
    "AbstractMatrixNoise",
    "AbstractNoise",
    "AnisotropicNoise",
    "BiasNoise",
    "Calculus",
    "CorrelatedNoise",
    "HarmonicNoise",
    "HomogenisedNoise",
    "IsotropicNoise",
    "KernelNoise",
    "Layered",
    "LinearNoise",
    "MomentNoise",
    "NoNoise",
    "Normed",
    "Product",
    "ScalarNoise",
    "Scheduled",
    "SpanNoise",
    "SpectralNoise",
    "Sum",
    "TokenNoise",
    "UnitOutput",
    "ValueNoise",
    "covariance_factor",
]


def __dir__() -> list[str]:
    return __all__
