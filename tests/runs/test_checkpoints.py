"""Paths that are longer than a job: cut into segments, stopped within one, and continued."""

import functools
import os
import signal
import subprocess
import sys
import time

import _stores
import jax
import numpy as np
import pytest
from _stores import Killed, contents

from rqf_jax import _store
from rqf_jax._ensemble.program import Program, joined
from rqf_jax.cli.app import main
from rqf_jax.runs import config, ensemble as runs

LONG = """
[run]
members = 24
substeps = 2
chunk = 16
segment = 3
save = ["state", "polar_order"]
[times]
stop = 1.0
points = 12
[model]
name = "random_quadratic_form"
sigma = 0.8
[law]
name = "uniform"
tokens = 3
dim = 3
"""


simulated = functools.partial(_stores.simulated, text=LONG)
pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """An unfinished run: one chunk of two is there, and two segments of the other."""
    out, write = tmp_path / "run.zarr", _store.Checkpoints.write

    def stop(checkpoints, number, arrays):
        if checkpoints.folder.name.endswith("1") and number == 2:
            raise Killed
        write(checkpoints, number, arrays)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(_store.Checkpoints, "write", stop)
        simulated(out)
    return out


@pytest.mark.slow
def test_cutting_a_path_moves_it_by_rounding_and_going_on_by_no_bit(tmp_path):
    one = config.parse(LONG)
    problem = runs.EnsembleJob.of(one).problem
    whole, parts = (Program(problem, 8, jax.local_devices(), every) for every in (None, 3))
    expected, status = whole(problem, 5, 21)
    *_, middle, end = segments = list(parts.segments(problem, 5, 21))
    (again,) = parts.segments(problem, 5, 21, middle)
    assert (middle.stop, end.stop) == (9, 11) and not (status.any() or end.status.any())
    for name, values in joined(segments)[0].items():
        np.testing.assert_allclose(values, expected[name], atol=1e-14)
        np.testing.assert_array_equal(again.ys[name], values[:, 10:])
    np.testing.assert_array_equal(end.x, end.ys["state"][:, -1])


def test_a_run_that_was_cut_within_a_path_goes_on_from_its_last_segment(cut, whole, monkeypatch):
    done, segments = [], Program.segments

    def counted(program, *arguments):
        for segment in segments(program, *arguments):
            done.append(segment.stop)
            yield segment

    monkeypatch.setattr(Program, "segments", counted)
    assert "1 of 2 chunks are there, 1 under way" in simulated(cut)
    assert done == [9, 11]
    assert contents(cut) == contents(whole)
    assert [path.name for path in cut.parent.iterdir()] == ["run.zarr"]


@pytest.mark.parametrize("harm", ["flipped", "short", "gone"])
@pytest.mark.parametrize("segment", [0, 1])
def test_a_damaged_segment_and_all_after_it_are_computed_again(cut, whole, harm, segment):
    checkpoints = _store.Draft.checkpoints(cut, 1)
    file = checkpoints.folder / f"{segment:08d}.npz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(data if harm == "flipped" else data[:-1])
    assert len(list(checkpoints.read())) == segment
    assert len(list(checkpoints.folder.iterdir())) == segment
    simulated(cut)
    assert contents(cut) == contents(whole)


def test_a_signal_stops_after_the_segment_in_hand(whole, tmp_path, monkeypatch, capsys):
    out, write = tmp_path / "run.zarr", _store.Checkpoints.write
    (tmp_path / "long.toml").write_text(LONG)

    def interrupted(checkpoints, number, arrays):
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        write(checkpoints, number, arrays)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as info:
        patch.setattr(_store.Checkpoints, "write", interrupted)
        main(["run", str(tmp_path / "long.toml"), "--out", str(out)])
    assert info.value.code == 128 + signal.SIGTERM
    assert "0 of 2 chunks are safe, and 55% of the paths of the next one" in capsys.readouterr().err
    assert len(list(_store.Draft.checkpoints(out, 0).read())) == 2
    simulated(out)
    assert contents(out) == contents(whole)


def test_a_damaged_chunk_of_a_finished_run_is_repaired_segment_by_segment(whole, cut, monkeypatch):
    simulated(cut)
    (cut / "state" / "c" / "0" / "0" / "0" / "0").write_bytes(b"nonsense")
    write = _store.Checkpoints.write

    def stop(checkpoints, number, arrays):
        write(checkpoints, number, arrays)
        if number == 1:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(_store.Checkpoints, "write", stop)
        simulated(cut)
    assert len(list(_store.Draft.checkpoints(cut, 0).read())) == 2
    assert "bit for bit" in simulated(cut)
    assert contents(cut) == contents(whole)
    assert [path.name for path in cut.parent.iterdir()] == ["run.zarr"]


START = """
import sys, pathlib
from rich.console import Console
from rqf_jax.runs import config, ensemble as runs, look
quiet = Console(quiet=True)
runs.run(config.parse(sys.argv[2]), pathlib.Path(sys.argv[1]), force=False, console=quiet)
"""


def start(out, devices):
    """The same run in a process of its own, but with segments of one interval."""
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    arguments = [sys.executable, "-c", START, str(out), SLOW]
    return subprocess.Popen(arguments, env=environment)


SLOW = LONG.replace("segment = 3", "segment = 1").replace("points = 12", "points = 200")


@pytest.mark.slow
def test_a_run_killed_within_paths_on_one_and_on_two_devices_ends_as_one_never_killed(tmp_path):
    simulated(whole := tmp_path / "whole.zarr", text=SLOW)
    out, devices = tmp_path / "run.zarr", 1
    for region, number in ((0, 20), (0, 120), (1, 50), (1, 51)):
        file = _store.Draft.checkpoints(out, region).folder / f"{number:08d}.npz"
        process = start(out, devices)
        while process.poll() is None and not file.exists():
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        devices = 3 - devices
    assert "1 of 2 chunks are there, 1 under way" in simulated(out, text=SLOW)
    assert contents(out) == contents(whole)
