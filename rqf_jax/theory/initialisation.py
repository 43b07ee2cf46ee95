"""Untrained transformers: overlaps, norms and attention entropies of every block, without a fit.

For wide layers with fresh Gaussian weights the Gram matrix of the tokens, K_ab = <x_a, x_b>/d,
follows one recursion. With Z = K/√(K_aa K_bb), standard deviations s of the weight matrices and
τ = s_q s_k d,

    attention  K ← K + v_A mean_h P_h Z P_hᵀ,   v_A = s_V² s_O² d · (heads · head size),
    MLP        K ← K + v_M κ(Z),   v_M = s_proj² d_ff,   κ = E φφ at the variance s_fc² d,

where P is the softmax of scores of covariance τ² Z⊗Z, drawn with the architecture's head size and
rotary positions. A sequential block's MLP sees the updated Z, a parallel one's (NeoX, Pythia) the
same Z as attention; a gated MLP has κ = s_up² d z κ_act(z). "pre" keeps the norm of the stream,
"post" (BERT) renormalises it after each branch, and "peri" (Gemma 2) normalises each branch, so
that the squared norm is K_0 + 2·blocks exactly.

[derived] in the limit of wide layers; it met mean cosines of random GPT-2, GPT-NeoX, Pythia, Llama,
BERT and Gemma 2 to .02 in all but one of fifteen sizes. No rate of convergence is known and no
formula for the scatter between seeds, .01 to .05. Initial standard deviations are [read] off the
classes and the weights of transformers 5.24, where `initializer_range` is .02 in all five families;
Pythia's are [recalled].
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from .._arguments import Real, fitting, integer, part
from ._activation import ACTIVATIONS, coefficients, covariance
from ._architectures import (
    Architecture as Architecture,
    bert as bert,
    gemma2 as gemma2,
    gpt2 as gpt2,
    llama as llama,
    neox as neox,
    pythia as pythia,
)
from ._config_files import from_config as from_config
from ._contract import finite
from ._numbers import check, count, nonnegative, overlaps, positive, size, square_matrix
from ._recursion import Gram, added, attention, cosines, root, rotary_angles, rotated, softmax
from ._special import Values


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Gram matrices before the first of L blocks and after each, as `gram` found them.

    **Fields**

    - `grams`: K, shape (L + 1, tokens, tokens).
    - `deficits`: ln(number of tokens seen) - entropy of attention, mean over heads, in nats; shape
      (L, tokens).
    - `seen`: how many tokens each token attends to, shape (tokens,).
    """

    grams: Float[np.ndarray, "blocks tokens tokens"]
    deficits: Float[np.ndarray, "layers tokens"]
    seen: Float[np.ndarray, " tokens"]

    @property
    def cosines(self) -> Float[np.ndarray, "blocks tokens tokens"]:
        """Z, the cosines of all pairs of tokens, shape (L + 1, tokens, tokens)."""
        root = np.sqrt(np.diagonal(self.grams, axis1=1, axis2=2))
        return self.grams / (root[:, :, None] * root[:, None, :])

    @property
    def mean_cosine(self) -> Float[np.ndarray, " blocks"]:
        """The mean cosine over all pairs of tokens, shape (L + 1,)."""
        i, j = np.triu_indices(self.grams.shape[1], 1)
        return self.cosines[:, i, j].mean(1)

    @property
    def norms(self) -> Float[np.ndarray, "blocks tokens"]:
        """|x|/√d of every token, shape (L + 1, tokens)."""
        return np.sqrt(np.diagonal(self.grams, axis1=1, axis2=2))

    @property
    def entropy(self) -> Float[np.ndarray, "layers tokens"]:
        """The entropy of attention in nats, mean over heads, shape (L, tokens)."""
        return np.log(self.seen) - self.deficits

    @property
    def profile(self) -> Float[np.ndarray, "blocks tokens"]:
        """The cosine of every token with the first one, shape (L + 1, tokens): causal primacy."""
        return self.cosines[:, 0]


