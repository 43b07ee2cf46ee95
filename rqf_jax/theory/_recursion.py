"""The steps of the recursion of `theory.initialisation`, which random tokens share."""

import math

import numpy as np
from jaxtyping import Float

from ._architectures import Architecture

Gram = Float[np.ndarray, "tokens tokens"]


def cosines(k: Gram) -> Gram:
    """Z = K/√(K_aa K_bb)."""
    root = np.sqrt(np.diag(k))
    return k / np.outer(root, root)


def added(k: Gram, branch: Gram, norm: str) -> Gram:
    """The stream with a branch added, in one of the three schemes."""
    if norm == "peri":
        return k + cosines(branch)
    return cosines(k + branch) if norm == "post" else k + branch


def attention(
    z: Gram, model: Architecture, draws: int, rng: np.random.Generator, rotate: np.ndarray | None
) -> tuple[Gram, Float[np.ndarray, " tokens"]]:
    """The mean over heads of P Z Pᵀ, and of the entropy's distance from its largest value."""
    n = len(z)
    mask = _mask(n, model)
    uniform = mask / mask.sum(1, keepdims=True)
    if draws == 0:
        mean = np.einsum("ij,jk,ik->i", uniform, z, uniform)
        return uniform @ z @ uniform.T, model.score_variance * np.maximum(1 - mean, 0.0) / 2
    spread = root(z)
    # Scores q·k/√(head size) of variance τ² where the cosine is 1.
    scale = math.sqrt(model.score_variance / model.head_dim)
    total, deficit = np.zeros((n, n)), np.zeros(n)
    for _ in range(model.heads * draws):
        query, key = (spread @ rng.standard_normal((n, model.head_dim)) for _ in range(2))
        if rotate is not None:
            query, key = (rotated(x, rotate) for x in (query, key))
        weights = softmax(scale * query @ key.T, model)
        total += weights @ z @ weights.T
        # Σ p ln(p/uniform) ≥ 0, without the cancellation of two entropies.
        ratio = np.where(mask, weights / np.where(mask, uniform, 1.0), 1.0)
        deficit += np.sum(weights * np.log(np.maximum(ratio, 1e-300)), 1)
    return total / (model.heads * draws), deficit / (model.heads * draws)


def _mask(tokens: int, model: Architecture) -> np.ndarray:
    every = np.ones((tokens, tokens), bool)
    return np.tril(every) if model.causal else every


def softmax(scores: np.ndarray, model: Architecture) -> Gram:
    """Attention weights of scores, of the tokens that may be seen."""
    scores = np.where(_mask(len(scores), model), scores, -np.inf)
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def root(k: Gram) -> Gram:
    """A matrix R with R Rᵀ = K, of a positive semidefinite K."""
    values, vectors = np.linalg.eigh(k)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def rotary_angles(tokens: int, model: Architecture) -> Float[np.ndarray, "tokens planes"]:
    """Angles by which positions turn the planes of a head, shape (tokens, planes)."""
    planes = int(model.head_dim * model.rotary) // 2
    frequency = model.rotary_base ** (-np.arange(planes) / max(planes, 1))
    return np.arange(tokens)[:, None] * frequency


def rotated(x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """The first 2·planes coordinates turned in planes (m, planes + m)."""
    m = angle.shape[1]
    a, b, rest = x[:, :m], x[:, m : 2 * m], x[:, 2 * m :]
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.concatenate([a * cosine - b * sine, b * cosine + a * sine, rest], 1)
