"""Training processes on disk: configs, chunks, resume, failed seeds, theory and figures."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from _stores import Killed, contents, killed_before, simulated
from rich.console import Console
from test_processes import wait_for, written

import rqf_jax as rqf
from rqf_jax.cli.app import main
from rqf_jax.runs import (
    catalogue,
    config,
    design as designs,
    ensemble as runs,
    learned,
    look,
    sweep as sweeps,
    template,
)
from rqf_jax.runs.config import ConfigError
from rqf_jax.runs.problem import Poser

REGRESSION = """
[run]
members = 400
chunk = 100
[updates]
values = [0, 3, 10, 30]
[process]
name = "linear_regression"
dim = 4
noise = 0.5
learning_rate = 0.2
batch = 2
"""
NETWORK = """
[run]
members = 8
save = ["loss", "accuracy", "square_norm"]
[updates]
stop = 6
points = 4
[process]
name = "classifier"
examples = 40
hidden = [4]
learning_rate = 0.1
batch = 4
"""


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(look, "draw", lambda *_: None)


def test_a_run_holds_what_train_returns_and_its_mean_is_the_exact_risk(undrawn, tmp_path):
    simulated(tmp_path / "run.zarr", text=REGRESSION)
    one = config.parse(REGRESSION)
    process = Poser().learning(one).process
    known = rqf.training.train(process, one.grid(), seeds=400, key=jax.random.key(0))
    with rqf.open(tmp_path / "run.zarr") as stored:
        np.testing.assert_allclose(stored.weights, known.ys, rtol=1e-12)
        np.testing.assert_array_equal(stored.time, [0, 3, 10, 30])
        assert not stored.status.any()
        means = one.process.means(one.grid())["loss"]
        stderr = np.sqrt(stored.loss_variance / 400)
        assert np.all(np.abs(stored.loss_mean - means) < 5 * stderr + 1e-12)


@pytest.mark.parametrize("segment", [pytest.param(None, marks=pytest.mark.slow), 1])
def test_a_training_killed_at_any_write_ends_bit_for_bit_as_one_that_was_not(
    undrawn, tmp_path, segment
):
    changes = [] if segment is None else [f"run.segment={segment}"]
    simulated(whole := tmp_path / "whole.zarr", *changes, text=REGRESSION)
    out = tmp_path / "run.zarr"
    for number in (9, 17, 23):
        with killed_before(lambda i, _, number=number: i == number):
            with pytest.raises(Killed):
                simulated(out, *changes, text=REGRESSION)
    assert "Continuing" in simulated(out, *changes, text=REGRESSION)
    assert contents(out) == contents(whole)


def test_a_seed_that_overflows_is_marked_and_no_other(undrawn, tmp_path):
    # Above the rate at which second moments are stable few seeds grow, and those beyond all bounds.
    wild = ["learning_rate=4.2", "batch=1", "updates.values=[0, 300, 700]", "run.failures=mark"]
    simulated(tmp_path / "run.zarr", *wild, text=REGRESSION)
    process = Poser().learning(config.parse(REGRESSION, wild)).process
    known = rqf.training.train(
        process, [0, 300, 700], seeds=400, key=jax.random.key(0), throw=False
    )
    with rqf.open(tmp_path / "run.zarr") as stored:
        status = np.asarray(stored.status)
        assert 0 < np.count_nonzero(status) < 400 == len(status)
        np.testing.assert_array_equal(status, known.status)
        sound = np.isfinite(stored.weights).all(["time", "weights_0"])
        np.testing.assert_array_equal(sound, status == 0)
        assert stored.attrs["failed"] == np.count_nonzero(status)


def test_a_config_with_a_sweep_runs_all_its_points_with_theory_and_figures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = REGRESSION.replace("members = 400", "members = 40")
    axes = '[sweep.axes]\n"process.learning_rate" = [0.1, 0.2]\n"process.batch" = [1, 2]\n'
    (tmp_path / "grid.toml").write_text(text + axes)
    main_(["run", "grid.toml"])
    with rqf.open("runs/grid.zarr") as stored:
        assert stored.loss.dims == ("learning_rate", "batch", "member", "time")
        assert stored.status.shape == (2, 2, 40)
    rows = (tmp_path / "runs/grid/comparison.csv").read_text().splitlines()
    assert len(rows) == 5
    assert all(abs(float(row.rpartition(",")[2])) < 5 for row in rows[1:])
    assert (tmp_path / "runs/grid/loss.png").exists()
    alone = config.parse(text, ["learning_rate=0.2", "batch=1"])
    with rqf.open("runs/grid.zarr") as stored:
        process = Poser().learning(alone).process
        known = rqf.training.train(process, alone.grid(), seeds=40, key=jax.random.key(0))
        mine = stored.sel(learning_rate=0.2, batch=1).weights
        np.testing.assert_allclose(mine, known.ys, rtol=1e-12)


def main_(arguments):
    """The command line, which ends without an exit where all is well."""
    try:
        main(arguments)
    except SystemExit as stop:
        assert not stop.code


@pytest.mark.slow
def test_a_network_learns_from_a_file_beside_its_config_and_is_drawn(tmp_path):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 3))
    np.savez(tmp_path / "own.npz", inputs=inputs, labels=(inputs[:, 0] > 0).astype(int))
    text = NETWORK.replace('"classifier"', '"classifier"\nfile = "own.npz"\neigenvalues = 3')
    (tmp_path / "own.toml").write_text(text.replace("save =", "# save ="))
    one = config.read(tmp_path / "own.toml", ["learning_rate=1.0"])
    console = Console(quiet=True)
    runs.run(one, tmp_path / "own.zarr", force=False, console=console)
    with rqf.open(tmp_path / "own.zarr") as stored:
        assert float(stored.loss_mean[-1]) < float(stored.loss_mean[0])
        np.testing.assert_allclose(stored["curvature.loss"], stored.loss, rtol=1e-10)
        top = np.asarray(stored.hessian)
        assert np.all(np.diff(top, axis=-1) <= 0)
    names = {path.stem for path in (tmp_path / "own").iterdir()}
    assert {"loss", "accuracy", "stability", "noise", "hessian"} <= names


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        (["process.batch=41"], "process.batch must be at most the 40 examples there are; got 41"),
        (["process.examples=5000"], "process.examples must be at most the 1797 there are"),
        (["process.optimiser=sgdd"], "process.optimiser: must be 'sgd', 'adam' or 'adamw'"),
        (["process.momentum=1.0"], "process.momentum: must be less than 1"),
        (['run.save=["los"]'], "run.save[0] must be one of loss, accuracy"),
        (["updates.points=8"], "points must be at most stop + 1 = 7; got 8"),
        (["updates.values=[0, 5]"], "updates: must have stop and points, or values alone"),
        (["process.rate=1"], "process.rate: unknown key"),
        (["run.substeps=1"], "run.substeps: unknown key"),
    ],
)
def test_a_config_that_is_wrong_says_which_key_and_the_rule(changes, rule):
    with pytest.raises(ConfigError) as info:
        Poser().problem(config.parse(NETWORK, changes))
    assert rule in str(info.value)


def test_points_that_cannot_be_run_are_refused_before_anything_is_compiled(tmp_path):
    design = designs.Design((designs.Axis("batch", (4.0, 50.0)),))
    with pytest.raises(ConfigError, match="batch must be at most the 40"):
        sweeps.sweep(config.parse(NETWORK), design, tmp_path / "s.zarr", force=False,
                     console=Console(quiet=True))  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("momentum", [None, 0.0, 0.6])
def test_a_figure_of_stability_draws_the_bound_of_its_own_optimiser(momentum):
    # Without a momentum: Adam, for which theory has no bound of these numbers.
    own = ["optimiser=adam"] if momentum is None else [f"momentum={momentum}"]
    process = config.parse(NETWORK, own).seeded
    ones = learned.Curve(*np.ones((3, 4)))
    curves = {f"curvature.rate_{name}": ones for name in ("trace", "sharpness")}
    seen = learned.Seen(np.arange(4), [learned.Point(process, (), curves, {})])
    trace, top = (
        [float(line.get_ydata()[0]) for line in ax.lines if line.get_linestyle() == ":"]
        for ax in learned.figures(seen)["stability"].axes
    )
    if momentum is None:
        assert trace == top == []
        return
    # Descent with momentum b on h x²/2 is a map of (x, its last value): stable below the bound.
    (bound,) = top
    radii = []
    for rate in bound * np.array([0.999, 1, 1.001]):
        step = np.array([[1 + momentum - rate, -momentum], [1, 0]])
        radii.append(np.abs(np.linalg.eigvals(step)).max())
    assert radii[0] < 1 < radii[2] and radii[1] == pytest.approx(1, abs=1e-12)
    # One example of one input x at a time: E w² is multiplied by E (1 - η x²)², for x = ±√h
    # (1 - ηh)², which is 1 at η tr H = 2.
    assert trace == ([] if momentum else [2.0])


@pytest.mark.parametrize("name", catalogue.names(catalogue.AbstractProcess))
def test_a_new_config_of_a_process_is_read_and_posed(name):
    one = config.parse(template.config(name))
    assert config.parse(one.toml()) == one
    assert Poser().problem(one).outputs()


@pytest.mark.slow
def test_a_training_killed_in_a_process_of_its_own_is_continued_bit_for_bit(undrawn, tmp_path):
    text = REGRESSION.replace("[0, 3, 10, 30]", "[0, 3000, 60000]").replace(
        "chunk = 100", "chunk = 8"
    )
    path = tmp_path / "long.toml"
    path.write_text(text)
    simulated(whole := tmp_path / "whole.zarr", text=text)
    command = [sys.executable, "-m", "rqf_jax", "run", str(path), "--out", str(tmp_path / "k.zarr")]
    environment = {"JAX_ENABLE_X64": "1"}
    process = subprocess.Popen(command, env=os.environ | environment)
    assert wait_for(process, lambda: written(tmp_path / "k.zarr") >= 5)
    process.kill()
    process.wait()
    assert 5 <= written(tmp_path / "k.zarr") < 50
    simulated(tmp_path / "k.zarr", text=text)
    assert contents(tmp_path / "k.zarr") == contents(whole)
