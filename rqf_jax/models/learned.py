"""Equations whose drift is a network, to be fitted to paths."""

from typing import Any

from .._arguments import Key, nonnegative, prng_key, sizes, takes, whole
from .._sde import SDE
from ..drifts import Geometric, Network, Pull, Sum
from ..manifolds import Euclidean
from ..noises import LinearNoise, TokenNoise


@takes(
    state=sizes,
    rate=nonnegative,
    sigma=nonnegative,
    key=prng_key,
    width=whole(),
    depth=whole(),
    bound=nonnegative,
)
def neural_langevin(
    state: tuple[int, ...],
    *,
    rate: Any = 1.0,
    sigma: Any = 1.0,
    key: Key,
    width: int = 32,
    depth: int = 2,
    bound: Any = 1.0,
) -> SDE:
    """A learnable equation with additive noise that no parameters make explode.

        dx = [-rate x + network(x)] dt + sigma dB,
        E x_i² ≤ max(E x_i(0)², (bound/rate)² + sigma²/rate)

    `state`, `key` and `sizes` (`width`, `depth`, `bound`) are those of `drifts.Network`. Fit it by
    `rqf_jax.fit(..., where=lambda sde: (sde.drift, sde.noise), steps=400)`; few steps leave it near
    its start, see there. Raises ValueError as its parts do.
    Source: the three kinds are those of Oh, Lim & Kim, ICLR 2024 (recalled, the equations from the
    authors' README second-hand); pull, bounded network and the bound on moments are ours.
    """
    drift = Sum(Pull(rate), Network(state, width=width, depth=depth, bound=bound, key=key))
    return SDE(drift, TokenNoise(sigma), Euclidean())


@takes(
    state=sizes,
    rate=nonnegative,
    sigma=nonnegative,
    key=prng_key,
    width=whole(),
    depth=whole(),
    bound=nonnegative,
)
def neural_linear_noise(
    state: tuple[int, ...],
    *,
    rate: Any = 1.0,
    sigma: Any = 1.0,
    key: Key,
    width: int = 32,
    depth: int = 2,
    bound: Any = 1.0,
) -> SDE:
    """The same drift as `neural_langevin` with noise proportional to the state (Stratonovich).

        dx = [-rate x + network(x)] dt + sigma x ∘ dB

    Nor does it explode: |x| is at most y with dy = (bound - rate y) dt + sigma y ∘ dB, y_0 = |x_0|,
    whose mean stays bounded for sigma² < 2 rate. Raises ValueError as its parts do.
    Source: `neural_langevin`.
    """
    drift = Sum(Pull(rate), Network(state, width=width, depth=depth, bound=bound, key=key))
    return SDE(drift, LinearNoise(sigma), Euclidean())


@takes(
    state=sizes, sigma=nonnegative, key=prng_key, width=whole(), depth=whole(), bound=nonnegative
)
def neural_geometric(
    state: tuple[int, ...],
    *,
    sigma: Any = 1.0,
    key: Key,
    width: int = 32,
    depth: int = 2,
    bound: Any = 1.0,
) -> SDE:
    """A learnable equation of positive (or negative) numbers, none of which changes sign.

        dx = x network(x) dt + sigma x ∘ dB,   |ln(x/x_0) - sigma B| ≤ bound · t

    Raises ValueError as its parts do. Source: `neural_langevin`.
    """
    return SDE(
        Geometric(Network(state, width=width, depth=depth, bound=bound, key=key)),
        LinearNoise(sigma),
        Euclidean(),
    )
