"""Tokens before a layer, and the classes that rivals are made from."""

import abc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ..._arguments import described
from .. import _process as process

_SIGMAS = 5.0
# Negative eigenvalues below this share of the mean diagonal are rounding: private noise hides them.
_ROUNDING = 1e-8


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
Outputs = Float[np.ndarray, "tokens dim"]
Folds = Sequence[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]


@dataclass(frozen=True)
class Weighed:
    """A rival of one layer on sentences that were held out.

    `scores` are ln of the density of each fold, per number, and `predicted` every token after the
    layer as it was predicted when it was held out. The others are as in `RivalFit`.
    """

    scores: Float[np.ndarray, " folds"]
    predicted: Float[np.ndarray, "tokens dim"]
    strengths: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    coefficients: Mapping[str, float] = field(default_factory=dict)
    columns: float = math.nan
    whitened: float = math.nan
    whitened_limit: float = math.nan


class AbstractRival(eqx.Module):
    """An explanation that `explain` weighs."""

    __repr__ = described

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The rival in tables: a few words."""

    @abc.abstractmethod
    def weigh(self, tokens: Tokens, outputs: Outputs, folds: Folds) -> Weighed:
        """Predict the `outputs` of the tokens of every fold from those of the other folds.

        `folds` are pairs of indices of tokens: those seen, and those held out.
        """


class AbstractProcess(AbstractRival):
    """A Gaussian process over tokens; private noise, a common bias and c x are added to it."""

    @abc.abstractmethod
    def kernels(self, tokens: Tokens) -> Kernels:
        """Covariances of tokens, by name; positive semidefinite, each with an unknown strength."""

    @abc.abstractmethod
    def features(self, tokens: Tokens) -> Features:
        """Parts of the mean, by name, each with an unknown coefficient."""

    def weigh(self, tokens: Tokens, outputs: Outputs, folds: Folds) -> Weighed:
        """Fit strengths and coefficients by likelihood; predict by conditioning."""
        count, dim = outputs.shape
        kernels = {"private": np.eye(count), "bias": np.ones((count, count))}
        for name, value in self.kernels(tokens).items():
            kernels[name] = _covariance(name, _array("kernels", name, value, (count, count)))
        features = {"x": tokens.states}
        for name, value in self.features(tokens).items():
            features[name] = _array("features", name, value, (count, dim))
        moments = process.Moments.of(list(kernels.values()), outputs, list(features.values()))
        whole = process.maximise(moments)
        arrays = np.stack([outputs, *features.values()])
        scores, predicted = [], np.empty_like(outputs)
        for seen, new in folds:
            fitted = process.allowed(moments.among(seen), whole)
            mean, spread = process.predict(fitted, moments.kernels, arrays, seen, new)
            scores.append(process.log_density(mean, spread, outputs[new]))
            predicted[new] = mean
        columns = min(whole.columns, float(dim))
        scale = np.sqrt(np.maximum(np.diag(whole.fisher), 1e-300))
        inverse = np.linalg.pinv(whole.fisher / np.outer(scale, scale), hermitian=True)
        size = dim * np.trace(moments.kernels, axis1=1, axis2=2) / count
        values = whole.strengths * size
        errors = np.sqrt(np.diag(inverse) / columns) / scale * size
        modes = process.whitened(whole, dim, tokens.overlaps)
        return Weighed(
            np.array(scores),
            predicted,
            strengths={
                name: (float(value), float(error))
                for name, value, error in zip(kernels, values, errors, strict=True)
            },
            coefficients=dict(zip(features, map(float, whole.coefficients), strict=True)),
            columns=columns,
            whitened=float(np.var(modes) * columns / 2),
            # A sum of squares of as many modes, each of kurtosis 12/columns besides Gauss's.
            whitened_limit=1 + _SIGMAS * math.sqrt((2 + 12 / columns) / count),
        )


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

    def weigh(self, tokens: Tokens, outputs: Outputs, folds: Folds) -> Weighed:
        """Make the map from the tokens seen; its errors there are the variance of the noise."""
        scores, predicted = [], np.empty_like(outputs)

        def through(seen, new):
            found = self.predict(tokens.states[seen], outputs[seen], tokens.states[new])
            return _array("predictions", self.name, found, outputs[new].shape)

        for seen, new in folds:
            variance = max(float(np.mean((through(seen, seen) - outputs[seen]) ** 2)), 1e-12)
            predicted[new] = through(seen, new)
            square = float(np.mean((predicted[new] - outputs[new]) ** 2))
            scores.append(-0.5 * (math.log(2 * math.pi * variance) + square / variance))
        return Weighed(np.array(scores), predicted)


def _array(kind: str, name: str, value: Any, shape: tuple[int, int]) -> np.ndarray:
    """`value` as numbers of that shape."""
    array = np.asarray(value, float)
    if array.shape != shape or not np.all(np.isfinite(array)):
        raise ValueError(
            f"`rivals` must have {kind} that are finite, of shape {shape}; {name!r} has shape "
            f"{array.shape}."
        )
    return array


def _covariance(name: str, kernel: np.ndarray) -> np.ndarray:
    """`kernel`, if it is the covariance of tokens: symmetric and positive semidefinite."""
    skew, largest = np.abs(kernel - kernel.T).max(), np.abs(kernel).max()
    if skew > _ROUNDING * largest:
        raise ValueError(
            f"`rivals` must have kernels that are symmetric; {name!r} differs from its transpose "
            f"by {skew:.3g}, and its largest entry is {largest:.3g}. Use (K + K.T)/2."
        )
    count, size = len(kernel), np.mean(np.diag(kernel))
    try:
        np.linalg.cholesky(kernel + max(_ROUNDING * size, 1e-300) * np.eye(count))
    except np.linalg.LinAlgError:
        lowest = float(np.linalg.eigvalsh(kernel)[0])
        raise ValueError(
            f"`rivals` must have kernels that are positive semidefinite; {name!r} has the "
            f"eigenvalue {lowest:.3g}, and its mean diagonal is {size:.3g}. Compute it in float64 "
            f"as a covariance, such as A @ A.T, or add {-lowest:.3g} to its diagonal."
        ) from None
    return kernel
