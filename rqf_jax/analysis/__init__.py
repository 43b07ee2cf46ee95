"""Analysis of ensembles: exponents, equilibria, attractors, invariant laws, clusters, times.

And of spectra of weights: levels, their neighbours, and the bulk.
"""

from . import curvature, surrogates
from ._dictionary import Monomials
from .activations import ActivationFit, fit_activation_curve
from .attractors import (
    antipodal_pair,
    attractor_distances,
    centre,
    common_noise,
    dispersion,
    pullback,
)
from .clusters import ClusterCount, persistence
from .description import SpectrumDescription, describe_spectrum
from .equilibria import (
    Equilibria,
    equilibrium,
    find_equilibria,
    gradient_defect,
    stability,
)
from .forgetting import StabilityGap, stability_gap
from .invariant import (
    ChiSquareTest,
    bingham,
    occupancy,
    rayleigh,
    sign_pattern,
    uniformity,
)
from .koopman import KoopmanModes, koopman_modes
from .levels import (
    MarchenkoPasturFit,
    TailExponent,
    fit_marchenko_pastur,
    mean_spacing_ratio,
    number_variance,
    tail_exponent,
    unfold,
)
from .lyapunov import (
    LyapunovSpectrum,
    chord,
    kaplan_yorke_dimension,
    line_distance,
    lyapunov_spectrum,
    two_point_exponent,
)
from .patterns import cluster_sizes, pattern
from .sensitivity import learning_rate_sensitivity
from .sparse import SparseDrift, SparseDynamics, sparse_dynamics
from .survival import (
    Durations,
    RateEstimate,
    SurvivalCurve,
    exponential_rate,
    first_above,
    first_below,
    kaplan_meier,
)

__all__ = [
    "ActivationFit",
    "ChiSquareTest",
    "ClusterCount",
    "Durations",
    "Equilibria",
    "KoopmanModes",
    "LyapunovSpectrum",
    "MarchenkoPasturFit",
    "Monomials",
    "RateEstimate",
    "SparseDrift",
    "SparseDynamics",
    "SpectrumDescription",
    "StabilityGap",
    "SurvivalCurve",
    "TailExponent",
    "antipodal_pair",
    "attractor_distances",
    "bingham",
    "centre",
    "chord",
    "cluster_sizes",
    "common_noise",
    "curvature",
    "describe_spectrum",
    "dispersion",
    "equilibrium",
    "exponential_rate",
    "find_equilibria",
    "first_above",
    "first_below",
    "fit_activation_curve",
    "fit_marchenko_pastur",
    "gradient_defect",
    "kaplan_meier",
    "kaplan_yorke_dimension",
    "koopman_modes",
    "learning_rate_sensitivity",
    "line_distance",
    "lyapunov_spectrum",
    "mean_spacing_ratio",
    "number_variance",
    "occupancy",
    "pattern",
    "persistence",
    "pullback",
    "rayleigh",
    "sign_pattern",
    "sparse_dynamics",
    "stability",
    "stability_gap",
    "surrogates",
    "tail_exponent",
    "two_point_exponent",
    "unfold",
    "uniformity",
]


def __dir__() -> list[str]:
    return __all__
