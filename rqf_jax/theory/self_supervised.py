"""Two views with one feature that teach each other: equilibria and their rates.

`inputs` is ρ = E x² > 0, `cross` τ = E y x, and `decay` λ > 0: the flows of
`models.stop_gradient_flow` and, at the same places, `models.ema_flow`. With Δ = τ² - 4ρλ ≥ 0 there
are equilibria of the encoder's length r_{1,2} = (|τ| ∓ √Δ)/2ρ besides the collapse at 0; each is a
sphere of them. Functions compute in float64; a bad argument raises ValueError.

Source: Ponce et al., arXiv:2507.01028 (a detailed summary read); rates derived.
"""

import numpy as np
from jaxtyping import Float

from .._arguments import flag
from ._contract import finite
from ._numbers import Real, check, positive, real, scalar, size


@finite
def lengths(inputs: float, cross: float, decay: float) -> tuple[float, float]:
    """(r₁, r₂), the lengths of the encoder at the equilibria: a saddle, and a stable one.

    Raises ValueError where τ² < 4ρλ: there all weights collapse.
    """
    rho, tau, root = _root(inputs, cross, decay)
    # The product of the two is λ/ρ.
    high = (tau + root) / (2 * rho)
    return float(scalar(positive, "decay", decay) / rho / high), float(high)


@finite
def spectrum(
    inputs: float, cross: float, decay: float, *, units: int, stable: bool = True
) -> Float[np.ndarray, " modes"]:
    """All n + n² rates of the stop-gradient flow at an equilibrium, ascending.

    ∓r√Δ along the encoder, - at the stable one; 0 (n - 1 times), for turns of the encoder;
    -(ρr² + λ) (n - 1 times), -2λ (n times) and -λ ((n - 1)² times).

    **Arguments** `inputs`: ρ > 0; `cross`: τ; `decay`: λ > 0; `units`: n, an integer; `stable`:
    take the longer encoder, or the saddle. **Returns** an array. **Raises** ValueError for
    arguments out of range and where τ² < 4ρλ. **Example**

    >>> print(np.round(rqf.theory.self_supervised.spectrum(1.0, 0.8, 0.05, units=2), 4))
    [-0.5853 -0.4853 -0.1    -0.1    -0.05    0.    ]
    """
    rho, _, root = _root(inputs, cross, decay)
    n, loss = size("units", units, axes=2), scalar(positive, "decay", decay)
    stable = flag("stable", stable)
    r = lengths(inputs, cross, decay)[1 if stable else 0]
    rates = [(-r if stable else r) * root]
    rates += [0.0] * (n - 1) + [-(rho * r**2 + loss)] * (n - 1)
    rates += [-2 * loss] * n + [-loss] * (n - 1) ** 2
    return np.sort(np.array(rates)) + 0.0


def _root(inputs: Real, cross: Real, decay: Real) -> tuple[np.float64, np.float64, np.float64]:
    """ρ, |τ| and √Δ."""
    rho, loss = scalar(positive, "inputs", inputs), scalar(positive, "decay", decay)
    tau = np.abs(scalar(real, "cross", cross))
    rule = "have a square of at least 4 `inputs` `decay`, or all collapses"
    check("cross", cross, tau**2 >= 4 * rho * loss, rule)
    low, high = tau - 2 * np.sqrt(rho * loss), tau + 2 * np.sqrt(rho * loss)
    return rho, tau, np.sqrt(np.maximum(low, 0.0) * high)
