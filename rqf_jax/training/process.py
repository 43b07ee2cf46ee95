"""Any learning by gradients: a loss, weights, data, an optimiser of optax, and injected noise."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from .._arguments import Key, calling, described, function_of, is_concrete, shown
from ._descent import AbstractDescent
from .data import AbstractSource, drawn, sourced
from .injections import AbstractInjection, checked_injections


class LeastSquares(eqx.Module):
    """The loss (1/2B) Σ |r_i|² of residuals, a function of weights and a batch of B examples.

    `residuals` returns an array whose first axis is the examples.

    **Example**

    >>> loss = rqf.training.LeastSquares(lambda w, batch: batch[0] @ w - batch[1])
    >>> float(loss(jnp.array([1.0]), (jnp.array([[1.0], [2.0]]), jnp.array([0.0, 0.0]))))
    1.25
    """

    residuals: Callable[[PyTree, PyTree], Float[Array, "batch ..."]]

    __repr__ = described

    def __call__(self, weights: PyTree, batch: PyTree) -> Float[Array, ""]:
        """Half the mean squared residual."""
        r = self.residuals(weights, batch)
        counts = {leaf.shape[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf)}
        if not (eqx.is_inexact_array(r) and r.ndim) or (counts and r.shape[0] not in counts):
            count = f"the {min(counts)} examples" if len(counts) == 1 else "examples"
            raise ValueError(
                f"`residuals` must return an array of floats whose first axis is {count}; got "
                f"{shown(r)}."
            )
        return jnp.sum(r * r) / (2 * r.shape[0])


class Process(AbstractDescent):
    """Any learning by gradients: of any loss, by any optimiser of optax, with injected noise.

        w ← w + optimiser(∇_w loss(w, batch_k, noise_k))

    Every seed draws its own first weights, batches and noise; give a source or an injection a
    `common` key, and all seeds draw the same. `train` runs hundreds of seeds as one program.

    **Arguments**

    - `loss`: a function of weights and a batch to one real number, such as `LeastSquares`.
    - `law`: the first weights: a function of one key to a pytree with arrays of floats, such as a
      law of `rqf_jax.laws`, a `Subspace`, or one that makes an Equinox module.
    - `data`: a pytree of arrays whose first axis is the examples, such as (inputs, targets), or a
      source of `training.data`; by default none.
    - `optimiser`: of optax, or a function of nothing that makes one. Write
      `jax.tree_util.Partial(optax.adam, jnp.array(1e-3))` where other rates shall not compile anew.
    - `injections`: a list of `training.injections`, of which one may choose batches; otherwise
      every update sees all examples.

    **Raises** ValueError, before anything is compiled, for a loss that is no real number or not
    finite at a draw of the law, for weights that hold complex or whole numbers, for an optimiser
    whose state is no pytree of arrays, and for injections that do not suit the data.

    **Example**

    >>> import optax
    >>> x = jnp.linspace(-1.0, 1.0, 8)[:, None]
    >>> process = rqf.training.Process(
    ...     rqf.training.LeastSquares(lambda w, batch: batch[0] @ w - batch[1]),
    ...     rqf.laws.Normal((1,)), (x, 3.0 * x[:, 0]), optimiser=optax.adam(0.1),
    ...     injections=[rqf.training.injections.Reshuffled(4)],
    ... )
    >>> runs = rqf.training.train(process, [0, 400], seeds=5, key=jax.random.key(0))
    >>> bool(jnp.allclose(runs.ys[:, -1], 3.0, atol=1e-2))
    True
    """

    objective: Callable[[PyTree, PyTree], Float[Array, ""]]
    law: Callable[[Key], PyTree]
    source: AbstractSource
    optimiser: Any
    injections: tuple[AbstractInjection, ...]

    def __init__(
        self,
        loss: Callable[[PyTree, PyTree], Float[Array, ""]],
        law: Callable[[Key], PyTree],
        data: PyTree = (),
        *,
        optimiser: Any,
        injections: Sequence[AbstractInjection] = (),
    ):
        self.objective = function_of("weights and a batch")("loss", loss)
        self.law = function_of("one key")("law", law)
        self.source = sourced(data)
        self.injections = checked_injections(injections, self.source.samples)
        self.optimiser = optimiser
        _check_weights(drawn(law))
        _check_optimiser(self)
        _check_loss(self)

    def loss(self, weights: PyTree, batch: PyTree) -> Any:
        """The loss as it was given."""
        with calling("loss", "be a function of weights and a batch", named=True):
            return self.objective(weights, batch)


def _check_weights(weights: PyTree) -> None:
    arrays = [leaf for leaf in jax.tree.leaves(weights) if isinstance(leaf, jax.ShapeDtypeStruct)]
    for leaf in arrays:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(f"`law` must draw arrays of floats; got dtype {leaf.dtype}.")
    if not arrays:
        raise ValueError(f"`law` must draw arrays of floats; got {shown(weights)}.")


def _check_optimiser(process: Process) -> None:
    given = process.optimiser
    if not isinstance(given, optax.GradientTransformation):
        try:
            made = callable(given) and given()
        except TypeError:  # a function of something
            made = None
        if not isinstance(made, optax.GradientTransformation):
            raise ValueError(
                "`optimiser` must be a gradient transformation of optax, or a function of nothing "
                f"that makes one; got {shown(given)}."
            )
    state = eqx.filter_eval_shape(process.start, jax.random.key(0)).optimiser
    for leaf in jax.tree.leaves(state):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            raise ValueError(
                f"`optimiser` must have a state that is a pytree of arrays; got {shown(leaf)}."
            )


def _check_loss(process: Process) -> None:
    def first(key: Key) -> Any:
        state = process.start(key)
        value, _ = process.drawn(key, jnp.zeros((), jnp.int32), state)
        return value(state.point)[0]

    key = jax.random.key(0)
    found = eqx.filter_eval_shape(first, key)
    real = isinstance(found, jax.ShapeDtypeStruct) and jnp.issubdtype(found.dtype, jnp.floating)
    if not real or found.shape:
        raise ValueError(f"`loss` must return one real number; got {shown(found)}.")
    if is_concrete(process):
        value = float(first(key))
        if not np.isfinite(value):
            raise ValueError(f"`loss` must be finite at a draw of `law`; got {value}.")
