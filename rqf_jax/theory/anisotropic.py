"""One token under anisotropic independent matrix noise: its stationary law on the sphere.

    x ← normalise(x + √h A x),  A = C^{1/2} B D^{1/2},  B of independent standard normals,  h → 0,

with positive definite matrices `rows` = C, the covariance of the rows' index, and `columns` = D.
In the Itô limit the drift is -(xᵀDx)[P C x + ½ tr(PC) x] with the covariance (xᵀDx) P C P, and the
stationary density is proportional to (xᵀC⁻¹x)^{1-n/2}/(xᵀDx).

With v uniform and x = C^{1/2}v/|C^{1/2}v|, whose density is (det C)^{-1/2} (xᵀC⁻¹x)^{-n/2} (the
angular central Gaussian law, recalled), expectations become averages of ratios of quadratic forms
in v.

The law was derived for this library and is checked in its tests; it was not found elsewhere.
"""

import math

import numpy as np
from jaxtyping import Float

from .._arguments import host
from ._contract import finite
from ._diffusion import WEIGHTS, nodes
from ._numbers import Real, check, square_matrix
from ._rapidity import Values

Matrix = Float[np.ndarray, "dim dim"]


@finite
def drift(x: Real, rows: Real, columns: Real) -> Float[np.ndarray, "*batch dim"]:
    """-(xᵀDx)[P C x + ½ tr(PC) x], the Itô drift at unit vectors `x`, shape (..., dim)."""
    x, c, d = _arguments(x, rows, columns)
    moved = x @ c
    spread = np.sum(x * moved, axis=-1, keepdims=True)
    radial = (np.trace(c) - spread) / 2
    return -np.sum(x * (x @ d), axis=-1, keepdims=True) * (moved - spread * x + radial * x)


@finite
def density(x: Real, rows: Real, columns: Real) -> Values:
    """Stationary density at unit vectors `x`, shape (..., dim), relative to the uniform law.

    1 everywhere for C and D proportional to the identity, and for n = 2 and such a D with every C.
    Raises ValueError unless C and D are positive definite of the same size n ≥ 2 and |x| = 1.
    """
    x, c, d = _arguments(x, rows, columns)
    solved = np.linalg.solve(c, x[..., None])[..., 0]
    logs = (1 - len(c) / 2) * np.log(np.sum(x * solved, axis=-1)) - np.log(np.sum(x * (x @ d), -1))
    return np.exp(logs - np.linalg.slogdet(c)[1] / 2 - np.log(_inverse_mean(_form(c, d)[0])))


@finite
def second_moment(rows: Real, columns: Real) -> Matrix:
    """Stationary E x xᵀ, shape (dim, dim), trace one to 1e-8, which is checked.

    For n = 2 it is D^{-1/2}/tr D^{-1/2} for every C. For n ≥ 3 it is
    E[yyᵀ/((vᵀCv)(vᵀMv))]/E[1/vᵀMv] with y = C^{1/2}v, M = C^{1/2}DC^{1/2}, v uniform. Feynman's
    1/ab = ∫_0^1 dτ/(τa + (1-τ)b)² and Gaussian integrals leave two integrals over a half line and
    an interval. Raises ValueError where the matrices are too ill-conditioned for float64.
    """
    c, d = _covariances(rows, columns)
    if len(c) == 2:
        values, vectors = np.linalg.eigh(d)
        shares = 1 / np.sqrt(values / values[0])
        return (vectors * (shares / shares.sum())) @ vectors.T
    # Both forms and the moment in units of the largest eigenvalue.
    c, d = c / np.linalg.eigvalsh(c)[-1], d / np.linalg.eigvalsh(d)[-1]
    values, vectors = _form(c, d)
    inner, root = (vectors * values) @ vectors.T, _root(c)
    moment = np.zeros_like(c)
    # The integrand is analytic in τ except beyond the ratio of the forms' extreme values.
    least = 1e-2 * min(values[0], np.linalg.eigvalsh(c)[0])
    ends = np.geomspace(least, 0.5, 12 + math.ceil(-2 * math.log2(least)))
    edges = np.concatenate([[0.0], ends])
    near, weights = nodes(edges), np.diff(edges)[:, None] * WEIGHTS
    for t, weight in zip(near.ravel(), weights.ravel(), strict=True):
        moment += weight * _inverse_square_moment(t * c + (1 - t) * inner)
        moment += weight * _inverse_square_moment((1 - t) * c + t * inner)
    moment = root @ moment @ root / _inverse_mean(values)
    off = abs(np.trace(moment) - 1)
    if not off <= 1e-8:
        raise ValueError(
            f"`rows` and `columns` must be better conditioned: the trace of the moment is off by "
            f"{off:.1g}. Their condition numbers are {np.linalg.cond(c):.3g} and "
            f"{np.linalg.cond(d):.3g}."
        )
    return moment


