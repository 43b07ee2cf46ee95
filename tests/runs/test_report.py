import csv
import io
import math

import jax
import numpy as np
import pytest
import xarray
from rich.console import Console

import rqf_jax as rqf
from rqf_jax.runs import catalogue, comparison as report
from rqf_jax.runs.comparison import Row, compare


def hyperplane_rounding(starts, members, seed):
    """Overlaps at t = 0 and at the end, sampled exactly: signs of one random hyperplane."""
    rng = np.random.default_rng(seed)
    starts = np.broadcast_to(starts, (members, *starts.shape[-2:]))
    pairs = np.triu_indices(starts.shape[1], 1)
    gram = np.einsum("man,mbn->mab", starts, starts)
    signs = np.sign(np.einsum("man,mn->ma", starts, rng.normal(size=starts[:, 0].shape)))
    final = signs[:, :, None] * signs[:, None, :]
    overlaps = np.stack([gram[:, *pairs], final[:, *pairs]], 1)
    return xarray.Dataset(
        {"overlaps": (("member", "time", "pair"), overlaps)}, coords={"time": [0.0, 8.0]}
    )


def rqf_forms(sigma=1.0):
    return catalogue.RandomQuadraticForm(name="random_quadratic_form", sigma=sigma).closed_forms(3)


@pytest.fixture(scope="module")
def fox():
    return rqf.io.example_hidden_states()[0].select([1, 2, 3, 4, 7])


LABELS = ["the(1)", "quick", "brown", "fox", "the(7)"]


def test_the_exact_limit_law_agrees_with_every_row(fox):
    dataset = hyperplane_rounding(fox.unit(0), members=40_000, seed=0)
    rows = compare(dataset, rqf_forms(), labels=LABELS)
    assert [row.quantity for row in rows] == 10 * ["P(aligned)"] + 10 * ["E G(∞)"] + ["Var N₊"]
    assert max(abs(row.z) for row in rows) < 5
    # If the standard errors were wrong, so would be the size of z.
    z = np.concatenate([self_z(fox.unit(0), seed) for seed in range(1, 61)])
    assert 0.9 < np.sqrt(np.mean(z**2)) < 1.1


def self_z(start, seed):
    dataset = hyperplane_rounding(start, members=500, seed=seed)
    return [row.z for row in compare(dataset, rqf_forms(), labels=LABELS)]


@pytest.mark.slow
def test_members_that_start_differently_are_compared_with_their_own_starts():
    rng = np.random.default_rng(1)
    starts = rng.normal(size=(20_000, 3, 2)) + np.array([2.0, 0.0])
    starts /= np.linalg.norm(starts, axis=-1, keepdims=True)
    rows = compare(hyperplane_rounding(starts, 20_000, seed=2), rqf_forms(), labels=["0", "1", "2"])
    assert max(abs(row.z) for row in rows) < 5
    assert rows[0].theory > 0.6


def test_a_wrong_ensemble_is_found_out(fox):
    dataset = hyperplane_rounding(fox.unit(0), members=40_000, seed=0)
    dataset["overlaps"][:, 0] = dataset.overlaps[:, 0] + 0.1
    rows = compare(dataset, rqf_forms(), labels=LABELS)
    assert min(abs(row.z) for row in rows) > 5


def test_rows_are_the_closed_forms_of_the_theory(fox):
    dataset = hyperplane_rounding(fox.unit(0), members=10, seed=0)
    rows = compare(dataset, rqf_forms(), labels=LABELS)
    gram = fox.unit(0) @ fox.unit(0).T
    pairs = np.triu_indices(5, 1)
    angles = np.asarray(rqf.observables.angles(jax.numpy.asarray(fox.unit(0))))
    theory = [row.theory for row in rows]
    np.testing.assert_allclose(theory[:10], 1 - angles / np.pi, rtol=1e-12)
    np.testing.assert_allclose(theory[10:20], 2 / np.pi * np.arcsin(gram[pairs]), rtol=1e-12)
    assert theory[20] == pytest.approx(rqf.theory.sphere.cluster_size_variance(gram), rel=1e-12)
    assert rows[9].label == "fox–the(7)"
    p = theory[3]
    assert rows[3].stderr == pytest.approx(math.sqrt(p * (1 - p) / 10), rel=1e-12)


@pytest.mark.parametrize(("sigma", "agrees"), [(0.7, True), (0.8, False)])
def test_the_mean_log_volume_falls_with_sigma_squared(sigma, agrees):
    rng = np.random.default_rng(0)
    time = np.array([0.0, 0.5, 1.0])
    noise = rng.normal(size=(4000, 3)) * np.sqrt(time)
    log_det = -1.0 - 6 * 0.7**2 * time + noise
    dataset = xarray.Dataset({"log_det_gram": (("member", "time"), log_det)}, {"time": time})
    rows = compare(dataset, rqf_forms(sigma), labels=["0", "1", "2"], log_det_times=[0.5, 1.0])
    assert [row.label for row in rows] == ["at t = 0.5", "at t = 1"]
    assert rows[1].stderr == pytest.approx(1 / math.sqrt(4000), rel=0.05)
    assert all((abs(row.z) < 5) == agrees for row in rows)


