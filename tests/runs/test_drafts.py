"""Unfinished runs, as kills and other users of the same disk leave them."""

import errno
import fcntl
import functools
import shutil
import weakref

import _stores
import jax
import numpy as np
import pytest
from _stores import TINY, Killed, contents, killed_before
from jax.experimental import multihost_utils
from matplotlib.figure import Figure

import rqf_jax as rqf
from rqf_jax import _store, io
from rqf_jax.cli.app import main
from rqf_jax.runs import ensemble as runs, hosts, look, session

TWO = TINY.replace("members = 320", "members = 16")
simulated = functools.partial(_stores.simulated, text=TWO)
pytestmark = pytest.mark.usefixtures("no_look")


@pytest.fixture
def finished(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run.zarr")


def killed(out, name, *changes, force=False):
    """A run that is killed before something gets this name."""
    with pytest.raises(Killed), killed_before(lambda _, path: path.endswith(name)):
        simulated(out, *changes, force=force)


def alone(out):
    return [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("name", ["plan.json", "00000001.npz", "run.zarr"])
def test_a_run_killed_before_a_file_is_in_its_place_ends_as_one_never_killed(whole, tmp_path, name):
    killed(out := tmp_path / "run.zarr", name)
    simulated(out)
    assert contents(out) == contents(whole) and alone(out)


@pytest.mark.slow
@pytest.mark.parametrize("force", [False, True])
def test_a_run_killed_before_every_fifth_change_of_the_disk_ends_as_one_never_killed(
    whole, tmp_path, force
):
    out, other, fatal = tmp_path / "runs" / "run.zarr", tmp_path / "other.zarr", 0
    simulated(other, "run.seed=1")
    while True:
        if force:
            shutil.copytree(other, out)
        try:
            with killed_before(lambda number, _, fatal=fatal: number == fatal):
                simulated(out, force=force)
            break
        except Killed:
            fatal += 5  # each of some hundred takes half a second
        # Until the new run is begun, or ended, the old one is what it was.
        simulated(out, force=force and not _store.Draft.find(out))
        assert contents(out) == contents(whole)
        assert alone(out), list(out.parent.iterdir())
        shutil.rmtree(out)
    assert fatal > 50


def test_a_file_that_was_on_its_way_when_the_run_was_committed_is_not_in_the_manifest(
    whole, tmp_path, monkeypatch
):
    out, write = tmp_path / "run.zarr", _store.Manifest.write

    def interrupted(*arguments):
        with killed_before(lambda *_: True):
            write(*arguments)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(_store.Manifest, "write", interrupted)
        simulated(out)
    assert any(path.suffix == ".partial" for path in _store.Draft.find(out).store.iterdir())
    simulated(out)
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    ("thing", "force"),
    [
        ("folder", False),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("folder", True), ("run", False), ("run", True))
        ),
    ],
)
def test_what_came_into_the_place_of_an_unfinished_run_is_not_replaced(
    whole, tmp_path, thing, force
):
    out = tmp_path / "run.zarr"
    killed(out, "00000001.npz")
    if thing == "run":
        simulated(tmp_path / "other.zarr", "run.seed=1")
        (tmp_path / "other.zarr").rename(out)
    else:
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
    before = contents(out) if thing == "run" else None
    if thing == "run" and force:
        simulated(out, force=True)
    else:
        with pytest.raises(FileExistsError, match="exists, and"):
            simulated(out, force=force)
        if thing == "run":
            assert contents(out) == before
        else:
            assert (out / "thesis.tex").read_text() == "years of work"
        shutil.rmtree(out)
        assert "1 of 2 chunks are there" in simulated(out)
    assert contents(out) == contents(whole)


def test_what_came_while_a_run_was_computed_is_not_replaced(whole, tmp_path, monkeypatch):
    out, finish = tmp_path / "run.zarr", _store.Manifest.write

    def meanwhile(*arguments):
        finish(*arguments)
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")

    with monkeypatch.context() as patch, pytest.raises(FileExistsError, match="move it away"):
        patch.setattr(_store.Manifest, "write", meanwhile)
        simulated(out)
    assert (out / "thesis.tex").read_text() == "years of work"
    shutil.rmtree(out)
    assert "2 of 2 chunks are there" in simulated(out)
    assert contents(out) == contents(whole)


def test_a_replacement_that_was_agreed_is_of_that_run_alone(whole, finished):
    killed(finished, "00000001.npz", "run.seed=1", force=True)
    assert contents(finished) == contents(whole)
    aside = finished.rename(finished.with_name("aside"))
    simulated(finished.with_name("third.zarr"), "run.seed=2")
    third = finished.with_name("third.zarr").rename(finished)
    with pytest.raises(FileExistsError, match="came after"):
        simulated(finished, "run.seed=1")
    shutil.rmtree(third)
    aside.rename(finished)
    simulated(finished, "run.seed=1")
    assert rqf.open(finished).attrs["seed"] == 1


def test_what_is_left_of_a_run_whose_store_was_moved_away_is_no_obstacle(whole, tmp_path):
    out = tmp_path / "run.zarr"
    with pytest.raises(Killed), killed_before(lambda *_: out.exists()):
        simulated(out)
    out.rename(tmp_path / "moved.zarr")
    simulated(out)
    assert contents(out) == contents(whole) == contents(tmp_path / "moved.zarr")


