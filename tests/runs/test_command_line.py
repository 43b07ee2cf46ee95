"""What a user types: short keys, new configs, examples of the help, bad input, a second start."""

import errno
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import _stores
import numpy as np
import pytest

import rqf_jax as rqf
from rqf_jax.cli import app, cache, main
from rqf_jax.cli.errors import explained
from rqf_jax.runs import catalogue, config, ensemble, template
from rqf_jax.runs.config import ConfigError, parse

PAIR = "[run]\nmembers = 16\nsubsteps = 2" + _stores.PAIR


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in, with one small config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.toml").write_text(PAIR)
    return tmp_path


def said(capsys, *arguments, code=0):
    """The output of a command, or its error."""
    with pytest.raises(SystemExit) as info:
        main(arguments)
    output = capsys.readouterr()
    assert (info.value.code or 0) == code, output.err
    return output.err if code else output.out


# ---- one rule for short keys


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sigmo=1", "--set sigmo: unknown key. Did you mean model.sigma?"),
        ("model.sigmo=1", "model.sigmo: unknown key. Did you mean sigma?"),
        ("name=1", "--set name: is more than one key. Write model.name or law.name."),
        ("zzz=1", "--set zzz: unknown key. Keys: run.seed, run.members,"),
    ],
)
def test_a_short_key_that_is_no_key_or_two_keys_is_refused_with_a_hint(change, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse(PAIR, [change])


def test_a_short_key_is_the_only_key_of_that_name_in_set_and_in_grid():
    changed = parse(PAIR, ["sigma=2", "angle=0.5", "members=3", "angle_time=1.0"])
    assert changed == parse(
        PAIR, ["model.sigma=2", "law.angle=0.5", "run.members=3", "report.angle_time=1.0"]
    )
    # After a change of the model, its keys are known.
    attention = parse(PAIR, ["model={name='noisy_attention', beta=1.0, sigma=1.0}", "beta=2"])
    assert attention.model.beta == 2


def test_a_key_of_an_earlier_version_still_works_and_says_its_new_name():
    with pytest.warns(DeprecationWarning, match="`checkpoint` is now called `segment`"):
        old = parse(PAIR, ["run.checkpoint=5"])
    assert old == parse(PAIR, ["run.segment=5"])
    with pytest.raises(ConfigError, match="must not have both checkpoint and segment"):
        parse(PAIR, ["run.checkpoint=5", "run.segment=5"])


# ---- bad input is one line, before anything is computed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("companion.tokens=99999999999999999999", "companion.tokens: must be less than or equal"),
        ("law.dim=99999999999999999999", "law.dim: must be less than or equal to 2147483647"),
        ("law.dim=2000000000", "one member must fit into memory; it needs"),
        ("times.points=100000000", "times.points: must be less than or equal to 10000000"),
        ("run.members=" + "9" * 5000, "run.members: must be a valid integer; got 999"),
        ("model.sigma=nan", "model.sigma: must be a finite number; got nan."),
        ("model.sigma=-inf", "model.sigma: must be a finite number; got -inf."),
        ("model.sigma=0x" + "f" * 6000, "model.sigma: must be a"),
        ("run.save=" + "[" * 3000 + "]" * 3000, "--set run.save="),
        ("law.name=hidden_states", "law.angle: unknown key"),
        ('law={name="hidden_states", file="a\\u0000b"}', "law.file: must be the path of a file"),
    ],
)
@pytest.mark.filterwarnings("ignore:the step h")
def test_huge_deep_and_infinite_values_are_one_clear_error(here, change, message):
    saved = ["run.save=['state']", "run.coordinates='full'"]
    with pytest.raises(ConfigError) as info:
        one = config.read("pair.toml", [*saved, change])
        ensemble.EnsembleJob.of(one)
    assert message in str(info.value) and max(map(len, str(info.value).splitlines())) < 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("a = " + "9" * 5000, "a number has too many digits"),
        (".".join(["a"] * 100_000) + " = 1", "a key is nested too deeply"),
        ("# " + "x" * 2**20, "a config must be at most 1 MiB"),
    ],
    ids=["brackets", "digits", "dots", "long"],
)
def test_a_file_that_is_deep_or_large_is_one_clear_error(here, capsys, text, message):
    (here / "bad.toml").write_text(text)
    error = said(capsys, "run", "bad.toml", code=2)
    assert message in error and len(error) < 2000 and not (here / "runs").exists()


def test_a_byte_order_mark_is_no_part_of_a_config_and_utf16_is_refused(here):
    (here / "mark.toml").write_bytes(b"\xef\xbb\xbf" + PAIR.encode())
    assert config.read("mark.toml") == parse(PAIR)
    (here / "wide.toml").write_bytes(PAIR.encode("utf-16"))
    with pytest.raises(ConfigError, match="a config must be UTF-8 text"):
        config.read("wide.toml")


