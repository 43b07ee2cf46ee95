"""The noise in a file: a run of ours, or the hidden states of a language model."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import xarray
from rich.console import Console
from rich.table import Table

from .. import inference, io
from ..io._containers import SUFFIXES
from ..runs import look
from ..runs.config import Config


def fit(path: Path, *, antisymmetric: bool, method: str, console: Console) -> None:
    """Fit the noise in the run or the file of hidden states at `path`, and print what was found.

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
            console.print(str(inference.fit_hidden_states(sentences)), markup=False)
        return
    if path.is_file():
        raise io.DataFileError(
            f"{path}: must be a run, which is a folder .zarr, or a file of hidden states, as "
            "`rqf_jax.io.read_hidden_states` describes it, with one of the endings "
            f"{', '.join(SUFFIXES)}; got a {path.suffix or 'plain'} file."
        )
    with io.load(path) as dataset, about(path):
        if "state" not in dataset:
            raise ValueError(_without_states(dataset))
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


def _without_states(dataset: xarray.Dataset) -> str:
    """The message for a run that holds no states of tokens."""
    if "config" in dataset.attrs:
        config = look.stored_config(dataset)
        state = config.model.state if isinstance(config, Config) else None
        if state is None or "state" not in state.observables:
            subject = "weights that train" if state is None else state.name
            return (
                f"the run is of {subject}, and this command fits the noise of tokens. In Python "
                "`rqf_jax.fit` fits the parameters of any equation."
            )
    return "the run did not save its states. Run it again with --set 'save=[\"state\"]'."


@contextlib.contextmanager
def about(path: Path) -> Iterator[None]:
    """An error of the numbers is one of the file; an error of the file names it already."""
    try:
        yield
    except io.DataFileError:
        raise
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
