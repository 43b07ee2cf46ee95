"""Untrained transformers as numbers: five families.

`theory.initialisation` offers these constructors. `init` is the standard deviation of weights.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from .._arguments import Real, flag
from ._activation import known as known_activation
from ._contract import finite
from ._numbers import count, positive, scalar


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Numbers of an untrained transformer on which its wide limit depends.

    **Fields:**

    - `name`, `dim` = d, `layers` = L, `heads`, `key_heads`, `head_dim`, `inner` = d_ff: its sizes.
      `key_heads` are the heads of keys and values, which groups of heads share. The wide limit does
      not depend on them: every head has the same law of scores and values. Networks do: their
      values have key_heads · head_dim random coordinates, so that seeds scatter more. [derived]
    - `norm`: "pre", "post" or "peri"; `parallel`: whether MLP and attention see the same tokens.
    - `causal`, `window`: which tokens attention sees; `window` is the most that have no gap.
    - `attention_variance` = v_A, `mlp_variance` = v_M, `input_variance` = s_fc² d of the
      pre-activations, `score_variance` = τ² of a token with itself.
    - `activation`, `gated`: of the MLP.
    - `rotary`, `rotary_base`: the share of each head that is turned by positions, and the base.
    - `own`, `common`: K of distinct tokens before the first block, own·1 + common.
    """

    name: str
    dim: int
    layers: int
    heads: int
    key_heads: int
    head_dim: int
    inner: int
    attention_variance: float
    mlp_variance: float
    input_variance: float
    score_variance: float
    own: float
    activation: str
    norm: str = "pre"
    parallel: bool = False
    causal: bool = True
    window: int | None = None
    gated: bool = False
    rotary: float = 0.0
    rotary_base: float = 1e4
    common: float = 0.0

    def embedding(self, tokens: int) -> Float[np.ndarray, "tokens tokens"]:
        """K of `tokens` distinct random tokens before the first block."""
        return self.own * np.eye(tokens) + self.common


def _sizes(dim: int, layers: int, heads: int, head_dim: int | None) -> tuple[int, int, int, int]:
    d, length, h = count("dim", dim, minimum=2), count("layers", layers), count("heads", heads)
    if head_dim is None and d % h:
        raise ValueError(f"`heads` must divide `dim` = {d}; got {h}.")
    return d, length, h, d // h if head_dim is None else count("head_dim", head_dim)


def _positive(name: str, value: Real) -> float:
    return float(scalar(positive, name, value))


@finite
def gpt2(
    *,
    dim: int,
    layers: int,
    heads: int,
    inner: int | None = None,
    init: Real = 0.02,
    activation: str = "gelu_new",
) -> Architecture:
    """GPT-2: Pre-LN, sequential, learned positions, output weights scaled by 1/√(2L). [read]

    **Arguments** `inner` is the width of the MLP, 4·`dim` if None.

    **Returns** an `Architecture`.

    **Raises** ValueError for sizes that are no positive integers or do not divide.

    **Example**

    >>> from rqf_jax.theory import initialisation
    >>> round(initialisation.gpt2(dim=768, layers=12, heads=12).attention_variance, 6)
    0.003932
    """
    d, length, h, size = _sizes(dim, layers, heads, None)
    s = _positive("init", init)
    wide = 4 * d if inner is None else count("inner", inner)
    out = s**2 / (2 * length)
    return Architecture(
        "gpt2", d, length, h, h, size, wide, _attention(s, d, out, d), out * wide, s**2 * d,
        (s**2 * d) ** 2, own=2 * s**2, activation=known_activation("activation", activation),
    )  # fmt: skip


@finite
def neox(
    *,
    dim: int,
    layers: int,
    heads: int,
    inner: int | None = None,
    init: Real = 0.02,
    output_init: Real | None = None,
    activation: str = "gelu",
    parallel: bool = True,
    rotary: Real = 0.25,
    rotary_base: Real = 1e4,
) -> Architecture:
    """GPT-NeoX: Pre-LN, parallel or sequential, rotary positions on a quarter of each head. [read]

    **Arguments** `inner` is the width of the MLP, 4·`dim` if None; `output_init` the standard
    deviation of the weights that write to the stream, `init` if None.

    **Returns** an `Architecture`.

    **Raises** ValueError for sizes that are no positive integers or do not divide.

    **Example**

    >>> from rqf_jax.theory import initialisation
    >>> initialisation.neox(dim=512, layers=6, heads=8).head_dim
    64
    """
    d, length, h, size = _sizes(dim, layers, heads, None)
    s = _positive("init", init)
    out = s**2 if output_init is None else _positive("output_init", output_init) ** 2
    wide = 4 * d if inner is None else count("inner", inner)
    return Architecture(
        "gpt_neox", d, length, h, h, size, wide, _attention(s, d, out, d), out * wide, s**2 * d,
        (s**2 * d) ** 2, own=s**2, activation=known_activation("activation", activation),
        parallel=flag("parallel", parallel), rotary=_positive("rotary", rotary),
        rotary_base=_positive("rotary_base", rotary_base),
    )  # fmt: skip


