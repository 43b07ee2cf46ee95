"""Weak error of the solvers: two tokens under a random quadratic form, against closed forms.

    python benchmarks/accuracy.py [--members 400000]

Prints a markdown table. The setting is N = 2, n = 3, r(0) = 0.3, T = 2, sigma = 1 in float64; the
exact values come from the law of the overlap, `rqf_jax.theory.sphere`.
"""

import argparse
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

import rqf_jax as rqf

DIM, OVERLAP, TIME, SIGMA = 3, 0.3, 2.0, 1.0
SCHEMES = (rqf.solvers.ProjectiveFlow(), rqf.solvers.GeodesicHeun(), rqf.solvers.GeodesicEuler())
STEPS = (4, 16, 64)
QUANTITIES = ("E r", "P(r > 0)", "E r²")
TARGET = 2e-3
BATCH = 50_000


class Errors(NamedTuple):
    """Simulated minus exact value and its standard error, one entry for each of `QUANTITIES`."""

    error: Float[np.ndarray, "3"]
    stderr: Float[np.ndarray, "3"]
    lost: int
    """Members that became NaN or infinite; they are left out of the means."""


def exact() -> Float[np.ndarray, "3"]:
    """E r, P(r > 0) and E r² at the final time."""
    sphere = rqf.theory.sphere
    laws = (sphere.mean_overlap, sphere.positive_overlap_probability, sphere.mean_squared_overlap)
    return np.array([float(law(TIME, OVERLAP, sigma=SIGMA)) for law in laws])


def overlap(x: Float[Array, "2 dim"]) -> Float[Array, ""]:
    """Cosine of two vectors, which a scheme may have let off the sphere."""
    squares = jnp.sum(x * x, axis=-1)
    return jnp.sum(x[0] * x[1]) * jax.lax.rsqrt(squares[0] * squares[1])


def weak_errors(
    sde: rqf.SDE, solver: diffrax.AbstractSolver, steps: int, members: int, key: PRNGKeyArray
) -> Errors:
    """Errors of `solver` with `steps` equal steps."""
    runs = rqf.simulate(
        sde,
        rqf.laws.Pair(np.arccos(OVERLAP), DIM),
        jnp.array([0.0, TIME]),
        substeps=steps,
        members=members,
        key=key,
        solver=solver,
        save=overlap,
        batch_size=BATCH,
        throw=False,
    )
    r = np.asarray(runs.ys[:, -1], float)
    r = r[np.isfinite(r)]
    samples = np.stack([r, r > 0, r * r])
    return Errors(
        samples.mean(axis=1) - exact(),
        samples.std(axis=1, ddof=1) / np.sqrt(r.size),
        members - r.size,
    )


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versions() -> str:
    """What the numbers were made with."""
    return (
        f"rqf_jax {rqf.__version__}, jax {jax.__version__}, diffrax {diffrax.__version__}, "
        f"NumPy {np.__version__}, Python {platform.python_version()}"
    )


def device_name() -> str:
    """What the numbers were made on."""
    device, cpu = jax.devices()[0], Path("/proc/cpuinfo")
    if device.platform != "cpu" or not cpu.exists():
        return device.device_kind
    names = [line for line in cpu.read_text().splitlines() if line.startswith("model name")]
    return names[0].partition(": ")[2] if names else device.device_kind


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Weak error of the solvers of rqf_jax.")
    parser.add_argument("--members", type=int, default=400_000, help="default: %(default)s")
    members = parser.parse_args(arguments).members

    jax.config.update("jax_enable_x64", True)
    sde = rqf.models.random_quadratic_form(SIGMA)
    rows = [["exact", "", *(f"{value:.4f}" for value in exact())]]
    worst = 0.0
    for number, solver in enumerate(SCHEMES):
        for steps in STEPS:
            key = jax.random.fold_in(jax.random.key(number), steps)
            errors = weak_errors(sde, solver, steps, members, key)
            pairs = zip(errors.error, errors.stderr, strict=True)
            cells = [f"{error:+.4f} ± {deviation:.4f}" for error, deviation in pairs]
            rows.append([type(solver).__name__, str(steps), *cells])
            if number == 0 and steps == STEPS[0]:
                worst = float(np.abs(errors.error).max())

    print(f"Weak error (simulated − exact ± standard error), {members} members, float64:")
    print(f"N = 2, n = {DIM}, r(0) = {OVERLAP}, T = {TIME:g}, σ = {SIGMA:g}.\n")
    print(table(["scheme", "steps", *QUANTITIES], rows))
    verdict = "met" if worst <= TARGET else "missed"
    print(
        f"\nGoal: |error| ≤ {TARGET:g} with {STEPS[0]} steps of {type(SCHEMES[0]).__name__}: "
        f"{verdict} (largest {worst:.1e})."
    )
    print(f"\n{versions()}; {device_name()}.")


if __name__ == "__main__":
    main()
