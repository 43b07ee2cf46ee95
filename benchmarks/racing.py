"""How the benchmarks time contenders, and the verdicts they print."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax


class Contender(NamedTuple):
    """One way to make `steps` steps: a function of the number of the call and of sigma."""

    name: str
    steps: int
    call: Callable[[int, float], object]


def race(
    contenders: list[Contender], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds a step of every contender in every round.

    On a machine with other work `time.process_time`, the seconds of all of the process's threads,
    says more.
    """
    seconds = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            start = clock()
            jax.block_until_ready(contender.call(number, 1 + number * 1e-6))
            elapsed = clock() - start
            if number > 0:  # the first call compiles
                seconds[contender.name].append(elapsed / contender.steps)
    return seconds


def ratio(slow: list[float], fast: list[float]) -> float:
    """How many times faster, round by round."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def microseconds(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e6:.4g} ({min(seconds) * 1e6:.4g})"


def goal(what: str, least: float, measured: float) -> list[str]:
    return [what, f"≥ {least:g}", f"{measured:.3g}", "yes" if measured >= least else "**no**"]
