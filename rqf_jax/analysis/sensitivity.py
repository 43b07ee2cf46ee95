"""Learning rates: how much a wrong one costs."""

import math
from typing import Any

import numpy as np

from .._arguments import host, real


def learning_rate_sensitivity(losses: Any, *, start: Any) -> tuple[float, float]:
    """The mean cost of a wrong learning rate, E_α [min(ℓ(α), ℓ₀) - min_α ℓ(α)], and its error.

    The mean is over the learning rates that were tried, which are best spread evenly on a
    logarithmic scale. A run that diverged, of loss NaN or infinite, counts as one that learnt
    nothing. 0 for losses that no rate changes.

    **Arguments**

    - `losses`: the last losses, (rates,) or (seeds, rates).
    - `start`: ℓ₀, the loss before learning.

    **Returns** the sensitivity of the seeds' mean, in units of the loss, and the standard error
    over seeds of their own sensitivities (NaN for one). **Raises** ValueError for other shapes.

    >>> cost, stderr = rqf.analysis.learning_rate_sensitivity([1.0, 0.2, np.nan], start=1.0)
    >>> round(cost, 4)
    0.5333

    Source: Wortsman et al., arXiv:2309.14322 (recalled).
    """
    values, first = host("losses", losses), real("start", start)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"`losses` must be (rates,) or (seeds, rates); got shape {values.shape}.")
    values = np.atleast_2d(values)
    kept = np.where(np.isfinite(values), np.minimum(values, first), first)
    costs = kept.mean(1) - kept.min(1)
    mean = kept.mean(0)
    stderr = costs.std(ddof=1) / math.sqrt(costs.size) if costs.size > 1 else math.nan
    return float(mean.mean() - mean.min()), float(stderr)
