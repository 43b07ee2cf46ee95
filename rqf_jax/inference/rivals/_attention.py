"""Rivals with attention: values that are known, or drawn or learned."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..._arguments import data, field, flag, maybe, real, words
from ._abstract import AbstractProcess, Features, Kernels, Tokens


def _matrix(name: str, value: Any) -> Float[np.ndarray, "rows columns"]:
    array = data(name, value)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"`{name}` must be a matrix; got shape {array.shape}.")
    return array


def _fits(name: str, matrix: np.ndarray, tokens: Tokens) -> None:
    dim = tokens.states.shape[1]
    if matrix.shape[1] != dim:
        raise ValueError(
            f"`{name}` must have {dim} columns, the dimension of the tokens; got {matrix.shape[1]}."
        )


class AbstractAttended(AbstractProcess):
    """Attention of known scores, m_a = Σ_b softmax_b(β <Q u_a, K u_b>) u_b in each sentence."""

    beta: float = eqx.field(static=True, converter=field("beta", real), default=5.0)
    query: np.ndarray | None = eqx.field(converter=field("query", maybe(_matrix)), default=None)
    key: np.ndarray | None = eqx.field(converter=field("key", maybe(_matrix)), default=None)
    causal: bool = eqx.field(
        static=True, converter=field("causal", flag), default=False, kw_only=True
    )
    label: str | None = eqx.field(
        static=True, converter=field("label", maybe(words)), default=None, kw_only=True
    )

    def __check_init__(self):
        if (self.query is None) != (self.key is None):
            missing = "query" if self.query is None else "key"
            raise ValueError(f"`{missing}` must be given with the other of `query` and `key`.")
        if self.query is not None and self.key is not None and self.query.shape != self.key.shape:
            raise ValueError(
                f"`key` must have the shape of `query`, {self.query.shape}; got {self.key.shape}."
            )

    def attended(self, tokens: Tokens) -> Float[np.ndarray, "tokens dim"]:
        """m_a of every token a, over the tokens b of its sentence."""
        units = tokens.directions
        asked, offered = units, units
        if self.query is not None and self.key is not None:
            _fits("query", self.query, tokens)
            asked, offered = units @ self.query.T, units @ self.key.T
        scores = np.where(tokens.together, self.beta * (asked @ offered.T), -np.inf)
        if self.causal:
            scores = np.where(np.tri(len(units), dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True) @ units


class AttentionValues(AbstractAttended):
    """Attention with random or learned values, shared by all sentences: x' = x + V m(x).

        m_a = Σ_b softmax_b(β <Q u_a, K u_b>) u_b   over the tokens of the sentence

    **Arguments**

    - `beta`: β, finite. 0 gives the mean of the sentence.
    - `query`, `key`: Q and K (rows, dim), both or none; the identity without them.
    - `causal`: whether a token sees only itself and those before it.
    - `label`: a name in tables, to tell heads apart.

    **Raises** ValueError for other values.

    **Example**

    >>> rqf.inference.rivals.AttentionValues(5.0).name
    'attention values β=5'
    """

    @property
    def name(self) -> str:
        """The rival in tables."""
        return self.label or f"attention values β={self.beta:g}"

    def kernels(self, tokens: Tokens) -> Kernels:
        """<m_a, m_b>."""
        seen = self.attended(tokens)
        return {self.name: seen @ seen.T}

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class AttentionFlow(AbstractAttended):
    """Attention with known values: λ V m(x) in the mean, where only λ is fitted.

        m_a = Σ_b softmax_b(β <Q u_a, K u_b>) u_b   over the tokens of the sentence

    **Arguments**

    - `beta`: β, finite.
    - `query`, `key`: Q and K (rows, dim), both or none; the identity without them.
    - `value`: V (dim, dim); the identity without it.
    - `causal`: whether a token sees only itself and those before it.
    - `label`: a name in tables, to tell heads apart.

    **Raises** ValueError for other values.

    **Example**

    >>> rqf.inference.rivals.AttentionFlow(5.0).name
    'attention β=5'
    """

    value: np.ndarray | None = eqx.field(converter=field("value", maybe(_matrix)), default=None)

    @property
    def name(self) -> str:
        """The rival in tables."""
        return self.label or f"attention β={self.beta:g}"

    def kernels(self, tokens: Tokens) -> Kernels:
        """None."""
        return {}

    def features(self, tokens: Tokens) -> Features:
        """V m."""
        seen = self.attended(tokens)
        if self.value is not None:
            _fits("value", self.value, tokens)
            if self.value.shape[0] != self.value.shape[1]:
                raise ValueError(f"`value` must be square; got shape {self.value.shape}.")
            seen = seen @ self.value.T
        return {self.name: seen}
