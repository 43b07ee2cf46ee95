"""A package outside ours adds a class of every kind in one file, and everything works with it."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rqf_jax as rqf

FOREIGN = Path(__file__).parent / "foreign"
SCRIPT = """
import jax, numpy as np
import rqf_jax as rqf, torus_walk as foreign
sde = foreign.TorusWalk(name="torus_walk", sigma=0.7).sde(4)
ts, law = [0.0, 0.4, 1.0], foreign.VonMises(2.0, 3)
runs = rqf.simulate(
    sde, law, ts, substeps=3, members=4000, key=jax.random.key(1), solver=foreign.Turn(),
    save=foreign.first_cosine,
)
means, errors = runs.ys.mean((0, 2)), runs.ys.mean(2).std(0) / 4000**0.5
known = foreign.TorusWalk(name="torus_walk", sigma=0.7).closed_forms(4).means["first_cosine"]
print(np.max(np.abs((means - np.array([known(t) for t in ts])) / errors)))
default = rqf.solvers.default(sde)
print(type(default).__name__)
try:
    rqf.simulate(rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(2, 4), ts, substeps=1,
                 members=2, key=jax.random.key(0), solver=foreign.Turn())
except ValueError as error:
    print(error)
"""


@pytest.fixture
def command(tmp_path):
    """Python in a folder of its own, where the foreign package is installed."""
    paths = [str(FOREIGN), str(Path(rqf.__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}

    def run(*line, code=0):
        done = subprocess.run(
            [sys.executable, *line], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    return run


def test_a_foreign_equation_is_simulated_by_its_own_solver_and_has_its_own_law(command):
    largest, default, refused = command("-c", SCRIPT).splitlines()
    assert float(largest) < 5
    assert default == "GeodesicEuler"
    assert "`solver` Turn does not suit this equation: it turns circles" in refused


@pytest.mark.slow
def test_a_foreign_config_is_written_run_compared_and_stored(command, tmp_path):
    command("-m", "rqf_jax", "new", "torus_walk", "--law", "von_mises")
    printed = command("-m", "rqf_jax", "run", "torus_walk.toml", "--set", "points=3")
    assert "von_mises: 3 tokens" in printed and "E first_cosine at t = 4" in printed
    with open(tmp_path / "runs/torus_walk/comparison.csv", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert abs(float(row["z"])) < 5
    with rqf.open(tmp_path / "runs/torus_walk.zarr") as run:
        assert run.first_cosine.shape == (1000, 3, 3)
        np.testing.assert_allclose(
            run.first_cosine_mean, run.first_cosine.mean("member"), rtol=1e-5
        )
    assert "as written" in command("-m", "rqf_jax", "verify", "runs/torus_walk.zarr")
    wrong = ["run", "torus_walk.toml", "--set", "save=['overlaps']"]
    message = command("-m", "rqf_jax", *wrong, code=2)
    assert "run.save[0] must be one of state, first_cosine; got 'overlaps'" in message


def test_without_the_foreign_package_its_names_are_unknown():
    from rqf_jax.runs import catalogue

    assert catalogue.find(catalogue.AbstractModel, "torus_walk") is None