@finite
def pythia(*, dim: int, layers: int, heads: int) -> Architecture:
    """Pythia: parallel GPT-NeoX with weights √(2/5d), and 2/(L√d) where they write. [recalled]"""
    d, length = count("dim", dim, minimum=2), count("layers", layers)
    small, wang = math.sqrt(2 / (5 * d)), 2 / (length * math.sqrt(d))
    return neox(dim=d, layers=length, heads=heads, init=small, output_init=wang)


@finite
def llama(
    *,
    dim: int,
    layers: int,
    heads: int,
    inner: int,
    key_heads: int | None = None,
    head_dim: int | None = None,
    init: Real = 0.02,
    activation: str = "silu",
    rotary_base: Real = 1e4,
) -> Architecture:
    """Llama: Pre-LN by RMSNorm, gated MLP, rotary positions, grouped keys. [read]

    **Arguments** `inner` is the width of the MLP; `key_heads` the heads of keys and values, `heads`
    if None; `head_dim` is `dim`/`heads` if None.

    **Returns** an `Architecture`.

    **Raises** ValueError for sizes that are no positive integers or do not divide.

    **Example**

    >>> from rqf_jax.theory import initialisation
    >>> initialisation.llama(dim=768, layers=12, heads=12, inner=2112).gated
    True
    """
    d, length, h, size = _sizes(dim, layers, heads, head_dim)
    groups = h if key_heads is None else count("key_heads", key_heads)
    if h % groups:
        raise ValueError(f"`key_heads` must divide `heads` = {h}; got {groups}.")
    s, wide = _positive("init", init), count("inner", inner)
    return Architecture(
        "llama", d, length, h, groups, size, wide, _attention(s, d, s**2, h * size),
        s**2 * wide, s**2 * d, (s**2 * d) ** 2, own=s**2,
        activation=known_activation("activation", activation), gated=True,
        rotary=1.0, rotary_base=_positive("rotary_base", rotary_base),
    )  # fmt: skip


@finite
def bert(
    *,
    dim: int,
    layers: int,
    heads: int,
    inner: int | None = None,
    init: Real = 0.02,
    activation: str = "gelu",
) -> Architecture:
    """BERT: Post-LN, no mask; the common type vector makes cosines 1/3 before the blocks. [read]

    **Arguments** `inner` is the width of the MLP, 4·`dim` if None.

    **Returns** an `Architecture`.

    **Raises** ValueError for sizes that are no positive integers or do not divide.

    **Example**

    >>> from rqf_jax.theory import initialisation
    >>> initialisation.bert(dim=768, layers=12, heads=12).norm
    'post'
    """
    d, length, h, size = _sizes(dim, layers, heads, None)
    s = _positive("init", init)
    wide = 4 * d if inner is None else count("inner", inner)
    return Architecture(
        "bert", d, length, h, h, size, wide, _attention(s, d, s**2, d), s**2 * wide, s**2 * d,
        (s**2 * d) ** 2, own=2 / 3, common=1 / 3, norm="post", causal=False,
        activation=known_activation("activation", activation),
    )  # fmt: skip


@finite
def gemma2(
    *,
    dim: int,
    layers: int,
    heads: int,
    inner: int,
    head_dim: int | None = None,
    key_heads: int | None = None,
    query_scale: Real | None = None,
    window: int | None = None,
    init: Real = 0.02,
    activation: str = "gelu_pytorch_tanh",
    rotary_base: Real = 1e4,
) -> Architecture:
    """Gemma 2: Peri-LN, gated MLP, rotary positions; the squared norm grows by 2 a block. [read]

    **Arguments** as in `llama`; `query_scale` divides scores by its root, `head_dim` if None;
    `window` is the length of its local attention, beyond which the recursion does not hold.

    **Returns** an `Architecture`.

    **Raises** ValueError for sizes that are no positive integers or do not divide.

    **Example**

    >>> from rqf_jax.theory import initialisation
    >>> initialisation.gemma2(dim=256, layers=2, heads=4, inner=704).norm
    'peri'
    """
    plain = llama(
        dim=dim, layers=layers, heads=heads, inner=inner, key_heads=key_heads, head_dim=head_dim,
        init=init, activation=activation, rotary_base=rotary_base,
    )  # fmt: skip
    scale = plain.head_dim if query_scale is None else _positive("query_scale", query_scale)
    return dataclasses.replace(
        plain,
        name="gemma2",
        norm="peri",
        own=plain.own * plain.dim,
        score_variance=plain.score_variance * plain.head_dim / scale,
        window=None if window is None else count("window", window),
    )


def _attention(init: float, dim: int, output_variance: float, width: int) -> float:
    """v_A of heads of total `width`."""
    return init**2 * dim * output_variance * width
