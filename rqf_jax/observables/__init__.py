"""Observables: pure functions of ONE state `x` to an array.

A state is tokens (tokens, dim) with unit rows, a weight matrix, or the spectrum of one.

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
from .spectra import (
    gaps as gaps,
    hermitian as hermitian,
    hermitian_spectrum as hermitian_spectrum,
    matrix_function as matrix_function,
    outlier_overlap as outlier_overlap,
    power_sums as power_sums,
    singular_overlaps as singular_overlaps,
    singular_values as singular_values,
    spacing_ratios as spacing_ratios,
    spectrum as spectrum,
    stable_rank as stable_rank,
)
