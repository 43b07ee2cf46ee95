import functools
import os
import shutil
import signal

import _stores
import jax
import numpy as np
import pytest
import xarray
from _stores import TINY, Killed, contents

import rqf_jax as rqf
from rqf_jax import _store, io
from rqf_jax._ensemble.program import Program
from rqf_jax.cli.app import main
from rqf_jax.runs import look, plan, session

simulated = functools.partial(_stores.simulated, text=TINY)
pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def cut(tmp_path, monkeypatch):
    """An unfinished run of three chunks, as a kill between two chunks leaves it."""
    out, write = tmp_path / "cut.zarr", _store.Draft.write

    def stop(draft, region, *rest):
        if region == 3:
            raise Killed
        write(draft, region, *rest)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(_store.Draft, "write", stop)
        simulated(out)
    return out


def test_a_run_is_the_ensemble_that_python_gives_and_its_summaries(whole):
    law = rqf.laws.InSpan(rqf.laws.Pair(1.0, 3))
    expected = rqf.simulate(
        rqf.models.random_quadratic_form(0.8), law, np.linspace(0, 1, 3),
        substeps=2, members=320, key=jax.random.key(0), save=rqf.observables.polar_order,
    )  # fmt: skip
    with rqf.open(whole) as run:
        np.testing.assert_allclose(run.polar_order, expected.ys, atol=1e-13)
        np.testing.assert_allclose(run.polar_order_mean, run.polar_order.mean("member"), atol=1e-13)
        variance = run.overlaps.var("member", ddof=1)
        np.testing.assert_allclose(run.overlaps_variance, variance, atol=1e-13)
        counts = np.histogram(run.polar_order[:, 2], run.polar_order_edges)[0]
        np.testing.assert_array_equal(run.polar_order_histogram[2], counts)
        assert run.overlaps.dims == ("member", "time", "pair") and run.pair.values == ["0–1"]


def test_a_complete_run_says_so_and_computes_nothing(whole, monkeypatch):
    monkeypatch.setattr(session, "fitting", None)
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert "is complete: " in simulated(whole)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_another_config_is_refused_with_what_differs(whole, cut):
    for out, state in ((whole, "another run:"), (cut, "unfinished:")):
        with pytest.raises(FileExistsError, match=state) as info:
            simulated(out, "model.sigma=0.5", "run.seed=7")
        lines = str(info.value).splitlines()[1:]
        assert lines == [
            "  run.seed: 0 in the run, 7 here",
            "  model.sigma: 0.8 in the run, 0.5 here",
        ]


def test_other_code_does_not_continue_a_run_unless_forced_to_begin_again(cut, monkeypatch):
    identity = _store.identity() | {"jax": "0.0.1"}
    monkeypatch.setattr(_store, "identity", lambda: identity)
    with pytest.raises(FileExistsError, match=r"jax: .* in the run, 0\.0\.1 here"):
        simulated(cut)
    assert "Continuing" not in simulated(cut, force=True)
    assert "is complete" in simulated(cut)


def test_an_unfinished_run_is_not_read(cut, capsys):
    with pytest.raises(io.DataFileError, match="not finished"):
        rqf.open(cut)
    with pytest.raises(SystemExit):
        main(["info", str(cut)])
    assert "3 of 40 chunks are there" in capsys.readouterr().out


@pytest.mark.parametrize("harm", ["flipped", "short", "gone"])
def test_a_damaged_chunk_is_found_on_reading_and_computed_again(whole, tmp_path, capsys, harm):
    out = tmp_path / "run.zarr"
    shutil.copytree(whole, out)
    chunk = out / "overlaps" / "c" / "7" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    if harm == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(data if harm == "flipped" else data[:-1])
    with pytest.raises(ValueError, match=r"checksum|missing, cut short or changed"):
        rqf.open(out).overlaps.load()
    with pytest.raises(SystemExit) as info:
        main(["verify", str(out)])
    assert info.value.code == 1 and f"{chunk}: damaged" in capsys.readouterr().out
    text = simulated(out)
    assert "1 of 40 chunks are damaged" in text and "bit for bit" in text
    assert contents(out) == contents(whole)


def test_a_damaged_summary_is_not_made_up(whole, tmp_path):
    out = tmp_path / "run.zarr"
    shutil.copytree(whole, out)
    (out / "overlaps_mean" / "c" / "0" / "0").write_bytes(b"nonsense")
    with pytest.raises(_store.DamagedError, match="overlaps_mean"):
        simulated(out)


def test_a_chunk_damaged_before_the_run_is_finished_is_computed_again(cut, whole):
    chunk = _store.Draft.find(cut).store / "status" / "c" / "1"
    chunk.write_bytes(b"nonsense")
    simulated(cut)
    assert contents(cut) == contents(whole)


