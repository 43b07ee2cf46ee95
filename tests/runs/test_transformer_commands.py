"""explain, predict and spectra: tables with the numbers of the library, or one message."""

import json

import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.cli.app import main

CONFIG = {
    "model_type": "gpt2", "n_embd": 48, "n_layer": 3, "n_head": 4, "initializer_range": 0.02,
}  # fmt: skip


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as info:
        main([str(one) for one in arguments])
    out, err = capsys.readouterr()
    return info.value.code or 0, out, err


def states(tmp_path, sentences=4, tokens=5, layers=3, dim=12):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, sentences, tokens, dim))
    turn = 0.2 * rng.normal(size=(layers - 1, dim, dim)) / np.sqrt(dim)
    for matrix in turn:
        x = np.concatenate([x, x[-1:] + x[-1:] @ matrix])
    path = tmp_path / "states.npz"
    np.savez(path, hidden_states=x, input_ids=rng.integers(0, 9, (sentences, tokens)))
    return path


def test_explain_prints_the_table_of_the_library_and_draws_it(tmp_path, capsys):
    path = states(tmp_path)
    code, out, _ = run(capsys, "explain", path, "--figure", tmp_path / "gains.pdf")
    assert code == 0
    assert out.strip() == str(rqf.inference.explain(rqf.io.read_hidden_states(path)))
    assert "linear flow" in out and (tmp_path / "gains.pdf").stat().st_size > 1000
    code, out, _ = run(capsys, "explain", path, "--final-norm", "--causal", "--folds", "2")
    assert code == 0 and "2 folds" in out and "0→1" in out and "1→2" not in out


@pytest.mark.slow
def test_fit_prints_the_table_of_the_library_for_any_file_of_states(tmp_path, capsys):
    path = tmp_path / "states.npy"
    np.save(path, np.load(states(tmp_path))["hidden_states"])
    code, out, _ = run(capsys, "fit", path)
    fit = str(rqf.inference.fit_hidden_states(rqf.io.read_hidden_states(path)))
    assert code == 0 and "overlap" in fit and max(map(len, fit.splitlines()[:8])) <= 80
    assert out.split()[-len(fit.split()) :] == fit.split()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_states": np.ones((3, 1, 4, 6))}, "must be at least 2, to hold one out"),
        ({"hidden_states": np.ones((3, 4, 4, 6))}, "must have tokens that differ"),
        ({"hidden_states": np.full((3, 4, 4, 6), np.nan)}, "not finite in layer 0"),
        ({"mask": np.eye(4, 5) * 0}, "sentence 0 has none"),
        ({"a": np.ones((4, 5, 6)), "b1": np.ones((4, 5, 6))}, "It holds a, b1"),
        ({"hidden_states": np.array([{}])}, "Python objects, which are pickled"),
    ],
)
def test_states_that_cannot_be_explained_are_one_message(tmp_path, capsys, change, words):
    path = states(tmp_path)
    arrays = dict(np.load(path)) if "mask" in change else {}
    np.savez(path, **(arrays | change))
    code, out, err = run(capsys, "explain", path)
    assert code == 2 and not out and str(path) in err and words in err


def test_predict_prints_a_row_for_each_block(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    code, out, _ = run(capsys, "predict", path, "--tokens", 8, "--seeds", 3)
    assert code == 0
    rows = [line.split() for line in out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"]
    assert [len(row) for row in rows] == [4, 5, 5, 5]
    model = rqf.theory.initialisation.from_config(CONFIG)
    found = rqf.theory.initialisation.gram(model, tokens=8)
    expected = found.mean_cosine, np.sqrt(np.mean(found.norms**2, axis=1))
    for column, values in zip((1, 3), expected, strict=True):
        shown = [float(row[column]) for row in rows]
        np.testing.assert_allclose(shown, values, atol=5.1e-5)
    assert all(float(row[2]) > 0 for row in rows)
    # Uniform attention over 1 to 8 tokens has the mean of ln 1, …, ln 8.
    assert abs(float(rows[1][4]) - np.mean(np.log(np.arange(1, 9)))) < 0.01


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mamba"}, "model_type of gpt2"),
        ({"n_embd": None}, "must hold n_embd"),
        ({"n_head": 5}, "must divide"),
        ({"rotary_emb_fraction": 1}, "not known"),
    ],
)
def test_a_config_that_is_not_known_is_one_message(tmp_path, capsys, change, words):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG | change))
    code, out, err = run(capsys, "predict", path)
    assert code == 2 and not out and str(path) in err and words in err
    path.write_text("no JSON")
    code, _, err = run(capsys, "predict", path)
    assert code == 2 and "JSON" in err
    assert run(capsys, "predict", tmp_path / "none.json")[0] == 2


