"""Closed forms with their sources, in float64 NumPy: what simulations are compared with."""

from . import (
    anisotropic as anisotropic,
    annealed as annealed,
    attention as attention,
    circle as circle,
    fields as fields,
    forcing as forcing,
    homogenised as homogenised,
    mamba as mamba,
    meanfield as meanfield,
    multistability as multistability,
    private_noise as private_noise,
    sphere as sphere,
    splits as splits,
    value_noise as value_noise,
)
