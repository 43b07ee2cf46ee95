"""Closed forms with their sources, in float64 NumPy: what simulations are compared with."""

from . import (
    dyson as dyson,
    levels as levels,
    linear_networks as linear_networks,
    outliers as outliers,
    spectra as spectra,
    sphere as sphere,
)
