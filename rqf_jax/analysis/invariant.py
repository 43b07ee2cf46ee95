"""Is a sample from the law that theory says? Uniform laws on the sphere, and occupied cells."""

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import gammaincc

from .._arguments import data, each, whole
from ..observables import cluster_signs


class ChiSquareTest(eqx.Module):
    """A test statistic that is χ² with `degrees_of_freedom` under its null hypothesis."""

    statistic: float
    degrees_of_freedom: int
    null: str = eqx.field(static=True)

    @property
    def p_value(self) -> float:
        """P(χ² ≥ statistic) under the null hypothesis."""
        return float(gammaincc(self.degrees_of_freedom / 2, self.statistic / 2))

    def __repr__(self) -> str:
        return (
            f"ChiSquareTest({self.null}: χ² = {self.statistic:.4g} on "
            f"{self.degrees_of_freedom} degrees of freedom, p = {self.p_value:.3g})"
        )


def uniformity(x: Any, *, degrees: Sequence[int] = (1, 2)) -> ChiSquareTest:
    """A Sobolev test of finite order: are the points independent and uniform on the sphere?

        S = Σ_q (d_q / N) Σ_ij P_q(<x_i, x_j>) ~ χ² with Σ_q d_q degrees of freedom

    q over `degrees`; P_q is the Legendre polynomial of the dimension (P_q(1) = 1), d_q the number
    of spherical harmonics of degree q. The term of degree q is N times the squared length of
    their sample means, so it sees every deviation of degree q and no other: 1 a preferred
    direction, 2 a preferred axis, 3 a triangle, … The law is that of large N.

    `x` (points, dim), unit rows, dim ≥ 2; the points must be independent: the tokens of one
    state under shared noise, or times along one path, are not. O(N²) time, O(N) memory.

    Raises ValueError for other shapes, for rows that are not of unit length to 1e-5, and for
    degrees that are not distinct integers ≥ 1. Source: Giné (1975), recalled; the identity with
    the sums over harmonics is the addition theorem.
    """
    x = _points(x)
    degrees = each(whole(maximum=1000))("degrees", degrees)
    if len(set(degrees)) < len(degrees):
        raise ValueError(f"`degrees` must be distinct; got {degrees}.")
    dim = x.shape[1]
    sums = np.zeros(max(degrees) + 1)
    for block in np.array_split(x, math.ceil(len(x) ** 2 / 2**22)):
        sums += _legendre_sums(block @ x.T, dim, max(degrees))
    counts = {q: _harmonics(q, dim) for q in degrees}
    statistic = sum(counts[q] * sums[q] for q in degrees) / len(x)
    name = f"uniform on the sphere, degrees {', '.join(map(str, degrees))}"
    return ChiSquareTest(float(statistic), sum(counts.values()), name)


def rayleigh(x: Any) -> ChiSquareTest:
    """Rayleigh's test of a preferred direction: n N |mean|² ~ χ²_n, `uniformity` of degree 1."""
    return uniformity(x, degrees=(1,))


def bingham(x: Any) -> ChiSquareTest:
    """Bingham's test of a preferred axis, `uniformity` of degree 2; blind to signs.

    (n (n+2) / 2) N (tr M² - 1/n) ~ χ² with (n - 1)(n + 2)/2 degrees of freedom, M = XᵀX/N.
    """
    return uniformity(x, degrees=(2,))


def occupancy(counts: Any, probabilities: Any = None) -> ChiSquareTest:
    """Pearson's test of counts against the probabilities of their cells (equal by default).

        Σ_k (n_k - N p_k)² / (N p_k) ~ χ² with cells - 1 degrees of freedom

    A law of large N p_k: keep them above about 5, by pooling cells. A cell of probability 0 that
    is occupied makes the statistic infinite; one that is not is left out.

    Raises ValueError unless `counts` are at least two integers ≥ 0, not all 0, and
    `probabilities` as many numbers ≥ 0 that sum to 1 within 1e-6.
    """
    observed = data("counts", counts)
    if observed.ndim != 1 or observed.size < 2:
        raise ValueError(f"`counts` must be one axis of 2 or more; got shape {observed.shape}.")
    if np.any(observed < 0) or np.any(observed != np.round(observed)) or not observed.any():
        raise ValueError(f"`counts` must be integers ≥ 0, not all 0; got {observed}.")
    if probabilities is None:
        probabilities = np.full(observed.size, 1 / observed.size)
    p = data("probabilities", probabilities)
    if p.shape != observed.shape:
        raise ValueError(f"`probabilities` must be {observed.size} numbers; got shape {p.shape}.")
    if np.any(p < 0) or abs(p.sum() - 1) > 1e-6:
        raise ValueError(f"`probabilities` must be ≥ 0 and sum to 1; got {p}, sum {p.sum():g}.")
    possible = p > 0
    if np.any(observed[~possible]):
        return ChiSquareTest(math.inf, int(possible.sum()) - 1, "cell probabilities")
    expected = observed.sum() * p[possible]
    statistic = np.sum((observed[possible] - expected) ** 2 / expected)
    return ChiSquareTest(float(statistic), int(possible.sum()) - 1, "cell probabilities")


def sign_pattern(x: Float[Array, "tokens dim"]) -> Int[Array, ""]:
    """The number of a split in two antipodal clusters, one of 2^{N-1}; an observable, N ≤ 31.

        Σ_{a ≥ 1} 2^{a-1} [<x_a, x_0> < 0]

    0 is one cluster. Each split carries one ergodic invariant measure of tokens under symmetric
    shared noise, and independent uniform tokens reach all with equal probability.

    Raises ValueError if `x` is not one state of at most 31 tokens.
    """
    signs = cluster_signs(x)
    if signs.size > 31:
        raise ValueError(f"`x` must have at most 31 tokens; got {signs.size}.")
    powers = 2 ** jnp.arange(signs.size - 1, dtype=jnp.int32)
    return jnp.sum(jnp.where(signs[1:] < 0, powers, 0))


def _points(x: Any) -> Float[np.ndarray, "points dim"]:
    x = data("x", x)
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] < 2:
        raise ValueError(f"`x` must be points (points, dim), dim ≥ 2; got shape {x.shape}.")
    defect = np.max(np.abs(np.linalg.norm(x, axis=1) - 1))
    if defect > 1e-5:
        raise ValueError(f"`x` must have unit rows, to 1e-05; got one that is off by {defect:.3g}.")
    return x


def _harmonics(degree: int, dim: int) -> int:
    """The number of linearly independent spherical harmonics of a degree in R^dim."""
    homogeneous = math.comb(degree + dim - 1, dim - 1)
    return homogeneous - (math.comb(degree + dim - 3, dim - 1) if degree >= 2 else 0)


def _legendre_sums(z, dim: int, highest: int) -> Float[np.ndarray, " degrees"]:
    """Σ P_q(z) for q = 0, …, highest, by the three-term recurrence."""
    before, here = np.ones_like(z), z
    sums = [before.sum(), here.sum()]
    for q in range(1, highest):
        after = ((2 * q + dim - 2) * z * here - q * before) / (q + dim - 2)
        before, here = here, after
        sums.append(here.sum())
    return np.array(sums)