def checkpoints(folder, rate=0.05, noise=0.1, count=80, size=12):
    """An Ornstein-Uhlenbeck process of matrices around 0, stationary, at every tenth step."""
    rng, keep = np.random.default_rng(1), np.exp(-10 * rate)
    spread = noise / np.sqrt(2 * rate)
    own, wide = spread * rng.normal(size=(size, size)), rng.normal(size=(30, size))
    for step in range(0, 10 * count, 10):
        arrays = {"h.0.attn.c_proj.weight": own, "h.0.mlp.c_proj.weight": wide}
        np.savez(folder / f"step{step}.npz", **arrays)
        own = keep * own + spread * np.sqrt(1 - keep**2) * rng.normal(size=own.shape)


def test_spectra_print_bulk_outliers_and_motion(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoints(folder)
    code, out, err = run(capsys, "spectra", folder, "--out", tmp_path / "spectra.zarr")
    assert code == 0, err
    assert "80 checkpoints, steps 0 to 790" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines()[2:]}
    assert rows["0.O"][1] == "12×12" and rows["0.down"][1] == "12×30"
    for text, truth in zip(rows["0.O"][-3:], (0.05, 0.1, 0.1), strict=True):
        value, error = map(float, text.split("±"))
        # Errors are printed with one digit.
        assert abs(value - truth) < 5 * error and error < 0.3 * truth
    assert rows["0.down"][-2:] == ["none", "none"]
    with rqf.open(tmp_path / "spectra.zarr") as saved:
        assert saved["0.O"].shape == (1, 80, 12)
    with pytest.raises(FileExistsError, match="exists"):
        rqf.save(rqf.io.read_checkpoints(folder).spectra(), tmp_path / "spectra.zarr")


def test_weights_that_are_not_known_are_one_message(tmp_path, capsys):
    np.savez(tmp_path / "step1.npz", a=np.ones((3, 3)), b=np.ones(3))
    code, out, err = run(capsys, "spectra", tmp_path)
    assert code == 2 and not out
    for words in ("names of GPT-2", "it holds a, b", "`pattern`"):
        assert words in err
    code, _, err = run(capsys, "spectra", tmp_path, "--pattern", "(a)")
    assert code == 2 and "groups (?P<layer>" in err
    assert run(capsys, "spectra", tmp_path / "none")[0] == 2


def test_a_description_tells_a_signal_from_noise():
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(300, 120)) / np.sqrt(300)
    left, right = rng.normal(size=300), rng.normal(size=120)
    signal = noise + 3 * np.outer(left, right) / np.linalg.norm(left) / np.linalg.norm(right)
    for matrix, outliers in ((noise, 0), (signal, 1)):
        values = np.linalg.svd(matrix, compute_uv=False)
        found = rqf.analysis.describe_spectrum(values, 300)
        assert found.outliers == outliers and found.bulk.distance < 0.05
        assert abs(found.spacing_ratio - 0.5307) < 5 * found.spacing_stderr
        assert found.spacing_stderr < 0.04
        assert np.isclose(found.stable_rank, np.sum(values**2) / values[0] ** 2)
        assert found.tail is not None and found.tail.stderr > 0
    with pytest.raises(ValueError, match="at least 4 singular values"):
        rqf.analysis.describe_spectrum([1.0, 2.0], 5)
