"""A save interval as one fused kernel, where the step of an equation can be one."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree, UInt32

from .._brownian.path import area_stream, draw, increment, levy_area
from .._fused import cpu, gpu, xla
from .._fused.cache import warn
from .._fused.loop import Step, loop
from .._fused.switch import IN_XLA, everywhere, platforms, wanted
from .._fused.values import Unavailable, Unsupported
from .._sde import SDE, in_dtype, state_dtype
from ..solvers import begin, micro_step
from .backward import pull_back, step_and_pull
from .kinds import once_for_each_kind
from .validity import noise_shape

MOST_NUMBERS = {"cpu": 1024}
"""The most numbers of a state and its noise together that a kernel is tried for.

They stay in a core's cache on a CPU, and in a thread's registers on a GPU."""

_MOST = 256


@once_for_each_kind
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
    for kind in kinds:
        if kind not in _PARAMETERS:
            raise Unsupported(f"a parameter of {kind}")

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


def route(sde: SDE, solver: diffrax.AbstractSolver, state: PyTree[Any]) -> str:
    """Words for an interval: a fused kernel, arithmetic in XLA, or a scan, and why."""
    try:
        kernels = _kernels(*_step_for(sde, solver, state))
    except Unsupported as error:
        return f"{SCAN}: {error}"
    return " or ".join(dict.fromkeys(kernel.words for kernel in kernels.values()))


def reason_of_derivative(
    sde: SDE, solver: diffrax.AbstractSolver, state: PyTree[Any]
) -> str | None:
    """Why the derivative of a kernel is a scan in XLA, as a clause; None if it is kernels too."""
    step, names = _step_for(sde, solver, state)
    try:
        _pulls(step, names)
    except Unsupported as error:
        return str(error)
    return None


SCAN, FUSED = "a scan in XLA", "one fused kernel"
ARITHMETIC = "arithmetic on single numbers in XLA"


class Interval(eqx.Module):
    """The steps of one save interval of a batch: where they start, and how long they are."""

    number: Int[Array, ""]
    start: Float[Array, ""]
    h: Float[Array, ""]
    substeps: int = eqx.field(static=True)


Plain = Callable[[PyTree, UInt32[Array, "2 members"], Interval, PyTree], PyTree]
"""(equation and solver, streams, interval, states) -> states, as a scan in XLA."""


Steps = tuple[Int[Array, ""], int, Float[Array, ""], Float[Array, ""]]
"""The number of the first step, how many there are, the start, and the length of a step."""


class Kernel(NamedTuple):
    """A function that moves the states over an interval.

    `call(streams, states, steps, parameters) -> states`, on rows of numbers, and its name in words.
    """

    call: Callable[..., Float[Array, "numbers members"]]
    words: str = FUSED


def advance(
    plain: Plain,
    model: tuple[SDE, diffrax.AbstractSolver],
    streams: UInt32[Array, "2 members"],
    interval: Interval,
    x: PyTree[Array],
    axis: int,
    *,
    reverse: bool,
) -> PyTree[Array]:
    """States at the end of an interval, by a kernel if the step can be one and by `plain` if not.

    `axis` is that of the members in `x`. Derivatives are those of `plain`; with `reverse` there is
    reverse mode alone, once, by kernels where the derivative of the step can be one.
    """
    one = jax.eval_shape(lambda x: jax.tree.map(lambda leaf: jnp.take(leaf, 0, axis), x), x)
    try:
        step, names = _step_for(*model, one)
        kernels = _kernels(step, names)
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
        return _by_platform(scanned, {name: by(kernels[name]) for name in kernels}, *given)

    @run.defjvp
    def _(primals, tangents):
        # Where reverse mode only passes through, on its way to the interval whose derivative it
        # takes, it needs the states alone: the kernel is enough, and the scan drops out.
        return run(*primals), jax.jvp(scanned, primals, tangents)[1]

    try:
        pulls = _pulls(step, names) if reverse else None
    except Unsupported:
        pulls = None
    if pulls is None:
        return run(arrays, streams, interval, x)

    reversible = jax.custom_vjp(run)

    def forward(*given):
        return run(*given), given

    def backward(given, above):
        ways = {name: functools.partial(_pull, step, pulls[name], axis) for name in pulls}
        plain = functools.partial(_pull_by, scanned)
        floats, start, h, below = _by_platform(plain, ways, *given, above)
        # The number of a step has no derivative, and no place in an `Interval` of derivatives.
        times = jax.tree.unflatten(jax.tree.structure(interval), [None, start, h])
        return floats, None, times, below

    reversible.defvjp(forward, backward)
    return reversible(arrays, streams, interval, x)


def _by_platform(plain, ways, *given):
    """The result of the platform's own way, or of `plain` on a platform without one."""
    default = None if everywhere(ways) else plain
    return lax.platform_dependent(*given, default=default, **ways)


def _call(kernel, axis, arrays, streams, interval, x):
    """The kernel on rows of numbers, with the members last."""
    rows = _rows(x, axis)
    steps = interval.number, interval.substeps, interval.start, interval.h
    rows = kernel.call(streams, rows, steps, _numbers(arrays))
    out, place = [], 0
    leaves, treedef = jax.tree.flatten(x)
    for leaf in (jnp.moveaxis(leaf, axis, -1) for leaf in leaves):
        size = math.prod(leaf.shape[:-1])
        out.append(jnp.moveaxis(rows[place : place + size].reshape(leaf.shape), -1, axis))
        place += size
    return jax.tree.unflatten(treedef, out)


