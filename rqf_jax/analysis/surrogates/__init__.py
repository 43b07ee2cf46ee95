"""Measures of a learned law: is the surrogate's ensemble that of the truth, not its forecast alone?

Every distance comes with its standard error over surrogates that were trained from other seeds,
and with a null: the same distance between two halves of the truth.
"""

from ._record import Distance
from .cells import TransitionMatrix, transition_matrix
from .dimension import Dimension, correlation_dimension
from .forecasts import forecast_error, valid_prediction_time
from .laws import mixture_divergence, state_space_divergence
from .maps import map_exponents
from .powers import spectral_distance

__all__ = [
    "Dimension",
    "Distance",
    "TransitionMatrix",
    "correlation_dimension",
    "forecast_error",
    "map_exponents",
    "mixture_divergence",
    "spectral_distance",
    "state_space_divergence",
    "transition_matrix",
    "valid_prediction_time",
]


def __dir__() -> list[str]:
    return __all__
