"""Hidden states of sentences as tokens of length one: read, checked, and what is left out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arguments import shown

SINK = 5.0
"""A token is a sink if in some layer its norm is above so many times the median of the layer."""


class Units(NamedTuple):
    """`units` (layers, tokens, dim) of every sentence, without the tokens left out, and which are
    `kept`: `sinks` are (sentence, token, norm over the median), `excluded` (sentence, token, why).
    A turn up to `rounding` (radians) may be rounding."""

    units: list[Float[np.ndarray, "layers _ dim"]]
    kept: list[Bool[np.ndarray, " _"]]
    sinks: tuple[tuple[int, str, float], ...]
    excluded: tuple[tuple[int, str, str], ...]
    rounding: float


def read(sentences: Any) -> Units:
    """Directions of the tokens that have one; see `fit_hidden_states` for the rules."""
    states, rounding = _states(sentences)
    norms = [np.linalg.norm(x, axis=-1) for x in states]
    usable = [np.all(np.isfinite(norm) & (norm > 0), axis=0) for norm in norms]
    excluded = [
        (number, str(sentences[number].tokens[a]), _why(norms[number][:, a]))
        for number, there in enumerate(usable)
        for a in np.flatnonzero(~there)
    ]
    lengths = np.concatenate([n[:, there] for n, there in zip(norms, usable, strict=True)], axis=1)
    if not lengths.size:
        raise ValueError(
            "`sentences` must have tokens that are finite and of length > 0 in all layers; got "
            f"none: {_common(excluded)}."
        )
    typical = np.median(lengths, axis=1, keepdims=True)
    units, kept_of, sinks = [], [], []
    for number, (x, norm, there) in enumerate(zip(states, norms, usable, strict=True)):
        excess = np.max(norm / typical, axis=0, where=there, initial=0.0)
        kept = there & (excess <= SINK)
        sinks += [
            (number, str(sentences[number].tokens[a]), float(excess[a]))
            for a in np.flatnonzero(there & ~kept)
        ]
        units.append(x[:, kept] / norm[:, kept, None])
        kept_of.append(kept)
    if max(x.shape[1] for x in units) < 2:
        raise ValueError(
            "`sentences` must have two tokens in a sentence that are finite and no sinks; got one "
            "at most."
        )
    return Units(units, kept_of, tuple(sinks), tuple(excluded), rounding)


def padded(
    units: list[Float[np.ndarray, "layers _ dim"]],
) -> tuple[Float[Array, "members times tokens dim"], Bool[Array, "members times tokens"]]:
    """One array of tokens, e_1 where a sentence has no more, and which are there."""
    most = max(x.shape[1] for x in units)
    layers, _, dim = units[0].shape
    xs = np.zeros((len(units), layers, most, dim))
    xs[..., 0] = 1.0
    there = np.zeros(xs.shape[:3], bool)
    for i, x in enumerate(units):
        xs[i, :, : x.shape[1]] = x
        there[i, :, : x.shape[1]] = True
    return jnp.asarray(xs, float), jnp.asarray(there)


def _states(sentences: Any) -> tuple[list[Float[np.ndarray, "layers _ dim"]], float]:
    """States in float64, and four roundings of the type in which they were given."""
    if not isinstance(sentences, Sequence) or isinstance(sentences, str) or not sentences:
        raise ValueError(
            "`sentences` must be a sequence of at least one `Sentence`, as `io.read_hidden_states` "
            f"returns; got {shown(sentences)}."
        )
    found, eps = [], 0.0
    for number, sentence in enumerate(sentences):
        given = np.asarray(getattr(sentence, "states", None))
        if not jnp.issubdtype(given.dtype, jnp.floating) or given.ndim != 3:
            raise ValueError(
                "`sentences` must have `states`, floats (layers, tokens, dim); sentence "
                f"{number} is {shown(sentence)}. `io.as_hidden_states` makes sentences of a tuple "
                "of arrays, one for each layer."
            )
        if len(getattr(sentence, "tokens", ())) != given.shape[1]:
            raise ValueError(
                f"`sentences` must name their tokens; sentence {number} has {given.shape[1]} and "
                f"names {len(getattr(sentence, 'tokens', ()))}."
            )
        eps = max(eps, float(jnp.finfo(given.dtype).eps))
        found.append(given.astype(np.float64))
    shapes = {(x.shape[0], x.shape[2]) for x in found}
    layers, dim = min(shapes)
    if len(shapes) != 1 or layers < 2 or dim < 2:
        raise ValueError(
            "`sentences` must share a number of layers and a dimension, both at least 2; "
            f"got shapes {sorted({x.shape for x in found})}."
        )
    return found, 4 * eps


def _common(excluded: list[tuple[int, str, str]]) -> str:
    """The reason for which most tokens are left out, and how many of all."""
    reasons = [why for _, _, why in excluded]
    first = max(reasons, key=reasons.count)
    return f"{reasons.count(first)} of {len(reasons)} tokens are {first}"


def _why(norms: Float[np.ndarray, " layers"]) -> str:
    bad = ~np.isfinite(norms)
    if np.any(bad):
        return f"not finite in layer {int(np.argmax(bad))}"
    return f"of length zero in layer {int(np.argmin(norms))}"
