import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from _stores import PAIR, Killed, contents, killed_before
from rich.console import Console

import rqf_jax as rqf
from rqf_jax import _store, io
from rqf_jax._ensemble import program as _program
from rqf_jax.cli import fit as fits
from rqf_jax.cli.app import main
from rqf_jax.runs import config, look, problem as posed, sweep as sweeps
from rqf_jax.runs.config import ConfigError
from rqf_jax.runs.design import Axis, Design

TEXT = (
    """
[run]
members = 1000
substeps = 2
keep = "summaries"
save = ["overlaps"]
"""
    + PAIR
)
GRID = Design((Axis.parse("model.sigma=0.2:0.6:3"), Axis.parse("law.angle=0.5,2")))


def swept(out, design, *changes):
    one = config.parse(TEXT, changes)
    sweeps.sweep(one, design, out, force=False, console=Console(quiet=True))
    return rqf.open(out)


def test_every_point_of_a_grid_has_the_moments_of_its_own_closed_form_by_one_compilation(tmp_path):
    before = _program._compile.cache_info().misses
    with swept(tmp_path / "grid.zarr", GRID) as grid:
        assert _program._compile.cache_info().misses == before + 1
        assert grid.overlaps_mean.dims == ("sigma", "angle", "time", "pair")
        for sigma in grid.sigma.values:
            for angle in grid.angle.values:
                point = grid.sel(sigma=sigma, angle=angle)
                start = np.cos(angle)
                mean = rqf.theory.sphere.mean_overlap(grid.time.values, start, sigma=sigma)
                error = np.sqrt(point.overlaps_variance[:, 0] / 1000)
                np.testing.assert_array_less(
                    np.abs(point.overlaps_mean[:, 0] - mean), 5 * error + 1e-6
                )
                assert point.overlaps_histogram.sum() == 3 * 1000


@pytest.mark.slow
def test_a_point_of_a_sweep_is_the_run_of_its_config(tmp_path):
    design = Design((Axis.parse("model.sigma=0.3,0.7"), Axis.parse("law.angle=1,2")), zipped=True)
    with swept(tmp_path / "zip.zarr", design, "run.keep=trajectories", "run.members=20") as points:
        assert points.overlaps.dims == ("point", "member", "time", "pair")
        np.testing.assert_array_equal(points.angle, [1, 2])
        expected = rqf.simulate(
            rqf.models.random_quadratic_form(0.7),
            rqf.laws.InSpan(rqf.laws.Pair(2.0, 3)),
            jnp.linspace(0, 1, 3),
            substeps=2,
            members=20,
            key=jax.random.key(0),
            save=rqf.observables.overlaps,
        )
        np.testing.assert_allclose(points.overlaps[1], expected.ys, atol=1e-13)


@pytest.mark.filterwarnings("ignore:the step h")
def test_a_point_whose_members_fail_is_marked_and_spoils_no_other(tmp_path):
    design = Design((Axis.parse("model.sigma=0.3,1e100"),))
    with swept(tmp_path / "run.zarr", design, "run.members=20") as points:
        np.testing.assert_array_equal(points.failed, [0, 20])
        np.testing.assert_array_equal(points.overlaps_count[:, 1, 0], [20, 0])


@pytest.mark.filterwarnings("ignore:the step h")
def test_the_failed_points_of_a_sweep_can_be_run_alone(tmp_path, capsys):
    (tmp_path / "one.toml").write_text(TEXT)
    design = Design((Axis.parse("model.sigma=0.3,1e100"), Axis.parse("law.angle=1,2")))
    swept(tmp_path / "run.zarr", design, "run.members=20").close()
    failed = Design.failed(tmp_path / "run.zarr")
    assert failed.zipped and failed.points() == [(1e100, 1.0), (1e100, 2.0)]
    arguments = ["--failed", str(tmp_path / "run.zarr"), "--out", str(tmp_path / "again.zarr")]
    with pytest.raises(SystemExit) as info:
        main(["sweep", str(tmp_path / "one.toml"), "--set", "run.members=20", *arguments])
    assert info.value.code == 0
    with rqf.open(tmp_path / "again.zarr") as again:
        np.testing.assert_array_equal(again.failed, [20, 20])
        np.testing.assert_array_equal(again.angle, [1, 2])
    fine = Design((Axis.parse("model.sigma=0.3"), Axis.parse("law.angle=1,2")))
    swept(tmp_path / "fine.zarr", fine, "run.members=20").close()
    with pytest.raises(ConfigError, match="none of its 2 points has failed members"):
        Design.failed(tmp_path / "fine.zarr")


