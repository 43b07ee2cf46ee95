"""Noises: how a Brownian motion moves one state, g(t, X) ∘ dB, never as a dense matrix."""

from ._abstract import AbstractNoise as AbstractNoise, Calculus as Calculus, NoNoise as NoNoise
from .matrix import (
    AbstractMatrixNoise as AbstractMatrixNoise,
    IsotropicNoise as IsotropicNoise,
    SpanNoise as SpanNoise,
)
from .token import TokenNoise as TokenNoise
