"""The number of clusters that tokens form, at every scale: single linkage on the sphere."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from .._arguments import scalar
from ..observables import angles
from ..observables._state import one_state


def persistence(x: Float[Array, "tokens dim"]) -> Float[Array, " bars"]:
    """The angles at which clusters merge as the scale grows, the longest first: N - 1 bars.

    Tokens within an angle α of each other, directly or through others, are one cluster (single
    linkage). At scale α there are 1 + #{bars > α} clusters, so k well separated clusters are k - 1
    long bars. They are the edges of the minimum spanning tree for geodesic distances, and the
    finite bars of zeroth persistent homology, which are born at 0 (classical).

    Angles in radians by `observables.angles`, in [0, π]; Prim's algorithm, O(N²). Raises
    ValueError if `x` is not one state (tokens, dim).
    """
    x = one_state(x)
    tokens = x.shape[0]
    rows, columns = jnp.triu_indices(tokens, 1)
    pairs = angles(x)
    distance = jnp.zeros((tokens, tokens), x.dtype).at[rows, columns].set(pairs)
    distance = distance + distance.T

    def grow(carry, _):
        nearest, inside = carry
        outside = jnp.where(inside, jnp.inf, nearest)
        new = jnp.argmin(outside)
        nearest = jnp.minimum(nearest, distance[new])
        return (nearest, inside.at[new].set(True)), outside[new]

    inside = jnp.zeros(tokens, bool).at[0].set(True)
    edges = lax.scan(grow, (distance[0], inside), length=tokens - 1)[1]
    return jnp.flip(jnp.sort(edges))


class ClusterCount(eqx.Module):
    """The number of clusters at one scale, an observable.

        1 + #{bars of `persistence` > angle}

    `angle` in radians, in [0, π]; ValueError otherwise. The gradient is zero.
    """

    angle: Float[Array, ""] = eqx.field(converter=scalar("angle", minimum=0, maximum=math.pi))

    def __init__(self, angle: Any):
        self.angle = angle

    def __call__(self, x: Float[Array, "tokens dim"]) -> Int[Array, ""]:
        """The number of clusters of one state."""
        bars = persistence(x)
        return 1 + jnp.sum(bars > self.angle.astype(bars.dtype)).astype(jnp.int32)
