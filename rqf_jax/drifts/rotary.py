"""Rotary positions: queries and keys turned by angles that grow with their place."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._arguments import finite, fitting, number, takes, whole


@takes(planes=whole(), base=number(minimum=1))
def rotary_frequencies(planes: int, base: Any = 1e4) -> Float[Array, " planes"]:
    """base^(-m/planes), m = 0, 1, …: radians per position by which a transformer turns its planes.

    For `frequencies` of an attention. Raises ValueError unless planes ≥ 1 and base ≥ 1.
    """
    fitting("planes", (planes,))
    return base ** (-jnp.arange(planes, dtype=base.dtype) / planes)


def frequencies_of(name: str, value: Any) -> Float[Array, " planes"]:
    """A rule: one axis of finite numbers."""
    array = finite(name, value)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"`{name}` must be radians per position, one number for every plane; got shape "
            f"{array.shape}."
        )
    return array


def rotated(
    x: Float[Array, "tokens dim"], frequencies: Float[Array, " planes"]
) -> Float[Array, "tokens dim"]:
    """Token i turned by i ω_m in plane m, of the coordinates m and planes + m; others stay."""
    tokens, dim = x.shape
    planes = frequencies.size
    if 2 * planes > dim:
        raise ValueError(
            f"`frequencies` must be at most {dim // 2}, a plane for two of {dim} coordinates; got "
            f"{planes}."
        )
    angle = jnp.arange(tokens, dtype=x.dtype)[:, None] * frequencies.astype(x.dtype)[None, :]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    one, other = x[:, :planes], x[:, planes : 2 * planes]
    turned = [one * cosine - other * sine, one * sine + other * cosine]
    return jnp.concatenate([*turned, x[:, 2 * planes :]], axis=1)