def test_a_damaged_record_of_the_journal_is_a_missing_one(whole, tmp_path):
    out = tmp_path / "run.zarr"
    killed(out, "00000001.npz")
    record = _store.Draft.folder_of(out) / "journal" / "00000000.npz"
    data = bytearray(record.read_bytes())
    data[len(data) // 2] ^= 1
    for harm in (data, data[:-9], b""):
        record.write_bytes(harm)
        assert _store.Draft.find(out).record(0) is None
    simulated(out)
    assert contents(out) == contents(whole)


def test_a_run_whose_arrays_are_not_described_any_more_is_replaced_with_force(
    whole, finished, capsys
):
    (finished / "time" / "zarr.json").write_text("nonsense")
    (finished.parent / "two.toml").write_text(TWO)
    for command in (["verify", str(finished)], ["run", "two.toml", "--out", str(finished)]):
        with pytest.raises(SystemExit) as info, pytest.MonkeyPatch.context() as patch:
            patch.chdir(finished.parent)
            main(command)
        assert info.value.code == 1
    assert "time/zarr.json damaged" in capsys.readouterr().err
    with pytest.raises(_store.DamagedError, match="--force"):
        simulated(finished)
    simulated(finished, force=True)
    assert contents(finished) == contents(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["comparison.csv", "order.png"])
def test_figures_are_of_the_run_beside_them_wherever_it_was_killed(tmp_path, monkeypatch, name):
    monkeypatch.setattr(runs, "look", look.look)
    monkeypatch.setattr(look.figures, "figures", lambda *_: {"order": Figure()})
    out, table = tmp_path / "run.zarr", tmp_path / "run" / "comparison.csv"
    # So long that there is something to compare.
    long, other = ("times.stop=20", "run.substeps=20"), "run.seed=1"
    simulated(tmp_path / "other.zarr", *long, other)
    simulated(out, *long)
    before = table.read_text()
    killed(out, f"run/{name}", *long, other, force=True)
    assert table.read_text() == before
    assert "is complete" in simulated(out, *long, other)
    assert table.read_text() == (tmp_path / "other" / "comparison.csv").read_text() != before
    assert {path.name for path in table.parent.iterdir()} == {"comparison.csv", "order.png"}
    drawn = table.stat().st_mtime_ns
    simulated(out, *long, other)
    assert table.stat().st_mtime_ns == drawn


def test_processes_that_look_at_different_moments_divide_the_same_regions(tmp_path, monkeypatch):
    draft = _store.Draft(
        tmp_path / "run.zarr", _store.Plan("", {}, {}, (("member", 70, 10),), (), 8)
    )
    written, told = {1}, []
    monkeypatch.setattr(_store.Draft, "record", lambda _, region: region in written or None)
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    # Process 0 tells the others, whatever they think.
    tell = lambda value: told.append(value) or told[0]  # noqa: E731
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", tell)
    shares = []
    for number in range(3):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        shares.append(hosts.mine(draft.missing(), 7)[1])
        written.add(shares[-1][0])
    assert shares == [[0, 4], [2, 5], [3, 6]]


def test_summaries_are_put_together_one_record_at_a_time(tmp_path, monkeypatch):
    record, records = _store.Draft.record, []

    def counted(draft, region):
        assert sum(one() is not None for one in records) <= 1
        found = record(draft, region)
        if found is not None:
            records.append(weakref.ref(found))
        return found

    monkeypatch.setattr(_store.Draft, "record", counted)
    simulated(tmp_path / "run.zarr", "run.members=64")
    assert len(records) == 8


@pytest.mark.slow
def test_less_memory_than_before_is_told_and_noted(tmp_path, monkeypatch):
    out, fitting = tmp_path / "run.zarr", session.fitting
    killed(out, "00000001.npz", "run.members=512", "run.chunk=256")
    half = lambda problem, batch, *rest: fitting(problem, batch // 2, *rest)  # noqa: E731
    monkeypatch.setattr(session, "fitting", half)
    text = simulated(out, "run.members=512", "run.chunk=256")
    assert "Less memory is free" in text
    assert "Chunks of 256 members, 2 in all; computed by 16 members on every device" in text
    assert _store.Root.read(out).manifest.plan["batch"] == 16


def test_a_disk_without_locks_is_a_warning(whole, tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="this disk has no locks"):
        simulated(out := tmp_path / "run.zarr")
    assert contents(out) == contents(whole) and alone(out)


def test_time_and_what_is_saved_are_dimensionless(whole):
    with rqf.open(whole) as run:
        floats = {name: v for name, v in run.variables.items() if v.dtype.kind == "f"}
        assert {"time", "overlaps", "polar_order", "overlaps_mean"} <= set(floats)
        assert {v.attrs.get("units") for v in floats.values()} == {"1"}


def test_times_that_are_one_in_32_bits_are_told_apart(tmp_path):
    text = TWO.replace("stop = 1.0\npoints = 3", "values = [1.0, 1.00000001, 1.5]")
    with jax.enable_x64(False):
        simulated(tmp_path / "run.zarr", text=text)
    with io.load(tmp_path / "run.zarr") as run:
        np.testing.assert_allclose(np.diff(run.time), [1e-8, 0.5 - 1e-8], rtol=1e-6)
