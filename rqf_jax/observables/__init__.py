"""Observables: pure functions of ONE state `x` (tokens, dim), rows unit vectors, to an array.

They are differentiable and know nothing of members or times: `Trajectories.observe` or `jax.vmap`
maps them, and `simulate(..., save=f)` stores f(x) in place of the state.
"""

from .order import (
    effective_rank as effective_rank,
    nematic_order as nematic_order,
    polar_order as polar_order,
)
from .overlaps import (
    angles as angles,
    cluster_signs as cluster_signs,
    gram as gram,
    log_det_gram as log_det_gram,
    overlaps as overlaps,
)
