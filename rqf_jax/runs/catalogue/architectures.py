"""The untrained transformers that a config may name, with the theory of wide layers."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from pydantic import Field, SerializeAsAny

from ... import layers, training
from ...observables import cosines, radii
from ...theory import initialisation
from ...theory._config_files import described
from ._section import AbstractNamed, AbstractSeeded, ConfigError, Learning, Size, chosen

Tokens = Float[Array, "tokens dim"]
Positive = Annotated[float, Field(gt=0)]


class Untrained(training.AbstractProcess[Tokens]):
    """Distinct random tokens through the blocks of a network whose weights are drawn afresh.

    The seeds are the networks of `propagate(block, ...)`, and a block takes the place of an update.
    Tokens begin as √own z_a + √common z_0 with standard normals z, over √dim, and at unit length on
    the sphere.
    """

    block: layers.AbstractLayer
    own: Float[Array, ""]
    common: Float[Array, ""]
    shape: tuple[int, int] = eqx.field(static=True)
    unit: bool = eqx.field(static=True)

    def start(self, key: Array) -> Tokens:
        """The tokens before the first block."""
        tokens, dim = self.shape
        z = jax.random.normal(key, (tokens + 1, dim))
        x = jnp.sqrt(self.own / dim) * z[1:] + jnp.sqrt(self.common / dim) * z[:1]
        return x / radii(x)[:, None] if self.unit else x

    def update(self, key: Array, number: Int[Array, ""], state: Tokens) -> Tokens:
        """The tokens after one more block."""
        return self.block(key, state)

    def weights(self, state: Tokens) -> Tokens:
        """The tokens."""
        return state


def _mean_cosine(x: Tokens) -> Float[Array, ""]:
    return jnp.mean(cosines(x))


def _rms_norm(x: Tokens) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(radii(x) ** 2))


class AbstractArchitecture(AbstractNamed, AbstractSeeded):
    """The sizes of an untrained transformer and the deviations of its weights."""

    saves: ClassVar[tuple[str, ...]] = ("mean_cosine", "rms_norm", "radii")
    unit: ClassVar[str] = "blocks"

    tokens: Annotated[int, Field(ge=2, le=2**20)] = 64
    """Number of distinct random tokens."""
    dim: Annotated[Size, Field(examples=[256])]
    """Dimension of a token."""
    layers: Annotated[Size, Field(examples=[12])]
    """Number of blocks."""
    heads: Annotated[Size, Field(examples=[4])]
    """Heads of queries."""

    def untrained(self) -> initialisation.Architecture:
        """The numbers on which its wide limit depends; ValueError for sizes that do not fit."""
        given = self.model_dump(exclude={"name", "tokens"}, exclude_none=True)
        return getattr(initialisation, self.name)(**given)

    def learning(self) -> Learning:
        """Networks of its own width."""
        one = self.untrained()
        if one.window is not None and self.tokens > one.window:
            raise ValueError(
                f"`tokens` must be at most {one.window}, the window of local attention; got "
                f"{self.tokens}."
            )
        process = Untrained(
            layers.transformer(one),
            jnp.asarray(one.own),
            jnp.asarray(one.common),
            (self.tokens, one.dim),
            one.norm == "post",
        )
        known = {"mean_cosine": _mean_cosine, "rms_norm": _rms_norm, "radii": radii}
        title = f"{self.name}: {one.layers} blocks, {self.tokens} tokens in R^{one.dim}"
        return Learning(title, process, known)

    def means(self, counts: np.ndarray) -> Mapping[str, np.ndarray]:
        """The mean cosine of two tokens and the root mean square of a norm, for wide layers."""
        found = initialisation.gram(self.untrained(), tokens=self.tokens)
        sizes = np.sqrt(np.mean(found.norms**2, axis=1))
        return {"mean_cosine": found.mean_cosine[counts], "rms_norm": sizes[counts]}

    def compared(self, counts: np.ndarray) -> Sequence[int]:
        """Every block."""
        return range(len(counts))


Architecture = Annotated[SerializeAsAny[AbstractArchitecture], chosen(AbstractArchitecture)]


def of_file(path: Path) -> dict[str, Any]:
    """The keys of a section that stand for a `config.json`; ConfigError if it is not understood."""
    build: Callable[..., Any]
    try:
        build, given = described(path)
    except ValueError as error:
        raise ConfigError(f"architecture.file: {error}") from error
    known = {key: value for key, value in given.items() if value is not None}
    return {"name": build.__name__, **known}


class GPT2(AbstractArchitecture):
    """`rqf_jax.theory.initialisation.gpt2`: Pre-LN, learned positions, scaled output weights."""

    name: Literal["gpt2"]
    """The family."""
    inner: Size | None = None
    """Width of the MLP; by default four times dim."""
    init: Positive = 0.02
    """Standard deviation of weights, of those that write to the stream over √(2 layers)."""
    activation: str = "gelu_new"
    """Activation of the MLP."""


class NeoX(AbstractArchitecture):
    """`rqf_jax.theory.initialisation.neox`: GPT-NeoX, attention and MLP side by side."""

    name: Literal["neox"]
    """The family."""
    inner: Size | None = None
    """Width of the MLP; by default four times dim."""
    init: Positive = 0.02
    """Standard deviation of weights."""
    output_init: Positive | None = None
    """Standard deviation of weights that write to the stream; by default that of all."""
    activation: str = "gelu"
    """Activation of the MLP."""
    parallel: bool = True
    """Give the MLP the tokens that attention sees; if false, those that attention has mixed."""
    rotary: Positive = 0.25
    """Share of each head that is turned by positions."""
    rotary_base: Positive = 1e4
    """Base of the frequencies."""


class Pythia(AbstractArchitecture):
    """`rqf_jax.theory.initialisation.pythia`: a parallel GPT-NeoX with weights of its own."""

    name: Literal["pythia"]
    """The family."""


class Llama(AbstractArchitecture):
    """`rqf_jax.theory.initialisation.llama`: Pre-LN, gated MLP, rotary positions, shared keys."""

    name: Literal["llama"]
    """The family."""
    inner: Annotated[Size, Field(examples=[704])]
    """Width of the MLP."""
    key_heads: Size | None = None
    """Heads of keys and values; by default as many as of queries."""
    head_dim: Size | None = None
    """Dimension of a head; by default dim/heads."""
    init: Positive = 0.02
    """Standard deviation of weights."""
    activation: str = "silu"
    """Activation of the MLP."""
    rotary_base: Positive = 1e4
    """Base of the frequencies of positions."""


class BERT(AbstractArchitecture):
    """`rqf_jax.theory.initialisation.bert`: Post-LN, no mask."""

    name: Literal["bert"]
    """The family."""
    inner: Size | None = None
    """Width of the MLP; by default four times dim."""
    init: Positive = 0.02
    """Standard deviation of weights."""
    activation: str = "gelu"
    """Activation of the MLP."""


class Gemma2(AbstractArchitecture):
    """`rqf_jax.theory.initialisation.gemma2`: Peri-LN, gated MLP, rotary positions."""

    name: Literal["gemma2"]
    """The family."""
    inner: Annotated[Size, Field(examples=[704])]
    """Width of the MLP."""
    key_heads: Size | None = None
    """Heads of keys and values; by default as many as of queries."""
    head_dim: Size | None = None
    """Dimension of a head; by default dim/heads."""
    query_scale: Positive | None = None
    """Scores are divided by the root of this number; by default head_dim."""
    window: Size | None = None
    """Length of local attention, which tokens must not exceed; by default all are seen."""
    init: Positive = 0.02
    """Standard deviation of weights."""
    activation: str = "gelu_pytorch_tanh"
    """Activation of the MLP."""
    rotary_base: Positive = 1e4
    """Base of the frequencies of positions."""
