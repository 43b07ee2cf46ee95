"""An attack on the whole public API: every argument of every function, replaced by what does not
belong there, in processes of their own.

    python tests/package/campaign.py --every 1 --workers 2 --out /tmp/campaign.json

A call that is valid with its arguments as they should be is made again with one of them replaced,
for every argument and every value of `_calls.HOSTILE`, and what becomes of it is

- valid: a result without NaN or infinity (or with those that were put in);
- clear: the library's own error, which names the argument that was replaced;
- other: the library's own error, which names another one;
- raw: an error from inside, of Python, NumPy or JAX;
- nan: NaN or infinity out of numbers that are finite, and no error or warning;
- hang: no answer in time; crash: the process ended.

The default suite makes a small sample of the calls (`test_campaign.py`).
"""

import argparse
import collections
import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

SECONDS = 240.0
"""So long a call may take, compilation included, on a busy machine."""


def valid_arguments(name, function):
    """The arguments of one valid call, by their names."""
    import _calls

    given = _calls.PARTICULAR.get(name, {})
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in given:
            found[parameter.name] = given[parameter.name]
        elif parameter.name in _calls.NAMED:
            found[parameter.name] = _calls.NAMED[parameter.name]
        elif parameter.default is parameter.empty:
            raise KeyError(f"{name}: no valid value for `{parameter.name}` is known")
    return found


def plan():
    """Every call as (function, replaced argument or None, value)."""
    import _calls

    calls = []
    for path, function in _calls.PUBLIC.items():
        name = path.removeprefix("rqf.")
        if name in _calls.INNER or inspect.isabstract(function):
            continue
        calls.append((name, None, None))
        for argument in valid_arguments(name, function):
            if argument != "self":
                calls.extend((name, argument, value) for value in _calls.HOSTILE)
    return calls


