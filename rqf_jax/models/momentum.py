"""Particles and optimisers with momentum; a state is {"q": position, "p": momentum}."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import PyTree

from .._arguments import function_of, maybe, nonnegative, number, takes
from .._sde import SDE
from ..drifts import Momentum
from ..manifolds import Euclidean
from ..noises import NoNoise, Product, TokenNoise
from ..schedules import Reciprocal

Gradient = Callable[[PyTree], PyTree]


@takes(
    gradient=function_of("a position"),
    friction=nonnegative,
    temperature=nonnegative,
    mass=number(minimum=1e-30),
)
def underdamped_langevin(
    gradient: Gradient, *, friction: Any, temperature: Any, mass: Any = 1.0
) -> SDE:
    """A particle in a potential U, in contact with a bath.

        dq = p/mass dt,   dp = -∇U(q) dt - friction p dt + √(2 friction temperature mass) dB

    The stationary law is ∝ exp(-(U(q) + p²/(2 mass))/temperature) for every friction > 0:
    E p² = mass temperature, and E q² = temperature/k for U = k q²/2. Steps have weak order 2
    (`solvers.BAOAB`).

    **Arguments**

    - `gradient`: ∇U, a function of one position q, with the sign of the gradient.
    - `friction`: per unit time, ≥ 0; `temperature`: energy, ≥ 0; `mass`: positive.

    **Returns** an `SDE` for states {"q": array, "p": array of the same shape}.

    **Raises** ValueError for arguments that break a rule.

    **Example**

        >>> import jax, jax.numpy as jnp, rqf_jax as rqf
        >>> well = rqf.models.underdamped_langevin(lambda q: 2.0 * q, friction=1.0, temperature=0.5)
        >>> start = rqf.laws.Product({"q": rqf.laws.Zeros((1,)), "p": rqf.laws.Zeros((1,))})
        >>> runs = rqf.simulate(
        ...     well, start, [0.0, 10.0], substeps=50, members=1000, key=jax.random.key(0)
        ... )
        >>> abs(float(jnp.mean(runs.ys["q"][:, -1] ** 2)) - 0.25) < 0.05
        True
    """
    sigma = jnp.sqrt(2 * friction * temperature * mass)
    noise = Product({"q": NoNoise(), "p": TokenNoise(sigma)})
    return SDE(Momentum(gradient, friction, mass), noise, Euclidean())


@takes(gradient=function_of("a position"), convexity=nonnegative, step=nonnegative)
def heavy_ball(gradient: Gradient, *, convexity: Any, step: Any = 0.0) -> SDE:
    """Polyak's heavy ball in continuous time, for functions that curve by `convexity` μ at least.

        q'' + 2√μ q' + (1 + √(μ step)) ∇f(q) = 0,   p = q'

    A mode of curvature h ≥ μ decays as e^{-√μ t}, whatever h. With `step` = 0 it is the limit of
    short steps. `gradient` is ∇f, a function of one position; start from p = 0. Raises ValueError
    for negative numbers.

    Source: Shi, Du, Jordan & Su, arXiv:1810.08907 (recalled). The map with finite steps can cycle
    where this equation converges.
    """
    gain = 1 + jnp.sqrt(convexity * step)
    return SDE(Momentum(gradient, 2 * jnp.sqrt(convexity), gain=gain), NoNoise(), Euclidean())


@takes(gradient=function_of("a position"), convexity=maybe(nonnegative), step=nonnegative)
def nesterov(gradient: Gradient, *, convexity: Any = None, step: Any = 0.0) -> SDE:
    """Nesterov's accelerated gradient in continuous time.

        q'' + (3/t) q' + ∇f(q) = 0                                   without `convexity`,
        q'' + 2√μ q' + √step ∇²f(q) q' + (1 + √(μ step)) ∇f(q) = 0     with `convexity` μ

    The first is for convex functions: f - min f ≤ 2 |q_0 - q*|²/t²; start it at a time t > 0, from
    p = 0 if t is small. The second keeps the correction by the gradient that tells it from
    `heavy_ball`: a mode of curvature h decays at the rate √μ + √step h/2. p = q'. Raises ValueError
    for negative numbers.

    Source: Su, Boyd & Candès, JMLR 17 (2016); Shi, Du, Jordan & Su, arXiv:1810.08907 (recalled).
    """
    if convexity is None:
        return SDE(Momentum(gradient, Reciprocal(3.0)), NoNoise(), Euclidean())
    drift = Momentum(
        gradient,
        2 * jnp.sqrt(convexity),
        curvature=jnp.sqrt(step),
        gain=1 + jnp.sqrt(convexity * step),
    )
    return SDE(drift, NoNoise(), Euclidean())
