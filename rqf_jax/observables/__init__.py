"""Observables: pure functions of ONE state `x` to an array.

A state is tokens (tokens, dim), a weight matrix, or the spectrum of one. Rows of tokens are unit
vectors, except for `radii`, `directions`, `cosines` and `log_radius_ratio`.

They are differentiable and know nothing of members or times: `Trajectories.observe` or `jax.vmap`
maps them, and `simulate(..., save=f)` stores f(x) in place of the state.

An infinite entry of a state counts as NaN, and every number that is made of a NaN is NaN, signs of
clusters and ranks included; numbers of other tokens or eigenvalues alone keep their values.
"""

from .logits import largest_logit
from .order import (
    effective_rank,
    nematic_order,
    polar_order,
)
from .overlaps import (
    angles,
    cluster_signs,
    gram,
    log_det_gram,
    overlaps,
)
from .radii import (
    cosines,
    directions,
    log_radius_ratio,
    radii,
)
from .spectra import (
    gaps,
    hermitian,
    hermitian_spectrum,
    matrix_function,
    outlier_overlap,
    power_sums,
    singular_overlaps,
    singular_values,
    spacing_ratios,
    spectrum,
    stable_rank,
)

__all__ = [
    "angles",
    "cluster_signs",
    "cosines",
    "directions",
    "effective_rank",
    "gaps",
    "gram",
    "hermitian",
    "hermitian_spectrum",
    "largest_logit",
    "log_det_gram",
    "log_radius_ratio",
    "matrix_function",
    "nematic_order",
    "outlier_overlap",
    "overlaps",
    "polar_order",
    "power_sums",
    "radii",
    "singular_overlaps",
    "singular_values",
    "spacing_ratios",
    "spectrum",
    "stable_rank",
]


def __dir__() -> list[str]:
    return __all__
