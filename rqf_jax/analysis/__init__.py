"""What tokens do: exponents, equilibria, attractors, invariant laws, clusters, and how long.

And what spectra of weights do: levels, their neighbours, and the bulk.
"""

from .attractors import (
    antipodal_pair as antipodal_pair,
    attractor_distances as attractor_distances,
    centre as centre,
    common_noise as common_noise,
    dispersion as dispersion,
    pullback as pullback,
)
from .clusters import ClusterCount as ClusterCount, persistence as persistence
from .equilibria import (
    Equilibria as Equilibria,
    equilibrium as equilibrium,
    find_equilibria as find_equilibria,
    gradient_defect as gradient_defect,
    stability as stability,
)
from .invariant import (
    ChiSquareTest as ChiSquareTest,
    bingham as bingham,
    occupancy as occupancy,
    rayleigh as rayleigh,
    sign_pattern as sign_pattern,
    uniformity as uniformity,
)
from .levels import (
    MarchenkoPasturFit as MarchenkoPasturFit,
    TailExponent as TailExponent,
    fit_marchenko_pastur as fit_marchenko_pastur,
    mean_spacing_ratio as mean_spacing_ratio,
    number_variance as number_variance,
    tail_exponent as tail_exponent,
    unfold as unfold,
)
from .lyapunov import (
    LyapunovSpectrum as LyapunovSpectrum,
    chord as chord,
    kaplan_yorke_dimension as kaplan_yorke_dimension,
    line_distance as line_distance,
    lyapunov_spectrum as lyapunov_spectrum,
    two_point_exponent as two_point_exponent,
)
from .patterns import cluster_sizes as cluster_sizes, pattern as pattern
from .survival import (
    Durations as Durations,
    RateEstimate as RateEstimate,
    SurvivalCurve as SurvivalCurve,
    exponential_rate as exponential_rate,
    first_above as first_above,
    first_below as first_below,
    kaplan_meier as kaplan_meier,
)
