import importlib.metadata
import io
import json
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import rqf_jax as rqf


@pytest.fixture
def arrays():
    """What a file of two sentences holds; tests spoil it."""
    rng = np.random.default_rng(0)
    return {
        "sentences": np.array(["a b c", "d e"]),
        "tokens_00": np.array(["a", "b", "c"]),
        "hidden_00": rng.normal(size=(4, 3, 5)),
        "tokens_01": np.array(["d", "e"]),
        "hidden_01": rng.normal(size=(4, 2, 5)).astype(np.float32),
    }


@pytest.fixture
def write(tmp_path):
    def write(arrays):
        path = tmp_path / "states.npz"
        np.savez_compressed(path, **arrays)
        return path

    return write


def refused(path, *words):
    """The file is refused with one line that has its name and the words."""
    with pytest.raises(rqf.io.DataFileError) as info:
        rqf.io.read_hidden_states(path)
    message = str(info.value)
    assert str(path) in message and "\n" not in message
    for word in words:
        assert word in message


def test_a_file_of_hidden_states_is_read_back(arrays, write):
    sentences = rqf.io.read_hidden_states(write(arrays))
    assert [s.text for s in sentences] == ["a b c", "d e"]
    assert len(sentences) == 2 and sentences[1].tokens == ("d", "e")
    np.testing.assert_array_equal(sentences[0].states, arrays["hidden_00"])


def test_the_example_is_the_quick_brown_fox_in_7_layers_of_384_dimensions():
    sentences = rqf.io.example_hidden_states()
    fox = sentences[0]
    assert fox.text == "The quick brown fox jumps over the lazy dog."
    assert fox.tokens[1:-2] == tuple("the quick brown fox jumps over the lazy dog".split())
    assert [len(s.tokens) for s in sentences] == [12, 15, 13, 20, 14]
    for sentence in sentences:
        assert sentence.states.shape == (7, len(sentence.tokens), 384)
        assert sentence.states.dtype == np.float32


def test_tokens_are_projected_to_the_sphere_to_rounding():
    for sentence in rqf.io.example_hidden_states():
        for layer in range(7):
            norms = np.linalg.norm(sentence.unit(layer), axis=-1)
            np.testing.assert_allclose(norms, 1, atol=4e-16)
    states, unit = sentence.states[3], sentence.unit(3)
    np.testing.assert_allclose(np.linalg.norm(states, axis=-1)[:, None] * unit, states, rtol=1e-6)


def test_overlaps_of_a_sentence_are_those_of_the_observable():
    fox = rqf.io.example_hidden_states()[0].select([2, 4, 9])
    assert fox.tokens == ("quick", "fox", "dog")
    for layer, overlaps in enumerate(fox.overlaps()):
        expected = rqf.observables.overlaps(jnp.asarray(fox.unit(layer)))
        np.testing.assert_allclose(overlaps, expected, atol=1e-14)


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "none.npz", "no such file")


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / "text.npz"
    path.write_text("hello")
    refused(path, "not an npz file")


def test_an_npy_file_of_another_shape_is_refused(tmp_path):
    path = tmp_path / "array.npy"
    np.save(path, np.zeros(3))
    refused(path, "must be floats of shape (layers, [batch,] tokens, dim)", "shape (3,)")


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_refused(arrays, write, kept):
    path = write(arrays)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    refused(path, "not an npz file, or cut short")


def test_a_file_with_changed_bytes_is_refused(arrays, write):
    path = write(arrays)
    with zipfile.ZipFile(path) as file:
        info = file.getinfo("hidden_00.npy")
        middle = info.header_offset + info.compress_size // 2
    data = bytearray(path.read_bytes())
    data[middle : middle + 8] = bytes(8)
    path.write_bytes(data)
    refused(path, "not an npz file, or cut short")


def test_a_pickle_is_never_loaded(arrays, write):
    arrays["tokens_00"] = np.array(["a", "b", None], dtype=object)
    refused(write(arrays), "pickle")


def test_an_archive_that_numpy_did_not_write_is_refused_by_its_member(arrays, write):
    path = write(arrays)
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    for compression, data, rule in (
        (zipfile.ZIP_STORED, b"cos\nsystem\n(S'true'\ntR.", "`tokens_00` must be an array in Num"),
        (zipfile.ZIP_BZIP2, members["tokens_00.npy"], "compressed by method 12"),
    ):
        with zipfile.ZipFile(path, "w", compression) as file:
            for name, own in members.items():
                file.writestr(name, data if name == "tokens_00.npy" else own)
        refused(path, rule)
    write(arrays)
    locked, at = bytearray(path.read_bytes()), 0
    while (at := locked.find(b"PK\x01\x02", at)) >= 0:
        locked[at + 8] |= 1  # the flag of encryption, in the central directory
        at += 1
    path.write_bytes(locked)
    refused(path, "is encrypted")
    changed = bytearray(write(arrays).read_bytes())
    place = changed.find(b"PK\x01\x02") + 10
    changed[place] = 97
    path.write_bytes(changed)
    refused(path, "compressed by method 97")


def test_an_array_that_claims_more_than_there_is_is_refused(arrays, write):
    path = write(arrays)
    with zipfile.ZipFile(path) as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    huge = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**5, 10**5, 10**5)}
    np.lib.format.write_array_header_1_0(huge, header)
    with zipfile.ZipFile(path, "w") as file:
        for name, own in (members | {"hidden_00.npy": huge.getvalue()}).items():
            file.writestr(name, own)
    with pytest.raises(rqf.io.DataFileError, match=r"states\.npz"):
        rqf.io.read_hidden_states(path)


