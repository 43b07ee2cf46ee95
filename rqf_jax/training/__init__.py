"""Learning in discrete steps: processes that change weights, and the verb that runs many seeds.

A process is made of data and hyperparameters; `train(process, updates, seeds=..., key=...)` runs it
for many seeds and returns the `Trajectories` of their weights.
"""

from . import gpt, injections, networks
from ._process import AbstractProcess
from ._train import progress_bar, train
from .boltzmann import BernoulliRBM, GaussianRBM
from .descent import NoisyDescent, slow_flow
from .gpt import GPT
from .linear import DeepLinear, TeacherStudent

__all__ = [
    "GPT",
    "AbstractProcess",
    "BernoulliRBM",
    "DeepLinear",
    "GaussianRBM",
    "NoisyDescent",
    "TeacherStudent",
    "gpt",
    "injections",
    "networks",
    "progress_bar",
    "slow_flow",
    "train",
]


def __dir__() -> list[str]:
    return __all__
