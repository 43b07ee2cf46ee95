"""Itô coefficients of tokens on the sphere without sampling, from an enumerated noise.

A Gaussian displacement of tokens is a list of vectors: the m-th independent normal number moves the
tokens by `moves[m]`, shape (tokens, dim). The drift and the noise of x <- normalise(x + √h ξ) are
then sums over the list.
"""

import numpy as np


def unit_tokens(tokens, dim, seed=0):
    x = np.random.default_rng(seed).standard_normal((tokens, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def matrix_moves(x, basis):
    """Displacements E_m x_a of a matrix noise Σ_m E_m dW_m."""
    return np.einsum("mij,aj->mai", basis, x)


def full_basis(dim):
    return np.eye(dim * dim).reshape(-1, dim, dim)


def symmetric_basis(dim):
    """Matrices E_m with dQ = Σ_m E_m dW_m, Q = (B + Bᵀ)/2."""
    unit = np.eye(dim)
    basis = [np.outer(e, e) for e in unit]
    for i in range(dim):
        for j in range(i):
            basis.append((np.outer(unit[i], unit[j]) + np.outer(unit[j], unit[i])) / np.sqrt(2))
    return np.array(basis)


def field_moves(covariance, dim):
    """Displacements of fields with E F_i(x_a) F_j(x_b) = covariance[a, b] δ_ij."""
    root = np.linalg.cholesky(covariance)
    return np.einsum("am,ij->miaj", root, np.eye(dim)).reshape(-1, len(covariance), dim)


def ito(x, moves):
    """Itô drift (tokens, dim) and noise (m, tokens, dim) of the step above."""
    radial = np.einsum("ai,mai->ma", x, moves)[..., None]
    tangent = moves - radial * x
    squares = np.sum(tangent**2, axis=-1, keepdims=True)
    return (-radial * tangent - squares * x / 2).sum(0), tangent


def gram_ito(x, moves):
    """Drift (a, b) and covariance (a, b, c, d) of the Gram matrix of `x`."""
    drift, noise = ito(x, moves)
    half = np.einsum("mai,bi->mab", noise, x)
    half = half + half.transpose(0, 2, 1)
    quadratic = np.einsum("mai,mbi->ab", noise, noise)
    return drift @ x.T + x @ drift.T + quadratic, np.einsum("mab,mcd->abcd", half, half)


def overlap_ito(x, moves):
    """Drift and variance per unit time of the overlap of the first two tokens."""
    drift, covariance = gram_ito(x, moves)
    return drift[0, 1], covariance[0, 1, 0, 1]
