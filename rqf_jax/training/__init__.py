"""Learning in discrete steps: processes that change weights, and the verb that runs many seeds.

A process is made of data and hyperparameters; `train(process, updates, seeds=..., key=...)` runs it
for many seeds and returns the `Trajectories` of their weights.
"""

from . import gpt as gpt, injections as injections, networks as networks
from ._process import AbstractProcess as AbstractProcess
from ._train import progress_bar as progress_bar, train as train
from .boltzmann import BernoulliRBM as BernoulliRBM, GaussianRBM as GaussianRBM
from .descent import NoisyDescent as NoisyDescent, slow_flow as slow_flow
from .gpt import GPT as GPT
from .linear import DeepLinear as DeepLinear, TeacherStudent as TeacherStudent
