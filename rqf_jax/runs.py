"""A config becomes an ensemble on disk, with its figures and its comparison with closed forms.

Everything that can be wrong with a config, its files and its output path is found before anything
is compiled, and what is written appears complete or not at all.
"""

import tempfile
from collections.abc import Mapping
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
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from . import config as configs, io, laws, observables, plot, report
from ._sde import SDE
from ._simulate import simulate
from .config import Config, ConfigError
from .report import ClosedForms

# No ensemble has this member, so its key is free for the companion run.
_COMPANION = 2**32 - 1


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

    They are in R^`dim`; `numbers` are the tokens' places in their sentence, `layers` (layers,
    pairs) their overlaps in every layer of the language model, if there is one.
    """

    title: str
    law: laws.AbstractLaw
    dim: int
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

    Raises `ConfigError`, `io.DataFileError` and FileExistsError before anything is compiled, and
    `NonFiniteError`, with nothing written, if members became NaN or infinite. `force` replaces
    the run at `out`, and nothing that is not a run.
    """
    folder = out.with_suffix("")
    if out.suffix != ".zarr":
        raise ConfigError(f"the path of a run must end in .zarr; got {out}.")
    io.check_target(out, overwrite=force)
    if folder.exists() and not (force and folder.is_dir()):
        raise FileExistsError(f"{folder} exists.")
    start = initial(config.law)
    sde = equation(config, start.dim)
    companion = None if config.companion is None else equation(config, 3)
    pair = [start.place(token) for token in config.report.angle_pair]
    law = laws.InSpan(start.law) if config.run.coordinates == "overlaps" else start.law
    ts = jnp.asarray(config.times.grid())
    key = jax.random.key(config.run.seed)

    console.print(f"[bold]{start.title}[/]\n{config.run.members:,} members to t = {ts[-1]:g}\n")
    dataset = _ensemble(config, sde, law, ts, key, console)
    console.print()
    if start.layers is not None:
        dataset["layer_overlaps"] = (("layer", "pair"), start.layers)
    if companion is not None:
        dataset["companion"] = (
            ("time", "companion_token", "axis"),
            _companion(config, companion, ts, key),
        )
    attributes = {
        "config": config.toml(),
        "seed": config.run.seed,
        "tokens": start.labels(),
        "dim": start.dim,
        "angle_pair": pair,
    }
    dataset = dataset.assign_attrs(attributes)
    rows = compare(dataset, console)
    io.save_dataset(dataset, out, attributes=attributes, overwrite=force)
    draw(dataset, rows, folder, console)
    console.print(f"The ensemble is {out}; rqf-jax info {out} looks into it.", soft_wrap=True)


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
    return Start(title, drawn, law.dim, tuple(map(str, range(tokens))), tuple(range(tokens)))


def equation(config: Config, dim: int) -> SDE:
    """The equation that a config's section `model` names; ConfigError if R^dim has none."""
    try:
        return config.model.sde(dim)
    except ValueError as error:
        raise ConfigError(f"model.{error}") from error


def closed_forms(dataset: xarray.Dataset) -> ClosedForms:
    """What is known of the model of a stored run."""
    return configs.parse(dataset.attrs["config"]).model.closed_forms(int(dataset.attrs["dim"]))


def compare(dataset: xarray.Dataset, console: Console) -> list[report.Row]:
    """Print theory beside the ensemble of a stored run, and return its rows."""
    config = configs.parse(dataset.attrs["config"])
    forms = closed_forms(dataset)
    rows = report.compare(
        dataset,
        forms,
        labels=dataset.attrs["tokens"],
        log_det_times=config.report.log_det_times,
        one_point_times=config.report.one_point_times,
    )
    report.show(rows, dataset, console)
    if "layer_overlaps" in dataset and "overlaps" in dataset:
        report.show_layers(dataset, forms, console)
    for note in forms.notes:
        console.print(note, "")
    return rows


