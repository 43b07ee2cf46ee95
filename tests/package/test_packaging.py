import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import rqf_jax as rqf
from rqf_jax.runs import config

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
PINS = [Requirement(line) for line in LINES if not line.startswith("#")]


def test_the_version_is_the_project_files():
    assert rqf.__version__ == PROJECT["version"]


def test_the_citation_file_has_what_its_format_requires_and_the_version_of_the_project():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    keys = set(re.findall(r"^([\w-]+):", text, re.MULTILINE))
    assert {"cff-version", "message", "title", "authors"} <= keys
    assert f"\nversion: {PROJECT['version']}\n" in text


def test_constraints_are_exact_versions_and_name_no_address():
    for pin in PINS:
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)) and pin.url is None
    text = "\n".join(LINES)
    assert "://" not in text and "--" not in text and " /" not in text


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_dependency_has_one_pin_that_the_project_allows(python):
    extras = PROJECT["optional-dependencies"]
    pinned = [line for name in ("test", "dev", "docs", "release") for line in extras[name]]
    wanted = [*PROJECT["dependencies"], *pinned]
    environment = {"python_version": python}
    for requirement in map(Requirement, wanted):
        pins = [
            pin
            for pin in PINS
            if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
            and (pin.marker is None or pin.marker.evaluate(environment))
        ]
        assert len(pins) == 1, requirement
        version = str(pins[0].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), requirement


def test_data_types_and_notice_come_with_the_package():
    package = resources.files("rqf_jax")
    assert (package / "py.typed").is_file()
    assert "Apache" in (package / "data" / "NOTICE").read_text(encoding="utf-8")
    assert len((package / "data" / "minilm_5_sentences.npz").read_bytes()) < 1_000_000


def test_an_archive_of_the_sources_holds_every_file_that_is_kept():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no checkout")
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    included = set(targets["build"]["targets"]["sdist"]["include"])
    kept = {f"/{name.partition('/')[0]}" for name in listed.stdout.splitlines()}
    # The build adds these two by itself.
    assert kept - {"/pyproject.toml", "/.gitignore"} == included


def test_an_installed_package_has_the_configs_that_the_pages_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]
    wheel = targets["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"configs": "rqf_jax/configs"}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    commands = re.findall(r"rqf-jax (?:run|sweep) ([^\s`]+)", text)
    assert "configs/demo.toml" in commands
    for name in {*commands, "demo", "demo.toml"} - {"CONFIG"}:
        if name.startswith("configs/"):
            assert config.read(name).run.members >= 1
    with pytest.raises(config.ConfigError, match="cannot be read"):
        config.read("other/demo.toml")


def test_importing_the_package_imports_nothing_for_files_and_figures():
    heavy = ["xarray", "zarr", "pandas", "matplotlib", "pydantic", "typer", "rich", "scipy.stats"]
    program = f"import sys, rqf_jax; print([name for name in {heavy} if name in sys.modules])"
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("interpreter", ["false", "no-such-python"])
def test_make_names_the_python_that_it_needs(tmp_path, interpreter):
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    line = ["make", "demo", f"PYTHON={interpreter}"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"needs Python >= 3.11; {interpreter} is not" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_continuous_integration_runs_what_make_ci_runs():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make ci"
