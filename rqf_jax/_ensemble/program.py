"""An ensemble on all devices of this process: one compiled program, called again and again.

Every device computes `batch` members of its own in each call, all by the same code, so how many
devices share the work moves no bit of any member. A program may do a path in segments, with the
members' states in between on the host, so that they can be kept and gone on from.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from .abstract import AbstractProblem
from .compiled import options
from .engine import ensemble, segment

_EVERYWHERE, _SPLIT = PartitionSpec(), PartitionSpec("members")
_SPLIT_POINTS = PartitionSpec(None, "members")
_SMALL = 2**26
"""Bytes of results that any machine has."""

_LEAST_ADDRESSES = 11 * 2**30 // 10
"""Addresses that XLA takes before the first number, few of them resident: measured on two cores."""


class Segment(NamedTuple):
    """A part of the path of some members, and all that is needed to go on from its end.

    `ys` are the values saved since the last segment (members, times, ...), the initial ones
    included in the first; `stop` is the index in `ts` of the last of them, `status` (members,) and
    `x` (a pytree of (members, ...)) are status and states there.
    """

    stop: int
    ys: PyTree
    status: np.ndarray
    x: PyTree


class Program:
    """The compiled program of a `Problem`, and of all that differ from it in values alone.

    A problem of other shapes is compiled when it is met; the last eight kinds are remembered.
    `every` is how many save intervals a segment has; None for whole paths at once. `devices` may be
    fewer than were given, where LAPACK is called: see `_most_at_once`.
    """

    def __init__(
        self, problem: AbstractProblem, batch: int, devices: Sequence[Any], every: int | None = None
    ):
        self.batch = batch
        self._last: tuple[AbstractProblem, tuple[Any, PyTree[Array]]] | None = None
        self.every = every if every and every < problem.times.intervals else None
        self._use(devices)
        if len(devices) > 1 and devices[0].platform == "cpu":
            self._use(devices[: _most_at_once(_lower(*self._what(problem)[0]))])
        self._compiled = self._prepared(problem)[0]

    def _use(self, devices: Sequence[Any]) -> None:
        self.devices = tuple(devices)
        mesh = jax.make_mesh(
            (len(devices),), ("members",), axis_types=(AxisType.Auto,), devices=devices
        )
        self._everywhere = NamedSharding(mesh, _EVERYWHERE)
        self._split = NamedSharding(mesh, _SPLIT)

    @property
    def members(self) -> int:
        """How many members one call computes."""
        return self.batch * len(self.devices)

    @property
    def bytes(self) -> int:
        """What one call needs on each device, by the compiler's own account."""
        sizes = self._compiled.memory_analysis()
        if sizes is None:
            return 0
        return sizes.temp_size_in_bytes + sizes.output_size_in_bytes + sizes.argument_size_in_bytes

    def __call__(
        self, problem: AbstractProblem, first: int, count: int
    ) -> tuple[PyTree, np.ndarray]:
        """Saved values and status of members first, …, first + count - 1, as NumPy arrays.

        (members, times, ...) and (members,), behind the axis of the points if there are some.
        """
        if self.every is not None:
            return joined(list(self.segments(problem, first, count)))
        compiled, arrays = self._prepared(problem)
        parts = []
        for start in range(first, first + count, self.members):
            part = compiled(arrays, self._firsts(start))
            parts.append(jax.tree.map(np.asarray, part))
        axis, kept = (0, np.s_[:count]) if problem.points is None else (1, np.s_[:, :count])
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis)[kept], *parts)

    def segments(
        self, problem: AbstractProblem, first: int, count: int, after: Segment | None = None
    ) -> Iterator[Segment]:
        """The path of these members segment by segment, from the start or `after` one of them."""
        assert self.every is not None
        compiled, arrays = self._prepared(problem)
        x = jax.tree.map(lambda leaf: np.zeros((count, *leaf.shape), leaf.dtype), problem.state)
        status, start, last = np.zeros(count, np.int32), 0, problem.times.intervals
        if after is not None:
            start, x, status = after.stop, after.x, after.status
        while start < last:
            stop = min(start + self.every, last)
            parts = []
            for place in range(0, count, self.members):
                # Members beyond the last one are computed as copies of it, and cut off.
                ids = np.minimum(np.arange(place, place + self.members), count - 1)
                mine = jax.tree.map(lambda leaf, ids=ids: leaf[ids], (x, status))
                mine = jax.device_put(mine, self._split)
                part = compiled(
                    arrays, self._firsts(first + place), self._interval(start, stop), *mine
                )
                parts.append(jax.tree.map(np.asarray, part))
            ys, status, x = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
            new = slice(1 if start else 0, stop - start + 1)
            ys = jax.tree.map(lambda y, new=new: np.ascontiguousarray(y[:, new]), ys)
            yield Segment(stop, ys, status, x)
            start = stop

    def _prepared(self, problem: AbstractProblem) -> tuple[Any, PyTree[Array]]:
        """The compiled program for a problem, and the arrays of the problem where they belong.

        Kept for the last problem, as most calls are for other members of the same.
        """
        if self._last is None or self._last[0] is not problem:
            what, arrays = self._what(problem)
            self._last = problem, (_compile(*what), arrays)
        return self._last[1]

    def _what(self, problem: AbstractProblem) -> tuple[tuple[Any, ...], PyTree[Array]]:
        """The arguments of `_compile` for a problem, and its arrays where they belong."""
        arrays, static = eqx.partition(problem.solved(), eqx.is_array)
        arrays = jax.device_put(arrays, self._everywhere)
        given = (arrays, self._firsts(0))
        if self.every is not None:

            def members(leaf):
                shape = (self.members, *leaf.shape)
                return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=self._split)

            status = members(jax.ShapeDtypeStruct((), np.int32))
            x = jax.tree.map(members, problem.state)
            given = (*given, self._interval(0, 0), x, status)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), given
        )
        leaves, treedef = jax.tree.flatten((static, shapes))
        cached = problem.batch_size(self.batch)
        mesh = self._split.mesh
        return (treedef, tuple(leaves), self.batch, cached, mesh, self.every), arrays

    def _firsts(self, first: int) -> Array:
        firsts = first + self.batch * np.arange(len(self.devices))
        # Only members that are cut off afterwards can be beyond 32 bits.
        return jax.device_put((firsts % 2**32).astype(np.uint32), self._split)

    def _interval(self, start: int, stop: int) -> tuple[Array, Array]:
        return jax.device_put((np.int32(start), np.int32(stop)), self._everywhere)


