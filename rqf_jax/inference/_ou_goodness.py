"""Whether a linear pull with equal, independent noise in every entry fits: checks of residuals.

Residuals are e = D' - a D around a known target, or around the means of the paths before and after
their steps, which take e's own mean away and leave E e_t e_{t+1} = -v/K of K steps.
"""

import numpy as np
from jaxtyping import Float

from . import _martingale as martingale

TEXTS = {
    "memory of entries": "successive residuals are correlated: were the states observed with "
    "noise, which this fit takes for motion?",
    "pull of entries": "the pull is not linear: large entries return in another way than small",
    "pull of the norm": "the pull is not linear: states far from the target return in another way "
    "than near ones, as in a well that is not quadratic",
    "independence of entries": "entries have correlated or unequal noise, which this fit takes for "
    "independent and equal: its errors are too small",
}
_MOST = 1000


def goodness(
    paths: Float[np.ndarray, "times members entries"], slope: float, *, centred: bool
) -> dict[str, tuple[float, float]]:
    """Correlations that should be 0, and 1 for the last, of deviations that shrink by `slope`."""
    before, after = paths[:-1], paths[1:]
    if centred:
        before, after = (part - part.mean(0) for part in (before, after))
    residual, size = after - slope * before, len(before)
    variance = float(np.mean(residual**2)) * (size / (size - 1) if centred else 1.0)
    # ln likelihood by a: score and information, in units of v.
    score, fisher = np.sum(residual * before, -1), np.sum(before**2)
    found = {}
    if size > 2:
        one, next_one = residual[:-1], residual[1:]
        terms = np.sum(one * next_one, -1)
        if centred:
            terms = terms + variance * paths.shape[2] / size
        slope_of = -np.sum(before[:-1] * next_one + one * before[1:])
        found["memory of entries"] = _check(terms, slope_of, score[1:], fisher)
    cubed = before**3
    cubed = cubed - np.sum(cubed * before) / fisher * before
    found["pull of entries"] = _check(np.sum(residual * cubed, -1), 0.0, score, fisher)
    if paths.shape[2] > 1:
        far = np.mean(before**2, -1, keepdims=True) * before
        far = far - np.sum(far * before) / fisher * before
        found["pull of the norm"] = _check(np.sum(residual * far, -1), 0.0, score, fisher)
        found |= _independence(residual)
    return found


def _check(terms, slope: float, score, fisher: float) -> tuple[float, float]:
    one = score.ravel()[:, None]
    return martingale.check(terms.ravel(), np.array([slope]), one, np.array([[fisher]]))


def _independence(residual) -> dict[str, tuple[float, float]]:
    """The mean squared product of two residual states over its value d v² for independent entries.

    It is tr Σ²/(d v²) for noise of covariance Σ, known to 2/N from N states (Ledoit & Wolf, Ann.
    Statist. 30 (2002) 1081, recalled).
    """
    states = residual.reshape(-1, residual.shape[-1])
    spaced = np.arange(min(len(states), _MOST)) * len(states) // min(len(states), _MOST)
    variance, states = np.mean(states**2), states[spaced]
    count, entries = states.shape
    if count < 8:
        return {}
    small = states @ states.T if count < entries else states.T @ states
    products = np.sum(small**2) - np.sum(np.sum(states**2, -1) ** 2)
    ratio = products / (count * (count - 1)) / (entries * variance**2)
    return {"independence of entries": (float(ratio), float((ratio - 1) * count / 2))}
