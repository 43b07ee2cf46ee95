"""One task after another: how deep the scores of earlier tasks fall, and for how long."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int

from .._arguments import each, host, integer, shown

_NAMES = ("minimum", "worst_case", "forgetting", "plasticity")


class StabilityGap(eqx.Module):
    """Worst cases of learning one task after another: see `stability_gap`.

    `estimate` and `stderr` have one number for each of `minimum`, `worst_case`, `forgetting` and
    `plasticity`.
    """

    estimate: dict[str, float]
    stderr: dict[str, float]

    def __repr__(self) -> str:
        rows = [
            f"{name:>10}  {self.estimate[name]:>10.5g} ± {self.stderr[name]:.2g}" for name in _NAMES
        ]
        return "\n".join(["StabilityGap", *rows])


def stability_gap(updates: Any, scores: Any, *, starts: Sequence[int], window: int) -> StabilityGap:
    """The worst scores of earlier tasks while later ones are learnt, and the largest changes.

    With A_i(k) the score of task i of K after k updates:

    - `minimum`: the mean over all tasks but the last of min A_i(k), k after the end of task i;
      of a single task its last score;
    - `worst_case`: A_K(end)/K + (1 - 1/K) minimum;
    - `forgetting`: the mean over tasks of max [A_i(k) - A_i(k')], 0 ≤ k' - k ≤ window;
    - `plasticity`: the mean over tasks of max [A_i(k') - A_i(k)], 0 ≤ k' - k ≤ window.

    A final score alone does not show a gap: a network may forget a task as another begins, and
    learn it again. Save often enough after each switch to see it.

    **Arguments**

    - `updates` (times,): the numbers of updates of the saves, which increase.
    - `scores`: (times, tasks), or (seeds, times, tasks): numbers of which more is better, such as
      accuracies or losses times -1.
    - `starts`: the update at which each task begins, as in `training.data.Tasks`.
    - `window`: a number of updates.

    **Returns** a `StabilityGap`: means over seeds, and their standard errors (NaN for one seed).
    **Raises** ValueError for other shapes, for scores that are not finite, and if no save is later
    than the last start. **Example**

    >>> found = rqf.analysis.stability_gap(
    ...     [0, 10, 20, 30], [[0.1, 0.1], [0.9, 0.1], [0.5, 0.8], [0.7, 0.9]], starts=[0, 10],
    ...     window=10,
    ... )
    >>> round(found.estimate["minimum"], 4), round(found.estimate["worst_case"], 4)
    (0.5, 0.7)

    Source: De Lange, van de Ven & Tuytelaars, arXiv:2205.13452 (recalled).
    """
    ks, values = host("updates", updates), host("scores", scores)
    tasks = np.array(each(lambda name, n: integer(name, n, minimum=0))("starts", starts))
    window = integer("window", window)
    if ks.ndim != 1 or ks.size < 2 or not np.all(np.diff(ks) > 0):
        raise ValueError(f"`updates` must be at least 2 increasing numbers; got {shown(ks)}.")
    shaped = values.ndim in (2, 3) and values.shape[-2:] == (ks.size, tasks.size)
    if not shaped or not values.size:
        raise ValueError(
            f"`scores` must be (times, tasks) or (seeds, times, tasks), with {ks.size} times and "
            f"{tasks.size} tasks; got shape {values.shape}."
        )
    if not np.isfinite(values).all():
        bad = values[~np.isfinite(values)]
        raise ValueError(f"`scores` must be finite; got {bad[0]}. Leave out the seeds that failed.")
    if np.any(np.diff(tasks) <= 0) or tasks[-1] >= ks[-1]:
        raise ValueError(
            f"`starts` must increase and begin before the last save, after {ks[-1]:g} updates; got "
            f"{tasks.tolist()}. Save after the last task has begun."
        )
    seeds = values if values.ndim == 3 else values[None]
    rows = np.array([_worst(ks, one, tasks, window) for one in seeds])
    stderr = rows.std(0, ddof=1) / math.sqrt(len(rows)) if len(rows) > 1 else np.full(4, math.nan)
    return StabilityGap(
        dict(zip(_NAMES, rows.mean(0).tolist(), strict=True)),
        dict(zip(_NAMES, stderr.tolist(), strict=True)),
    )


def _worst(
    ks: Float[np.ndarray, " times"],
    scores: Float[np.ndarray, "times tasks"],
    starts: Int[np.ndarray, " tasks"],
    window: int,
) -> list[float]:
    """The four numbers of one seed."""
    count = len(starts)
    least = [scores[ks > end, i].min() for i, end in enumerate(starts[1:])]
    # With one task nothing is earlier, and its own score is all there is.
    minimum = float(np.mean(least)) if least else float(scores[-1, 0])
    worst = scores[-1, -1] / count + (1 - 1 / count) * minimum
    falls, rises = np.zeros(count), np.zeros(count)
    for first, k in enumerate(ks):
        near = scores[first : np.searchsorted(ks, k + window, side="right")] - scores[first]
        falls, rises = np.maximum(falls, -near.min(0)), np.maximum(rises, near.max(0))
    return [minimum, float(worst), float(falls.mean()), float(rises.mean())]
