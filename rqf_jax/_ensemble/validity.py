"""Whether the parts of a problem fit together: found from shapes alone, before compilation."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree

from .._arguments import Key, calling, closes_over_traced, shown
from .._sde import SDE, in_dtype
from ..drifts import AbstractDrift
from ..laws import AbstractLaw
from ..layers import AbstractLayer
from ..manifolds import AbstractManifold
from ..noises import AbstractNoise
from ..solvers import begin, micro_step
from .kinds import once_for_each_kind


@once_for_each_kind
def check_parts(sde: SDE, save: Callable, solver: diffrax.AbstractSolver, state: PyTree) -> None:
    """Raise ValueError unless drift, noise, manifold, solver and `save` take a state like `state`.

    The error names the class, the method, the array it returned and the one it must return.
    """
    time = jax.ShapeDtypeStruct((), jax.tree.leaves(state)[0].dtype)
    sde = in_dtype(sde, time.dtype)
    noise, drift, manifold = sde.noise, sde.drift, sde.manifold
    dw = _increment(noise, state, time.dtype)
    _returns(noise, "__call__", (time, state, dw), state)
    check_flow(drift, manifold, state)
    if dw.size:
        _linear(noise, time, state, dw)
    _steps(solver, sde, time, state, dw)
    check_saved(save, state)


def check_flow(drift: AbstractDrift, manifold: AbstractManifold, state: PyTree) -> None:
    """Raise ValueError unless drift and manifold take a state like `state` and return its like."""
    time = jax.ShapeDtypeStruct((), jax.tree.leaves(state)[0].dtype)
    _returns(drift, "__call__", (time, state), state)
    _returns(manifold, "tangent", (state, state), state)
    _returns(manifold, "retract", (state, state), state)
    _returns(manifold, "project", (state,), state)
    _returns(manifold, "defect", (state,), state, time)


def check_layers(layers: Sequence[AbstractLayer], key: Key, state: PyTree) -> None:
    """Raise ValueError unless layers return tokens like those that they take."""
    for layer in layers:
        _check_layer(layer, key, state)


@once_for_each_kind
def _check_layer(layer: AbstractLayer, key: Key, state: PyTree) -> None:
    _returns(in_dtype(layer, state.dtype), "__call__", (key, state), state)


def checked_process(process: Any, key: Key, save: Callable) -> Any:
    """A training process with its numbers in the float type of its states.

    Raises ValueError unless an update returns a state like the one it took and `save` takes the
    weights: the error names the class, the method and the shapes.
    """
    return in_dtype(process, _float_of(process, key, save))


@once_for_each_kind
def _float_of(process: Any, key: Key, save: Callable) -> np.dtype:
    """The float type of the states of a process, which `checked_process` checks."""
    state = _evaluated(process, "start", (key,))
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state)}
    floats = [kind for kind in kinds if jnp.issubdtype(kind, jnp.inexact)]
    dtype = np.dtype(jnp.result_type(*floats))
    process = in_dtype(process, dtype)
    number = jnp.asarray(0)  # of weak type, as in the loop over updates
    _returns(process, "update", (key, number, state), state)
    check_saved(save, _evaluated(process, "weights", (state,)))
    return dtype


def check_saved(save: Callable, state: PyTree) -> None:
    """Raise ValueError unless `save` takes a state and returns arrays."""
    with taking("save", state):
        saved = eqx.filter_eval_shape(save, state)
    leaves = jax.tree.leaves(saved)
    if not leaves or not all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves):
        raise ValueError(
            "`save` must return an array, or a dict, tuple or other pytree of arrays; got "
            f"{shapes_of(saved)}."
        )


def shapes_of(value: PyTree) -> str:
    """Shapes and dtypes of a pytree of arrays, such as `float32 (2, 3)`, for an error."""
    named = jax.tree_util.tree_flatten_with_path(value)[0]
    if len(named) == 1 and not named[0][0]:
        return _leaf(value)
    return ", ".join(f"{path_name(path)} {_leaf(leaf)}" for path, leaf in named) or shown(value)


def path_name(path: tuple) -> str:
    """The place of a leaf in a pytree, such as `q` or `layers.0`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _leaf(leaf: Any) -> str:
    array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    return f"{leaf.dtype} {leaf.shape}" if array else shown(leaf)


def check_span(law: AbstractLaw, sde: SDE) -> None:
    """Raise ValueError if `law` leaves out a dimension or directions that the equation asks for."""
    for word in (sde.drift, sde.noise) if law.in_span else ():
        if not word.spans:
            raise ValueError(
                f"`law` {type(law).__name__} does not suit this equation: the overlaps of tokens "
                f"under {type(word).__name__} depend on the dimension or on directions, which "
                "coordinates in a span do not have. Use the inner law itself."
            )


@contextlib.contextmanager
def taking(name: str, *args: PyTree, named: bool = False) -> Iterator[None]:
    """Raise errors of a function that is applied to `args` as ValueError that names both.

    With `named`, errors that name a part of the function, like a field, are left as they are.
    """
    remedy = "Write it for ONE state, without axes of members and times, in `jax.numpy`."
    with calling(name, f"take {', '.join(map(shapes_of, args))}", remedy, named=named):
        yield


def _evaluated(owner: Any, method: str, args: tuple) -> PyTree:
    """Shapes of the result of a method for one state; ValueError if it cannot be evaluated."""
    with taking(_title(owner, method), *args, named=True):
        return eqx.filter_eval_shape(lambda own, *args: getattr(own, method)(*args), owner, *args)


