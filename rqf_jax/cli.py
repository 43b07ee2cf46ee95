"""The command line: run a config, draw a run again, look at a run."""

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

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
