"""Save times and the lengths of the intervals between them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._arguments import finite, is_concrete


class SaveTimes(eqx.Module):
    """Times at which states are saved, with the lengths of the intervals between them.

    The lengths are differences of the times as they were given, in float64 where they are known on
    the host. In float32 a time near 10⁴ is known to 10⁻³ only, and the length of an interval of
    10⁻³ would be lost. So an offset of all times changes no length.
    """

    at: Float[Array, "*points times"]
    lengths: Float[Array, "*points intervals"]

    @classmethod
    def of(cls, ts: Any) -> "SaveTimes":
        """The times `ts`, as `host_times` takes them; `SaveTimes` are returned as they are."""
        if isinstance(ts, SaveTimes):
            return ts
        ts = host_times(ts)
        if isinstance(ts, np.ndarray):
            return cls(jnp.asarray(ts), jnp.asarray(_differences(ts).astype(ts.dtype)))
        return cls(ts, jnp.diff(ts))

    @property
    def intervals(self) -> int:
        """How many intervals there are."""
        return self.lengths.shape[-1]

    def astype(self, dtype: Any) -> "SaveTimes":
        """The same in another dtype."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype), self)


def host_times(ts: Any) -> Float[Array | np.ndarray, " times"]:
    """`ts` on the host, in the float type they were given in: float64 for numbers and lists.

    Raises ValueError unless there are at least two times, finite and strictly increasing. Of times
    that are being traced only the shape is checked.
    """
    with jax.ensure_compile_time_eval():
        checked = finite("ts", ts)
    if checked.ndim != 1 or checked.size < 2:
        raise ValueError(f"`ts` must be one axis of at least 2 times; got shape {checked.shape}.")
    if not is_concrete(checked):
        return checked
    given = np.asarray(ts)
    exact = given if np.issubdtype(given.dtype, np.floating) else np.asarray(ts, float)
    wrong = np.flatnonzero(~(_differences(exact) > 0))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"`ts` must be strictly increasing; got {exact[i]} then {exact[i + 1]} at index {i}."
        )
    return exact


def _differences(ts: Float[np.ndarray, " times"]) -> Float[np.ndarray, " intervals"]:
    return np.diff(ts.astype(float))
