"""What tokens do: exponents, equilibria, attractors, invariant laws, clusters, and how long."""

from .equilibria import (
    Equilibria as Equilibria,
    equilibrium as equilibrium,
    find_equilibria as find_equilibria,
    gradient_defect as gradient_defect,
    stability as stability,
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
