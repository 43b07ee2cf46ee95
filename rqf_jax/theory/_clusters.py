"""Where tokens moved by random quadratic forms end: opposite clusters, split by a random plane.

Conventions are those of `theory.sphere`, which offers these functions.
"""

import math

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr

from ._contract import finite
from ._numbers import ROUNDING, Real, check, count, size, square_matrix

Gram = Float[np.ndarray, "tokens tokens"]


@finite
def limiting_gram(gram: Real) -> Gram:
    """E G(∞) = (2/π) arcsin G(0), entry by entry (Grothendieck's identity)."""
    return 2 / np.pi * np.arcsin(checked_gram(gram))


@finite
def all_aligned_probability(gram: Real) -> float:
    """P(all tokens end in one cluster) = 2 P(g_1 > 0, ..., g_N > 0), g ~ N(0, G(0)).

    The tokens end as sign<w, x_a(0)> v with a uniform direction w: one random hyperplane splits
    them (Goemans and Williamson's rounding). N = 2: 1 - θ/π. N = 3: 1 - (θ_12 + θ_13 + θ_23)/2π.
    Equal overlaps ρ > -1/(N-1):

        2 ∫ φ(z) Φ(z √(ρ/(1-ρ)))^N dz   (√ imaginary for ρ < 0; absolute error below 1e-12).

    Otherwise SciPy's quasi-Monte Carlo for the multivariate normal, with a fixed generator, so the
    answer is reproducible; its absolute error is about 1e-5 at N = 8, 1e-4 at N = 64.
    """
    g = checked_gram(gram)
    tokens = len(g)
    overlaps = g[np.triu_indices(tokens, 1)]
    if tokens <= 3:
        # 1, 1 - θ/π and 1 - Σθ/2π are one formula.
        return float(1 - np.arccos(overlaps).sum() / (np.pi * max(tokens - 1, 1)))
    if np.ptp(overlaps) <= 1e-12:
        return _equal_overlap_orthant(tokens, float(overlaps.mean()))
    # Imported here because it costs half a second and little else needs it.
    from scipy.stats import multivariate_normal

    orthant = multivariate_normal.cdf(
        np.zeros(tokens),
        cov=g,  # pyright: ignore[reportArgumentType]
        allow_singular=True,
        abseps=1e-6,
        maxpts=100_000,
        rng=np.random.default_rng(0),
    )
    return float(2 * orthant)


@finite
def cluster_size_mean(tokens: int) -> float:
    """E N_+ = N/2, N_+ the size of a cluster chosen by a fair coin."""
    return count("tokens", tokens) / 2


@finite
def cluster_size_variance(gram: Real) -> float:
    """Var N_+ = N/4 + (1/2π) Σ_{a≠b} arcsin G_ab(0)."""
    g = checked_gram(gram)
    off_diagonal = np.arcsin(g[~np.eye(len(g), dtype=bool)])
    return float(len(g) / 4 + off_diagonal.sum() / (2 * np.pi))


@finite
def cluster_size_distribution(tokens: int) -> Float[np.ndarray, " sizes"]:
    """P(N_+ = k), k = 0, ..., N: Binomial(N, 1/2) for independent uniform tokens, in every n."""
    tokens = size("tokens", tokens)
    sizes = np.arange(tokens + 1)
    # Imported here because it costs half a second and little else needs it.
    from scipy.stats import binom

    return binom.pmf(sizes, tokens, 0.5)


def _equal_overlap_orthant(tokens: int, overlap: float) -> float:
    """2 P(g_1 > 0, ..., g_N > 0) for unit normals of one correlation."""
    decay = 1 + (tokens - 1) * min(overlap, 0.0)
    if overlap >= 1 - 1e-12 or decay <= 1e-12:
        return float(overlap > 0)
    slope = np.emath.sqrt(overlap / (1 - overlap))
    # The integrand is entire; it varies on the scales 1/|slope| near 0 and √(2/decay) far away, and
    # sinh spreads the points of the trapezoid rule over both.
    scale = max(abs(slope), 1.0)
    s, spacing = np.linspace(-1, 1, 4001, retstep=True)
    stretch = math.asinh(scale * 13 / math.sqrt(decay))
    z = np.sinh(stretch * s) / scale
    integrand = np.exp(tokens * log_ndtr(slope * z) - z**2 / 2).real * np.cosh(stretch * s)
    return float(2 * integrand.sum() * spacing * stretch / scale / math.sqrt(2 * math.pi))


def checked_gram(gram: Real) -> Gram:
    """A checked copy, exactly symmetric with unit diagonal."""
    g = square_matrix("gram", gram)
    skew = np.abs(g - g.T).max()
    if skew > ROUNDING:
        raise ValueError(f"`gram` must be symmetric; got entries that differ by {skew:.3g}.")
    diagonal = np.diag(g)
    check("gram", diagonal, np.abs(diagonal - 1) <= ROUNDING, "have a unit diagonal")
    lowest = np.linalg.eigvalsh(g)[0]
    if lowest < -ROUNDING * len(g):
        raise ValueError(f"`gram` must be positive semidefinite; got an eigenvalue {lowest:.3g}.")
    g = np.clip((g + g.T) / 2, -1, 1)
    np.fill_diagonal(g, 1)
    return g
