"""A config becomes an ensemble on disk, with its figures and its comparison with closed forms.

Everything that can be wrong with a config, its files and its output path is found before anything
is compiled, and what is written appears complete or not at all; see `session`.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from .. import _store, io, laws, plot
from .._ensemble.simulate import simulate
from .._sde import SDE
from .._store import Plan, Record, Result
from . import comparison as report, config as configs, session
from .comparison import ClosedForms
from .config import Config, ConfigError
from .job import AbstractJob
from .plan import portions
from .problem import Start, check, equation, initial, inputs, problem
from .summaries import digest, summarised, total, variables
from .worker import Worker

# No ensemble has this member, so its key is free for the companion run.
_COMPANION = 2**32 - 1
_TABLE, _WORKSHOP = "comparison.csv", ".rqf_jax."
_LOOKED_AT = 2**28


def run(config: Config, out: Path, *, force: bool, console: Console) -> None:
    """Simulate, compare, draw and write: the store `out` and a folder of that name without .zarr.

    A run that was interrupted continues, and one that is complete is only checked. Raises
    `ConfigError`, `io.DataFileError` and FileExistsError before anything is compiled,
    `NonFiniteError` if members became NaN or infinite and the config does not have them marked,
    and see `session.carry_out`. `force` replaces the run at `out`, and nothing that is not a run.
    """
    if out.suffix != ".zarr":
        raise ConfigError(f"the path of a run must end in .zarr; got {out}.")
    store, folder = _store.real_target(out), out.with_suffix("")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} exists.")
    if folder.exists() and not (store.exists() or _store.Draft.folder_of(store).exists()):
        raise FileExistsError(f"{folder} exists.")
    job = EnsembleJob.of(config)
    console.print(
        f"[bold]{job.start.title}[/]\n"
        f"{config.run.members:,} members to t = {job.problem.ts[-1]:g}\n"
    )
    new = session.carry_out(job, store, force=force, console=console)
    if jax.process_index() == 0 and (new or not _is_drawn(out, folder)):
        look(out, folder, console)
        console.print(f"The ensemble is {out}; rqf-jax info {out} looks into it.", soft_wrap=True)


def _is_drawn(out: Path, folder: Path) -> bool:
    """Whether the table, the last file to be written, is of the run and not of one before it."""
    table = folder / _TABLE
    return table.exists() and table.stat().st_mtime_ns >= (out / _store.ROOT).stat().st_mtime_ns


def look(out: Path, folder: Path, console: Console, *, form: str = "png") -> None:
    """Compare the run at `out` with theory, and draw its figures into `folder`.

    `form` is the file format of the figures: png, pdf or svg. Members that failed are left out,
    and so is what is beyond 256 MiB of members. Raises `io.DataFileError` for a sweep, or what was
    saved from Python.
    """
    with io.load(out) as dataset:
        _config(dataset)  # so that what is no run of a config is one clear error
        if dataset.attrs.get("failed"):
            dataset = dataset.isel(member=np.flatnonzero(dataset.status == 0))
        members = dataset.sizes["member"]
        size = sum(v.nbytes for v in dataset.variables.values() if "member" in v.dims)
        most = max(1, min(members, _LOOKED_AT * members // max(1, size)))
        if most < members:
            console.print(f"Compared and drawn from the first {most:,} of {members:,} members.")
            dataset = dataset.isel(member=slice(most))
        if members:
            draw(dataset, compare(dataset, console), folder, console, form=form)


@dataclass(frozen=True)
class EnsembleJob(AbstractJob):
    """The ensemble of a config. Construct it with `of`."""

    config: Config
    start: Start
    companion: SDE | None

    unit: ClassVar[str] = "members"

    @classmethod
    def of(cls, config: Config) -> "EnsembleJob":
        """The job of a config; everything that can be wrong with the config is found here.

        Raises `ConfigError` and `io.DataFileError`.
        """
        start = initial(config.law)
        for token in config.report.angle_pair if start.tokens else ():
            start.place(token)
        companion = None if config.companion is None else equation(config, (3,))
        one = problem(config, start)
        check(one, config.run.members)
        text, every = config.toml(), config.run.checkpoint
        return cls(text, inputs(config), one, every, config, start, companion)

    def plan(self, devices: Sequence[Any]) -> Plan:
        """Members divided into chunks, as many as the memory and the disk like."""
        run = self.config.run
        chunk, batch = portions(self.problem, run.members, run.chunk, self.every, devices)
        kept = variables(self.problem, run.keep)
        divided = (("member", run.members, chunk),)
        return Plan(self.text, self.files, _store.identity(), divided, kept, batch)

    def compute(self, worker: Worker, chunk: int) -> Result:
        """The members of one chunk."""
        (part,) = worker.work.plan.slices(chunk)
        ys, status = worker.members(self.problem, chunk, part.start, part.stop - part.start)
        summaries = digest(ys, status, part.start, self.config.run.failures)
        return Result(ys | {"status": status}, summaries, int(np.sum(status > 0)))

    def finish(self, records: Iterator[Record], console: Console) -> xarray.Dataset:
        """Summaries of all members, the language model's layers and the companion run."""
        start, run, ts = self.start, self.config.run, np.asarray(self.problem.ts)
        summaries, failed = total(records)
        dataset = summarised(summaries, ts)
        if start.layers is not None:
            dataset["layer_overlaps"] = (("layer", "pair"), start.layers)
        if self.companion is not None:
            dataset["companion"] = (("time", "companion_token", "axis"), self._companion())
        if failed:
            console.print(f"[bold red]{failed:,} of {run.members:,} members failed.[/]")
        pair = [start.place(token) for token in self.config.report.angle_pair if start.tokens]
        facts = {
            "config": self.text,
            "seed": run.seed,
            "tokens": start.labels(),
            "dim": start.dim,
            **({} if start.rows is None else {"rows": start.rows}),
            "angle_pair": pair,
            "failed": failed,
        }
        return dataset.assign_attrs(facts | _store.provenance())

    def _companion(self) -> np.ndarray:
        """One member of uniform tokens in 3 dimensions (times, tokens, 3)."""
        assert self.companion is not None and self.config.companion is not None
        one = simulate(
            self.companion,
            laws.Uniform(self.config.companion.tokens, 3),
            self.problem.ts,
            substeps=self.config.run.substeps,
            members=1,
            key=self.problem.key,
            first_member=_COMPANION,
        )
        return np.asarray(one.ys[0])


