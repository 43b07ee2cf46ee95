"""The command line: run a config, draw a run again, look at a run, fit its noise."""

import contextlib
import math
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from .inference import FitResult, HiddenStatesFit

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A store that `rqf-jax run` wrote.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; bad input is one message and exit code 2, failed members are 1."""
    warnings.showwarning = _warn
    try:
        app(arguments, prog_name="rqf-jax")
    except (ArithmeticError, OSError, ValueError) as error:
        from . import NonFiniteError, config, io

        match error:
            case NonFiniteError():
                code = 1
            case config.ConfigError() | io.DataFileError():
                code = 2
            case FileExistsError():
                error, code = f"{error} --force replaces a run, and nothing else.", 2
            case _:
                raise
        print(f"rqf-jax: {error}", file=sys.stderr)
        sys.exit(code)


def _warn(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"rqf-jax: {message}", file=sys.stderr)


def _version(wanted: bool) -> bool:
    if wanted:
        from . import __version__

        print(f"rqf-jax {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Simulate ensembles of tokens and matrices, and compare them with closed forms."""


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to, .zarr.", show_default="runs/CONFIG.zarr"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is there.")] = False,
) -> None:
    """Simulate the ensemble that CONFIG describes, and compare it with theory.

    Writes the ensemble to runs/CONFIG.zarr, and figures and comparison.csv to runs/CONFIG.

    [bold]Examples[/]

    rqf-jax run configs/demo.toml

    rqf-jax run configs/demo.toml --set model.sigma=0.5 --set run.members=2000 --out runs/slow.zarr
    """
    from . import config as configs, runs

    out = Path("runs", f"{config.stem}.zarr") if out is None else out
    runs.run(configs.read(config, changes or ()), out, force=force, console=Console())


@app.command()
def plot(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to.", show_default="RUN without .zarr"),
    ] = None,
) -> None:
    """Compare a run with theory again, and draw its figures again.

    [bold]Example[/]

    rqf-jax plot runs/demo.zarr --out figures
    """
    from . import io, runs

    console = Console()
    with io.load(run) as dataset:
        runs.draw(dataset, runs.compare(dataset, console), out or run.with_suffix(""), console)


@app.command()
def info(run: Run) -> None:
    """Print what a run holds and where it came from, and the config that makes it again.

    [bold]Example[/]

    rqf-jax info runs/demo.zarr
    """
    from . import io

    console = Console()
    with io.load(run) as dataset:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, variable in dataset.variables.items():
            sizes = " × ".join(f"{size} {dim}" for dim, size in variable.sizes.items())
            table.add_row(str(name), sizes, str(variable.dtype), f"{variable.nbytes / 1e6:.1f} MB")
        console.print(table)
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, value in dataset.attrs.items():
            if name != "config":
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                table.add_row(name, text)
        console.print(table)
        if "config" in dataset.attrs:
            print(f"\n{dataset.attrs['config'].rstrip()}")


@app.command()
def fit(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE", help="A run that saved its states, or an .npz of hidden states."
        ),
    ],
    antisymmetric: Annotated[
        bool, typer.Option("--antisymmetric", help="Fit the antisymmetric noise of a run too.")
    ] = False,
    method: Annotated[
        str, typer.Option(metavar="qmle|robust|pairs", help="How to fit a run.")
    ] = "qmle",
) -> None:
    """Estimate the noise in a run, or in the layers of a language model.

    Hidden states are fitted layer by layer, both strengths, with a verdict on whether layers are
    steps of common noise at all.

    [bold]Examples[/]

    rqf-jax fit runs/demo.zarr --method pairs

    rqf-jax fit hidden_states.npz
    """
    from . import inference, io

    console = Console()
    if path.suffix == ".npz":
        sentences = io.read_hidden_states(path)
        with _about(path):
            _print_layers(inference.fit_hidden_states(sentences), console)
        return
    with io.load(path) as dataset, _about(path):
        if "state" not in dataset:
            raise ValueError("the run did not save `state`; run it again with save = ['state'].")
        whole = dataset["state"].to_numpy()[dataset["status"].to_numpy() == 0]
        times = dataset["time"].to_numpy()
        if method != "pairs":
            result = inference.fit_noise(whole, times, antisymmetric=antisymmetric, method=method)
        elif antisymmetric:
            raise ValueError("`--method pairs` says nothing about antisymmetric noise.")
        else:
            result = inference.fit_pairs(whole, times)
    _print_fit(result, console)


@contextlib.contextmanager
def _about(path: Path) -> Iterator[None]:
    """What is wrong with the numbers is wrong with the file."""
    from . import io

    try:
        yield
    except ValueError as error:
        raise io.DataFileError(f"{path}: {error}") from error


def _print_fit(result: "FitResult", console: Console) -> None:
    table = Table("", "estimate", "std. error", "bound", "95 % interval")
    for name, (low, high) in result.interval().items():
        error, bound = result.stderr[name], result.bound[name]
        numbers = f"{result.estimate[name]:.5g}", f"{error:.2g}", f"{bound:.2g}"
        table.add_row(name, *numbers, f"{low:.5g} … {high:.5g}")
    console.print(table)
    # The lines of the printed result after its own table.
    console.print("\n".join(str(result).splitlines()[len(result.estimate) + 2 :]), markup=False)


def _print_layers(result: "HiddenStatesFit", console: Console) -> None:
    names = "layer", "turn", "σ_s", "σ_a", "null\nratio", "in/out", "overlap", "noise\nalone"
    table = Table(*names, box=None, padding=(0, 1, 0, 0))
    table.add_row("0", *[""] * 5, f"{result.overlap:.3f}", "")
    for number, layer in enumerate(result.layers, 1):
        strengths = zip((layer.symmetric, layer.antisymmetric), layer.stderr, strict=True)
        table.add_row(
            f"{number} jump" if layer.jump else str(number),
            f"{math.degrees(layer.turn):.0f}°",
            *(f"{value:.4f}±{error:.4f}" for value, error in strengths),
            f"{layer.null_ratio:.1f}",
            f"{layer.in_out:.2f}±{layer.in_out_error + layer.coarseness:.2f}",
            f"{layer.overlap:.3f}",
            f"{layer.predicted:.3f}",
        )
    console.print(table)
    for sentence, token, excess in result.sinks:
        console.print(f"left out: {token!r} of sentence {sentence}, norm {excess:.0f} x the median")
    console.print(f"lag-1 correlation   {result.lag[0]:+.2f} (z = {result.lag[1]:+.1f})")
    console.print(
        f"gain of overlap     {result.gathering[0]:+.3f} (z = {result.gathering[1]:+.1f})"
    )
    console.print(f"\n{result.verdict}", markup=False)
