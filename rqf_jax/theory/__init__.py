"""Closed forms with their sources, in float64 NumPy: what simulations are compared with."""

from . import (
    anisotropic,
    annealed,
    attention,
    circle,
    dyson,
    fields,
    forcing,
    homogenised,
    initialisation,
    learning,
    levels,
    linear_networks,
    mamba,
    meanfield,
    multistability,
    normalisation,
    outliers,
    private_noise,
    spectra,
    sphere,
    splits,
    value_noise,
)

__all__ = [
    "anisotropic",
    "annealed",
    "attention",
    "circle",
    "dyson",
    "fields",
    "forcing",
    "homogenised",
    "initialisation",
    "learning",
    "levels",
    "linear_networks",
    "mamba",
    "meanfield",
    "multistability",
    "normalisation",
    "outliers",
    "private_noise",
    "spectra",
    "sphere",
    "splits",
    "value_noise",
]


def __dir__() -> list[str]:
    return __all__
