"""A stored run or sweep, compared with closed forms and drawn."""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import xarray
from matplotlib.figure import Figure
from rich.console import Console

from .. import _store, io, plot
from . import comparison, config as configs, figures, learned, swept
from .catalogue import ClosedForms, ConfigError
from .comparison import Row
from .config import AbstractConfig, Config, SeedsConfig
from .design import Design

Form = Literal["png", "pdf", "svg"]
"""The file format of figures."""

TABLE = "comparison.csv"
"""The table of the comparison; there is none if nothing has a closed form."""

_WORKSHOP = ".rqf_jax."
_LOOKED_AT = 2**28


def look(out: Path, folder: Path, console: Console, *, form: Form = "png") -> None:
    """Compare the run or sweep at `out` with theory, and draw its figures into `folder`.

    Members that failed are left out. Of a run at most 256 MiB of members are read. Raises
    `io.DataFileError` for a store that no config made.
    """
    with io.load(out) as dataset:
        config = stored_config(dataset)
        design = Design.stored(dataset.attrs["config"])
        if isinstance(config, SeedsConfig):
            seen = learned.Seen.of(dataset, config, design)
            rows = learned.compare(seen)
            comparison.show(rows, dataset, console)
            draw(lambda: learned.figures(seen), rows, folder, console, form)
            return
        if design is not None:
            assert isinstance(config, Config)
            rows = swept.compare(dataset, config, design)
            comparison.show(rows, dataset, console)
            draw(lambda: swept.figures(dataset, design, rows), rows, folder, console, form)
            return
        assert isinstance(config, Config)
        if dataset.attrs.get("failed"):
            dataset = dataset.isel(member=np.flatnonzero(dataset.status == 0))
        members = dataset.sizes["member"]
        size = sum(v.nbytes for v in dataset.variables.values() if "member" in v.dims)
        most = max(1, min(members, _LOOKED_AT * members // max(1, size)))
        if most < members:
            console.print(f"Compared and drawn from the first {most:,} of {members:,} members.")
            dataset = dataset.isel(member=slice(most))
        if members:
            forms = closed_forms(dataset, config)
            rows = compare(dataset, config, forms, console)
            draw(lambda: figures.figures(dataset, config, forms), rows, folder, console, form)


def place_of_figures(out: Path) -> Path:
    """The folder beside a run or sweep for its table and figures: its path without .zarr.

    Raises `ConfigError` for a path that no run can have, and FileExistsError if the folder is
    there and belongs to something else.
    """
    if out.suffix != ".zarr":
        raise ConfigError(
            f"--out: the path must end in .zarr; got {str(out) if out.name else ''!r}."
        )
    store, folder = _store.real_target(out), out.with_suffix("")
    begun = store.exists() or _store.Draft.folder_of(store).exists()
    if folder.exists() and not (folder.is_dir() and begun):
        raise FileExistsError(f"{folder} exists.")
    return folder


def is_drawn(out: Path, folder: Path) -> bool:
    """True if the folder has files of this run, all of them, and none of one before it."""
    files = list(folder.iterdir()) if folder.is_dir() else []
    # The workshop goes when everything is in its place.
    if not files or any(path.name.startswith(_WORKSHOP) for path in files):
        return False
    begun = (out / _store.ROOT).stat().st_mtime_ns
    return max(path.stat().st_mtime_ns for path in files) >= begun


def stored_config(dataset: xarray.Dataset) -> AbstractConfig:
    """The config of a stored run or sweep; `io.DataFileError` if no config made it."""
    text = dataset.attrs.get("config", "")
    table = configs.loaded(text if isinstance(text, str) else "", "the stored config")
    swept = table.pop("sweep", None) is not None
    alone = swept or issubclass(configs.kind_of(table), SeedsConfig)
    for name in ("config",) if alone else ("config", "dim", "tokens"):
        if name not in dataset.attrs:
            raise io.DataFileError(
                f"no config made this store: it lacks the attribute {name}, which `rqf-jax run` "
                "writes. In Python, `rqf_jax.open` reads it."
            )
    with warnings.catch_warnings():
        # Keys of an earlier version are right in a store that this version wrote.
        warnings.simplefilter("ignore", DeprecationWarning)
        return configs.validated(table, "the stored config")


def closed_forms(dataset: xarray.Dataset, config: Config) -> ClosedForms:
    """The closed forms of the model of a stored run."""
    size = [int(dataset.attrs[name]) for name in ("dim", "rows") if name in dataset.attrs]
    return config.model.closed_forms(*size)


def compare(
    dataset: xarray.Dataset, config: Config, forms: ClosedForms, console: Console
) -> list[Row]:
    """Print theory beside the ensemble of a stored run, and return its rows."""
    rows = comparison.compare(
        dataset,
        forms,
        labels=comparison.tokens_of(dataset),
        log_det_times=config.report.log_det_times,
        one_point_times=config.report.one_point_times,
        spectrum_times=config.report.spectrum_times,
    )
    comparison.show(rows, dataset, console)
    if "layer_overlaps" in dataset and "overlaps" in dataset:
        comparison.show_layers(dataset, forms, console)
    for note in forms.notes:
        console.print(note, "")
    return rows


def draw(
    drawn: Callable[[], Mapping[str, Figure]],
    rows: Sequence[Row],
    folder: Path,
    console: Console,
    form: Form,
) -> None:
    """Write the figures into `folder`, and comparison.csv if there is something to compare."""
    folder.mkdir(parents=True, exist_ok=True)
    for rest in folder.glob(f"{_WORKSHOP}*"):  # of a process that was killed as it drew
        shutil.rmtree(rest)
    with tempfile.TemporaryDirectory(prefix=_WORKSHOP, dir=folder) as name, plot.style():
        workshop = Path(name)
        if rows:
            comparison.write_csv(rows, workshop / TABLE)
        for stem, figure in drawn().items():
            figure.savefig(workshop / f"{stem}.{form}")
        names = sorted(path.name for path in workshop.iterdir())
        for name in sorted(names, key=lambda name: name == TABLE):
            (workshop / name).replace(folder / name)
        if not rows:
            (folder / TABLE).unlink(missing_ok=True)  # of a run before this one
    if names:
        verb = "is" if len(names) == 1 else "are"
        console.print(f"{', '.join(names)} {verb} in {folder}.", soft_wrap=True)
