"""Speed of the engine beside NumPy, a hand-written scan and diffrax, in one process.

    python benchmarks/benchmark.py [--rounds 7] [--sizes 4096x2x3 ...]
                                [--only steps attention gradients eigenvalues fits accuracy]
                                [--samples 1048576] [--json OUT]

Contenders take turns, round after round, so that other work on the machine hits all of them; a
time is the median over rounds, a ratio the median of the ratios within a round. Every call gets a
new key and a new sigma, and is timed after compilation from the Python call to finished arrays.
"""

import argparse
import datetime
import json
import os
import statistics
from pathlib import Path
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from accuracy import (
    DIM,
    OVERLAP,
    TIME,
    device_name,
    exact,
    overlap,
    table,
    versions,
    weak_errors,
)
from eigenvalues import race_eigenvalues, show_eigenvalues
from fits import race_fits, show_fits
from gradients import race_gradients, show_gradients
from jax import lax
from jaxtyping import Array, Float
from racing import Contender, goal, microseconds, race, ratio

import rqf_jax as rqf

CONTROL = 0.1
"""n h σ²: as many steps of a size as its dynamics asks for, not one step length for all."""
DIFFRAX_STEPS = 8
ENGINE, NUMPY, SCAN, DIFFRAX = "engine", "NumPy", "scan", "diffrax"
OVERLAPS, SPAN = "engine, overlaps only", "engine, tokens in their span"
ATTENTION, PRODUCTS, NOISE = "attention + noise", "two products + noise", "noise alone"
PARTS = ("steps", "attention", "gradients", "eigenvalues", "fits", "accuracy")
BETA = 1.0
BIAS, ACCURACY_MEMBERS = 1e-3, 4096


