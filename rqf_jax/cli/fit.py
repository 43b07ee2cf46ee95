"""The noise in a file: a run of ours, or the hidden states of a language model."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .. import inference, io
from ..io._containers import SUFFIXES


def fit(path: Path, *, antisymmetric: bool, method: str, console: Console) -> None:
    """Fit the noise in the run or the npz file at `path`, and print what was found.

    `method` is one of `inference.fit_noise`, or "pairs" for `inference.fit_pairs`; it and
    `antisymmetric` are for runs alone. Raises `io.DataFileError` for a file that cannot be read or
    holds what cannot be fitted.
    """
    if path.suffix in SUFFIXES:
        sentences = io.read_hidden_states(path)
        with about(path):
            if antisymmetric or method != "qmle":
                raise ValueError(
                    "`--antisymmetric` and `--method` are for runs; hidden states are fitted layer "
                    "by layer with both strengths."
                )
            count = sum(len(sentence.tokens) for sentence in sentences)
            dim = sentences[0].states.shape[-1]
            console.print(f"{len(sentences)} sentences, {count} tokens, dimension {dim}\n")
            _show_layers(inference.fit_hidden_states(sentences), console)
        return
    if path.is_file():
        raise io.DataFileError(
            f"{path}: must be a run, which is a folder .zarr, or a file of hidden states, as "
            "`rqf_jax.io.read_hidden_states` describes it, with one of the endings "
            f"{', '.join(SUFFIXES)}; got a {path.suffix or 'plain'} file."
        )
    with io.load(path) as dataset, about(path):
        if "state" not in dataset:
            raise ValueError(
                "the run did not save its states. Run it again with --set 'save=[\"state\"]'."
            )
        if dataset["state"].dims[0] != "member":
            axes = ", ".join(map(str, dataset["state"].dims[:-4]))
            raise ValueError(f"a sweep over {axes} is many ensembles; fit the run of one point.")
        whole = dataset["state"].to_numpy()[dataset["status"].to_numpy() == 0]
        times = dataset["time"].to_numpy()
        if method != "pairs":
            result = inference.fit_noise(whole, times, antisymmetric=antisymmetric, method=method)
        elif antisymmetric:
            raise ValueError("`--method pairs` says nothing about antisymmetric noise.")
        else:
            result = inference.fit_pairs(whole, times)
    _show_fit(result, console)


@contextlib.contextmanager
def about(path: Path) -> Iterator[None]:
    """What is wrong with the numbers is wrong with the file."""
    try:
        yield
    except ValueError as error:
        raise io.DataFileError(f"{path}: {error}") from error


def _show_fit(result: inference.FitResult, console: Console) -> None:
    table = Table("", "estimate", "std. error", "bound", "95 % interval")
    for name, (low, high) in result.interval().items():
        error, bound = result.stderr[name], result.bound[name]
        numbers = f"{result.estimate[name]:.5g}", f"{error:.2g}", f"{bound:.2g}"
        table.add_row(name, *numbers, f"{low:.5g} … {high:.5g}")
    console.print(table)
    # The lines of the printed result after its own table.
    console.print("\n".join(str(result).splitlines()[len(result.estimate) + 2 :]), markup=False)


def _show_layers(result: inference.HiddenStatesFit, console: Console) -> None:
    names = ["layer", "turn", "σ_s", "σ_a", "null\nratio", "in/out", "bias\nup to"]
    names += ["overlap", "noise\nalone"]
    table = Table(*names, box=None, padding=(0, 1, 0, 0))
    table.add_row("0", *[""] * 6, f"{result.overlap:.3f}", "")
    for number, layer in enumerate(result.layers, 1):
        strengths = zip((layer.symmetric, layer.antisymmetric), layer.stderr, strict=True)
        table.add_row(
            f"{number} jump" if layer.jump else str(number),
            f"{math.degrees(layer.turn):.0f}°",
            *(_with_error(value, error, ".4f") for value, error in strengths),
            _number(layer.null_ratio, ".1f"),
            _with_error(layer.in_out, layer.in_out_error, ".2f"),
            f"{layer.coarseness:.2f}",
            f"{layer.overlap:.3f}",
            f"{layer.predicted:.3f}",
        )
    console.print(table)
    console.print(
        "± one standard error over sentences: ± 2 of them hold the truth in 95 % of fits. Below 2 "
        "errors a strength is given as < its 95 % limit."
    )
    for sentence, token, excess in result.sinks:
        console.print(f"left out: {token!r} of sentence {sentence}, norm {excess:.0f} x the median")
    for sentence, token, reason in result.excluded:
        console.print(f"left out: {token!r} of sentence {sentence}, {reason}")
    console.print(f"lag-1 correlation   {result.lag[0]:+.2f} (z = {result.lag[1]:+.1f})")
    console.print(
        f"gain of overlap     {result.gathering[0]:+.3f} (z = {result.gathering[1]:+.1f})"
    )
    console.print(f"\n{result.verdict}", markup=False)


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def _with_error(value: float, error: float, form: str) -> str:
    """`value` ± `error`, or the 95 % limit of what cannot be told from 0."""
    if math.isnan(value):
        return ""
    if 0 < value < 2 * error:
        return f"<{value + 2 * error:{form}}"
    return f"{value:{form}}±{error:{form}}"
