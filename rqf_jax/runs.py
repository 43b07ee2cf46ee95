"""A config becomes an ensemble on disk, with its figures and its comparison with closed forms.

Everything that can be wrong with a config, its files and its output path is found before anything
is compiled, and what is written appears complete or not at all; see `session`.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.figure import Figure
from rich.console import Console

from . import chunks, config as configs, io, laws, models, observables, plot, report, session
from ._program import Problem, Program, check
from ._sde import SDE
from ._simulate import simulate
from .config import Config, ConfigError
from .theory import sphere

# No ensemble has this member, so its key is free for the companion run.
_COMPANION = 2**32 - 1
_TABLE = "comparison.csv"
_LOOKED_AT = 2**28


class Save(eqx.Module):
    """A state to a dict of what a config asks to keep of it."""

    names: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "tokens dim"]) -> dict[str, Array]:
        """The state under "state", an observable under its own name."""
        return {
            name: x if name == "state" else getattr(observables, name)(x) for name in self.names
        }


@dataclass(frozen=True)
class Start:
    """The initial law of a config, and what is known about its tokens.

    `numbers` are the tokens' places in their sentence, `layers` (layers, pairs) their overlaps in
    every layer of the language model, if there is one.
    """

    title: str
    law: laws.AbstractLaw
    tokens: tuple[str, ...]
    numbers: tuple[int, ...]
    layers: Float[np.ndarray, "layers pairs"] | None = None

    def labels(self) -> list[str]:
        """The tokens, with their numbers where one occurs twice."""
        return [
            f"{token}({number})" if self.tokens.count(token) > 1 else token
            for token, number in zip(self.tokens, self.numbers, strict=True)
        ]

    def place(self, token: str | int) -> int:
        """Where a token that a config names stands in the state; ConfigError if nowhere."""
        known = self.numbers if isinstance(token, int) else self.tokens
        if known.count(token) == 1:
            return known.index(token)
        listed = ", ".join(f"{n} {t!r}" for n, t in zip(self.numbers, self.tokens, strict=True))
        rule = "one of the tokens" if token not in known else "a number, for it occurs twice"
        raise ConfigError(f"report.angle_pair: must be {rule} ({listed}); got {token!r}.")


def run(config: Config, out: Path, *, force: bool, console: Console) -> None:
    """Simulate, compare, draw and write: the store `out` and a folder of that name without .zarr.

    A run that was interrupted continues, and one that is complete is only checked. Raises
    `ConfigError`, `io.DataFileError` and FileExistsError before anything is compiled,
    `NonFiniteError` if members became NaN or infinite and the config does not have them marked,
    and see `session.carry_out`. `force` replaces the run at `out`, and nothing that is not a run.
    """
    folder = out.with_suffix("")
    if out.suffix != ".zarr":
        raise ConfigError(f"the path of a run must end in .zarr; got {out}.")
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} exists.")
    if folder.exists() and not (out.exists() or io.Draft.folder_of(out).exists()):
        raise FileExistsError(f"{folder} exists.")
    job = _job(config, out, console)
    new = session.carry_out(job, force=force, console=console)
    if jax.process_index() == 0 and (new or not (folder / _TABLE).exists()):
        look(out, folder, console)
        console.print(f"The ensemble is {out}; rqf-jax info {out} looks into it.", soft_wrap=True)


def look(out: Path, folder: Path, console: Console) -> None:
    """Compare the run at `out` with theory, and draw its figures into `folder`.

    Members that failed are left out, and so is what is beyond 256 MiB of members.
    """
    with io.load(out) as dataset:
        if dataset.attrs.get("failed"):
            dataset = dataset.isel(member=np.flatnonzero(dataset.status == 0))
        members = dataset.sizes["member"]
        size = sum(v.nbytes for v in dataset.variables.values() if "member" in v.dims)
        most = max(1, min(members, _LOOKED_AT * members // max(1, size)))
        if most < members:
            console.print(f"Compared and drawn from the first {most:,} of {members:,} members.")
            dataset = dataset.isel(member=slice(most))
        if members:
            draw(dataset, compare(dataset, console), folder, console)


def _job(config: Config, out: Path, console: Console) -> session.Job:
    """The ensemble of a config as a job; everything that can be wrong with it is found here."""
    sde = models.random_quadratic_form(config.model.sigma)
    start = initial(config.law)
    pair = [start.place(token) for token in config.report.angle_pair]
    law = laws.InSpan(start.law) if config.run.coordinates == "overlaps" else start.law
    ts = jnp.asarray(config.times.grid())
    key = jax.random.key(config.run.seed)
    members = config.run.members
    problem = Problem(sde, law, ts, key, Save(config.run.save), config.run.substeps)
    check(problem, members)
    console.print(f"[bold]{start.title}[/]\n{members:,} members to t = {ts[-1]:g}\n")

    def plan() -> tuple[io.Plan, Program]:
        chunk, program = chunks.choose(problem, members, config.run.chunk, jax.local_devices())
        divided = (("member", members, chunk),)
        kept = chunks.variables(problem, config.run.keep)
        return io.Plan(config.toml(), io.identity(), divided, kept, program.batch), program

    def compute(worker: chunks.Worker, plan: io.Plan, region: int) -> session.Result:
        (part,) = plan.slices(region)
        ys, status = worker(problem, part.start, part.stop - part.start)
        summaries = chunks.digest(ys, status, part.start, config.run.failures)
        return session.Result(ys | {"status": status}, summaries, int(np.sum(status > 0)))

    def finish(plan: io.Plan, records: Sequence[io.Record]) -> xarray.Dataset:
        facts = {
            "config": config.toml(),
            "seed": config.run.seed,
            "tokens": start.labels(),
            "angle_pair": pair,
            "failed": sum(record.failed for record in records),
        }
        dataset = chunks.summarised(plan, records).assign_coords(time=np.asarray(ts))
        if start.layers is not None:
            dataset["layer_overlaps"] = (("layer", "pair"), start.layers)
        if config.companion is not None:
            companion = _companion(config.companion.tokens, config.run.substeps, sde, ts, key)
            dataset["companion"] = (("time", "companion_token", "axis"), companion)
        if facts["failed"]:
            console.print(f"[bold red]{facts['failed']:,} of {members:,} members failed.[/]")
        return dataset.assign_attrs(facts | io.provenance())

    def size(plan: io.Plan, region: int) -> int:
        (part,) = plan.slices(region)
        return part.stop - part.start

    return session.Job(out, config.toml(), problem, plan, compute, finish, size)


def initial(law: configs.Law) -> Start:
    """The initial law that a config's section `law` names; ConfigError if there is no such law."""
    try:
        match law:
            case configs.HiddenStatesLaw():
                return _sentence(law)
            case configs.UniformLaw():
                drawn = laws.Uniform(law.tokens, law.dim)
            case configs.PairLaw():
                drawn = laws.Pair(law.angle, law.dim)
            case configs.EquiangularLaw():
                drawn = laws.Equiangular(law.tokens, law.dim, law.overlap)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"law: {error}") from error
    tokens = jax.eval_shape(drawn, jax.random.key(0)).shape[0]
    title = f"{law.name}: {tokens} tokens in R^{law.dim}"
    return Start(title, drawn, tuple(map(str, range(tokens))), tuple(range(tokens)))