@finite
def gram(
    architecture: Architecture,
    start: Real | None = None,
    *,
    tokens: int = 64,
    draws: int = 4,
    seed: int = 0,
) -> Blocks:
    """The Gram matrix of the tokens through all blocks of an untrained transformer.

    **Arguments**

    - `architecture`: of `gpt2`, `neox`, `pythia`, `llama`, `bert`, `gemma2` or `from_config`.
    - `start`: K before the first block, shape (tokens, tokens), positive semidefinite with a
      positive diagonal; without it that of distinct random tokens, `architecture.embedding`.
    - `tokens`: how many tokens, at least 2; the size of `start` if that is given.
    - `draws`: attention patterns drawn per head, at most 1000; 0 for uniform attention over the
      tokens seen, which is exact to the first order in the variance τ² of the scores.
    - `seed`: of the draws. They are NumPy's, so that the answer is reproducible.

    **Returns** `Blocks` with mean cosines, norms, entropies and the causal profile of every block.

    **Raises** ValueError for arguments of the wrong kind or shape, and for sizes beyond memory.

    **Example**

    >>> from rqf_jax.theory import initialisation
    >>> found = initialisation.gram(initialisation.gpt2(dim=768, layers=12, heads=12), draws=0)
    >>> round(float(found.mean_cosine[-1]), 2)
    0.57
    """
    model, k = _arguments(architecture, start, tokens)
    n, rounds = len(k), integer("draws", draws, minimum=0, maximum=1000)
    rng = np.random.default_rng(integer("seed", seed, minimum=0))
    fitting("tokens", (model.layers + 1, n, n), 8)
    rotate = rotary_angles(n, model) if model.rotary else None
    mlp = coefficients(model.activation, model.input_variance)
    seen = np.arange(1.0, n + 1) if model.causal else np.full(n, float(n))
    grams, deficits = [k], []
    for _ in range(model.layers):
        z = cosines(k)
        mixed, deficit = attention(z, model, rounds, rng, rotate)
        k = added(k, model.attention_variance * mixed, model.norm)
        inner = z if model.parallel else cosines(k)
        outputs = np.asarray(covariance(mlp, inner))
        if model.gated:
            outputs = model.input_variance * inner * outputs
        k = added(k, model.mlp_variance * outputs, model.norm)
        grams.append(k)
        deficits.append(deficit)
    return Blocks(np.array(grams), np.array(deficits), seen)


@finite
def scatter(
    architecture: Architecture,
    start: Real | None = None,
    *,
    tokens: int = 64,
    seeds: int = 8,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "seeds blocks"], Float[np.ndarray, "seeds blocks"]]:
    """Mean cosines and root mean squares of random networks of the architecture's own width.

    Outputs of a fresh Gaussian matrix are Gaussian, independent in their coordinates, with the Gram
    matrix of the inputs as covariance between tokens. Drawn in that way, which is exact, a network
    needs no weights. Their standard deviation over seeds is the scatter that wide layers do not
    have. Heads of a group share keys and values as in the architecture.

    **Arguments**

    - `architecture`, `start`, `tokens`: as in `gram`.
    - `seeds`: number of networks, of which each has tokens of its own; `seed`: of the draws.

    **Returns** the mean cosine over all pairs, and the mean over tokens of |x|/√d, both of shape
    (seeds, L + 1).

    **Raises** ValueError for arguments of the wrong kind or shape, and for sizes beyond memory.

    **Example**

    >>> from rqf_jax.theory import initialisation
    >>> model = initialisation.gpt2(dim=128, layers=2, heads=2)
    >>> initialisation.scatter(model, tokens=8, seeds=3)[0].shape
    (3, 3)
    """
    model, k = _arguments(architecture, start, tokens)
    n, networks = len(k), size("seeds", seeds)
    rng = np.random.default_rng(integer("seed", seed, minimum=0))
    widest = max(model.dim, model.inner, model.heads * model.head_dim)
    fitting("tokens", (n, widest, 4), 8)
    fitting("seeds", (networks, model.layers + 1, 2), 8)
    rotate = rotary_angles(n, model) if model.rotary else None
    i, j = np.triu_indices(n, 1)
    found = np.empty((2, networks, model.layers + 1))
    for network in range(networks):
        x = root(k) @ rng.standard_normal((n, model.dim))
        x = _unit(x) if model.norm == "post" else x
        for block in range(model.layers + 1):
            gram = x @ x.T / model.dim
            found[:, network, block] = cosines(gram)[i, j].mean(), np.sqrt(np.diag(gram)).mean()
            if block < model.layers:
                x = _block(x, model, rng, rotate)
    return found[0], found[1]


def _unit(x: np.ndarray) -> np.ndarray:
    """Tokens divided by their root mean square."""
    return x / np.sqrt(np.mean(x**2, 1, keepdims=True))


