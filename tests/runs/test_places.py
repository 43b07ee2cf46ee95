"""Where runs may be written, what is never deleted, and what makes two runs the same."""

import contextlib
import functools
import importlib
import os
import shutil

import _stores
import jax
import numpy as np
import pytest
from _stores import TINY, Killed, contents, killed_before

import rqf_jax as rqf
from rqf_jax import _store
from rqf_jax.cli import main
from rqf_jax.runs import ensemble as runs

TWO = TINY.replace("members = 320", "members = 16")
PROVENANCE = importlib.import_module("rqf_jax._store.provenance")
simulated = functools.partial(_stores.simulated, text=TWO)
pytestmark = pytest.mark.usefixtures("no_look")


@pytest.fixture
def cut(tmp_path):
    """An unfinished run: one chunk of two is there."""
    out = tmp_path / "run.zarr"
    with (
        pytest.raises(Killed),
        killed_before(lambda _, path: path.endswith("00000001.npz")),
    ):
        simulated(out)
    return out


HARMS = {
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
    "other": lambda path: path.write_text("{}"),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", ["zarr.json", "overlaps/zarr.json", "status/zarr.json"])
def test_descriptions_that_a_power_cut_took_are_laid_out_again(whole, cut, name, harm):
    HARMS[harm](_store.Draft.find(cut).store / name)
    assert "1 of 2 chunks are there" in simulated(cut)
    assert contents(cut) == contents(whole)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"config": 1}', b"[" * 10**5])
def test_a_plan_that_cannot_be_read_is_one_error_and_force_begins_again(whole, cut, data):
    plan = _store.Draft.folder_of(cut) / "plan.json"
    plan.write_bytes(data)
    with pytest.raises(rqf.io.DataFileError, match=r"plan\.json.*--force"):
        simulated(cut)
    simulated(cut, force=True)
    assert contents(cut) == contents(whole)


def test_every_byte_of_a_plan_is_covered(cut):
    plan = _store.Draft.folder_of(cut) / "plan.json"
    data = plan.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        plan.write_bytes(changed)
        with pytest.raises(rqf.io.DataFileError):
            _store.Draft.find(cut)


def test_descriptions_are_on_the_disk_before_the_plan(tmp_path, monkeypatch):
    synced, fsync, replace = set(), os.fsync, os.replace

    def noted(handle):
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def checked(source, target):
        if str(target).endswith("plan.json"):
            store = _store.Draft.folder_of(tmp_path / "run.zarr") / "store"
            assert not [p for p in [store, *store.rglob("*")] if p.stat().st_ino not in synced]
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", checked)
    simulated(tmp_path / "run.zarr")


def test_files_and_folders_of_others_in_a_draft_survive_its_commit(whole, cut, capsys):
    folder = _store.Draft.folder_of(cut)
    mine = [
        folder / "store" / ".DS_Store",
        folder / "store" / "keep.partial",
        folder / "store" / "overlaps" / ".nfs0001",
        folder / "store" / "thesis" / "chapter.tex",
        folder / "journal" / "notes.txt",
        folder / "notes.txt",
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("years of work")
    simulated(cut)
    inside = [cut / path.relative_to(folder / "store") for path in mine[:4]]
    for path in [*inside, *mine[4:]]:
        assert path.read_text() == "years of work"
    with rqf.open(cut) as run, rqf.open(whole) as other:
        np.testing.assert_array_equal(run.overlaps, other.overlaps)
    with pytest.raises(SystemExit) as info:
        main(["verify", str(cut)])
    assert info.value.code == 1 and "chapter.tex: was not written" in capsys.readouterr().out
    with pytest.raises(FileExistsError, match="not written with it"):
        simulated(cut, "run.seed=1", force=True)
    assert "holds files that were not written with it" in simulated(cut)
    for path in inside:
        assert path.read_text() == "years of work"


@pytest.mark.parametrize("name", ["", "store", "journal", "checkpoints"])
def test_nothing_is_done_behind_a_link_in_a_draft(cut, tmp_path, name):
    folder = _store.Draft.folder_of(cut) / name
    elsewhere = tmp_path / "elsewhere"
    if folder.exists():
        folder.rename(elsewhere)
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / "thesis").mkdir()
    (elsewhere / "keep.partial").write_text("years of work")
    before = sorted(elsewhere.rglob("*"))
    folder.symlink_to(elsewhere)
    for force in (False, True):
        with pytest.raises(FileExistsError, match="is a link"):
            simulated(cut, force=force)
    assert sorted(elsewhere.rglob("*")) == before