@pytest.mark.parametrize("out", ["", ".", "run", "a" * 300 + ".zarr", ".zarr"])
def test_an_output_that_cannot_be_is_refused(here, capsys, out):
    error = said(capsys, "run", "pair.toml", "--out", out, code=2)
    rule = "must have at most 245 bytes" if len(out) > 245 else "--out: the path must end in .zarr"
    assert rule in error and error.count("\n") == 1
    assert [path.name for path in here.iterdir()] == ["pair.toml"]


def test_a_sweep_of_too_many_points_is_refused_before_they_are_made(here, capsys):
    error = said(capsys, "sweep", "pair.toml", "--grid", "sigma=0:1:1000000000000", code=2)
    assert "at most 1,000,000 points; got 1,000,000,000,000" in error


# ---- new configs


def test_every_model_and_every_law_has_a_new_config_that_a_user_can_run():
    models = list(catalogue.AbstractModel.known)
    others = [*catalogue.AbstractProcess.known, *catalogue.AbstractArchitecture.known]
    assert [name for name, _ in template.models()] == models + others
    for model in models:
        moved = catalogue.example(catalogue.AbstractModel, model)
        for law in config.laws_of(moved.state):
            text = template.config(model, None if law == "pair" else law)
            one = parse(text)
            assert one.model.name == model and one.run.members == 1000
            # Every key of every section is there, with a comment.
            for section in (type(one.run), type(one.model), type(one.law)):
                for key in section.model_fields:
                    assert re.search(rf"^(# )?{key} = ", text, re.MULTILINE), key
    with pytest.raises(ConfigError, match=r"Did you mean dyson\?"):
        template.config("dysom")
    with pytest.raises(ConfigError, match="--law must be"):
        template.config("dyson", "pair")


@pytest.mark.slow
@pytest.mark.parametrize("model", list(catalogue.AbstractModel.known))
def test_a_new_config_runs(here, capsys, model):
    said(capsys, "new", model)
    # Two intervals of the sixteen, of the same steps.
    stop = 2 * catalogue.AbstractModel.known[model].interval
    settings = ["members=8", "points=3", f"stop={stop}"]
    short = [word for setting in settings for word in ("--set", setting)]
    said(capsys, "run", f"{model}.toml", *short)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("states.csv", "must be a run, which is a folder .zarr, or a file of hidden states"),
        ("states.npy", "not a npy file of numbers, or cut short"),
        ("states.safetensors", "not a safetensors file, or cut short"),
    ],
)
def test_a_file_that_fit_does_not_read_is_refused_with_its_reason(here, capsys, name, words):
    (here / name).write_bytes(b"\x93NUMPY")
    error = said(capsys, "fit", name, code=2)
    assert f"{name}: {words}" in error


@pytest.mark.parametrize("hosts", ["a:b,1,0", "localhost:19999,2,5", "localhost:99999,2,0", ""])
def test_hosts_that_no_process_could_join_are_refused(here, capsys, hosts):
    error = said(capsys, "run", "pair.toml", "--hosts", hosts, code=2)
    assert "--hosts must be" in error and f"got {hosts!r}" in error


def test_new_does_not_write_over_a_file(here, capsys):
    assert "dyson.toml is a config of dyson" in said(capsys, "new", "dyson")
    before = (here / "dyson.toml").read_text()
    assert "dyson.toml exists" in said(capsys, "new", "dyson", code=2)
    assert (here / "dyson.toml").read_text() == before and tomllib.loads(before)
    assert "noisy_attention" in said(capsys, "new")


# ---- the help


def examples(text):
    """The example commands of a help text, in order."""
    return re.findall(r"^\s*((?:srun )?rqf-jax .+)$", text, re.MULTILINE)


COMMANDS = {command.callback.__name__: command.callback for command in app.app.registered_commands}
FIRST = ["new", "run", "sweep", "plot", "info", "fit", "verify", "export"]
FIRST += ["explain", "predict", "spectra"]
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 90}


