"""Speed on a GPU: fused kernels beside the scan, hand-written loops and diffrax.

    python benchmarks/gpu.py [--rounds 5] [--most 22] [--anywhere] [--json OUT]

Tables: contenders at 65,536 members, with a loop in torch (a CUDA graph) where torch sees the GPU;
members from 2¹⁰ to 2²² for the fused kernel, with normal numbers a second, where the states end up
(on the device, or as NumPy arrays on the host), and the same on this machine's CPU up to 2¹⁶, which
shows from which size on a GPU pays; the time of a gradient; the weak error of kernel and scan; and
memory. Contenders take turns, round after round. Without a GPU it stops, unless told to run
anywhere. What computes an interval is printed first, as `rqf_jax.explain` says it.
"""

import argparse
import json
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from accuracy import device_name, table, versions, weak_errors
from benchmark import SCAN, Size, engine, engine_with, hand_written_scan, plain_diffrax
from racing import Contender, microseconds, race, ratio

import rqf_jax as rqf

STEPS = 64
NORMALS = 12
"""Normal numbers a step and member in dimension 3: six pairs, of which nine numbers are used."""
MOST_ON_CPU = 16
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


def torch_loop(size: Size, steps: int) -> Contender | None:
    """x ← (1 - dQ) x, normalised, in torch: all steps as one CUDA graph; None without torch."""
    try:
        import torch  # pyright: ignore
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    start = torch.as_tensor(size.tokens_at_start(), device="cuda")
    scale = torch.ones((), device="cuda")
    x = start.clone()

    def run():
        x.copy_(start)
        for _ in range(steps):
            b = torch.randn(size.members, size.dim, size.dim, device="cuda")
            y = x - x @ ((b + b.mT) * scale)
            x.copy_(y * torch.rsqrt(torch.sum(y * y, -1, keepdim=True)))

    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()

    def call(number, sigma):
        scale.fill_(sigma * size.step**0.5 / 2)
        graph.replay()
        torch.cuda.synchronize()

    return Contender("torch, CUDA graph", steps, call)


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
            contenders += filter(None, [torch_loop(size, STEPS)])
        seconds = race(contenders, rounds)
        name = f"{'attention' if attention else 'noise'} {tuple(size)}"
        found[name] = seconds
        for other, times in seconds.items():
            slower = f"{ratio(times, seconds[FUSED]):.2f}"
            rows.append([name, other, microseconds(times), throughput(size, times), slower])
        jax.clear_caches()
    return rows, found


def on_the_cpu(contender: Contender) -> Contender:
    """The same on this machine's CPU."""

    def call(number, sigma):
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            return contender.call(number, sigma)

    return contender._replace(name="CPU", call=call)


def race_sizes(rounds: int, least: int, most: int) -> tuple[list[list[str]], dict]:
    """Rows of the second table."""
    rows, found = [], {}
    for power in range(least, most + 1, 2):
        size = Size(2**power, 8, 3)
        # Programs for every platform, as this one runs on two.
        device = switched(engine(size, STEPS), "device", "all")
        contenders = [device, on_the_host(device)]
        if power <= MOST_ON_CPU and jax.default_backend() != "cpu":
            contenders.append(on_the_cpu(device))
        seconds = race(contenders, rounds)
        found[str(size.members)] = seconds
        cells = [microseconds(times) for times in seconds.values()]
        cells += ["-"] * (3 - len(cells))
        fastest = float(np.median(seconds["device"]))
        normals = f"{size.members * NORMALS / fastest / 1e9:,.2f}"
        rows.append([f"2^{power}", *cells, throughput(size, seconds["device"]), normals])
        jax.clear_caches()
    return rows, found


def weigh(members: int) -> tuple[list[list[str]], dict]:
    """Rows of the fourth table: simulated less exact E r, P(r > 0) and E r²."""
    rows, found = [], {}
    for name, fused in ((FUSED, "1"), (XLA, "0")):
        os.environ["RQF_JAX_FUSED"] = fused
        for steps in (4, 16):
            sde = rqf.models.random_quadratic_form(1.0)
            solver = rqf.solvers.ProjectiveFlow()
            errors = weak_errors(sde, solver, steps, members, jax.random.key(steps))
            pairs = zip(errors.error, errors.stderr, strict=True)
            rows.append([name, str(steps), *(f"{e:.1e} ± {s:.0e}" for e, s in pairs)])
            found[f"{name}, {steps}"] = errors.error.tolist()
    return rows, found


def memory() -> tuple[list[list[str]], dict]:
    """Rows of the last table."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    found = {name: statistics[name] for name in ("peak_bytes_in_use",) if name in statistics}
    return [[name, f"{value / 1e6:,.0f}"] for name, value in found.items()], found


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
    parser.add_argument("--samples", type=int, default=2**20, help="members for weak errors")
    parser.add_argument("--anywhere", action="store_true", help="run without a GPU too")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    if jax.default_backend() != "gpu" and not options.anywhere:
        parser.exit(2, "JAX sees no GPU; pass --anywhere to run on what there is\n")
    started = time.perf_counter()
    print(f"{device_name()}; {versions()}; {STEPS} steps a save interval\n")
    for sde in (rqf.models.random_quadratic_form(1.0), rqf.models.noisy_attention(1.0, 1.0)):
        print(rqf.explain(sde, rqf.laws.Uniform(8, 3)))
    found = {}
    for title, head, make in (
        (
            "contenders",
            ["", "", "µs a step (fastest)", "M token steps/s", "times slower"],
            lambda: race_contenders(options.rounds, options.members),
        ),
        (
            "members",
            [
                *("members of 8 tokens", "µs a step, device", "to the host", "on the CPU"),
                *("M token steps/s", "G normals/s"),
            ],
            lambda: race_sizes(options.rounds, options.least, options.most),
        ),
        (
            "gradient",
            ["", "µs a step (fastest)"],
            lambda: race_gradient(options.rounds, options.members),
        ),
        (
            "weak error",
            ["", "steps", "E r", "P(r > 0)", "E r²"],
            lambda: weigh(options.samples),
        ),
        ("memory", ["", "MB"], memory),
    ):
        rows, found[title] = make()
        print(table(head, rows), "\n", flush=True)
    print(f"{time.perf_counter() - started:.0f} s in all")
    if options.json:
        facts = {"device": device_name(), "versions": versions(), "seconds": found}
        options.json.write_text(json.dumps(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
