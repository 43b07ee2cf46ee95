"""The equations of the papers, a few lines each.

Every model is a function from parameters to an `SDE`; its docstring names the paper's clock.
"""

from typing import Any

from ._sde import SDE
from .drifts import NoDrift
from .manifolds import Sphere
from .noises import IsotropicNoise


def random_quadratic_form(sigma: Any) -> SDE:
    """Tokens on the gradient flow of a random quadratic form, the same for all.

        dX_a = -sigma P_{X_a} ∂Q X_a,   Q = (B + Bᵀ)/2   (Stratonovich)

    Tokens synchronise up to sign by the common noise, without attention: sin θ of every pair
    decays as exp(-sigma² t). `sigma` is a scalar ≥ 0 and sigma² variance per unit time.

    Clock: with sigma = √2 one token is a standard Brownian motion on the sphere (generator Δ/2),
    the clock of Shalova, arXiv:2608.16664 and, by its citations, of Engel & Shalova,
    arXiv:2603.06187, whose equation this is. Raises ValueError if sigma < 0.
    """
    return SDE(NoDrift(), IsotropicNoise(symmetric=sigma, antisymmetric=0.0), Sphere())
