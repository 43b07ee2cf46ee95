"""Drifts: the deterministic velocity f(t, X) of one state."""

from ._abstract import AbstractDrift, NoDrift
from .attention import (
    AbstractAttention,
    Attention,
    UnnormalisedAttention,
    causal_mask,
)
from .combined import Scheduled, Sum
from .descent import Descent
from .learned import Geometric, Network
from .linear import Constant, Linear, MeanField, Oja
from .momentum import Momentum
from .normed import Normed, UnitOutput
from .observer import Driven, Nudged
from .pull import Coulomb, Pull, TwoLayer
from .rotary import rotary_frequencies
from .self_supervised import SelfSupervised
from .semilinear import AbstractSemilinear
from .state_space import SelectiveStateSpace
from .well import MatrixWell

__all__ = [
    "AbstractAttention",
    "AbstractDrift",
    "AbstractSemilinear",
    "Attention",
    "Constant",
    "Coulomb",
    "Descent",
    "Driven",
    "Geometric",
    "Linear",
    "MatrixWell",
    "MeanField",
    "Momentum",
    "Network",
    "NoDrift",
    "Normed",
    "Nudged",
    "Oja",
    "Pull",
    "Scheduled",
    "SelectiveStateSpace",
    "SelfSupervised",
    "Sum",
    "TwoLayer",
    "UnitOutput",
    "UnnormalisedAttention",
    "causal_mask",
    "rotary_frequencies",
]


def __dir__() -> list[str]:
    return __all__
