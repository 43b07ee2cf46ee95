"""Drifts: the deterministic velocity f(t, X) of one state."""

from ._abstract import AbstractDrift as AbstractDrift, NoDrift as NoDrift
from .attention import (
    AbstractAttention as AbstractAttention,
    Attention as Attention,
    UnnormalisedAttention as UnnormalisedAttention,
    causal_mask as causal_mask,
)
from .combined import Scheduled as Scheduled, Sum as Sum
from .learned import Geometric as Geometric, Network as Network
from .linear import Constant as Constant, Linear as Linear, MeanField as MeanField, Oja as Oja
from .pull import Coulomb as Coulomb, Pull as Pull, TwoLayer as TwoLayer
from .state_space import SelectiveStateSpace as SelectiveStateSpace
from .well import MatrixWell as MatrixWell
