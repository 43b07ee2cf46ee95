"""Tokens before a layer, and the classes that rivals are made from."""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from ..._arguments import described


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


class AbstractRival(eqx.Module):
    """An explanation that `explain` weighs."""

    __repr__ = described

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The rival in tables: a few words."""


class AbstractProcess(AbstractRival):
    """A Gaussian process over tokens; private noise, a common bias and c x are added to it."""

    @abc.abstractmethod
    def kernels(self, tokens: Tokens) -> Kernels:
        """Covariances of tokens, by name; positive semidefinite, each with an unknown strength."""

    @abc.abstractmethod
    def features(self, tokens: Tokens) -> Features:
        """Parts of the mean, by name, each with an unknown coefficient."""


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
