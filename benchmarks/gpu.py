"""Speed on a GPU: fused kernels beside the scan, a hand-written loop and diffrax.

    python benchmarks/gpu.py [--rounds 5] [--most 22] [--anywhere] [--json OUT]

Three tables: contenders at 65,536 members; members from 2¹⁰ to 2²² for the fused kernel, with where
the states end up (on the device, or as NumPy arrays on the host); and the time of a gradient.
Contenders take turns, round after round. Without a GPU it stops, unless told to run anywhere.
"""

import argparse
import json
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from accuracy import device_name, table, versions
from benchmark import SCAN, Size, engine, engine_with, hand_written_scan, plain_diffrax
from racing import Contender, microseconds, race, ratio

import rqf_jax as rqf

STEPS = 64
FUSED, XLA = "fused kernel", "scan of the engine"


def switched(contender: Contender, name: str, fused: str) -> Contender:
    """An engine's contender with kernels on or off."""

    def call(number, sigma):
        os.environ["RQF_JAX_FUSED"] = fused
        return contender.call(number, sigma)

    return Contender(name, contender.steps, call)


def on_the_host(contender: Contender) -> Contender:
    """The same, whose result is brought to the host."""
    return contender._replace(
        name="host", call=lambda number, sigma: np.asarray(contender.call(number, sigma))
    )


def throughput(size: Size, seconds: list[float]) -> str:
    """Millions of token steps a second."""
    return f"{size.members * size.tokens / np.median(seconds) / 1e6:,.0f}"


def race_contenders(rounds: int, members: int) -> tuple[list[list[str]], dict]:
    """Rows of the first table."""
    rows, found = [], {}
    for tokens, attention in ((2, False), (8, False), (2, True), (8, True)):
        size = Size(members, tokens, 3)
        ours = engine(size, STEPS)
        if attention:
            ours = engine_with(rqf.drifts.Attention(1.0), size, STEPS, FUSED)
        contenders = [
            switched(ours, FUSED, "1"),
            switched(ours, XLA, "0"),
            plain_diffrax(size, STEPS, size.step, attention),
        ]
        if not attention:
            contenders.insert(2, hand_written_scan(size, STEPS)._replace(name=SCAN))
        seconds = race(contenders, rounds)
        name = f"{'attention' if attention else 'noise'} {tuple(size)}"
        found[name] = seconds
        for other, times in seconds.items():
            slower = f"{ratio(times, seconds[FUSED]):.2f}"
            rows.append([name, other, microseconds(times), throughput(size, times), slower])
        jax.clear_caches()
    return rows, found


def race_sizes(rounds: int, least: int, most: int) -> tuple[list[list[str]], dict]:
    """Rows of the second table."""
    rows, found = [], {}
    for power in range(least, most + 1, 2):
        size = Size(2**power, 8, 3)
        device = switched(engine(size, STEPS), "device", "1")
        seconds = race([device, on_the_host(device)], rounds)
        found[str(size.members)] = seconds
        cells = [microseconds(times) for times in seconds.values()]
        rows.append([f"2^{power}", *cells, throughput(size, seconds["device"])])
        jax.clear_caches()
    return rows, found


def race_gradient(rounds: int, members: int) -> tuple[list[list[str]], dict]:
    """Rows of the third table: the mean of an overlap, and its derivative."""
    law, ts = rqf.laws.Uniform(8, 3), [0.0, STEPS * 0.03]

    def loss(sigma, key):
        sde = rqf.models.noisy_attention(1.0, sigma)
        runs = rqf.simulate(sde, law, ts, substeps=STEPS, members=members, key=key, throw=False)
        return jnp.mean(runs.ys[:, -1, 0] * runs.ys[:, -1, 1])

    contenders = [
        Contender("value", STEPS, lambda n, s: loss(s, jax.random.key(n))),
        Contender("value and gradient", STEPS, lambda n, s: gradient(s, jax.random.key(n))),
    ]
    gradient = jax.jit(jax.value_and_grad(loss))
    seconds = race(contenders, rounds)
    return [[name, microseconds(times)] for name, times in seconds.items()], seconds


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, and write the times as JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--members", type=int, default=65_536)
    parser.add_argument("--least", type=int, default=10, help="members from 2 to this power")
    parser.add_argument("--most", type=int, default=22, help="members to 2 to this power")
    parser.add_argument("--anywhere", action="store_true", help="run without a GPU too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if jax.default_backend() != "gpu" and not options.anywhere:
        parser.exit(2, "JAX sees no GPU; pass --anywhere to run on what there is\n")
    started = time.perf_counter()
    print(f"{device_name()}; {versions()}; {STEPS} steps a save interval\n")
    found = {}
    for title, head, make in (
        (
            "contenders",
            ["", "", "µs a step (fastest)", "M token steps/s", "times slower"],
            lambda: race_contenders(options.rounds, options.members),
        ),
        (
            "members",
            ["members of 8 tokens", "µs a step, device", "to the host", "M token steps/s"],
            lambda: race_sizes(options.rounds, options.least, options.most),
        ),
        (
            "gradient",
            ["", "µs a step (fastest)"],
            lambda: race_gradient(options.rounds, options.members),
        ),
    ):
        rows, found[title] = make()
        print(table(head, rows), "\n", flush=True)
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.json:
        facts = {"device": device_name(), "versions": versions(), "seconds": found}
        options.json.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
