"""Sentences with the hidden states of their tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from .._arguments import each, integer, whole


@dataclass(frozen=True)
class Sentence:
    """One sentence on its way through a model: its tokens and their hidden states.

    `states` (layers, tokens, dim); layer 0 is the output of the embedding.
    """

    text: str
    tokens: tuple[str, ...]
    states: Float[np.ndarray, "layers tokens dim"]

    def __repr__(self) -> str:
        kind = f"{self.states.dtype}{list(self.states.shape)}"
        return f"Sentence({self.text!r}, tokens={len(self.tokens)}, states={kind})"

    def select(self, indices: Sequence[int]) -> "Sentence":
        """The same sentence with only the tokens `indices`, in the order given.

        Raises ValueError for numbers of tokens that the sentence does not have.
        """
        size = len(self.tokens)
        if isinstance(indices, np.ndarray):
            indices = indices.tolist()
        indices = each(whole(minimum=-size, maximum=size - 1), least=0)("indices", indices)
        kept = tuple(self.tokens[i] for i in indices)
        return Sentence(self.text, kept, self.states[:, list(indices)])

    def unit(self, layer: int) -> Float[np.ndarray, "tokens dim"]:
        """The tokens of one layer on the unit sphere, x_a = h_a / |h_a|, in float64.

        Raises ValueError for the number of a layer that the sentence does not have.
        """
        size = len(self.states)
        layer = integer("layer", layer, minimum=-size, maximum=size - 1)
        states = self.states[layer].astype(np.float64)
        return states / np.linalg.norm(states, axis=-1, keepdims=True)

    def overlaps(self) -> Float[np.ndarray, "layers pairs"]:
        """The cosine of every pair of tokens a < b in every layer, pairs as in `observables`."""
        rows, columns = np.triu_indices(len(self.tokens), 1)
        units = (self.unit(layer) for layer in range(len(self.states)))
        return np.stack([(x @ x.T)[rows, columns] for x in units])


@dataclass(frozen=True)
class HiddenStates(Sequence[Sentence]):
    """The sentences of one file, or of no file (`path` is None): a sequence of `Sentence`."""

    path: Path | None
    sentences: tuple[Sentence, ...]

    def __repr__(self) -> str:
        of = "" if self.path is None else f"path={str(self.path)!r}, "
        return f"HiddenStates({of}sentences={len(self.sentences)})"

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index):
        return self.sentences[index]

    def __iter__(self) -> Iterator[Sentence]:
        return iter(self.sentences)
