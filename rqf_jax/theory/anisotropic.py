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

from ._diffusion import NODES, WEIGHTS
from ._numbers import Real, check, square_matrix
from ._rapidity import Values

Matrix = Float[np.ndarray, "dim dim"]


def drift(x: Real, rows: Real, columns: Real) -> Float[np.ndarray, "*batch dim"]:
    """-(xᵀDx)[P C x + ½ tr(PC) x], the Itô drift at unit vectors `x`, shape (..., dim)."""
    x, c, d = _arguments(x, rows, columns)
    moved = x @ c
    spread = np.sum(x * moved, axis=-1, keepdims=True)
    radial = (np.trace(c) - spread) / 2
    return -np.sum(x * (x @ d), axis=-1, keepdims=True) * (moved - spread * x + radial * x)


def density(x: Real, rows: Real, columns: Real) -> Values:
    """Stationary density at unit vectors `x`, shape (..., dim), relative to the uniform law.

    1 everywhere for C and D proportional to the identity, and for n = 2 and such a D with every C.
    Raises ValueError unless C and D are positive definite of the same size n ≥ 2 and |x| = 1.
    """
    x, c, d = _arguments(x, rows, columns)
    quadratic = np.sum(x * np.linalg.solve(c, x[..., None])[..., 0], axis=-1)
    weight = quadratic ** (1 - len(c) / 2) / np.sum(x * (x @ d), axis=-1)
    return weight / (math.sqrt(np.linalg.det(c)) * _inverse_mean(_inner(c, d)))


def second_moment(rows: Real, columns: Real) -> Matrix:
    """Stationary E x xᵀ, shape (dim, dim), trace one; relative error below 1e-9.

    E[yyᵀ/((vᵀCv)(vᵀMv))]/E[1/vᵀMv] with y = C^{1/2}v, M = C^{1/2}DC^{1/2}, v uniform. Feynman's
    1/ab = ∫_0^1 dτ/(τa + (1-τ)b)² and Gaussian integrals leave two integrals over a half line and
    an interval, for n ≥ 3; for n = 2 the average is over the circle.
    """
    c, d = _covariances(rows, columns)
    inner, root = _inner(c, d), _root(c)
    if len(c) == 2:
        v = _circle()
        weights = 1 / (np.sum(v * (v @ c), axis=1) * np.sum(v * (v @ inner), axis=1))
        moment = np.einsum("k,ki,kj->ij", weights, v, v) / len(v)
    else:
        moment = np.zeros_like(c)
        # The integrand is analytic in τ except beyond the ratio of the forms' extreme values.
        edges = np.concatenate([[0.0], np.geomspace(1e-6, 0.5, 12)])
        edges = np.concatenate([edges, 1 - edges[-2::-1]])
        tau = edges[:-1, None] + np.diff(edges)[:, None] * NODES
        weights = np.diff(edges)[:, None] * WEIGHTS
        for t, weight in zip(tau.ravel(), weights.ravel(), strict=True):
            moment += weight * _inverse_square_moment(t * c + (1 - t) * inner)
    return root @ moment @ root / _inverse_mean(inner)


def _half_line(matrix: Matrix) -> tuple[np.ndarray, float]:
    """Nodes s of the trapezoid rule in ln s on the scale of 1/2`matrix`, and its spacing."""
    spacing = 0.2
    scale = 2 * np.trace(matrix) / len(matrix)
    return np.exp(np.arange(-40, 100, spacing)) / scale, spacing


def _inverse_mean(matrix: Matrix) -> float:
    """E 1/(vᵀMv), v uniform: (n-2) ∫_0^∞ det(1 + 2sM)^{-1/2} ds, and det(M)^{-1/2} for n = 2."""
    if len(matrix) == 2:
        return float(np.linalg.det(matrix) ** -0.5)
    values = np.linalg.eigvalsh(matrix)
    s, spacing = _half_line(matrix)
    logs = np.log1p(2 * s[:, None] * values).sum(1)
    return float((len(matrix) - 2) * spacing * (s @ np.exp(-logs / 2)))


def _inverse_square_moment(matrix: Matrix) -> Matrix:
    """E vvᵀ/(vᵀMv)², v uniform, n ≥ 3: (n-2) ∫_0^∞ s det(1 + 2sM)^{-1/2} (1 + 2sM)^{-1} ds."""
    values, vectors = np.linalg.eigh(matrix)
    s, spacing = _half_line(matrix)
    factors = 1 + 2 * s[:, None] * values
    mass = s**2 * np.exp(-np.log(factors).sum(1) / 2)
    return (len(matrix) - 2) * spacing * (vectors * (mass @ (1 / factors))) @ vectors.T


def _circle() -> Float[np.ndarray, "points 2"]:
    angle = 2 * np.pi * np.arange(8192) / 8192
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _root(matrix: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def _inner(c: Matrix, d: Matrix) -> Matrix:
    root = _root(c)
    return root @ d @ root


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
    x = np.asarray(x, float)
    if x.ndim == 0 or x.shape[-1] != len(c):
        raise ValueError(f"`x` must have shape (..., {len(c)}); got {x.shape}.")
    norm = np.linalg.norm(x, axis=-1)
    check("x", norm, np.abs(norm - 1) <= 1e-5, "have norm 1")
    return x / norm[..., None], c, d
