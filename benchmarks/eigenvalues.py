"""Eigenvalues of ensembles of random matrices in time: contenders, their laws, their speed.

Part of `benchmark.py`. The motion is dH = -κ H dt + dN, real symmetric, from evenly spaced
eigenvalues, seen at 100 times. Every contender's n = 2 ensemble first meets two exact laws: of the
gap and of Σλ².
"""

import math
import statistics
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from accuracy import table
from jax import lax
from racing import Contender, goal, microseconds, race, ratio
from scipy.integrate import cumulative_trapezoid
from scipy.stats import kstest

import rqf_jax as rqf
from rqf_jax.theory import dyson

RATE, TIME, SAVES, EULER_STEPS = 0.5, 1.0, 100, 10
SIZES = ((8, 1024), (32, 1024), (128, 64))
GOALS = {8: 2.0, 32: 2.0, 128: 1.0}
"""How many times faster than NumPy."""
LAW_MEMBERS = 4096
JUMP, MATRIX = "rqf_jax, eigenvalues", "rqf_jax, matrices"
NUMPY, NUMPY32 = "NumPy", "NumPy, float32"
SCAN = "Euler on eigenvalues, `lax.scan`"
DIFFRAX, DIFFRAX_ONE = "diffrax, 10 steps a save", "diffrax, 1 step a save"
PEERS = (NUMPY, NUMPY32, SCAN, DIFFRAX, DIFFRAX_ONE)


class Ensemble(NamedTuple):
    """How much is simulated."""

    n: int
    members: int
    saves: int = SAVES

    @property
    def ts(self) -> np.ndarray:
        """The first `saves` of the save times, after 0."""
        return np.linspace(0, TIME, SAVES + 1)[: self.saves + 1]

    @property
    def start(self) -> np.ndarray:
        """Eigenvalues one apart about 0."""
        return np.arange(self.n) - (self.n - 1) / 2


def engine(size: Ensemble, route: str) -> Contender:
    """`rqf_jax.simulate`, with eigenvalues or whole matrices as its state; exact steps."""
    jump = route == JUMP
    law = rqf.laws.Fixed(size.start if jump else np.diag(size.start))
    save = {} if jump else {"save": rqf.observables.spectrum}
    model = rqf.models.dyson_eigenvalues if jump else rqf.models.dyson

    def call(number, g):
        runs = rqf.simulate(
            model(g, RATE),
            law,
            size.ts,
            substeps=1,
            members=size.members,
            key=jax.random.key(number),
            **save,
        )
        return runs.ys[:, 1:]

    return Contender(route, size.saves * size.members, call)


def numpy_loop(size: Ensemble, dtype: str) -> Contender:
    """The exact step and `numpy.linalg.eigvalsh` of the whole ensemble; normals are float32."""
    h = TIME / SAVES
    kept = math.exp(-RATE * h)
    spread = math.sqrt(-math.expm1(-2 * RATE * h) / (2 * RATE) / 2)

    def call(number, g):
        generator = np.random.Generator(np.random.SFC64(number))
        x = np.broadcast_to(np.diag(size.start).astype(dtype), (size.members, size.n, size.n))
        values = np.empty((size.members, size.saves, size.n), dtype)
        decay, scale = np.dtype(dtype).type(kept), np.dtype(dtype).type(g * spread)
        for k in range(size.saves):
            b = generator.standard_normal(x.shape, np.float32)
            x = decay * x + scale * (b + b.swapaxes(1, 2))
            values[:, k] = np.linalg.eigvalsh(x)
        return values

    return Contender(NUMPY if dtype == "f8" else NUMPY32, size.saves * size.members, call)


def euler_scan(size: Ensemble) -> Contender:
    """Explicit Euler on the eigenvalues, sorted after every step."""
    h = TIME / SAVES / EULER_STEPS
    start = jnp.asarray(size.start, jnp.float32)
    same = jnp.eye(size.n, dtype=bool)

    @jax.jit
    def run(key, g):
        def step(x, k):
            gaps = jnp.where(same, jnp.inf, x[:, :, None] - x[:, None, :])
            drift = g**2 * jnp.sum(1 / gaps, -1) - RATE * x
            noise = jax.random.normal(jax.random.fold_in(key, k), x.shape)
            return jnp.sort(x + h * drift + g * math.sqrt(2 * h) * noise, -1), None

        def save(x, k):
            x = lax.scan(step, x, k * EULER_STEPS + jnp.arange(EULER_STEPS))[0]
            return x, x

        x = jnp.broadcast_to(start, (size.members, size.n))
        return jnp.swapaxes(lax.scan(save, x, jnp.arange(size.saves))[1], 0, 1)

    def call(number, g):
        return run(jax.random.key(number), g)

    return Contender(SCAN, size.saves * size.members, call)