def joined(segments: Sequence[Segment]) -> tuple[PyTree, np.ndarray]:
    """Saved values and status of the members of a path's segments."""
    parts = [segment.ys for segment in segments]
    ys = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)
    return ys, segments[-1].status


def free_bytes(device: Any) -> int:
    """The memory that a program may still take: of the device, or of the machine for CPUs."""
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    return min(_machine(), _control_group(), _address_space())


def check_room(members: int, saved: int, first: Array) -> None:
    """Raise MemoryError unless so many bytes saved of each member fit where `first` is.

    A program that cannot place its results on a CPU waits for ever.
    """
    needed = members * saved
    if needed < _SMALL:
        return
    free = free_bytes(next(iter(first.devices())))
    if needed > free:
        raise MemoryError(
            f"`members` = {members:,} need more memory than there is: {needed:,} bytes are saved, "
            f"and {free:,} are free. Pass `save=` to keep less of a state, save more rarely, or "
            "make fewer members at a time and continue with `first_member`."
        )


def check_addresses() -> None:
    """Raise MemoryError if a limit on addresses leaves too few of them to compile anything.

    XLA and its threads end the process when they get none, without a word that Python could catch.
    """
    left = _address_space()
    if left < _LEAST_ADDRESSES:
        raise MemoryError(
            f"the limit on addresses, ulimit -v, leaves {max(left, 0) / 2**30:.2f} GiB to this "
            f"process; its programs and threads take {_LEAST_ADDRESSES / 2**30:.2f} GiB before the "
            "first number. Raise it, or limit the resident memory instead, as control groups do."
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that memory ran out, of a device or of the machine."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def _most_at_once(lowered: Any) -> int:
    """How many CPU devices may do this at the same time without waiting for ever.

    On CPUs jaxlib (seen in 0.10.2) splits a batch of matrices that LAPACK is to factorise into
    tasks for the threads that all devices share, and waits for them on one of these threads. Once
    every thread waits there is none left for the tasks. There are at least as many threads as
    devices, used or not, so that some devices stand aside.
    """
    threads, calls = len(jax.local_devices(backend="cpu")), lowered.as_text().count("@lapack_")
    return max(1, (threads - 1) // calls) if calls else threads


@functools.lru_cache(maxsize=8)
def _compile(*what: Any) -> Any:
    """The program for arguments of these shapes, of which it may have many values."""
    return _lower(*what).compile(compiler_options=options())


@functools.lru_cache(maxsize=8)
def _lower(treedef, leaves, batch, cached, mesh, every):
    """The same, not yet compiled."""
    static, shapes = jax.tree.unflatten(treedef, leaves)

    points = static.points

    def whole(arrays, first):
        def one(arrays):
            problem = dataclasses.replace(eqx.combine(arrays, static), points=None)
            return ensemble(problem, first[0], batch, cached, True)

        # One point after the other: its members fill the vector unit, and the choice of a program
        # by values, such as the order of a series, stays a branch.
        return one(arrays) if points is None else lax.map(one, arrays)

    def part(arrays, first, interval, x, status):
        sizes = (batch, cached, every)
        return segment(eqx.combine(arrays, static), first[0], sizes, interval, x, status)

    if every is None:
        local, specs = whole, (_EVERYWHERE, _SPLIT)
    else:
        local, specs = part, (_EVERYWHERE, _SPLIT, _EVERYWHERE, _SPLIT, _SPLIT)
    # The scans do not carry the marks that `check_vma` looks for.
    out = _SPLIT if points is None else _SPLIT_POINTS
    mapped = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
    return jax.jit(mapped).lower(*shapes)


_UNLIMITED = 2**62
_PROC, _CONTROL_GROUP = Path("/proc"), Path("/sys", "fs", "cgroup")


def _machine() -> int:
    lines = _read(_PROC / "meminfo").splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _control_group() -> int:
    """What memory limits of this process's control groups (version 2) leave, where there are some.

    A job's own group, a container's, ... up to the root: each may have a limit. Pages of files
    that nobody used lately count as used, and are given up when memory is asked for.
    """
    own = [line[3:] for line in _read(_PROC / "self" / "cgroup").splitlines() if line[:3] == "0::"]
    path = _CONTROL_GROUP.joinpath(*own[0].strip("/").split("/")) if own else _CONTROL_GROUP
    above = [folder for folder in path.parents if folder.is_relative_to(_CONTROL_GROUP)]
    return min(map(_left_of_group, [path, *above]))


def _left_of_group(folder: Path) -> int:
    limit, used = _read(folder / "memory.max").strip(), _read(folder / "memory.current").strip()
    if not (limit.isdigit() and used.isdigit()):
        return _UNLIMITED
    statistics = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
    return int(limit) - int(used) + int(statistics.get("inactive_file", 0))


def _address_space() -> int:
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = _read(_PROC / "self" / "statm").split()
    if limit == resource.RLIM_INFINITY or not pages:
        return _UNLIMITED
    return limit - int(pages[0]) * resource.getpagesize()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
