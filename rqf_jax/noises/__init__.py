"""Noises: how a Brownian motion moves one state, g(t, X) ∘ dB, never as a dense matrix."""

from ._abstract import (
    AbstractAdditiveNoise as AbstractAdditiveNoise,
    AbstractNoise as AbstractNoise,
    Calculus as Calculus,
    NoNoise as NoNoise,
)
from .combined import Layered as Layered, Scheduled as Scheduled, Sum as Sum
from .common import BiasNoise as BiasNoise, HarmonicNoise as HarmonicNoise
from .ensemble import (
    CorrelatedNoise as CorrelatedNoise,
    SpectralNoise as SpectralNoise,
    covariance_factor as covariance_factor,
)
from .field import (
    AbstractFieldNoise as AbstractFieldNoise,
    HomogenisedNoise as HomogenisedNoise,
    KernelNoise as KernelNoise,
)
from .linear import LinearNoise as LinearNoise
from .matrix import (
    AbstractMatrixNoise as AbstractMatrixNoise,
    AnisotropicNoise as AnisotropicNoise,
    IsotropicNoise as IsotropicNoise,
    SpanNoise as SpanNoise,
)
from .token import TokenNoise as TokenNoise
from .value import ScalarNoise as ScalarNoise, ValueNoise as ValueNoise
