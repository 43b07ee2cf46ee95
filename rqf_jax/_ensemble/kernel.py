"""A save interval as one fused kernel, where the step of an equation can be one."""

import functools
import math
from collections.abc import Callable
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, UInt32

from .._brownian.path import area_stream, draw, increment, levy_area
from .._fused import cpu, gpu
from .._fused.cache import warn
from .._fused.loop import Step, loop
from .._fused.switch import platforms
from .._fused.values import Unavailable, Unsupported
from .._sde import SDE, in_dtype, state_dtype
from ..solvers import begin, micro_step
from .validity import noise_shape

MOST_NUMBERS = {"cpu": 1024, "cuda": 256}
"""The most numbers of a state and its noise together that a kernel is tried for.

They stay in a core's cache on a CPU, and in a thread's registers on a GPU."""


def step_of(sde: SDE, solver: diffrax.AbstractSolver, state: PyTree[Any]) -> Step:
    """The solver's step of one member, noise included, for a state of this shape and dtype.

    Raises `Unsupported`, with the reason, if a kernel is not for it.
    """
    dtype = state_dtype(state)
    if dtype != jnp.float32:
        raise Unsupported(f"a state of {dtype}; kernels are for float32")
    shape = noise_shape(sde.noise, state)
    arrays, static = eqx.partition((in_dtype(sde, dtype), solver), eqx.is_array)
    leaves, treedef = jax.tree.flatten(arrays)
    _, state_treedef = jax.tree.flatten(state)
    needs_areas = isinstance(solver, diffrax.AbstractSRK)
    kinds = [leaf.dtype for leaf in leaves]

    def model(parameters):
        typed = [_from_float(p, kind) for p, kind in zip(parameters, kinds, strict=True)]
        return eqx.combine(jax.tree.unflatten(treedef, typed), static)

    def start(parameters, time, *x):
        sde, solver = model(parameters)
        return begin(solver, sde, time, jax.tree.unflatten(state_treedef, x))

    word, number = (jax.ShapeDtypeStruct((), kind) for kind in (jnp.int32, jnp.float32))
    given = [jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for leaf in leaves]
    x = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(state)]
    handed, handed_treedef = jax.tree.flatten(jax.eval_shape(start, given, number, *x))

    def step(parameters, words, place, time, h, *moving):
        sde, solver = model(parameters)
        state = jax.tree.unflatten(state_treedef, moving[: len(x)])
        handed = jax.tree.unflatten(handed_treedef, moving[len(x) :])
        dw = increment(draw(words, place, 1, shape, dtype)[0], h, shape)
        area = None
        if needs_areas:
            area = levy_area(draw(area_stream(words), place, 1, shape, dtype)[0], h, shape)
        return micro_step(solver, sde, time, h, state, dw, handed, area)

    words = jax.ShapeDtypeStruct((2,), jnp.uint32)
    return Step(
        jax.make_jaxpr(start)(given, number, *x),
        jax.make_jaxpr(step)(given, words, word, number, number, *x, *handed),
        len(leaves),
    )


def reason(sde: SDE, solver: diffrax.AbstractSolver, state: PyTree[Any]) -> str | None:
    """Why an interval is a scan in XLA, as a clause; None if it is a fused kernel."""
    try:
        _kernels(sde, solver, state)
    except Unsupported as error:
        return str(error)
    return None


class Interval(eqx.Module):
    """The steps of one save interval of a batch: where they start, and how long they are."""

    number: Int[Array, ""]
    start: Float[Array, ""]
    h: Float[Array, ""]
    substeps: int = eqx.field(static=True)


Plain = Callable[[PyTree, UInt32[Array, "2 members"], Interval, PyTree], PyTree]
"""(equation and solver, streams, interval, states) -> states, as a scan in XLA."""

Kernel = Callable[..., Float[Array, "numbers members"]]
"""(streams, states, ints, reals, parameters) -> states, on rows of numbers."""


