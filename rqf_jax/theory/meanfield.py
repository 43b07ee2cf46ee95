"""Infinitely many tokens under unnormalised attention and private noise: closed forms.

    dx_i = κ P N^{-1} Σ_j e^{β<x_i,x_j>} x_j dt + √(2D) P ∘dW_i,   N → ∞

`coupling` is κ, `noise` is D (one-point generator D Δ), `beta` is β, `dim` is n. The uniform law is
stationary; its first harmonic, the mean token, becomes unstable as D falls to D_c.

Sources. Mun and Rosenzweig, arXiv:2606.05140 and 2604.16288 (abstracts read), have K_# and β_*;
Shalova and Schlichting, arXiv:2412.14813 (abstract read), the bifurcation branches. D_c and the
stationary law at β = 0 were derived for this library; all are checked in its tests.
"""

import math
from functools import partial

import numpy as np
from scipy.optimize import root_scalar

from ._contract import finite
from ._numbers import Real, count, nonnegative, positive, real
from ._special import Values, bessel_ratio, log_hypergeometric


@finite
def critical_noise(*, beta: Real, coupling: Real = 1.0, dim: int) -> Values:
    """D_c = κ Γ(n/2) 2^{n/2-1} β^{-n/2} I_{n/2}(β) = (κ/n) ₀F₁(; n/2+1; β²/4); κ/n at β = 0.

    Raises ValueError unless dim ≥ 2 and β, κ are finite, and where D_c is above 1e308: β > 700.
    """
    n = count("dim", dim, minimum=2)
    return real("coupling", coupling) / n * np.exp(log_hypergeometric(n / 2, real("beta", beta)))


@finite
def growth_rate(*, beta: Real, coupling: Real = 1.0, noise: Real, dim: int) -> Values:
    """(n-1)(D_c - D): rate at which a small mean token grows from the uniform law.

    **Arguments** `beta`: β, any real number; `coupling`: the strength λ ≥ 0 of attention; `noise`:
    D ≥ 0; `dim`: n, an integer of at least 2. **Returns** a number or an array. **Raises**
    ValueError for arguments out of range. **Example**

    >>> print(np.round(rqf.theory.meanfield.growth_rate(beta=1.0, noise=0.1, dim=3), 6))
    0.535759
    """
    critical = critical_noise(beta=beta, coupling=coupling, dim=dim)
    return (dim - 1) * (critical - nonnegative("noise", noise))


@finite
def critical_coupling(*, beta: Real, dim: int) -> Values:
    """K_# = β^{n/2}/(2^{n/2} Γ(n/2) I_{n/2}(β)) = κ/2D_c, of arXiv:2606.05140.

    Their free energy carries no factor 1/2 before the interaction, hence the half. The uniform law
    minimises it up to K_# if β ≤ β_* (`tricritical_beta`).
    """
    n = count("dim", dim, minimum=2)
    return n / 2 * np.exp(-log_hypergeometric(n / 2, real("beta", beta)))


@finite
def tricritical_beta(dim: int) -> float:
    """β_*, the root of I_{n/2+1}(β)/I_{n/2}(β) = 1/n: continuous transition below it.

    For β > β_* the transition is discontinuous. Raises ValueError unless dim ≥ 2.
    """
    n = count("dim", dim, minimum=2)

    def excess(beta: float) -> float:
        return float(n * bessel_ratio(n / 2, beta) - 1)

    # β_* falls from 2.45 at n = 2 to 1.
    return float(root_scalar(excess, bracket=(0.5, 3.0), xtol=1e-13).root)


@finite
def order_parameter(*, coupling: Real = 1.0, noise: Real, dim: int) -> Values:
    """m = |∫ x dμ| of the stationary von Mises-Fisher law at β = 0; 0 for D ≥ κ/n.

    The positive root of m = I_{n/2}(κm/D)/I_{n/2-1}(κm/D). Raises ValueError unless κ ≥ 0, D > 0
    and dim ≥ 2.
    """
    n = count("dim", dim, minimum=2)
    strength = np.asarray(nonnegative("coupling", coupling) / positive("noise", noise))
    result = np.zeros(strength.shape)
    for index in np.ndindex(strength.shape):
        k = float(strength[index])
        if k <= n:
            continue
        if k > 1e300:
            result[index] = 1.0
            continue
        # The two first terms of the ratio's series bound the root from below.
        distance = (k - n) / k
        leading = n / k * math.sqrt(distance * (n + 2) / n)
        if distance < 1e-10:  # the next term is below the rounding of k
            result[index] = leading
            continue
        lower = min(leading / 2, 0.5)
        excess = partial(_excess, k, n)
        result[index] = root_scalar(excess, bracket=(lower, 1.0), xtol=1e-15).root
    return result[()]


@finite
def resultant(concentration: Real, dim: int) -> Values:
    """I_{n/2}(k)/I_{n/2-1}(k), the mean length of the von Mises-Fisher law e^{k<x,μ>}, k ≥ 0."""
    n, k = count("dim", dim, minimum=2), nonnegative("concentration", concentration)
    return bessel_ratio(n / 2 - 1, k)


def _excess(strength: float, dim: int, order: float) -> float:
    return float(resultant(strength * order, dim)) - order
