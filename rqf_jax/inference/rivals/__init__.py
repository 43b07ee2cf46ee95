"""Rival explanations of a layer x → x', most of them kernels of one Gaussian process over tokens.

All share x' = c x + a common bias + noise that every token has of its own, strength τ², and add

    `PrivateNoise`      nothing
    `SharedMatrix`      σ² <u_a, u_b>: one random matrix for all sentences, u = x/|x|
    `SentenceMatrix`    the same within a sentence: a fresh matrix for each
    `SentenceBias`      σ² within a sentence: every sentence is shifted as a whole
    `LinearFlow`        σ² <x_a, x_b>: one learned matrix, which sees lengths too
    `Field`             σ² κ(<u_a, u_b>) for a kernel of `rqf_jax.kernels`, such as an MLP's
    `Series`            Σ_k σ_k² <u_a, u_b>^k: any smooth isotropic map, an MLP
    `AttentionValues`   σ² <m_a, m_b>, m = softmax attention: random or learned values
    `AttentionFlow`     λ m in the mean: attention with given values, or none
    `Mixture`           the sum of several
    `LinesOfThought`    no process, but a map from two singular value decompositions

A learned matrix and a random one are the same model here: its posterior mean is ridge regression.
To add a rival of your own, subclass `AbstractProcess` with its kernels and features (functions of
`Tokens`), or `AbstractMap` with a prediction.
"""

from ._abstract import AbstractMap, AbstractProcess, AbstractRival, Tokens, Weighed
from ._attention import AttentionFlow, AttentionValues
from ._fields import (
    Field,
    LinearFlow,
    Mixture,
    PrivateNoise,
    SentenceBias,
    SentenceMatrix,
    Series,
    SharedMatrix,
)
from ._lines import LinesOfThought

__all__ = [
    "AbstractMap",
    "AbstractProcess",
    "AbstractRival",
    "AttentionFlow",
    "AttentionValues",
    "Field",
    "LinearFlow",
    "LinesOfThought",
    "Mixture",
    "PrivateNoise",
    "SentenceBias",
    "SentenceMatrix",
    "Series",
    "SharedMatrix",
    "Tokens",
    "Weighed",
]


def __dir__() -> list[str]:
    return __all__
