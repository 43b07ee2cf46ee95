"""Try archives of the package as a stranger would: in a new environment, away from the sources.

    python scripts/try_release.py dist/* [--python python3.13] [--constraints constraints.txt]

Installs every archive into a virtual environment of its own in a temporary folder, looks for the
files that must come with it, and runs the demo there.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_FILES = """
import importlib.metadata as metadata, importlib.resources as resources
package, here = resources.files("rqf_jax"), metadata.distribution("rqf_jax")
for name in ("py.typed", "data/NOTICE", "data/minilm_5_sentences.npz", "configs/demo.toml"):
    assert (package / name).is_file(), name
names = [str(file) for file in here.files]
assert any(name.endswith("licenses/LICENSE") for name in names), names
assert any(name.endswith("NOTICE") and "licenses" in name for name in names), names
"""


def environment(folder: Path, python: str) -> Path:
    """A new virtual environment; returns its folder of commands."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    return folder / ("Scripts" if sys.platform == "win32" else "bin")


def try_archive(archive: Path, python: str, constraints: Path | None) -> None:
    """Install one archive, look for its files, run the demo; raises if anything fails."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        commands = environment(folder / "environment", python)
        pip = [commands / "python", "-m", "pip", "install", "--quiet"]
        pins = ["-c", constraints.resolve()] if constraints else []
        start = time.perf_counter()
        subprocess.run([*pip, *pins, archive.resolve()], check=True, cwd=folder)
        installed = time.perf_counter()
        for line in (
            [commands / "python", "-c", _FILES],
            [commands / "rqf-jax", "--version"],
            [commands / "rqf-jax", "run", "demo", "--set", "run.members=1000"],
        ):
            subprocess.run(line, check=True, cwd=folder)
        done = time.perf_counter()
        print(
            f"{archive.name} on {python}: installed in {installed - start:.0f} s, tried in "
            f"{done - installed:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archives", nargs="+", type=Path)
    parser.add_argument("--python", nargs="+", default=[sys.executable])
    parser.add_argument("--constraints", type=Path)
    given = parser.parse_args()
    for python in given.python:
        for archive in given.archives:
            try_archive(archive, python, given.constraints)
