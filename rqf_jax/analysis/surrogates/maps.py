"""Lyapunov exponents of a map, such as a learned one, through its Jacobians."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from ..._arguments import finite, function_of, integer, maybe, real, whole
from ..._ensemble.trajectories import NonFiniteError
from ..._ensemble.validity import taking
from ..lyapunov import LyapunovSpectrum


def map_exponents(
    map: Callable[[Any], Any],
    starts: Any,
    *,
    steps: int,
    step: float = 1.0,
    exponents: int | None = None,
    discard: int = 0,
) -> LyapunovSpectrum:
    """The Lyapunov spectrum of a map x → T(x), by its Jacobians along orbits.

        V ← DT(x) V,   V = Q R,   λ_i = lim Σ ln |R_ii| / (steps · step)

    **Arguments**

    - `map`: a differentiable function of one state, such as a trained surrogate.
    - `starts`: states (members, *state), one orbit from each.
    - `steps`: of every orbit; `discard`: so many of the first are left out, in which the state
      finds its attractor.
    - `step`: the time between two states, so that exponents are per unit time.
    - `exponents`: so many, the largest first; all by default.

    **Returns** a `LyapunovSpectrum` with its standard errors. **Raises** ValueError for other
    shapes and numbers and for a map that returns another shape; `NonFiniteError` for orbits that
    became NaN or infinite.

    **Example**

    >>> turn = jnp.array([[0.0, -0.5], [2.0, 0.0]])
    >>> found = rqf.analysis.surrogates.map_exponents(lambda x: turn @ x, jnp.eye(2), steps=100)
    >>> np.allclose(found.exponents, 0.0, atol=0.03)
    True
    """
    function_of("one state")("map", map)
    x = finite("starts", starts)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"`starts` must be states (members, *state); got shape {x.shape}.")
    steps = integer("steps", steps, maximum=2**31 - 2)
    discard = integer("discard", discard, minimum=0, maximum=steps - 1)
    length = real("step", step, minimum=1e-30)
    size = int(np.prod(x.shape[1:]))
    count = maybe(whole(maximum=size))("exponents", exponents) or size
    with taking("map", jax.ShapeDtypeStruct(x.shape[1:], x.dtype)):
        image = eqx.filter_eval_shape(map, x[0])
    if getattr(image, "shape", None) != x.shape[1:]:
        raise ValueError(f"`map` must return a state of shape {x.shape[1:]}; got {image}.")
    growths = _growths(map, x, steps, count)
    if not bool(jnp.all(jnp.isfinite(growths))):
        bad = np.flatnonzero(~np.isfinite(np.asarray(growths)).all((1, 2)))
        raise NonFiniteError(
            f"{bad.size} of {len(x)} orbits have a growth that is NaN or infinite, the first is "
            f"{int(bad[0])}: it left every bound, or the map is not invertible there."
        )
    return LyapunovSpectrum(length * np.arange(discard, steps + 1.0), growths[:, discard:])


@eqx.filter_jit
def _growths(
    map: Callable[[Any], Any], starts: Float[Array, "members *state"], steps: int, count: int
) -> Float[Array, "members steps exponents"]:
    """ln |R_ii| of every step of every member."""

    def one(x):
        flat, whole = ravel_pytree(x)

        def moved(v):
            return ravel_pytree(map(whole(v)))[0]

        def body(carry, _):
            v, frame = carry
            v, push = jax.linearize(moved, v)
            q, r = jnp.linalg.qr(jax.vmap(push)(frame.T).T)
            return (v, q), jnp.log(jnp.abs(jnp.diagonal(r)))

        frame = jax.random.normal(jax.random.key(0), (flat.size, count), flat.dtype)
        return lax.scan(body, (flat, jnp.linalg.qr(frame)[0]), length=steps)[1]

    return jax.vmap(one)(starts)
