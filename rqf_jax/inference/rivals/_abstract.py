"""Tokens before a layer, and the classes that rivals are made from."""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ..._arguments import described
from .. import _process as process

_SIGMAS = 5.0


@dataclass(frozen=True)
class Tokens:
    """The tokens of all sentences before a layer: `states` x (tokens, dim), of root mean square
    length 1, and the number of the `sentence` of each, in which they stand in order."""

    states: Float[np.ndarray, "tokens dim"]
    sentence: Int[np.ndarray, " tokens"]

    @cached_property
    def directions(self) -> Float[np.ndarray, "tokens dim"]:
        """u = x/|x|."""
        return self.states / np.linalg.norm(self.states, axis=1, keepdims=True)

    @cached_property
    def overlaps(self) -> Float[np.ndarray, "tokens tokens"]:
        """<u_a, u_b>."""
        return self.directions @ self.directions.T

    @cached_property
    def together(self) -> Bool[np.ndarray, "tokens tokens"]:
        """True for two tokens of one sentence."""
        return self.sentence[:, None] == self.sentence[None, :]


Kernels = Mapping[str, Float[np.ndarray, "tokens tokens"]]
Features = Mapping[str, Float[np.ndarray, "tokens dim"]]
Parts = Sequence[tuple[np.ndarray, np.ndarray]]
"""For each fold the tokens that a rival is fitted to, and those that it predicts."""


class Fold:
    """The score of one rival on one fold, and the angles of its tokens."""

    def __init__(self, score: float, mean: np.ndarray, truth: np.ndarray):
        self.score = score
        self.angles = angles_between(mean, truth)


class AbstractRival(eqx.Module):
    """An explanation that `explain` weighs."""

    __repr__ = described

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The rival in tables: a few words."""

    @abc.abstractmethod
    def weigh(
        self, tokens: Tokens, outputs: Float[np.ndarray, "tokens dim"], parts: Parts
    ) -> tuple[list[Fold], dict[str, Any]]:
        """A `Fold` for each of `parts`, and fields of a `RivalFit` that only this kind knows."""


class AbstractProcess(AbstractRival):
    """A Gaussian process over tokens; private noise, a common bias and c x are added to it."""

    @abc.abstractmethod
    def kernels(self, tokens: Tokens) -> Kernels:
        """Covariances of tokens, by name; positive semidefinite, each with an unknown strength."""

    @abc.abstractmethod
    def features(self, tokens: Tokens) -> Features:
        """Parts of the mean, by name, each with an unknown coefficient."""

    def weigh(
        self, tokens: Tokens, outputs: Float[np.ndarray, "tokens dim"], parts: Parts
    ) -> tuple[list[Fold], dict[str, Any]]:
        """Predictions by the process whose strengths are most likely on the other folds."""
        count, dim = outputs.shape
        kernels = {"private": np.eye(count), "bias": np.ones((count, count))}
        kernels |= _checked("kernels", self.kernels(tokens), (count, count))
        features = {"x": tokens.states} | _checked("features", self.features(tokens), (count, dim))
        moments = process.Moments.of(list(kernels.values()), outputs, list(features.values()))
        whole = process.maximise(moments)
        arrays = np.stack([outputs, *features.values()])
        folds = []
        for train, test in parts:
            fitted = process.maximise(moments.among(train), whole)
            mean, spread = process.predict(fitted, moments.kernels, arrays, train, test)
            score = process.log_density(mean, spread, outputs[test])
            folds.append(Fold(score, mean, outputs[test]))
        columns = min(whole.columns, float(dim))
        scale = np.sqrt(np.maximum(np.diag(whole.fisher), 1e-300))
        inverse = np.linalg.pinv(whole.fisher / np.outer(scale, scale), hermitian=True)
        errors = np.sqrt(np.diag(inverse) / columns) / scale
        size = dim * np.trace(moments.kernels, axis1=1, axis2=2) / count
        modes = process.whitened(whole, dim, tokens.overlaps)
        strengths = zip(kernels, whole.strengths * size, errors * size, strict=True)
        return folds, {
            "strengths": {name: (float(value), float(error)) for name, value, error in strengths},
            "coefficients": dict(zip(features, map(float, whole.coefficients), strict=True)),
            "columns": columns,
            "whitened": float(np.var(modes) * columns / 2),
            # Squares of so many modes, each of kurtosis 12/columns besides that of Gauss's.
            "whitened_limit": 1 + _SIGMAS * math.sqrt((2 + 12 / columns) / count),
        }


class AbstractMap(AbstractRival):
    """A map of tokens that is made from those before and after a layer; its errors are noise."""

    @abc.abstractmethod
    def predict(
        self,
        before: Float[np.ndarray, "seen dim"],
        after: Float[np.ndarray, "seen dim"],
        new: Float[np.ndarray, "new dim"],
    ) -> Float[np.ndarray, "new dim"]:
        """The tokens `new` after the layer."""

    def weigh(
        self, tokens: Tokens, outputs: Float[np.ndarray, "tokens dim"], parts: Parts
    ) -> tuple[list[Fold], dict[str, Any]]:
        """Predictions by the map that the other folds make, with white noise."""
        folds = []
        for train, test in parts:
            seen, after = tokens.states[train], outputs[train]
            off = self.predict(seen, after, seen) - after
            variance = max(float(np.mean(off**2)), 1e-12)
            mean = self.predict(seen, after, tokens.states[test])
            square = float(np.mean((mean - outputs[test]) ** 2))
            score = -0.5 * (math.log(2 * math.pi * variance) + square / variance)
            folds.append(Fold(score, mean, outputs[test]))
        return folds, {}


def angles_between(
    x: Float[np.ndarray, "tokens dim"], y: Float[np.ndarray, "tokens dim"]
) -> Float[np.ndarray, " tokens"]:
    """Angles between the rows of two arrays, in degrees; 90 for a row of zeros."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True), np.linalg.norm(y, axis=1, keepdims=True)
    u, v = (a / np.where(n > 0, n, 1.0) for a, n in zip((x, y), lengths, strict=True))
    near, far = np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1)
    return np.degrees(2 * np.arctan2(near, far))


def _checked(kind: str, given: Any, shape: tuple[int, int]) -> dict[str, np.ndarray]:
    found = {}
    for name, value in given.items():
        array = np.asarray(value, float)
        if array.shape != shape or not np.all(np.isfinite(array)):
            raise ValueError(
                f"`rivals` must have {kind} that are finite, of shape {shape}; {name!r} has shape "
                f"{array.shape}."
            )
        found[name] = array
    return found
