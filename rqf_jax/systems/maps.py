"""Maps of the unit interval [0, 1), of which everything is known."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._arguments import Key, finite, fitting, integer, part, prng_key, scalar
from ._abstract import AbstractMap


class Rotation(AbstractMap):
    """x → x + α modulo 1, on the circle of length 1.

    The uniform law is invariant and, for irrational α, the only one. The Koopman operator has the
    eigenfunctions e^{2πikx} with eigenvalues e^{2πikα}; the Lyapunov exponent is 0.

    `angle` is α, by default the golden mean (√5 - 1)/2. Raises ValueError if it is not finite.
    """

    angle: Float[Array, ""] = eqx.field(converter=scalar("angle"), default=(math.sqrt(5) - 1) / 2)

    def __call__(self, x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """x + α modulo 1."""
        return _fraction(x + self.angle)

    @property
    def exponent(self) -> Float[Array, ""]:
        """0: distances stay."""
        return jnp.zeros_like(self.angle)


class Doubling(AbstractMap):
    """x → 2x modulo 1, the shift of binary digits.

    The uniform law is invariant, cells [j/n, (j+1)/n) map on two cells each, and the Lyapunov
    exponent is ln 2. A float has finitely many digits, so that iterating the map ends at 0 after
    some 24 or 53 steps: `random_orbit` has fresh digits come in from the right.
    """

    def __call__(self, x: Float[Array, "*state"]) -> Float[Array, "*state"]:
        """2x modulo 1, exactly."""
        return _fraction(2 * x)

    @property
    def exponent(self) -> Float[Array, ""]:
        """ln 2 per step."""
        return jnp.asarray(math.log(2))

    def random_orbit(self, steps: int, *, key: Key) -> Float[Array, " times"]:
        """The orbit of a uniform point, at steps 0, …, `steps`.

        Every state is exactly uniform, and two that follow each other satisfy the map to the last
        digit. Raises ValueError unless `steps` is an integer ≥ 1 and `key` a JAX key.
        """
        steps, key = integer("steps", steps, maximum=2**31 - 100), prng_key("key", key)
        dtype = jnp.result_type(float)
        digits = jnp.finfo(dtype).nmant + 1
        fitting("steps", (steps + digits,), 8)
        bits = jax.random.bernoulli(key, shape=(steps + digits,)).astype(dtype)
        weights = 2.0 ** -jnp.arange(1, digits + 1, dtype=dtype)
        return jnp.convolve(bits, weights[::-1], mode="valid", precision="highest")


def _fraction(x: Float[Array, "*state"]) -> Float[Array, "*state"]:
    """`x` modulo 1, in [0, 1): where rounding would give 1, it is 0."""
    rest = x - jnp.floor(x)
    return jnp.where(rest < 1, rest, 0)


def orbit(map: AbstractMap, x: Any, steps: int) -> Float[Array, "times *state"]:
    """The states x, T(x), T(T(x)), … after 0, …, `steps` steps.

    `map` is an `AbstractMap`, `x` one state or several along its own axes. Raises ValueError for
    another map, states that are not finite, and `steps` < 1.
    """
    part(AbstractMap)("map", map)
    x, steps = finite("x", x), integer("steps", steps, maximum=2**31 - 2)
    fitting(("x", "steps"), (steps + 1, *x.shape), x.dtype.itemsize)

    def step(x, _):
        x = map(x)
        return x, x

    return jnp.concatenate([x[None], lax.scan(step, x, length=steps)[1]])
