"""Log densities for samplers: functions of a dict of parameters, and pytrees of their data."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


class OfPositive(eqx.Module):
    """`log_density` of the parameters `names`, which are positive: -inf where one is not."""

    log_density: Callable[[dict[str, Array]], Float[Array, ""]]
    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, parameters: Mapping[str, Any]) -> Float[Array, ""]:
        """Up to a constant, at `parameters` like `FitResult.estimate`."""
        values = {name: jnp.asarray(parameters[name], float) for name in self.names}
        inside = jnp.all(jnp.stack([value > 0 for value in values.values()]))
        safe = {name: jnp.where(value > 0, value, 1.0) for name, value in values.items()}
        return jnp.where(inside, self.log_density(safe), -jnp.inf)
