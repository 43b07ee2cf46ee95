"""The command line: write and run configs, sweep them, look at runs, fit their noise."""

import io
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from . import complete, transformers
from .errors import CONTINUE, explained, tell, warn
from .options import Changes, ConfigFile, Form, Hosts, Run, version

if TYPE_CHECKING:
    from rich.table import Table

    from ..runs.screen import Screen

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: whatever can be foreseen is one message and an exit code.

    1 members became NaN or infinite, or files are damaged; 2 bad input, or a run is in the way;
    3 the disk is full or cannot be written, or too many files are open; 4 out of memory; 5 another
    process is at this run; 130 and 143 stopped by SIGINT and SIGTERM.
    """
    warnings.showwarning = warn
    warnings.filterwarnings("default", category=DeprecationWarning, module="rqf_jax")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a path may hold bytes that are no text
            stream.reconfigure(errors="backslashreplace")
    try:
        app(arguments, prog_name="rqf-jax")
    except Exception as error:
        code, message = explained(error)
        if code is None:
            raise
        tell(message)
        sys.exit(code)
    except BaseException as stop:
        number = getattr(stop, "number", None)
        if number is None:
            raise
        tell(f"{stop}. {CONTINUE}")
        sys.exit(128 + number)


@app.callback()
def _options(
    wanted: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=version,
            is_eager=True,
            help="Print the versions of rqf_jax and jax, and the device.",
        ),
    ] = False,
) -> None:
    """Simulate ensembles of tokens and matrices, and compare them with closed forms."""


@app.command()
def new(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="A model, process or architecture; leave it out to list them.",
            autocompletion=complete.models,
        ),
    ] = None,
    law: Annotated[
        str | None, typer.Option(metavar="LAW", help="A law of initial states.", show_default="any")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where to.", show_default="MODEL.toml")
    ] = None,
) -> None:
    """Write a config for MODEL that runs, with a comment on every key.

    [bold]Examples[/]

    rqf-jax new

    rqf-jax new dyson

    rqf-jax new noisy_attention --law pair --out my.toml
    """
    from ..runs import template

    if model is None:
        _screen().print(_table(template.models()))
        return
    path = Path(f"{model}.toml") if out is None else out
    text = template.config(model, law)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        from ..runs.config import ConfigError

        raise ConfigError(f"{path} exists. Give another path: --out PATH.") from None
    _screen().print(f"{path} is a config of {model}. To run it: rqf-jax run {path}", soft_wrap=True)


@app.command()
def run(
    config: ConfigFile,
    changes: Changes = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to, .zarr.", show_default="runs/CONFIG.zarr"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the run that is there.")] = False,
    form: Form = "png",
    hosts: Hosts = None,
) -> None:
    """Simulate the ensemble that CONFIG describes, and compare it with theory.

    Writes the ensemble to runs/CONFIG.zarr, and figures and comparison.csv to runs/CONFIG. If a run
    was stopped or killed, the same command continues it. If it is finished, the command only checks
    its files. A config with a section sweep is run at all values that it names.

    [bold]Examples[/]

    rqf-jax run configs/demo.toml

    rqf-jax run configs/demo.toml --set sigma=0.5 --set run.members=2000 --out runs/slow.zarr

    srun rqf-jax run configs/demo.toml --hosts auto
    """
    from ..runs import config as configs, design as designs, ensemble as runs, sweep as sweeps

    screen = _screen(hosts, compiles=True)
    out = Path("runs", f"{config.stem}.zarr") if out is None else out
    one = configs.read(config, changes or ())
    if one.sweep is None:
        runs.run(one, out, force=force, console=screen, form=form)
        return
    design = designs.Design.named(one.sweep)
    sweeps.sweep(one, design, out, force=force, console=screen, form=form)


@app.command()
def sweep(
    config: ConfigFile,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=FROM:TO:COUNT",
            help="An axis; or KEY=A,B,C.",
            autocompletion=complete.changes,
        ),
    ] = None,
    zipped: Annotated[
        bool, typer.Option("--zip", help="Change all axes together, value by value.")
    ] = False,
    random: Annotated[
        list[str] | None,
        typer.Option(
            "--random",
            metavar="KEY=FROM:TO",
            help="A range to draw from.",
            autocompletion=complete.changes,
        ),
    ] = None,
    points: Annotated[
        int, typer.Option(min=1, help="Number of points to draw, with --random.")
    ] = 100,
    failed: Annotated[
        Path | None,
        typer.Option(metavar="SWEEP", help="Run the points of a sweep that have failed members."),
    ] = None,
    changes: Changes = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Where to.", show_default="runs/CONFIG-sweep.zarr"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the sweep that is there.")
    ] = False,
    form: Form = "png",
    hosts: Hosts = None,
) -> None:
    """Simulate CONFIG at many values of some of its keys, into one store, and draw the means.

    The keys name the dimensions of the store. It holds mean, variance and histogram of every
    observable over the members of each point. To keep the members too, add
    --set run.keep=trajectories. The figure of a grid has a curve for each value of the second key,
    or is a map of both keys if the second has more than 6 values.

    [bold]Examples[/]

    rqf-jax sweep configs/pair.toml --grid sigma=0.2:1.2:11 --grid law.angle=0.5,1,2

    rqf-jax sweep configs/pair.toml --random sigma=0:1 --random angle=0:3 --points 50 --out r.zarr

    rqf-jax sweep configs/pair.toml --failed runs/pair-sweep.zarr --set substeps=50 --out f.zarr
    """
    from ..runs import config as configs, design as designs, sweep as sweeps

    if [bool(grid), bool(random), bool(failed)].count(True) != 1 or (zipped and not grid):
        raise configs.ConfigError(
            "a sweep needs either --grid, with or without --zip, or --random, or --failed."
        )
    screen = _screen(hosts, compiles=True)
    out = Path("runs", f"{config.stem}-sweep.zarr") if out is None else out
    one = configs.read(config, ["run.keep=summaries", *(changes or ())])
    if grid:
        design = designs.Design(tuple(map(designs.Axis.parse, grid)), zipped)
    elif failed:
        design = designs.Design.failed(failed)
    else:
        design = designs.Design.random(random or (), points, one.run.seed)
    sweeps.sweep(one, design, out, force=force, console=screen, form=form)


@app.command()
def plot(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to.", show_default="RUN without .zarr"),
    ] = None,
    form: Form = "png",
) -> None:
    """Compare a run or sweep with theory again, and draw its figures again.

    [bold]Example[/]

    rqf-jax plot runs/demo.zarr --out figures --format pdf
    """
    from ..runs import look

    folder = run.with_suffix("") if out is None or not out.name else out
    look.look(run, folder, _screen(), form=form)


@app.command()
def info(run: Run) -> None:
    """Print the contents of a run, its origin, and the config that makes it again.

    [bold]Example[/]

    rqf-jax info runs/demo.zarr
    """
    from .. import _store, io as files
    from ..runs.screen import visible

    screen = _screen()
    draft = _store.Draft.find(run)
    if draft is not None:
        screen.print(str(draft), soft_wrap=True)
        if not run.exists():
            print(f"\n{visible(draft.plan.config).rstrip()}")
            return
    with files.load(run) as dataset:
        rows = []
        for name, variable in sorted(dataset.variables.items(), key=lambda item: str(item[0])):
            sizes = " × ".join(f"{size} {dim}" for dim, size in variable.sizes.items())
            rows.append((str(name), sizes, str(variable.dtype), f"{variable.nbytes / 1e6:.1f} MB"))
        screen.print(_table(rows))
        rows = []
        for name, value in dataset.attrs.items():
            if name != "config":
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                rows.append((name, text.replace("\n", ", ")))
        screen.print(_table(rows))
        if "config" in dataset.attrs:
            print(f"\n{visible(dataset.attrs['config']).rstrip()}")


@app.command()
def fit(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|FILE", help="A run that saved its states, or a file of hidden states."
        ),
    ],
    antisymmetric: Annotated[
        bool, typer.Option("--antisymmetric", help="Fit the antisymmetric noise of a run too.")
    ] = False,
    method: Annotated[
        Literal["qmle", "robust", "pairs"], typer.Option(help="The estimator for a run.")
    ] = "qmle",
) -> None:
    """Estimate the noise in a run, or in the layers of a language model.

    A run must have saved its states. In a file of hidden states, each layer is fitted with both
    strengths. The table shows: in/out, squared motion of tokens inside their own span over
    that outside of it, 1 for common noise; the null ratio, 0 for single steps and near 1 for noise
    without σ_a; overlap, the mean cosine of two tokens; and the overlap that noise alone would
    give. The last line says whether the layers look like steps of common noise.

    [bold]Examples[/]

    rqf-jax run configs/pair.toml --set 'save=["state"]' --out runs/states.zarr

    rqf-jax fit runs/states.zarr --method pairs

    rqf-jax fit hidden_states.npz
    """
    from . import fit as fits

    screen = _screen(compiles=True)
    fits.fit(path, antisymmetric=antisymmetric, method=method, console=screen)


@app.command()
def verify(run: Run) -> None:
    """Read every file of a run, and compare it with the SHA-256 that was written with the run.

    Lists damaged files, and files that were not written with the run, and exits with code 1. The
    command that made the run computes damaged chunks again, and everything with --force.

    [bold]Example[/]

    rqf-jax verify runs/demo.zarr
    """
    from .. import _store
    from ..runs.screen import visible

    root = _store.Root.read(run)
    faults = root.faults(run, "everything")
    for name in faults.damaged:
        print(visible(f"{run / name}: damaged"))
    for name in faults.strange:
        print(visible(f"{run / name}: was not written with the run"))
    if root.manifest is not None:
        total = len(root.manifest.files)
        print(f"{total - len(faults.damaged)} of {total} files are as written.")
    if root.note:
        print(visible(root.note))
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
    from .. import io as files

    with files.load(run) as dataset:
        files.to_netcdf(dataset, file)


for _command in (transformers.explain, transformers.predict, transformers.spectra):
    app.command()(_command)


def _table(rows: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    return table


def _screen(hosts: str | None = None, *, compiles: bool = False) -> "Screen":
    """The terminal, once this process has joined its hosts, of which only the first prints."""
    from ..runs.screen import Screen

    if compiles:
        from .._ensemble import program as _program
        from . import cache

        cache.switch_on()
        _program.check_addresses()
    if hosts is None:
        return Screen()
    from ..runs import hosts as hosting

    return Screen(quiet=not hosting.join(hosts))
