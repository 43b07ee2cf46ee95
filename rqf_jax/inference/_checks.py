"""One look at the data before the fit: how far tokens move, and signs that the model is wrong."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._likelihood import total
from .increments import half_angle

_TOKENS = 8
_ROUNDING = 1e-3


class Checks(eqx.Module):
    """`rate` a first guess of σ_s² + σ_a²; `angle` the largest turn of a token in one step; `lag`
    the correlation of successive increments with its z `lag_score`; `twins` whether tokens are
    equal or opposite in the first state."""

    rate: Float[Array, ""]
    angle: Float[Array, ""]
    lag: Float[Array, ""]
    lag_score: Float[Array, ""]
    twins: Bool[Array, ""]


@eqx.filter_jit
def checks(
    xs: Float[Array, "members times tokens dim"],
    dt: Float[Array, " steps"],
    mask: Bool[Array, "members times tokens"] | None,
) -> Checks:
    """What there is to see without a model of more than one token, from at most 8 tokens.

    The rate is that of one token, 2|v|²/((n-1) dt). At the later of two steps, P_x(x - x_before)
    and P_x(x_after - x) are uncorrelated for every rotation-invariant noise, and their product is a
    martingale difference, which gives the z. Observation noise makes it negative.
    """
    dim = xs.shape[-1]
    there = jnp.ones(xs.shape[:3], bool) if mask is None else mask
    first = jnp.where(there[0, 0][:, None], xs[0, 0], 0.0)
    overlaps = jnp.abs(jnp.matmul(first, first.T, precision="highest"))
    same = jnp.triu(overlaps, 1) > 1 - 1e-6
    x, seen = xs[:, :, :_TOKENS], there[:, :, :_TOKENS]
    both = seen[:, :-1] & seen[:, 1:]
    on = both.astype(x.dtype)
    _, moved = half_angle(x[:, :-1], x[:, 1:])
    squares = jnp.where(both, jnp.sum(moved * moved, -1), 0.0)
    clock = total(on * dt[None, :, None])
    rate = 2 * total(squares) / jnp.maximum(clock, 1e-30) / (dim - 1)
    angle = 2 * jnp.arctan(jnp.sqrt(jnp.max(squares)) / 2)
    zero = jnp.zeros((), x.dtype)
    if x.shape[1] < 3:
        return Checks(rate, angle, zero, zero, jnp.any(same))
    middle = x[:, 1:-1]
    scale = 1 / jnp.sqrt(dt)[None, :, None, None]
    before = _tangent(middle, middle - x[:, :-2]) * scale[:, :-1]
    after = _tangent(middle, x[:, 2:] - middle) * scale[:, 1:]
    all_three = (both[:, :-1] & both[:, 1:]).astype(x.dtype)
    products = jnp.sum(jnp.sum(before * after, -1) * all_three, -1)
    power = jnp.sum((jnp.sum(before**2, -1) + jnp.sum(after**2, -1)) * all_three, -1)
    lag = 2 * total(products) / jnp.maximum(total(power), 1e-30)
    spread = jnp.sqrt(jnp.maximum(total(products**2), 1e-30))
    return Checks(rate, angle, lag, total(products) / spread, jnp.any(same))


def _tangent(x, v):
    return v - jnp.sum(x * v, -1, keepdims=True) * x


def rounding_warning(grid: float, moved: float) -> str:
    """A sentence if the data lie on a grid that is not far below √(p dt), else ""."""
    # It adds the variance grid²/6 to an increment of a coordinate, p dt/2.
    share = grid**2 / 3 / max(moved, 1e-300)
    if share < _ROUNDING:
        return ""
    return (
        f"the numbers are rounded to about {grid:.1g}, which adds {share:.1%} to the increments "
        "and more to the whitened ones: the estimate is too large. Try `fit_noise_observed`."
    )