def tokens_of(dataset: xarray.Dataset) -> list[str]:
    """The names of the tokens of a stored run."""
    tokens = dataset.attrs["tokens"]
    return tokens.split("\n") if isinstance(tokens, str) else list(tokens)


def closed_forms(dataset: xarray.Dataset) -> ClosedForms:
    """What is known of the model of a stored run."""
    size = [int(dataset.attrs[name]) for name in ("dim", "rows") if name in dataset.attrs]
    return _config(dataset).model.closed_forms(*size)


def _config(dataset: xarray.Dataset) -> Config:
    """The config of a stored run; `io.DataFileError` if it is not one of `rqf-jax run`."""
    missing = [name for name in ("config", "dim", "tokens") if name not in dataset.attrs]
    if missing:
        raise io.DataFileError(
            f"no run of a config: without the attribute {missing[0]}, which `rqf-jax run` writes, "
            "it has no figures of its own."
        )
    return configs.parse(dataset.attrs["config"])


def compare(dataset: xarray.Dataset, console: Console) -> list[report.Row]:
    """Print theory beside the ensemble of a stored run, and return its rows."""
    config = _config(dataset)
    forms = closed_forms(dataset)
    rows = report.compare(
        dataset,
        forms,
        labels=tokens_of(dataset),
        log_det_times=config.report.log_det_times,
        one_point_times=config.report.one_point_times,
        spectrum_times=config.report.spectrum_times,
    )
    report.show(rows, dataset, console)
    if "layer_overlaps" in dataset and "overlaps" in dataset:
        report.show_layers(dataset, forms, console)
    for note in forms.notes:
        console.print(note, "")
    return rows