@pytest.mark.parametrize("name", ["sentences", "tokens_01", "hidden_00"])
def test_a_missing_array_is_named(arrays, write, name):
    del arrays[name]
    refused(write(arrays), f"`{name}` is missing")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sentences", np.array("a b c"), ["rank 1", "()"]),
        ("sentences", np.array([], dtype=str), ["at least one sentence"]),
        ("sentences", np.arange(2), ["strings", "int64"]),
        ("tokens_00", np.zeros(3), ["strings", "float64"]),
        ("hidden_00", np.ones((3, 5)), ["rank 3", "(3, 5)"]),
        ("hidden_00", np.ones((4, 3, 5), int), ["floats", "int64"]),
        ("hidden_00", np.ones((0, 3, 5)), ["empty", "(0, 3, 5)"]),
        ("hidden_01", np.ones((4, 3, 5)), ["2 tokens of `tokens_01`", "(4, 3, 5)"]),
    ],
)
def test_an_array_of_wrong_rank_type_or_size_is_named(arrays, write, name, value, words):
    refused(write(arrays | {name: value}), f"`{name}`", *words)


@pytest.mark.parametrize(
    ("value", "rule"), [(np.nan, "be finite"), (np.inf, "be finite"), (0.0, "have norm > 0")]
)
def test_a_token_without_a_place_on_the_sphere_is_named(arrays, write, value, rule):
    arrays["hidden_01"][2, 1] = value
    refused(write(arrays), "`hidden_01`", f"must {rule}", "layer 2, token 1 ('e')")


@pytest.fixture(scope="module")
def ensemble():
    sde = rqf.models.random_quadratic_form(sigma=0.8)
    law = rqf.laws.Uniform(tokens=3, dim=4)
    ts = jnp.asarray([0.0, 0.1, 0.4])
    return rqf.simulate(sde, law, ts, substeps=2, members=5, key=jax.random.key(1))


def test_an_ensemble_comes_back_bit_for_bit_with_its_provenance(ensemble, tmp_path):
    path = tmp_path / "new" / "run.zarr"
    rqf.io.save(ensemble, path, attributes={"seed": 1, "note": "σ = 0.8"})
    loaded = rqf.io.load(path)
    assert loaded.state.dims == ("member", "time", "token", "dim")
    np.testing.assert_array_equal(loaded.state, ensemble.ys)
    np.testing.assert_array_equal(loaded.time, ensemble.ts)
    np.testing.assert_array_equal(loaded.status, 0)
    facts = loaded.attrs
    assert (facts["seed"], facts["note"], facts["calculus"]) == (1, "σ = 0.8", "Stratonovich")
    for name in ("rqf_jax", "jax", "jaxlib", "diffrax", "equinox", "numpy", "xarray", "zarr"):
        assert facts[name] == importlib.metadata.version(name)
    assert facts["device"] == jax.devices()[0].device_kind
    assert facts["created"].endswith("+00:00")
    assert json.loads((path / "zarr.json").read_text())["zarr_format"] == 3


def test_an_existing_run_is_replaced_only_on_request(ensemble, tmp_path):
    path = tmp_path / "run.zarr"
    rqf.io.save(ensemble, path, attributes={"round": 1})
    with pytest.raises(FileExistsError, match="exists"):
        rqf.io.save(ensemble, path, attributes={"round": 2})
    assert rqf.io.load(path).attrs["round"] == 1
    rqf.io.save(ensemble, path, attributes={"round": 3}, overwrite=True)
    assert rqf.io.load(path).attrs["round"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_what_is_no_run_is_never_replaced(ensemble, tmp_path):
    folder, store, file = tmp_path / "folder", tmp_path / "foreign.zarr", tmp_path / "file"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    xarray.Dataset({"x": ("i", np.arange(3.0))}).to_zarr(store, zarr_format=3, consolidated=False)
    file.write_text("text")
    for path in (folder, store, file):
        with pytest.raises(FileExistsError, match="no run of rqf_jax"):
            rqf.io.save(ensemble, path, attributes={}, overwrite=True)
    assert (folder / "thesis.tex").read_text() == "years of work" and file.read_text() == "text"


def test_a_failed_write_leaves_what_was_there_and_nothing_else(ensemble, tmp_path):
    path = tmp_path / "run.zarr"
    rqf.io.save(ensemble, path, attributes={"round": 1})
    with pytest.raises(TypeError):
        rqf.io.save(ensemble, path, attributes={"not JSON": object()}, overwrite=True)
    assert rqf.io.load(path).attrs["round"] == 1
    with pytest.raises(TypeError):
        rqf.io.save(ensemble, tmp_path / "other.zarr", attributes={"not JSON": object()})
    assert [p.name for p in tmp_path.iterdir()] == ["run.zarr"]


def test_what_is_no_run_is_not_loaded(tmp_path):
    foreign = tmp_path / "foreign.zarr"
    xarray.Dataset({"x": ("i", np.arange(3.0))}).to_zarr(foreign, zarr_format=3, consolidated=False)
    (tmp_path / "file").write_text("text")
    (tmp_path / "begun.zarr.partial").mkdir()
    begun = "begun.zarr: not finished. `rqf-jax info "
    for name in ("begun.zarr", "begun.zarr.partial"):
        with pytest.raises(rqf.io.DataFileError, match=begun):
            rqf.io.load(tmp_path / name)
    rules = {"none": "no such run", "file": "not a zarr store", "foreign.zarr": "not a run"}
    for name, rule in rules.items():
        with pytest.raises(rqf.io.DataFileError, match=f"{name}: {rule}"):
            rqf.io.load(tmp_path / name)
