"""A training process of your own on disk: many seeds in chunks, continued where they stopped."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jaxtyping import Array, Int, PyTree
from rich.console import Console

from .. import _store, io
from .._arguments import Key, file_path, flag, function_of, integer, maybe, part, prng_key, whole
from .._ensemble.members import typed_key
from .._ensemble.trajectories import variables_of
from .._store import Record, Result
from ..training import AbstractProcess
from ..training._problem import Counts, Training
from ..training._train import whole_weights
from . import session
from .job import AbstractJob
from .progress import Interrupted
from .screen import Screen
from .summaries import variables
from .worker import Worker


def train(
    process: AbstractProcess,
    updates: Int[Any, " times"] | Sequence[int],
    path: str | os.PathLike,
    *,
    seeds: int,
    key: Key,
    save: Callable[[PyTree], PyTree] = whole_weights,
    chunk: int | None = None,
    segment: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> xarray.Dataset:
    """Run many seeds of a training process on disk, chunk by chunk; continue after a stop.

    The seeds are those of `training.train` with the same key, up to rounding. Call the function
    again with the same arguments: it goes on after the last chunk that is safe, and a run that is
    complete is checked, damaged chunks are computed again, and nothing else is done. The result is
    bit for bit that of a run that was never stopped. Seeds that become NaN or infinite are marked
    in `status`.

    For processes without Python, with theory and figures, see `rqf-jax new classifier`.

    **Main arguments**

    - `process`: one of `rqf_jax.training`, or your own `AbstractProcess`.
    - `updates`: the numbers of updates of the saves: whole numbers, the first of them 0, strictly
      increasing.
    - `path`: the store to be, by custom with the ending .zarr.
    - `seeds`: number of runs.
    - `key`: one JAX key. Seed i draws from `member_keys(key, i)`.

    **Other arguments**

    - `save`: what to keep of the weights, a function of ONE seed's weights; all arrays by default.
    - `chunk`: seeds that are written together; by default as many as memory and disk like.
    - `segment`: keep the states of all seeds, optimisers included, after every so many saves, so
      that a chunk may outlast a job; by default chunks are whole.
    - `overwrite`: replace the run at `path`, if there is one.
    - `quiet`: show nothing on the screen.

    **Returns** the run as `rqf_jax.open(path)` gives it, with dimensions member and time.

    **Raises** ValueError for arguments that break a rule above; FileExistsError, with the
    differences, if a run of another process, key or library is at `path`; OSError if the path
    cannot be written, or another process is at it; KeyboardInterrupt after Ctrl-C, once the chunk
    at hand is safe.

    **Example**

    >>> import tempfile
    >>> process = rqf.training.TeacherStudent(
    ...     jnp.eye(2), rqf.laws.Zeros((2, 2)), learning_rate=0.1, batch=4
    ... )
    >>> path = tempfile.mkdtemp() + "/student.zarr"
    >>> for _ in range(2):  # the second call finds the run complete
    ...     run = rqf.runs.train(
    ...         process, [0, 10], path, seeds=5, key=jax.random.key(0), quiet=True
    ...     )
    >>> run.state.shape
    (5, 2, 2, 2)
    """
    part(AbstractProcess)("process", process)
    function_of("the weights")("save", save)
    out = Path(file_path("path", path))
    seeds = integer("seeds", seeds, maximum=2**32 - 1)
    chunk, segment = maybe(whole())("chunk", chunk), maybe(whole())("segment", segment)
    chunk = None if chunk is None else min(chunk, seeds)
    overwrite, quiet = flag("overwrite", overwrite), flag("quiet", quiet)
    one = Training(process, Counts.of(updates), typed_key(prng_key("key", key)), Named(save))
    one = one.checked()
    one.look_at(0)
    job = SeedsJob.of(one, seeds, chunk, segment)
    try:
        session.carry_out(job, out, force=overwrite, console=Screen(quiet=quiet))
    except FileExistsError as error:
        told = f"`path`: {str(error).rstrip()}"
        remedy = "Take another path, or replace that run with `overwrite=True`."
        raise FileExistsError(f"{told}\n{remedy}") from error
    except Interrupted as error:
        raise KeyboardInterrupt(str(error)) from error
    return io.load(out)


class Named(eqx.Module):
    """The arrays that `save` keeps of weights, in a dict by their names in the store."""

    save: Callable[[PyTree], PyTree]

    def __call__(self, weights: PyTree) -> dict[str, Array]:
        """Each array by its name."""
        return variables_of(self.save(weights))


@dataclass(frozen=True)
class SeedsJob(AbstractJob):
    """Seeds of a process that no config describes. Construct it with `of`."""

    unit: ClassVar[str] = "seeds"

    @classmethod
    def of(
        cls, problem: Training, seeds: int, chunk: int | None, segment: int | None
    ) -> "SeedsJob":
        """The job of a checked problem, told from others by its program and its numbers."""
        key = np.asarray(jax.random.key_data(problem.key)).tolist()
        values = np.asarray(problem.times.at).tolist()
        text = f"[run]\nseeds = {seeds}\nkey = {key}\nsegment = {segment or 0}\n"
        text += f"random_numbers = '{jax.random.key_impl(problem.key)}'\n"
        text += f"[updates]\nvalues = {values}\n"
        return cls(
            text=text,
            files={"process": fingerprint(problem.process, problem.look)},
            problem=problem,
            every=segment,
            members=seeds,
            chunk=chunk,
            divided=(("member", seeds, None),),
            kept=variables(problem, "trajectories"),
        )

    def compute(self, worker: Worker, chunk: int) -> Result:
        """The seeds of one chunk."""
        (rows,) = worker.work.plan.slices(chunk)
        ys, status = worker.members(self.problem, chunk, rows.start, rows.stop - rows.start)
        return Result(ys | {"status": status}, {}, int(np.sum(status > 0)))

    def finish(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """The numbers of updates, how many seeds failed, and where the run came from."""
        failed = sum(record.failed for record in records)
        if failed:
            console.print(f"{failed:,} of {self.members:,} seeds failed.", style="bold red")
        assert isinstance(self.problem, Training)
        at = np.asarray(self.problem.times.at, float)
        dataset = xarray.Dataset(coords={"time": ("time", at, {"units": "1"})})
        facts = {"process": repr(self.problem.process), "seeds": self.members, "failed": failed}
        return dataset.assign_attrs(facts | _store.provenance())


def fingerprint(process: AbstractProcess, save: Callable[[PyTree], PyTree]) -> str:
    """The SHA-256 of all that decides over a seed but its key: a program, every number in it."""
    arrays, static = eqx.partition((process, save), eqx.is_array)

    def seed(arrays: PyTree, key: Key, number: Int[Array, ""]) -> PyTree:
        process, save = eqx.combine(arrays, static)
        state = process.start(key)
        moved = process.update(key, number, state)
        return save(process.weights(state)), save(process.weights(moved))

    given = arrays, jax.random.key(0), jnp.zeros((), jnp.int32)
    digest = hashlib.sha256(jax.jit(seed).lower(*given).as_text().encode())
    # Arrays that a function closes over may be no part of the text of the program.
    closed = jax.make_jaxpr(seed)(*given).consts
    for leaf in [*jax.tree.leaves(arrays), *map(jnp.asarray, closed)]:
        keys = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        value = np.asarray(jax.random.key_data(leaf) if keys else leaf)
        digest.update(f"{value.dtype} {value.shape}".encode() + value.tobytes())
    return digest.hexdigest()
