"""Untrained transformers as layers of random weights, from the numbers of their architecture."""

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import takes
from ..drifts import rotary_frequencies
from ..manifolds import AbstractManifold, Euclidean
from ._abstract import AbstractBranch, AbstractLayer
from .attention import RandomAttention
from .branches import Normed, Parallel, RandomMLP, UnitOutput
from .stream import Block, Residual

_ACTIVATIONS = {
    "gelu_new": "gelu",
    "gelu_fast": "gelu",
    "gelu_pytorch_tanh": "gelu",
    "swish": "silu",
}


def _known(name, value):
    # Closed forms are imported where they are used: they take longer than all the rest.
    from ..theory.initialisation import Architecture

    if not isinstance(value, Architecture):
        raise ValueError(
            f"`{name}` must be an architecture of `theory.initialisation`; got {value!r}."
        )
    return value


@takes(architecture=_known)
def transformer(architecture) -> AbstractLayer:
    """One block of an untrained transformer with weights of its own size, for `propagate`.

    Tokens are divided by √dim, so that x·x is the mean square K of `theory.initialisation`, whose
    `gram` is the limit of wide layers: `propagate(transformer(a), law, a.layers, ...)`. "pre" and
    "peri" models keep the radius of the stream, "post" ones live on the sphere. The hidden width,
    heads, shared keys and values, and rotary positions are the model's own; GELU's approximations
    by tanh are replaced by GELU. `architecture` is one of `theory.initialisation`, such as
    `gpt2(...)` or `from_config(path)`. Raises ValueError for another object.

    **Example**

    >>> gpt2 = rqf.theory.initialisation.gpt2(dim=64, layers=2, heads=4)
    >>> law = rqf.laws.Normal((8, 64), (gpt2.own / 64) ** 0.5)
    >>> block, key = rqf.layers.transformer(gpt2), jax.random.key(0)
    >>> rqf.propagate(block, law, gpt2.layers, members=3, key=key).ys.shape
    (3, 3, 8, 64)
    """
    a = architecture
    planes = int(a.head_dim * a.rotary) // 2
    attention = RandomAttention(
        a.heads,
        a.head_dim,
        a.attention_variance / a.dim,
        a.score_variance,
        key_heads=a.key_heads,
        causal=a.causal,
        frequencies=rotary_frequencies(planes, a.rotary_base) if planes else None,
    )
    mlp = RandomMLP(
        _ACTIVATIONS.get(a.activation, a.activation),  # pyright: ignore[reportArgumentType]
        a.inner,
        variance=a.mlp_variance / a.dim,
        input_variance=a.input_variance,
        gated=a.gated,
    )
    branches = [Parallel(attention, mlp)] if a.parallel else [attention, mlp]

    def layer(branch: AbstractBranch) -> Residual:
        if a.norm == "post":
            return Residual(branch)
        branch = Normed(branch)
        return Residual(UnitOutput(branch) if a.norm == "peri" else branch, stream=Euclidean())

    return TransformerBlock(Block(*map(layer, branches)), a.dim)


class TransformerBlock(AbstractLayer):
    """A `Block` for tokens of one dimension, on which its variances depend."""

    block: Block
    dim: int = eqx.field(static=True)

    @property
    def enters(self) -> AbstractManifold:
        """The space on which tokens enter the block."""
        return self.block.enters

    def __call__(
        self, key: PRNGKeyArray, x: Float[Array, "tokens dim"]
    ) -> Float[Array, "tokens dim"]:
        """The tokens after all layers."""
        if x.shape[-1] != self.dim:
            raise ValueError(
                f"`law` must draw tokens of the architecture's dimension {self.dim}; got "
                f"{x.shape[-1]}."
            )
        return self.block(key, x)
