"""Layers of random networks at initialisation: the discrete twins of the equations.

A layer is a map from one state to the next with fresh weights, x ← P(x + √h F(x)): a branch F is
added to a stream of tokens that stays on the sphere or keeps its radius. `rqf_jax.propagate` sends
an ensemble through a stack of them. With residual steps √h at depth 1/h per unit time a stack
converges to an equation of `rqf_jax.models`: weakly at order 1 in h, and at order 1/2 path by path.
"""

from ._abstract import AbstractBranch, AbstractLayer
from .attention import RandomAttention
from .branches import Normed, Parallel, RandomLinear, RandomMLP, UnitOutput
from .stream import Block, Fixed, Norm, Plain, Residual
from .transformer import transformer

__all__ = [
    "AbstractBranch",
    "AbstractLayer",
    "Block",
    "Fixed",
    "Norm",
    "Normed",
    "Parallel",
    "Plain",
    "RandomAttention",
    "RandomLinear",
    "RandomMLP",
    "Residual",
    "UnitOutput",
    "transformer",
]


def __dir__() -> list[str]:
    return __all__