def draw(dataset: xarray.Dataset, rows: list[report.Row], folder: Path, console: Console) -> None:
    """Write comparison.csv and the figures of a stored run into `folder`."""
    config = configs.parse(dataset.attrs["config"])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rqf_jax.", dir=folder) as name, plot.style():
        workshop = Path(name)
        report.write_csv(rows, workshop / "comparison.csv")
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
    dim = sentence.states.shape[-1]
    return Start(title, start, dim, chosen.tokens, numbers, chosen.overlaps())


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


def _ensemble(
    config: Config,
    sde: SDE,
    law: laws.AbstractLaw,
    ts: Float[Array, " times"],
    key: PRNGKeyArray,
    console: Console,
) -> xarray.Dataset:
    """The whole ensemble, simulated batch after batch behind a progress bar."""
    members, batch = config.run.members, config.run.batch
    save = Save(config.run.save)
    parts = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        task = progress.add_task("compiling ", total=members)
        for first in range(0, members, batch):
            part = simulate(
                sde,
                law,
                ts,
                substeps=config.run.substeps,
                members=min(batch, members - first),
                key=key,
                save=save,
                first_member=first,
            )
            parts.append(part.to_xarray({name: ("pair",) for name in ("overlaps", "angles")}))
            progress.update(task, advance=part.status.size, description="simulating")
    whole = xarray.concat(
        parts, "member", data_vars="minimal", coords="minimal", compat="override", join="exact"
    )
    assert isinstance(whole, xarray.Dataset)  # `concat` also takes trees
    return whole


def _companion(
    config: Config, sde: SDE, ts: Float[Array, " times"], key: PRNGKeyArray
) -> Float[Array, "times tokens 3"]:
    """One member of uniform tokens in 3 dimensions."""
    assert config.companion is not None
    law, substeps = laws.Uniform(config.companion.tokens, 3), config.run.substeps
    one = simulate(sde, law, ts, substeps=substeps, members=1, key=key, first_member=_COMPANION)
    return one.ys[0]


def _figures(dataset: xarray.Dataset, config: Config) -> Mapping[str, Figure]:
    """The figures that a stored run has the variables for."""
    figures, forms = {}, closed_forms(dataset)
    if "overlaps" in dataset:
        figures["order"] = _order(dataset, forms)
        if config.report.angle_time is not None:
            figures["angles"] = _angles(dataset, forms, config.report.angle_time)
    if "companion" in dataset:
        figures["sphere"] = _sphere(dataset)
    return figures


def _order(dataset: xarray.Dataset, forms: ClosedForms) -> Figure:
    """Order parameters, and the overlaps of the closest and the farthest pair, against time."""
    time = np.asarray(dataset.time, float)
    overlaps = np.asarray(dataset.overlaps, float)
    tokens = len(dataset.attrs["tokens"])
    labels = report.pair_labels(dataset.attrs["tokens"])
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
    figure = Figure(figsize=(7.0, 2.9))
    left, right = figure.subplots(1, 2)
    plot.mean_lines(
        time,
        {polar: (1 + (tokens - 1) * overlaps.mean(-1)) / tokens, nematic: (overlaps**2).mean(-1)},
        theory=order_theory,
        ax=left,
        ylabel="order",
    )
    plot.mean_lines(
        time,
        {labels[i]: overlaps[..., i] for i in chosen},
        theory=pair_theory,
        ax=right,
        ylabel="overlap $\\langle x_a, x_b\\rangle$",
    )
    return figure


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
    overlaps = x[-1] @ x[-1, 0]
    if np.all(np.abs(overlaps) > 0.9):  # tokens about one axis are one cluster or two
        size = int(np.sum(overlaps > 0))
        ax.set_title(f"$t = {time[-1]:g}$: {size} + {x.shape[1] - size} tokens")
    return figure


class _Rate(ProgressColumn):
    """Members per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} members/s")
