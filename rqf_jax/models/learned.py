"""Equations whose drift is a network, to be fitted to paths."""

from typing import Any

from .._arguments import Key, nonnegative, prng_key, sizes, takes, whole
from .._sde import SDE
from ..drifts import Geometric, Network, Pull, Sum
from ..manifolds import Euclidean
from ..noises import LinearNoise, TokenNoise

_of_a_network = takes(
    state=sizes,
    rate=nonnegative,
    sigma=nonnegative,
    key=prng_key,
    width=whole(),
    depth=whole(),
    bound=nonnegative,
)


@_of_a_network
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

    Fit it by `rqf_jax.fit(..., where=lambda sde: (sde.drift, sde.noise), steps=400)`; few steps
    leave it near its start, see there.

    **Arguments**

    - `state`: the shape of a state, a tuple of sizes.
    - `rate`: pull ≥ 0 to zero per unit time.
    - `sigma`: strength ≥ 0 of the noise; sigma² is variance per unit time.
    - `key`: the JAX key from which the weights are drawn.
    - `width`, `depth`: sizes of the hidden layers.
    - `bound`: no entry of the network's output exceeds it.

    **Returns** an `SDE` in flat space.

    **Raises** ValueError for negative numbers, sizes below 1, and a `state` that is no tuple.

    **Example**

    >>> sde = rqf.models.neural_langevin((2,), rate=0.5, key=jax.random.key(0))
    >>> sde.drift(0.0, jnp.zeros(2)).shape
    (2,)

    Source: the three kinds are those of Oh, Lim & Kim, ICLR 2024 (recalled, the equations from the
    authors' README second-hand); pull, bounded network and the bound on moments are ours.
    """
    drift = Sum(Pull(rate), Network(state, width=width, depth=depth, bound=bound, key=key))
    return SDE(drift, TokenNoise(sigma), Euclidean())


@_of_a_network
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

    It does not explode either: |x| is at most y with dy = (bound - rate y) dt + sigma y ∘ dB and
    y_0 = |x_0|, whose mean stays bounded for sigma² < 2 rate.

    **Arguments**

    - `state`: the shape of a state, a tuple of sizes.
    - `rate`: pull ≥ 0 to zero per unit time.
    - `sigma`: strength ≥ 0 of the noise; sigma² is variance of ln |x| per unit time.
    - `key`: the JAX key from which the weights are drawn.
    - `width`, `depth`: sizes of the hidden layers.
    - `bound`: no entry of the network's output exceeds it.

    **Raises** and source as of `neural_langevin`.

    **Returns** an `SDE` in flat space.

    **Example**

    >>> rqf.models.neural_linear_noise((3,), sigma=0.2, key=jax.random.key(0)).noise
    LinearNoise(sigma=0.2)
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

    **Arguments**

    - `state`: the shape of a state, a tuple of sizes.
    - `sigma`: strength ≥ 0 of the noise; sigma² is variance of ln |x| per unit time.
    - `key`: the JAX key from which the weights are drawn.
    - `width`, `depth`: sizes of the hidden layers.
    - `bound`: no entry of the network's output exceeds it.

    **Raises** and source as of `neural_langevin`.

    **Returns** an `SDE` in flat space.

    **Example**

    >>> sde = rqf.models.neural_geometric((3,), key=jax.random.key(0))
    >>> bool(jnp.all(sde.drift(0.0, jnp.zeros(3)) == 0))
    True
    """
    return SDE(
        Geometric(Network(state, width=width, depth=depth, bound=bound, key=key)),
        LinearNoise(sigma),
        Euclidean(),
    )
