"""Parameters from trajectories, with honest errors.

Estimators take `Trajectories` (or arrays with times) and return a `FitResult`. What they are made
of is public too: increments and whitening of one step.
"""

from . import rivals
from ._result import FitResult, IdentifiabilityError
from .attention import fit_attention
from .design import predicted_error
from .driving import DrivingNoise, recover_noise
from .eigenvalues import fit_dyson
from .explanation import Explanation, LayerRivals, RivalFit
from .filtered_fit import fit_filtered
from .filtering import Filtered, ensemble_kalman
from .hidden_states import (
    HiddenStatesFit,
    Layer,
    fit_hidden_states,
)
from .increments import half_angle, logarithm
from .noise import fit_noise
from .observation import fit_noise_observed
from .pairs import fit_pairs
from .scaling import fit_scaling
from .shooting import fit_shooting
from .weighing import default_rivals, explain
from .weights import fit_matrix_ou
from .whitening import Whitened, choose, whiten

__all__ = [
    "DrivingNoise",
    "Explanation",
    "Filtered",
    "FitResult",
    "HiddenStatesFit",
    "IdentifiabilityError",
    "Layer",
    "LayerRivals",
    "RivalFit",
    "Whitened",
    "choose",
    "default_rivals",
    "ensemble_kalman",
    "explain",
    "fit_attention",
    "fit_dyson",
    "fit_filtered",
    "fit_hidden_states",
    "fit_matrix_ou",
    "fit_noise",
    "fit_noise_observed",
    "fit_pairs",
    "fit_scaling",
    "fit_shooting",
    "half_angle",
    "logarithm",
    "predicted_error",
    "recover_noise",
    "rivals",
    "whiten",
]


def __dir__() -> list[str]:
    return __all__
