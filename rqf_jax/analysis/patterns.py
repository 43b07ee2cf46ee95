"""The patterns in which tokens come to rest: which of the known classes, and how large clusters."""

from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.sparse.csgraph import connected_components

from .._arguments import data, real

TOLERANCE = 1e-6
"""On cosines. A looser one takes a two-cluster state near an antipodal one for antipodal: with
1e-3, asymmetric two-cluster equilibria of attention are mislabelled (measured)."""


def pattern(x: Any, *, tolerance: float = TOLERANCE) -> str:
    """The class of a configuration of unit tokens (tokens, dim).

    - "consensus": all in one point;
    - "bipartite": in two antipodal points;
    - "clustering": in 2, …, N-1 points otherwise;
    - "polygonal": the corners of a regular polygon in a plane, N ≥ 3;
    - "other": none of these.

    Two tokens are in one point if their cosine is at least 1 - `tolerance`; the classes are those
    of Altafini, arXiv:2511.11553 (abstract read; the exact definitions are ours). Bring the state
    to rest first (`equilibrium`). Raises ValueError if `x` is not one state of unit tokens.
    """
    x, tolerance = _tokens(x), real("tolerance", tolerance, minimum=0, maximum=1)
    cosines = x @ x.T
    sizes = cluster_sizes(x, tolerance=tolerance)
    if len(sizes) == 1:
        return "consensus"
    if np.all(np.abs(cosines) >= 1 - tolerance):
        return "bipartite"
    if len(sizes) < len(x):
        return "clustering"
    corners = np.sort(np.cos(2 * np.pi * np.arange(len(x)) / len(x)))
    planar = np.sum(np.linalg.svd(x, compute_uv=False)[2:] ** 2) <= tolerance * len(x)
    regular = np.all(np.abs(np.sort(cosines, axis=1) - corners) <= tolerance)
    return "polygonal" if planar and regular else "other"


def cluster_sizes(x: Any, *, tolerance: float = TOLERANCE) -> tuple[int, ...]:
    """The number of tokens that share each point, the largest cluster first; they sum to N.

    Raises ValueError if `x` is not one state of unit tokens.
    """
    x, tolerance = _tokens(x), real("tolerance", tolerance, minimum=0, maximum=1)
    count, labels = connected_components(x @ x.T >= 1 - tolerance, directed=False)
    return tuple(sorted((int(k) for k in np.bincount(labels, minlength=count)), reverse=True))


def _tokens(x: Any) -> Float[np.ndarray, "tokens dim"]:
    x = data("x", x)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"`x` must be one state (tokens, dim); got shape {x.shape}.")
    defect = np.max(np.abs(np.linalg.norm(x, axis=1) - 1))
    if defect > 1e-5:
        raise ValueError(f"`x` must have unit tokens, to 1e-05; got one that is off by {defect:g}.")
    return x
