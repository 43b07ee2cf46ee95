"""Flows and maps of reference: drifts of known equations, with what is known of them.

    flow = rqf_jax.systems.Lorenz63()
    sde = rqf_jax.SDE(flow, rqf_jax.noises.NoNoise(), rqf_jax.manifolds.Euclidean())
    runs = rqf_jax.simulate(sde, flow.law(), ts, substeps=10, members=100, key=key)

A flow is a drift: put noise beside it, simulate it, ask `analysis` for its exponents.
"""

from ._abstract import AbstractFlow, AbstractMap, Exponents
from .chaotic import Rossler, Thomas
from .foreign import Dysts
from .lorenz import Lorenz63, Lorenz96
from .maps import Doubling, Rotation, orbit
from .planar import DoubleWell, Duffing, LotkaVolterra
from .waves import KuramotoSivashinsky

__all__ = [
    "AbstractFlow",
    "AbstractMap",
    "DoubleWell",
    "Doubling",
    "Duffing",
    "Dysts",
    "Exponents",
    "KuramotoSivashinsky",
    "Lorenz63",
    "Lorenz96",
    "LotkaVolterra",
    "Rossler",
    "Rotation",
    "Thomas",
    "orbit",
]


def __dir__() -> list[str]:
    return __all__
