"""Networks that learn from two views of the same data, without negative examples.

A state is {"A": encoder (n, m), "B": predictor (n, n)}, with {"C": teacher (n, m)} for `ema_flow`;
`laws.Product` draws one. x and y are the views, (samples, m).
"""

from typing import Any

from jaxtyping import Array, Float

from .._arguments import finite, is_concrete, nonnegative, takes
from .._sde import SDE
from ..drifts import SelfSupervised
from ..drifts.self_supervised import moments
from ..manifolds import Euclidean
from ..noises import MomentNoise, NoNoise


@takes(x=finite, y=finite, decay=nonnegative, temperature=nonnegative)
def stop_gradient_flow(x: Any, y: Any, *, decay: Any, temperature: Any = 0.0) -> SDE:
    """Linear self-supervised learning whose teacher is the encoder, without its gradient.

        R = B A X - A Y,   dA = -(Bᵀ R + decay A) dt,   dB = -(R Aᵀ + decay B) dt

    with X = E x xᵀ, Y = E y xᵀ over the examples. No gradient flow: see `analysis.gradient_defect`.
    BᵀB - AAᵀ decays as e^{-2 decay t}. Equilibria where S = AᵀA has full rank solve
    (X S + decay)(S X + decay) = YᵀSY; for one feature see `theory.self_supervised`.

    **Arguments**

    - `x`, `y`: two views of the examples, (samples, m).
    - `decay`: of the weights, ≥ 0 per unit time.
    - `temperature`: learning rate over batch, ≥ 0, of the noise of minibatches, in Itô's sense.

    **Returns** an `SDE` for states {"A": (n, m), "B": (n, n)}.

    **Raises** ValueError for views of different shapes and negative numbers.

    **Example**

    >>> sde = rqf.models.stop_gradient_flow([[1.0]], [[0.8]], decay=0.05)
    >>> moved = sde.drift(0.0, {"A": jnp.ones((1, 1)), "B": jnp.ones((1, 1))})
    >>> round(float(moved["A"][0, 0]), 6)
    -0.25

    Source: Ponce et al., arXiv:2507.01028 (a detailed summary read).
    """
    return _flow(x, y, decay, temperature)


@takes(x=finite, y=finite, decay=nonnegative, rate=nonnegative, temperature=nonnegative)
def ema_flow(x: Any, y: Any, *, decay: Any, rate: Any, temperature: Any = 0.0) -> SDE:
    """The same with a teacher that follows the encoder: dC = rate (A - C) dt, R = B A X - C Y.

    It has the equilibria of `stop_gradient_flow`, and other basins. A teacher that is averaged with
    the weight ξ in every update of learning rate α has the rate (1 - ξ)/α.

    **Arguments**

    - `x`, `y`, `decay`, `temperature`: as of `stop_gradient_flow`.
    - `rate`: at which the teacher follows, ≥ 0 per unit time.

    **Returns** an `SDE` for states {"A": (n, m), "B": (n, n), "C": (n, m)}.

    **Raises** ValueError for views of different shapes and negative numbers.

    **Example**

    >>> sde = rqf.models.ema_flow([[1.0]], [[0.8]], decay=0.05, rate=2.0)
    >>> one = jnp.ones((1, 1))
    >>> float(sde.drift(0.0, {"A": one, "B": one, "C": 0 * one})["C"][0, 0])
    2.0

    Source: as of `stop_gradient_flow`.
    """
    return _flow(x, y, decay, temperature, rate=rate)


@takes(x=finite, y=finite, decay=nonnegative)
def joint_flow(x: Any, y: Any, *, decay: Any) -> SDE:
    """The gradient flow of |B A x - A y|²/2 through both sides, which always collapses to zero.

    `x` and `y` are two views of the examples, (samples, m), and `decay` > 0 that of the weights.
    Raises ValueError for views of different shapes and a negative number.
    """
    return _flow(x, y, decay, 0.0, joint=True)


def _flow(
    x: Float[Array, "samples m"],
    y: Float[Array, "samples m"],
    decay: Any,
    temperature: Any,
    *,
    rate: Any = None,
    joint: bool = False,
) -> SDE:
    noise = MomentNoise(x, y, temperature)
    shares = x[:, 0] * 0 + 1 / x.shape[0]
    inputs, cross = moments(x, y, shares)
    teacher = moments(y, y, shares)[0] if joint else None
    drift = SelfSupervised(inputs, cross, decay, rate=rate, teacher=teacher)
    still = is_concrete(noise.temperature) and float(noise.temperature) == 0
    return SDE(drift, NoNoise() if still else noise, Euclidean())
