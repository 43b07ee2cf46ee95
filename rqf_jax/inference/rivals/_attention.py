"""Rivals with attention: values that are known, or drawn or learned."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..._arguments import data, flag, maybe, real, words
from ._abstract import AbstractProcess, Features, Kernels, Tokens


class AttentionValues(AbstractProcess):
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

    beta: float = eqx.field(static=True)
    query: np.ndarray | None
    key: np.ndarray | None
    causal: bool = eqx.field(static=True)
    label: str | None = eqx.field(static=True)

    def __init__(
        self,
        beta: Any = 5.0,
        query: Any = None,
        key: Any = None,
        *,
        causal: bool = False,
        label: str | None = None,
    ):
        self.beta = real("beta", beta)
        self.query, self.key = _scores(query, key)
        self.causal = flag("causal", causal)
        self.label = maybe(words)("label", label)

    @property
    def name(self) -> str:
        """The rival in tables."""
        return self.label or f"attention values β={self.beta:g}"

    def kernels(self, tokens: Tokens) -> Kernels:
        """<m_a, m_b>."""
        seen = attended(tokens, self.beta, self.query, self.key, self.causal)
        return {self.name: seen @ seen.T}

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class AttentionFlow(AbstractProcess):
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

    beta: float = eqx.field(static=True)
    query: np.ndarray | None
    key: np.ndarray | None
    value: np.ndarray | None
    causal: bool = eqx.field(static=True)
    label: str | None = eqx.field(static=True)

    def __init__(
        self,
        beta: Any = 5.0,
        query: Any = None,
        key: Any = None,
        value: Any = None,
        *,
        causal: bool = False,
        label: str | None = None,
    ):
        self.beta = real("beta", beta)
        self.query, self.key = _scores(query, key)
        self.value = None if value is None else _matrix("value", value)
        self.causal = flag("causal", causal)
        self.label = maybe(words)("label", label)

    @property
    def name(self) -> str:
        """The rival in tables."""
        return self.label or f"attention β={self.beta:g}"

    def kernels(self, tokens: Tokens) -> Kernels:
        """None."""
        return {}

    def features(self, tokens: Tokens) -> Features:
        """V m."""
        seen = attended(tokens, self.beta, self.query, self.key, self.causal)
        if self.value is not None:
            _fits("value", self.value, tokens)
            if self.value.shape[0] != self.value.shape[1]:
                raise ValueError(f"`value` must be square; got shape {self.value.shape}.")
            seen = seen @ self.value.T
        return {self.name: seen}


def attended(
    tokens: Tokens,
    beta: float,
    query: Float[np.ndarray, "rows dim"] | None,
    key: Float[np.ndarray, "rows dim"] | None,
    causal: bool,
) -> Float[np.ndarray, "tokens dim"]:
    """m_a = Σ_b softmax_b(β <Q u_a, K u_b>) u_b over the tokens b of the sentence of a."""
    units = tokens.directions
    asked, offered = units, units
    if query is not None and key is not None:
        _fits("query", query, tokens)
        asked, offered = units @ query.T, units @ key.T
    scores = np.where(tokens.together, beta * (asked @ offered.T), -np.inf)
    if causal:
        scores = np.where(np.tri(len(units), dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ units


def _scores(query: Any, key: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    if query is None and key is None:
        return None, None
    if query is None or key is None:
        missing = "query" if query is None else "key"
        raise ValueError(f"`{missing}` must be given with the other of `query` and `key`.")
    asked, offered = _matrix("query", query), _matrix("key", key)
    if asked.shape != offered.shape:
        raise ValueError(
            f"`key` must have the shape of `query`, {asked.shape}; got {offered.shape}."
        )
    return asked, offered


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
