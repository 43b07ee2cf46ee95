"""Hidden states of a language model as if layers were steps of common noise: does that fit?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from .._linalg.jacobi import inverse
from ..theory.sphere import mean_overlap
from ._checks import checks
from ._likelihood import information, maximise, scores, start
from ._steps import Steps, whitened_steps
from .noise import summary

SINK = 5.0
"""A token is a sink if in some layer its norm is above so many times the median of its sentence."""

JUMP = 1.6
"""A layer is a jump if its median turn is above so many times the median over the layers."""

LAYERS = 10
"""Fewer layers than this are too few to call them a diffusion."""

_MOST_PAIRS = 400
_TOO_FAR = 5.0


@dataclass(frozen=True)
class Layer:
    """What happened between two layers; one layer is one unit of time.

    `turn` is the median angle (radians) by which tokens turned, `jump` whether that is too far for
    a small step. `symmetric` and `antisymmetric` are σ_s and σ_a, `stderr` their standard errors.
    `null_ratio` and `in_out` are as in `FitResult`; `in_out` has a bias of up to `coarseness` =
    0.4 n σ_s². `overlap` is the mean over pairs of tokens after the layer, `predicted` what the
    fitted noise alone makes of it from the start of the stretch of layers without a jump.
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
    """Layers, the tokens left out as sinks, and what speaks against common noise.

    `overlap` is the mean over pairs in layer 0. `sinks` are (sentence, token, norm over the median
    norm). `gathering` is the measured less the predicted change of the mean overlap, over all
    layers without a jump, and its z over sentences; `lag` the correlation of successive turns and
    its z. `objections` are sentences; without any, `fits` is True.
    """

    layers: tuple[Layer, ...]
    overlap: float
    sinks: tuple[tuple[int, str, float], ...]
    gathering: tuple[float, float]
    lag: tuple[float, float]
    objections: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against layers as steps of common noise."""
        return not self.objections

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.fits:
            return "Nothing here speaks against layers as steps of common matrix noise."
        return "Layers are not steps of common matrix noise alone: " + " ".join(self.objections)


def fit_hidden_states(sentences: Sequence[Any]) -> HiddenStatesFit:
    """Noise per layer from hidden states, split into symmetric and antisymmetric, and a verdict.

    Directions h/|h| are the tokens, layers the times, sentences the members, as in `fit_noise` with
    `antisymmetric=True`, one layer at a time. The same weights act on every sentence, so standard
    errors come from the scatter between sentences (from the information for one sentence). Steps
    are large: the step error is not removed, and `coarseness` bounds it.

    Rules, in this order. A token whose norm exceeds `SINK` times the median of its sentence in some
    layer is a sink and left out of all layers. A layer whose median turn exceeds `JUMP` times the
    median over layers is a jump; its numbers are reported and enter nothing else. Objections:

    - null ratio below 0.3, the median over layers: noise that acts within a layer has commutators,
      and a single step has none (above 1, the ratio is what σ_a explains);
    - `in_out` off by more than its coarseness and 5 standard errors in half of the layers;
    - successive turns correlated, |z| > 5;
    - tokens gather more or less than predicted, |z| > 5 (three sentences at least);
    - fewer than `LAYERS` layers.

    `sentences` have `states` (layers, tokens, dim) and `tokens`, as in `io.read_hidden_states`.
    Raises ValueError unless all have the same two or more layers and one dimension, and unless two
    tokens of some sentence remain.
    """
    shapes = [np.shape(sentence.states) for sentence in sentences]
    if len({(s[0], s[2]) for s in shapes}) != 1 or shapes[0][0] < 2 or shapes[0][2] < 2:
        raise ValueError(
            "`sentences` must share a number of layers and a dimension, both at least 2; "
            f"got shapes {sorted(set(shapes))}."
        )
    units, sinks = _without_sinks(sentences)
    xs = _padded(units)
    if xs.shape[2] < 2:
        raise ValueError("`sentences` must have two tokens that are no sinks; got one at most.")
    turns = np.concatenate([_turns(x) for x in units], axis=1)
    turn = np.median(turns, axis=1)
    jump = turn > JUMP * np.median(turn) if turn.size > 2 else np.zeros(turn.size, bool)
    # One Brownian token turns by √((n-1) p/2).
    guess = 2 * float(np.median(turn)) ** 2 / (xs.shape[3] - 1)
    ones = jnp.ones(turn.size, xs.dtype)
    steps = whitened_steps(xs, ones, None, jnp.asarray(guess, xs.dtype))
    found = {name: np.asarray(value, float) for name, value in _per_layer(steps).items()}
    p, r = np.exp(found["theta"]).T
    strengths = np.sqrt(np.stack([p, r], axis=1))
    errors = np.sqrt(np.diagonal(found["covariance"], axis1=1, axis2=2)) * strengths / 2
    dim = xs.shape[3]
    with np.errstate(divide="ignore", invalid="ignore"):
        null = found["a"] / (found["floor"] * p**2)
        in_out = (found["s"] / found["n_s"] / p) / (found["o"] / found["n_o"] / ((p + r) / 2))
        in_out_error = np.sqrt(2 / found["n_s"] + 2 / found["n_o"])
    measured, predicted, gathering = _gathering(units, p, jump)
    lag = _lag(xs, jump)
    layers = tuple(
        Layer(
            float(turn[i]),
            bool(jump[i]),
            float(strengths[i, 0]),
            float(strengths[i, 1]),
            (float(errors[i, 0]), float(errors[i, 1])),
            float(null[i]),
            float(in_out[i]),
            float(in_out_error[i]),
            0.4 * dim * float(p[i]),
            float(measured[i + 1]),
            float(predicted[i + 1]),
        )
        for i in range(turn.size)
    )
    objections = _objections(layers, gathering, lag)
    return HiddenStatesFit(layers, float(measured[0]), sinks, gathering, lag, objections)


def _without_sinks(sentences):
    """Unit tokens of every sentence, and which tokens were left out."""
    units, sinks = [], []
    for number, sentence in enumerate(sentences):
        states = np.asarray(sentence.states, float)
        norms = np.linalg.norm(states, axis=-1)
        excess = np.max(norms / np.median(norms, axis=1, keepdims=True), axis=0)
        kept = excess <= SINK
        sinks += [
            (number, str(sentence.tokens[a]), float(excess[a])) for a in np.flatnonzero(~kept)
        ]
        units.append((states / norms[..., None])[:, kept])
    return units, tuple(sinks)


def _padded(units) -> Float[Array, "members times tokens dim"]:
    """One array; missing tokens are NaN."""
    most = max(x.shape[1] for x in units)
    layers, _, dim = units[0].shape
    xs = np.full((len(units), layers, most, dim), np.nan)
    for i, x in enumerate(units):
        xs[i, :, : x.shape[1]] = x
    return jnp.asarray(xs, float)


def _turns(x):
    """Angles (steps, tokens) between successive layers."""
    near = np.linalg.norm(x[1:] - x[:-1], axis=-1)
    return 2 * np.arctan2(near, np.linalg.norm(x[1:] + x[:-1], axis=-1))


@eqx.filter_jit
def _per_layer(steps: Steps) -> dict[str, Float[Array, "layers ..."]]:
    """θ = (ln σ_s², ln σ_a²), its covariance, and the sums of `noise.summary`, layer by layer."""

    def fit(layer: Steps):
        theta = maximise(start(layer, 2), layer)
        fisher = information(theta, layer)
        covariance = inverse(fisher)
        if layer.dt.size > 1:
            one = scores(theta, layer)
            covariance = covariance @ (one.T @ one) @ covariance
        return {"theta": theta, "covariance": covariance, **summary(layer)}

    return lax.map(fit, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), steps))


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


def _lag(xs, jump) -> tuple[float, float]:
    """Correlation of successive turns in the longest stretch without a jump, and its z."""
    best, first = (0, 0), 0
    for i, stop in enumerate([*jump, True]):
        if stop:
            best, first = max(best, (i - first, first)), i + 1
    length, first = best
    if length < 2:
        return math.nan, math.nan
    seen = checks(xs[:, first : first + length + 1], jnp.ones(length, xs.dtype), None)
    return float(seen.lag), float(seen.lag_score)


def _objections(layers, gathering, lag) -> tuple[str, ...]:
    small = [layer for layer in layers if not layer.jump]
    found = []
    null = float(np.median([layer.null_ratio for layer in small]))
    if null < 0.3:
        found.append(
            "Nothing moves in the directions that symmetric noise leaves free, not even by its "
            "commutators: layers are single steps."
        )
    off = [
        abs(layer.in_out - 1) > layer.coarseness + _TOO_FAR * layer.in_out_error for layer in small
    ]
    if 2 * sum(off) >= len(off):
        ratio = float(np.median([layer.in_out for layer in small]))
        found.append(
            f"Tokens move {ratio:.2g} times as much (squared) in their span as out of it; "
            "isotropic noise does so equally."
        )
    if abs(lag[1]) > _TOO_FAR:
        found.append(
            f"Successive turns have the correlation {lag[0]:+.2f} (z = {lag[1]:+.0f}); noise that "
            "is new in every layer has 0."
        )
    if abs(gathering[1]) > _TOO_FAR:
        found.append(
            f"The mean overlap gains {gathering[0]:+.2f} more than noise of this strength makes of "
            f"it (z = {gathering[1]:+.0f}): a drift."
        )
    if len(layers) < LAYERS:
        found.append(f"{len(layers)} layers are too few to call them a diffusion.")
    return tuple(found)
