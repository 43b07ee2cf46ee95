"""Runs of a config in this process, and what they leave behind."""

import json
import os

from rich.console import Console

from rqf_jax import config, runs


class Killed(BaseException):
    """What nobody catches: stands for the end of the process."""


def simulated(out, *changes, text, force=False):
    """Run in this process; returns what was printed."""
    console = Console(file=(printed := open(os.devnull, "w")), width=200, record=True)
    with printed:
        runs.run(config.parse(text, changes), out, force=force, console=console)
    return console.export_text()


def contents(out):
    """Every file of a store, and its attributes but for the time of writing."""
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    attributes = json.loads(files.pop("zarr.json"))["attributes"]
    del attributes["created"]
    return files, attributes
