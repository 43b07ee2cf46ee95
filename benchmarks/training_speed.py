"""Speed of a Gaussian restricted Boltzmann machine beside NumPy loops over the same updates.

    python benchmarks/training_speed.py [--seeds 500] [--updates 2000] [--loop-updates 100]

10 + 10 units, 16 persistent chains, 3 sweeps an update, all seeds from the solution. Prints a
markdown table: time per update of all seeds, and what 500 seeds of 100,000 updates take.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
from accuracy import device_name, table, versions

import rqf_jax as rqf

UNITS, MASS, RATE, CHAINS, SWEEPS = 10, 3.0, 0.1, 16, 3
PRECISION = 6 * np.eye(UNITS) - np.roll(np.eye(UNITS), 1, 0) - np.roll(np.eye(UNITS), -1, 0)
COVARIANCE = np.linalg.inv(PRECISION)
KAPPA, MODES = np.linalg.eigh(PRECISION)
SOLUTION = ((MODES * np.sqrt(MASS**2 - KAPPA)) @ MODES.T).astype(np.float32)
FULL = 500 * 100_000


def ours(seeds: int, updates: int, key: jax.Array, workers: int) -> np.ndarray:
    """Weights of all seeds at the end: one call of `train` a thread, which are cores to XLA."""
    process = rqf.training.GaussianRBM(
        COVARIANCE,
        rqf.laws.Fixed(SOLUTION),
        mass=MASS,
        learning_rate=RATE,
        batch=CHAINS,
        sweeps=SWEEPS,
    )
    firsts = np.linspace(0, seeds, workers + 1).astype(int)

    def part(i: int) -> np.ndarray:
        count, first = int(firsts[i + 1] - firsts[i]), int(firsts[i])
        runs = rqf.training.train(process, [0, updates], seeds=count, first_seed=first, key=key)
        return np.asarray(runs.ys[:, -1])

    with ThreadPoolExecutor(workers) as threads:
        return np.concatenate(list(threads.map(part, range(workers))))


def loop(seeds: int, updates: int, random: np.random.Generator) -> np.ndarray:
    """The same in NumPy, sweep after sweep, for one seed (2 axes) or for many at once."""
    shape = () if seeds == 1 else (seeds,)
    weights = np.broadcast_to(SOLUTION, (*shape, UNITS, UNITS)).copy()
    chains = np.ones((*shape, CHAINS, UNITS), np.float32)
    covariance = COVARIANCE.astype(np.float32)
    for _ in range(updates):
        for _ in range(SWEEPS):
            draws = random.standard_normal((2, *chains.shape), np.float32)
            hidden = chains @ weights.swapaxes(-1, -2) + draws[0]
            chains = hidden @ weights / np.float32(MASS**2) + draws[1] / np.float32(MASS)
        moment = chains.swapaxes(-1, -2) @ chains / np.float32(CHAINS)
        weights = weights + np.float32(RATE) * (weights @ (covariance - moment))
    return weights


def seconds(call) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Speed of a Gaussian machine of rqf_jax.")
    parser.add_argument("--seeds", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--updates", type=int, default=2000, help="default: %(default)s")
    parser.add_argument("--loop-updates", type=int, default=100, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="threads; default: %(default)s")
    options = parser.parse_args(arguments)
    seeds, updates, few = options.seeds, options.updates, options.loop_updates

    rows = []
    for workers in sorted({1, options.workers}):
        ours(seeds, 1, jax.random.key(0), workers)
        took = seconds(lambda w=workers: ours(seeds, updates, jax.random.key(1), w))
        rows.append((f"rqf_jax, {workers} thread{'s' * (workers > 1)}", took / updates / seeds))
    random = np.random.default_rng(0)
    rows.append(
        ("NumPy, all seeds in one array", seconds(lambda: loop(seeds, few, random)) / few / seeds)
    )
    rows.append(("NumPy, seed after seed", seconds(lambda: loop(1, 10 * few, random)) / (10 * few)))

    best = rows[len({1, options.workers}) - 1][1]
    print(
        f"A machine of {UNITS} + {UNITS} units, {CHAINS} chains, {SWEEPS} sweeps; {seeds} seeds:\n"
    )
    cells = [
        [name, f"{1e6 * each:.2f}", f"{FULL * each / 60:.1f}", f"{each / best:.1f}"]
        for name, each in rows
    ]
    print(table(["program", "µs per seed and update", "minutes for 500 × 100,000", "ratio"], cells))
    print(f"\n{versions()}; {device_name()}.")


if __name__ == "__main__":
    main()
