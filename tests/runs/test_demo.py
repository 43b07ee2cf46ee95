"""The demo as a user meets it: the shipped config from the command line, in single precision."""

import csv

import jax
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.cli import main


@pytest.fixture
def single_precision():
    """The float type that users have unless they ask for another."""
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


def test_the_demo_runs_from_end_to_end_and_agrees_with_theory(
    single_precision, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    smaller = ["--set", "members=200", "--set", "times.values=[0.0, 0.2, 0.4, 0.6, 1.0]"]
    with pytest.raises(SystemExit) as ended:
        main(["run", "demo", *smaller, "--out", "demo.zarr"])
    assert ended.value.code == 0, capsys.readouterr().err
    figures = {path.name for path in (tmp_path / "demo").iterdir()}
    assert figures == {"angles.png", "comparison.csv", "order.png", "sphere.png"}
    with open(tmp_path / "demo" / "comparison.csv", encoding="utf-8") as file:
        scores = [float(row["z"]) for row in csv.DictReader(file) if row["z"]]
    assert len(scores) == 3 and np.max(np.abs(scores)) < 5
    with rqf.open("demo.zarr") as runs:
        assert np.all(runs.status.values == 0) and runs.overlaps.dtype == np.float32
        overlaps, volume = runs.overlaps.values, runs.log_det_gram.values
        assert np.all(np.isfinite(overlaps)) and np.max(np.abs(overlaps)) <= 1 + 1e-5
        assert np.ptp(overlaps[:, 0], axis=0).max() == 0  # one sentence, the start of all members
        # E ln det G falls by σ² N (N - 1) a unit of time, N = 9 words.
        lost = volume[:, 1:] - volume[:, :1]
        error = np.std(lost, axis=0, ddof=1) / np.sqrt(len(lost))
        z = (np.mean(lost, axis=0) + 72 * runs.time.values[1:]) / error
        assert np.max(np.abs(z[:3])) < 5  # later ones lose digits in float32
