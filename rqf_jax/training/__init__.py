"""Learning in discrete steps: processes that change weights, and the verb that runs many seeds.

`Process` is made of a loss, a law of first weights, data, an optimiser of optax and injected noise;
the others are processes of papers. `train(process, updates, seeds=..., key=...)` runs one for many
seeds and returns the `Trajectories` of their weights.
"""

from . import data, gpt, injections, networks
from ._abstract import AbstractProcess
from ._descent import AbstractDescent
from ._train import progress_bar, train
from .boltzmann import BernoulliRBM, GaussianRBM
from .common import Copies, Tangents
from .descent import NoisyDescent, slow_flow
from .gpt import GPT
from .limits import FirstWeights, limit
from .linear import DeepLinear, TeacherStudent
from .process import LeastSquares, Process
from .scale_free import log_stablemax, perpendicular
from .subspace import Subspace

__all__ = [
    "GPT",
    "AbstractDescent",
    "AbstractProcess",
    "BernoulliRBM",
    "Copies",
    "DeepLinear",
    "FirstWeights",
    "GaussianRBM",
    "LeastSquares",
    "NoisyDescent",
    "Process",
    "Subspace",
    "Tangents",
    "TeacherStudent",
    "data",
    "gpt",
    "injections",
    "limit",
    "log_stablemax",
    "networks",
    "perpendicular",
    "progress_bar",
    "slow_flow",
    "train",
]


def __dir__() -> list[str]:
    return __all__
