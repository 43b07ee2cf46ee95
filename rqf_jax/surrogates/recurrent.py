"""Piecewise linear maps of a latent state, and how far to force them while they learn."""

import abc
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._arguments import Key, finite, fitting, integer, number, part, prng_key, shown
from ._abstract import AbstractSurrogate, batch_of, loss


class AbstractRecurrent(AbstractSurrogate):
    """A map z → F(z) of a latent state, the first numbers of which are the state of the path.

    It learns by generalised teacher forcing: before every step the observed numbers of z are drawn
    towards the state x of the path,

        z ← (1 - α) z + α (x, z_rest),        z ← F(z),

    and the objective is the mean squared distance of what is predicted from x. The forcing α is no
    weight: training leaves it alone, and `forced` sets another.
    """

    latent: eqx.AbstractVar[int]
    start: eqx.AbstractVar[Float[Array, "rest size"]]
    forcing: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def __call__(self, z: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """The next latent state."""

    def jacobian(self, z: Float[Array, " latent"]) -> Float[Array, "latent latent"]:
        """∂F/∂z."""
        return jax.jacfwd(self)(z)

    def lifted(self, x: Float[Array, " size"]) -> Float[Array, " latent"]:
        """The latent state of a path that starts in `x`: beside `x`, a linear function of it."""
        return jnp.concatenate([x, jnp.matmul(self.start, x, precision="highest")])

    def objective(self, window: Float[Array, "times size"]) -> Float[Array, ""]:
        """The mean squared error of a step, under forcing."""
        forcing = lax.stop_gradient(self.forcing)

        def step(z, pair):
            x, following = pair
            z = self(self._drawn(z, x, forcing))
            return z, jnp.mean((z[: self.size] - following) ** 2)

        errors = lax.scan(step, self.lifted(window[0]), (window[:-1], window[1:]))[1]
        return jnp.mean(errors)

    def begin(self, past: Float[Array, "times size"]) -> Float[Array, " latent"]:
        """The latent state after following the past with α = 1."""
        past = finite("past", past)

        def step(z, x):
            return self(jnp.concatenate([x, z[self.size :]])), None

        z = lax.scan(step, self.lifted(past[0]), past[:-1])[0]
        return jnp.concatenate([past[-1], z[self.size :]])

    def step(
        self, key: Key, memory: Float[Array, " latent"]
    ) -> tuple[Float[Array, " latent"], Float[Array, " size"]]:
        """The next latent state, and what is observed of it; nothing is drawn."""
        z = self(memory)
        return z, z[: self.size]

    def forced(self, forcing: Any) -> "AbstractRecurrent":
        """The same map under the forcing α in [0, 1]. Raises ValueError for other numbers."""
        forcing = jnp.asarray(number(minimum=0, maximum=1)("forcing", forcing), self.forcing.dtype)
        return eqx.tree_at(lambda map: map.forcing, self, forcing)

    def jacobians(self, window: Float[Array, "times size"]) -> Float[Array, "times latent latent"]:
        """∂F/∂z at the states of a path that is followed with α = 1."""

        def step(z, x):
            z = jnp.concatenate([x, z[self.size :]])
            return self(z), self.jacobian(z)

        return lax.scan(step, self.lifted(window[0]), window)[1]

    def _drawn(self, z, x, forcing):
        observed = (1 - forcing) * z[: self.size] + forcing * x
        return jnp.concatenate([observed, z[self.size :]])


class AlmostLinear(AbstractRecurrent):
    """An almost linear recurrent network, of which few units are not linear.

        F(z) = A ∘ z + W φ(z) + h,        φ: the identity, but max(0, z) for the last units

    Its phase space falls into at most 2^pieces regions, in each of which the map is affine.

    **Arguments**

    - `size`: how many numbers a state of the path has; they are the first of z.
    - `latent`: how many numbers z has, at least `size` + `pieces`.
    - `pieces`: how many units are rectified.
    - `forcing`: α in [0, 1]; see `AbstractRecurrent` and `teacher_forcing`.
    - `key`: the JAX key from which the weights are drawn.

    **Raises** ValueError for sizes that do not fit and a forcing outside of [0, 1].

    **Example**

    >>> network = rqf.surrogates.AlmostLinear(3, latent=20, pieces=2, key=jax.random.key(0))
    >>> network.jacobian(jnp.zeros(20)).shape
    (20, 20)

    Source: AL-RNN, Brenner et al. 2024 (equations recalled by way of the authors' code; the
    initial weights are ours).
    """

    diagonal: Float[Array, " latent"]
    weights: Float[Array, "latent latent"]
    offset: Float[Array, " latent"]
    start: Float[Array, "rest size"]
    forcing: Float[Array, ""]
    size: int = eqx.field(static=True)
    latent: int = eqx.field(static=True)
    pieces: int = eqx.field(static=True)

    def __init__(self, size: int, *, latent: int, pieces: int, forcing: Any = 0.1, key: Key):
        self.size, self.pieces = integer("size", size), integer("pieces", pieces)
        self.latent = integer("latent", latent)
        if self.latent < self.size + self.pieces:
            raise ValueError(
                f"`latent` must be at least {shown(self.size + self.pieces)}, `size` + `pieces`; "
                f"got {self.latent}."
            )
        fitting("latent", (self.latent, self.latent))
        self.forcing = number(minimum=0, maximum=1)("forcing", forcing)
        first, second = jax.random.split(prng_key("key", key))
        self.diagonal, self.offset = jnp.full(self.latent, 0.9), jnp.zeros(self.latent)
        shape = (self.latent, self.latent)
        self.weights = 0.1 / math.sqrt(self.latent) * jax.random.normal(first, shape)
        self.start = 0.1 * jax.random.normal(second, (self.latent - self.size, self.size))

    def __call__(self, z: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """A ∘ z + W φ(z) + h."""
        linear = self.latent - self.pieces
        bent = jnp.concatenate([z[:linear], jax.nn.relu(z[linear:])])
        return self.diagonal * z + jnp.matmul(self.weights, bent, precision="highest") + self.offset


class ShallowPiecewise(AbstractRecurrent):
    """A shallow piecewise linear recurrent network that cannot explode.

        F(z) = A ∘ z + W₁ [max(0, W₂ z + h₂) - max(0, W₂ z)] + h₁,        |A_i| < 1

    The bracket lies between 0 and h₂, so that states stay bounded for all weights.

    **Arguments**

    - `size`: how many numbers a state of the path has; they are the first of z.
    - `latent`: how many numbers z has, at least `size`.
    - `hidden`: the length of h₂.
    - `forcing`: α in [0, 1]; see `AbstractRecurrent` and `teacher_forcing`.
    - `key`: the JAX key from which the weights are drawn.

    **Raises** ValueError for sizes that do not fit and a forcing outside of [0, 1].

    **Example**

    >>> key = jax.random.key(0)
    >>> network = rqf.surrogates.ShallowPiecewise(3, latent=3, hidden=50, key=key)
    >>> network(jnp.full(3, 1e4)).shape
    (3,)

    Source: clipped shPLRNN with generalised teacher forcing, Hess et al. 2023 (equations recalled
    by way of the authors' code; tanh for the bound on A and the initial weights are ours).
    """

    diagonal: Float[Array, " latent"]
    outer: Float[Array, "latent hidden"]
    inner: Float[Array, "hidden latent"]
    offset: Float[Array, " latent"]
    threshold: Float[Array, " hidden"]
    start: Float[Array, "rest size"]
    forcing: Float[Array, ""]
    size: int = eqx.field(static=True)
    latent: int = eqx.field(static=True)

    def __init__(self, size: int, *, latent: int, hidden: int, forcing: Any = 0.1, key: Key):
        self.size, hidden = integer("size", size), integer("hidden", hidden)
        self.latent = integer("latent", latent, minimum=self.size)
        fitting(("latent", "hidden"), (self.latent, hidden))
        self.forcing = number(minimum=0, maximum=1)("forcing", forcing)
        keys = jax.random.split(prng_key("key", key), 4)
        self.diagonal, self.offset = jnp.full(self.latent, 1.5), jnp.zeros(self.latent)
        self.outer = jax.random.normal(keys[0], (self.latent, hidden)) / hidden
        self.inner = jax.random.normal(keys[1], (hidden, self.latent)) / math.sqrt(self.latent)
        self.threshold = jax.random.normal(keys[2], (hidden,))
        self.start = 0.1 * jax.random.normal(keys[3], (self.latent - self.size, self.size))

    def __call__(self, z: Float[Array, " latent"]) -> Float[Array, " latent"]:
        """A ∘ z + W₁ [max(0, W₂ z + h₂) - max(0, W₂ z)] + h₁."""
        inside = jnp.matmul(self.inner, z, precision="highest")
        bracket = jax.nn.relu(inside + self.threshold) - jax.nn.relu(inside)
        linear = jnp.tanh(self.diagonal) * z + self.offset
        return linear + jnp.matmul(self.outer, bracket, precision="highest")


def teacher_forcing(jacobians: Any) -> Float[Array, ""]:
    """The least forcing under which the gradients of a recurrent map cannot explode.

        α* = max(0, 1 - 1/σ_max),        so that ‖Π_t (1 - α*) J_t‖ ≤ 1

    `jacobians` has shape (..., latent, latent), the Jacobians along a path, of which σ_max is the
    largest singular value of all. Returns α*. Raises ValueError for other shapes.

    **Example**

    >>> float(rqf.surrogates.teacher_forcing(2.0 * jnp.eye(3)))
    0.5

    Source: Hess et al. 2023, "Generalized teacher forcing for learning chaotic dynamics" (read in
    the authors' code).
    """
    jacobians = finite("jacobians", jacobians)
    if jacobians.ndim < 2 or jacobians.shape[-1] != jacobians.shape[-2] or not jacobians.size:
        raise ValueError(
            f"`jacobians` must have shape (..., latent, latent); got shape {jacobians.shape}."
        )
    largest = jnp.max(jnp.linalg.norm(jacobians, ord=2, axis=(-2, -1)))
    return jnp.maximum(0.0, 1 - 1 / jnp.maximum(largest, 1.0))


def forced_loss(surrogate: AbstractRecurrent, windows: Float[Array, "batch times size"]) -> Any:
    """The loss under the least forcing, found anew for every batch: a loss of `training.Process`.

    The forcing is `teacher_forcing` of the Jacobians at the states of the batch, so that it rises
    and falls with the map while it learns. The bound on products of Jacobians holds where all of
    the latent state is observed, `latent` = `size`; the numbers beyond are never forced. A singular
    value decomposition for every state makes it cheap for small latent states alone.

    `surrogate` is an `AlmostLinear`, a `ShallowPiecewise` or another `AbstractRecurrent`, and
    `windows` an array as `windows` makes it. Returns one number. Raises ValueError for other
    surrogates and for windows of states of another size.

    **Example**

    >>> key = jax.random.key(0)
    >>> network = rqf.surrogates.ShallowPiecewise(2, latent=2, hidden=20, key=key)
    >>> rqf.surrogates.forced_loss(network, jnp.zeros((3, 5, 2))).shape
    ()
    """
    part(AbstractRecurrent)("surrogate", surrogate)
    windows = batch_of(surrogate, windows)
    found = lax.stop_gradient(jax.vmap(surrogate.jacobians)(windows))
    return loss(surrogate.forced(teacher_forcing(found)), windows)
