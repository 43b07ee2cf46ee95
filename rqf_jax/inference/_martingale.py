"""Checks of a fit by martingale differences, whose mean is 0 at every step if the model holds.

A residual times anything that was known before the step has mean 0. At a fitted θ the sum scatters
less: with the scores s and the information F of the fit, and the slope B = ∂Σu/∂θ,

    Σ u(θ̂) ≈ Σ (u + s F⁻¹ B)                                            (first order, derived)

which gives the standard error, whatever the law of a single term is.
"""

import numpy as np
from jaxtyping import Float

FAR = 3.3
"""A check beyond so many standard errors, once in 1000 by chance, is a warning."""


def check(
    terms: Float[np.ndarray, " steps"],
    slope: Float[np.ndarray, " parameters"],
    scores: Float[np.ndarray, "steps parameters"],
    fisher: Float[np.ndarray, "parameters parameters"],
) -> tuple[float, float]:
    """The mean of `terms` over their standard deviation, which should be 0, and its z."""
    influence = terms + scores @ np.linalg.pinv(fisher) @ slope
    z = float(terms.sum() / np.sqrt(max(np.sum(influence**2), 1e-300)))
    return z / np.sqrt(terms.size), z


def warnings(goodness: dict[str, tuple[float, float]], texts: dict[str, str]) -> tuple[str, ...]:
    """The `texts` of the checks that are too far from what they should be."""
    return tuple(
        f"{texts[name]} ({name}: z = {z:+.1f})."
        for name, (_, z) in goodness.items()
        if abs(z) > FAR and name in texts
    )
