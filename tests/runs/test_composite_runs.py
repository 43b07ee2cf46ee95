"""Runs, sweeps and stores of states with parts: what holds for one array holds for them."""

import csv
import functools
import math
from pathlib import Path

import _stores
import jax
import numpy as np
import pytest
from _stores import PARTICLE, contents
from rich.console import Console

import rqf_jax as rqf
from rqf_jax.cli.app import main
from rqf_jax.laws import Fixed, Product, Zeros
from rqf_jax.runs import catalogue, comparison, config, sweep as sweeps
from rqf_jax.runs.design import Axis, Design

simulated = functools.partial(_stores.simulated, text=PARTICLE)
LAW = Product({"q": Fixed([1.0, -0.5]), "p": Zeros((2,))})
pytestmark = pytest.mark.usefixtures("no_figures")


def particle(**changes):
    parameters = {"friction": 0.8, "temperature": 0.5, "mass": 1.5} | changes
    return rqf.models.underdamped_langevin(rqf.potentials.Quadratic(3.0).slope, **parameters)


def test_a_run_of_particles_is_the_ensemble_that_python_gives(whole):
    ts, options = np.linspace(0.0, 1.0, 5), {"substeps": 2, "members": 64}
    ys = rqf.simulate(particle(), LAW, ts, key=jax.random.key(0), **options).ys
    with rqf.open(whole) as run:
        assert run.q.dims == ("member", "time", "dim")
        np.testing.assert_allclose(run.q, ys["q"], atol=1e-13)
        np.testing.assert_allclose(run.p_squared, ys["p"] ** 2, atol=1e-13)
        np.testing.assert_allclose(run.q_mean, run.q.mean("member"), atol=1e-13)


def test_chunks_and_checkpoints_change_particles_by_rounding_alone(whole, tmp_path):
    out = tmp_path / "run.zarr"
    text = PARTICLE.replace("chunk = 16\nsegment = 1\n", "")
    simulated(out, text=text)
    with rqf.open(whole) as one, rqf.open(out) as other:
        np.testing.assert_allclose(one.q, other.q, atol=1e-13)
        np.testing.assert_array_equal(one.status, other.status)


def test_a_sweep_of_particles_holds_the_run_of_every_point(tmp_path):
    design = Design((Axis.parse("model.temperature=0.2,0.5"), Axis.parse("model.friction=0.8")))
    one = config.parse(PARTICLE, ["run.keep=trajectories"])
    sweeps.sweep(one, design, tmp_path / "s.zarr", force=False, console=Console(quiet=True))
    ts, options = np.linspace(0.0, 1.0, 5), {"substeps": 2, "members": 64}
    with rqf.open(tmp_path / "s.zarr") as points:
        for temperature in (0.2, 0.5):
            sde = particle(temperature=temperature)
            ys = rqf.simulate(sde, LAW, ts, key=jax.random.key(0), **options).ys
            found = points.q.sel(temperature=temperature, friction=0.8)
            np.testing.assert_allclose(found, ys["q"], atol=1e-13)


def test_damage_to_a_run_of_particles_is_found_and_mended_bit_for_bit(tmp_path, capsys):
    simulated(out := tmp_path / "run.zarr")
    expected = contents(out)
    chunk = next(path for path in sorted((out / "p_squared").rglob("*")) if path.suffix == "")
    chunk = chunk if chunk.is_file() else next(p for p in chunk.rglob("*") if p.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(out)])
    assert stopped.value.code == 1 and f"{chunk}: damaged" in capsys.readouterr().out
    assert "They came back bit for bit." in simulated(out)
    assert contents(out) == expected


def test_an_observable_with_parts_is_stored_part_by_part(tmp_path, monkeypatch):
    monkeypatch.setitem(catalogue.PARTICLES.observables, "state", lambda x: x)
    simulated(out := tmp_path / "run.zarr", 'run.save=["state", "q"]', "run.members=8")
    with rqf.open(out) as run:
        assert {"state.q", "state.p", "state.p_mean"} <= set(run.data_vars)
        np.testing.assert_array_equal(run["state.q"], run["q"])


def test_a_fit_of_particles_is_refused_with_a_way_that_is_open(whole, capsys):
    with pytest.raises(SystemExit):
        main(["fit", str(whole)])
    told = " ".join(capsys.readouterr().err.split())
    assert "the run is of particles" in told and "`rqf_jax.fit`" in told and "--set" not in told


@pytest.mark.parametrize("potential", ["quadratic", "quartic"])
def test_the_closed_forms_of_a_particle_are_integrals_of_boltzmanns_law(potential):
    section = config.parse(PARTICLE, [f"potential={potential}"]).model
    x, power = np.linspace(-8, 8, 100_001), 2 if potential == "quadratic" else 4
    weight = np.exp(-3.0 * x**power / power / 0.5)
    means = section.closed_forms(2).means
    assert math.isnan(means["q_squared"](0.1))
    found, expected = means["q_squared"](1e3), np.sum(x**2 * weight) / np.sum(weight)
    assert found == pytest.approx(expected, rel=1e-10)
    assert means["p_squared"](1e3) == pytest.approx(0.5 * 1.5, rel=1e-12)


def test_the_rate_of_an_optimiser_is_that_of_its_linear_equation():
    for name in ("heavy_ball", "nesterov"):
        given = {"name": name, "potential": "quadratic", "strength": 9.0, "convexity": 2.0}
        section = catalogue.find(catalogue.AbstractModel, name).model_validate(
            given | {"step": 4.0}
        )
        drift = section.sde(1).drift

        def field(x, drift=drift):
            v = drift(jax.numpy.zeros(()), {"q": x[:1], "p": x[1:]})
            return jax.numpy.concatenate([v["q"], v["p"]])

        roots = np.linalg.eigvals(np.asarray(jax.vmap(field)(jax.numpy.eye(2))).T)
        (note,) = section.closed_forms(1).notes
        assert float(note.split()[-1].rstrip(".")) == pytest.approx(-roots.real.max(), rel=1e-3)


def test_a_run_without_a_bath_claims_no_stationary_law():
    for change in ("temperature=0", "friction=0", "strength=0"):
        model = config.parse(PARTICLE, [change]).model
        assert model.closed_forms(2) == catalogue.ClosedForms()


def test_the_shipped_particle_has_boltzmanns_law_and_a_figure(tmp_path, monkeypatch):
    monkeypatch.undo()
    config_file = Path(__file__).parents[2] / "configs" / "particle.toml"
    with pytest.raises(SystemExit) as ended:
        main(["run", str(config_file), "--out", str(tmp_path / "run.zarr")])
    assert not ended.value.code
    with open(tmp_path / "run" / "comparison.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["quantity"] for row in rows] == ["E q_squared", "E p_squared"]
    assert max(abs(float(row["z"])) for row in rows) < 5
    assert (tmp_path / "run" / "means.png").stat().st_size > 10_000
    # With half the temperature in mind, the same run would be refused.
    wrong = config.read(config_file, ["temperature=0.35"]).model.closed_forms(4)
    with rqf.open(tmp_path / "run.zarr") as run:
        refused = comparison.compare(run, wrong, labels=[])
    assert min(abs(row.z) for row in refused) > 5
