"""Normalisation schemes beside the same drift and noise on the sphere, in one process.

    python benchmarks/schemes.py [--rounds 7] [--sizes 4096x2x3 4096x8x3 1024x32x16]

Attention and fresh matrices of independent entries, `GeodesicEuler` in every scheme. Where outputs
are normalised, noise is a field of given covariance, and so is the noise on the sphere beside it.
Contenders take turns, round after round; a ratio is the median of the ratios of processor time in
a round.
"""

import argparse
import time

import jax
import numpy as np
from accuracy import device_name, table, versions
from benchmark import Size
from racing import Contender, race, ratio

import rqf_jax as rqf

LIMIT, STEPS = 1.1, 256
SIZES = (Size(4096, 2, 3), Size(4096, 8, 3), Size(1024, 32, 16))
PAIRS = {"pre": "matrix", "ngpt": "field", "peri": "field"}
"""Schemes, and the noise on the sphere that each is measured beside."""


def contenders(size: Size) -> list[Contender]:
    """The sphere with both noises, and the schemes."""
    steps = min(size.steps, STEPS)
    ts = np.array([0.0, steps * size.step])
    law, drift, sphere = (
        rqf.laws.Uniform(size.tokens, size.dim),
        rqf.drifts.Attention(1.0),
        rqf.manifolds.Sphere(),
    )

    def model(name: str, sigma: float) -> rqf.SDE:
        matrix = rqf.SDE(drift, rqf.noises.IsotropicNoise(sigma, sigma), sphere)
        if name == "field":
            kernel = rqf.kernels.PowerSeries([0.0, sigma**2])
            return rqf.SDE(drift, rqf.noises.KernelNoise(kernel), sphere)
        return matrix if name == "matrix" else rqf.models.normalised(matrix, name)  # pyright: ignore

    def engine(name: str):
        def call(number: int, sigma: float):
            return rqf.simulate(
                model(name, sigma), law, ts, substeps=steps, members=size.members,
                key=jax.random.key(number),
                solver=rqf.solvers.GeodesicEuler(), throw=False,
            ).ys  # fmt: skip

        return call

    return [Contender(name, steps, engine(name)) for name in ("matrix", "field", *PAIRS)]


def main(arguments: list[str] | None = None) -> None:
    """Print a table with the ratios and whether each is within the limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=Size.parse, nargs="+", default=SIZES)
    options = parser.parse_args(arguments)
    rows = []
    for size in options.sizes:
        seconds = race(contenders(size), options.rounds, time.process_time)
        found = [ratio(seconds[name], seconds[beside]) for name, beside in PAIRS.items()]
        met = "yes" if max(found) <= LIMIT else "**no**"
        print(size, *(f"{r:.3f}" for r in found), flush=True)
        rows.append(["x".join(map(str, size)), *(f"{r:.3f}" for r in found), met])
    print(f"\n{device_name()}; {versions()}\n")
    head = ["members x tokens x dim", *(f"{n} / {b}" for n, b in PAIRS.items()), f"≤ {LIMIT}"]
    print(table(head, rows))


if __name__ == "__main__":
    main()
