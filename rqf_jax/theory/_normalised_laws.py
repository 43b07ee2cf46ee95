"""Wide tokens and close tokens under the four schemes: one family, and exponents near consensus.

Conventions are those of `theory.normalisation`, which offers these functions.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.linalg import expm
from scipy.special import betainc

from .._arguments import Real, called, one_of, takes
from ._contract import finite
from ._diffusion import nodes, primitives, totals
from ._numbers import check, count, nonnegative, overlaps, positive, scalar
from ._special import Values

INDEX = {"post": 1.0, "ngpt": 1.5, "pre": 1.5, "peri": 2.0}
"""The number a that rules a pair of wide tokens: each switch adds 1/2."""

_scheme = one_of(*INDEX)


# ---- wide tokens, one family


@finite
def wide_overlap_drift(overlap: Real, scheme: str) -> Values:
    """-a z(1-z²) for σ_s = 1, n → ∞ at fixed clock; a is `INDEX` of the scheme. [derived]

    The variance gained is 2(1-z²)², as in `sphere.overlap_variance`. Formal for a = 3/2 and 2: the
    ratio of radii was averaged out.
    """
    z = overlaps("overlap", overlap)
    return -INDEX[_scheme("scheme", scheme)] * z * (1 - z) * (1 + z)


@finite
def aligned_probability(overlap0: Real, scheme: str) -> Values:
    """P(z → 1) = I_{(1+z_0)/2}(1-a/2, 1-a/2) of wide tokens: "post", "ngpt" and "pre". [derived]

    The arcsine law for "post", exact for every n. Raises ValueError for "peri", whose pairs never
    decide.
    """
    shape = 1 - INDEX[_scheme("scheme", scheme)] / 2
    if shape == 0:
        raise ValueError("`scheme` must let pairs decide: under peri they never do; got peri.")
    return betainc(shape, shape, (1 + overlaps("overlap0", overlap0)) / 2)


@finite
@takes(function=called("an array of overlaps"))
def wide_expectation(
    function: Callable[[np.ndarray], np.ndarray], clock: Real, overlap0: Real, scheme: str
) -> Values:
    """E f(z_s) of wide tokens at the clock σ_s² s ≤ 20, for a smooth bounded f. [derived]

    u = artanh z follows du = (2-a) tanh u ds + √2 dW; the backward equation is solved by
    Chebyshev collocation, to about 1e-8.

    **Arguments**

    - `function`: acts elementwise on an array of overlaps.
    - `clock`: one number in [0, 20].
    - `overlap0`: z_0, an array or not.
    - `scheme`: "post", "ngpt", "pre" or "peri".

    **Returns** the means, of the shape of `overlap0`.

    **Raises** ValueError for arguments out of range.

    **Example**

    >>> import numpy as np
    >>> from rqf_jax.theory import normalisation
    >>> round(float(normalisation.wide_expectation(np.square, 1.0, 0.0, "pre")), 3)
    0.584
    """
    s, slope = scalar(nonnegative, "clock", clock), 2 - INDEX[_scheme("scheme", scheme)]
    check("clock", s, s <= 20, "be at most 20")
    start = np.asarray(overlaps("overlap0", overlap0))
    inside = np.abs(start) < 1
    u = np.arctanh(np.where(inside, start, 0.0))
    reach = float(np.max(np.abs(u), initial=0.0)) + slope * s + 9 * math.sqrt(2 * s) + 4
    size = 64 + 2 * math.ceil(5 * reach)
    # Chebyshev points and their matrix of derivatives (Trefethen, recalled).
    angle = np.pi * np.arange(size + 1) / size
    x = np.cos(angle)
    edge = np.where((np.arange(size + 1) % size) == 0, 2.0, 1.0) * (-1.0) ** np.arange(size + 1)
    apart = x[:, None] - x + np.eye(size + 1)
    derivative = np.outer(edge, 1 / edge) / apart
    derivative = (derivative - np.diag(derivative.sum(1))) / reach
    generator = derivative @ derivative + slope * np.tanh(reach * x)[:, None] * derivative
    # f is flat at the ends, where it stays what it is.
    generator[[0, -1]] = 0
    values = expm(s * generator) @ np.asarray(function(np.tanh(reach * x)), float)
    # Barycentric interpolation.
    weights = edge / np.where(np.abs(edge) == 2, 4.0, 1.0)
    distance = u[..., None] / reach - x
    hit = distance == 0
    share = np.where(hit.any(-1, keepdims=True), hit, weights / np.where(hit, 1.0, distance))
    means = np.sum(share * values, -1) / np.sum(share, -1)
    return np.where(inside, means, function(start))[()]


# ---- exponents near consensus


@finite
def mean_squared_cosine(dim: int, slope: Real = 1.0) -> Values:
    """E c² of the density ∝ (1-c²)^{(n-3)/2}/(1 + k'(1-c²)), c in (-1, 1), n ≥ 3. [derived]

    c is the cosine between a token and its distance to the other, close one; `slope` is
    k' = κ'(1)/κ(1). For k' = 1 (matrix noise) about 1/n: .29289, .13870 at n = 4, 8.
    """
    n, k = count("dim", dim, minimum=3), np.asarray(nonnegative("slope", slope))
    # c = sin x, on panels that shrink with the width n^{-1/2}.
    edges = np.concatenate([[0.0], np.geomspace(1e-3 * n**-0.5, np.pi / 2, 60)])
    x = nodes(edges)
    weight = np.exp((n - 2) * np.log(np.cos(x))) / (1 + k[..., None, None] * np.cos(x) ** 2)
    mass, moment = (_integral(edges, weight * f) for f in (1.0, np.sin(x) ** 2))
    return moment / mass


def _integral(edges: np.ndarray, values: np.ndarray) -> Values:
    return totals(edges, values).sum(-1)


@finite
def exponent(scheme: str, dim: int, slope: Real = 1.0) -> Values:
    """λ with E ln φ ~ λs for two close tokens, per clock ds = κ(1)dt/r², every n ≥ 3. [derived]

        post: [(n-3)k' - (n-1)]/2,   pre: ((n-2)/2)[k' E(1-c²) - 1],

    "ngpt" and "peri" the same with k'(n-1)/(n-2); `slope` is k' and c has the law of
    `mean_squared_cosine`. For matrix noise, k' = 1: post -1, ngpt -(n-1)/2(n-2), pre about -1/2,
    and peri slightly above 0: its tokens do not synchronise at all.
    """
    kind, n = _scheme("scheme", scheme), count("dim", dim, minimum=3)
    k = np.asarray(nonnegative("slope", slope))
    if kind in ("ngpt", "peri"):
        k = k * ((n - 1) / (n - 2))
    if kind in ("post", "ngpt"):
        return ((n - 3) * (k - 1) - 2) / 2
    return (n - 2) / 2 * (k - 1 - k * mean_squared_cosine(n, k))


@finite
def matrix_exponent(*, symmetric: Real, antisymmetric: Real, dim: int) -> float:
    """λ per clock dt/r² of close tokens under Pre-LN and matrix noise of any strengths. [derived]

    y = η/φ has the density (1/v) exp ∫ 2b/v with v = 2σ_s² + 3σ_s²y² + αy⁴ and
    b = y[2σ_s² - D - (n-4)αy²/2], and λ = -σ_s² + ((n-3)α/2) E y². Divide by D = (n-1)α - σ_s² for
    the exponent in ln t. Raises ValueError unless σ_s > 0 and dim ≥ 3.
    """
    square = scalar(positive, "symmetric", symmetric) ** 2
    alpha = (square + scalar(nonnegative, "antisymmetric", antisymmetric) ** 2) / 2
    n = count("dim", dim, minimum=3)
    # y = tan x; the mean of ½ ln(1+y²) stands still, which makes the integrand bounded.
    edges = np.concatenate([[0.0], np.geomspace(1e-4 * n**-0.5, np.pi / 4, 80)])
    edges = np.concatenate([edges, np.pi / 2 - edges[-2::-1]])
    x = nodes(edges)
    cosine, sine = np.cos(x), np.sin(x)
    # v cos⁴x and b cos³x, finite at y = ∞.
    v = square * cosine**2 * (2 * cosine**2 + 3 * sine**2) + alpha * sine**4
    b = (3 * square - (n - 1) * alpha) * cosine**2 - (n - 4) * alpha / 2 * sine**2
    rate = 2 * b * sine / np.maximum(cosine, 1e-300) / v
    begin = np.concatenate([[0.0], np.cumsum(totals(edges, rate))[:-1]])
    weight = np.exp(begin[:, None] + primitives(edges, rate)) * cosine**2 / v
    term = (n - 3) * alpha / 2 * sine**2 + b * sine**2
    term = term + v / 2 * (cosine**2 - sine**2)
    # Each of the three is of order y² by itself, and their sum is bounded.
    mean = totals(edges, weight * term / np.maximum(cosine, 1e-300) ** 2).sum()
    return float(-square + mean / totals(edges, weight).sum())


@finite
def depth_exponent(dim: int) -> Values:
    """-E[c²]/2: E ln sin φ ≃ -E[c²]/2 · ln t under Pre-LN and iid matrices. [derived]

    -.1464, -.0693, -.0331 at n = 4, 8, 16, about -1/2n: synchronisation is algebraic in depth. From
    orthogonal tokens slopes start near -1/(n-2) and fall slowly to it.
    """
    return -mean_squared_cosine(dim) / 2


@finite
def decayed_rate(decay: Real, dim: int) -> Values:
    """λE[c²]: the rate in time at which ln sin φ falls if the stream decays at rate λ. [derived]

    Decay, x ← (1 - λh)x + …, keeps the radius stationary and makes synchronisation exponential.
    """
    return nonnegative("decay", decay) * mean_squared_cosine(dim)