def advance(
    plain: Plain,
    model: tuple[SDE, diffrax.AbstractSolver],
    streams: UInt32[Array, "2 members"],
    interval: Interval,
    x: PyTree[Array],
    axis: int,
) -> PyTree[Array]:
    """States at the end of an interval, by a kernel if the step can be one and by `plain` if not.

    `axis` is that of the members in `x`. Derivatives are those of `plain`.
    """
    one = jax.eval_shape(lambda x: jax.tree.map(lambda leaf: jnp.take(leaf, 0, axis), x), x)
    try:
        kernels = _kernels(*model, one)
    except Unsupported as error:
        if isinstance(error, Unavailable):
            warn(f"Save intervals are scans, which are several times slower: {error}.")
        return plain(model, streams, interval, x)
    arrays, static = eqx.partition(model, eqx.is_array)

    def scanned(arrays, streams, interval, x):
        return plain(eqx.combine(arrays, static), streams, interval, x)

    def by(kernel):
        return functools.partial(_call, kernel, axis)

    @jax.custom_jvp
    def run(*given):
        branches = {platform: by(kernel) for platform, kernel in kernels.items()}
        return lax.platform_dependent(*given, default=scanned, **branches)

    @run.defjvp
    def _(primals, tangents):
        # Where reverse mode only passes through, on its way to the interval whose derivative it
        # takes, it needs the states alone: the kernel is enough, and the scan drops out.
        return run(*primals), jax.jvp(scanned, primals, tangents)[1]

    return run(arrays, streams, interval, x)


def _call(kernel, axis, arrays, streams, interval, x):
    """The kernel on rows of numbers, with the members last."""
    leaves, treedef = jax.tree.flatten(x)
    moved = [jnp.moveaxis(leaf, axis, -1) for leaf in leaves]
    rows = jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in moved])
    parameters = [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(arrays)]
    # XLA passes no empty buffers.
    parameters = jnp.concatenate(parameters or [jnp.zeros(1, jnp.float32)])
    ints = jnp.stack([interval.number, jnp.int32(interval.substeps), jnp.int32(rows.shape[1])])
    reals = jnp.stack([interval.start, interval.h])
    rows = kernel(streams, rows, ints, reals, parameters)
    out, place = [], 0
    for leaf in moved:
        size = math.prod(leaf.shape[:-1])
        out.append(jnp.moveaxis(rows[place : place + size].reshape(leaf.shape), -1, axis))
        place += size
    return jax.tree.unflatten(treedef, out)


def _kernels(sde: SDE, solver: diffrax.AbstractSolver, state: PyTree[Any]) -> dict[str, Kernel]:
    """The kernel of each platform at hand that one is made for; `Unsupported` if there is none."""
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state))
    numbers += math.prod(noise_shape(sde.noise, state))
    known = [name for name in platforms() if name in _KERNELS]
    if not known:
        raise Unsupported(f"there are no kernels for {jax.default_backend()}")
    fitting = [name for name in known if numbers <= MOST_NUMBERS[name]]
    if not fitting:
        most = max(MOST_NUMBERS[name] for name in known)
        raise Unsupported(f"{numbers} numbers of state and noise; kernels take {most}")
    step = step_of(sde, solver, state)
    return {name: _KERNELS[name](step) for name in fitting}


def _on_cpu(step: Step) -> Kernel:
    width = cpu.width()
    name = cpu.target(loop(step, width))

    def kernel(streams, rows, *shared):
        members = rows.shape[1]
        if spare := -members % width:
            # Whole vectors: the last member again.
            streams, rows = (
                jnp.pad(array, [(0, 0), (0, spare)], mode="edge") for array in (streams, rows)
            )
        out = jax.ShapeDtypeStruct(rows.shape, rows.dtype)
        call = jax.ffi.ffi_call(name, out, vmap_method="sequential")
        return call(streams, rows, *shared)[:, :members]

    return kernel


def _on_cuda(step: Step) -> Kernel:
    gpu.check_device()
    return functools.partial(gpu.call, gpu.ptx(loop(step, 1)))


_KERNELS = {"cpu": _on_cpu, "cuda": _on_cuda}


def _from_float(number, kind):
    """A parameter of a kernel, all of which are floats, in the equation's own dtype."""
    return number != 0 if kind == jnp.bool_ else number.astype(kind)