def _block(
    x: np.ndarray, model: Architecture, rng: np.random.Generator, rotate: np.ndarray | None
) -> np.ndarray:
    """One block of fresh weights on tokens x, shape (tokens, dim)."""
    n = len(x)

    def outputs(hidden: np.ndarray, variance: float) -> np.ndarray:
        spread = root(hidden @ hidden.T / hidden.shape[1])
        return np.sqrt(variance) * spread @ rng.standard_normal((n, model.dim))

    def added_to(x: np.ndarray, branch: np.ndarray) -> np.ndarray:
        branch = _unit(branch) if model.norm == "peri" else branch
        return _unit(x + branch) if model.norm == "post" else x + branch

    seen = x if model.norm == "post" else _unit(x)
    spread = root(seen @ seen.T / model.dim)
    scale = np.sqrt(model.score_variance / model.head_dim)

    def projected(own: np.ndarray, rotate: np.ndarray | None = None) -> np.ndarray:
        found = own @ rng.standard_normal((n, model.head_dim))
        return found if rotate is None else rotated(found, rotate)

    heads = []
    for _ in range(model.key_heads):
        sharing = range(model.heads // model.key_heads)
        queries = [projected(spread, rotate) for _ in sharing]
        key, value = projected(spread, rotate), projected(spread)
        heads += [softmax(scale * query @ key.T, model) @ value for query in queries]
    mixed = outputs(np.concatenate(heads, 1), model.attention_variance)
    y = added_to(x, mixed)
    inner = seen if model.parallel else (y if model.norm == "post" else _unit(y))
    spread = np.sqrt(model.input_variance) * root(inner @ inner.T / model.dim)
    hidden = ACTIVATIONS[model.activation](spread @ rng.standard_normal((n, model.inner)))
    if model.gated:
        hidden = hidden * (spread @ rng.standard_normal((n, model.inner)))
    return added_to(y, outputs(hidden, model.mlp_variance))


@finite
def uniform_deficit(overlap_mean: Real, score_variance: Real) -> Values:
    """τ²(1 - z̄)/2, z̄ the mean cosine of all pairs of seen tokens: ln(seen) - entropy. [derived]

    To the first order in the variance τ² of the scores of tokens of cosine 1, `score_variance`.
    """
    mean = overlaps("overlap_mean", overlap_mean)
    return nonnegative("score_variance", score_variance) * (1 - mean) / 2


@finite
def first_block_cosine(position: int, other: int, *, start: Real, attention: Real) -> Values:
    """Cosine of tokens i < j after attention alone on distinct tokens. [derived]

        K_ij = K_0 δ_ij + v_A/max(i, j):   √(i/j) once v_A/j ≫ K_0, the primacy of causal masks

    **Arguments** `position` = i and `other` = j, from 1; `start` = K_0 and `attention` = v_A,
    positive.

    **Returns** the cosine, of the broadcast shape of `start` and `attention`.

    **Raises** ValueError for arguments out of range.

    **Example**

    >>> from rqf_jax.theory import initialisation
    >>> found = initialisation.first_block_cosine(1, 4, start=1e-9, attention=1.0)
    >>> round(float(found), 6)
    0.5
    """
    i, j = count("position", position), count("other", other)
    k, v = positive("start", start), positive("attention", attention)
    together = v / max(i, j) + (k if i == j else 0.0)
    return together / np.sqrt((k + v / i) * (k + v / j))


@finite
def consensus_exponent(architecture: Architecture) -> float:
    """g with 1 - z ∝ r^{-2g} near consensus of a "pre" model without a mask. [derived]

        g = [v_A + v_M κ(1)(1 - k'(1))]/[v_A + v_M κ(1)]

    .379 for GPT-2 small. Raises ValueError for "post" and "peri" models.
    """
    model = part(Architecture, "an architecture of `theory.initialisation`")(
        "architecture", architecture
    )
    if model.norm != "pre":
        raise ValueError(f"`architecture` must keep its norm, a pre model; got {model.norm}.")
    series = coefficients(model.activation, model.input_variance)
    if model.gated:
        series = model.input_variance * np.concatenate([[0.0], series])
    value, slope = series.sum(), np.arange(len(series)) @ series
    attention, mlp = model.attention_variance, model.mlp_variance
    return float((attention + mlp * (value - slope)) / (attention + mlp * value))


def _arguments(
    architecture: Architecture, start: Real | None, tokens: int
) -> tuple[Architecture, Gram]:
    """The architecture and K before its first block."""
    model = part(Architecture, "an architecture of `theory.initialisation`")(
        "architecture", architecture
    )
    if start is None:
        k = model.embedding(size("tokens", tokens, minimum=2, axes=2))
    else:
        k = _checked_start(start)
    if model.window is not None and len(k) > model.window:
        raise ValueError(
            f"`tokens` must be at most {model.window}, the window of local attention; got {len(k)}."
        )
    return model, k


def _checked_start(start: Real) -> Gram:
    k = square_matrix("start", start)
    skew, scale = np.abs(k - k.T).max(), np.abs(k).max()
    check("start", skew, skew <= 1e-5 * scale, "be symmetric")
    check("start", np.diag(k), np.diag(k) > 0, "have a positive diagonal")
    lowest = np.linalg.eigvalsh((k + k.T) / 2)[0]
    check("start", lowest, lowest >= -1e-5 * len(k) * scale, "be positive semidefinite")
    if len(k) < 2:
        raise ValueError("`start` must be of at least 2 tokens; got 1.")
    return (k + k.T) / 2
