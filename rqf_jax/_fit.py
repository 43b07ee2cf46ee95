"""Fits by gradients: parameters of an equation that make a loss small."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from ._arguments import Key, calling, function_of, integer, lower_bound, part, prng_key
from ._ensemble.compiled import compiled
from ._ensemble.members import typed_key
from ._ensemble.trajectories import NonFiniteError
from ._sde import SDE


class Fit(eqx.Module):
    """A fitted equation: `sde`, and the loss before every step and after the last, `history`."""

    sde: SDE
    history: Float[Array, " losses"]

    def __repr__(self) -> str:
        first, last = float(self.history[0]), float(self.history[-1])
        return f"Fit(steps={self.history.size - 1}, loss={first:.3g}…{last:.3g}, sde={self.sde})"


def fit(
    sde: SDE,
    loss: Callable[[SDE, Key], Float[Array, ""]],
    *,
    where: Callable[[SDE], PyTree],
    optimizer: optax.GradientTransformation | None = None,
    steps: int,
    key: Key,
) -> Fit:
    """The parameters of `sde` chosen by `where` that make `loss` small, by gradient descent.

    **Arguments**

    - `sde`: the equation to start from; what `where` does not choose stays as it is.
    - `loss`: a function of an equation and a key, one of `rqf_jax.losses` or yours. It sees the
      same key at every step (common random numbers), so that it is one smooth function.
    - `where`: from an equation to the parameters to fit: an array of it, a tuple of them, or a
      whole module, whose float arrays are meant. A parameter that its class keeps above a bound,
      like a strength, is fitted in the logarithm of its distance from it.
    - `optimizer`: from optax; default Adam with a rate that falls from 0.05 to 0 as a cosine.
    - `steps`: number of steps. The default rate ends at 0, so a history that ends flat is no sign
      that enough were taken: twice as many should not change the loss by more than its error, for
      the mean log density of M transitions 1/M. One parameter takes about 100, a network 400.
    - `key`: one JAX key.

    **Returns** a `Fit` with the equation and the history of the loss. Where there is a likelihood
    (`rqf_jax.inference`) prefer it: fits by simulated moments had 1.4 times its error and took
    hundreds of times as long in the one comparison that was made, and they have no error bars.

    **Raises** ValueError for arguments that break a rule and for bounded parameters that start on
    their bound; `NonFiniteError` if the loss or its gradient becomes NaN or infinite.

    **Example**

    >>> fit = rqf.fit(
    ...     rqf.models.random_quadratic_form(0.5),
    ...     lambda sde, key: (sde.noise.symmetric - 1) ** 2,
    ...     where=lambda sde: sde.noise.symmetric, steps=200, key=jax.random.key(0),
    ... )
    >>> print(round(float(fit.sde.noise.symmetric), 3))
    1.0
    """
    part(SDE)("sde", sde)
    function_of("an equation and a key")("loss", loss)
    function_of("an equation")("where", where)
    steps, key = integer("steps", steps, maximum=2**31 - 1), typed_key(prng_key("key", key))
    optimizer = _adam(steps) if optimizer is None else optimizer
    part(optax.GradientTransformation, "a gradient transformation of optax")("optimizer", optimizer)
    chosen, minima = _chosen(sde, where)
    free, fixed = eqx.partition(sde, chosen)
    point = jax.tree.map(_to_line, free, minima)
    state = optimizer.init(point)
    history = []
    with _Progress(steps) as advance:
        for step in range(steps):
            point, state, value, slope = _step(point, fixed, minima, state, loss, key, optimizer)
            _check(step, value, slope)
            history.append(value)
            advance(float(value))
    # The same program once more, for the loss where the last step led.
    _, _, value, slope = _step(point, fixed, minima, state, loss, key, optimizer)
    _check(steps, value, slope)
    return Fit(_assembled(point, fixed, minima), jnp.stack([*history, value]))


@functools.cache
def _adam(steps: int) -> optax.GradientTransformation:
    # One object for each number of steps: a fresh one would compile anew.
    return optax.adam(optax.cosine_decay_schedule(0.05, steps))


@compiled
def _step(point, fixed, minima, state, loss, key, optimizer):
    """The next point, and the loss and the size of its gradient at this one."""

    def objective(p):
        with calling("loss", "be a function of an equation and a key"):
            value = loss(_assembled(p, fixed, minima), key)
        return _scalar(value)

    value, gradient = jax.value_and_grad(objective)(point)
    # Optax counts in integers and multiplies with floats, whatever the caller's promotion rules.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        # Line searches and rates that fall on a plateau ask for the loss; others do without.
        updates, state = optax.with_extra_args_support(optimizer).update(
            gradient, state, point, value=value, grad=gradient, value_fn=objective
        )
        point = optax.apply_updates(point, updates)
        slope = optax.tree.norm(gradient)
    return point, state, value, slope


def _scalar(value: Any) -> Float[Array, ""]:
    if not (eqx.is_inexact_array(value) and value.shape == ()):
        raise ValueError(f"`loss` must return one real number; got {value!r}.")
    return value


def _assembled(point, fixed, minima):
    return eqx.combine(jax.tree.map(_from_line, point, minima), fixed)


def _to_line(value, minimum: float):
    return value if minimum == -math.inf else jnp.log(value - minimum)


def _from_line(value, minimum: float):
    return value if minimum == -math.inf else minimum + jnp.exp(value)


def _check(step: int, value, slope) -> None:
    for name, number in (("loss", value), ("gradient of the loss", slope)):
        if not math.isfinite(float(number)):
            raise NonFiniteError(
                f"the {name} became {float(number)} at step {step}: take smaller steps in time "
                "(`substeps`) or in the parameters (`optimizer`)."
            )


def _chosen(sde: SDE, where: Any) -> tuple[PyTree, PyTree]:
    """The leaves of `sde` that are fitted, and the lower bound of each of them."""
    if not callable(where):
        raise ValueError(f"`where` must be a function of an equation; got {where!r}.")
    try:
        wanted = [leaf for leaf in jax.tree.leaves(where(sde)) if eqx.is_inexact_array(leaf)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"`where` must choose parameters of `sde`; got {error}.") from error
    with_paths, structure = jax.tree_util.tree_flatten_with_path(sde)
    leaves = [leaf for _, leaf in with_paths]
    if not wanted:
        raise ValueError("`where` must choose at least one array of floats; got none.")
    for leaf in wanted:
        count = sum(leaf is other for other in leaves)
        if count != 1:
            found = "is not in it" if count == 0 else f"is {count} of its parameters at once"
            raise ValueError(
                f"`where` must choose parameters of `sde` as they are; got {leaf}, which {found}."
            )
    chosen, minima = [], []
    for path, leaf in with_paths:
        fitted = any(leaf is other for other in wanted)
        minimum = _minimum(sde, path) if fitted else -math.inf
        if fitted and not bool(jnp.all(leaf > minimum)):
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(
                f"`{name}` must start above its bound {minimum:g} to be fitted; got {leaf}."
            )
        chosen.append(fitted)
        minima.append(minimum if fitted else None)
    return jax.tree.unflatten(structure, chosen), jax.tree.unflatten(structure, minima)


def _minimum(sde: SDE, path: tuple) -> float:
    """The bound that the class which holds the leaf at `path` keeps it above."""
    owner: Any = sde
    for entry in path[:-1]:
        owner = getattr(owner, entry.name) if hasattr(entry, "name") else owner[_index(entry)]
    if not dataclasses.is_dataclass(owner):
        return -math.inf
    fields = {field.name: field for field in dataclasses.fields(owner)}
    return lower_bound(fields[path[-1].name].metadata.get("converter"))


def _index(entry: Any) -> Any:
    return entry.idx if hasattr(entry, "idx") else entry.key


class _Progress:
    """A bar on the screen that shows the loss and goes away when the fit is done."""

    def __init__(self, steps: int):
        from importlib.util import find_spec

        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=console,
            # There rich would print a warning for every fit, and no bar.
            disable=console.is_jupyter and find_spec("ipywidgets") is None,
            transient=True,
        )
        self.task = self.bar.add_task("compiling", total=steps)

    def __enter__(self) -> Callable[[float], None]:
        self.bar.start()
        return lambda loss: self.bar.update(self.task, advance=1, description=f"loss {loss:.3g}")

    def __exit__(self, *_) -> None:
        self.bar.stop()
