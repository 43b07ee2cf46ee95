"""Information through noisy channels."""

from typing import Any

import numpy as np
from jaxtyping import Float

from .._arguments import data, real
from ._contract import finite


@finite
def water_filling(gains: Any, budget: Any) -> Float[np.ndarray, " channels"]:
    """The powers c_j that carry the most information through parallel Gaussian channels.

        max Σ_j ½ ln(1 + a_j c_j),   Σ_j c_j = budget   ⇒   c_j = max(0, θ - 1/a_j)

    `gains` are the a_j ≥ 0 and `budget` ≥ 0; the water level θ is found exactly, from the channels
    in order. In a linear Gaussian code these are the variances of the latent coordinates.

    Raises ValueError for gains that are negative or all 0, and for a negative budget.
    Source: classical (Shannon); the tests compare with the conditions of a maximum.
    """
    values, budget = data("gains", gains), real("budget", budget, minimum=0)
    if values.ndim != 1 or not values.size or values.min() < 0 or values.max() == 0:
        raise ValueError(f"`gains` must be one axis of numbers ≥ 0, not all 0; got {values}.")
    floors = np.full(values.shape, np.inf)
    np.divide(1.0, values, out=floors, where=values > 0)
    ordered = np.sort(floors[np.isfinite(floors)])
    # With k channels open the level is (budget + Σ floors)/k, and must reach the k-th of them.
    levels = (budget + np.cumsum(ordered)) / np.arange(1, ordered.size + 1)
    level = levels[np.flatnonzero(levels >= ordered)[-1]]
    return np.maximum(0.0, level - floors)
