"""Theorems about the results of the tour, and notebooks that run as they stand."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
from _pages import PROGRAMS, ROOT, quick, run

import rqf_jax as rqf

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMPORTS, _ANALYSIS, FIRST, FIT, TRAINING, _DRIFT, _NOISE = range(len(PROGRAMS["docs/tour.md"]))


def fewer(code: str, members: int) -> str:
    """The code with `members` in place of the number it asks for; fails if it asks for none."""
    smaller, count = re.subn(r"(members ?= ?)[\d_]+", rf"\g<1>{members}", code)
    assert count
    return smaller


@pytest.fixture(scope="module")
def tour():
    """The namespace of the quick programs of the tour, with 200 members."""
    yield run("docs/tour.md", quick("docs/tour.md"))
    plt.close("all")


def test_the_tokens_of_the_tour_end_on_one_line(tour):
    order = np.asarray(tour["order"])
    assert order.shape == (200, 61)
    # Uniform tokens: E S² = 1/N at the start (see the observable's tests), one line at the end.
    start = order[:, 0] ** 2
    assert abs(start.mean() - 1 / 64) < 5 * start.std() / np.sqrt(200)
    assert np.median(order[:, -1]) > 0.99


def test_the_equilibria_of_the_tour_are_the_six_that_are_stable(tour):
    states = tour["states"]
    stable = {size for size, stable in zip(states.sizes, states.stable, strict=True) if stable}
    assert stable == {(10,), (5, 5), (6, 4), (7, 3), (8, 2), (9, 1)}


def test_the_drift_of_the_tour_pulls_the_mean_token_to_its_target(tour):
    heights = np.asarray(tour["pulled"].ys[:, -1, :, 2]).mean(1)
    assert heights.mean() > 5 * heights.std() / np.sqrt(200)


@pytest.mark.slow
def test_the_fit_of_the_tour_finds_the_strength_within_three_standard_errors():
    tour = run("docs/tour.md", [IMPORTS, FIRST, FIT], most=2_000)
    found = float(tour["fit"].sde.noise.symmetric)
    # The moments of t at strength σ are those of σ² t at strength 1, so their slope in σ at 1 is
    # 2t d/dt; the least squares weigh the error of a mean of 64 and of 2000 members with it.
    order, ts = np.asarray(tour["order"], float), np.asarray(tour["ts"], float)
    slope = 2 * ts * np.gradient(order.mean(0), ts)
    variance = slope @ np.cov(order.T) @ slope / (slope @ slope) ** 2
    assert abs(found - 1) < 3 * np.sqrt(variance * (1 / 64 + 1 / 2000))


@pytest.mark.slow
def test_the_machine_of_the_tour_learns_the_singular_values_of_its_data():
    tour = run("docs/tour.md", [IMPORTS, TRAINING])
    # μ² minus the eigenvalues of C⁻¹, those that are below μ²: the others are not learned.
    kept = 9 - np.linalg.eigvalsh(np.linalg.inv(tour["machine"].covariance))
    expected = np.sqrt(np.sort(kept[kept > 0])[::-1])
    weights = tour["weights"]
    found = np.asarray(weights.observe(rqf.observables.singular_values)[:, -1], float)
    found = np.sort(found, axis=-1)[:, ::-1][:, : expected.size]
    # The noise of a learning rate of 0.1 spreads neighbours; the sum of squares feels it less.
    total, error = (found**2).sum(-1), (expected**2).sum()
    assert abs(total.mean() / error - 1) < 0.05


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_installs_the_library_only_where_it_is_missing(path, monkeypatch):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = next(cell for cell in cells if cell["cell_type"] == "code")
    calls = []
    monkeypatch.setattr("subprocess.check_call", calls.append)
    exec("".join(first["source"]), {})
    assert not calls and first["metadata"]["tags"] == ["remove-cell"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    exec("".join(first["source"]), {})
    assert [line[1:4] for line in calls] == [["-m", "pip", "install"]]
    assert calls[0][-1].startswith("rqf_jax")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs_and_its_figures_are_kept(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert cells[0]["cell_type"] == "markdown" and "?" in "".join(cells[0]["source"][:1])
    outputs = [output for cell in code for output in cell["outputs"]]
    kept = [output for output in outputs if "image/png" in output.get("data", {})]
    assert kept and not any(output["output_type"] == "error" for output in outputs)

    namespace = {}
    before = set(plt.get_fignums())
    for cell in code:
        source = "".join(cell["source"])
        exec(fewer(source, 300) if "20_000" in source else source, namespace)
    drawn = set(plt.get_fignums()) - before
    assert len(drawn) == len(kept)
    plt.close("all")