def test_a_link_inside_a_draft_is_not_followed_when_it_is_discarded(cut, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "c"
    elsewhere.mkdir(parents=True)
    (elsewhere / "0").write_text("years of work")
    (_store.Draft.folder_of(cut) / "store" / "linked").symlink_to(elsewhere.parent)
    simulated(cut, "run.seed=1", force=True)
    assert rqf.open(cut).attrs["seed"] == 1
    assert (elsewhere / "0").read_text() == "years of work"


def test_a_link_to_nothing_is_found_before_anything_is_computed(tmp_path, monkeypatch):
    out = tmp_path / "run.zarr"
    out.symlink_to(tmp_path / "nowhere" / "run.zarr")
    monkeypatch.setattr(runs.EnsembleJob, "compute", None)
    for force in (False, True):
        with pytest.raises(FileExistsError, match=r"is a link to .*nowhere"):
            simulated(out, force=force)
    with pytest.raises(FileExistsError, match="is a link"):
        rqf.io.save_dataset(_dataset(), out, attributes={}, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"] and out.is_symlink()


def test_a_run_behind_a_link_is_replaced_where_it_is(whole, tmp_path):
    (tmp_path / "big").mkdir()
    target = shutil.copytree(whole, tmp_path / "big" / "real.zarr")
    out = tmp_path / "run.zarr"
    out.symlink_to(target)
    assert "is complete" in simulated(out)
    simulated(out, "run.seed=1", force=True)
    assert out.is_symlink() and rqf.open(target).attrs["seed"] == 1
    rqf.io.save_dataset(_dataset(), out, attributes={}, overwrite=True)
    assert out.is_symlink() and "x" in rqf.open(target)
    assert [p.name for p in target.parent.iterdir()] == ["real.zarr"]


def _dataset():
    import xarray

    return xarray.Dataset({"x": ("i", np.arange(3.0))})


def test_a_store_inside_a_store_is_refused(whole, cut, tmp_path):
    finished = shutil.copytree(whole, tmp_path / "outer.zarr")
    for place in (finished, finished / "deep" / "er", _store.Draft.folder_of(cut)):
        with pytest.raises(rqf.io.DataFileError, match="is inside"):
            simulated(place / "inner.zarr")
        with pytest.raises(rqf.io.DataFileError, match="is inside"):
            rqf.io.save_dataset(_dataset(), place / "inner.zarr", attributes={})
        assert not list(tmp_path.rglob("inner*"))


def test_force_keeps_a_run_that_holds_files_of_others(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "run.zarr")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"not written with it: notes\.txt"):
        simulated(out, "run.seed=1", force=True)
    with pytest.raises(FileExistsError, match=r"not written with it: notes\.txt"):
        rqf.io.save_dataset(_dataset(), out, attributes={}, overwrite=True)
    (out / "notes.txt").unlink()
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    "name", ["x" * 250 + ".zarr", "y" * 300 + "/run.zarr", "ü" * 125 + ".zarr"]
)
def test_a_name_that_no_disk_can_hold_is_refused(tmp_path, name):
    with pytest.raises(rqf.io.DataFileError, match="must have at most"):
        simulated(tmp_path / name)
    assert not list(tmp_path.iterdir())


def _states(path, seed):
    rng = np.random.default_rng(seed)
    tokens, hidden = np.array(["a", "b", "c"]), rng.normal(size=(2, 3, 5))
    np.savez(path, sentences=np.array(["a b c"]), tokens_00=tokens, hidden_00=hidden)


def test_a_run_is_of_the_bytes_of_the_files_that_its_config_reads(tmp_path):
    states, out = tmp_path / "states.npz", tmp_path / "run.zarr"
    changes = [f"law={{name='hidden_states', file='{states}'}}"]
    _states(states, 0)
    simulated(tmp_path / "whole.zarr", *changes)
    with pytest.raises(Killed), killed_before(lambda _, path: path.endswith("00000001.npz")):
        simulated(out, *changes)
    _states(states, 1)
    with pytest.raises(FileExistsError, match=r"SHA-256 of law\.file: \w+ in the run, \w+ here"):
        simulated(out, *changes)
    shutil.copytree(tmp_path / "whole.zarr", tmp_path / "finished.zarr")
    chunk = next((tmp_path / "finished.zarr" / "overlaps" / "c" / "0").rglob("0"))
    for harm in (False, True):  # a finished run, and one to be repaired
        if harm and chunk.is_file():
            chunk.write_bytes(b"nonsense")
        with pytest.raises(FileExistsError, match=r"SHA-256 of law\.file"):
            simulated(tmp_path / "finished.zarr", *changes)
    _states(states, 0)
    simulated(out, *changes)
    assert contents(out) == contents(tmp_path / "whole.zarr")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("jax_threefry_partitionable", lambda: jax.threefry_partitionable(False)),
        ("jax_default_matmul_precision", lambda: jax.default_matmul_precision("bfloat16")),
        ("numerics", None),
        ("XLA_FLAGS", None),
        ("processor", None),
    ],
)
def test_whatever_decides_over_bits_decides_whether_a_run_goes_on(cut, monkeypatch, name, change):
    if name == "numerics":
        monkeypatch.setattr(PROVENANCE, "NUMERICS", 10**6)
    if name == "XLA_FLAGS":
        monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    if name == "processor":
        monkeypatch.setattr(PROVENANCE, "_processor", lambda: "pdp11")
    with change() if change else contextlib.nullcontext():
        with pytest.raises(FileExistsError, match=f"{name}: .* in the run, .* here"):
            simulated(cut)


def test_the_number_of_devices_and_the_place_of_modules_are_no_part_of_a_run(monkeypatch):
    before = _store.identity()
    flags = "--xla_force_host_platform_device_count=4 --xla_dump_to=x"
    monkeypatch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {flags}")
    assert _store.identity() == before
    assert not any("rqf_jax/" in value or "code" in name for name, value in before.items())
