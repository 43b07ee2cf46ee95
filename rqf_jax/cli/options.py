"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from . import complete

Run = Annotated[
    Path, typer.Argument(metavar="RUN", help="A store that `rqf-jax run` or `sweep` wrote.")
]
ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG", help="A TOML file, or the name of a config of the package, such as demo."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key, section.key or key alone; may be repeated.",
        autocompletion=complete.changes,
    ),
]
Form = Annotated[
    Literal["png", "pdf", "svg"], typer.Option("--format", help="The file format of the figures.")
]
Hosts = Annotated[
    str | None,
    typer.Option(
        metavar="auto|ADDRESS:PORT,COUNT,NUMBER",
        help="Share the work with other processes: auto reads SLURM's settings; or this is process "
        "NUMBER of COUNT, the first being 0.",
        show_default="alone",
    ),
]


def version(wanted: bool) -> bool:
    """Print the versions and the device, and leave, if that is wanted."""
    if wanted:
        import importlib.metadata

        import jax

        try:
            devices = jax.devices()
            found = f"{len(devices)} x {devices[0].device_kind}"
        except RuntimeError as error:  # of a driver that is not there
            found = f"no device: {error}"
        version = importlib.metadata.version("rqf_jax")
        print(f"rqf-jax {version}, jax {jax.__version__}, {found}")
        raise typer.Exit
    return wanted
