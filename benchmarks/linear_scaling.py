"""The scans of a Gaussian machine and of a teacher and student over step, batch and noise.

    python benchmarks/linear_scaling.py OUT [--seeds 200] [--updates 120] [--full] [--only machine]

Gaps of degenerate singular values against √(α/B). Every setting is run in parts of `--part` seeds,
and every part is kept in OUT as it ends: started again, the script goes on where it was stopped.
Prints a markdown table: measured, predicted, error.

By default seeds start at the solution and train for `--updates`/α updates. `--full` is the
published scan: 7500 and 3000 seeds from random weights, 100,000 and 5000 updates; the machine alone
takes ten settings of half an hour each on two cores.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from accuracy import table, versions

import rqf_jax as rqf
from rqf_jax.theory import learning

UNITS, MASS = 10, 3.0
PRECISION = 6 * np.eye(UNITS) - np.roll(np.eye(UNITS), 1, 0) - np.roll(np.eye(UNITS), -1, 0)
KAPPA, MODES = np.linalg.eigh(PRECISION)
SOLUTION = (MODES * np.sqrt(MASS**2 - KAPPA)) @ MODES.T
PAIRS = (1, 3, 5, 7)
"""The first of each degenerate pair, of eigenvalues of the precision in ascending order."""


class Setting(NamedTuple):
    """One point of a scan: what is trained, step α, batch B and gradient noise A."""

    kind: str
    rate: float
    batch: int
    noise: float = 0.0

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.kind}-{self.rate:g}-{self.batch}-{self.noise:g}"


MACHINES = [
    *(Setting("machine", rate, 16) for rate in (0.01, 0.02, 0.04, 0.06, 0.08, 0.1)),
    *(Setting("machine", 0.1, batch) for batch in (4, 8, 32, 64)),
]
STUDENTS = [
    *(Setting("student", rate, 16, 0.1) for rate in (0.1, 0.2, 0.3, 0.4, 0.5)),
    *(Setting("student", 0.1, batch, 0.1) for batch in (4, 8, 32, 64)),
    *(Setting("student", 0.1, 16, noise) for noise in (0.05, 0.06, 0.07, 0.08, 0.09)),
]


def machine_gaps(weights: jax.Array) -> jax.Array:
    """Gaps of squared singular values within the four pairs."""
    squares = rqf.observables.singular_values(weights)[::-1] ** 2
    first = jnp.asarray(PAIRS)
    return squares[first] - squares[first + 1]


def student_gap(weights: jax.Array) -> jax.Array:
    """The gap of the two singular values, as an array of one."""
    return rqf.observables.gaps(rqf.observables.singular_values(weights))


def process(setting: Setting, cold: bool) -> rqf.training.AbstractProcess:
    """What is trained, from random weights of deviation 0.1 or from the solution."""
    shape = (UNITS, UNITS) if setting.kind == "machine" else (2, 2)
    solution = SOLUTION if setting.kind == "machine" else 2 * np.eye(2)
    law = rqf.laws.Normal(shape, 0.1) if cold else rqf.laws.Fixed(solution.astype(np.float32))
    options = {"learning_rate": setting.rate, "batch": setting.batch}
    if setting.kind == "machine":
        covariance = np.linalg.inv(PRECISION)
        return rqf.training.GaussianRBM(covariance, law, mass=MASS, **options)
    return rqf.training.TeacherStudent(solution, law, noise=setting.noise, **options)


def predicted(setting: Setting) -> np.ndarray:
    """The mean gaps: of the four pairs in the limit α/B → 0, or of the student at its α."""
    if setting.kind == "machine":
        return learning.machine_gap(
            KAPPA[list(PAIRS)],
            mass=MASS,
            learning_rate=setting.rate,
            batch=setting.batch,
            sweeps=3,
        )
    options = {"learning_rate": setting.rate, "batch": setting.batch, "noise": setting.noise}
    return np.array([learning.teacher_gap(**options)])


def parts(seeds: int, size: int) -> Iterator[tuple[int, int]]:
    """First seed and number of seeds of each part."""
    for first in range(0, seeds, size):
        yield first, min(size, seeds - first)


def gaps(setting: Setting, folder: Path, seeds: int, part: int, updates: int, cold: bool):
    """The gaps of every seed at the last update (seeds, pairs), from files where they exist."""
    save = machine_gaps if setting.kind == "machine" else student_gap
    found = []
    for first, count in parts(seeds, part):
        start = "cold" if cold else "solution"
        file = folder / f"{setting.name}-{start}-{updates}-{first}-{count}.npy"
        if not file.exists():
            runs = rqf.training.train(
                process(setting, cold),
                [0, updates],
                seeds=count,
                first_seed=first,
                key=jax.random.fold_in(jax.random.key(0), (MACHINES + STUDENTS).index(setting)),
                save=save,
            )
            # Renamed when it is whole, so that an interrupted run leaves no half a file.
            unfinished = file.with_suffix(".part")
            with unfinished.open("wb") as stream:
                np.save(stream, np.asarray(runs.ys[:, -1]))
            os.replace(unfinished, file)
        found.append(np.load(file))
    return np.concatenate(found)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Linear scaling of trained weights.")
    parser.add_argument("out", type=Path, help="folder of results")
    parser.add_argument("--seeds", type=int, default=200, help="default: %(default)s")
    parser.add_argument(
        "--updates", type=float, default=120.0, help="in units of 1/α; default: %(default)s"
    )
    parser.add_argument("--part", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--full", action="store_true", help="the published scan")
    parser.add_argument("--only", choices=("machine", "student"))
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)

    rows, points = [], {"machine": [], "student": []}
    for setting in MACHINES + STUDENTS:
        kind = setting.kind
        if options.only not in (None, kind):
            continue
        seeds, updates = options.seeds, round(options.updates / setting.rate)
        if options.full:
            seeds, updates = (7500, 100_000) if kind == "machine" else (3000, 5000)
        found = gaps(setting, options.out, seeds, options.part, updates, options.full)
        scaled = found / predicted(setting)
        # Pairs of one seed are taken together: they are not independent.
        ratio, error = scaled.mean(), scaled.mean(1).std(ddof=1) / np.sqrt(seeds)
        shape = np.mean((found**2).mean(0) / found.mean(0) ** 2)
        rows.append(
            [
                *(kind, f"{setting.rate:g}", f"{setting.batch}", f"{setting.noise:g}", f"{seeds}"),
                *(f"{ratio:.3f} ± {error:.3f}", f"{shape:.3f}"),
            ]
        )
        points[kind].append((setting.rate / setting.batch, ratio, error))
    head = ["process", "α", "B", "A", "seeds", "⟨S⟩ measured/predicted", "⟨S²⟩/⟨S⟩² (4/π = 1.273)"]
    print(table(head, rows))
    if len(points["machine"]) > 1:
        x, y, error = np.array(points["machine"]).T
        (slope, limit), covariance = np.polyfit(x, y, 1, w=1 / error, cov="unscaled")
        print(
            f"\nMachine, limit of small α/B: {limit:.3f} ± {covariance[1, 1] ** 0.5:.3f} of the "
            f"predicted √(2π) = 2.507; finite α/B: a factor 1 {slope:+.1f} α/B."
        )
    print(f"\n{versions()}")


if __name__ == "__main__":
    main()
