"""Theorems about the pages: programs run in order; names, files and commands exist."""

import functools
import re
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import typer
from _pages import PAGES, PROGRAMS, ROOT, SLOW, quick, run

import rqf_jax as rqf
from rqf_jax.cli.app import app


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


# The programs of two pages run for the sake of their results, below and in `test_examples.py`.
@pytest.mark.parametrize(
    "name", [name for name in PAGES if PROGRAMS[name] and name not in ("README.md", "docs/tour.md")]
)
def test_the_quick_programs_of_a_page_run_in_order(name):
    run(name, quick(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_all_programs_of_a_page_run_in_order(name):
    run(name)


def test_the_readme_prints_what_it_shows_and_saves_its_figure(capsys):
    run("README.md", most=4_000)
    printed = capsys.readouterr().out
    shown = re.search(r"```\n\n```\n(.*?)```", PAGES["README.md"], re.DOTALL)[1]
    numbers = [np.array(re.findall(r"\d+\.\d+", text), float) for text in (printed, shown)]
    np.testing.assert_allclose(*numbers, atol=2e-4)
    assert re.sub(r"\d+\.\d+", "", printed) == re.sub(r"\d+\.\d+", "", shown)
    mean, error, theory = numbers[0]
    assert abs(mean - theory) < 5 * error
    assert Path("first.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", PAGES)
def test_every_file_that_a_page_names_exists(name):
    text = PAGES[name]
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    here = (ROOT / name).parent
    assert not [link for link in links if not (here / link).exists()]
    paths = re.findall(r"\b(?:configs|notebooks|benchmarks|scripts|docs|tests)/[\w/]+\.\w+", text)
    assert not [path for path in paths if not (ROOT / path).exists()]


@pytest.mark.parametrize("name", PAGES)
def test_every_public_name_of_a_page_exists(name):
    for dotted in re.findall(r"\brqf\.(\w+(?:\.\w+)*)", PAGES[name]):
        functools.reduce(getattr, dotted.split("."), rqf)


def commands():
    for name, text in PAGES.items():
        for block in re.findall(r"```(?:\w*)\n(.*?)```", text, re.DOTALL):
            for line in block.splitlines():
                if line.startswith("rqf-jax "):
                    yield pytest.param(line, id=f"{name}: {line}")


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_of_a_page_is_one(line):
    _, command, *arguments = shlex.split(line, comments=True)
    parser = typer.main.get_command(app).commands[command]
    context = parser.make_context(command, arguments)
    assert not context.args
