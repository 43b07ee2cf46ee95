"""Fused kernels beside the engine's scan and beside numba, in one process.

    python benchmarks/fused.py [--rounds 7] [--sizes 4096x2x3 4096x8x3 ...] [--json OUT]

The numba kernel is what an expert writes by hand: members in parallel over all cores, xorshift
numbers and Box-Muller in registers, one Euler step with 6 normals where the library takes 12 and a
step of weak order 2. Contenders take turns, round after round; a time is the median over rounds, a
ratio the median of the ratios within a round. Processor time adds up all cores, and is the fairer
of the two on a machine that does other work.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import jax
import numba
import numpy as np
from accuracy import device_name, table, versions
from benchmark import SIZES, Size
from racing import Contender, microseconds, race, ratio

import rqf_jax as rqf

FUSED, SCAN, NUMBA = "fused", "scan", "numba"
BETA = np.float32(1)
ONE = np.float32(1)


@numba.njit(inline="always")
def _turn(word, places):
    return (word << np.uint64(places)) | (word >> np.uint64(64 - places))


@numba.njit(parallel=True, fastmath=True)
def by_numba(x, steps, h, sigma, attention, seed):
    """Euler steps of dX = P_X [v dt - dQ X], normalised, of every member of `x`, in place."""
    members, tokens, dim = x.shape
    pairs = (dim * (dim + 1) // 2 + 1) // 2
    scale, half = np.float32(math.sqrt(h)) * sigma, np.float32(math.sqrt(0.5))
    unit, angle = np.float32(2.0**-32), np.float32(2 * math.pi * 2.0**-32)
    for member in numba.prange(members):
        a = np.uint64(member * 0x9E3779B97F4A7C15 + seed)
        b = np.uint64(member * 0xBF58476D1CE4E5B9 + 1)
        q = np.empty((dim, dim), np.float32)
        normals = np.empty(2 * pairs, np.float32)
        bits = np.empty(2 * pairs, np.uint32)
        moved = np.empty((tokens, dim), np.float32)
        for _ in range(steps):
            for k in range(pairs):
                sum_ = a + b
                b ^= a
                a = _turn(a, 24) ^ b ^ (b << np.uint64(16))
                b = _turn(b, 37)
                bits[k] = np.uint32(sum_ >> np.uint64(32))
                bits[pairs + k] = np.uint32(sum_ & np.uint64(0xFFFFFFFF))
            for k in range(pairs):
                u = (np.float32(bits[k]) + np.float32(0.5)) * unit
                radius = scale * math.sqrt(np.float32(-2) * math.log(u))
                phase = np.float32(bits[pairs + k]) * angle
                normals[k] = radius * math.cos(phase)
                normals[pairs + k] = radius * math.sin(phase)
            k = 0
            for i in range(dim):
                q[i, i] = normals[k]
                k += 1
                for j in range(i):
                    q[i, j] = q[j, i] = half * normals[k]
                    k += 1
            if dim >= 32:
                moved[:, :] = x[member] - np.dot(x[member], q)
            else:
                for t in range(tokens):
                    for i in range(dim):
                        total = x[member, t, i]
                        for j in range(dim):
                            total -= q[i, j] * x[member, t, j]
                        moved[t, i] = total
            if attention:
                weights = np.empty(tokens, np.float32)
                for t in range(tokens):
                    total = np.float32(0)
                    for s in range(tokens):
                        dot = -ONE
                        for i in range(dim):
                            dot += x[member, t, i] * x[member, s, i]
                        weights[s] = math.exp(BETA * dot)
                        total += weights[s]
                    total = h / total
                    for s in range(tokens):
                        for i in range(dim):
                            moved[t, i] += total * weights[s] * x[member, s, i]
            for t in range(tokens):
                square = np.float32(0)
                for i in range(dim):
                    square += moved[t, i] * moved[t, i]
                inverse = ONE / math.sqrt(square)
                for i in range(dim):
                    x[member, t, i] = moved[t, i] * inverse
    return x


def contenders(size: Size, attention: bool) -> list[Contender]:
    """The engine with fused kernels, with its scan, and numba."""
    model = rqf.models.noisy_attention if attention else rqf.models.random_quadratic_form
    law = rqf.laws.Uniform(size.tokens, size.dim)
    ts = np.array([0.0, size.steps * size.step])
    start = size.tokens_at_start()

    def engine(fused: str):
        def call(number: int, sigma: float):
            os.environ["RQF_JAX_FUSED"] = fused
            sde = model(sigma, 1.0) if attention else model(sigma)
            key = jax.random.key(number)
            return rqf.simulate(
                sde, law, ts, substeps=size.steps, members=size.members, key=key, throw=False
            ).ys

        return call

    def by_hand(number: int, sigma: float):
        h = np.float32(size.step)
        return by_numba(start.copy(), size.steps, h, np.float32(sigma), attention, number)

    calls = {FUSED: engine("1"), SCAN: engine("0"), NUMBA: by_hand}
    return [Contender(name, size.steps, call) for name, call in calls.items()]


def main(arguments: list[str] | None = None) -> None:
    """Print a table, and write the times as JSON if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=Size.parse, nargs="+", default=SIZES)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows, times = [], {}
    for attention in (False, True):
        for size in options.sizes:
            if attention and size.members == 1:
                continue
            name = f"{'attention' if attention else 'noise'} {tuple(size)}"
            racing = contenders(size, attention)
            clocks = {"wall": time.perf_counter, "processor": time.process_time}
            found = {kind: race(racing, options.rounds, clock) for kind, clock in clocks.items()}
            times[name] = found
            ratios = [
                f"{ratio(seconds[other], seconds[FUSED]):.2f}"
                for other in (SCAN, NUMBA)
                for seconds in found.values()
            ]
            rows.append([name, microseconds(found["wall"][FUSED]), *ratios])
            print(" ".join(rows[-1]), flush=True)
    head = ["", "µs a step", "scan / fused", "(processor)", "numba / fused", "(processor)"]
    print(f"\n{device_name()}; {versions()}, numba {numba.__version__}\n")
    print(table(head, rows))
    if options.json:
        options.json.write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    main()