def of_transformers(folder):
    """The files of transformers that the help speaks of."""
    (folder / "config.json").write_text(json.dumps(GPT2))
    rng = np.random.default_rng(0)
    states = np.cumsum(rng.normal(size=(4, 4, 5, 12)), axis=0)  # layers, sentences, tokens, numbers
    names = (f"hidden_states.{layer}" for layer in range(4))
    arrays = dict(zip(names, states.astype(np.float32), strict=True))
    _stores.safetensors(folder / "gpt2.safetensors", arrays)
    (folder / "checkpoints").mkdir()
    for step in range(0, 80, 10):
        names = "h.0.attn.c_proj.weight", "blocks.0.q.weight"
        arrays = {name: rng.normal(size=(12, 12)) for name in names}
        np.savez(folder / "checkpoints" / f"step{step}.npz", **arrays)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_example_of_the_help_runs_in_the_order_of_the_help(here, capsys, monkeypatch):
    assert list(COMMANDS) == FIRST
    (here / "configs").mkdir()
    for name in ("demo", "pair"):
        (here / "configs" / f"{name}.toml").write_text(PAIR)
    sentences = rqf.io.example_hidden_states()
    arrays = {"sentences": np.array([sentence.text for sentence in sentences])}
    for i, sentence in enumerate(sentences):
        arrays |= {f"tokens_{i:02d}": np.array(sentence.tokens), f"hidden_{i:02d}": sentence.states}
    np.savez(here / "hidden_states.npz", **arrays)
    of_transformers(here)
    done = 0
    for command in COMMANDS.values():
        for line in examples(command.__doc__):
            if line.startswith("srun") or "--failed" in line:
                continue  # of a cluster, and of members that fail: tests of their own
            program, *arguments = subprocess.run(
                ["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
            ).stdout.splitlines()
            assert program == "rqf-jax"
            said(capsys, *arguments)
            done += 1
    assert done >= 17


def test_the_version_names_jax_and_the_device(capsys):
    import jax

    text = said(capsys, "--version")
    assert text.startswith(f"rqf-jax {rqf.__version__}, jax {jax.__version__}, ")
    assert text.endswith(f"{len(jax.devices())} x {jax.devices()[0].device_kind}\n")


def test_figures_come_in_the_format_that_is_asked_for(here, capsys):
    said(capsys, "run", "pair.toml", "--format", "svg")
    assert (here / "runs/pair/order.svg").read_text().startswith("<?xml")
    said(capsys, "plot", "runs/pair.zarr", "--out", "again", "--format", "pdf")
    assert (here / "again/order.pdf").read_bytes().startswith(b"%PDF")
    assert "bmp" in said(capsys, "plot", "runs/pair.zarr", "--format", "bmp", code=2)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        pytest.param("rqf-jax new dys", "dyson_eigenvalues", marks=pytest.mark.slow),
        ("rqf-jax run pair.toml --set mod", "model.sigma="),
    ],
)
def test_the_shell_completes_models_and_keys(here, words, found):
    count = len(words.split()) - 1
    environment = os.environ | {
        "_RQF_JAX_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)
    }  # fmt: skip
    line = [sys.executable, "-m", "rqf_jax"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert found in done.stdout.split(), done.stderr


# ---- compiled programs on disk


def test_the_cache_is_in_the_users_cache_folder_unless_an_environment_variable_says_otherwise():
    assert cache.place({"RQF_JAX_CACHE": "off"}) is None
    assert cache.place({"RQF_JAX_CACHE": "~/mine"}) == Path.home() / "mine"
    if sys.platform.startswith("linux"):
        assert cache.place({}) == Path.home() / ".cache/rqf_jax"
        assert cache.place({"XDG_CACHE_HOME": "x"}) == Path("x/rqf_jax")


def test_the_cache_forgets_the_oldest_programs_and_keeps_strangers_files(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_MOST_BYTES", 250)
    for age, name in enumerate(("c-cache", "b-cache", "a-cache", "mine.txt")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    cache._shorten(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b-cache", "c-cache", "mine.txt"]


COUNT = """
import sys, jax
from rqf_jax.cli import main
counts = {}
def note(event, **_):
    counts[event.rpartition("/")[2]] = counts.get(event.rpartition("/")[2], 0) + 1
jax.monitoring.register_event_listener(note)
try:
    main(sys.argv[1:])
finally:
    print("hits", counts.get("cache_hits", 0), "misses", counts.get("cache_misses", 0))
    print("asked", counts.get("compile_requests_use_cache", 0))
"""


@pytest.mark.slow
def test_a_second_process_compiles_no_program_again(here):
    def run(out):
        environment = os.environ | {"RQF_JAX_CACHE": str(here / "cache")}
        line = [sys.executable, "-c", COUNT, "run", "pair.toml", "--out", out]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
        numbers = re.search(r"hits (\d+) misses (\d+)\nasked (\d+)", done.stdout)
        return tuple(map(int, numbers.groups()))

    (_, missed, asked), again = run("a.zarr"), run("b.zarr")
    assert missed > 10
    assert again == (asked, 0, asked)  # all hits
    with rqf.open("a.zarr") as a, rqf.open("b.zarr") as b:
        np.testing.assert_array_equal(a.overlaps, b.overlaps)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_few_file_handles_are_no_fault_of_the_file_that_was_read(number):
    short = OSError(number, os.strerror(number), "run.zarr/zarr.json")
    wrapped = rqf.io.DataFileError("run.zarr: its arrays cannot be read.")
    wrapped.__cause__ = short
    for error in (short, wrapped):
        code, message = explained(error)
        assert code == 3 and "ulimit -n" in message and "run.zarr/zarr.json" in message