def _rows(x, axis):
    """States as rows of numbers, with the members last."""
    moved = [jnp.moveaxis(leaf, axis, -1) for leaf in jax.tree.leaves(x)]
    return jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in moved])


def _numbers(arrays):
    """All numbers of an equation, as floats."""
    parameters = [_as_float(jnp.ravel(leaf)) for leaf in jax.tree.leaves(arrays)]
    # XLA passes no empty buffers.
    return jnp.concatenate(parameters or [jnp.zeros(1, jnp.float32)])


def _pull(step, kernels, axis, arrays, streams, interval, x, above):
    """Cotangents of an equation's floats, of the times and of `x`, by kernels."""
    floats, rest = eqx.partition(arrays, eqx.is_inexact_array)

    def packed(floats, x):
        return _rows(x, axis), _numbers(eqx.combine(floats, rest))

    (rows, numbers), unpacked = jax.vjp(packed, floats, x)
    steps = interval.number, interval.substeps, interval.start, interval.h
    found = pull_back(step, kernels, streams, rows, steps, numbers, _rows(above, axis))
    by_floats, by_x = unpacked((found.rows, found.parameters))
    return by_floats, found.start, found.h, by_x


def _pull_by(scanned, arrays, streams, interval, x, above):
    """The same, by the scan."""
    floats, rest = eqx.partition(arrays, eqx.is_inexact_array)

    def taken(floats, start, h, x):
        steps = Interval(interval.number, start, h, interval.substeps)
        return scanned(eqx.combine(floats, rest), streams, steps, x)

    return jax.vjp(taken, floats, interval.start, interval.h, x)[1](above)


def _step_for(
    sde: SDE, solver: diffrax.AbstractSolver, state: PyTree[Any]
) -> tuple[Step, list[str]]:
    """The step, and the platforms at hand that kernels are made for; `Unsupported` if none is."""
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state))
    numbers += math.prod(noise_shape(sde.noise, state))
    names = platforms()
    fitting = [name for name in names if numbers <= MOST_NUMBERS.get(name, _MOST)]
    if not fitting:
        most = max(MOST_NUMBERS.get(name, _MOST) for name in names)
        raise Unsupported(f"{numbers} numbers of state and noise; kernels take {most}")
    return step_of(sde, solver, state), fitting


def _kernels(step: Step, names: list[str]) -> dict[str, Kernel]:
    """The kernel of a step for each of these platforms."""
    makers = {} if wanted() == IN_XLA else {"cpu": _on_cpu, "cuda": _on_cuda}
    return {name: makers.get(name, _in_xla)(step) for name in names}


def _pulls(step: Step, names: list[str]) -> dict[str, tuple[Kernel, Kernel]]:
    """Kernels of one step and of its pull-back; `Unsupported` if the derivative is no kernel."""
    forward, back = (_kernels(way, names) for way in step_and_pull(step))
    if any(kernel.words != FUSED for kernel in [*forward.values(), *back.values()]):
        raise Unsupported("kernels go back on CPUs and GPUs of NVIDIA's alone")
    return {name: (forward[name], back[name]) for name in names}


def _buffers(steps: Steps, members: int) -> tuple[Int[Array, "3"], Float[Array, "2"]]:
    """Steps as two buffers."""
    number, substeps, start, h = steps
    ints = jnp.stack([number, jnp.int32(substeps), jnp.int32(members)])
    return ints, jnp.stack([start, h])


def _on_cpu(step: Step) -> Kernel:
    width = cpu.width()
    name = cpu.target(loop(step, width))

    def call(streams, rows, steps, parameters):
        members = rows.shape[1]
        if spare := -members % width:
            # Whole vectors: the last member again.
            streams, rows = (
                jnp.pad(array, [(0, 0), (0, spare)], mode="edge") for array in (streams, rows)
            )
        out = jax.ShapeDtypeStruct(rows.shape, rows.dtype)
        whole = jax.ffi.ffi_call(name, out, vmap_method="sequential")
        return whole(streams, rows, *_buffers(steps, members), parameters)[:, :members]

    return Kernel(call)


def _on_cuda(step: Step) -> Kernel:
    try:
        gpu.check_device()
        text = gpu.ptx(loop(step, 1))
    except Unavailable as error:
        warn(f"Save intervals are not one kernel each, and several times slower: {error}.")
        try:
            return _in_xla(step)._replace(words=f"{ARITHMETIC}, because {error}")
        except Unsupported as other:
            raise Unsupported(f"{other}, and {error}") from other

    def call(streams, rows, steps, parameters):
        buffers = _buffers(steps, rows.shape[1])
        return gpu.call(text, streams, rows, *buffers, parameters)

    return Kernel(call)


def _in_xla(step: Step) -> Kernel:
    xla.check(step)

    def call(streams, rows, steps, parameters):
        number, substeps, start, h = steps
        return xla.advance(step, streams, rows, number, start, h, parameters, substeps=substeps)

    return Kernel(call, ARITHMETIC)


_PARAMETERS = (jnp.float32, jnp.int32, jnp.uint32, jnp.bool_)
"""The dtypes of parameters of a kernel, all of which travel as floats, whole numbers as bits."""


def _as_float(numbers):
    if numbers.dtype in (jnp.int32, jnp.uint32):
        return lax.bitcast_convert_type(numbers, jnp.float32)
    return numbers.astype(jnp.float32)


def _from_float(number, kind):
    if kind in (jnp.int32, jnp.uint32):
        return lax.bitcast_convert_type(number, kind)
    return number != 0 if kind == jnp.bool_ else number