def test_two_processes_do_not_write_one_run(tmp_path):
    out = tmp_path / "run.zarr"
    with _store.locked(out), pytest.raises(_store.LockedError, match="another process"):
        simulated(out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "twice"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=str
)
def test_a_signal_stops_between_chunks_and_a_second_one_at_once(
    whole, tmp_path, monkeypatch, capsys, number, twice
):
    out, write = tmp_path / "run.zarr", _store.Draft.write
    (tmp_path / "tiny.toml").write_text(TINY)

    def interrupted(draft, region, *rest):
        if region == 3:
            os.kill(os.getpid(), number)
            if twice:
                os.kill(os.getpid(), number)
        write(draft, region, *rest)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as info:
        patch.setattr(_store.Draft, "write", interrupted)
        main(["run", str(tmp_path / "tiny.toml"), "--out", str(out)])
    assert info.value.code == 128 + number
    said = "the chunk in hand is lost" if twice else "4 of 40 chunks are safe"
    assert said in capsys.readouterr().err
    assert _store.Draft.find(out).written() == (3 if twice else 4)
    simulated(out)
    assert contents(out) == contents(whole)


def test_members_that_fail_are_marked_counted_and_left_out_of_summaries(tmp_path):
    out = tmp_path / "run.zarr"
    with pytest.warns(UserWarning, match="the step h"):
        text = simulated(out, "model.sigma=1e200", "run.failures=mark", "run.members=16")
    assert "16 of 16 members failed" in text
    with rqf.open(out) as run:
        assert run.attrs["failed"] == 16
        np.testing.assert_array_equal(run.status, 1)
        np.testing.assert_array_equal(run.overlaps_count, 0)


def test_a_run_that_keeps_summaries_alone_has_the_same_ones(whole, tmp_path):
    out = tmp_path / "run.zarr"
    simulated(out, "run.keep=summaries")
    with rqf.open(out) as run, rqf.open(whole) as all_of_it:
        assert "overlaps" not in run and run.sizes["member"] == 320
        for name in ("overlaps_mean", "overlaps_variance", "polar_order_histogram"):
            np.testing.assert_array_equal(run[name], all_of_it[name])


def test_summaries_of_parts_add_up_to_the_summary_of_all():
    rng = np.random.default_rng(0)
    values = 1e6 + rng.normal(size=(500, 3, 2))
    values[::7, 1, 1] = -np.inf
    keep = rng.random(500) < 0.9
    edges = np.linspace(1e6 - 4, 1e6 + 4, 17)
    parts = [
        _store.Summary.of(values[a:b], edges, keep[a:b])
        for a, b in ((0, 1), (1, 1), (1, 300), (300, 500))
    ]
    total = parts[0] + parts[1] + parts[2] + parts[3]
    for t, i in np.ndindex(3, 2):
        known = values[keep, t, i]
        known = known[np.isfinite(known)]
        assert total.count[t, i] == len(known)
        assert total.mean[t, i] == pytest.approx(known.mean(), rel=1e-15)
        assert total.variance[t, i] == pytest.approx(known.var(ddof=1), rel=1e-9)
        clipped = np.clip(known, edges[0], edges[-1])
        np.testing.assert_array_equal(total.histogram[t, i], np.histogram(clipped, edges)[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "error", [MemoryError("a large array"), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: HBM")]
)
def test_memory_that_runs_out_halves_the_batch_and_says_so(tmp_path, monkeypatch, error):
    compute = Program.__call__
    asked = []

    def small(program, problem, first, count):
        asked.append(program.batch)
        if program.batch > 8:
            raise error
        return compute(program, problem, first, count)

    monkeypatch.setattr(Program, "__call__", small)
    text = simulated(tmp_path / "run.zarr", "run.chunk=256")
    assert asked == [32, 16, 8, 8] and "now 16 members at a time" in text
    monkeypatch.setattr(plan, "free_bytes", lambda device: 10)
    with pytest.raises(plan.OutOfMemoryError, match="8 members at a time need more memory"):
        simulated(tmp_path / "other.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_netcdf_holds_the_same_numbers(whole, tmp_path):
    with rqf.open(whole) as run:
        io.to_netcdf(run, tmp_path / "run.nc")
        with xarray.open_dataset(tmp_path / "run.nc", engine="scipy") as other:
            np.testing.assert_array_equal(other.overlaps, run.overlaps)
            assert other.attrs["config"] == run.attrs["config"]
        with pytest.raises(FileExistsError):
            io.to_netcdf(run, tmp_path / "run.nc")
        with pytest.raises(io.DataFileError, match="there is no folder"):
            io.to_netcdf(run, tmp_path / "none" / "run.nc")


@pytest.mark.parametrize("name", ["config", "dim", "tokens"])
def test_a_store_without_what_a_run_writes_is_one_clear_error(name):
    whole = {"config": "", "dim": 3, "tokens": ["a", "b"]}
    del whole[name]
    with pytest.raises(
        rqf.io.DataFileError, match=f"no config made this store: it lacks the attribute {name}"
    ):
        look.stored_config(xarray.Dataset(attrs=whole))
