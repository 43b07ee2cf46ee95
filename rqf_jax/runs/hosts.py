"""Several processes at one run: what the first does alone, and what all do at the same time.

Every process computes its share of the chunks into the same store; process 0 does all the rest. A
process that fails waits for the others before it ends: nobody could tell its leaving from its
death, and the chunks that the others have in hand would be lost.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.console import Console

from .. import io


def join(hosts: str) -> bool:
    """Become one process of several; whether this is the first of them.

    `hosts` is "auto", for what SLURM, Open MPI or Kubernetes tell each process, or the address of
    process 0, the number of processes and the number of this one: "10.0.0.1:1234,4,0". Raises
    `io.DataFileError` for anything else.
    """
    if hosts == "auto":
        jax.distributed.initialize()
        return _meet()
    found = re.fullmatch(r"([^,\s:]+|\[[\da-fA-F:]+\]):(\d{1,5}),(\d{1,6}),(\d{1,6})", hosts)
    port, count, number = map(int, found.groups()[1:]) if found else (0, 0, 0)
    if not (0 < port < 2**16 and number < count):
        raise io.DataFileError(
            '--hosts must be "auto", or ADDRESS:PORT,COUNT,NUMBER with a port below 65536 and '
            f'NUMBER from 0 to COUNT - 1, such as "10.0.0.1:1234,4,0"; got {hosts!r}.'
        )
    jax.distributed.initialize(hosts.partition(",")[0], count, number)
    return _meet()


def share(chunks: Sequence[int], number: int, count: int) -> Sequence[int]:
    """The chunks that process `number` of `count` computes; all processes have the same list."""
    return chunks[number::count]


def mine(missing: Sequence[int], chunks: int) -> tuple[list[int], list[int]]:
    """The chunks that are missing as process 0 sees it, and the share of this process.

    Process 0 looks for all: others that look a moment later may find chunks written in between.
    """
    flags = np.zeros(chunks, bool)
    flags[list(missing)] = True
    if jax.process_count() > 1:
        flags = np.asarray(multihost_utils.broadcast_one_to_all(flags))
    todo = np.flatnonzero(flags).tolist()
    return todo, list(share(todo, jax.process_index(), jax.process_count()))


def leads() -> bool:
    """Whether this process is the first."""
    return jax.process_index() == 0


@contextlib.contextmanager
def first(out: Path) -> Iterator[bool]:
    """A block that process 0 works in while the others wait; where it fails there, all end.

    Yields whether this is process 0.
    """
    error = None
    try:
        yield leads()
    except BaseException as caught:
        error = caught
    fine = np.array(error is None)
    if jax.process_count() > 1:
        fine = multihost_utils.broadcast_one_to_all(fine)
    if not fine:
        raise error or io.DataFileError(f"{out}: process 0 could not go on, and says why.")


@contextlib.contextmanager
def all_of_them(out: Path, console: Console) -> Iterator[None]:
    """A block that every process works in, and where all wait for all; if one fails, all end."""
    error = None
    try:
        yield
    except BaseException as caught:
        if jax.process_count() == 1:
            raise
        error = caught
        console.print(f"Process {jax.process_index()}: {caught}; waiting for the others.")
    fine = np.array(error is None)
    if jax.process_count() > 1:
        fine = multihost_utils.process_allgather(fine)
    if not np.all(fine):
        raise error or io.DataFileError(
            f"{out}: another process could not do its share, and says why. The same commands "
            "compute the missing chunks."
        )


def _meet() -> bool:
    # The first exchange between CPUs must begin everywhere within 30 seconds, later ones may wait.
    multihost_utils.sync_global_devices("rqf_jax")
    return leads()
