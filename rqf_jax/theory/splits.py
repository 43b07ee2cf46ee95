"""Splits of tokens into two opposite clusters by shared matrix noise: exact counts.

Tokens moved by random quadratic forms end as sign<w, x_a> v, w a uniform direction: one hyperplane
splits them. N tokens in general position in R^n admit as many splits as a hyperplane through 0 can
make of them (Cover, recalled) and lie in a half-space with the probability of Wendel (recalled).
The counts of measures and their mean were derived for this library.
"""

from scipy.special import betainc

from .._arguments import integer
from ._contract import finite
from ._numbers import count

# Integers of so many bits are still exact and quick; half_space_probability takes any number.
MOST = 100_000


@finite
def ergodic_measures(tokens: int) -> int:
    """2^{N-1}: extremal stationary laws of N tokens, those of (s_1 v, ..., s_N v), v uniform."""
    return 2 ** (integer("tokens", tokens, maximum=MOST) - 1)


@finite
def attainable_splits(tokens: int, dim: int) -> int:
    """Σ_{k<n} C(N-1, k): splits into two unordered clusters, one of them possibly empty."""
    others, n = integer("tokens", tokens, maximum=MOST) - 1, count("dim", dim)
    ways = total = 1
    for k in range(min(n - 1, others)):
        ways = ways * (others - k) // (k + 1)
        total += ways
    return total


@finite
def half_space_probability(tokens: int, dim: int) -> float:
    """2^{1-N} Σ_{k<n} C(N-1, k): independent uniform tokens lie in a half-space.

    Only then can they end in one cluster, which for uniform tokens has probability 2^{1-N}.
    """
    others, n = count("tokens", tokens) - 1, count("dim", dim)
    # The distribution function of the binomial law, which needs no counts.
    return float(betainc(others - n + 1, n, 0.5)) if n <= others else 1.0
