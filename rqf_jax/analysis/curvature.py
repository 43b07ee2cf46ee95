"""Curvature of a loss and noise of its gradient, for weights that are any pytree.

Products of Hessians with vectors cost about two gradients, and no Hessian is written down but where
a function says so. One Lanczos recursion, reorthogonalised in full, gives extreme eigenvalues with
bounds on their errors, and densities. (JAX's LOBPCG gives the first alone, without bounds; the
library `matfree` gives both, and would be a dependency for one function of forty lines.)
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from .._arguments import (
    Key,
    finite,
    floats,
    function_of,
    integer,
    is_concrete,
    like,
    prng_key,
    scalar,
)
from .._ensemble.members import typed_key
from ._lanczos import ritz
from ._losses import (
    alone,
    check_loss,
    check_outputs,
    checked_data,
    checked_examples,
    flat_hessian,
)

__all__ = [
    "Curvature",
    "Estimate",
    "Extremes",
    "SpectralDensity",
    "example_gradients",
    "example_hessians",
    "gauss_newton_product",
    "gradient_covariance",
    "hessian",
    "hessian_eigenvalues",
    "hessian_product",
    "hessian_trace",
    "spectral_density",
]


def __dir__() -> list[str]:
    return __all__


Loss = Callable[[PyTree], Float[Array, ""]]
ExampleLoss = Callable[[PyTree, PyTree], Float[Array, ""]]


class Estimate(eqx.Module):
    """A number with the standard error of its estimate."""

    value: Float[Array, ""]
    stderr: Float[Array, ""]


class Extremes(eqx.Module):
    """The largest eigenvalues, descending, and for each a bound on the distance to a true one."""

    values: Float[Array, " count"]
    errors: Float[Array, " count"]

    def outliers(self) -> int:
        """The number of those above the bulk: before the largest ratio of two neighbours.

        A Hessian of a classifier has about as many as classes. The ratio is a rule of thumb; values
        that are not positive belong to the bulk. Raises ValueError for fewer than three positive.
        """
        values = np.asarray(self.values, float)
        values = values[values > 0]
        if values.size < 3:
            raise ValueError(f"`values` must have three positive ones; got {values.size}.")
        return int(np.argmax(values[:-1] / values[1:])) + 1


class SpectralDensity(eqx.Module):
    """A density of eigenvalues: `weights` at `nodes`, one Gauss quadrature for each probe.

    With k steps a quadrature is exact for polynomials of degree 2k - 1 in the matrix.
    """

    nodes: Float[Array, "probes steps"]
    weights: Float[Array, "probes steps"]

    def mean(self, function: Callable[[Array], Array]) -> Estimate:
        """The mean of a function over all eigenvalues, with its standard error over probes."""
        values = jnp.sum(self.weights * function(self.nodes), 1)
        return _estimate(values)

    def density(self, x: Any, width: Any) -> Float[Array, "..."]:
        """The density at `x`, smoothed by a Gaussian of standard deviation `width`.

        Raises ValueError for a width that is not positive.
        """
        x, width = finite("x", x), scalar("width", minimum=0)(width)
        if is_concrete(width) and width == 0:
            raise ValueError("`width` must be positive; got 0.")
        flat = (1,) * x.ndim + (-1,)
        nodes, weights = self.nodes.reshape(flat), self.weights.reshape(flat)
        far = (x[..., None] - nodes) / width
        bell = jnp.exp(-(far**2) / 2) / (width * jnp.sqrt(2 * jnp.pi))
        return jnp.sum(weights * bell, -1) / len(self.nodes)


# ---- products


def hessian_product(loss: Loss, weights: PyTree, vector: PyTree) -> PyTree:
    """∇²L v: the Hessian of a scalar loss times a vector of the shape of the weights' floats.

    Raises ValueError for a loss that is no real number.
    """
    point, rest = floats("weights", weights)
    check_loss(loss, weights)
    slope = jax.grad(lambda p: loss(eqx.combine(p, rest)))
    return jax.jvp(slope, (point,), (like("vector", vector, "weights", point),))[1]


def gauss_newton_product(
    outputs: Callable[[PyTree], PyTree], loss: Loss, weights: PyTree, vector: PyTree
) -> PyTree:
    """Jᵀ ∇²ℓ J v for L(w) = ℓ(f(w)): the Hessian without the curvature of the network f.

    **Arguments** `outputs`: f, a function of weights; `loss`: ℓ, a function of outputs to one real
    number; `weights`: any pytree; `vector`: v, of the shape of the weights' floats. **Returns** a
    pytree like v. **Raises** ValueError for a loss that is no real number. **Example**

    >>> product = rqf.analysis.curvature.gauss_newton_product(
    ...     lambda w: w**2, lambda f: jnp.sum(f**2) / 2, jnp.array([3.0]), jnp.array([1.0])
    ... )
    >>> float(product[0])  # (2w)²
    36.0
    """
    point, rest = floats("weights", weights)
    check_outputs(outputs, weights)

    def f(p):
        return outputs(eqx.combine(p, rest))

    seen, moved = jax.jvp(f, (point,), (like("vector", vector, "weights", point),))
    check_loss(loss, seen, of="outputs")
    bent = jax.jvp(jax.grad(loss), (seen,), (moved,))[1]
    return jax.vjp(f, point)[1](bent)[0]


def hessian(loss: Loss, weights: PyTree) -> Float[Array, "n n"]:
    """The whole Hessian of a scalar loss, for few weights, laid end to end.

    Raises ValueError for a loss that is no real number.
    """
    product, point = flat_hessian(loss, weights)
    return jax.vmap(product)(jnp.eye(point.size, dtype=point.dtype))


def example_hessians(
    loss: ExampleLoss, weights: PyTree, data: PyTree
) -> Float[Array, "samples n n"]:
    """The Hessian of the loss of every example, for `theory.sgd.stability_radius` and others.

    `loss` is a function of weights and a batch, which sees each example by itself.
    """
    examples = checked_examples(loss, weights, data)
    return jax.vmap(lambda one: hessian(lambda w: loss(w, alone(one)), weights))(examples)


# ---- estimates


def hessian_trace(loss: Loss, weights: PyTree, *, key: Key, probes: int = 16) -> Estimate:
    """tr ∇²L by Hutchinson's estimate, the mean of v·∇²L v over random signs v.

    **Arguments** `loss`: a function of weights to one real number; `weights`: any pytree; `key`:
    one JAX key; `probes`: number of vectors, at least 2. **Returns** an `Estimate`. **Raises**
    ValueError for other values. **Example**

    >>> trace = rqf.analysis.curvature.hessian_trace(
    ...     lambda w: jnp.sum(w**2), jnp.ones(5), key=jax.random.key(0)
    ... )
    >>> float(trace.value), float(trace.stderr)  # the Hessian is diagonal
    (10.0, 0.0)
    """
    product, point = flat_hessian(loss, weights)
    keys = jax.random.split(typed_key(prng_key("key", key)), integer("probes", probes, minimum=2))

    def one(key):
        signs = jax.random.rademacher(key, point.shape, point.dtype)
        return jnp.sum(signs * product(signs))

    return _estimate(lax.map(one, keys))


def hessian_eigenvalues(
    loss: Loss, weights: PyTree, count: int, *, key: Key, steps: int | None = None
) -> Extremes:
    """The `count` largest eigenvalues of ∇²L, each with a bound on its error, by Lanczos.

    **Arguments**

    - `loss`: a function of weights to one real number; give its negative for the least ones.
    - `weights`: any pytree; `count`: at most the number of weights.
    - `key`: one JAX key, of the start; `steps`: of the recursion, at least `count`; by default 20
      and two for each eigenvalue.

    **Returns** `Extremes`. **Raises** ValueError for other values. **Example**

    >>> found = rqf.analysis.curvature.hessian_eigenvalues(
    ...     lambda w: 3 * w[0] ** 2 + w[1] ** 2, jnp.ones(4), 2, key=jax.random.key(0)
    ... )
    >>> [round(float(value), 4) for value in found.values]
    [6.0, 2.0]
    """
    product, point = flat_hessian(loss, weights)
    count = integer("count", count, maximum=point.size)
    steps = 2 * count + 20 if steps is None else integer("steps", steps, minimum=count)
    steps = min(steps, point.size)
    values, vectors, last = ritz(product, point, typed_key(prng_key("key", key)), steps)
    # The residual of a Ritz vector; none is left once the recursion has seen the whole space.
    errors = jnp.abs(vectors[-1]) * (last if steps < point.size else 0.0)
    return Extremes(values[::-1][:count], errors[::-1][:count])


def spectral_density(
    loss: Loss, weights: PyTree, *, key: Key, steps: int = 40, probes: int = 8
) -> SpectralDensity:
    """The density of the eigenvalues of ∇²L, by stochastic Lanczos quadrature.

    **Arguments** `loss`: a function of weights to one real number; `weights`: any pytree; `key`:
    one JAX key; `steps`: of each recursion; `probes`: number of random starts, at least 2.
    **Returns** a `SpectralDensity`. **Raises** ValueError for other values. **Example**

    >>> found = rqf.analysis.curvature.spectral_density(
    ...     lambda w: jnp.sum(w**2), jnp.ones(30), key=jax.random.key(0)
    ... )
    >>> round(float(found.mean(lambda x: x**2).value), 4)
    4.0

    Source: Ubaru, Chen & Saad, SIAM J. Matrix Anal. Appl. 38 (2017) (recalled).
    """
    product, point = flat_hessian(loss, weights)
    steps = min(integer("steps", steps), point.size)
    keys = jax.random.split(typed_key(prng_key("key", key)), integer("probes", probes, minimum=2))

    def one(key):
        values, vectors, _ = ritz(product, point, key, steps)
        return values, vectors[0] ** 2

    return SpectralDensity(*lax.map(one, keys))


# ---- gradients of examples


def example_gradients(loss: ExampleLoss, weights: PyTree, data: PyTree) -> PyTree:
    """∇L_i for every example, a pytree like the weights' floats with a first axis of examples.

    `loss` is a function of weights and a batch, which sees each example by itself.
    """
    examples = checked_examples(loss, weights, data)
    point, rest = floats("weights", weights)

    def one(example):
        return jax.grad(lambda p: loss(eqx.combine(p, rest), alone(example)))(point)

    return jax.vmap(one)(examples)


def gradient_covariance(loss: ExampleLoss, weights: PyTree, data: PyTree) -> Float[Array, "n n"]:
    """C, the covariance of the gradients of examples, for few weights, laid end to end.

    A batch of B, with replacement, has a gradient of covariance C/B.
    """
    rows = jax.vmap(lambda tree: ravel_pytree(tree)[0])(example_gradients(loss, weights, data))
    centred = rows - rows.mean(0, keepdims=True)
    return jnp.matmul(centred.T, centred, precision="highest") / rows.shape[0]


class Curvature(eqx.Module):
    """An observable of a running process: curvature and gradient noise of its weights.

    Of weights w it gives a dictionary of

    - `loss`; `gradient`: |∇L|²; `noise`: tr C, of the gradients of single examples;
    - `trace`: tr ∇²L, and `trace_stderr`; `sharpness`: λ_max(∇²L);
    - `rate_trace` and `rate_sharpness`: the last two times the learning rate, of which full batches
      need the second below 2, and single examples of least squares the first;
    - `dissipation` and `fluctuation`: w·∇L and (α/2)(|∇L|² + tr C/B), whose means are equal in a
      stationary state of plain descent with replacement.

    **Arguments**

    - `loss`: a function of weights and a batch; `data`: the examples, as of `training.Process`.
    - `learning_rate`: α ≥ 0; `batch`: B of the process.
    - `key`: one JAX key; `probes`: vectors for the trace; `steps`: of Lanczos, for the sharpness.

    **Raises** ValueError for other values. **Example**

    >>> see = rqf.analysis.curvature.Curvature(
    ...     lambda w, x: jnp.mean((x @ w) ** 2) / 2, jnp.eye(2), learning_rate=0.1, batch=1,
    ...     key=jax.random.key(0),
    ... )
    >>> found = see(jnp.ones(2))
    >>> round(float(found["trace"]), 4), round(float(found["rate_sharpness"]), 4)
    (1.0, 0.05)
    """

    loss: ExampleLoss
    data: PyTree
    learning_rate: Float[Array, ""]
    key: Key
    batch: int = eqx.field(static=True)
    probes: int = eqx.field(static=True)
    steps: int = eqx.field(static=True)

    def __init__(
        self,
        loss: ExampleLoss,
        data: PyTree,
        *,
        learning_rate: Any,
        batch: int,
        key: Key,
        probes: int = 8,
        steps: int = 16,
    ):
        self.loss = function_of("weights and a batch")("loss", loss)
        self.data = jax.tree.map(jnp.asarray, checked_data(data))
        self.learning_rate = scalar("learning_rate", minimum=0)(learning_rate)
        self.key = typed_key(prng_key("key", key))
        self.batch = integer("batch", batch)
        self.probes = integer("probes", probes, minimum=2)
        self.steps = integer("steps", steps)

    def __call__(self, weights: PyTree) -> dict[str, Float[Array, ""]]:
        """The dictionary."""
        found, rest = floats("weights", weights)
        check_loss(self.loss, weights, self.data, of="weights and a batch")

        def whole(w):
            return self.loss(w, self.data)

        value, slope = jax.value_and_grad(lambda p: whole(eqx.combine(p, rest)))(found)
        flat, point = ravel_pytree(slope)[0], ravel_pytree(found)[0]
        square_norm = jnp.sum(flat**2)

        def square(example):
            own = jax.grad(lambda p: self.loss(eqx.combine(p, rest), alone(example)))(found)
            return jnp.sum(ravel_pytree(own)[0] ** 2)

        # Batches of examples, so that many seeds' gradients fit the memory.
        noise = jnp.mean(lax.map(square, self.data, batch_size=32)) - square_norm
        trace = hessian_trace(whole, weights, key=self.key, probes=self.probes)
        top = hessian_eigenvalues(whole, weights, 1, key=self.key, steps=self.steps).values[0]
        rate = self.learning_rate.astype(flat.dtype)
        return {
            "loss": value,
            "gradient": square_norm,
            "noise": noise,
            "trace": trace.value,
            "trace_stderr": trace.stderr,
            "sharpness": top,
            "rate_trace": rate * trace.value,
            "rate_sharpness": rate * top,
            "dissipation": jnp.sum(point * flat),
            "fluctuation": rate / 2 * (square_norm + noise / self.batch),
        }


def _estimate(values: Float[Array, " probes"]) -> Estimate:
    return Estimate(
        values.mean(), values.std(ddof=1) / jnp.sqrt(values.size * 1.0).astype(values.dtype)
    )
