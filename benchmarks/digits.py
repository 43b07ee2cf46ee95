"""Seeds of a network on handwritten digits beside the same updates in PyTorch, seed after seed.

    python benchmarks/digits.py --torch PYTHON [--seeds 64] [--updates 400] [--rounds 5]

PYTHON is an interpreter that has PyTorch and scikit-learn, with an environment of its own; it is
asked in turns with this one, round after round, each on `--threads` threads. Every seed has its own
first weights and batches with replacement: 64-16-10 units, tanh, cross entropy with decay 0.01,
300 digits, plain descent at 0.1. Compilation is not timed, nor is the import of a library. Prints
a markdown table of processor time and wall time an update of all seeds, medians of the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

SEEDS, UNITS, DECAY, RATE, EXAMPLES = 64, 16, 0.01, 0.1, 300
WARM = 20


def digits():
    """Inputs and labels of 300 digits, equally spaced among all."""
    import numpy as np
    from sklearn.datasets import load_digits

    found = load_digits()
    chosen = np.arange(EXAMPLES) * len(found.data) // EXAMPLES
    return (found.data[chosen] / 16).astype(np.float32), found.target[chosen]


def timed(call: Callable[[], None], updates: int) -> dict[str, float]:
    """Processor and wall time of an update, in microseconds."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"wall": 1e6 * wall / updates, "processor": 1e6 * processor / updates}


def ours(seeds: int, updates: int, batch: int) -> Callable[[], dict[str, float]]:
    """One call of `train` for all seeds."""
    import jax
    import jax.numpy as jnp
    import optax

    import rqf_jax as rqf

    inputs, labels = digits()

    def law(key):
        keys = jax.random.split(key, 2)
        return [
            (jax.random.normal(k, (n, m)) / jnp.sqrt(n), jnp.zeros(m))
            for k, n, m in zip(keys, (64, UNITS), (UNITS, 10), strict=True)
        ]

    def loss(weights, batch):
        (w, b), (v, c) = weights
        logits = jnp.tanh(batch[0] @ w + b) @ v + c
        decay = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(weights))
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return jnp.mean(entropy) + DECAY / 2 * decay

    process = rqf.training.Process(
        loss,
        law,
        (inputs, labels.astype("int32")),
        optimiser=optax.sgd(RATE),
        injections=[rqf.training.injections.WithReplacement(batch)],
    )

    def run(count: int) -> None:
        runs = rqf.training.train(process, [0, count], seeds=seeds, key=jax.random.key(0))
        jax.block_until_ready(runs.ys)

    run(WARM)
    return lambda: timed(lambda: run(updates), updates)


def theirs(seeds: int, updates: int, batch: int, together: bool) -> Callable[[], dict[str, float]]:
    """A loop over seeds and updates in PyTorch, or over updates with all seeds in one tensor."""
    import torch

    inputs, labels = map(torch.as_tensor, digits())

    def descend(weights, count, size):
        sgd = torch.optim.SGD(weights, lr=RATE, weight_decay=DECAY)
        w, b, v, c = weights
        for _ in range(count):
            chosen = torch.randint(EXAMPLES, (*size, batch))
            hidden = torch.tanh(inputs[chosen] @ w + b)
            logits = hidden @ v + c
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, 10), labels[chosen].reshape(-1), reduction="sum"
            )
            sgd.zero_grad()
            (loss / batch).backward()
            sgd.step()

    def first(size):
        shapes = (64, UNITS), (1, UNITS), (UNITS, 10), (1, 10)
        scales = 1 / 8, 0.0, UNITS**-0.5, 0.0
        return [
            (torch.randn(*size, *shape) * scale).requires_grad_()
            for shape, scale in zip(shapes, scales, strict=True)
        ]

    def run(count: int) -> None:
        if together:
            descend(first((seeds,)), count, (seeds,))
            return
        for _ in range(seeds):
            descend(first(()), count, ())

    run(WARM if together else 2)
    return lambda: timed(lambda: run(updates), updates)


def serve(options: argparse.Namespace) -> None:
    """Answer every line of the input by the times of one round."""
    if options.serve == "ours":
        ask = ours(options.seeds, options.updates, options.batch)
    else:
        import torch

        torch.set_num_threads(options.threads)
        together = options.serve == "together"
        ask = theirs(options.seeds, options.updates, options.batch, together)
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        print(json.dumps(ask()), flush=True)


def started(python: str, kind: str, batch: int, options: argparse.Namespace) -> subprocess.Popen:
    """An interpreter that is ready for rounds."""
    updates = options.loop_updates if kind == "loop" else options.updates
    command = [python, __file__, "--serve", kind, "--batch", str(batch), "--updates", str(updates)]
    command += ["--seeds", str(options.seeds), "--threads", str(options.threads)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def answer(process: subprocess.Popen) -> dict[str, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("an interpreter ended; its error is above.")
    return json.loads(line)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Seeds of a network beside PyTorch.")
    parser.add_argument("--torch", help="an interpreter that has PyTorch")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="default: %(default)s")
    parser.add_argument("--updates", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--loop-updates", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; default: %(default)s")
    parser.add_argument("--batch", type=int, nargs="*", default=[8, 16, 32])
    parser.add_argument("--serve", choices=["ours", "loop", "together"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        options.batch = options.batch[0]
        serve(options)
        return
    if not options.torch:
        parser.error("--torch is missing: the path of an interpreter that has PyTorch")
    pythons = {"ours": sys.executable, "loop": options.torch, "together": options.torch}
    print("| batch | program | processor µs | wall µs | ratio (processor) | ratio (wall) |")
    print("| --- | --- | --- | --- | --- | --- |")
    names = {"ours": "rqf_jax", "loop": "PyTorch, seed after seed",
             "together": "PyTorch, all seeds in one tensor"}  # fmt: skip
    for batch in options.batch:
        running = {kind: started(path, kind, batch, options) for kind, path in pythons.items()}
        for process in running.values():
            answer(process)
        rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in running}
        for _ in range(options.rounds):
            for kind, process in running.items():
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                rounds[kind].append(answer(process))
        for kind, process in running.items():
            process.communicate()
            median = {
                unit: statistics.median(one[unit] for one in rounds[kind])
                for unit in ("processor", "wall")
            }
            ratio = {
                unit: statistics.median(
                    one[unit] / mine[unit]
                    for one, mine in zip(rounds[kind], rounds["ours"], strict=True)
                )
                for unit in ("processor", "wall")
            }
            print(
                f"| {batch} | {names[kind]} | {median['processor']:,.0f} | {median['wall']:,.0f} | "
                f"{ratio['processor']:.1f} | {ratio['wall']:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
