"""Theorems about runs of reference flows: their exponents beside those that are known."""

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray

import rqf_jax as rqf
from rqf_jax.cli import main
from rqf_jax.runs import catalogue, comparison, config

CONFIG = """
[run]
members = 64
substeps = 50
coordinates = "full"
save = ["x_squared"]
[times]
stop = 24.0
points = 25
[model]
name = "double_well"
noise = 0.7
[law]
name = "normal"
mean = [1.0, -1.0]
[report]
exponents = 1
exponents_from = 8.0
"""


def run(text, tmp_path, *changes):
    (tmp_path / "run.toml").write_text(text)
    options = [part for change in changes for part in ("--set", change)]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run.zarr"), *options])
    assert not ended.value.code
    with open(tmp_path / "run" / "comparison.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_of_double_wells_has_the_law_and_the_exponent_of_theory(tmp_path):
    rows = run(CONFIG, tmp_path)
    assert [row["quantity"] for row in rows] == ["E x_squared", "λ1"]
    assert max(abs(float(row["z"])) for row in rows) < 5
    # Exponents are stored, so that a run can be compared with the theory of another noise.
    wrong = config.parse(CONFIG, ["model.noise=2.0"]).model.closed_forms(2)
    with rqf.open(tmp_path / "run.zarr") as stored:
        assert stored.exponents.shape == (64, 1)
        refused = comparison.compare(stored, wrong, labels=[])
    assert min(abs(row.z) for row in refused) > 5


@pytest.mark.slow
def test_the_shipped_lorenz_run_has_the_exponents_that_are_known(tmp_path):
    text = (Path(__file__).parents[2] / "configs" / "lorenz.toml").read_text()
    rows = run(text, tmp_path)
    assert [row["quantity"] for row in rows] == ["λ1", "λ2", "λ3"]
    assert max(abs(float(row["z"])) for row in rows) < 5
    expected = np.array([0.9056, 0.0, -14.572])
    found = np.array([float(row["simulation"]) for row in rows])
    assert np.all(np.abs(found - expected) < 0.02 * np.array([0.9056, 0.9056, 14.57]))


@pytest.mark.slow
def test_the_shipped_wave_keeps_its_mean_and_has_the_exponents_that_are_known(tmp_path):
    text = (Path(__file__).parents[2] / "configs" / "kuramoto_sivashinsky.toml").read_text()
    rows = run(text, tmp_path, "run.members=12")
    assert [row["quantity"] for row in rows] == ["λ1", "λ2", "λ3", "λ4"]
    assert max(abs(float(row["z"])) for row in rows) < 5
    with rqf.open(tmp_path / "run.zarr") as stored:
        mean = np.asarray(stored.x, float).mean(-1)
    assert np.abs(mean - mean[:, :1]).max() < 1e-3


def test_one_number_of_a_config_is_a_state_of_as_many_as_it_says():
    text = CONFIG.replace("mean = [1.0, -1.0]", "mean = [2.0]\nsize = 3")
    law = config.parse(text).law.start().law
    assert np.asarray(law.mean).tolist() == [2.0, 2.0, 2.0]


def test_measured_exponents_have_their_own_error_in_the_comparison():
    known = rqf.systems.Exponents((1.0, 0.0), (0.3, 0.1), "invented")
    rates = np.array([[1.4, 0.1, -2.0], [1.8, -0.1, -2.0]])
    dataset = xarray.Dataset({"exponents": (("exponent_member", "exponent"), rates)})
    rows = comparison.compare(dataset, catalogue.ClosedForms(exponents=known), labels=[])
    assert [row.quantity for row in rows] == ["λ1", "λ2"]
    assert np.isclose(rows[0].stderr, np.hypot(0.2, 0.3)) and np.isclose(rows[0].simulation, 1.6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("report.exponents=3", "report.exponents: must be at most 2, the dimension"),
        ("report.exponents_from=8.5", "report.exponents_from must be one of the save times"),
        ("report.exponents_from=24.0", "report.exponents_from must be before the last save time"),
        ('model.name="lorenz_63"', "law: must draw 3 numbers, as many as lorenz_63 moves; got 2"),
        (
            'model.name="kuramoto_sivashinsky"',
            "law: must draw an even number of at least 8 numbers for kuramoto_sivashinsky; got 2",
        ),
        ("law.size=3", "law: size must be left out, or be 2, the numbers of mean; got 3"),
        ("law.scale=-1", "law.scale: must be greater than or equal to 0; got -1"),
    ],
)
def test_exponents_and_numbers_that_do_not_exist_are_refused(change, message, tmp_path, capsys):
    (tmp_path / "run.toml").write_text(CONFIG)
    with pytest.raises(SystemExit) as ended:
        main(
            ["run", str(tmp_path / "run.toml"), "--set", change, "--out", str(tmp_path / "a.zarr")]
        )
    assert ended.value.code
    assert message in " ".join(capsys.readouterr().err.split())


def test_exponents_need_all_axes_of_the_space():
    text = CONFIG.replace('"double_well"\nnoise = 0.7', '"random_quadratic_form"\nsigma = 1.0')
    text = text.replace('"normal"\nmean = [1.0, -1.0]', '"uniform"\ntokens = 4\ndim = 3')
    text = text.replace("x_squared", "overlaps").replace('"full"', '"overlaps"')
    with pytest.raises(config.ConfigError, match=r"report.exponents must be 0 unless run\.coord"):
        config.parse(text)
