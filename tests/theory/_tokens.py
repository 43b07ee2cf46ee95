"""Tokens with given overlaps, for several files of tests."""

import math

import numpy as np


def tokens_of(gram, dim):
    """Tokens in R^dim with a given nonsingular Gram matrix."""
    return np.pad(np.linalg.cholesky(gram), ((0, 0), (0, dim - len(gram))))


def pair_gram(angle):
    return np.array([[1, np.cos(angle)], [np.cos(angle), 1]])


def equal_gram(tokens, overlap):
    return np.full((tokens, tokens), overlap) + (1 - overlap) * np.eye(tokens)


def pair(overlap, dim):
    x = np.zeros((2, dim))
    x[0, 0], x[1, 0], x[1, 1] = 1, overlap, math.sqrt(1 - overlap**2)
    return x