def call(name, argument, value):
    """What becomes of one call: its kind, and what was said."""
    import _calls

    function = _calls.PUBLIC[f"rqf.{name}"]
    arguments = valid_arguments(name, function)
    if argument is not None:
        arguments[argument] = _calls.HOSTILE[value]
    arguments = {key: _calls.fresh(one) for key, one in arguments.items()}
    positional, keywords = [], {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name not in arguments:
            continue
        one = arguments[parameter.name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional.extend(one if isinstance(one, tuple) else [one])
        elif parameter.kind is parameter.KEYWORD_ONLY:
            keywords[parameter.name] = one
        else:
            positional.append(one)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            # A call that writes a file does so where nobody looks.
            with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
                result = function(*positional, **keywords)
            bad = not_finite(result)
        except Exception as error:
            return judged(error, argument)
    known = argument is not None and not_finite(arguments[argument])
    infinite = name in INFINITE or hasattr(function, "contract")
    told = name in UNKNOWN or (infinite and not is_nan(result))
    if bad and not known and not said and not told:
        return "nan", f"{result!r}"[:200]
    return "valid", ""


INFINITE = {"observables.log_det_gram", "analysis.find_equilibria"}
"""Functions that say where they are infinite, besides closed forms, which have a contract."""

UNKNOWN = {"analysis.learning_rate_sensitivity", "analysis.two_point_exponent"}
"""Functions whose docstring says that a standard error is NaN: one member, of which nobody can
know its scatter, while the number beside it is right."""


def judged(error, argument):
    text = str(error)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    ours = f"{os.sep}rqf_jax{os.sep}" in last or "missing" in text[:80]
    if isinstance(error, ImportError | OSError) and ours:
        return "clear", text[:200]
    if not ours or not isinstance(error, ValueError | ArithmeticError):
        return "raw", f"{type(error).__name__}: {text[:200]} at {last.rpartition(os.sep)[2]}"
    # One names the file, the other says what the data do not tell.
    if type(error).__name__ in {"DataFileError", "IdentifiabilityError"}:
        return "clear", text[:200]
    # Closed forms say the value of every argument.
    named = set(re.findall(r"`([A-Za-z_]\w*)", text)) | set(re.findall(r"(\w+) = ", text))
    if not named:
        return "raw", f"{type(error).__name__} without a name: {text[:200]}"
    return ("clear" if argument in named else "other"), text[:200]


def is_nan(result):
    import numpy as np

    return not_finite(result, np.isnan)


def not_finite(result, bad=None):
    import equinox as eqx
    import jax
    import numpy as np

    leaves = jax.tree.leaves(result)
    if isinstance(result, eqx.Module):
        leaves = [leaf for leaf in leaves if eqx.is_array(leaf)]
    for leaf in leaves:
        if isinstance(leaf, float | np.ndarray | np.floating | jax.Array):
            try:
                array = np.asarray(leaf)
                if np.any(bad(array) if bad else ~np.isfinite(array)):
                    return True
            except TypeError:
                continue
    return False


# ---- processes


def work():
    """Read calls from the standard input, a line of JSON each, and answer them in the same way."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever is printed meanwhile is no answer
    os.environ["MPLBACKEND"] = "Agg"
    import resource

    limit = 8 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    os.chdir(tempfile.mkdtemp())
    import _calls  # noqa: F401
    import matplotlib.pyplot as plt

    answers.write("ready\n")
    for number, line in enumerate(sys.stdin):
        answers.write(json.dumps(call(*json.loads(line))) + "\n")
        plt.close("all")
        if number % 200 == 199:
            import jax

            jax.clear_caches()


class Worker:
    """A process that makes one call after another."""

    def __init__(self):
        self.begin()

    def begin(self):
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.buffer = b""
        if self.line(10 * SECONDS) is None:
            raise RuntimeError("a worker does not start")

    def line(self, seconds):
        """The next line of its answers; None if it does not come, b"" if the process ended."""
        end = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            if time.monotonic() > end:
                return None
            more = self.process.stdout.read()
            if more == b"":
                return b""
            if more:
                self.buffer += more
            else:
                time.sleep(0.001)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def call(self, one):
        self.process.stdin.write(json.dumps(one).encode() + b"\n")
        self.process.stdin.flush()
        answer = self.line(SECONDS)
        if answer:
            return tuple(json.loads(answer))
        self.end()
        self.begin()
        return ("hang", "") if answer is None else ("crash", "")

    def end(self):
        self.process.kill()
        self.process.wait()


def run(calls, workers):
    """All calls and what became of them, by so many processes."""
    from concurrent.futures import ThreadPoolExecutor

    shares = [calls[i::workers] for i in range(workers)]

    def share(mine):
        worker, found = Worker(), []
        for one in mine:
            found.append((*one, *worker.call(one)))
            if len(found) % 500 == 0:
                print(f"{len(found)} of {len(mine)}", file=sys.stderr, flush=True)
        worker.end()
        return found

    with ThreadPoolExecutor(workers) as pool:
        return [row for rows in pool.map(share, shares) for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--every", type=int, default=1, help="make one in so many calls")
    parser.add_argument("--only", default="", help="functions whose name starts with one of these")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="write what became of all calls")
    options = parser.parse_args()
    if options.work:
        work()
        return
    calls = [one for one in plan() if one[0].startswith(tuple(options.only.split(",")))]
    calls = [one for i, one in enumerate(calls) if one[1] is None or i % options.every == 0]
    rows = run(calls, options.workers)
    kinds = collections.Counter(row[3] for row in rows)
    print(f"{len(rows)} calls of {len({row[0] for row in rows})} functions: {dict(kinds)}")
    if options.out is not None:
        options.out.write_text(json.dumps(rows, indent=0), encoding="utf-8")
    for row in rows:
        if (row[1] is None and row[3] != "valid") or row[3] in {"raw", "nan", "hang", "crash"}:
            print(*row)


if __name__ == "__main__":
    main()
