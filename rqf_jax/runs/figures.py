"""The figures of a stored run: each is drawn if the run has the variables for it."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import plot
from ..plot.errors import theory_line
from .catalogue import ClosedForms
from .comparison import pair_labels, spectra_of, tokens_of
from .config import Config
from .screen import visible


def figures(dataset: xarray.Dataset, config: Config, forms: ClosedForms) -> Mapping[str, Figure]:
    """The figures that a stored run has the variables for, by name."""
    figures = {}
    if "overlaps" in dataset:
        if dataset.sizes["member"] > 1:  # the mean of one has no error
            figures["order"] = _order(dataset, forms)
        if config.report.angle_time is not None:
            figures["angles"] = _angles(dataset, forms, config.report.angle_time)
    spectra = spectra_of(dataset)
    if spectra is not None:
        figures["spectrum"] = _spectrum(spectra, forms)
    known = [name for name in forms.means if name in dataset]
    if known and dataset.sizes["member"] > 1:
        figures["means"] = _means(dataset, forms, known)
    if "companion" in dataset:
        figures["sphere"] = _sphere(dataset)
    return figures


def literal(texts: Sequence[str]) -> list[str]:
    """Texts of others as matplotlib shows them letter by letter: no formula, no hidden label."""
    return [f"{' ' * (text[:1] == '_')}{visible(text)}".replace("$", r"\$") for text in texts]


def _order(dataset: xarray.Dataset, forms: ClosedForms) -> Figure:
    """Order parameters, and the overlaps of the closest and the farthest pair, against time."""
    time = np.asarray(dataset.time, float)
    overlaps = np.asarray(dataset.overlaps, float)
    tokens = len(tokens_of(dataset))
    labels = pair_labels(literal(tokens_of(dataset)))
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
    return left.get_figure()  # pyright: ignore[reportReturnType]


def _panels(theory: Mapping[str, np.ndarray]) -> tuple[list[Axes], list[Axes | None]]:
    """Two axes side by side and, where there is theory, two below them for the differences."""
    if not theory:
        return list(Figure(figsize=(7.0, 2.9)).subplots(1, 2)), [None, None]
    grid = Figure(figsize=(7.0, 3.8)).subplots(2, 2, sharex="col", height_ratios=(3, 1))
    return list(grid[0]), list(grid[1])


def _angles(dataset: xarray.Dataset, forms: ClosedForms, time: float) -> Figure:
    """The angle of one pair at one time against its density."""
    a, b = sorted(dataset.attrs["angle_pair"])
    labels = literal(tokens_of(dataset))
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
    axes = figure.subplot_mosaic(rows, height_ratios=(3, 1)[: len(rows)])  # pyright: ignore[reportArgumentType, reportCallIssue]
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


def _means(dataset: xarray.Dataset, forms: ClosedForms, names: Sequence[str]) -> Figure:
    """The mean of every observable that theory knows, against time."""
    time = np.asarray(dataset.time, float)
    figure = Figure(figsize=(3.4, 2.2 * len(names)))
    for ax, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
        values = np.asarray(dataset[name], float).reshape(len(dataset.member), len(time), -1)
        (label,) = literal([name])
        plot.mean_lines(time, {label: values.mean(-1)}, ax=ax, ylabel=f"mean of {label}")
        theory = np.array([float(forms.means[name](t - time[0])) for t in time])
        theory_line(ax, time, theory)
        plot.legend(ax)
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
