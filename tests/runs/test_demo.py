"""The demo as a user meets it: the shipped config from the command line, in single precision."""

import csv
import os
import subprocess
import sys

import numpy as np

import rqf_jax as rqf

SMALLER = ("members=200", "times.values=[0.0, 0.2, 0.4]", "report.log_det_times=[0.2, 0.4]")
SMALLER += ("report.angle_time=0.4", "companion.tokens=3")


def test_the_demo_runs_from_end_to_end_and_agrees_with_theory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = [sys.executable, "-m", "rqf_jax", "run", "demo", "--out", "demo.zarr"]
    # A process of its own has the float type that users have unless they ask for another.
    done = subprocess.run(
        [*line, *(word for change in SMALLER for word in ("--set", change))],
        env=os.environ | {"JAX_ENABLE_X64": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "E ln det G at t = 0.4" in done.stdout
    figures = {path.name for path in (tmp_path / "demo").iterdir()}
    assert figures == {"angles.png", "comparison.csv", "order.png", "sphere.png"}
    with open(tmp_path / "demo" / "comparison.csv", encoding="utf-8") as file:
        scores = [float(row["z"]) for row in csv.DictReader(file) if row["z"]]
    assert len(scores) == 2 and np.max(np.abs(scores)) < 5
    with rqf.open("demo.zarr") as runs:
        assert np.all(runs.status.values == 0) and runs.overlaps.dtype == np.float32
        overlaps, volume = runs.overlaps.values, runs.log_det_gram.values
        assert np.all(np.isfinite(overlaps)) and np.max(np.abs(overlaps)) <= 1 + 1e-5
        assert np.ptp(overlaps[:, 0], axis=0).max() == 0  # one sentence, the start of all members
        # E ln det G falls by σ² N (N - 1) a unit of time, N = 9 words.
        lost = volume[:, 1:] - volume[:, :1]
        error = np.std(lost, axis=0, ddof=1) / np.sqrt(len(lost))
        z = (np.mean(lost, axis=0) + 72 * runs.time.values[1:]) / error
        assert np.max(np.abs(z)) < 5