def compare(dataset: xarray.Dataset, console: Console) -> list[report.Row]:
    """Print theory beside the ensemble of a stored run, and return its rows."""
    config = configs.parse(dataset.attrs["config"])
    rows = report.compare(
        dataset,
        sigma=config.model.sigma,
        labels=dataset.attrs["tokens"],
        log_det_times=config.report.log_det_times,
    )
    report.show(rows, dataset, console)
    if "layer_overlaps" in dataset and "overlaps" in dataset:
        report.show_layers(dataset, console)
    return rows


def draw(dataset: xarray.Dataset, rows: list[report.Row], folder: Path, console: Console) -> None:
    """Write comparison.csv and the figures of a stored run into `folder`."""
    config = configs.parse(dataset.attrs["config"])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rqf_jax.", dir=folder) as name, plot.style():
        workshop = Path(name)
        report.write_csv(rows, workshop / _TABLE)
        for stem, figure in _figures(dataset, config).items():
            figure.savefig(workshop / f"{stem}.png")
        names = sorted(path.name for path in workshop.iterdir())
        for name in names:
            (workshop / name).replace(folder / name)
    console.print(f"{', '.join(names)} are in {folder}.", soft_wrap=True)


def _sentence(law: configs.HiddenStatesLaw) -> Start:
    sentences = io.example_hidden_states() if law.file is None else io.read_hidden_states(law.file)
    if law.sentence >= len(sentences):
        raise ConfigError(
            f"law.sentence: must be below {len(sentences)}, the number of sentences; "
            f"got {law.sentence}."
        )
    sentence = sentences[law.sentence]
    if law.layer >= len(sentence.states):
        raise ConfigError(
            f"law.layer: must be below {len(sentence.states)}, the number of layers; "
            f"got {law.layer}."
        )
    numbers = _numbers(sentence.tokens, law.tokens)
    if len(numbers) < 2:
        raise ConfigError(f"law.tokens: must be at least 2 tokens; got {len(numbers)}.")
    chosen = sentence.select(numbers)
    title = (
        f"“{sentence.text}”\n{len(numbers)} tokens of layer {law.layer} "
        f"in R^{sentence.states.shape[-1]}"
    )
    start = laws.Fixed(chosen.unit(law.layer))
    return Start(title, start, chosen.tokens, numbers, chosen.overlaps())


