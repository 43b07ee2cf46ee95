"""Rivals without attention: noise, matrices, fields, and sums of rivals."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..._arguments import each, integer, part, words
from ...kernels import AbstractKernel
from .._data import double_precision
from ._abstract import AbstractProcess, Features, Kernels, Tokens


class PrivateNoise(AbstractProcess):
    """Every token moves on its own: the rival against which gains are counted."""

    @property
    def name(self) -> str:
        """The rival in tables."""
        return "private noise"

    def kernels(self, tokens: Tokens) -> Kernels:
        """None."""
        return {}

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class SharedMatrix(AbstractProcess):
    """One random matrix W moves the tokens of all sentences, x' = x + W u."""

    @property
    def name(self) -> str:
        """The rival in tables."""
        return "shared matrix"

    def kernels(self, tokens: Tokens) -> Kernels:
        """<u_a, u_b>."""
        return {"matrix": tokens.overlaps}

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class SentenceMatrix(AbstractProcess):
    """A fresh random matrix for every sentence: the noise that `fit_hidden_states` assumes."""

    @property
    def name(self) -> str:
        """The rival in tables."""
        return "matrix per sentence"

    def kernels(self, tokens: Tokens) -> Kernels:
        """<u_a, u_b> within a sentence."""
        return {"matrix per sentence": np.where(tokens.together, tokens.overlaps, 0.0)}

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class SentenceBias(AbstractProcess):
    """Every sentence is shifted as a whole."""

    @property
    def name(self) -> str:
        """The rival in tables."""
        return "sentence bias"

    def kernels(self, tokens: Tokens) -> Kernels:
        """1 within a sentence."""
        return {"sentence bias": tokens.together.astype(float)}

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class LinearFlow(AbstractProcess):
    """One learned matrix, x' = c x + W x: ridge regression, which sees lengths of tokens too."""

    @property
    def name(self) -> str:
        """The rival in tables."""
        return "linear flow"

    def kernels(self, tokens: Tokens) -> Kernels:
        """<x_a, x_b>."""
        return {"flow": tokens.states @ tokens.states.T}

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class Field(AbstractProcess):
    """An isotropic random field of tokens, such as a wide MLP at initialisation.

    `kernel` is one of `rqf_jax.kernels`, κ of the overlap; its scale does not matter.
    """

    kernel: AbstractKernel

    def __init__(self, kernel: AbstractKernel):
        self.kernel = part(AbstractKernel)("kernel", kernel)

    @property
    def name(self) -> str:
        """The rival in tables."""
        return f"field {type(self.kernel).__name__}"

    def kernels(self, tokens: Tokens) -> Kernels:
        """κ(<u_a, u_b>)."""
        with double_precision(True):
            values = self.kernel(jnp.asarray(np.clip(tokens.overlaps, -1, 1)))
        return {self.name: np.asarray(values, float)}

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class Series(AbstractProcess):
    """Any smooth isotropic map, shared by all sentences: powers 1 to `degrees` of the overlap.

    `degrees` is from 1 to 12. Raises ValueError otherwise.
    """

    degrees: int = eqx.field(static=True)

    def __init__(self, degrees: int = 3):
        self.degrees = integer("degrees", degrees, maximum=12)

    @property
    def name(self) -> str:
        """The rival in tables."""
        return f"series 1..{self.degrees}"

    def kernels(self, tokens: Tokens) -> Kernels:
        """<u_a, u_b>^k."""
        powers = {f"degree {k}": tokens.overlaps**k for k in range(2, self.degrees + 1)}
        return {"matrix": tokens.overlaps} | powers

    def features(self, tokens: Tokens) -> Features:
        """None."""
        return {}


class Mixture(AbstractProcess):
    """The sum of several processes; a part that two of them have enters once.

    `parts` are rivals that are processes. Raises ValueError for others, and where two different
    parts have one name.
    """

    parts: tuple[AbstractProcess, ...]
    label: str = eqx.field(static=True)

    def __init__(self, *parts: AbstractProcess, label: str | None = None):
        process = part(AbstractProcess, "a process of `inference.rivals`")
        self.parts = each(process)("parts", parts)
        given = " + ".join(one.name for one in self.parts) if label is None else label
        self.label = words("label", given)

    @property
    def name(self) -> str:
        """The rival in tables."""
        return self.label

    def kernels(self, tokens: Tokens) -> Kernels:
        """Those of all parts."""
        return _union(one.kernels(tokens) for one in self.parts)

    def features(self, tokens: Tokens) -> Features:
        """Those of all parts."""
        return _union(one.features(tokens) for one in self.parts)


def _union(parts) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for one in parts:
        for name, value in one.items():
            if name in found and not np.array_equal(found[name], value):
                raise ValueError(
                    f"`parts` must have names of their own; two differ and are called {name!r}. "
                    "Give one of them a `label`."
                )
            found[name] = value
    return found