def draw(
    dataset: xarray.Dataset,
    rows: list[report.Row],
    folder: Path,
    console: Console,
    *,
    form: str = "png",
) -> None:
    """Write comparison.csv and the figures of a stored run into `folder`."""
    config = _config(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    for rest in folder.glob(f"{_WORKSHOP}*"):  # of a process that was killed as it drew
        shutil.rmtree(rest)
    with tempfile.TemporaryDirectory(prefix=_WORKSHOP, dir=folder) as name, plot.style():
        workshop = Path(name)
        report.write_csv(rows, workshop / _TABLE)
        for stem, figure in _figures(dataset, config).items():
            figure.savefig(workshop / f"{stem}.{form}")
        names = sorted(path.name for path in workshop.iterdir())
        for name in sorted(names, key=lambda name: name == _TABLE):
            (workshop / name).replace(folder / name)
    console.print(f"{', '.join(names)} are in {folder}.", soft_wrap=True)


def _figures(dataset: xarray.Dataset, config: Config) -> Mapping[str, Figure]:
    """The figures that a stored run has the variables for."""
    figures, forms = {}, closed_forms(dataset)
    if "overlaps" in dataset:
        if dataset.sizes["member"] > 1:  # the mean of one has no error
            figures["order"] = _order(dataset, forms)
        if config.report.angle_time is not None:
            figures["angles"] = _angles(dataset, forms, config.report.angle_time)
    spectra = report.spectra_of(dataset)
    if spectra is not None:
        figures["spectrum"] = _spectrum(spectra, forms)
    if "companion" in dataset:
        figures["sphere"] = _sphere(dataset)
    return figures


def _order(dataset: xarray.Dataset, forms: ClosedForms) -> Figure:
    """Order parameters, and the overlaps of the closest and the farthest pair, against time."""
    time = np.asarray(dataset.time, float)
    overlaps = np.asarray(dataset.overlaps, float)
    tokens = len(tokens_of(dataset))
    labels = report.pair_labels(tokens_of(dataset))
    ranks = np.argsort(overlaps[:, 0].mean(0))
    chosen = dict.fromkeys((int(ranks[-1]), int(ranks[0])))
    polar, nematic = "mean token, $|\\bar{x}|^2$", "pairs, $\\langle x_a, x_b\\rangle^2$"
    # Members that start alike have one theory line; otherwise it is the mean over their starts.
    starts = overlaps[:1, 0] if np.ptp(overlaps[:, 0], axis=0).max() == 0 else overlaps[:, 0]
    moments = None if forms.moments is None else forms.moments(time, starts)
    order_theory, pair_theory = {}, {}
    if moments is not None:
        mean, square = moments
        order_theory = {
            polar: (1 + (tokens - 1) * mean.mean(-1)) / tokens,
            nematic: square.mean(-1),
        }
        pair_theory = {labels[i]: mean[:, i] for i in chosen}
    (left, right), below = _panels(order_theory)
    plot.mean_lines(
        time,
        {polar: (1 + (tokens - 1) * overlaps.mean(-1)) / tokens, nematic: (overlaps**2).mean(-1)},
        theory=order_theory,
        ax=left,
        differences=below[0],
        ylabel="order",
    )
    plot.mean_lines(
        time,
        {labels[i]: overlaps[..., i] for i in chosen},
        theory=pair_theory,
        ax=right,
        differences=below[1],
        ylabel="overlap $\\langle x_a, x_b\\rangle$",
    )
    return left.get_figure()


def _panels(theory: Mapping[str, np.ndarray]) -> tuple[list[Axes], list[Axes | None]]:
    """Two axes side by side and, where there is theory, two below them for the differences."""
    if not theory:
        return list(Figure(figsize=(7.0, 2.9)).subplots(1, 2)), [None, None]
    grid = Figure(figsize=(7.0, 3.8)).subplots(2, 2, sharex="col", height_ratios=(3, 1))
    return list(grid[0]), list(grid[1])


def _angles(dataset: xarray.Dataset, forms: ClosedForms, time: float) -> Figure:
    """The angle of one pair at one time against its density."""
    a, b = sorted(dataset.attrs["angle_pair"])
    labels = dataset.attrs["tokens"]
    rows, columns = np.triu_indices(len(labels), 1)
    index = int(np.flatnonzero((rows == a) & (columns == b))[0])
    overlaps = np.asarray(dataset.overlaps.isel(pair=index), float)
    angles = 2 * np.arctan2(np.sqrt(1 - overlaps), np.sqrt(1 + overlaps))
    column = int(np.argmin(np.abs(np.asarray(dataset.time) - time)))
    start, density = angles[:, 0], None
    if forms.angle_density is not None and np.ptp(start) == 0:
        known = forms.angle_density
        density = lambda theta: known(theta, time, start[0])  # noqa: E731
    figure = Figure(figsize=(3.4, 2.6))
    ax = plot.angle_histogram(
        angles[:, column],
        density=density,
        ax=figure.subplots(),
        label=f"{len(angles):,} members",
    )
    ax.set_title(f"{labels[a]}–{labels[b]}, $t = {time:g}$")
    return figure


def _spectrum(spectra: xarray.DataArray, forms: ClosedForms) -> Figure:
    """The mean of Σλ² or Σσ² against time, and the density of the last values."""
    time, values = np.asarray(spectra.time, float), np.asarray(spectra, float)
    eigenvalues = spectra.name == "spectrum"
    elapsed, letter = time - time[0], r"\lambda" if eigenvalues else r"\sigma"
    label, theory = f"$\\sum_i {letter}_i^2$", {}
    if forms.square_sum is not None:
        theory[label] = np.asarray(forms.square_sum(elapsed, values[:, 0]))
    rows = [["mean", "law"], ["gap", "law"]] if theory and len(values) > 1 else [["mean", "law"]]
    figure = Figure(figsize=(7.0, 2.3 + 0.6 * len(rows)))
    axes = figure.subplot_mosaic(rows, height_ratios=(3, 1)[: len(rows)])
    left, right, gap = axes["mean"], axes["law"], axes.get("gap")
    if len(values) > 1:
        sums = {label: np.sum(values**2, -1)}
        mean = f"mean of {label}"
        plot.mean_lines(time, sums, theory=theory, ax=left, differences=gap, ylabel=mean)
    from_zero = not values[:, 0].any()
    edge = float(forms.edge(elapsed[-1])) if forms.edge is not None and from_zero else None
    density = None if forms.density is None else forms.density(elapsed[-1])
    count = f"{len(values):,} members"
    plot.spectrum(values[:, -1], edge=edge, density=density, ax=right, label=count)
    if not eigenvalues:
        right.set_xlabel(f"singular value ${letter}$")
    right.set_title(f"$t = {time[-1]:g}$")
    return figure


def _sphere(dataset: xarray.Dataset) -> Figure:
    """Uniform tokens in 3 dimensions at the start, on their way and at the end."""
    x = np.asarray(dataset.companion)
    time = np.asarray(dataset.time)
    middle = int(np.searchsorted(time, time[-1] / 8))
    figure = Figure(figsize=(7.0, 2.6))
    for ax, k in zip(figure.subplots(1, 3), (0, middle, len(time) - 1), strict=True):
        plot.sphere(x[k], ax=ax)
        ax.set_title(f"$t = {time[k]:g}$")
    overlaps = x[-1] @ x[-1, 0]
    if np.all(np.abs(overlaps) > 0.9):  # tokens about one axis are one cluster or two
        size = int(np.sum(overlaps > 0))
        ax.set_title(f"$t = {time[-1]:g}$: {size} + {x.shape[1] - size} tokens")
    return figure
