"""The map of Lines of Thought."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ..._arguments import integer
from ._abstract import AbstractMap


class LinesOfThought(AbstractMap):
    """x' = mean' + Σ_k u'_k (s'_k/s_k) <u_k, x - mean>, from the singular vectors of both clouds.

    The `rank` largest directions are matched in order, and the rest of a token stays. It matches
    clouds, not tokens, and singular vectors of few tokens are not determined: with fewer tokens
    than (gap of singular values)⁻² it is worse than no map, also where the flow is linear, while
    `LinearFlow` is not. [derived; the map is read in Sarfati et al., arXiv:2410.01545]
    """

    rank: int = eqx.field(static=True)

    def __init__(self, rank: int = 20):
        self.rank = integer("rank", rank)

    @property
    def name(self) -> str:
        """The rival in tables."""
        return f"lines of thought, rank {self.rank}"

    def predict(
        self,
        before: Float[np.ndarray, "seen dim"],
        after: Float[np.ndarray, "seen dim"],
        new: Float[np.ndarray, "new dim"],
    ) -> Float[np.ndarray, "new dim"]:
        """The tokens `new` after the layer."""
        middle, after_middle = before.mean(0), after.mean(0)
        rows, sizes, basis = np.linalg.svd(before - middle, full_matrices=False)
        after_rows, after_sizes, turned = np.linalg.svd(after - after_middle, full_matrices=False)
        rank = min(self.rank, sizes.size - 1, int(np.sum(sizes > 1e-12 * sizes[:1].sum())))
        signs = np.sign(np.sum(rows[:, :rank] * after_rows[:, :rank], axis=0))
        parts = (new - middle) @ basis[:rank].T
        moved = parts * signs * after_sizes[:rank] / sizes[:rank]
        rest = new - middle - parts @ basis[:rank]
        return after_middle + moved @ turned[:rank] + rest
