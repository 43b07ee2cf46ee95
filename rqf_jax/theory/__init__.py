"""Closed forms with their sources, in float64 NumPy: what simulations are compared with."""

from . import (
    anisotropic as anisotropic,
    annealed as annealed,
    attention as attention,
    circle as circle,
    dyson as dyson,
    fields as fields,
    forcing as forcing,
    homogenised as homogenised,
    learning as learning,
    levels as levels,
    linear_networks as linear_networks,
    mamba as mamba,
    meanfield as meanfield,
    multistability as multistability,
    outliers as outliers,
    private_noise as private_noise,
    spectra as spectra,
    sphere as sphere,
    splits as splits,
    value_noise as value_noise,
)