def _returns(
    owner: Any, method: str, args: tuple, state: PyTree, wanted: PyTree | None = None
) -> None:
    """Raise ValueError unless a method returns arrays like `wanted`, by default like the state."""
    found, wanted = _evaluated(owner, method, args), state if wanted is None else wanted
    if _alike(found, wanted):
        return
    what = "one number, " if method == "defect" else ""
    raise ValueError(
        f"`{_title(owner, method)}` must return {what}{shapes_of(wanted)} for a state "
        f"{shapes_of(state)}; got {shapes_of(found)}.{_remedy(found, wanted)}"
    )


def _alike(found: PyTree, wanted: PyTree) -> bool:
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        return False
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return all(
        getattr(a, "shape", None) == b.shape and getattr(a, "dtype", None) == b.dtype
        for a, b in pairs
    )


def _remedy(found: PyTree, wanted: PyTree) -> str:
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        return " Return the same structure, leaf by leaf."
    shapes = [getattr(leaf, "shape", None) for leaf in jax.tree.leaves(found)]
    if shapes != [leaf.shape for leaf in jax.tree.leaves(wanted)]:
        return " Nothing is broadcast: return an entry for every entry of the state."
    return " Make its constants with the dtype of the state, `x.dtype`."


def _title(owner: Any, method: str) -> str:
    name = type(owner).__name__
    return name if method == "__call__" else f"{name}.{method}"


def _increment(noise: Any, state: PyTree, dtype: Any) -> jax.ShapeDtypeStruct:
    """The increment that drives the noise; ValueError unless its shape is one."""
    with taking(_title(noise, "shape"), state, named=True):
        shape = noise_shape(noise, state)
    if not (isinstance(shape, tuple) and shape and all(isinstance(n, int) for n in shape)):
        raise ValueError(
            f"`{_title(noise, 'shape')}` must return the shape of a Brownian motion, a tuple of at "
            f"least one integer; got {shown(shape)}."
        )
    return jax.ShapeDtypeStruct(shape, dtype)


@once_for_each_kind
def noise_shape(noise: AbstractNoise, state: PyTree[jax.ShapeDtypeStruct]) -> tuple[int, ...]:
    """The shape of the Brownian motion that drives a state."""
    found = []
    # The shape is no array, and so no result of `eval_shape`.
    eqx.filter_eval_shape(lambda noise, x: found.append(noise.shape(x)), noise, state)
    return found[0]


def _linear(noise: Any, time: Any, state: PyTree, dw: Any) -> None:
    """Raise ValueError if the displacement ignores the increment or is not linear in it."""
    arrays, static = eqx.partition(noise, eqx.is_array)

    def displacement(dw, arrays, time, x):
        return eqx.combine(arrays, static)(time, x, dw)

    if not _used(displacement, dw, arrays, time, state)[0]:
        raise ValueError(
            f"`{type(noise).__name__}` must move the state by its increment `dw`; it does not use "
            "`dw`. Put motion without noise into the drift."
        )

    def derivative(dw, direction, arrays, time, x):
        return jax.jvp(lambda dw: displacement(dw, arrays, time, x), (dw,), (direction,))[1]

    try:
        bent = _used(derivative, dw, dw, arrays, time, state)[0]
    except TypeError:  # a function with a reverse rule of its own has no forward derivative
        return
    if bent:
        raise ValueError(
            f"`{type(noise).__name__}` must be linear in its increment `dw`; its derivative with "
            "respect to `dw` depends on `dw`."
        )


@once_for_each_kind
def knows_time(sde: SDE, state: PyTree) -> bool:
    """True if the drift or the noise of a state like `state` depends on the time."""
    time = jax.ShapeDtypeStruct((), jax.tree.leaves(state)[0].dtype)
    arrays, static = eqx.partition(in_dtype(sde, time.dtype), eqx.is_array)

    def motion(time, arrays, x, dw):
        sde = eqx.combine(arrays, static)
        return sde.drift(time, x), sde.noise(time, x, dw)

    return _used(motion, time, arrays, state, _increment(sde.noise, state, time.dtype))[0]


def hides_traced(sde: SDE, law: AbstractLaw, key: Key, state: PyTree) -> bool:
    """True if a part of the equation or the law closes over a traced array.

    Such an array is no field of its part, and not seen by those who look at the part from outside.
    """
    time = jax.ShapeDtypeStruct((), jax.tree.leaves(state)[0].dtype)

    def motion(sde, law, key, time, x, dw):
        sde = in_dtype(sde, time.dtype)
        moved = sde.drift(time, x), sde.noise(time, x, dw)
        return law(key), moved, sde.manifold.tangent(x, x)

    dw = _increment(sde.noise, state, time.dtype)
    return closes_over_traced(motion, sde, law, key, time, state, dw)


def _used(function: Callable, *args: PyTree) -> list[bool]:
    """Which arrays of the arguments the results depend on; loops of unknown length are trusted."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    if "while[" in str(jaxpr) and function.__name__ == "derivative":
        return [False] * len(jaxpr.invars)
    return dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[1]


def _steps(solver: diffrax.AbstractSolver, sde: SDE, time: Any, state: PyTree, dw: Any) -> None:
    """Raise ValueError unless a step of the solver returns a state like the one it took."""
    needs_areas = isinstance(solver, diffrax.AbstractSRK)

    def step(sde, time, h, x, dw):
        handed = begin(solver, sde, time, x)
        return micro_step(solver, sde, time, h, x, dw, handed, dw if needs_areas else None)

    found, _ = eqx.filter_eval_shape(step, sde, time, time, state, dw)
    if not _alike(found, state):
        raise ValueError(
            f"`{type(solver).__name__}` must return a state {shapes_of(state)}; got "
            f"{shapes_of(found)}.{_remedy(found, state)}"
        )
