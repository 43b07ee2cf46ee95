"""Observables: pure functions of ONE state `x` (tokens, dim), rows unit vectors, to an array.

They are differentiable and know nothing of members or times: `Trajectories.observe` or `jax.vmap`
maps them, and `simulate(..., save=f)` stores f(x) in place of the state.
"""

from .order import nematic_order as nematic_order
from .order import polar_order as polar_order
from .overlaps import angles as angles
from .overlaps import cluster_signs as cluster_signs
from .overlaps import gram as gram
from .overlaps import log_det_gram as log_det_gram
from .overlaps import overlaps as overlaps
