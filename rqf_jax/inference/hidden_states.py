"""Hidden states of a language model as if layers were steps of common noise: does that fit?"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .._arguments import flag
from ..theory.sphere import mean_overlap
from ._checks import checks
from ._data import in_own_precision
from ._layers import root_error, strengths, student
from ._sentences import SINK as SINK, padded, read
from ._steps import whitened_steps
from .explanation import Explanation
from .rivals import PrivateNoise, SentenceMatrix, Series, SharedMatrix
from .weighing import explain

JUMP = 1.6
"""A layer is a jump if its median turn is above so many times the median over the layers."""

LAYERS = 10
"""Fewer layers than this are too few to call them a diffusion."""

_MATRIX_NOISE = (SharedMatrix(), SentenceMatrix())
_MAP = Series(3)
_RIVALS = (PrivateNoise(), *_MATRIX_NOISE, _MAP)
_BENT = 0.1
_MOST_PAIRS = 400
_TOO_FAR = 5.0
_SURE = 0.999


@dataclass(frozen=True)
class Layer:
    """Motion of the tokens between two layers; one layer is one unit of time.

    `turn` is the median angle (radians) by which tokens turned, `jump` whether that is too far for
    a small step. `symmetric` and `antisymmetric` are σ_s and σ_a, `stderr` their standard errors.
    `null_ratio` and `in_out` are as in `FitResult`, with `in_out_error`; `in_out` has a bias of up
    to `coarseness` = 0.4 n σ_s² besides. `overlap` is the mean over pairs of tokens after the
    layer, `predicted` what the fitted noise alone makes of it from the start of the stretch of
    layers without a jump.

    Errors are those of another draw of sentences: ± 2 of them hold the truth in 95.4 % of fits, for
    2 sentences as for 20, because they have the factor of Student's law in them. A layer that turns
    no token has strengths and errors of 0, and no ratios (NaN).
    """

    turn: float
    jump: bool
    symmetric: float
    antisymmetric: float
    stderr: tuple[float, float]
    null_ratio: float
    in_out: float
    in_out_error: float
    coarseness: float
    overlap: float
    predicted: float


@dataclass(frozen=True)
class HiddenStatesFit:
    """Layers, the tokens left out, and what speaks against common noise.

    `overlap` is the mean over pairs in layer 0. `sinks` are (sentence, token, norm over the median
    norm of the layer), `excluded` are (sentence, token, why it has no direction). `gathering` is
    the measured less the predicted change of the mean overlap, over all layers without a jump, and
    its mean over its standard error, which has Student's law over the sentences; `lag` the
    correlation of successive turns and its z. `rivals` weighs this model, noise fresh in every
    sentence, against others on held-out sentences; None if that was not asked for or there is one
    sentence. `objections` are sentences; without any, `fits` is True. `print` shows all of it.
    """

    layers: tuple[Layer, ...]
    overlap: float
    sinks: tuple[tuple[int, str, float], ...]
    excluded: tuple[tuple[int, str, str], ...]
    gathering: tuple[float, float]
    lag: tuple[float, float]
    objections: tuple[str, ...]
    rivals: Explanation | None = None

    @property
    def fits(self) -> bool:
        """True if nothing speaks against layers as steps of common noise."""
        return not self.objections

    @property
    def verdict(self) -> str:
        """The objections to common noise, and which rival predicts held-out sentences best."""
        text = "Nothing here speaks against layers as steps of common matrix noise."
        if not self.fits:
            text = "Layers are not steps of common matrix noise alone: " + " ".join(self.objections)
        return text if self.rivals is None else f"{text} {_standing(self.rivals)}"

    def __repr__(self) -> str:
        return (
            f"HiddenStatesFit(layers={len(self.layers)}, sinks={len(self.sinks)}, "
            f"excluded={len(self.excluded)}, fits={self.fits})"
        )

    def __str__(self) -> str:
        return "\n".join([*_table(self), "", self.verdict])


@in_own_precision
def fit_hidden_states(sentences: Sequence[Any], *, compare: bool = True) -> HiddenStatesFit:
    """Noise per layer from hidden states, split into symmetric and antisymmetric, and a verdict.

    Directions h/|h| are the tokens, layers the times, sentences the members, as in `fit_noise` with
    `antisymmetric=True`, one layer at a time. The same weights act on every sentence, so standard
    errors come from the scatter between sentences (from the information for one sentence): see
    `Layer`. Steps are large: the step error is not removed, and `coarseness` bounds it.

    Rules, in this order. A token that is not finite in some layer, or has no length there, has no
    direction: it is excluded from all layers. A token whose norm exceeds `SINK` times the median
    over all tokens of a layer is a sink and left out of all layers. A layer in which no token turns
    by more than the rounding of the states has no noise. A layer whose median turn exceeds `JUMP`
    times the median over the layers that turn is a jump; its numbers are reported and enter nothing
    else. Objections:

    - no layer turns a token;
    - null ratio below 0.3, the median over layers: noise that acts within a layer has commutators,
      and a single step has none (above 1, the ratio is what σ_a explains);
    - the mean of ln `in_out` over layers beyond that of ln(1 + coarseness) by more than 5 standard
      errors (two sentences at least);
    - successive turns correlated, |z| > 5;
    - tokens gather more or less than predicted by more than 5 standard errors (three sentences at
      least);
    - in most layers a nonlinear map that all sentences share (`rivals.Series`) predicts held-out
      sentences better than a matrix per sentence and one for all, by more than 5 standard errors
      (two sentences at least, if `compare` is True);
    - fewer than `LAYERS` layers.

    Standard errors from few sentences, or folds of them, are uncertain themselves: in place of 5 of
    them it takes as many as Student's law exceeds once in 1000, for instance 8.6 from 5 sentences.

    `sentences` have `states` (layers, tokens, dim) and `tokens`, as in `io.read_hidden_states`.
    The likelihood takes noise to be fresh in every sentence. `compare` says whether that is weighed
    against rivals, which takes most of the time: `verdict` says where it is beaten. Raises
    ValueError unless all have the same two or more layers and one dimension, and unless two tokens
    of some sentence remain.
    """
    compare = flag("compare", compare)
    units, kept, sinks, excluded, rounding = read(sentences)
    turns = np.concatenate([_turns(x) for x in units], axis=1)
    turn, moving = np.median(turns, axis=1), turns.max(axis=1) > rounding
    usual = float(np.median(turn[moving])) if np.sum(moving) > 2 else 0.0
    jump = (turn > JUMP * usual) & (usual > 0)
    xs, there = padded(units)
    found = _strengths(xs, there, turns, moving)
    p, dim = found["p"], xs.shape[3]
    sizes, errors = (
        np.stack([part(name) for name in "pr"], axis=1)
        for part in (
            lambda name: np.sqrt(found[name]),
            lambda name: root_error(found[name], found[f"{name}_error"]),
        )
    )
    measured, predicted, gathering = _gathering(units, p, jump)
    lag = _lag(xs, there, jump | ~moving)
    layers = tuple(
        Layer(
            float(turn[i]),
            bool(jump[i]),
            float(sizes[i, 0]),
            float(sizes[i, 1]),
            (float(errors[i, 0]), float(errors[i, 1])),
            float(found["null"][i]),
            float(found["in_out"][i]),
            float(found["in_out_error"][i]),
            0.4 * dim * float(p[i]),
            float(measured[i + 1]),
            float(predicted[i + 1]),
        )
        for i in range(turn.size)
    )
    spans = _excess(found, layers, moving & ~jump)
    objections = _objections(layers, moving, spans, gathering, lag, len(units))
    weighed = None
    if compare and sum(np.any(tokens) for tokens in kept) > 1 and np.any(moving):
        weighed = explain(sentences, _RIVALS)
        objections += _beaten(weighed, moving)
    overlap = float(measured[0])
    return HiddenStatesFit(layers, overlap, sinks, excluded, gathering, lag, objections, weighed)


def _strengths(xs, there, turns, moving) -> dict[str, Float[np.ndarray, " layers"]]:
    """The numbers of `_layers.strengths`; zeros, and ratios that are NaN, where nothing turns."""
    nothing = dict.fromkeys(("p", "r", "p_error", "r_error"), 0.0)
    nothing |= dict.fromkeys(("null", "in_out", "in_out_error"), math.nan)
    all_layers: dict[str, np.ndarray] = {
        name: np.full(moving.size, value) for name, value in nothing.items()
    }
    all_layers["without"] = np.full((moving.size, xs.shape[0]), math.nan)
    if np.any(moving):
        # One Brownian token turns by √((n-1) p/2).
        typical = float(np.median(turns[moving])) or float(turns[moving].max())
        guess = jnp.asarray(2 * typical**2 / (xs.shape[3] - 1), xs.dtype)
        steps = whitened_steps(xs, jnp.ones(moving.size, xs.dtype), there, guess)
        found = strengths(jax.tree.map(lambda leaf: leaf[:, np.flatnonzero(moving)], steps))
        for name, values in found.items():
            all_layers[name][moving] = values
    return all_layers


def _turns(x):
    """Angles (steps, tokens) between successive layers."""
    near = np.linalg.norm(x[1:] - x[:-1], axis=-1)
    return 2 * np.arctan2(near, np.linalg.norm(x[1:] + x[:-1], axis=-1))


def _gathering(units, p, jump):
    """Mean overlaps per layer, measured and predicted, and their difference with its z."""
    measured, predicted = [], []
    for x in units:
        if x.shape[1] < 2:
            continue
        rows, columns = np.triu_indices(x.shape[1], 1)
        spaced = np.unique(np.arange(_MOST_PAIRS) * rows.size // _MOST_PAIRS)
        rows, columns = rows[spaced], columns[spaced]
        pairs = np.clip(np.sum(x[:, rows] * x[:, columns], axis=-1), -1, 1)
        measured.append(pairs.mean(axis=1))
        expected, first, clock = [pairs[0].mean()], pairs[0], 0.0
        for i, rate in enumerate(p):
            clock += rate
            if jump[i]:
                first, clock = pairs[i + 1], 0.0
            expected.append(float(np.mean(mean_overlap(clock, first, sigma=1.0))))
        predicted.append(np.array(expected))
    ours, theirs = np.stack(measured), np.stack(predicted)
    # A stretch ends before a jump, or with the last layer.
    last = np.flatnonzero(~jump & np.append(jump[1:], True)) + 1
    gain = np.sum(ours[:, last] - theirs[:, last], axis=1)
    z = math.nan
    if gain.size > 2 and np.ptp(gain) > 0:
        z = float(gain.mean() / (gain.std(ddof=1) / math.sqrt(gain.size)))
    return ours.mean(axis=0), theirs.mean(axis=0), (float(gain.mean()), z)


def _lag(xs, there, apart) -> tuple[float, float]:
    """Correlation of successive turns in the longest stretch of layers that are not `apart`, and
    its z."""
    best, first = (0, 0), 0
    for i, stop in enumerate([*apart, True]):
        if stop:
            best, first = max(best, (i - first, first)), i + 1
    length, first = best
    if length < 2:
        return math.nan, math.nan
    stretch = slice(first, first + length + 1)
    seen = checks(xs[:, stretch], jnp.ones(length, xs.dtype), there[:, stretch])
    return float(seen.lag), float(seen.lag_score)


def _objections(layers, moving, spans, gathering, lag, sentences: int) -> tuple[str, ...]:
    small = [layer for layer, turns in zip(layers, moving, strict=True) if turns and not layer.jump]
    found = []
    if not small:
        found.append("No layer turns a token.")
    elif float(np.median([layer.null_ratio for layer in small])) < 0.3:
        found.append(
            "Nothing moves in the directions that symmetric noise leaves free, not even by its "
            "commutators: layers are single steps."
        )
    if spans > _limit(sentences):
        ratio = float(np.exp(np.mean(np.log([layer.in_out for layer in small]))))
        found.append(
            f"Tokens move {ratio:.2g} times as much (squared) in their span as out of it; "
            "isotropic noise does so equally."
        )
    if abs(lag[1]) > _TOO_FAR:
        found.append(
            f"Successive turns have the correlation {lag[0]:+.2f} (z = {lag[1]:+.0f}); noise that "
            "is new in every layer has 0."
        )
    if abs(gathering[1]) > _limit(sentences):
        found.append(
            f"The mean overlap gains {gathering[0]:+.2f} more than noise of this strength makes of "
            f"it (z = {gathering[1]:+.0f}): a drift."
        )
    if len(layers) < LAYERS:
        found.append(f"{len(layers)} layers are too few to call them a diffusion.")
    return tuple(found)


def _beaten(rivals: Explanation, moving) -> tuple[str, ...]:
    """The objection that most layers are a nonlinear map of all sentences, no matrix noise."""
    found, turning = [], 0
    for layer, turns in zip(rivals.layers, moving, strict=True):
        turning += bool(turns)
        series = layer[_MAP.name]
        noise = max((layer[one.name] for one in _MATRIX_NOISE), key=lambda one: one.score)
        gain, stderr = layer.gain(_MAP.name, over=noise.name)
        linear = series.strengths["matrix"][0]
        bent = sum(value for name, (value, _) in series.strengths.items() if "degree" in name)
        # Lengths that a normalisation sets bend a linear map too, by far less.
        if turns and gain > _limit(rivals.folds) * stderr and bent > _BENT * linear:
            found.append(gain)
    if len(found) <= turning / 2:
        return ()
    return (
        f"In {len(found)} of {turning} layers a nonlinear map that all sentences share predicts "
        "held-out sentences better than any matrix noise does, by "
        f"{np.median(found):.2f} nats per number.",
    )


def _standing(rivals: Explanation) -> str:
    """A sentence that ranks the model of the fit among its rivals."""
    own = SentenceMatrix().name
    beaten = [i for i, name in enumerate(rivals.winners, 1) if name != own]
    if not beaten:
        return "Noise that is fresh in every sentence, the model of these strengths, wins."
    wins = ", ".join(
        f"{name} ({count})"
        for name, count in Counter(rivals.winners[i - 1] for i in beaten).most_common()
    )
    return (
        "The strengths are those of noise fresh in every sentence, which is beaten on held-out "
        f"sentences in {len(beaten)} of {len(rivals.winners)} layers, by {wins}."
    )


def _excess(found, layers, used) -> float:
    """How far the mean of ln(in/out) over layers is beyond its coarseness, in standard errors."""
    without = found["without"][used]
    members = without.shape[1]
    if not np.any(used) or members < 2:
        return math.nan
    each = without.mean(axis=0)
    error = math.sqrt((members - 1) * np.var(each))
    coarse = np.mean(np.log1p([layer.coarseness for layer in layers])[used])
    return float((abs(np.mean(np.log(found["in_out"][used]))) - coarse) / max(error, 1e-300))


def _limit(sentences: int) -> float:
    """The standard errors beyond which something speaks against the model."""
    return max(_TOO_FAR, student(sentences, _SURE)) if sentences > 1 else math.inf


_WIDTHS = (8, 5, 14, 14, 6, 11, 6, 8, 6)
_HEADS = (
    ("", "", "", "", "null", "", "bias", "", "noise"),
    ("layer", "turn", "σ_s", "σ_a", "ratio", "in/out", "up to", "overlap", "alone"),
)


def _table(fit: HiddenStatesFit) -> Iterator[str]:
    for row in (*_HEADS, ("0", *[""] * 6, f"{fit.overlap:.3f}", "")):
        yield _line(row)
    for number, layer in enumerate(fit.layers, 1):
        yield _line(
            (
                f"{number} jump" if layer.jump else str(number),
                f"{math.degrees(layer.turn):.0f}°",
                _with_error(layer.symmetric, layer.stderr[0], ".4f"),
                _with_error(layer.antisymmetric, layer.stderr[1], ".4f"),
                _number(layer.null_ratio, ".1f"),
                _with_error(layer.in_out, layer.in_out_error, ".2f"),
                f"{layer.coarseness:.2f}",
                f"{layer.overlap:.3f}",
                f"{layer.predicted:.3f}",
            )
        )
    yield "± one standard error over sentences: ± 2 of them hold the truth in 95 % of fits."
    yield "Below 2 errors a strength is given as < its 95 % limit."
    for sentence, token, excess in fit.sinks:
        yield f"left out: {token!r} of sentence {sentence}, norm {excess:.0f} x the median"
    for sentence, token, reason in fit.excluded:
        yield f"left out: {token!r} of sentence {sentence}, {reason}"
    yield f"lag-1 correlation   {fit.lag[0]:+.2f} (z = {fit.lag[1]:+.1f})"
    yield f"gain of overlap     {fit.gathering[0]:+.3f} (z = {fit.gathering[1]:+.1f})"


def _line(cells: Sequence[str]) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _with_error(value: float, error: float, form: str) -> str:
    """`value` ± `error`, or the 95 % limit of what cannot be told from 0."""
    if math.isnan(value):
        return ""
    if 0 < value < 2 * error:
        return f"<{value + 2 * error:{form}}"
    return f"{value:{form}}±{error:{form}}"
