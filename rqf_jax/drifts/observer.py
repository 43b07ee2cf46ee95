"""Observers: drifts that follow a record of some coordinates of another path."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import described, each, finite, increasing, part, whole
from ._abstract import AbstractDrift


class _Record(eqx.Module):
    """Times and values of some coordinates of a path."""

    __repr__ = described

    ts: Float[Array, " times"]
    values: Float[Array, "times seen"]
    coordinates: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, ts: Any, values: Any, coordinates: Any):
        places = each(whole(minimum=0))("coordinates", coordinates)
        if len(set(places)) < len(places):
            raise ValueError(f"`coordinates` must differ from each other; got {places}.")
        self.ts, self.values = increasing("ts", ts, least=2), finite("record", values)
        self.coordinates = places
        if self.values.shape != (self.ts.size, len(places)):
            raise ValueError(
                f"`record` must have shape {(self.ts.size, len(places))}, for these times and "
                f"coordinates; got {self.values.shape}."
            )

    def at(self, t: Float[Array, ""]) -> Float[Array, " seen"]:
        """The values at time t, on straight lines between the times and constant outside."""
        lines = jax.vmap(lambda column: jnp.interp(t, self.ts, column), in_axes=1)
        return lines(self.values)

    def places(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates that are seen and the rest, of a state of `size` numbers.

        Raises ValueError if the state has not all of them.
        """
        if max(self.coordinates) >= size:
            raise ValueError(
                f"`coordinates` must be below {size}, the size of a state; got {self.coordinates}."
            )
        return np.asarray(self.coordinates), np.setdiff1d(np.arange(size), self.coordinates)


class Nudged(AbstractDrift):
    """An observer: a drift that is pulled to what is seen of another path.

        f(t, x̂) + K (y(t) - x̂[coordinates])

    With a gain K that is large enough the difference to the path that was recorded dies out
    (synchronisation), and with it the coordinates that were not seen become known. For a linear
    drift A it dies as e^{(A - K C)t} (Luenberger).

    **Arguments**

    - `drift`: f, of a state that is one vector (n,).
    - `gain`: K per unit time: a number, which pulls the seen coordinates alone, or (n, seen).
    - `ts`: times of the record, strictly increasing.
    - `record`: y (times, seen), straight lines between its times.
    - `coordinates`: the indices of the coordinates that are seen.

    **Returns** a drift. **Raises** ValueError for other shapes, entries that are not finite and,
    when called, a state that has not these coordinates.

    **Example**: a decay that is pulled to 1.

    >>> pulled = rqf.drifts.Nudged(
    ...     rqf.drifts.Pull(1.0), 3.0, [0.0, 1.0], np.ones((2, 1)), (0,)
    ... )
    >>> pulled(jnp.asarray(0.5), jnp.array([0.0, 2.0])).tolist()
    [3.0, -2.0]
    """

    drift: AbstractDrift
    gain: Float[Array, "..."]
    record: _Record

    def __init__(self, drift: AbstractDrift, gain: Any, ts: Any, record: Any, coordinates: Any):
        self.drift = part(AbstractDrift)("drift", drift)
        self.record = _Record(ts, record, coordinates)
        self.gain = finite("gain", gain)
        seen = len(self.record.coordinates)
        if self.gain.shape and (self.gain.ndim != 2 or self.gain.shape[1] != seen):
            raise ValueError(
                f"`gain` must be a number or a matrix (n, {seen}); got shape {self.gain.shape}."
            )

    def __call__(self, t: Float[Array, ""], x: Float[Array, " n"]) -> Float[Array, " n"]:
        """f and the pull."""
        places, _ = self.record.places(x.size)
        error = self.record.at(t) - x[places]
        velocity = self.drift(t, x)
        if not self.gain.shape:
            return velocity.at[places].add(self.gain * error)
        if self.gain.shape[0] != x.size:
            raise ValueError(
                f"`gain` must have {x.size} rows, one for each number of a state; got shape "
                f"{self.gain.shape}."
            )
        return velocity + jnp.matmul(self.gain, error, precision="highest")


class Driven(AbstractDrift):
    """The coordinates of a drift that are not seen, driven by those that are.

        ż = f(t, x)[rest],   x[coordinates] = y(t),   x[rest] = z

    The limit of `Nudged` for infinite gain (complete replacement, Pecora & Carroll). If all its
    Lyapunov exponents, the conditional ones, are negative, z forgets its start and follows the path
    that was recorded. They add up to the mean divergence of f in z.

    **Arguments**

    - `drift`: f, of a state that is one vector (n,); the state of this one has n - seen numbers.
    - `ts`: times of the record, strictly increasing.
    - `record`: y (times, seen), straight lines between its times.
    - `coordinates`: the indices in the state of f of the coordinates that are seen.

    **Returns** a drift. **Raises** ValueError for other shapes, entries that are not finite and,
    when called, a state that is too small for these coordinates.

    **Example**: the second of two numbers is pulled to the first, which is recorded.

    >>> class Pair(rqf.drifts.AbstractDrift):
    ...     def __call__(self, t, x):
    ...         return jnp.stack([jnp.zeros(()), x[0] - x[1]])
    >>> driven = rqf.drifts.Driven(Pair(), [0.0, 1.0], np.full((2, 1), 3.0), (0,))
    >>> driven(jnp.asarray(0.5), jnp.ones(1)).tolist()
    [2.0]
    """

    drift: AbstractDrift
    record: _Record

    def __init__(self, drift: AbstractDrift, ts: Any, record: Any, coordinates: Any):
        self.drift = part(AbstractDrift)("drift", drift)
        self.record = _Record(ts, record, coordinates)

    def __call__(self, t: Float[Array, ""], x: Float[Array, " rest"]) -> Float[Array, " rest"]:
        """The velocity of the rest."""
        size = x.size + len(self.record.coordinates)
        places, rest = self.record.places(size)
        seen = self.record.at(t).astype(x.dtype)
        state = jnp.zeros(size, x.dtype).at[rest].set(x).at[places].set(seen)
        return self.drift(t, state)[rest]
