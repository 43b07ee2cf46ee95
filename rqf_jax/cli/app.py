"""The command line: run a config, draw a run again, look at a run, fit its noise."""

import errno
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
ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG", help="A TOML file, or the name of a config of the package, such as demo."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key; may be repeated."),
]
Hosts = Annotated[
    str | None,
    typer.Option(
        metavar="auto|ADDRESS:PORT,COUNT,NUMBER",
        help="Be one of several processes: as SLURM says, or number NUMBER of COUNT.",
        show_default="alone",
    ),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: whatever can be foreseen is one message and an exit code.

    1 members became NaN or infinite, or files are damaged; 2 bad input, or a run is in the way;
    3 the disk is full or cannot be written; 4 out of memory; 5 another process is at this run;
    130 and 143 stopped by SIGINT and SIGTERM.
    """
    warnings.showwarning = _warn
    try:
        app(arguments, prog_name="rqf-jax")
    except Exception as error:
        code, message = _explained(error)
        if code is None:
            raise
        print(f"rqf-jax: {message}", file=sys.stderr)
        sys.exit(code)
    except BaseException as stop:
        number = getattr(stop, "number", None)
        if number is None:
            raise
        print(f"rqf-jax: {stop}. {_CONTINUE}", file=sys.stderr)
        sys.exit(128 + number)


_CONTINUE = "The same command continues the run."
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)


def _explained(error: Exception) -> tuple[int | None, str]:
    """The exit code and the message of an error; no code for one that nobody foresaw."""
    from .. import _store, io
    from .._ensemble import program as _program
    from .._ensemble.trajectories import NonFiniteError
    from ..runs import config

    match error:
        case NonFiniteError():
            return 1, str(error)
        case io.DamagedError():
            return 1, str(error)
        case config.ConfigError() | io.DataFileError():
            return 2, str(error)
        case FileExistsError():
            text = str(error).rstrip()
            gap = "\n" if "\n" in text else " "
            return 2, f"{text}{gap}--force replaces a run, and nothing else."
        case _store.LockedError():
            return 5, str(error)
        case OSError(errno=number) if number in _DISK:
            where = f" ({error.filename})" if error.filename else ""
            return 3, f"{error.strerror}{where}. {_CONTINUE}"
        case _ if _program.is_out_of_memory(error):
            return 4, f"out of memory: {error}"
    return None, ""


def _warn(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"rqf-jax: {message}", file=sys.stderr)


def _version(wanted: bool) -> bool:
    if wanted:
        import importlib.metadata

        print(f"rqf-jax {importlib.metadata.version('rqf_jax')}")
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
    config: ConfigFile,
    changes: Changes = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to, .zarr.", show_default="runs/CONFIG.zarr"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is there.")] = False,
    hosts: Hosts = None,
) -> None:
    """Simulate the ensemble that CONFIG describes, and compare it with theory.

    Writes the ensemble to runs/CONFIG.zarr, and figures and comparison.csv to runs/CONFIG. A run
    that was stopped or killed continues, and a finished one is only checked.

    [bold]Examples[/]

    rqf-jax run configs/demo.toml

    rqf-jax run configs/demo.toml --set model.sigma=0.5 --set run.members=2000 --out runs/slow.zarr

    srun rqf-jax run configs/demo.toml --hosts auto
    """
    from ..runs import config as configs, ensemble as runs

    console = _console(hosts)
    out = Path("runs", f"{config.stem}.zarr") if out is None else out
    runs.run(configs.read(config, changes or ()), out, force=force, console=console)


@app.command()
def sweep(
    config: ConfigFile,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="KEY=FROM:TO:COUNT", help="An axis; or KEY=A,B,C."),
    ] = None,
    zipped: Annotated[bool, typer.Option("--zip", help="Take the axes in step.")] = False,
    random: Annotated[
        list[str] | None,
        typer.Option("--random", metavar="KEY=FROM:TO", help="A range to draw from."),
    ] = None,
    points: Annotated[int, typer.Option(min=1, help="How many points to draw.")] = 100,
    failed: Annotated[
        Path | None,
        typer.Option(metavar="SWEEP", help="The points of a sweep that have failed members."),
    ] = None,
    changes: Changes = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to.", show_default="runs/CONFIG-sweep.zarr"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the sweep that is there.")
    ] = False,
    hosts: Hosts = None,
) -> None:
    """Simulate CONFIG at many values of some of its keys, into one store.

    Its dimensions are named by the keys, and it holds mean, variance and histogram of every
    observable over the members of each point; `--set run.keep=trajectories` keeps the members.

    [bold]Examples[/]

    rqf-jax sweep configs/pair.toml --grid sigma=0.2:1.2:11 --grid law.angle=0.5,1,2

    rqf-jax sweep configs/pair.toml --random model.sigma=0:1 --random law.angle=0:3 --points 50

    rqf-jax sweep configs/pair.toml --failed runs/pair-sweep.zarr --set run.substeps=50 --out b.zarr
    """
    from ..runs import config as configs, sweep as sweeps

    if [bool(grid), bool(random), bool(failed)].count(True) != 1 or (zipped and not grid):
        raise configs.ConfigError(
            "a sweep needs either --grid, with or without --zip, or --random, or --failed."
        )
    console = _console(hosts)
    out = Path("runs", f"{config.stem}-sweep.zarr") if out is None else out
    one = configs.read(config, ["run.keep=summaries", *(changes or ())])
    if grid:
        design = sweeps.Design(tuple(map(sweeps.Axis.parse, grid)), zipped)
    elif failed:
        design = sweeps.Design.failed(failed)
    else:
        design = sweeps.Design.random(random or (), points, one.run.seed)
    sweeps.sweep(one, design, out, force=force, console=console)


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
    from ..runs import ensemble as runs

    runs.look(run, out or run.with_suffix(""), Console())


@app.command()
def info(run: Run) -> None:
    """Print what a run holds and where it came from, and the config that makes it again.

    [bold]Example[/]

    rqf-jax info runs/demo.zarr
    """
    from .. import _store, io

    console = Console()
    draft = _store.Draft.find(run)
    if draft is not None:
        console.print(str(draft), soft_wrap=True)
        if not run.exists():
            print(f"\n{draft.plan.config.rstrip()}")
            return
    with io.load(run) as dataset:
        rows = []
        for name, variable in sorted(dataset.variables.items(), key=lambda item: str(item[0])):
            sizes = " × ".join(f"{size} {dim}" for dim, size in variable.sizes.items())
            rows.append((str(name), sizes, str(variable.dtype), f"{variable.nbytes / 1e6:.1f} MB"))
        console.print(_table(rows))
        rows = []
        for name, value in dataset.attrs.items():
            if name != "config":
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                rows.append((name, text.replace("\n", ", ")))
        console.print(_table(rows))
        if "config" in dataset.attrs:
            print(f"\n{str(dataset.attrs['config']).rstrip()}")


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
    steps of common noise at all: in/out is squared motion of tokens in their own span over that out
    of it, 1 for such noise; the null ratio is 0 for single steps and near 1 for noise without σ_a;
    overlap is the mean cosine of two tokens, beside what noise alone would make of it.

    [bold]Examples[/]

    rqf-jax fit runs/demo.zarr --method pairs

    rqf-jax fit hidden_states.npz
    """
    from . import fit as fits

    fits.fit(path, antisymmetric=antisymmetric, method=method, console=Console())


@app.command()
def verify(run: Run) -> None:
    """Read every file of a run, and compare it with the SHA-256 that was written with the run.

    Lists damaged files, and files that were not written with the run, and exits with code 1. The
    command that made the run computes damaged chunks again, and everything with --force.

    [bold]Example[/]

    rqf-jax verify runs/demo.zarr
    """
    from .. import _store

    root = _store.Root.read(run)
    faults = root.faults(run, "everything")
    for name in faults.damaged:
        print(f"{run / name}: damaged")
    for name in faults.strange:
        print(f"{run / name}: was not written with the run")
    if root.manifest is not None:
        total = len(root.manifest.files)
        print(f"{total - len(faults.damaged)} of {total} files are as written.")
    if root.note:
        print(root.note)
    if faults.damaged or faults.strange:
        raise typer.Exit(1)


@app.command()
def export(
    run: Run, file: Annotated[Path, typer.Argument(metavar="FILE", help="A netCDF file, .nc.")]
) -> None:
    """Write a run to one netCDF file, for other programs.

    [bold]Example[/]

    rqf-jax export runs/demo.zarr demo.nc
    """
    from .. import io

    with io.load(run) as dataset:
        io.to_netcdf(dataset, file)


def _table(rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    return table


def _console(hosts: str | None) -> Console:
    """Where to print, once this process has joined its hosts, of which only the first prints."""
    if hosts is None:
        return Console()
    from ..runs import hosts as hosting

    return Console(quiet=not hosting.join(hosts))