def test_a_bare_key_is_the_only_one_of_that_name():
    design = Design((Axis.parse("sigma=1,2"), Axis.parse("angle=1"), Axis.parse("run.seed=1,2")))
    full = [axis.key for axis in design.of(config.parse(TEXT)).axes]
    assert full == ["model.sigma", "law.angle", "run.seed"]


def test_a_sweep_is_not_fitted_as_if_it_were_one_ensemble(tmp_path):
    dims, out = ("sigma", "member", "time", "token", "dim"), tmp_path / "run.zarr"
    points = xarray.Dataset({"state": (dims, np.ones((2, 3, 2, 1, 1)))})
    io.save_dataset(points, out, attributes={})
    with pytest.raises(io.DataFileError, match="a sweep over sigma is many ensembles"):
        fits.fit(out, antisymmetric=False, method="qmle", console=Console(quiet=True))


@pytest.mark.slow
def test_points_together_are_bit_for_bit_points_in_blocks_of_any_size(tmp_path, monkeypatch):
    design = Design((Axis.parse("model.sigma=0.3,0.7"), Axis.parse("law.angle=1,2,3")))
    changes = ("run.members=20", "run.keep=trajectories")
    with swept(tmp_path / "all.zarr", design, *changes) as together:
        monkeypatch.setattr(sweeps, "_TOGETHER", 40)
        with swept(tmp_path / "two.zarr", design, *changes) as pairs:
            for name in together.variables:
                np.testing.assert_array_equal(pairs[name], together[name])