def test_limits_wait_for_synchronisation(fox):
    dataset = hyperplane_rounding(fox.unit(0), members=10, seed=0)
    assert compare(dataset, rqf_forms(0.86), labels=LABELS) == []
    assert len(compare(dataset, rqf_forms(0.87), labels=LABELS)) == 21


def test_dependent_tokens_have_no_row_of_volumes():
    log_det = np.full((10, 2), -np.inf)
    dataset = xarray.Dataset({"log_det_gram": (("member", "time"), log_det)}, {"time": [0.0, 1.0]})
    assert compare(dataset, rqf_forms(), labels=["0", "1"], log_det_times=[1.0]) == []


def test_z_is_the_difference_in_standard_errors():
    assert Row("q", "", theory=1.0, simulation=1.5, stderr=0.25).z == 2.0
    assert Row("q", "", theory=1.0, simulation=1.0, stderr=0.0).z == 0.0
    assert Row("q", "", theory=1.0, simulation=1.1, stderr=0.0).z == math.inf


def test_the_csv_file_holds_the_rows(tmp_path):
    rows = [Row("P(aligned)", "quick–fox", 0.5, 0.51, 0.005), Row("Var N₊", "", 2.0, 1.9, 0.1)]
    report.write_csv(rows, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["quantity"] for line in lines] == ["P(aligned)", "Var N₊"]
    assert lines[0]["of"] == "quick–fox"
    for line, row in zip(lines, rows, strict=True):
        for name in ("theory", "simulation", "stderr", "z"):
            assert float(line[name]) == pytest.approx(getattr(row, name), rel=1e-6)


def printed(show):
    console = Console(file=io.StringIO(), width=80)
    show(console)
    return console.file.getvalue()


def test_the_tables_fit_80_columns_uncut_and_name_every_pair(fox):
    dataset = hyperplane_rounding(fox.unit(0), members=10_000, seed=0)
    rows = compare(dataset, rqf_forms(), labels=LABELS)
    text = printed(lambda console: report.show(rows, dataset, console))
    assert "…" not in text
    for label in report.pair_labels(LABELS):
        assert label in text
    assert f"Largest |z| of 21 rows: {max(abs(row.z) for row in rows):.1f}" in text


def test_a_long_name_folds_and_no_number_is_cut():
    row = Row("E w·∇L", "learning_rate = 0.05, batch = 16, from 700 on", -0.0956, -0.0948, 0.00057)
    text = printed(lambda console: report.show([row], xarray.Dataset(), console))
    assert "…" not in text and "16, from 700" in text
    assert all(number in text for number in ("-0.09560", "-0.09480(57)", "+1.4"))


@pytest.mark.parametrize(("others", "p"), [(0, "0.05"), (3, "0.19"), (19, "0.64")])
def test_the_largest_z_comes_with_the_probability_of_a_larger_one(others, p):
    rows = [Row("E r", "", 0.0, -1.959964, 1.0), *[Row("E r²", "", 0.0, 0.0, 1.0)] * others]
    text = " ".join(printed(lambda console: report.show(rows, xarray.Dataset(), console)).split())
    assert f"is larger with probability p = {p}." in text


def test_errors_in_brackets_are_in_units_of_the_last_digit():
    dataset = xarray.Dataset()
    row = Row("E ln det G", "at t = 1", theory=-2.28771, simulation=-2.30899, stderr=0.0317)
    text = printed(lambda console: report.show([row], dataset, console))
    assert "-2.288" in text and "-2.309(32)" in text and "-0.7" in text


def test_a_layer_is_matched_with_the_time_of_its_mean_squared_cosine():
    overlaps = np.array([[[0.1, 0.1], [0.3, 0.3], [0.9, 0.9]]])
    layers = np.array([[0.1, 0.1], [-0.3, 0.3], [0.99, 0.99]])
    dataset = xarray.Dataset(
        {
            "overlaps": (("member", "time", "pair"), overlaps),
            "layer_overlaps": (("layer", "pair"), layers),
        },
        coords={"time": [0.0, 1.0, 2.0]},
    )
    lines = printed(lambda console: report.show_layers(dataset, rqf_forms(), console)).splitlines()
    cells = [line.split() for line in lines if line[:1] in {"0", "1", "2"}]
    assert cells[0] == ["0", "0.010", "0.100", "0.100", "0.00"]
    assert cells[1] == ["1", "0.090", "0.000", "0.300", "1.00"]
    assert cells[2] == ["2", "0.980", "0.990", "–", "–"]