def plain_diffrax(size: Ensemble, steps: int) -> Contender:
    """vmap of `diffeqsolve` on matrices: Euler, a `VirtualBrownianTree`, `eigvalsh` at the saves.

    Where `size.saves` is less than all, on the Brownian tree of all of them.
    """
    h = TIME / SAVES / steps
    start, ts = (jnp.asarray(x, jnp.float32) for x in (np.diag(size.start), size.ts[1:]))
    shape = jax.ShapeDtypeStruct(start.shape, jnp.float32)

    @jax.jit
    def run(keys, g):
        def coefficient(t, x, args):
            return lineax.FunctionLinearOperator(lambda b: g / math.sqrt(2) * (b + b.T), shape)

        def one(key):
            path = diffrax.VirtualBrownianTree(0.0, TIME, h / 2, shape, key)
            terms = diffrax.MultiTerm(
                diffrax.ODETerm(lambda t, x, args: -RATE * x),
                diffrax.ControlTerm(coefficient, path),
            )
            save = diffrax.SaveAt(ts=ts, fn=lambda t, x, args: jnp.linalg.eigvalsh(x))
            return diffrax.diffeqsolve(
                terms, diffrax.Euler(), 0.0, ts[-1], h, start, saveat=save
            ).ys

        return jax.vmap(one)(keys)

    def call(number, g):
        return run(jax.random.split(jax.random.key(number), size.members), g)

    name = DIFFRAX_ONE if steps == 1 else DIFFRAX
    return Contender(name, size.saves * size.members, call)


def contenders(size: Ensemble, diffrax_saves: int) -> list[Contender]:
    """All ways; diffrax makes only the first few saves."""
    few = size._replace(saves=diffrax_saves)
    return [
        engine(size, JUMP),
        engine(size, MATRIX),
        numpy_loop(size, "f8"),
        numpy_loop(size, "f4"),
        euler_scan(size),
        plain_diffrax(few, EULER_STEPS),
        plain_diffrax(few, 1),
    ]


def check_laws(members: int = LAW_MEMBERS) -> list[dict]:
    """Kolmogorov and Smirnov's p of the gap and of Σλ² at the last time, n = 2."""
    size, results = Ensemble(2, members), []
    start = float(np.sum(size.start**2))
    grid = np.linspace(0, 12, 4001)
    density = dyson.gap_density(grid, TIME, 1.0, g=1.0, rate=RATE)
    cumulative = cumulative_trapezoid(density, grid, initial=0)
    for contender in contenders(size, SAVES):
        x = np.asarray(contender.call(0, 1.0)[:, -1], float)
        gap = kstest(x[:, 1] - x[:, 0], lambda s: np.interp(s, grid, cumulative))
        sums = np.sum(x**2, 1)
        square = kstest(
            sums,
            lambda p: dyson.square_sum_cdf(p, TIME, start, g=1.0, rate=RATE, n=2),
        )
        mean, variance = (
            moment(TIME, start, g=1.0, rate=RATE, n=2)
            for moment in (dyson.square_sum_mean, dyson.square_sum_variance)
        )
        results.append(
            {
                "name": contender.name,
                "gap": float(gap.pvalue),
                "square sum": float(square.pvalue),
                "mean": float((sums.mean() - mean) / math.sqrt(variance / members)),
            }
        )
    return results


def race_eigenvalues(rounds: int, sizes=SIZES, members: int = LAW_MEMBERS) -> dict:
    """The laws of all contenders, and their seconds for one member from save to save."""
    results = []
    laws = check_laws(members)
    for n, count in sizes:
        size = Ensemble(n, count)
        seconds = race(contenders(size, 10 if n <= 8 else 2), rounds)
        results.append({"size": [n, count], "seconds": seconds})
        jax.clear_caches()
    return {"laws": laws, "sizes": results}


def show_eigenvalues(result: dict) -> list[list[str]]:
    """Print the tables of `race_eigenvalues`; returns the goals."""
    passed = {
        law["name"]: min(law["gap"], law["square sum"]) > 1e-4 and abs(law["mean"]) < 5
        for law in result["laws"]
    }
    print("## Eigenvalues of random matrices\n")
    print(
        f"dH = −κ H dt + dN with κ = {RATE:g}, g = 1, β = 1, to T = {TIME:g} in {SAVES} saves. "
        "Laws at n = 2: p of Kolmogorov and Smirnov, and the mean of Σλ² in standard errors.\n"
    )
    rows = [
        [
            law["name"],
            f"{law['gap']:.2g}",
            f"{law['square sum']:.2g}",
            f"{law['mean']:+.1f}",
            "yes" if passed[law["name"]] else "**no**",
        ]
        for law in result["laws"]
    ]
    print(table(["", "p, gap", "p, Σλ²", "z, mean Σλ²", "right (p > 0.0001, |z| < 5)"], rows))
    sizes = [tuple(one["size"]) for one in result["sizes"]]
    print("\nMicroseconds for a member from save to save: median (fastest round).\n")
    rows = [
        [name, *(microseconds(one["seconds"][name]) for one in result["sizes"])] for name in passed
    ]
    print(table(["", *(f"n = {n}, {members} members" for n, members in sizes)], rows))
    goals, ratios = [], []
    for (n, _), one in zip(sizes, result["sizes"], strict=True):
        seconds = one["seconds"]
        own = min((JUMP, MATRIX), key=lambda name: statistics.median(seconds[name]))
        fast = {name: ratio(seconds[name], seconds[own]) for name in seconds if name != own}
        ratios.append([f"n = {n}", own, *(f"{fast[name]:.3g}" for name in PEERS)])
        goals.append(goal(f"eigenvalues, n = {n}, against {NUMPY}", GOALS.get(n, 1.0), fast[NUMPY]))
        goals.append(goal(f"eigenvalues, n = {n}, against {DIFFRAX}", 20, fast[DIFFRAX]))
    print()
    print(table(["times faster than", "rqf_jax's faster way", *PEERS], ratios))
    print(
        "\nNumPy's matrices are float64 and float32 with float32 normals; all others are float32. "
        "diffrax makes the first few saves, on the Brownian tree of all of them.\n"
    )
    return goals
