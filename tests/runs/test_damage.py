"""Damaged, hostile and old stores: a wrong number is never read without a word."""

import io as streams
import json
import shutil
import warnings
import zipfile
from pathlib import Path

import _stores
import jax
import jax.numpy as jnp
import numcodecs
import numpy as np
import pytest
import xarray
import zarr
from _stores import TINY

import rqf_jax as rqf
from rqf_jax import _store
from rqf_jax.cli import main
from rqf_jax.runs import look

SMALL = TINY.replace("members = 320", "members = 12")
OLD = Path(__file__).parent / "data" / "stores_0_1_0.zip"
pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(scope="module")
def ensemble():
    sde, law = rqf.models.random_quadratic_form(0.8), rqf.laws.Uniform(3, 4)
    ts, key = jnp.linspace(0.0, 1.0, 3), jax.random.key(1)
    return rqf.simulate(sde, law, ts, substeps=2, members=5, key=key)


@pytest.fixture(scope="module")
def stores(tmp_path_factory, ensemble):
    """A run and a saved ensemble; not to be changed."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(look, "draw", lambda *_, **__: None)
        _stores.simulated(folder / "run.zarr", text=SMALL)
    rqf.save(ensemble, folder / "saved.zarr", attributes={"seed": 1, "tokens": ["a", "b", "c"]})
    return folder


@pytest.fixture
def copies(stores, tmp_path):
    return Path(shutil.copytree(stores, tmp_path / "copies"))


def numbers(dataset):
    """Every number of a dataset, by variable, and its attributes."""
    return {name: (v.dims, v.to_numpy()) for name, v in dataset.variables.items()}, dataset.attrs


def verified(path, capsys):
    """The exit code of `rqf-jax verify`."""
    try:
        main(["verify", str(path)])
    except SystemExit as end:
        capsys.readouterr()
        return end.code or 0
    raise AssertionError("the command line always ends by an exit")


def is_silent(read, path, expected):
    """Whether `read` returns other numbers or attributes than `expected` without an error."""
    try:
        found = read(path)
    except Exception:  # of whatever library met the damage
        return False
    return not _same(found, expected)


def _same(a, b):
    return (
        a[0].keys() == b[0].keys()
        and a[1] == b[1]
        and all(
            a[0][n][0] == b[0][n][0] and np.array_equal(a[0][n][1], b[0][n][1], equal_nan=False)
            if a[0][n][1].dtype.kind not in "fc"
            else a[0][n][0] == b[0][n][0] and np.array_equal(a[0][n][1], b[0][n][1], equal_nan=True)
            for n in a[0]
        )
    )


def opened(path):
    with rqf.open(path) as dataset:
        return numbers(dataset.load())


def by_xarray(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with xarray.open_zarr(path, consolidated=False, chunks=None) as dataset:
            return numbers(dataset.load())


def flips(path, count, rng):
    """A few places of a file, and the byte that each becomes."""
    data = path.read_bytes()
    for place in rng.choice(len(data), min(count, len(data)), replace=False):
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        yield int(place)
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["run.zarr", "saved.zarr"])
def test_a_flipped_byte_is_never_read_as_a_number_and_always_found(copies, name, capsys):
    store, rng, total = copies / name, np.random.default_rng(0), 0
    expected, plain = opened(store), by_xarray(store)
    assert verified(store, capsys) == 0
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        is_chunk = path.name != "zarr.json"
        for place in flips(path, 3 if is_chunk else 8, rng):
            where = f"{path.relative_to(store)} at {place}"
            total += 1
            assert verified(store, capsys) != 0, where
            assert not is_silent(opened, store, expected), where
            assert not (is_chunk and is_silent(by_xarray, store, plain)), where
    assert total > 40
    assert verified(store, capsys) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["run.zarr", "saved.zarr"])
def test_every_byte_of_the_root_is_covered(copies, name):
    root = copies / name / "zarr.json"
    data = root.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        root.write_bytes(changed)
        with pytest.raises(rqf.io.DataFileError):
            _store.Root.read(root.parent)


def test_an_edited_config_is_found_and_a_key_that_occurs_twice_too(copies, capsys):
    root = copies / "run.zarr" / "zarr.json"
    text = root.read_text()
    root.write_text(text.replace("sigma = 0.8", "sigma = 9.8", 1))
    with pytest.raises(rqf.io.DamagedError, match="damaged; its checksum"):
        rqf.open(root.parent)
    assert verified(root.parent, capsys) == 1
    root.write_text(text.replace('"seed": 0', '"seed": 0, "seed": 1', 1))
    with pytest.raises(rqf.io.DataFileError, match="'seed' occurs twice"):
        rqf.open(root.parent)


def test_planted_arrays_and_files_are_named(copies, capsys):
    store = copies / "run.zarr"
    shutil.copytree(store / "polar_order", store / "planted")
    (store / "notes.txt").write_text("mine")
    with pytest.raises(rqf.io.DataFileError, match="planted was not written with it"):
        rqf.open(store)
    with pytest.raises(SystemExit) as info:
        main(["verify", str(store)])
    said = capsys.readouterr().out
    assert info.value.code == 1
    assert f"{store / 'notes.txt'}: was not written" in said and "planted/zarr.json" in said


def test_a_description_of_anything_but_numbers_is_never_opened(copies, tmp_path):
    """The store of an attacker: an object array whose filter unpickles its chunks."""
    store, ran = copies / "saved.zarr", tmp_path / "ran"
    legacy = store / "state"
    shutil.rmtree(legacy)
    legacy.mkdir()
    entry = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None,
        "fill_value": None, "order": "C", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}],
    }  # fmt: skip
    (legacy / ".zarray").write_text(json.dumps(entry))
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    (legacy / "0").write_bytes(f"cos\nsystem\n(S'touch {ran}'\ntR.".encode())
    root = json.loads((store / "zarr.json").read_text())
    for facts in ({"rqf_jax": "0.1.0"}, root["attributes"]):
        document = json.dumps({"zarr_format": 2, "node_type": "group", "attributes": facts})
        (store / "zarr.json").write_text(document)
        with pytest.raises(rqf.io.DataFileError):
            rqf.open(store)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"data_type": "string"}, "must describe numbers; got the data type 'string'"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "no codec but bytes, zstd, crc32c"),
        ({"codecs": []}, "no codec but"),
        ({"zarr_format": 2}, "zarr format 3"),
        ({"storage_transformers": [{"name": "x"}]}, "no storage transformers"),
    ],
)
def test_a_store_without_checksums_is_opened_only_if_it_is_plain_numbers(tmp_path, change, rule):
    with zipfile.ZipFile(OLD) as file:
        file.extractall(tmp_path)
    path = tmp_path / "saved.zarr" / "state" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(rqf.io.DataFileError, match=rule):
        rqf.open(tmp_path / "saved.zarr")


def test_numcodecs_is_one_that_refuses_pickles():
    assert tuple(map(int, numcodecs.__version__.split(".")[:3])) >= (0, 16, 6)


@pytest.mark.parametrize("name", ["/dev/zero", "../outside", "link", "fifo"])
def test_a_manifest_is_followed_nowhere_but_to_regular_files_inside(copies, name, monkeypatch):
    store, read = copies / "saved.zarr", []
    (copies / "outside").write_text("a")
    (store / "link").symlink_to(copies / "outside")
    root = _store.Root.read(store)
    files = root.manifest.files | {name: (_store.fingerprint(copies / "outside")[0], 1)}
    _store.Manifest(None, files).write(store, root.attributes)
    fingerprint = _store.fingerprint
    monkeypatch.setattr(
        "rqf_jax._store.manifest.fingerprint", lambda path: read.append(path) or fingerprint(path)
    )
    faults = _store.Root.read(store).faults(store, "everything")
    assert name in faults.damaged
    assert not [path for path in read if not path.resolve().is_relative_to(store.resolve())]


@pytest.mark.parametrize(
    "text", ["", "[]", "null", '{"attributes": 3}', "[" * 10**5, "9" * 5000, "\ufeff{}", "{" + "\0"]
)
def test_a_root_that_is_no_document_of_ours_is_one_clear_error(tmp_path, text):
    store = tmp_path / "store.zarr"
    store.mkdir()
    (store / "zarr.json").write_text(text)
    with pytest.raises(rqf.io.DataFileError, match=r"store\.zarr"):
        rqf.open(store)


def test_stores_of_the_first_version_open_verify_and_are_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.undo()
    with zipfile.ZipFile(OLD) as file:
        file.extractall(tmp_path)
    run, saved = tmp_path / "run.zarr", tmp_path / "saved.zarr"
    with rqf.open(run) as dataset, rqf.open(saved) as other:
        assert dataset.state.shape == (16, 4, 2, 3) and other.state.shape == (5, 3, 3, 4)
        np.testing.assert_allclose(np.linalg.norm(dataset.state, axis=-1), 1, atol=1e-6)
        assert other.token.values.tolist() == ["a", "b", "c"]
    for store, note in ((run, "without a checksum of its root"), (saved, "without checksums")):
        assert verified_note(store, capsys) == f"rqf_jax 0.1.0 wrote this store {note}"
    with pytest.raises(SystemExit) as info:
        main(["plot", str(run), "--out", str(tmp_path / "figures")])
    assert not info.value.code and (tmp_path / "figures" / "comparison.csv").exists()
    # Whoever wrote a damaged chunk, zarr finds it.
    chunk = run / "state" / "c" / "1" / "0" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[20] ^= 1
    chunk.write_bytes(data)
    with rqf.open(run) as dataset, pytest.raises(ValueError, match="checksum"):
        dataset.state.load()


def verified_note(store, capsys):
    with pytest.raises(SystemExit) as info:
        main(["verify", str(store)])
    assert not info.value.code
    return capsys.readouterr().out.splitlines()[-1].partition(":")[0].removesuffix(" zarr.json")


def test_any_zarr_reader_checks_every_array_that_is_written(stores):
    for store in stores.glob("*.zarr"):
        for name, array in zarr.open_group(store, mode="r", zarr_format=3).arrays():
            names = [type(codec).__name__ for codec in array.metadata.codecs]
            assert names == ["BytesCodec", "ZstdCodec", "Crc32cCodec"], name


def test_a_save_is_on_the_disk_before_it_is_in_its_place(ensemble, tmp_path, monkeypatch):
    import os

    synced, fsync, rename = set(), os.fsync, Path.rename

    def noted(handle):
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    def checked(path, target):
        missing = [p for p in [path, *path.rglob("*")] if p.stat().st_ino not in synced]
        assert not missing
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "rename", checked)
    rqf.save(ensemble, tmp_path / "run.zarr")
    assert rqf.open(tmp_path / "run.zarr").sizes["member"] == 5


def test_an_opened_run_can_be_written_to_netcdf_and_saved_again(stores, tmp_path):
    for name in ("run.zarr", "saved.zarr"):
        with rqf.open(stores / name) as dataset:
            dataset.to_netcdf(tmp_path / f"{name}.nc", engine="scipy")
            rqf.io.save_dataset(dataset, tmp_path / name, attributes={"note": "again"})
        with rqf.open(tmp_path / name) as again, rqf.open(stores / name) as first:
            assert again.attrs["note"] == "again"
            xarray.testing.assert_identical(again.drop_attrs(), first.drop_attrs())


def test_what_cannot_be_stored_is_refused_by_name(ensemble, tmp_path):
    dataset = ensemble.to_xarray()
    odd = dataset.assign(odd=("member", np.array(list("abcde"))))
    with pytest.raises(ValueError, match="'odd' must hold numbers"):
        rqf.io.save_dataset(odd, tmp_path / "a.zarr", attributes={})
    with pytest.raises(ValueError, match="'manifest' is written by the store"):
        rqf.save(ensemble, tmp_path / "a.zarr", attributes={"manifest": 1})
    with pytest.raises(TypeError, match="'key' must be JSON"):
        rqf.save(ensemble, tmp_path / "a.zarr", attributes={"key": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "complex64", "complex128"])
def test_arrays_of_every_kind_of_number_come_back(tmp_path, dtype):
    values = np.arange(12).reshape(3, 4).astype(dtype)
    shapes = {"x": (("a", "b"), values), "none": (("c",), values[:0, 0]), "one": ((), values[1, 1])}
    rqf.io.save_dataset(xarray.Dataset(shapes), tmp_path / "x.zarr", attributes={})
    with rqf.open(tmp_path / "x.zarr") as dataset:
        for name, (_, expected) in shapes.items():
            assert dataset[name].dtype == dtype
            np.testing.assert_array_equal(dataset[name], expected)


def test_hostile_attributes_are_text(ensemble, tmp_path):
    for tokens in (3, [1, 2, 3], {"a": [None]}, ["a"], "a\nb\nc"):
        path = tmp_path / "x.zarr"
        rqf.save(ensemble, path, attributes={"tokens": tokens, "config": 3}, overwrite=True)
        with rqf.open(path) as dataset:
            assert ("token" in dataset.coords) == (tokens == "a\nb\nc")
            dataset.to_netcdf(streams.BytesIO(), engine="scipy")
