"""Are the estimators as precise, as unbiased and as sure of themselves as they say?

Many replicates of one experiment are simulated in one vmap and fitted one by one; each line is

    RMSE/bound   root mean square error over the mean Cramér-Rao bound
    RMSE/stderr  over the mean reported standard error
    bias         mean error, relative to the truth, with its standard error
    coverage     how often the 95 % interval holds the truth

Usage: python scripts/calibration.py [--replicates 200] [--only NAME]
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rqf_jax as rqf
from rqf_jax import inference


@dataclass(frozen=True)
class Experiment:
    """Data of many members, what to do with one, and the truth."""

    name: str
    paths: Callable[[int], rqf.Trajectories]
    fit: Callable[[Any, Any], inference.FitResult]
    truth: dict[str, float]


def paths(sde, law, ts, substeps: int, seed: int) -> Callable[[int], rqf.Trajectories]:
    """Independent replicates of one experiment: the members of one run."""
    return lambda replicates: rqf.simulate(
        sde, law, ts, substeps=substeps, members=replicates, key=jax.random.key(seed)
    )


def noise(symmetric: float, antisymmetric: float = 0.0) -> rqf.SDE:
    """Isotropic matrix noise on the sphere."""
    matrix = rqf.noises.IsotropicNoise(symmetric=symmetric, antisymmetric=antisymmetric)
    return rqf.SDE(rqf.drifts.NoDrift(), matrix, rqf.manifolds.Sphere())


def experiments() -> Iterator[Experiment]:
    """Those of the documentation's table."""
    few, ts = rqf.laws.Uniform(4, 8), 0.01 * jnp.arange(41.0)
    yield Experiment(
        "fit_noise",
        paths(noise(1.0), few, ts, 4, 1),
        inference.fit_noise,
        {"symmetric": 1.0},
    )
    yield Experiment(
        "fit_noise, antisymmetric",
        paths(noise(1.0, 0.6), few, ts, 4, 2),
        lambda x, t: inference.fit_noise(x, t, antisymmetric=True),
        {"symmetric": 1.0, "antisymmetric": 0.6},
    )
    yield Experiment(
        "fit_pairs, long steps",
        paths(noise(1.0), few, 0.25 * jnp.arange(13.0), 8, 3),
        inference.fit_pairs,
        {"symmetric": 1.0},
    )
    attention = rqf.drifts.Attention(1.0)
    yield Experiment(
        "fit_attention",
        paths(
            rqf.models.noisy_attention(beta=1.0, sigma=0.3, strength=0.5),
            rqf.laws.Uniform(5, 8),
            0.0125 * jnp.arange(41.0),
            2,
            4,
        ),
        lambda x, t: inference.fit_attention(x, t, attention=attention, noise=0.3),
        {"strength": 0.5},
    )
    hidden = paths(noise(1.0), rqf.laws.Equiangular(3, 4, 0.1), 0.004 * jnp.arange(151.0), 2, 5)

    def observed(replicates: int) -> rqf.Trajectories:
        runs = hidden(replicates)
        seen = runs.ys + 0.0316 * jax.random.normal(jax.random.key(6), runs.ys.shape)
        return rqf.Trajectories(runs.ts, rqf.manifolds.Sphere().project(seen), runs.status)

    yield Experiment(
        "fit_noise_observed",
        observed,
        inference.fit_noise_observed,
        {"symmetric": 1.0, "observation": 0.0316},
    )


def measure(experiment: Experiment, replicates: int) -> Iterator[str]:
    """One line a parameter."""
    runs = experiment.paths(replicates)
    start = time.perf_counter()
    fits = [experiment.fit(path, runs.ts) for path in runs.ys]
    seconds = time.perf_counter() - start
    for name, truth in experiment.truth.items():
        estimates = np.array([fit.estimate[name] for fit in fits])
        rmse = math.sqrt(np.mean((estimates - truth) ** 2))
        bound = np.mean([fit.bound[name] for fit in fits])
        stderr = np.mean([fit.stderr[name] for fit in fits])
        bias, error = estimates.mean() / truth - 1, estimates.std() / truth / math.sqrt(replicates)
        inside = [low < truth < high for low, high in (fit.interval()[name] for fit in fits)]
        yield (
            f"| {experiment.name} | {name} | {rmse / bound:.2f} | {rmse / stderr:.2f} | "
            f"{bias:+.1%} ± {error:.1%} | {np.mean(inside):.3f} | "
            f"{1000 * seconds / replicates:.0f} ms |"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--only", default="", help="experiments whose name holds this")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print("| fit | parameter | RMSE/bound | RMSE/stderr | bias | coverage | time a fit |")
    print("|---|---|---|---|---|---|---|")
    for experiment in experiments():
        if arguments.only in experiment.name:
            for line in measure(experiment, arguments.replicates):
                print(line, flush=True)


if __name__ == "__main__":
    main()
