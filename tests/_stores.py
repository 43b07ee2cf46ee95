"""Runs of a config in this process, and what they leave behind."""

import contextlib
import itertools
import json
import os
import struct

import numpy as np
import pytest
from rich.console import Console

from rqf_jax.runs import config, ensemble as runs

PAIR = """
[times]
stop = 1.0
points = 3
[model]
name = "random_quadratic_form"
sigma = 0.8
[law]
name = "pair"
angle = 1.0
dim = 3
"""
"""A config without its section `run`."""

TINY = (
    """
[run]
members = 320
substeps = 2
chunk = 8
save = ["polar_order", "overlaps"]
"""
    + PAIR
)

PARTICLE = """
[run]
members = 64
substeps = 2
chunk = 16
segment = 1
coordinates = "full"
save = ["q", "p_squared"]
[times]
stop = 1.0
points = 5
[model]
name = "underdamped_langevin"
potential = "quadratic"
strength = 3.0
friction = 0.8
temperature = 0.5
mass = 1.5
[law]
name = "rest"
position = [1.0, -0.5]
"""


class Killed(BaseException):
    """What nobody catches: stands for the end of the process."""


def simulated(out, *changes, text, force=False):
    """Run in this process; returns what was printed."""
    console = Console(file=(printed := open(os.devnull, "w")), width=200, record=True)
    with printed:
        runs.run(config.parse(text, changes), out, force=force, console=console)
    return console.export_text()


def contents(out):
    """Every file of a store, and its attributes but for the time of writing and its checksum."""
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    attributes = json.loads(files.pop("zarr.json"))["attributes"]
    del attributes["created"], attributes["sha256"]
    return files, attributes


@contextlib.contextmanager
def killed_before(fatal):
    """From the first `fatal` change of a name on the disk on, nothing reaches the disk any more.

    That is what kill -9 leaves. `fatal` is asked about the number and the path of every change.
    """
    numbers, dead = itertools.count(), False

    def deadly(change):
        def changed(*paths, **options):
            nonlocal dead
            path = next(p for p in reversed(paths) if not isinstance(p, int))  # mkdir has a mode
            dead = dead or fatal(next(numbers), os.fspath(path))
            if dead:
                raise Killed
            return change(*paths, **options)

        return changed

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "rename", "unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, deadly(getattr(os, name)))
        yield


def safetensors(path, arrays, metadata=None):
    """A file as its specification says: length, header of JSON, bytes."""
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64"}
    header, body = {"__metadata__": metadata} if metadata else {}, b""
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": names[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
