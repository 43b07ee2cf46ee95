"""Scores of rival explanations, layer by layer, as a table."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .._arguments import table


@dataclass(frozen=True)
class RivalFit:
    """One explanation of one layer.

    `score` is the mean ln of the density of held-out sentences, in nats per number; `gain` that
    over private noise, and `gain_stderr` its standard error from the scatter between folds;
    `fold_scores` are the scores of the folds (`LayerRivals.gain` compares two rivals). Angles
    are medians, in degrees, between held-out tokens and their prediction: of all, of those whose
    text is `repeated` in the sentences seen, of `novel` ones; NaN where there is none.

    `strengths` are (mean squared length that a part gives to a token of length 1, standard error)
    from all sentences, and `coefficients` those of the mean: "x" is c. `columns` is the number of
    output coordinates that are independent. `whitened` is the variance of the squared modes of the
    whitened output in units of the 2/columns that the model has, with `whitened_limit`, which it
    exceeds only if the model's covariance is wrong. A map has none of these: NaN.
    """

    name: str
    score: float
    gain: float
    gain_stderr: float
    fold_scores: Float[np.ndarray, " folds"]
    angle: float
    repeated: float
    novel: float
    strengths: dict[str, tuple[float, float]]
    coefficients: dict[str, float]
    columns: float
    whitened: float
    whitened_limit: float

    @property
    def rejected(self) -> bool:
        """True if the whitened output shows that the covariance is another one."""
        return self.whitened > self.whitened_limit


@dataclass(frozen=True)
class LayerRivals:
    """The rivals of one layer.

    `turn` is the median angle in degrees by which it turns tokens, and `shares` the share of the
    tokens that each fold holds.
    """

    turn: float
    shares: Float[np.ndarray, " folds"]
    rivals: tuple[RivalFit, ...]

    @property
    def best(self) -> RivalFit:
        """The rival with the highest score."""
        return max(self.rivals, key=lambda one: one.score)

    def __getitem__(self, name: str) -> RivalFit:
        return {one.name: one for one in self.rivals}[name]

    def gain(self, name: str, over: str) -> tuple[float, float]:
        """The score of one rival less that of another, and its standard error.

        Both were scored on the same sentences, so that the error is that of the differences of the
        folds. It is smaller than that of two independent scores where both rivals find the same
        sentences hard.
        """
        return paired(self[name].fold_scores - self[over].fold_scores, self.shares)


def paired(
    differences: Float[np.ndarray, " folds"], shares: Float[np.ndarray, " folds"]
) -> tuple[float, float]:
    """The mean of differences between folds, weighted by their tokens, and its standard error."""
    mean = float(shares @ differences)
    variance = shares**2 @ (differences - mean) ** 2 * len(shares) / (len(shares) - 1)
    return mean, math.sqrt(variance)


@dataclass(frozen=True)
class Explanation:
    """Scores of rivals, layer by layer; `print` shows a table, `plot.rivals` draws it.

    `layers` are `LayerRivals`; `gains` is (layers, rivals). `folds` is the number of groups of
    sentences; `sinks` and `excluded` are as in `HiddenStatesFit`.
    """

    layers: tuple[LayerRivals, ...]
    names: tuple[str, ...]
    sentences: int
    tokens: int
    dim: int
    folds: int
    sinks: tuple[tuple[int, str, float], ...]
    excluded: tuple[tuple[int, str, str], ...]

    @property
    def gains(self) -> Float[np.ndarray, "layers rivals"]:
        """Nats per number over private noise."""
        return np.array([[one.gain for one in layer.rivals] for layer in self.layers])

    @property
    def stderr(self) -> Float[np.ndarray, "layers rivals"]:
        """Standard errors of `gains`."""
        return np.array([[one.gain_stderr for one in layer.rivals] for layer in self.layers])

    @property
    def winners(self) -> tuple[str, ...]:
        """The name of the best rival of each layer."""
        return tuple(layer.best.name for layer in self.layers)

    def _repr_html_(self) -> str:
        rows = {
            f"layer {i}": f"{layer.best.name}, {layer.best.gain:+.3f} ± "
            f"{layer.best.gain_stderr:.3f} nats per number over private noise"
            for i, layer in enumerate(self.layers, 1)
        }
        return table(f"Best of {len(self.names)} explanations", rows)

    def __repr__(self) -> str:
        best = ", ".join(dict.fromkeys(self.winners))
        return (
            f"Explanation(layers={len(self.layers)}, rivals={len(self.names)}, "
            f"sentences={self.sentences}, tokens={self.tokens}, best: {best})"
        )

    def __str__(self) -> str:
        lines = [
            f"{self.sentences} sentences, {self.tokens} tokens, dimension {self.dim}, "
            f"{self.folds} folds of sentences",
            "gain over private noise on held-out sentences, nats per number (* the best)",
        ]
        width = max(map(len, self.names))
        for first in range(0, len(self.layers), 10):
            group = range(first, min(first + 10, len(self.layers)))
            lines += ["", " " * width + "".join(f"{f'{i}→{i + 1}':>9}" for i in group)]
            for row, name in enumerate(self.names):
                cells = (self._cell(self.layers[i], row) for i in group)
                lines.append(f"{name:<{width}}" + "".join(cells))
        lines += ["", "layer  turn   best, its error angle: all (repeated, novel); whitened modes"]
        for number, layer in enumerate(self.layers):
            best = layer.best
            lines.append(
                f"{f'{number}→{number + 1}':<6} {layer.turn:4.1f}°  {best.name}, "
                f"{best.angle:.1f}° ({_degrees(best.repeated)}, {_degrees(best.novel)}); "
                + _modes(best)
            )
        lines += [
            f"left out: {token!r} of sentence {sentence}, norm {excess:.0f} x the median"
            for sentence, token, excess in self.sinks
        ]
        lines += [
            f"left out: {token!r} of sentence {sentence}, {reason}"
            for sentence, token, reason in self.excluded
        ]
        return "\n".join(lines)

    @staticmethod
    def _cell(layer: LayerRivals, row: int) -> str:
        one = layer.rivals[row]
        return f"{one.gain:+8.3f}{'*' if one is layer.best else ' '}"


def _degrees(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.1f}°"


def _modes(best: RivalFit) -> str:
    if math.isnan(best.whitened):
        return "no covariance"
    verdict = "covariance rejected" if best.rejected else "nothing against the covariance"
    return f"{best.whitened:.1f} ({verdict})"
