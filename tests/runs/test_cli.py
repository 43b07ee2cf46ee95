import contextlib
import csv
import io
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import rqf_jax as rqf
from rqf_jax.cli.app import main
from rqf_jax.runs import config, ensemble as runs

FOX = """
[run]
members = 60
substeps = 16
chunk = 30
save = ["state", "overlaps", "log_det_gram"]
[times]
values = [0.0, 0.1, 0.5, 2.0]
[model]
name = "random_quadratic_form"
sigma = 1.8
[law]
name = "hidden_states"
tokens = ["quick", 4, "dog"]
[report]
log_det_times = [0.1]
angle_pair = [4, "quick"]
angle_time = 0.5
"""
COMPANION = """
[companion]
tokens = 5
"""
FILES = ["angles.png", "comparison.csv", "order.png"]


@pytest.fixture
def fox(tmp_path, monkeypatch):
    """A folder to work in, with a small config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fox.toml").write_text(FOX)
    return tmp_path


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The folder of one finished run, and what it printed; not to be changed."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "fox.toml").write_text(FOX + COMPANION)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.chdir(folder):
        runs.run(
            config.read("fox.toml"), Path("runs/fox.zarr"), force=False, console=Console(width=80)
        )
    return folder, printed.getvalue()


def fails(capsys, *arguments, code=2):
    """The command fails with that code and says why; returns what it says."""
    with pytest.raises(SystemExit) as info:
        main(arguments)
    assert info.value.code == code
    return capsys.readouterr().err


def succeeds(capsys, *arguments):
    with pytest.raises(SystemExit) as info:
        main(arguments)
    output = capsys.readouterr()
    assert not info.value.code, output.err
    return output.out


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_leaves_a_store_a_table_and_three_figures(stored):
    folder, out = stored
    assert "The quick brown fox" in out and "quick–fox" in out and "E ln det G at t = 0.1" in out
    assert files(folder / "runs") == ["fox", "fox.zarr"]
    assert files(folder / "runs/fox") == [*FILES, "sphere.png"]
    for name in ("angles.png", "order.png", "sphere.png"):
        assert (folder / "runs/fox" / name).read_bytes().startswith(b"\x89PNG")
    run = rqf.io.load(folder / "runs/fox.zarr")
    assert dict(run.sizes) == {
        "member": 60, "time": 4, "token": 3, "dim": 3, "pair": 3,
        "layer": 7, "companion_token": 5, "axis": 3, "bin": 64, "edge": 65,
    }  # fmt: skip
    assert run.attrs["tokens"].split() == ["quick", "fox", "dog"] and run.attrs["angle_pair"] == [
        1,
        0,
    ]
    complete = config.parse(run.attrs["config"])
    assert complete == config.read(folder / "fox.toml")
    assert run.attrs["seed"] == complete.run.seed == 0


@pytest.mark.slow
def test_a_run_is_the_ensemble_that_python_gives(stored):
    sentence = rqf.io.example_hidden_states()[0].select([2, 4, 9])
    expected = rqf.simulate(
        rqf.models.random_quadratic_form(sigma=1.8),
        rqf.laws.InSpan(rqf.laws.Fixed(sentence.unit(0))),
        jnp.asarray([0.0, 0.1, 0.5, 2.0]),
        substeps=16,
        members=60,
        key=jax.random.key(0),
    )
    run = rqf.io.load(stored[0] / "runs/fox.zarr")
    np.testing.assert_allclose(run.state, expected.ys, atol=1e-12)
    overlaps = expected.observe(rqf.observables.overlaps)
    np.testing.assert_allclose(run.overlaps, overlaps, atol=1e-12)
    np.testing.assert_allclose(run.layer_overlaps[0], run.overlaps[7, 0], atol=1e-12)
    assert np.ptp(run.companion.values, 0).max() > 0.1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_batch_the_same_members(fox, capsys):
    for name, *changes in (
        ("a",),
        ("b",),
        ("c", "--set", "run.chunk=25"),
        ("d", "--set", "run.seed=1"),
    ):
        succeeds(capsys, "run", "fox.toml", "--out", f"{name}.zarr", *changes)
    a, b, c, d = (rqf.io.load(f"{name}.zarr") for name in "abcd")
    for name in a.data_vars:
        np.testing.assert_array_equal(a[name], b[name])
    np.testing.assert_allclose(c.state, a.state, atol=1e-12)
    assert np.abs(d.state - a.state).max() > 0.1


@pytest.mark.slow
def test_full_coordinates_keep_the_space(fox, capsys):
    changes = ["--set", "run.coordinates=full", "--set", "law.name=equiangular"]
    (fox / "plain.toml").write_text(
        FOX.replace('tokens = ["quick", 4, "dog"]', "tokens = 2\ndim = 5\noverlap = 0.5").replace(
            'angle_pair = [4, "quick"]', ""
        )
    )
    succeeds(capsys, "run", "plain.toml", "--set", "run.members=4", *changes)
    assert rqf.io.load("runs/plain.zarr").state.shape == (4, 4, 2, 5)


def test_a_run_is_replaced_only_with_force(fox, capsys):
    small = ["run", "fox.toml", "--set", "run.members=30"]
    succeeds(capsys, *small)
    before = rqf.io.load("runs/fox.zarr").attrs["created"]
    message = fails(capsys, "run", "fox.toml")
    assert "runs/fox.zarr exists" in message and "--force" in message
    assert rqf.io.load("runs/fox.zarr").sizes["member"] == 30
    (fox / "runs/fox/notes.txt").write_text("mine")
    succeeds(capsys, "run", "fox.toml", "--force")
    run = rqf.io.load("runs/fox.zarr")
    assert run.sizes["member"] == 60 and run.attrs["created"] >= before
    assert files(fox / "runs/fox") == sorted([*FILES, "notes.txt"])
    assert files(fox / "runs") == ["fox", "fox.zarr"]


def test_what_is_no_run_is_not_replaced_even_with_force(fox, capsys):
    (fox / "data.zarr").mkdir()
    (fox / "data.zarr/keep").write_text("mine")
    message = fails(capsys, "run", "fox.toml", "--out", "data.zarr", "--force")
    assert "no run of rqf_jax" in message and (fox / "data.zarr/keep").exists()
    (fox / "other").mkdir()
    assert "other exists" in fails(capsys, "run", "fox.toml", "--out", "other.zarr")
    assert "must end in .zarr" in fails(capsys, "run", "fox.toml", "--out", "other")
    assert files(fox) == ["data.zarr", "fox.toml", "other"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("run.memebers=3", "run.memebers: unknown key. Did you mean members?"),
        ("law.sentence=5", "law.sentence: must be below 5, the number of sentences; got 5."),
        ("law.layer=7", "law.layer: must be below 7, the number of layers; got 7."),
        ('law.tokens=["zebra", "fox"]', "[CLS] the quick brown fox"),
        ("law.tokens=[1, 12]", "12 tokens"),
        ('law.tokens=["fox", "fox"]', "at least 2 tokens; got 1."),
        ('report.angle_pair=["fox", "the"]', "report.angle_pair: must be one of the tokens"),
        ("law.file=none.npz", "none.npz: no such file."),
        ("law.file=fox.toml", "fox.toml: not an npz file"),
        ("run.save=3", "run.save: must be a valid list"),
    ],
)
def test_bad_input_is_told_in_a_few_lines_before_anything_is_compiled(fox, capsys, change, message):
    said = fails(capsys, "run", "fox.toml", "--set", change)
    assert said.startswith("rqf-jax: ") and message in said and said.count("\n") <= 2
    assert files(fox) == ["fox.toml"]


def test_a_token_that_occurs_twice_is_asked_for_by_number(fox, capsys):
    changes = ["--set", 'law.tokens=["the", "fox"]', "--set", 'report.angle_pair=["the", "fox"]']
    assert "must be a number, for it occurs twice (1 'the'" in fails(
        capsys, "run", "fox.toml", *changes
    )


def test_a_law_that_cannot_be_is_refused(fox, capsys):
    text = FOX[: FOX.index("[law]")] + '[law]\nname = "equiangular"\ntokens = 3\ndim = 3\n'
    (fox / "law.toml").write_text(text + "overlap = -0.6\n")
    assert "law: `overlap` must be in [-0.5, 1]" in fails(capsys, "run", "law.toml")


def test_a_matrix_that_does_not_fit_the_tokens_or_the_companion_is_refused(fox, capsys):
    oja = ["--set", "model={name='oja', value=[[1, 0], [0, 2]]}", "--set", "run.coordinates=full"]
    pair = ["--set", "law={name='pair', angle=1.0, dim=2}", "--set", "report.angle_pair=[0, 1]"]
    said = fails(capsys, "run", "fox.toml", *oja)
    assert "model.value must be 384 x 384 for tokens in R^384; got 2 x 2." in said
    said = fails(capsys, "run", "fox.toml", *oja, *pair, "--set", "companion.tokens=5")
    assert "model.value must be 3 x 3 for tokens in R^3; got 2 x 2." in said
    assert files(fox) == ["fox.toml"]


@pytest.mark.slow
def test_two_tokens_of_a_stochastic_transformer_are_compared_with_their_fate(fox, capsys):
    (fox / "fate.toml").write_text(
        """
        [run]
        members = 600
        substeps = 32
        coordinates = "full"
        [times]
        values = [0.0, 1.0]
        [model]
        name = "stochastic_transformer"
        beta = 2.0
        [law]
        name = "pair"
        angle = 1.5
        dim = 4
        [report]
        log_det_times = [1.0]
        """
    )
    out = succeeds(capsys, "run", "fate.toml")
    assert "P(−)" in out and "threshold 0.6585" in out
    assert not any(word in out for word in ("P(aligned)", "E G(∞)", "Var N₊", "ln det"))
    line = (fox / "runs/fate/comparison.csv").read_text().splitlines()[1].split(",")
    theory = rqf.theory.value_noise.antipodal_probability(np.cos(1.5), beta=2.0, dim=4)
    assert float(line[2]) == pytest.approx(theory, rel=1e-4) and abs(float(line[5])) < 5
    assert files(fox / "runs/fate") == ["comparison.csv", "order.png"]


@pytest.mark.filterwarnings("ignore:the step h")
def test_failed_members_are_exit_code_1_and_nothing_is_written(fox, capsys):
    said = fails(capsys, "run", "fox.toml", "--set", "model.sigma=1e15", code=1)
    assert "30 of 30 members became NaN or infinite" in said and files(fox) == ["fox.toml"]


def test_a_stored_run_is_drawn_again(stored, fox, capsys):
    run = stored[0] / "runs/fox.zarr"
    out = succeeds(capsys, "plot", str(run), "--out", "again")
    assert "E ln det G at t = 0.1" in out and files(fox / "again") == [*FILES, "sphere.png"]
    for name in files(fox / "again"):
        assert (fox / "again" / name).read_bytes() == (run.with_suffix("") / name).read_bytes()
    assert "none.zarr: no such run" in fails(capsys, "plot", "none.zarr")


def test_a_stored_run_says_where_it_came_from_and_how_to_make_it_again(stored, fox, capsys):
    out = succeeds(capsys, "info", str(stored[0] / "runs/fox.zarr"))
    for fact in ("60 member × 4 time × 3 pair", "Stratonovich", "quick, fox, dog", rqf.__version__):
        assert fact in out
    assert config.parse(out[out.index("[run]") :]) == config.read(stored[0] / "fox.toml")
    assert "fox.toml: not a zarr store" in fails(capsys, "info", "fox.toml")


@pytest.mark.slow
def test_a_run_without_overlaps_has_no_figure_of_them(fox, capsys):
    changes = ["--set", 'run.save=["polar_order"]', "--set", "run.members=30"]
    out = succeeds(capsys, "run", "fox.toml", *changes)
    assert "Nothing to compare" in out
    assert files(fox / "runs/fox") == []


def test_help_names_the_commands_and_gives_examples(capsys):
    out = succeeds(capsys, "--help")
    for command in ("run", "plot", "info"):
        assert command in out and "rqf-jax " + command in succeeds(capsys, command, "--help")
    assert "Missing argument" in fails(capsys, "run")


def test_the_module_is_the_command_and_shows_no_traceback(fox):
    def command(*arguments):
        line = [sys.executable, "-m", "rqf_jax", *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    assert command("--version").stdout.startswith(f"rqf-jax {rqf.__version__}, jax ")
    bad = command("run", "none.toml")
    assert bad.returncode == 2 and bad.stdout == ""
    assert (
        bad.stderr.startswith("rqf-jax: none.toml: cannot be read") and "\n" not in bad.stderr[:-1]
    )
    assert not (Path.cwd() / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("*.toml")), ids=lambda p: p.stem
)
def test_every_config_that_is_shipped_agrees_with_its_closed_forms(path, tmp_path, capsys):
    out = tmp_path / "run.zarr"
    with pytest.raises(SystemExit) as info:
        main(["run", str(path), "--set", "run.members=300", "--out", str(out)])
    assert info.value.code == 0
    table = tmp_path / "run" / "comparison.csv"
    if not table.exists():
        assert "Nothing to compare" in capsys.readouterr().out
        return
    with open(table, encoding="utf-8") as file:
        scores = {
            (row["quantity"], row["of"]): float(row["z"])
            for row in csv.DictReader(file)
            if row["z"]
        }
    assert {k: z for k, z in scores.items() if not abs(z) < 5} == {}