class Size(NamedTuple):
    """How much is simulated."""

    members: int
    tokens: int
    dim: int

    @classmethod
    def parse(cls, text: str) -> "Size":
        """`4096x2x3` is 4096 members of 2 tokens in dimension 3."""
        return cls(*(int(part) for part in text.split("x")))

    @property
    def steps(self) -> int:
        """How many steps make a tenth to half a second on two cores."""
        numbers = self.members * self.dim * (self.dim + self.tokens)
        return min(8192, max(8, 2**26 // numbers))

    @property
    def step(self) -> float:
        """The step length h."""
        return CONTROL / self.dim

    @property
    def tall(self) -> bool:
        """Few tokens in a high dimension, where there is more than one way to simulate."""
        return self.dim >= 8 * self.tokens

    def tokens_at_start(self) -> Float[np.ndarray, "members tokens dim"]:
        """Independent uniform tokens."""
        x = np.random.default_rng(0).standard_normal(self, np.float32)
        return x / np.linalg.norm(x, axis=-1, keepdims=True)


SIZES = (
    Size(4096, 2, 3),
    Size(4096, 8, 3),
    Size(1024, 32, 16),
    Size(256, 64, 64),
    Size(1, 32, 768),
)
ATTENTION_SIZES = SIZES[1:4]


class AmbientNoise(rqf.noises.AbstractNoise):
    """-P_X dQ X written in flat space, as a user of diffrax would."""

    sigma: Float[Array, ""]

    def shape(self, x):
        """(dim, dim)."""
        return (x.shape[-1], x.shape[-1])

    def __call__(self, t, x, dw):
        """The displacement of every token."""
        q = (self.sigma / 2) * (dw + dw.T)
        moved = jnp.sum(x[:, None, :] * q[None, :, :], axis=-1)
        return x * jnp.sum(x * moved, axis=-1, keepdims=True) - moved

    def calculus(self, manifold):
        """The noise depends on the state."""
        return rqf.noises.Calculus.STRATONOVICH


class Products(rqf.drifts.AbstractDrift):
    """x (xᵀ x) for every token: the two products of attention without its exponentials."""

    def __call__(self, t, x):
        """The scores times the tokens, in the engine's own way of small products."""
        if x.shape[-1] > 4:
            scores = jnp.matmul(x, x.T, precision="highest")
            return jnp.matmul(scores, x, precision="highest")
        columns = [x[:, k] for k in range(x.shape[-1])]
        scores = sum(column[:, None] * column[None, :] for column in columns)
        mean = [sum(scores[:, j] * c[j] for j in range(x.shape[0])) for c in columns]
        return jnp.stack(mean, axis=-1)


def engine(size: Size, steps: int) -> Contender:
    """`rqf_jax.simulate` as a user calls it, default solver."""
    law, ts = rqf.laws.Uniform(size.tokens, size.dim), jnp.array([0.0, steps * size.step])

    def call(number, sigma):
        sde = rqf.models.random_quadratic_form(sigma)
        key = jax.random.key(number)
        return rqf.simulate(sde, law, ts, substeps=steps, members=size.members, key=key).ys

    return Contender(ENGINE, steps, call)


def engine_overlaps(size: Size) -> Contender:
    """The same overlaps in dimension N instead of n."""
    law = rqf.laws.InSpan(rqf.laws.Uniform(size.tokens, size.dim))
    steps = Size(size.members, size.tokens, size.tokens).steps
    ts = jnp.array([0.0, steps * size.step])

    def call(number, sigma):
        sde = rqf.models.random_quadratic_form(sigma)
        return rqf.simulate(
            sde,
            law,
            ts,
            substeps=steps,
            members=size.members,
            key=jax.random.key(number),
            save=rqf.observables.overlaps,
        ).ys

    return Contender(OVERLAPS, steps, call)


def engine_span(size: Size, steps: int) -> Contender:
    """Whole states from (N + n) N normals a step."""
    law, ts = rqf.laws.Uniform(size.tokens, size.dim), jnp.array([0.0, steps * size.step])

    def call(number, sigma):
        noise = rqf.noises.SpanNoise(symmetric=sigma, antisymmetric=0.0)
        sde = rqf.SDE(rqf.drifts.NoDrift(), noise, rqf.manifolds.Sphere())
        key = jax.random.key(number)
        return rqf.simulate(sde, law, ts, substeps=steps, members=size.members, key=key).ys

    return Contender(SPAN, steps, call)


def engine_with(drift, size: Size, steps: int, name: str) -> Contender:
    """A drift beside the noise, as the default solver splits it."""
    law, ts = rqf.laws.Uniform(size.tokens, size.dim), jnp.array([0.0, steps * size.step])

    def call(number, sigma):
        sde = rqf.SDE(drift, rqf.noises.IsotropicNoise(sigma, 0.0), rqf.manifolds.Sphere())
        key = jax.random.key(number)
        return rqf.simulate(sde, law, ts, substeps=steps, members=size.members, key=key).ys

    return Contender(name, steps, call)


def numpy_loop(size: Size, steps: int) -> Contender:
    """x ← (1 - dQ) x, normalised, with NumPy's fastest generator and a batched product."""
    start, increments = size.tokens_at_start(), np.empty((size.members, size.dim, size.dim), "f4")

    def call(number, sigma):
        generator = np.random.Generator(np.random.SFC64(number))
        scale = np.float32(sigma * np.sqrt(size.step) / 2)
        x = start
        for _ in range(steps):
            generator.standard_normal(out=increments, dtype=np.float32)
            y = x - x @ ((increments + increments.swapaxes(-1, -2)) * scale)
            x = y / np.sqrt(np.sum(y * y, axis=-1, keepdims=True))
        return x

    return Contender(NUMPY, steps, call)


def hand_written_scan(size: Size, steps: int) -> Contender:
    """The same step in a jitted `lax.scan` with `jax.random.normal`."""
    start = jnp.asarray(size.tokens_at_start())

    @jax.jit
    def run(x, key, sigma):
        def step(x, i):
            b = jax.random.normal(jax.random.fold_in(key, i), (size.members, size.dim, size.dim))
            y = x - x @ ((b + b.swapaxes(-1, -2)) * (sigma * size.step**0.5 / 2))
            return y * lax.rsqrt(jnp.sum(y * y, axis=-1, keepdims=True)), None

        return lax.scan(step, x, jnp.arange(steps))[0]

    return Contender(SCAN, steps, lambda number, sigma: run(start, jax.random.key(number), sigma))


def plain_diffrax(size: Size, steps: int, step: float, attention: bool = False) -> Contender:
    """vmap of `diffeqsolve` with a `VirtualBrownianTree` and `Heun`, with or without attention.

    Only the first few of the `steps` are made, on the Brownian tree of all of them.
    """
    start = jnp.asarray(size.tokens_at_start())
    made = min(DIFFRAX_STEPS, steps)
    shape = jax.ShapeDtypeStruct((size.dim, size.dim), jnp.float32)

    @jax.jit
    def run(x, keys, sigma):
        def coefficient(t, x, args):
            def displacement(db):
                moved = x @ ((sigma / 2) * (db + db.T))
                return x * jnp.sum(x * moved, axis=-1, keepdims=True) - moved

            return lineax.FunctionLinearOperator(displacement, shape)

        def velocity(t, x, args):
            mean = jax.nn.softmax(BETA * (x @ x.T), axis=-1) @ x
            return mean - x * jnp.sum(x * mean, axis=-1, keepdims=True)

        def one(x, key):
            path = diffrax.VirtualBrownianTree(0.0, steps * step, step / 2, shape, key)
            term, solver = diffrax.ControlTerm(coefficient, path), diffrax.Heun()
            if attention:
                term = diffrax.MultiTerm(diffrax.ODETerm(velocity), term)
            return diffrax.diffeqsolve(term, solver, 0.0, made * step, step, x).ys[0]

        return jax.vmap(one)(x, keys)

    def call(number, sigma):
        return run(start, jax.random.split(jax.random.key(number), size.members), sigma)

    return Contender(DIFFRAX, made, call)


def race_steps(sizes: list[Size], rounds: int) -> list[dict]:
    """The same number of steps of every contender."""
    results = []
    for size in sizes:
        contenders = [
            engine(size, size.steps),
            numpy_loop(size, size.steps),
            hand_written_scan(size, size.steps),
            plain_diffrax(size, size.steps, size.step),
        ]
        if size.tall:
            contenders += [engine_overlaps(size), engine_span(size, size.steps)]
        seconds = race(contenders, rounds)
        steps = {contender.name: contender.steps for contender in contenders}
        results.append({"size": list(size), "steps": steps, "seconds_per_step": seconds})
        jax.clear_caches()
    return results


def race_attention(rounds: int, sizes=ATTENTION_SIZES) -> list[dict]:
    """What softmax attention costs beside the noise, and beside its two products alone."""
    results = []
    for size in sizes:
        steps = max(8, size.steps // 4)
        contenders = [
            engine(size, steps)._replace(name=NOISE),
            engine_with(Products(), size, steps, PRODUCTS),
            engine_with(rqf.drifts.Attention(BETA), size, steps, ATTENTION),
            plain_diffrax(size, steps, size.step, attention=True),
        ]
        seconds = race(contenders, rounds)
        results.append({"size": list(size), "steps": steps, "seconds_per_step": seconds})
        jax.clear_caches()
    return results


def race_to_accuracy(rounds: int, samples: int) -> dict:
    """Seconds until the bias of E r² at the final time is below `BIAS`."""
    sde = rqf.models.random_quadratic_form(1.0)
    ambient = AmbientNoise(jnp.asarray(1.0))
    flat = rqf.SDE(rqf.drifts.NoDrift(), ambient, rqf.manifolds.Euclidean())

    def squared_overlap_error(sde, solver, steps):
        errors = weak_errors(sde, solver, steps, samples, jax.random.key(steps))
        return float(errors.error[2]), float(errors.stderr[2]), errors.lost

    engine_bias = {}
    for engine_steps in (4, 8, 16):
        bias = squared_overlap_error(sde, rqf.solvers.ProjectiveFlow(), engine_steps)
        engine_bias[engine_steps] = bias
        if abs(bias[0]) <= BIAS:
            break
    heun_bias = {steps: squared_overlap_error(flat, diffrax.Heun(), steps) for steps in (128, 256)}
    # Weak order 1: least squares of bias = slope · h through the origin.
    lengths = {steps: TIME / steps for steps in heun_bias}
    moments = sum(heun_bias[steps][0] * h for steps, h in lengths.items())
    slope = moments / sum(h * h for h in lengths.values())
    heun_steps = max(1, int(np.ceil(TIME * abs(slope) / BIAS)))

    law, ts = rqf.laws.Pair(np.arccos(OVERLAP), DIM), jnp.array([0.0, TIME])

    def solve(number, sigma):
        return rqf.simulate(
            rqf.models.random_quadratic_form(sigma),
            law,
            ts,
            substeps=engine_steps,
            members=ACCURACY_MEMBERS,
            key=jax.random.key(number),
            save=overlap,
        ).ys

    size = Size(ACCURACY_MEMBERS, 2, DIM)
    contenders = [
        Contender(ENGINE, engine_steps, solve),
        plain_diffrax(size, heun_steps, TIME / heun_steps),
    ]
    seconds = race(contenders, rounds)
    return {
        "exact": float(exact()[2]),
        "samples": samples,
        "engine_bias": engine_bias,
        "heun_bias": heun_bias,
        "steps": {ENGINE: engine_steps, DIFFRAX: heun_steps},
        "seconds": {
            ENGINE: [engine_steps * s for s in seconds[ENGINE]],
            DIFFRAX: [heun_steps * s for s in seconds[DIFFRAX]],
        },
    }


def show_steps(results: list[dict]) -> list[list[str]]:
    """Print the tables of `race_steps`; returns the goals."""
    rows, extra, goals = [], [], []
    for result in results:
        size, seconds = Size(*result["size"]), result["seconds_per_step"]
        name = f"({size.members}, {size.tokens}, {size.dim})"
        best = min((NUMPY, SCAN), key=lambda peer: statistics.median(seconds[peer]))
        against_best = ratio(seconds[best], seconds[ENGINE])
        against_diffrax = ratio(seconds[DIFFRAX], seconds[ENGINE])
        throughput = size.members * size.tokens / statistics.median(seconds[ENGINE])
        times = [microseconds(seconds[peer]) for peer in (ENGINE, NUMPY, SCAN, DIFFRAX)]
        ratios = [f"{against_best:.3g}", f"{against_diffrax:.3g}"]
        rows.append([name, str(result["steps"][ENGINE]), *times, f"{throughput:.2e}", *ratios])
        least = 3 if size.dim == 3 else 1.5
        goals.append(goal(f"{name} against the best of NumPy and scan", least, against_best))
        goals.append(goal(f"{name} against diffrax", 20, against_diffrax))
        for variant in (OVERLAPS, SPAN):
            if variant in seconds:
                faster = ratio(seconds[SCAN], seconds[variant])
                cells = [str(result["steps"][variant]), microseconds(seconds[variant])]
                extra.append([name, variant, *cells, f"{faster:.3g}"])
                if variant == OVERLAPS:
                    goals.append(goal(f"{name} overlaps only, against the scan", 100, faster))
    print("## Equal number of steps\n")
    print("Microseconds a step: median (fastest round).\n")
    times = [f"{peer} µs" for peer in (ENGINE, NUMPY, SCAN, DIFFRAX)]
    head = ["(members, tokens, dim)", "steps", *times, "engine member·token·step/s"]
    print(table([*head, "times faster than best of NumPy, scan", "than diffrax"], rows))
    print(
        f"\nThe engine makes steps of weak order 2 (ProjectiveFlow); NumPy and the scan make "
        f"x ← normalise(x − dQ x). diffrax is timed over the first {DIFFRAX_STEPS} of the steps, "
        "on the Brownian tree of all of them.\n"
    )
    if extra:
        print("## Few tokens in a high dimension\n")
        head = ["(members, tokens, dim)", "way", "steps", "µs", "times faster than the scan"]
        print(table(head, extra))
        print()
    return goals


def show_attention(results: list[dict]) -> list[list[str]]:
    """Print the table of `race_attention`; returns the goals."""
    rows, goals = [], []
    for result in results:
        size, seconds = Size(*result["size"]), result["seconds_per_step"]
        name = f"({size.members}, {size.tokens}, {size.dim})"
        model = ratio(seconds[ATTENTION], seconds[PRODUCTS])
        against_diffrax = ratio(seconds[DIFFRAX], seconds[ATTENTION])
        times = [microseconds(seconds[way]) for way in (NOISE, PRODUCTS, ATTENTION, DIFFRAX)]
        ratios = [f"{model:.3g}", f"{against_diffrax:.3g}"]
        rows.append([name, str(result["steps"]), *times, *ratios])
        measured = f"{model:.3g}"
        goals.append(
            [
                f"{name} attention over two products",
                "≤ 1.3",
                measured,
                "yes" if model <= 1.3 else "**no**",
            ]
        )
        goals.append(goal(f"{name} attention against diffrax", 20, against_diffrax))
    print("## Attention\n")
    print("Microseconds a step: median (fastest round).\n")
    times = [f"{way} µs" for way in (NOISE, PRODUCTS, ATTENTION, DIFFRAX)]
    head = ["(members, tokens, dim)", "steps", *times]
    print(table([*head, "attention over two products", "times faster than diffrax"], rows))
    print(
        "\nThe default solver evaluates the drift once a step, for weak order 2; diffrax's Heun "
        "evaluates it twice, for weak order 1.\n"
    )
    return goals


def show_accuracy(result: dict) -> list[list[str]]:
    """Print the table of `race_to_accuracy`; returns the goal."""
    bias, steps, seconds = result["heun_bias"], result["steps"], result["seconds"]
    rows = [
        [
            peer,
            str(steps[peer]),
            f"{statistics.median(seconds[peer]):.4g}",
            f"{min(seconds[peer]):.4g}",
        ]
        for peer in (ENGINE, DIFFRAX)
    ]
    print("## Time to accuracy\n")
    print(
        f"Seconds for {ACCURACY_MEMBERS} members with a bias of at most {BIAS:g} in E r² = "
        f"{result['exact']:.4f} (N = 2, n = {DIM}, r(0) = {OVERLAP}, T = {TIME:g}).\n"
    )
    print(table(["", "steps", "seconds, median", "fastest"], rows))
    measured = "; ".join(
        f"{name} {count} steps {error:+.5f} ± {deviation:.5f}"
        + (f" ({lost} members not finite, left out)" if lost else "")
        for name, biases in (("ProjectiveFlow", result["engine_bias"]), ("Heun", bias))
        for count, (error, deviation, lost) in biases.items()
    )
    print(
        f"\nBias measured with {result['samples']} members: {measured}. The number of Heun steps "
        f"is extrapolated from these at weak order 1; the seconds of diffrax are scaled from the "
        f"first {DIFFRAX_STEPS} steps, on the Brownian tree of all of them. Heun is diffrax's, "
        "without renormalising between steps; r is the cosine of the final vectors.\n"
    )
    return [goal("time to accuracy against diffrax", 500, ratio(seconds[DIFFRAX], seconds[ENGINE]))]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--sizes", type=Size.parse, nargs="+", default=SIZES, metavar="MxNxD")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=PARTS,
    )
    parser.add_argument("--samples", type=int, default=2**20, help="members behind a measured bias")
    parser.add_argument("--json", type=Path, help="write all times to this file too")
    options = parser.parse_args(arguments)

    header = {
        "date": datetime.date.today().isoformat(),
        "device": device_name(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "versions": versions(),
        "rounds": options.rounds,
    }
    print("# Speed\n")
    print(
        f"{header['date']}; {header['device']}, {header['cores']} CPU cores (load average "
        f"{header['load']} at the start); {header['versions']}; float32, n h σ² = {CONTROL:g}, "
        f"{options.rounds} interleaved rounds; NumPy on the CPU.\n"
    )
    results, goals = {"header": header}, []
    if "steps" in options.only:
        results["steps"] = race_steps(options.sizes, options.rounds)
        goals += show_steps(results["steps"])
    if "attention" in options.only:
        results["attention"] = race_attention(options.rounds)
        goals += show_attention(results["attention"])
    if "gradients" in options.only:
        results["gradients"] = race_gradients(options.rounds, ATTENTION_SIZES)
        goals += show_gradients(results["gradients"])
    if "eigenvalues" in options.only:
        results["eigenvalues"] = race_eigenvalues(options.rounds)
        goals += show_eigenvalues(results["eigenvalues"])
    if "fits" in options.only:
        results["fits"] = race_fits(options.rounds)
        goals += show_fits(results["fits"])
    if "accuracy" in options.only:
        results["accuracy"] = race_to_accuracy(options.rounds, options.samples)
        goals += show_accuracy(results["accuracy"])
    print("## Goals\n")
    print(table(["times faster", "goal", "measured", "met"], goals))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
