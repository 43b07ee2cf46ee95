"""Explanations of a model's layers, ranked by sentences that they have not seen."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from .._arguments import each, integer, part
from ._sentences import read
from .explanation import Explanation, LayerRivals, RivalFit, paired
from .rivals import (
    AbstractRival,
    AttentionFlow,
    AttentionValues,
    LinearFlow,
    LinesOfThought,
    Mixture,
    PrivateNoise,
    SentenceBias,
    SentenceMatrix,
    Series,
    SharedMatrix,
    Tokens,
)

_ROUNDING = 1e-12


def default_rivals(*, causal: bool = False) -> tuple[AbstractRival, ...]:
    """The explanations that `explain` weighs if none are given.

    `causal` says whether tokens attend only to themselves and those before, as in decoders.
    """
    series, bias = Series(3), SentenceBias()
    values = [AttentionValues(beta, causal=causal) for beta in (0.0, 5.0)]
    return (
        PrivateNoise(),
        SharedMatrix(),
        SentenceMatrix(),
        bias,
        LinearFlow(),
        *values,
        series,
        Mixture(series, *values, bias, label="all of these"),
        AttentionFlow(5.0, causal=causal),
        LinesOfThought(20),
    )


def explain(
    sentences: Sequence[Any],
    rivals: Sequence[AbstractRival] | None = None,
    *,
    folds: int = 4,
    seed: int = 0,
) -> Explanation:
    """Weigh explanations of the layers of a language model on sentences they have not seen.

    Every rival is fitted to the sentences of all folds but one, and predicts the tokens of that
    one after the layer from those before it. Folds are made of sentences, because tokens of one
    sentence share what happens to it. The score is the log density per number of the held-out
    tokens; gains are over private noise, which is always among the rivals. Strengths and their
    errors come from all sentences. See `inference.rivals` for the model. A rival that is sure and
    wrong scores as low as it is sure: where equal tokens of the sentences it saw were moved alike,
    and one that equals them in the held-out sentence is not, by thousands of nats.

    Time grows with the cube of the number of tokens: 331 tokens of dimension 384 in 8 states took
    17 s of one core's processor time with all the default rivals. A few hundred are enough.

    **Arguments**

    - `sentences`: with `states` (layers, tokens, dim) and `tokens`, as in `io.read_hidden_states`.
      Sinks and tokens without a direction are left out, as in `fit_hidden_states`.
    - `rivals`: explanations of `inference.rivals`; by default `default_rivals()`, which are for
      encoders: give `default_rivals(causal=True)` for decoders.
    - `folds`: groups of sentences, at least 2; as many as there are sentences at most.
    - `seed`: of the groups.

    **Returns** an `Explanation`.

    **Raises** ValueError for arguments that break a rule: layers that differ in shape, fewer than
    two sentences, tokens that are all the same, a layer that only scales and shifts, two rivals of
    one name, rivals of your own whose kernels are no covariances.

    **Example**

    >>> states = rqf.io.example_hidden_states()
    >>> few = [s.select(range(6)) for s in states]
    >>> rivals = [rqf.inference.rivals.SharedMatrix(), rqf.inference.rivals.SentenceMatrix()]
    >>> rqf.inference.explain(few, rivals, folds=2)  # doctest: +ELLIPSIS
    Explanation(layers=6, rivals=3, sentences=5, tokens=30, best: ...)
    """
    chosen = _rivals(rivals)
    whole = read(sentences)
    groups = integer("folds", folds, minimum=2)
    rng = np.random.default_rng(integer("seed", seed, minimum=0))
    kept = [(i, np.flatnonzero(keep)) for i, keep in enumerate(whole.kept) if np.any(keep)]
    if len(kept) < 2:
        raise ValueError(
            f"`sentences` must be at least 2, to hold one out; got {len(kept)} with tokens that "
            "count."
        )
    groups = min(groups, len(kept))
    fold = rng.permutation(len(kept)) % groups
    states = np.concatenate(
        [np.asarray(sentences[i].states, float)[:, tokens] for i, tokens in kept], axis=1
    )
    sentence = np.repeat(np.arange(len(kept)), [tokens.size for _, tokens in kept])
    texts = np.array([str(sentences[i].tokens[a]) for i, tokens in kept for a in tokens])
    held_out = [np.flatnonzero(fold[sentence] == f) for f in range(groups)]
    parts = [(np.setdiff1d(np.arange(texts.size), new), new) for new in held_out]
    seen_before = np.zeros(texts.size, bool)
    for seen, new in parts:
        seen_before[new] = np.isin(texts[new], texts[seen])
    # On matrices of some hundred rows threads of BLAS wait for each other longer than they work.
    with threadpool_limits(1, user_api="blas"):
        layers = tuple(
            _layer(i, states[i], states[i + 1], sentence, parts, seen_before, chosen)
            for i in range(len(states) - 1)
        )
    return Explanation(
        layers,
        tuple(one.name for one in chosen),
        len(kept),
        texts.size,
        states.shape[2],
        groups,
        whole.sinks,
        whole.excluded,
    )


def _rivals(rivals: Any) -> tuple[AbstractRival, ...]:
    given = default_rivals() if rivals is None else rivals
    rule = part(AbstractRival, "a rival of `inference.rivals`")
    chosen = each(rule)("rivals", given)
    if not any(isinstance(one, PrivateNoise) for one in chosen):
        chosen = (PrivateNoise(), *chosen)
    names = [one.name for one in chosen]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"`rivals` must have names of their own; got {twice[0]!r} twice. Give one a `label`."
        )
    return chosen


def _layer(number, before, after, sentence, folds, seen_before, rivals) -> LayerRivals:
    scale = math.sqrt(np.mean(np.sum(before**2, axis=1)))
    tokens, outputs = Tokens(before / scale, sentence), after / scale
    if np.ptp(tokens.directions, axis=0).max() < 1e-12:
        raise ValueError(
            "`sentences` must have tokens that differ; got one direction for all of them."
        )
    if _same(tokens.states, outputs):
        raise ValueError(
            f"`sentences` must be moved by every layer; state {number + 1} is state {number} times "
            "a number plus a vector, to rounding. Leave one of them out."
        )
    shares = np.array([new.size for _, new in folds]) / len(before)
    found = {one.name: one.weigh(tokens, outputs, folds) for one in rivals}
    base = next(one.name for one in rivals if isinstance(one, PrivateNoise))
    fits = []
    for name, weighed in found.items():
        gain, stderr = paired(weighed.scores - found[base].scores, shares)
        angles = _angles(weighed.predicted, outputs)
        fits.append(
            RivalFit(
                name=name,
                score=float(shares @ weighed.scores),
                gain=gain,
                gain_stderr=stderr,
                fold_scores=weighed.scores,
                angle=float(np.median(angles)),
                repeated=_median(angles[seen_before]),
                novel=_median(angles[~seen_before]),
                strengths=dict(weighed.strengths),
                coefficients=dict(weighed.coefficients),
                columns=weighed.columns,
                whitened=weighed.whitened,
                whitened_limit=weighed.whitened_limit,
            )
        )
    turn = float(np.median(_angles(tokens.states, outputs)))
    return LayerRivals(turn, shares, tuple(fits))


def _same(x, y) -> bool:
    """True if y is c x + b for every token, to rounding."""
    x, rest = x - x.mean(0), y - y.mean(0)
    rest = rest - np.vdot(x, y) / max(np.vdot(x, x), 1e-300) * x
    return bool(np.vdot(rest, rest) <= _ROUNDING**2 * np.vdot(y, y))


def _angles(x, y) -> Float[np.ndarray, " tokens"]:
    """Angles between the rows of two arrays, in degrees; 90 for a row of zeros."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True), np.linalg.norm(y, axis=1, keepdims=True)
    u, v = (a / np.where(n > 0, n, 1.0) for a, n in zip((x, y), lengths, strict=True))
    near, far = np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1)
    return np.degrees(2 * np.arctan2(near, far))


def _median(values: Float[np.ndarray, "..."]) -> float:
    return float(np.median(values)) if values.size else math.nan
