"""Theorems about the documentation site: it has every public name once, and builds."""

import importlib
import inspect
import re
import subprocess
import sys

import pytest
from _pages import ROOT

import rqf_jax as rqf


@pytest.fixture(scope="module")
def programs():
    """The programs beside the pages, by name."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        yield {name: importlib.import_module(name) for name in ("gallery", "links", "reference")}
    finally:
        sys.path.remove(str(ROOT / "docs"))


@pytest.fixture(scope="module")
def reference(programs):
    """The program that writes the reference."""
    return programs["reference"]


def test_every_public_name_is_in_the_reference_once(reference, tmp_path):
    reference.write(tmp_path / "reference")
    texts = {path.stem: path.read_text("utf-8") for path in tmp_path.glob("reference/*.md")}
    entries = [
        f"{module}.{name}"
        for module, text in texts.items()
        for name in re.findall(r"^`{6}\{py:(?:function|class)\} (\w+)", text, re.MULTILINE)
    ]
    assert len(set(entries)) == len(entries)
    documented = [
        id(getattr(sys.modules[e.rpartition(".")[0]], e.rpartition(".")[2])) for e in entries
    ]
    assert len(set(documented)) == len(documented)

    def offered(module):
        for name in dir(module):
            value = getattr(module, name)
            home = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
            if name.startswith("_") or not (home or "").startswith(module.__name__):
                continue
            if inspect.ismodule(value):
                yield from offered(value)
            else:
                yield f"{module.__name__}.{name}", value

    missing = [n for n, value in offered(rqf) if callable(value) and id(value) not in documented]
    assert not missing


def test_sections_of_a_docstring_become_lists_and_its_example_a_program(reference):
    text = reference.markdown(
        "Do a thing.\n\n    y = x\n\n"
        "Arguments:\n    x: The thing,\n        at length.\n    n: A number.\n\n"
        "Returns:\n    The thing.\n\nExample:\n    >>> 1 + 1\n    2"
    )
    assert "    y = x" in text
    assert "* `x`: The thing,\n  at length.\n* `n`: A number." in text
    assert "**Returns**\n\nThe thing." in text
    assert text.endswith("```python\n>>> 1 + 1\n2\n```")


def test_signatures_have_no_types_and_short_defaults(reference):
    shown = reference.signature(rqf.simulate)
    assert shown.startswith("(sde, law, ts, *, substeps, members, key, solver=None, save=...")
    assert len(shown) < 200


@pytest.mark.slow
def test_the_site_builds_without_a_warning_or_a_dead_link(tmp_path):
    pytest.importorskip("furo")
    pytest.importorskip("myst_nb")
    line = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        "docs",
        tmp_path,
    ]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reference" / "rqf_jax.models.html").exists()
    assert (tmp_path / "explore" / "index.html").exists()


def test_a_dead_link_is_found(programs, tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">', encoding="utf-8")
    (tmp_path / "b.html").write_text(
        '<p id="here"><a href="#there"></a><img src="c.png"><a href="https://example.org">',
        encoding="utf-8",
    )
    assert programs["links"].dead_links(tmp_path) == ["b.html: #there", "b.html: c.png"]


def test_the_gallery_has_a_question_and_a_figure_of_every_notebook(programs, tmp_path):
    programs["gallery"].write(ROOT / "notebooks", tmp_path / "gallery")
    text = (tmp_path / "gallery" / "index.md").read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        assert re.search(rf"\({path.stem}\.png\) [^\n]*\?\]\(/notebooks/{path.name}\)", text)
        assert (tmp_path / "gallery" / f"{path.stem}.png").stat().st_size > 2_000
