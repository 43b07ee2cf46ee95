"""Parameters of Lorenz' equations from x alone: errors, standard errors and coverage.

Each replicate is a path of `--duration` Lyapunov times on the attractor at (10, 28, 8/3), of
which x is seen with `--noise` of its standard deviation, and a fit by `inference.fit_shooting`
from parameters that are up to 30 % wrong. The noise is estimated too. A line for each parameter:

    bias         mean error in standard errors, with its own error
    RMSE/stderr  root mean square error over the root mean square standard error
    coverage     how often the 95 % interval, and that of three standard errors, hold the truth

Usage: python benchmarks/chaotic.py [--replicates 100] [--duration 20] [--noise 0.05]
"""

import argparse
import math
import time
from collections.abc import Sequence

import diffrax
import jax
import numpy as np

import rqf_jax as rqf

TRUTH = {"sigma": 10.0, "rho": 28.0, "beta": 8 / 3}
EXPONENT = 0.9056
STEP = 0.05
WRONG = 0.3


def model(p) -> rqf.SDE:
    flow = rqf.systems.Lorenz63(p["sigma"], p["rho"], p["beta"])
    return rqf.SDE(flow, rqf.noises.NoNoise(), rqf.manifolds.Euclidean())


def first(x):
    return x[0]


def paths(replicates: int, duration: float) -> tuple[np.ndarray, np.ndarray]:
    """Times, and x (replicates, times) on the attractor."""
    count = math.ceil(duration / EXPONENT / STEP) + 1
    ts = STEP * np.arange(-400, count)
    law, key = rqf.laws.Normal((3,), 5.0), jax.random.key(0)
    runs = rqf.simulate(
        model(TRUTH),
        law,
        ts,
        substeps=8,
        members=replicates,
        key=key,
        save=first,
        solver=diffrax.Tsit5(),
    )
    return ts[400:], np.asarray(runs.ys)[:, 400:]


def fits(replicates: int, duration: float, noise: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Errors and standard errors (fits, parameters), and how many fits were refused."""
    ts, xs = paths(replicates, duration)
    rng, solver = np.random.default_rng(1), diffrax.Tsit5()
    errors, stderr, refused = [], [], 0
    for x in xs:
        y = x + noise * x.std() * rng.normal(size=x.size)
        start = {name: one * rng.uniform(1 - WRONG, 1 + WRONG) for name, one in TRUTH.items()}
        try:
            fit = rqf.inference.fit_shooting(
                model,
                start,
                y,
                ts,
                observe=first,
                state=[y[0], y[0], 25.0],
                substeps=2,
                solver=solver,
            )
        except rqf.inference.IdentifiabilityError:
            refused += 1
            continue
        errors.append([fit.estimate[name] - one for name, one in TRUTH.items()])
        stderr.append([fit.stderr[name] for name in TRUTH])
    return np.array(errors), np.array(stderr), refused


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--duration", type=float, default=20.0, help="in Lyapunov times")
    parser.add_argument("--noise", type=float, default=0.05, help="in standard deviations of x")
    given = parser.parse_args(arguments)
    jax.config.update("jax_enable_x64", True)
    begun = time.perf_counter()
    errors, stderr, refused = fits(given.replicates, given.duration, given.noise)
    took = time.perf_counter() - begun
    print("| parameter | mean stderr | bias | RMSE/stderr | 95 % coverage | within 3 stderr |")
    print("|---|---|---|---|---|---|")
    z = errors / stderr
    for i, name in enumerate(TRUTH):
        ratio = math.sqrt(np.mean(errors[:, i] ** 2) / np.mean(stderr[:, i] ** 2))
        spread = z[:, i].std(ddof=1) / math.sqrt(len(z))
        print(
            f"| {name} | {stderr[:, i].mean():.3g} | {z[:, i].mean():+.2f} ± {spread:.2f} "
            f"| {ratio:.2f} | {np.mean(np.abs(z[:, i]) < 1.96):.3f} "
            f"| {np.mean(np.abs(z[:, i]) < 3):.3f} |"
        )
    print(f"\n{len(z)} fits, {refused} refused, {took:.0f} s")


if __name__ == "__main__":
    main()
