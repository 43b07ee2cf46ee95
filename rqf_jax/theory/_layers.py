"""One layer of random weights: what it does to overlaps, and how many directions it has.

Conventions are those of `theory.sphere`, which offers these functions.
"""

import numpy as np

from .._arguments import fitting
from ._contract import finite
from ._numbers import Real, count, nonnegative
from ._special import Values, digamma_step


@finite
def layer_log_sine_increment(dim: int) -> float:
    """E Δ ln sin θ = [ψ((n-1)/2) - ψ(n/2)]/2 for a layer of independent normal weights; exact."""
    return layer_log_det_increment(dim, 2) / 2


@finite
def layer_log_det_increment(dim: int, tokens: int) -> float:
    """E Δ ln det G = Σ_{j<k} ψ((n-j)/2) - k ψ(n/2) for k tokens and the same layer; exact.

    Raises ValueError unless 1 ≤ tokens ≤ dim.
    """
    n, k = count("dim", dim), count("tokens", tokens)
    if k > n:
        raise ValueError(f"`tokens` must be at most `dim` = {n}; got {k}.")
    # ψ((n-j)/2) - ψ(n/2) as a sum of steps of one sign.
    fitting("tokens", (k,), 200)
    step = np.arange(1, k)
    return -float(np.sum((k - step) * digamma_step((n - step) / 2)))


@finite
def residual_layer_log_sine_increment(step: Real, dim: int) -> Values:
    """E Δ ln sin θ = -h + h²(3n - 10)/2 + O(h³), A = I + √h B, B of standard normal entries.

    An expansion in the step h, asymptotic at fixed n: use it for n h ≪ 1.
    """
    h = nonnegative("step", step)
    return -h + h**2 * (3 * count("dim", dim, minimum=2) - 10) / 2


@finite
def wide_layer_log_sine_increment(variance: Real, dim: int) -> Values:
    """E Δ ln sin θ = -(1/n) s²(1 + s²/2)/(1 + s²)² + O(1/n²), A = I + W, W_ij ~ N(0, s²/n).

    `variance` is s². The weights of one layer need not be small; the width n must be large.
    """
    s2 = nonnegative("variance", variance)
    share = s2 / (1 + s2)
    return -share * (1 - share / 2) / count("dim", dim, minimum=2)


@finite
def symmetric_rank(tokens: int, dim: int) -> int:
    """k(k+1)/2 + k(n-k) - 1, k = min(N, n): the rank of σ_s noise at generic tokens.

    Orthogonal tokens lose one for each extra connected component of their graph of nonzero
    overlaps.
    """
    n = count("dim", dim)
    k = min(count("tokens", tokens), n)
    return k * (k + 1) // 2 + k * (n - k) - 1


@finite
def antisymmetric_rank(tokens: int, dim: int) -> int:
    """k(k-1)/2 + k(n-k), k = min(N, n): the rank of σ_a noise at generic tokens."""
    n = count("dim", dim)
    k = min(count("tokens", tokens), n)
    return k * (k - 1) // 2 + k * (n - k)


@finite
def full_rank(tokens: int, dim: int) -> int:
    """N(n-1) if N ≤ n, else n² - 1: the rank of noise with σ_s, σ_a > 0 at generic tokens."""
    n, tokens = count("dim", dim), count("tokens", tokens)
    return tokens * (n - 1) if tokens <= n else n * n - 1


@finite
def mean_log_sine_uniform(dim: int) -> float:
    """E ln sin θ = [ψ((n-1)/2) - ψ(n/2)]/2 for two independent uniform tokens, n ≥ 2."""
    return -float(digamma_step((count("dim", dim, minimum=2) - 1) / 2)) / 2
