"""What the README and the notebooks show is run as it stands, with fewer members."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

import rqf_jax as rqf

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def fewer(code: str, members: int) -> str:
    """The code with `members` in place of the number it asks for; fails if it asks for none."""
    smaller, count = re.subn(r"(members ?= ?)[\d_]+", rf"\g<1>{members}", code)
    assert count
    return smaller


FIRST, ANALYSIS, FIT, TRAINING, DRIFT = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def readme():
    """The namespace that the README's Python blocks leave behind, without those on learning."""
    namespace = {}
    exec(fewer(FIRST, 200), namespace)
    namespace["sde_of_first"] = namespace["sde"]
    exec(ANALYSIS, namespace)
    exec(DRIFT, namespace)
    yield namespace
    plt.close("all")


def test_the_first_program_ends_with_all_tokens_of_a_member_on_one_line(readme):
    order = np.asarray(readme["order"])
    assert order.shape == (200, 61)
    # Uniform tokens: E S² = 1/N at the start (see the observable's tests), one line at the end.
    start = order[:, 0] ** 2
    assert abs(start.mean() - 1 / 64) < 5 * start.std() / np.sqrt(200)
    assert np.median(order[:, -1]) > 0.99


def test_the_equilibria_of_the_readme_are_the_six_that_are_stable(readme):
    states = readme["states"]
    stable = {size for size, stable in zip(states.sizes, states.stable, strict=True) if stable}
    assert stable == {(10,), (5, 5), (6, 4), (7, 3), (8, 2), (9, 1)}


@pytest.mark.slow
def test_the_drift_of_the_readme_pulls_the_mean_token_to_its_target(readme):
    runs = rqf.simulate(
        readme["sde"],
        rqf.laws.Uniform(4, 3),
        jnp.array([0.0, 8.0]),
        substeps=64,
        members=500,
        key=jax.random.key(0),
    )
    heights = np.asarray(runs.ys[:, -1, :, 2]).mean(1)
    assert heights.mean() > 5 * heights.std() / np.sqrt(500)


@pytest.mark.slow
def test_the_fit_of_the_readme_finds_the_strength_within_three_standard_errors(readme):
    readme["order"] = rqf.simulate(
        readme["sde_of_first"],
        readme["law"],
        readme["ts"],
        substeps=2,
        members=2000,
        key=jax.random.key(0),
        save=rqf.observables.nematic_order,
    ).ys
    exec(FIT, readme)
    found = float(readme["fit"].sde.noise.symmetric)
    # The moments of t at strength σ are those of σ² t at strength 1, so their slope in σ at 1 is
    # 2t d/dt; the least squares weigh the error of a mean of 64 and of 2000 members with it.
    order, ts = np.asarray(readme["order"], float), np.asarray(readme["ts"], float)
    slope = 2 * ts * np.gradient(order.mean(0), ts)
    variance = slope @ np.cov(order.T) @ slope / (slope @ slope) ** 2
    assert abs(found - 1) < 3 * np.sqrt(variance * (1 / 64 + 1 / 2000))


@pytest.mark.slow
def test_the_machine_of_the_readme_learns_the_singular_values_of_its_data(readme):
    exec(TRAINING, readme)
    # μ² minus the eigenvalues of C⁻¹, those that are below μ²: the others are not learned.
    kept = 9 - np.linalg.eigvalsh(np.linalg.inv(readme["machine"].covariance))
    expected = np.sqrt(np.sort(kept[kept > 0])[::-1])
    weights = readme["weights"]
    found = np.asarray(weights.observe(rqf.observables.singular_values)[:, -1], float)
    found = np.sort(found, axis=-1)[:, ::-1][:, : expected.size]
    # The noise of a learning rate of 0.1 spreads neighbours; the sum of squares feels it less.
    total, error = (found**2).sum(-1), (expected**2).sum()
    assert abs(total.mean() / error - 1) < 0.05


def test_every_file_that_the_readme_names_exists():
    named = re.findall(r"\]\(([\w/.]+)\)", README) + re.findall(r"configs/[\w.]+", README)
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


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
