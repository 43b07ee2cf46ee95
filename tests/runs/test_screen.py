"""Texts of others reach the terminal letter by letter: no markup, no control codes."""

import contextlib
import io
import unicodedata

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import rqf_jax as rqf
from rqf_jax.cli import main
from rqf_jax.runs.config import parse
from rqf_jax.runs.figures import literal
from rqf_jax.runs.screen import Screen, compiling, visible

HOSTILE = [
    "[/INST]",
    "[/s]",
    "[link=http://x]y",
    "\x1b[31mred",
    "$\\frac$",
    "_x",
    ":smile:",
    "\u202e",
]


def shown(command, *arguments, code=0):
    """Everything that a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        with pytest.raises(SystemExit) as info:
            main([command, *map(str, arguments)])
    assert (info.value.code or 0) == code, out.getvalue()
    return out.getvalue()


def acts(text):
    """The characters of a text that do something to a terminal."""
    return [c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cs")]


@hypothesis.given(
    st.text(
        st.characters(categories=["L", "N", "P", "S", "C"], exclude_characters="\t"), max_size=30
    )
)
def test_a_screen_shows_every_text_and_never_acts_on_it(text):
    screen = Screen(file=io.StringIO(), width=1000, force_terminal=False)
    screen.print(text, soft_wrap=True)
    printed = screen.file.getvalue()
    assert printed == visible(text) + "\n" and not acts(printed)
    assert "\u202e" not in printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with hidden states whose tokens and sentence are hostile, and a config for them."""
    path = tmp_path_factory.mktemp("hostile")
    states = np.random.default_rng(0).standard_normal((2, len(HOSTILE), 4))
    np.savez(
        path / "h.npz",
        sentences=np.array(["[INST] be kind [/INST] \x1b]0;title\x07"]),
        tokens_00=np.array(HOSTILE),
        hidden_00=states,
    )
    (path / "a.toml").write_text(
        """
        [run]
        members = 16
        substeps = 2
        save = ["overlaps", "state"]
        [times]
        stop = 0.5
        points = 2
        [model]
        name = "random_quadratic_form"
        sigma = 1.0
        [law]
        name = "hidden_states"
        file = "h.npz"
        [report]
        angle_time = 0.5
        """
    )
    return path


def test_a_run_of_hostile_tokens_prints_them_and_its_path_as_they_are(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = {sentence.tokens for sentence in rqf.io.read_hidden_states("h.npz")}
    assert names == {tuple(HOSTILE)}
    (folder / "a[").mkdir()
    printed = shown("run", "a.toml", "--out", "a[/b].zarr")
    assert "[INST] be kind [/INST] \\x1b]0;title\\x07" in printed and not acts(printed)
    assert "a[/b].zarr" in printed
    for command in ("info", "plot", "verify"):
        printed = shown(command, "a[/b].zarr")
        assert not acts(printed), command
    printed = shown("info", "a[/b].zarr")
    assert all(visible(token) in printed.replace("\n", "") for token in HOSTILE[:2])
    printed = shown("run", "a.toml", "--set", 'law.tokens=["\\u001b[2J", "_x"]', code=2)
    assert "\\x1b[2J" in printed and not acts(printed)


def test_labels_of_figures_are_no_formulas_and_are_never_hidden():
    assert literal(["$x^", "_a", "b"]) == [r"\$x^", " _a", "b"]


def test_every_text_survives_the_way_through_a_config():
    text = "".join(map(chr, range(1, 0x250)))
    table = f"""
    [run]
    members = 1
    substeps = 1
    [times]
    values = [0.0, 1.0]
    [model]
    name = "random_quadratic_form"
    sigma = 1.0
    [law]
    name = "hidden_states"
    tokens = ["{"".join(f"{chr(92)}u{ord(c):04x}" for c in text)}", 1]
    """
    config = parse(table)
    assert config.law.tokens[0] == text and parse(config.toml()) == config


def test_a_compilation_is_told_while_it_lasts_and_timed_afterwards():
    console = Screen(file=(printed := io.StringIO()))
    with compiling(console):
        assert "Compiling the program" in printed.getvalue()
    assert "Compiled, or read from the cache, in 0.0 s." in printed.getvalue()