def test_random_points_are_a_function_of_the_seed_and_lie_in_their_ranges():
    ranges = ["model.sigma=0.5:1", "law.angle=2:3"]
    one, same, other = (Design.random(ranges, 50, seed) for seed in (0, 0, 1))
    assert one == same and one != other and one.zipped
    for axis, low in zip(one.axes, (0.5, 2), strict=True):
        assert low <= min(axis.values) < max(axis.values) <= low + 1
    assert abs(np.corrcoef(*(axis.values for axis in one.axes))[0, 1]) < 5 / np.sqrt(50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "model.sigma=0:1"], "must look like section.key=from:to:count"),
        (["--grid", "model.sigma=a,b"], "must look like section.key=from:to:count"),
        (["--grid", "model.sigmo=0:1:2"], "model.sigmo: unknown key. Did you mean sigma?"),
        (
            ["--grid", "model.sigma=-1,1"],
            "model.sigma: must be greater than or equal to 0; got -1.",
        ),
        (["--grid", "model.sigma=0:1:2", "--grid", "law.sigma=0:1:2"], "different names"),
        (["--grid", "model.sigma=1,2", "--grid", "law.angle=1", "--zip"], "equally many values"),
        (
            ["--grid", "times.stop=1,2,4"],
            "times.stop: cannot be swept. Keys: model.sigma, law.angle, law.dim, run.seed, "
            "run.substeps.",
        ),
        (["--grid", "run.members=10,20"], "run.members: cannot be swept. "),
        (["--grid", "sigmo=1,2"], "sigmo: cannot be swept. Did you mean model.sigma?"),
        (["--grid", "name=1,2"], "name: cannot be swept. Keys: "),
        (["--random", "model.sigma=1"], "must look like section.key=from:to"),
        ([], "either --grid, with or without --zip, or --random, or --failed"),
        (["--failed", "nothing.zarr"], "no such run"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything_is_compiled(
    tmp_path, capsys, arguments, message
):
    (tmp_path / "one.toml").write_text(TEXT)
    out = tmp_path / "sweep.zarr"
    with pytest.raises(SystemExit) as info:
        main(["sweep", str(tmp_path / "one.toml"), "--out", str(out), *arguments])
    assert info.value.code == 2 and message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["one.toml"]


def test_checking_a_sweep_of_many_points_does_the_work_of_few(monkeypatch):
    counted = {}

    def count(owner, name):
        whole = getattr(owner, name)

        def one(*args, **kwargs):
            counted[name] = counted.get(name, 0) + 1
            return whole(*args, **kwargs)

        monkeypatch.setattr(owner, name, one)

    for name in ("check", "initial", "equation"):
        count(posed, name)
    jax.monitoring.register_event_duration_secs_listener(compilations := Compilations())
    work = []
    for rows in (5, 40):
        design = Design((Axis.parse(f"model.sigma=0:1:{rows}"), Axis.parse("law.angle=0.5:2:20")))
        counted.clear()
        before = compilations.count
        job = sweeps.SweepJob.of(config.parse(TEXT), design, Console(quiet=True))
        assert len(job.problems) == 20 * rows
        # A law for each angle, an equation for each strength, and nothing for each point.
        assert counted.pop("initial") <= 21 and counted.pop("equation") <= rows + 1
        work.append((counted.copy(), compilations.count - before))
    assert work[0][0] == work[1][0] and counted["check"] <= 4
    assert work[1][1] <= work[0][1] + 1


class Compilations:
    """The number of programs that XLA compiled."""

    count = 0

    def __call__(self, event, duration, **_):
        self.count += event == "/jax/core/compile/backend_compile_duration"


def test_another_sweep_does_not_replace_one(tmp_path):
    out = tmp_path / "run.zarr"
    swept(out, Design((Axis.parse("model.sigma=0.3"),)), "run.members=20").close()
    with pytest.raises(FileExistsError, match=r"sweep\.axes\.model\.sigma: \[0\.3\] in the run"):
        swept(out, Design((Axis.parse("model.sigma=0.4"),)), "run.members=20")
    with pytest.raises(ConfigError, match=r"must end in \.zarr"):
        swept(tmp_path / "run", GRID)
    assert _store.Draft.find(out) is None
    look.look(out, tmp_path / "figures", Console(quiet=True), form="svg")
    drawn = sorted(file.name for file in (tmp_path / "figures").iterdir())
    assert drawn == ["overlaps.svg"]


def test_a_sweep_without_closed_forms_writes_no_table_and_is_drawn_once(tmp_path):
    out, folder = tmp_path / "run.zarr", tmp_path / "run"
    given = Design((Axis.parse("model.sigma=0.3"),)), "run.members=20", 'save=["polar_order"]'
    swept(out, *given).close()
    assert [path.name for path in folder.iterdir()] == ["polar_order.png"]
    drawn = (folder / "polar_order.png").stat().st_mtime_ns
    swept(out, *given).close()
    assert (folder / "polar_order.png").stat().st_mtime_ns == drawn
    (folder / "comparison.csv").write_text("of another run")
    look.look(out, folder, Console(quiet=True))
    assert [path.name for path in folder.iterdir()] == ["polar_order.png"]


@pytest.mark.slow
def test_the_command_line_sweeps_axes_in_step_and_at_random_points(tmp_path, capsys):
    (tmp_path / "one.toml").write_text(TEXT.replace("members = 1000", "members = 16"))
    command = ["sweep", str(tmp_path / "one.toml"), "--out"]
    axes = ["--grid", "sigma=0.2:0.6:3", "--grid", "angle=1,2,3", "--zip"]
    ranges = ["--random", "model.sigma=0.2:0.6", "--random", "angle=1:2", "--points", "5"]
    for name, arguments in (("zip", axes), ("random", ranges)):
        with pytest.raises(SystemExit) as info:
            main([*command, str(tmp_path / f"{name}.zarr"), *arguments])
        assert info.value.code == 0, capsys.readouterr().err
    with rqf.open(tmp_path / "zip.zarr") as points:
        np.testing.assert_allclose(points.sigma, [0.2, 0.4, 0.6])
        np.testing.assert_array_equal(points.angle, [1, 2, 3])
        np.testing.assert_allclose(points.overlaps_mean[:, 0, 0], np.cos([1, 2, 3]), atol=1e-12)
    design = Design.random(["model.sigma=0.2:0.6", "law.angle=1:2"], 5, 0)
    with rqf.open(tmp_path / "random.zarr") as points:
        np.testing.assert_array_equal(points.sigma, design.axes[0].values)
        np.testing.assert_array_equal(points.angle, design.axes[1].values)
        np.testing.assert_allclose(points.overlaps_mean[:, 0, 0], np.cos(points.angle), atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["00000000.npz", "00000001.npz", "run.zarr"])
def test_a_sweep_that_was_killed_is_continued_by_the_same_command(tmp_path, capsys, name):
    (tmp_path / "one.toml").write_text(TEXT.replace("members = 1000", "members = 16"))
    outs = tmp_path / "whole.zarr", tmp_path / "run.zarr"
    axes = ["--grid", "sigma=0.2,0.6", "--grid", "angle=1,2,3"]
    commands = [["sweep", str(tmp_path / "one.toml"), "--out", str(out), *axes] for out in outs]
    with pytest.raises(Killed), killed_before(lambda _, path: path.endswith(name)):
        main(commands[1])
    for command in commands:
        with pytest.raises(SystemExit) as info:
            main(command)
        assert info.value.code == 0, capsys.readouterr().err
    assert "Continuing" in capsys.readouterr().out
    assert contents(outs[1]) == contents(outs[0])
