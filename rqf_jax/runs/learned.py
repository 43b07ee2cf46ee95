"""Stored seeds of one process or a sweep of many: their means beside theory, and figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .. import plot
from ..plot.errors import theory_line
from .catalogue import AbstractSeeded
from .comparison import Row
from .config import SeedsConfig
from .design import Design

_SPREAD = "± 1 standard deviation of seeds"
_MOST_PANELS = 4
# Curves that start apart and end apart leave no free corner inside.
_ABOVE = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 2, "columnspacing": 1.2}


class Curve(NamedTuple):
    """Mean, standard deviation and number of seeds of one saved value (saves, ...)."""

    mean: np.ndarray
    deviation: np.ndarray
    count: np.ndarray


@dataclass(frozen=True)
class Point:
    """One process of a store: `seeds` are the values of those that did not fail, if kept."""

    process: AbstractSeeded
    words: tuple[str, ...]
    curves: Mapping[str, Curve]
    seeds: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Seen:
    """All that is compared and drawn of stored seeds. Construct it with `of`."""

    counts: np.ndarray
    points: Sequence[Point]

    @classmethod
    def of(cls, dataset: xarray.Dataset, config: SeedsConfig, design: Design | None) -> "Seen":
        """The processes of a store, in the order of its points."""
        names = [str(name).removesuffix("_mean") for name in dataset if str(name).endswith("_mean")]
        configs = [config] if design is None else list(design.configs(config))
        leading = () if design is None else tuple(design.shape)
        sizes = [dataset.sizes[name] for name in leading]
        points = []
        for place, one in enumerate(configs):
            assert isinstance(one, SeedsConfig)
            where = np.unravel_index(place, sizes) if leading else ()
            mine = dataset.isel(dict(zip(leading, map(int, where), strict=True)))
            values = () if design is None else design.points()[place]
            axes = () if design is None else design.axes
            words = tuple(f"{a.name} = {v:.4g}" for a, v in zip(axes, values, strict=True))
            points.append(Point(one.seeded, words, _curves(mine, names), _seeds(mine, names)))
        return cls(np.asarray(dataset.time).round().astype(int), points)


def _curves(dataset: xarray.Dataset, names: Sequence[str]) -> dict[str, Curve]:
    found = {}
    for name in names:
        mean, variance, count = (
            np.asarray(dataset[f"{name}_{part}"], float) for part in ("mean", "variance", "count")
        )
        mean = np.where(count > 0, mean, math.nan)
        deviation = np.sqrt(np.where(count > 1, variance, 0.0))
        found[name] = Curve(mean, deviation, count)
    return found


def _seeds(dataset: xarray.Dataset, names: Sequence[str]) -> dict[str, np.ndarray]:
    kept = [name for name in names if name in dataset and dataset[name].dims == ("member", "time")]
    sound = np.flatnonzero(dataset.status == 0) if kept else np.zeros(0, int)
    return {name: np.asarray(dataset[name])[sound] for name in kept} if sound.size > 1 else {}


def compare(seen: Seen) -> list[Row]:
    """The means that theory knows, at the saves that a process names, and other facts of it."""
    rows = []
    for point in seen.points:
        words, process = ", ".join(point.words), point.process
        for name, theory in process.means(seen.counts).items():
            curve = point.curves.get(name)
            if curve is None:
                continue
            for place in process.compared(seen.counts):
                known, mean = float(theory[place]), float(curve.mean[place])
                if curve.count[place] > 1 and np.isfinite([known, mean]).all():
                    stderr = float(curve.deviation[place] / math.sqrt(curve.count[place]))
                    label = f"{words} after {seen.counts[place]:,} {process.unit}".strip()
                    rows.append(Row(f"E {name}", label, known, mean, stderr))
        for fact in process.facts(seen.counts, point.seeds):
            mean = float(fact.values.mean())
            stderr = float(fact.values.std(ddof=1) / math.sqrt(fact.values.size))
            label = ", ".join([*point.words, fact.label])
            rows.append(Row(fact.quantity, label, fact.theory, mean, stderr))
    return rows


def figures(seen: Seen) -> Mapping[str, Figure]:
    """The figures for which something was saved: curves with bands over seeds, and the Hessian.

    Processes that differ in their last key have panels of their own, if there are few.
    """
    wanted = {
        "loss": [("loss", "loss", True)],
        "accuracy": [("accuracy", "accuracy, learnt", False), ("held_out", "held out", False)],
        "stability": [
            ("curvature.rate_trace", r"$\eta\,\mathrm{tr}\,H$", True),
            ("curvature.rate_sharpness", r"$\eta\,\lambda_{\max}$", True),
        ],
        "noise": [("curvature.noise", "gradient noise, $\\mathrm{tr}\\,C$", True)],
        "blocks": [
            ("mean_cosine", "mean cosine of two tokens", False),
            ("rms_norm", "root mean square norm", False),
        ],
    }
    drawn = {}
    for stem, rows in wanted.items():
        there = [row for row in rows if any(row[0] in point.curves for point in seen.points)]
        if there:
            drawn[stem] = _against_counts(seen, there)
    if any("hessian" in point.curves for point in seen.points):
        drawn["hessian"] = _hessian(seen)
    return drawn


def _panels(seen: Seen) -> dict[str, list[Point]]:
    """The points by their last word, if they have two or more and there are few of them."""
    groups: dict[str, list[Point]] = {}
    for point in seen.points:
        groups.setdefault(point.words[-1] if len(point.words) > 1 else "", []).append(point)
    return groups if len(groups) <= _MOST_PANELS else {"": list(seen.points)}


def _canvas(seen: Seen, rows: int) -> tuple[Figure, list[tuple[str, list[Point], list[Axes]]]]:
    panels = _panels(seen)
    figure = Figure(figsize=(max(3.6, 2.6 * len(panels)), 0.6 + 2.1 * rows))
    axes = figure.subplots(rows, len(panels), sharex=True, sharey="row", squeeze=False)
    return figure, [(w, p, list(axes[:, i])) for i, (w, p) in enumerate(panels.items())]


def _named(point: Point, panel: str) -> str:
    words = point.words[:-1] if panel else point.words
    return ", ".join(words) or "mean"


def _against_counts(seen: Seen, rows: Sequence[tuple[str, str, bool]]) -> Figure:
    figure, panels = _canvas(seen, len(rows))
    for panel, points, axes in panels:
        for ax, (name, words, logarithmic) in zip(axes, rows, strict=True):
            for point, colour in zip(points, plot.shades(len(points)), strict=True):
                if name in point.curves:
                    label = _named(point, panel)
                    _band(ax, seen.counts, point.curves[name], label, colour, logarithmic)
                theory = point.process.means(seen.counts).get(name)
                if theory is not None and np.isfinite(theory).all():
                    theory_line(ax, seen.counts, theory)
            bounds = (point.process.bounds().get(name) for point in points)
            for bound in sorted({one for one in bounds if one is not None}):
                ax.axhline(bound, color="0.4", linewidth=0.8, linestyle=":", label=f"{bound:g}")
            if logarithmic and ax.has_data():
                ax.set_yscale("log")
            if ax is axes[-1]:
                ax.set_xlabel(seen.points[0].process.unit)
            if panel == panels[0][0]:
                ax.set_ylabel(words)
        if panel:
            axes[-1].annotate(
                panel, (0.97, 0.95), xycoords="axes fraction", ha="right", va="top", fontsize=7
            )
    plot.legend(panels[len(panels) // 2][2][0], **_ABOVE)
    return figure


def _hessian(seen: Seen) -> Figure:
    """The largest eigenvalues of the Hessian at the last save, by rank."""
    figure, panels = _canvas(seen, 1)
    for panel, points, (ax,) in panels:
        for point, colour in zip(points, plot.shades(len(points)), strict=True):
            curve = point.curves.get("hessian")
            if curve is not None:
                last = Curve(*(part[-1] for part in curve))
                ranks = np.arange(1, len(last.mean) + 1)
                _band(ax, ranks, last, _named(point, panel), colour, True)
        ax.set_yscale("log")
        ax.set_xlabel("rank" + (f"   ({panel})" if panel else ""))
    panels[0][2][0].set_ylabel(f"eigenvalue of $H$ after {seen.counts[-1]:,} updates")
    plot.legend(panels[len(panels) // 2][2][0], **_ABOVE)
    return figure


def _band(
    ax: Axes, x: np.ndarray, curve: Curve, label: str, colour: Any, logarithmic: bool
) -> None:
    there = np.isfinite(curve.mean) & ((curve.mean > 0) | (not logarithmic))
    if not there.any():
        return
    mean, up = curve.mean[there], curve.deviation[there]
    # A band from mean to zero has no place on a logarithmic axis.
    down = np.minimum(up, 0.9 * mean) if logarithmic else up
    plot.error_band(
        x[there], mean, np.stack([down, up]), ax=ax, label=label, color=colour, band=_SPREAD
    )
