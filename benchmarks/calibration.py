"""Are the estimators as precise, as unbiased and as sure of themselves as they say?

Many replicates of one experiment are simulated in one vmap and fitted one by one; each line is

    RMSE/bound   root mean square error over the mean Cramér-Rao bound
    RMSE/stderr  over the mean reported standard error
    bias         mean error, relative to the truth, with its standard error
    coverage     how often the 95 % interval holds the truth
    refused      how many fits ended with an `IdentifiabilityError`

`--only posterior` is simulation-based calibration instead (Talts et al. 2018; recalled): strengths
drawn from a prior, data from the strengths, draws of NUTS from the posterior of the data. The rank
of the truth among the draws is uniform if the posterior is right; needs the extra `bayes`, and so
does `--only draws`: the time of 500 draws and what they say of the standard errors.

`--only goodness` counts instead how often the goodness of `fit_noise` objects, |z| > 1.96 and
warnings, to noise that it fits and to noise that it does not.

Usage: python benchmarks/calibration.py [--replicates 1000] [--only NAME]
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import posteriors

import rqf_jax as rqf
from rqf_jax import inference


@dataclass(frozen=True)
class Experiment:
    """Data of many replicates with their times, what to do with one, and the truth."""

    name: str
    data: Callable[[int], tuple[Sequence[Any], Any]]
    fit: Callable[[Any, Any], inference.FitResult]
    truth: dict[str, float]


def paths(sde, law, ts, substeps: int, seed: int, **options) -> Callable[[int], tuple]:
    """Independent replicates of one experiment: the members of one run."""

    def data(replicates):
        key = jax.random.key(seed)
        runs = rqf.simulate(sde, law, ts, substeps=substeps, members=replicates, key=key, **options)
        return runs.ys, runs.ts

    return data


def noise(symmetric: float, antisymmetric: float = 0.0) -> rqf.SDE:
    """Isotropic matrix noise on the sphere."""
    matrix = rqf.noises.IsotropicNoise(symmetric=symmetric, antisymmetric=antisymmetric)
    return rqf.SDE(rqf.drifts.NoDrift(), matrix, rqf.manifolds.Sphere())


def fit_against_used(x, t) -> inference.FitResult:
    """`fit_noise` with the bound σ/√(2 dof) of the degrees of freedom that were used."""
    fit = inference.fit_noise(x, t)
    return replace(fit, bound={k: v / math.sqrt(2 * fit.dof_used) for k, v in fit.estimate.items()})


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
        "fit_noise, robust",
        paths(noise(1.0), few, ts, 4, 1),
        lambda x, t: inference.fit_noise(x, t, method="robust"),
        {"symmetric": 1.0},
    )
    yield Experiment(
        "fit_noise, antisymmetric",
        paths(noise(1.0, 0.6), few, ts, 4, 2),
        lambda x, t: inference.fit_noise(x, t, antisymmetric=True),
        {"symmetric": 1.0, "antisymmetric": 0.6},
    )
    uneven = np.random.default_rng(13).normal(math.log(0.006), 0.8, 40)
    uneven = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.clip(jnp.exp(uneven), 5e-4, 0.03))])
    spread = paths(noise(1.0), rqf.laws.Uniform(5, 8), uneven, 4, 14)

    def missing(replicates):
        ys, ts = spread(replicates)
        there = jax.random.uniform(jax.random.key(15), ys.shape[:-1]) > 0.3
        return jnp.where(there[..., None], ys, jnp.nan), ts

    for name, data in (("steps spread 60-fold", spread), ("and 30 % missing", missing)):
        yield Experiment(f"fit_noise, {name} (used)", data, fit_against_used, {"symmetric": 1.0})
    for fit, length, count in (
        (inference.fit_noise, 0.25, 12),
        (inference.fit_pairs, 0.25, 12),
        (inference.fit_pairs, 1.0, 8),
    ):
        yield Experiment(
            f"{fit.__name__}, σ_s² dt = {length:g}",
            paths(noise(1.0), few, length * jnp.arange(count + 1.0), 8, 3),
            fit,
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

    def observed(replicates, error):
        ys, ts = hidden(replicates)
        seen = ys + error * jax.random.normal(jax.random.key(6), ys.shape)
        return rqf.manifolds.Sphere().project(seen), ts

    for error in (0.0316, 0.1):
        yield Experiment(
            f"fit_noise_observed, τ = {error:g}",
            lambda replicates, error=error: observed(replicates, error),
            inference.fit_noise_observed,
            {"symmetric": 1.0, "observation": error},
        )
    yield from weight_experiments()


def weight_experiments() -> Iterator[Experiment]:
    """Matrices and their eigenvalues, and the noise of gradients."""
    sde, start = rqf.models.dyson(g=1.0, rate=1.0), rqf.laws.Zeros((6, 6))
    symmetric = rqf.manifolds.Symmetric()
    # A first step of ten relaxation times is not observed.
    late = jnp.concatenate([jnp.zeros(1), 10 + 0.05 * jnp.arange(201.0)])

    def stationary(seed, **options):
        whole = paths(sde, start, late, 1, seed, **options)

        def data(replicates):
            ys, ts = whole(replicates)
            return ys[:, 1:], ts[1:] - ts[1]

        return data

    truth = {"rate": 1.0, "s": math.sqrt(2)}
    yield Experiment(
        "fit_matrix_ou",
        stationary(7),
        lambda w, t: inference.fit_matrix_ou(w, t, target=0.0, manifold=symmetric),
        truth,
    )
    yield Experiment(
        "fit_matrix_ou, unknown target",
        stationary(7),
        lambda w, t: inference.fit_matrix_ou(w, t, manifold=symmetric),
        truth,
    )

    def short(replicates):
        ys, ts = stationary(7)(replicates)
        return ys[:, :101], ts[:101]

    for name, options in (("unknown", {}), ("stationary start", {"stationary": True})):
        yield Experiment(
            f"fit_matrix_ou, {name}, T = 5",
            short,
            lambda w, t, o=options: inference.fit_matrix_ou(w, t, manifold=symmetric, **o),
            truth,
        )
    yield Experiment(
        "fit_dyson, known beta",
        stationary(8, save=rqf.observables.spectrum),
        lambda x, t: inference.fit_dyson(x, t, beta=1.0),
        {"g": 1.0, "rate": 1.0},
    )
    rates, batches = np.meshgrid([0.005, 0.01, 0.02, 0.05, 0.1], [8, 16, 32, 64, 128])
    rates, batches, dof = rates.ravel(), batches.ravel(), 20

    def noises(replicates):
        scatter = np.random.default_rng(9).chisquare(dof, (replicates, rates.size)) / dof
        return rates / batches * scatter, None

    yield Experiment(
        "fit_scaling",
        noises,
        lambda noise, _: inference.fit_scaling(noise, dof, rates, batches),
        {"learning_rate": 1.0, "batch_size": 1.0, "ratio": 1.0},
    )


def measure(experiment: Experiment, replicates: int) -> Iterator[str]:
    """One line a parameter."""
    data, ts = experiment.data(replicates)
    start, fits, refused = time.perf_counter(), [], 0
    for one in data:
        try:
            fits.append(experiment.fit(one, ts))
        except inference.IdentifiabilityError:
            refused += 1
    seconds = time.perf_counter() - start
    for name, truth in experiment.truth.items():
        estimates = np.array([fit.estimate[name] for fit in fits])
        rmse = math.sqrt(np.mean((estimates - truth) ** 2))
        bound = np.mean([fit.bound[name] for fit in fits])
        stderr = np.mean([fit.stderr[name] for fit in fits])
        bias, error = estimates.mean() / truth - 1, estimates.std() / truth / math.sqrt(len(fits))
        inside = [low < truth < high for low, high in (fit.interval()[name] for fit in fits)]
        yield (
            f"| {experiment.name} | {name} | {rmse / bound:.2f} | {rmse / stderr:.2f} | "
            f"{bias:+.1%} ± {error:.1%} | {np.mean(inside):.3f} | {refused} | "
            f"{1000 * seconds / replicates:.0f} ms |"
        )


LINES = ("in / out of span", "scatter of steps", "free directions")


def anisotropic(low: float) -> rqf.noises.AnisotropicNoise:
    """Row and column variances that rise in line from `low` to 2 - `low`."""
    factor = np.diag(np.sqrt(np.linspace(low, 2 - low, 8)))
    return rqf.noises.AnisotropicNoise(factor, factor)


def objections(
    matrix, members: int, replicates: int, seed: int, **options
) -> list[inference.FitResult]:
    """Fits of 40 steps of 0.01 of 4 tokens in dimension 8, `members` pooled in each."""
    sde = rqf.SDE(rqf.drifts.NoDrift(), matrix, rqf.manifolds.Sphere())
    law, ts = rqf.laws.Uniform(4, 8), 0.01 * jnp.arange(41.0)
    ys, ts = paths(sde, law, ts, 4, seed)(replicates * members)
    ys = ys.reshape(replicates, members, *ys.shape[1:])
    return [inference.fit_noise(x, ts, **options) for x in ys]


def goodness(replicates: int) -> Iterator[str]:
    """One line a noise: how often each number of the report objects."""
    isotropic, both = rqf.noises.IsotropicNoise, {"antisymmetric": True}
    cases = [
        ("isotropic, σ_a = 0", isotropic(1.0, 0.0), 1, {}),
        ("isotropic, σ_a² = 0.01, taken for 0", isotropic(1.0, 0.1), 1, {}),
        ("of its own for every token", rqf.noises.TokenNoise(1.0), 1, {}),
    ]
    for members in (1, 10):
        cases.append(("isotropic, σ_a = σ_s", isotropic(1.0, 1.0), members, both))
        for low in (0.4, 0.05):
            name = f"variances from {low:g} to {2 - low:g}"
            cases.append((name, anisotropic(low), members, both))
    for seed, (name, matrix, members, options) in enumerate(cases, 16):
        count = replicates if members == 1 else max(1, replicates // 5)
        fits = objections(matrix, members, count, seed, **options)
        cells = [f"{np.mean([bool(fit.warnings) for fit in fits]):.3f}"]
        for line in LINES:
            scores = [abs(fit.goodness[line][1]) for fit in fits if line in fit.goodness]
            cells.append(f"{np.mean(np.array(scores) > 1.96):.3f}" if scores else "")
        yield f"| {name} | {members} | {count} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--only", default="", help="experiments whose name holds this")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    parts = {"posterior": posteriors.calibrated, "draws": posteriors.timed}
    if arguments.only in parts:
        for line in parts[arguments.only](arguments.replicates):
            print(line)
        return
    if arguments.only == "goodness":
        print(f"| noise | paths a fit | fits | warned | {' | '.join(LINES)} |")
        print("|" + "---|" * (4 + len(LINES)))
        for line in goodness(arguments.replicates):
            print(line, flush=True)
        return
    print("| fit | parameter | RMSE/bound | RMSE/stderr | bias | coverage | refused | time a fit |")
    print("|---|---|---|---|---|---|---|---|")
    for experiment in experiments():
        if arguments.only in experiment.name:
            for line in measure(experiment, arguments.replicates):
                print(line, flush=True)


if __name__ == "__main__":
    main()
