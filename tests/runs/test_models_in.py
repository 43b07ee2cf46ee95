"""Hidden states and weights in the formats of models: read as they are, or one clear error."""

import json
import os
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from _stores import safetensors

import rqf_jax as rqf
from rqf_jax.io import DataFileError, as_hidden_states, read_hidden_states, write_hidden_states

RNG = np.random.default_rng(0)
STATES = RNG.normal(size=(4, 2, 5, 6)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
IDS = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]])


def same(found, dtype=np.float32, tokens=True):
    assert [len(one.tokens) for one in found] == [5, 3]
    for i, one in enumerate(found):
        expected = STATES.astype(dtype).astype(np.float32)[:, i, : len(one.tokens)]
        np.testing.assert_array_equal(np.asarray(one.states, np.float32), expected)
    if tokens:
        assert found[1].tokens == ("9", "2", "6")


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16])
def test_what_a_model_returns_becomes_sentences(dtype):
    layers = tuple(STATES.astype(dtype))
    same(as_hidden_states(layers, mask=MASK, tokens=IDS), dtype)
    same(as_hidden_states(STATES.astype(dtype), mask=MASK == 1, tokens=IDS.tolist()), dtype)
    same(as_hidden_states(tuple(map(jnp.asarray, layers)), mask=MASK, tokens=IDS), dtype)
    batches = [tuple(x[i : i + 1] for x in layers) for i in range(2)]
    found = as_hidden_states(batches, mask=[MASK[:1], MASK[1:]], tokens=[IDS[:1], IDS[1:]])
    same(found, dtype)
    single = as_hidden_states([x[0] for x in layers], tokens=list("abcde"), texts=["five"])
    assert single[0].tokens == tuple("abcde") and single[0].text == "five"
    # Tokens without names are no repeated ones.
    assert len({token for one in as_hidden_states(layers) for token in one.tokens}) == 10


def test_torch_tensors_of_every_float_type_become_sentences():
    torch = pytest.importorskip("torch")
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        layers = tuple(torch.tensor(x, requires_grad=True).to(kind) for x in STATES)
        found = as_hidden_states(layers, mask=torch.tensor(MASK), tokens=torch.tensor(IDS))
        expected = layers[2][1, :3].detach().float().numpy()
        np.testing.assert_array_equal(np.asarray(found[1].states[2], np.float32), expected)
        assert found[1].tokens == ("9", "2", "6")


def test_an_entry_behind_the_final_norm_is_no_block():
    last = STATES[-1] / np.linalg.norm(STATES[-1], axis=-1, keepdims=True)
    layers = (*STATES, 3 * last)
    with pytest.warns(UserWarning, match="output of the final norm"):
        found = as_hidden_states(layers)
    assert found[0].states.shape[0] == 4
    assert as_hidden_states(layers, final_norm=False)[0].states.shape[0] == 5
    assert as_hidden_states(STATES, final_norm=True)[0].states.shape[0] == 3
    # A Post-LN model has one norm in all layers.
    post = STATES / np.linalg.norm(STATES, axis=-1, keepdims=True)
    assert as_hidden_states(post)[0].states.shape[0] == 4


def test_every_format_of_files_gives_the_same_sentences(tmp_path):
    extra = {"attention_mask": MASK, "input_ids": IDS}
    np.savez(tmp_path / "one.npz", hidden_states=STATES, **extra)
    np.savez_compressed(
        tmp_path / "layers.npz", **{f"layer_{i}": x for i, x in enumerate(STATES)}, **extra
    )
    safetensors(
        tmp_path / "half.safetensors", {"hidden_states": STATES.astype(jnp.bfloat16)} | extra
    )
    same(read_hidden_states(tmp_path / "one.npz"))
    same(read_hidden_states(tmp_path / "layers.npz"))
    same(read_hidden_states(tmp_path / "half.safetensors"), jnp.bfloat16)
    np.savez(tmp_path / "plain.npz", *np.repeat(STATES, 3, axis=0))
    # Ten and more layers are in the order of their numbers.
    found = read_hidden_states(tmp_path / "plain.npz")
    np.testing.assert_array_equal(found[0].states, np.repeat(STATES, 3, axis=0)[:, 0])
    np.save(tmp_path / "bare.npy", STATES[:, 0])
    assert len(read_hidden_states(tmp_path / "bare.npy")) == 1
    written = write_hidden_states(tmp_path / "own.npz", tuple(STATES), mask=MASK, tokens=IDS)
    same(written)
    same(read_hidden_states(tmp_path / "own.npz"))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_hidden_states(tmp_path / "own.npz", STATES)
    write_hidden_states(tmp_path / "own.npz", written, overwrite=True)
    with pytest.raises(ValueError, match="`mask` must be left out"):
        write_hidden_states(tmp_path / "own.npz", written, mask=MASK, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir() if "own" in p.name) == ["own.npz"]


