"""What tokens do: exponents, equilibria, attractors, invariant laws, clusters, and how long."""

from .lyapunov import (
    LyapunovSpectrum as LyapunovSpectrum,
    chord as chord,
    kaplan_yorke_dimension as kaplan_yorke_dimension,
    line_distance as line_distance,
    lyapunov_spectrum as lyapunov_spectrum,
    two_point_exponent as two_point_exponent,
)