def _numbers(tokens: tuple[str, ...], wanted: tuple[str | int, ...] | None) -> tuple[int, ...]:
    """The places of the tokens that a config asks for, in the order of the sentence."""
    if wanted is None:
        return tuple(range(len(tokens)))
    for token in wanted:
        if token not in (range(len(tokens)) if isinstance(token, int) else tokens):
            raise ConfigError(
                f"law.tokens: must be among the sentence's {len(tokens)} tokens, "
                f"{' '.join(tokens)}; got {token!r}."
            )
    return tuple(i for i, token in enumerate(tokens) if i in wanted or token in wanted)


def _companion(
    tokens: int, substeps: int, sde: SDE, ts: Float[Array, " times"], key: PRNGKeyArray
) -> Float[Array, "times tokens 3"]:
    """One member of uniform tokens in 3 dimensions."""
    law = laws.Uniform(tokens, 3)
    one = simulate(sde, law, ts, substeps=substeps, members=1, key=key, first_member=_COMPANION)
    return one.ys[0]


def _figures(dataset: xarray.Dataset, config: Config) -> Mapping[str, Figure]:
    """The figures that a stored run has the variables for."""
    figures = {}
    if "overlaps" in dataset:
        figures["order"] = _order(dataset, config)
        if config.report.angle_time is not None:
            figures["angles"] = _angles(dataset, config, config.report.angle_time)
    if "companion" in dataset:
        figures["sphere"] = _sphere(dataset)
    return figures


def _order(dataset: xarray.Dataset, config: Config) -> Figure:
    """Order parameters, and the overlaps of the closest and the farthest pair, against time."""
    sigma = config.model.sigma
    time = np.asarray(dataset.time, float)
    overlaps = np.asarray(dataset.overlaps, float)
    tokens = len(dataset.attrs["tokens"])
    initial = overlaps[:, 0].mean(0)
    # Members that start alike have one theory line; otherwise it is the mean over their starts.
    starts = overlaps[:1, 0] if np.ptp(overlaps[:, 0], axis=0).max() == 0 else overlaps[:, 0]
    mean = np.mean(sphere.mean_overlap(time[:, None, None], starts, sigma=sigma), 1)
    square = np.mean(sphere.mean_squared_overlap(time[:, None, None], starts, sigma=sigma), (1, 2))
    polar, nematic = "mean token, $|\\bar{x}|^2$", "pairs, $\\langle x_a, x_b\\rangle^2$"
    figure = Figure(figsize=(7.0, 2.9))
    left, right = figure.subplots(1, 2)
    plot.mean_lines(
        time,
        {polar: (1 + (tokens - 1) * overlaps.mean(-1)) / tokens, nematic: (overlaps**2).mean(-1)},
        theory={polar: (1 + (tokens - 1) * mean.mean(-1)) / tokens, nematic: square},
        ax=left,
        ylabel="order",
    )
    labels = report.pair_labels(dataset.attrs["tokens"])
    ranks = np.argsort(initial)
    chosen = dict.fromkeys((int(ranks[-1]), int(ranks[0])))
    plot.mean_lines(
        time,
        {labels[i]: overlaps[..., i] for i in chosen},
        theory={labels[i]: mean[:, i] for i in chosen},
        ax=right,
        ylabel="overlap $\\langle x_a, x_b\\rangle$",
    )
    return figure


def _angles(dataset: xarray.Dataset, config: Config, time: float) -> Figure:
    """The angle of one pair at one time against its density."""
    a, b = sorted(dataset.attrs["angle_pair"])
    labels = dataset.attrs["tokens"]
    rows, columns = np.triu_indices(len(labels), 1)
    index = int(np.flatnonzero((rows == a) & (columns == b))[0])
    overlaps = np.asarray(dataset.overlaps.isel(pair=index), float)
    angles = 2 * np.arctan2(np.sqrt(1 - overlaps), np.sqrt(1 + overlaps))
    column = int(np.argmin(np.abs(np.asarray(dataset.time) - time)))
    start = angles[:, 0]
    density = None
    if np.ptp(start) == 0:
        density = lambda theta: sphere.angle_density(  # noqa: E731
            theta, time, start[0], sigma=config.model.sigma
        )
    figure = Figure(figsize=(3.4, 2.6))
    ax = plot.angle_histogram(angles[:, column], density=density, ax=figure.subplots())
    ax.set_title(f"{labels[a]}–{labels[b]}, $t = {time:g}$")
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
    size = int(np.sum(x[-1] @ x[-1, 0] > 0))
    ax.set_title(f"$t = {time[-1]:g}$: {size} + {x.shape[1] - size} tokens")
    return figure