def test_hdf5_files_give_the_same_sentences(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "states.h5", "w") as file:
        for i, x in enumerate(STATES):
            file[f"model/layer_{i}"] = x
        file["attention_mask"], file["input_ids"] = MASK, IDS
    same(read_hidden_states(tmp_path / "states.h5"))
    (tmp_path / "secret.bin").write_bytes(b"12345678")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        place = [(str(tmp_path / "secret.bin"), 0, 8)]
        file.create_dataset("hidden_states", (1, 1, 1), "f8", external=place)
    with pytest.raises(DataFileError, match="takes its numbers from other files"):
        read_hidden_states(tmp_path / "outside.h5")
    with h5py.File(tmp_path / "endless.h5", "w") as file:
        file.create_dataset("hidden_states", (2**20, 2**20, 2**20), "f8", chunks=(1, 1, 1))
    with pytest.raises(DataFileError, match="fit the memory"):
        read_hidden_states(tmp_path / "endless.h5")
    (tmp_path / "bad.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataFileError, match="not an HDF5 file"):
        read_hidden_states(tmp_path / "bad.h5")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: as_hidden_states([STATES[0], STATES[1][:, :4]]), "one shape in all layers; got"),
        (lambda: as_hidden_states(STATES, mask=[[1] * 5, [0] * 5]), "sentence 1 has none"),
        (lambda: as_hidden_states(STATES, mask=[[1] * 4] * 2), r"shape \(2, 5\)"),
        (lambda: as_hidden_states(STATES, tokens=[["a"] * 5]), "each of 2 sentences"),
        (lambda: as_hidden_states(STATES, texts=["one"]), "one for each of 2"),
        (lambda: as_hidden_states(STATES.astype(int)), "must be floats of shape"),
        (lambda: as_hidden_states([]), "must have one shape in all layers"),
        (lambda: as_hidden_states([list(STATES), list(STATES)], mask=MASK), "one for each of 2"),
    ],
)
def test_states_that_are_none_are_one_clear_error(unchecked, call, words):
    with pytest.raises(ValueError, match=words):
        call()