def _half_line(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Nodes s of the trapezoid rule in ln s on the scales of 1/2`values`, and its spacing."""
    spacing = 0.2
    low, high = math.log(values[-1]), math.log(values[0])
    return np.exp(np.arange(-40 - low, 100 - high, spacing)) / 2, spacing


def _inverse_mean(values: np.ndarray) -> float:
    """E 1/(vᵀMv), v uniform, M of ascending eigenvalues `values`.

    (n-2) ∫_0^∞ det(1 + 2sM)^{-1/2} ds, and det(M)^{-1/2} for n = 2.
    """
    if len(values) == 2:
        return float(1 / math.sqrt(values[0]) / math.sqrt(values[1]))
    s, spacing = _half_line(values)
    logs = np.log1p(2 * s[:, None] * values).sum(1)
    return float((len(values) - 2) * spacing * (s @ np.exp(-logs / 2)))


def _inverse_square_moment(matrix: Matrix) -> Matrix:
    """E vvᵀ/(vᵀMv)², v uniform, n ≥ 3: (n-2) ∫_0^∞ s det(1 + 2sM)^{-1/2} (1 + 2sM)^{-1} ds."""
    values, vectors = np.linalg.eigh(matrix)
    s, spacing = _half_line(np.maximum(values, 1e-300))
    factors = 1 + 2 * s[:, None] * values
    mass = s**2 * np.exp(-np.log(factors).sum(1) / 2)
    return (len(matrix) - 2) * spacing * (vectors * (mass @ (1 / factors))) @ vectors.T


def _root(matrix: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def _form(c: Matrix, d: Matrix) -> tuple[np.ndarray, Matrix]:
    """Ascending eigenvalues and vectors of C^{1/2} D C^{1/2}, as squares of singular values."""
    _, values, vectors = np.linalg.svd(_root(d) @ _root(c))
    return values[::-1] ** 2, vectors[::-1].T


def _positive_definite(name: str, value: Real) -> Matrix:
    matrix = square_matrix(name, value)
    if len(matrix) < 2:
        raise ValueError(f"`{name}` must be at least 2 x 2; got shape {matrix.shape}.")
    skew = np.abs(matrix - matrix.T).max()
    if skew > 1e-5 * np.abs(matrix).max():
        raise ValueError(f"`{name}` must be symmetric; got entries that differ by {skew:.3g}.")
    matrix = (matrix + matrix.T) / 2
    lowest = np.linalg.eigvalsh(matrix)[0]
    if lowest <= 0:
        raise ValueError(f"`{name}` must be positive definite; got an eigenvalue {lowest:.3g}.")
    return matrix


def _covariances(rows: Real, columns: Real) -> tuple[Matrix, Matrix]:
    c, d = _positive_definite("rows", rows), _positive_definite("columns", columns)
    if c.shape != d.shape:
        raise ValueError(f"`columns` must have the shape of `rows`, {c.shape}; got {d.shape}.")
    return c, d


def _arguments(x: Real, rows: Real, columns: Real) -> tuple[np.ndarray, Matrix, Matrix]:
    c, d = _covariances(rows, columns)
    x = host("x", x)
    if x.ndim == 0 or x.shape[-1] != len(c):
        raise ValueError(f"`x` must have shape (..., {len(c)}); got {x.shape}.")
    norm = np.linalg.norm(x, axis=-1)
    check("x", norm, np.abs(norm - 1) <= 1e-5, "have norm 1")
    return x / norm[..., None], c, d
