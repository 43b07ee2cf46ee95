"""What more cores and more devices bring, and what a run costs beside its compiled program.

    python benchmarks/scaling.py [--rounds 3] [--seconds 4]

Cores: the same work by one process that may use one core, or two. Devices: a CPU passed off as 1,
2, 4 and 8 devices, with twice the members where there are twice the devices; on the same cores a
second then brings the same number of members if sharing them costs nothing. Settings take turns,
each in a process of its own, timed after compilation. Run: `configs/million.toml` by
`rqf_jax.runs.session`, summaries and writing included, over its calls of the compiled program, in
processor time. Prints markdown tables.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest import mock

CONFIG = Path(__file__).parents[1] / "configs" / "million.toml"
SIZES = {"N = 8, n = 3": (8, 3), "N = 32, n = 16": (32, 16), "N = 64, n = 64": (64, 64)}
DEVICES = (1, 2, 4, 8)
BATCH_NUMBERS = 2**18
TIMES, SUBSTEPS = 5, 4


def throughput(tokens: int, dim: int, seconds: float) -> float:
    """Members a second of a compiled program on all devices of this process."""
    import jax
    import jax.numpy as jnp

    import rqf_jax as rqf
    from rqf_jax._ensemble.problem import Problem
    from rqf_jax._ensemble.program import Program
    from rqf_jax.runs.problem import Save

    sde, law = rqf.models.random_quadratic_form(1.0), rqf.laws.Uniform(tokens, dim)
    ts = jnp.linspace(0.0, 0.1 * SUBSTEPS * TIMES / dim, TIMES)
    problem = Problem(
        sde,
        law,
        ts,
        jax.random.key(0),
        Save((("polar_order", rqf.observables.polar_order),)),
        SUBSTEPS,
    )
    program = Program(problem, max(8, BATCH_NUMBERS // (dim * (tokens + dim))), jax.local_devices())
    program(problem, 0, program.members)
    done, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        program(problem, done, program.members)
        done += program.members
    return done / elapsed


def child(name: str, cores: int, devices: int, seconds: float) -> float:
    """`throughput` in a process of its own, which may use so many cores."""
    code = (
        f"import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}]); "
        f"import scaling; print(scaling.throughput(*{SIZES[name]}, {seconds}))"
    )
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
    folder = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, check=True
    )
    return json.loads(done.stdout)


def spread(values: list[float]) -> str:
    """Median, with the smallest and the largest."""
    return f"{median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def ratios(some: list[float], others: list[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(some, others, strict=True)]


def race_cores(rounds: int, seconds: float) -> list[list[str]]:
    """A row for each size: members a second on one core and on two, and their ratio."""
    settings = [(1, 1), (2, 1), (2, 2)]
    found = {(name, *s): [] for name in SIZES for s in settings}
    for _ in range(rounds):
        for name, cores, devices in found:
            found[name, cores, devices].append(child(name, cores, devices, seconds))
    rows = []
    for name in SIZES:
        one, *others = (found[name, *setting] for setting in settings)
        rows.append([name, spread(one), *(spread(ratios(other, one)) for other in others)])
    return rows


def race_devices(rounds: int, seconds: float) -> list[list[str]]:
    """A row for each number of devices: members a second on two cores, and over two devices."""
    name = next(iter(SIZES))
    found = {devices: [] for devices in DEVICES}
    for _ in range(rounds):
        for devices in DEVICES:
            found[devices].append(child(name, 2, devices, seconds))
    return [
        [str(devices), spread(rates), spread(ratios(rates, found[2]))]
        for devices, rates in found.items()
    ]


def race_run(rounds: int) -> list[list[str]]:
    """Processor seconds of a run, and of its calls of the compiled program within it."""
    from rich.console import Console

    from rqf_jax._ensemble.program import Program
    from rqf_jax.runs import config, ensemble as runs, session

    quiet, read, call = Console(quiet=True), config.read(CONFIG), Program.__call__
    found: dict[str, list[float]] = {"program": [], "run": []}
    inside = 0.0

    def timed(*arguments):
        nonlocal inside
        start = time.process_time()
        result = call(*arguments)
        inside += time.process_time() - start
        return result

    with mock.patch.object(Program, "__call__", timed):
        for number in range(rounds + 1):
            with tempfile.TemporaryDirectory() as folder:
                job, out = runs.EnsembleJob.of(read), Path(folder) / "run.zarr"
                start, inside = time.process_time(), 0.0
                session.carry_out(job, out, force=False, console=quiet)
                if number:  # the first one compiles
                    found["program"].append(inside)
                    found["run"].append(time.process_time() - start)
    return [
        [name, spread(seconds), spread(ratios(seconds, found["program"]))]
        for name, seconds in found.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    options = parser.parse_args(arguments)
    # Imported here, as it starts JAX in this process, and children choose their own devices.
    from accuracy import device_name, table, versions

    load = os.getloadavg()[0]
    print(f"{device_name()}, {os.cpu_count()} cores, load average {load:.1f}; {versions()}\n")
    print("Median over rounds, the extremes in brackets.\n")
    head = [
        "tokens",
        "members a second, one core",
        "two cores over one",
        "two devices over one core",
    ]
    print(table(head, race_cores(options.rounds, options.seconds)) + "\n")
    head = ["devices on two cores", "members a second", "over two devices"]
    print(table(head, race_devices(options.rounds, options.seconds)) + "\n")
    head = [f"{CONFIG.name}", "CPU seconds", "over the program"]
    print(table(head, race_run(options.rounds)))


if __name__ == "__main__":
    main()
