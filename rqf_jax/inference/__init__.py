"""Parameters from trajectories, with honest errors.

Estimators take `Trajectories` (or arrays with times) and return a `FitResult`. What they are made
of is public too: increments and whitening of one step.
"""

from ._result import FitResult as FitResult, IdentifiabilityError as IdentifiabilityError
from .attention import fit_attention as fit_attention
from .design import predicted_error as predicted_error
from .driving import DrivingNoise as DrivingNoise, recover_noise as recover_noise
from .hidden_states import (
    HiddenStatesFit as HiddenStatesFit,
    Layer as Layer,
    fit_hidden_states as fit_hidden_states,
)
from .increments import half_angle as half_angle, logarithm as logarithm
from .noise import fit_noise as fit_noise
from .pairs import fit_pairs as fit_pairs
from .whitening import Whitened as Whitened, choose as choose, whiten as whiten