class Trap:
    """Unpickled, it would tell."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_no_reader_runs_what_a_file_holds(tmp_path):
    trap = np.array([Trap()], object)
    np.savez(tmp_path / "trap.npz", hidden_states=trap, sentences=trap)
    np.savez(tmp_path / "trap2.npz", hidden_states=trap)
    np.save(tmp_path / "trap.npy", trap, allow_pickle=True)
    (tmp_path / "trap.pt").write_bytes(pickle.dumps(Trap()))
    for name in ("trap.npz", "trap2.npz", "trap.npy", "trap.pt"):
        for read in (read_hidden_states, rqf.io.read_weights):
            with pytest.raises(DataFileError, match=r"trap"):
                read(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b[:4], "cut short"),
        (lambda b: b[:-1], "cut short"),
        (lambda b: b[:8] + b"[" + b[9:], "not a safetensors file"),
        (lambda b: b.replace(b'"F32"', b'"F99"'), "must have a dtype of F64"),
        (lambda b: b.replace(b"[4, 2, 5, 6]", b"[4, 2, 5, 7]"), "must take 1120 bytes"),
    ],
)
def test_damaged_safetensors_are_one_clear_error(tmp_path, change, words):
    path = tmp_path / "states.safetensors"
    safetensors(path, {"hidden_states": STATES}, {"format": "pt"})
    same_states = read_hidden_states(path)
    assert same_states[0].states.shape == (4, 5, 6)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataFileError, match=words):
        read_hidden_states(path)


# ---- weights


def matrix(*shape):
    return RNG.normal(size=shape).astype(np.float32)


D, FF, HEADS = 8, 12, 2
FAMILIES = {
    "GPT-2": (
        {"transformer.h.0.attn.c_attn.weight": (D, 3 * D), "transformer.h.0.attn.c_proj.weight":
         (D, D), "transformer.h.0.mlp.c_fc.weight": (D, FF), "transformer.h.0.mlp.c_proj.weight":
         (FF, D), "transformer.wte.weight": (20, D)},
        ["Q", "K", "V", "O", "up", "down"],
    ),
    "GPT-NeoX, Pythia": (
        {"gpt_neox.layers.0.attention.query_key_value.weight": (3 * D, D),
         "gpt_neox.layers.0.attention.dense.weight": (D, D),
         "gpt_neox.layers.0.mlp.dense_h_to_4h.weight": (FF, D),
         "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": (D, FF), "embed_out.weight": (20, D)},
        ["Q", "K", "V", "O", "up", "down"],
    ),
    "Llama, Gemma 2": (
        {f"model.layers.0.{name}.weight": shape for name, shape in
         {"self_attn.q_proj": (D, D), "self_attn.k_proj": (4, D), "self_attn.v_proj": (4, D),
          "self_attn.o_proj": (D, D), "mlp.up_proj": (FF, D), "mlp.gate_proj": (FF, D),
          "mlp.down_proj": (D, FF)}.items()},
        ["Q", "K", "V", "O", "up", "gate", "down"],
    ),
    "BERT": (
        {f"bert.encoder.layer.0.{name}.weight": shape for name, shape in
         {"attention.self.query": (D, D), "attention.self.key": (D, D), "attention.self.value":
          (D, D), "attention.output.dense": (D, D), "intermediate.dense": (FF, D), "output.dense":
          (D, FF)}.items()},
        ["Q", "K", "V", "O", "up", "down"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_matrices_of_every_family_have_their_layer_and_kind(tmp_path, family):
    names, kinds = FAMILIES[family]
    arrays = {name: matrix(*shape) for name, shape in names.items()}
    safetensors(tmp_path / "model.safetensors", arrays)
    weights = rqf.io.read_weights(tmp_path / "model.safetensors", heads=HEADS)
    assert weights.family == family and [one.kind for one in weights] == kinds
    assert weights.get(0, "up").values.shape == (FF, D)
    assert weights.get(0, "down").values.shape == (D, FF)
    if family == "GPT-2":
        fused = arrays["transformer.h.0.attn.c_attn.weight"]
        np.testing.assert_array_equal(weights.get(0, "K").values, fused[:, D : 2 * D].T)
    if family.startswith("GPT-NeoX"):
        fused = arrays["gpt_neox.layers.0.attention.query_key_value.weight"]
        # Head by head: queries, keys, values.
        key = np.concatenate([fused[4:8], fused[16:20]])
        np.testing.assert_array_equal(weights.get(0, "K").values, key)
        whole = rqf.io.read_weights(tmp_path / "model.safetensors")
        assert [one.kind for one in whole] == ["O", "up", "down", "QKV"]
        (tmp_path / "config.json").write_text('{"num_attention_heads": 2}')
        assert rqf.io.read_weights(tmp_path).get(0, "K").values.shape == (D, D)


def test_shards_and_patterns_are_read(tmp_path):
    names = list(FAMILIES["BERT"][0].items())
    arrays = {name: matrix(*shape) for name, shape in names}
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, part in parts.items():
        safetensors(tmp_path / file, {name: arrays[name] for name, _ in part})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {n: file for file, part in parts.items() for n, _ in part}})
    )
    assert len(rqf.io.read_weights(tmp_path)) == len(rqf.io.read_weights(index)) == 6
    with pytest.raises(DataFileError, match="a folder, where a file is wanted"):
        rqf.io.read_hidden_states(tmp_path)
    one = tmp_path / "model-00001-of-00002.safetensors"
    safetensors(one, {name: arrays[name] for name, _ in names[:3]})
    with pytest.raises(DataFileError, match="is one of 2 files of a model"):
        rqf.io.read_weights(one)
    pattern = r".*layer\.(?P<layer>\d+)\..*(?P<kind>query|key|value)\.weight"
    assert rqf.io.read_weights(one, pattern)
    index.write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(DataFileError, match="files of its own folder"):
        rqf.io.read_weights(tmp_path)
    np.savez(tmp_path / "mine.npz", **{"blocks.3.q.weight": matrix(D, D), "other": matrix(2, 2)})
    with pytest.raises(DataFileError, match=r"names of GPT-2, .* it holds blocks\.3\.q\.weight"):
        rqf.io.read_weights(tmp_path / "mine.npz")
    mine = rqf.io.read_weights(
        tmp_path / "mine.npz", r"blocks\.(?P<layer>\d+)\.(?P<kind>q|k)\.weight"
    )
    assert mine[0].layer == 3 and mine[0].kind == "q" and mine.others == ("other",)
    with pytest.raises(ValueError, match=r"groups \(\?P<layer>"):
        rqf.io.read_weights(tmp_path / "mine.npz", r"blocks.*")
    for group, found in ((r"(?P<layer>\w+)\.3", "'blocks'"), (r"blocks\.\d(?P<layer>)", "''")):
        with pytest.raises(ValueError, match=f"digits for its group `layer`; it finds {found} in"):
            rqf.io.read_weights(tmp_path / "mine.npz", group + r"\.(?P<kind>q)\.weight")
    np.savez(tmp_path / "odd.npz", **{"h.0.attn.c_attn.weight": matrix(8, 25)})
    with pytest.raises(DataFileError, match="a multiple of 3; got shape"):
        rqf.io.read_weights(tmp_path / "odd.npz")
    np.savez(tmp_path / "nan.npz", **{"h.0.mlp.c_fc.weight": np.full((2, 4), np.nan)})
    with pytest.raises(DataFileError, match="must be finite"):
        rqf.io.read_weights(tmp_path / "nan.npz")


def test_a_config_without_usable_heads_leaves_the_matrix_whole(tmp_path):
    name = "gpt_neox.layers.0.attention.query_key_value.weight"
    np.savez(tmp_path / "weights.npz", **{name: matrix(3 * D, D)})
    for heads in (0, -1, 0.5, None):
        (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": heads}))
        assert [one.kind for one in rqf.io.read_weights(tmp_path)] == ["QKV"]


def test_a_series_of_checkpoints_is_a_path_of_spectra(tmp_path):
    wide = {"mlp_in": (2, 8, 4), "mlp_out": (2, 4, 8)}
    model = {name: matrix(*wide.get(name, (2, 4, 4))) for name in rqf.training.gpt.MATRICES}
    steps = (0, 20, 100)
    for step in steps:
        np.savez(tmp_path / f"step_{step}.npz", **{name: x + step for name, x in model.items()})
    (tmp_path / "notes.txt").write_text("1")
    found = rqf.io.read_checkpoints(tmp_path)
    assert found.steps.tolist() == [0, 20, 100] and len(found.shapes) == 12
    spectra = found.spectra()
    np.testing.assert_array_equal(spectra.ts, [0, 20, 100])
    expected = rqf.observables.singular_values(jnp.asarray(model["query"][1] + 20))
    # In single precision all are known to the rounding of the largest.
    rounding = 1e-6 * float(expected.max())
    np.testing.assert_allclose(spectra.ys["1.Q"][0, 1], expected, atol=rounding)
    path = found.weights(0, "down")
    np.testing.assert_allclose(path.ys[0, 2], model["mlp_out"][0] + 100, rtol=1e-6)
    one = rqf.io.read_checkpoints(tmp_path / "step_20.npz")
    assert one.steps.tolist() == [0]
    np.testing.assert_array_equal(one.spectra().ys["1.Q"][0, 0], spectra.ys["1.Q"][0, 1])
    with pytest.raises(DataFileError, match="none: no such file or folder"):
        rqf.io.read_checkpoints(tmp_path / "none")
    np.savez(tmp_path / "step_200.npz", **{"h.0.mlp.c_fc.weight": np.ones((2, 4))})
    with pytest.raises(DataFileError, match=r"step_200.*must have the matrices of"):
        rqf.io.read_checkpoints(tmp_path).spectra()
    (tmp_path / "empty").mkdir()
    # Digits that belong to a name are no step.
    for name in ("gpt2.npz", "llama3", "epoch=1-step=40.npz"):
        np.savez(tmp_path / "empty" / name, **model)
    found = rqf.io.read_checkpoints(tmp_path / "empty")
    assert found.steps.tolist() == [40]
    for entry in (tmp_path / "empty").iterdir():
        entry.unlink()
    with pytest.raises(DataFileError, match="must hold checkpoints"):
        rqf.io.read_checkpoints(tmp_path / "empty")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_files_are_open_to_whom_the_umask_lets_in(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_hidden_states(tmp_path / "own.npz", STATES)
        dataset = xarray.Dataset({"x": ("n", [1.0])})
        rqf.io.save_dataset(dataset, tmp_path / "run.zarr", attributes={})
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 2
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}
