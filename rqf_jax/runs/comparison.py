"""Theory beside measurement: an ensemble on disk against closed forms, row by row.

Everything is computed from what a run stored, so an old run can be compared again. A row is
(quantity, theory, simulation, stderr, z) with z = (simulation - theory)/standard error;
rows of one ensemble share its members and are not independent of each other.
"""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import xarray
from jaxtyping import Float
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.stats import norm

from ..systems import Exponents
from ..theory import sphere
from ..theory._rapidity import Values
from .catalogue import ClosedForms

ALIGNED, LIMIT, ANTIPODAL = "P(aligned)", "E G(∞)", "P(−)"
_MOST_ROWS = 45
# Pairs of tokens are close while their angle is below it (radians): corrections to the linearised
# motion are of second order in the angle.
_CLOSE = 0.1
_ON_ONE_AXIS = 1e-5


@dataclass(frozen=True)
class Row:
    """One quantity: what the theory says, what the ensemble says, and how sure that is."""

    quantity: str
    label: str
    theory: float
    simulation: float
    stderr: float

    @property
    def z(self) -> float:
        """(simulation - theory) / standard error; 0 where nothing is random and they agree."""
        difference = self.simulation - self.theory
        if self.stderr == 0:
            return 0.0 if abs(difference) < 1e-6 else math.inf
        return difference / self.stderr


def compare(
    dataset: xarray.Dataset,
    forms: ClosedForms,
    *,
    labels: Sequence[str],
    log_det_times: Sequence[float] = (),
    one_point_times: Sequence[float] = (),
    spectrum_times: Sequence[float] = (),
) -> list[Row]:
    """The rows of an ensemble, for those closed forms that its model has.

    Tokens split by one random hyperplane, from `hyperplane_time` on, with `theory.sphere`:

        P(aligned)     = 1 - θ_ab(0)/π                    binomial standard error
        E G_ab(∞)      = (2/π) arcsin G_ab(0)             G(∞)² = 1 gives its standard error
        Var N_+        = N/4 + (1/2π) Σ_{a≠b} arcsin G_ab(0)

    Two tokens, at the last save T whatever it is, because P(−) is a martingale:

        P(−)           = h(r(0)) = E h(r(T)),  h the probability to end opposite

    Tokens without noise that all ended on one axis: their split into two ends must be stable.

    At `log_det_times`, from every start or for two tokens while they are close:

        E ln det G(t)  = ln det G(0) - N(N-1) rate t

    At the last save, means of other observables where `means` knows them. Lyapunov exponents, of
    which those in theory may be measured: the errors of both make the standard error.

    At `one_point_times`, E<x(t), x(0)>, the mean over tokens. At `spectrum_times`, the last save if
    there are none, moments and laws of eigenvalues. Members that start differently are
    each compared with their own start. `dataset` holds `overlaps` (member, time, pair),
    `log_det_gram` (member, time) for volumes, `state` for one token, and of weights `spectrum`
    (member, time, eigenvalue) or `singular_values`; what it does not hold has no rows.
    """
    rows = []
    if "overlaps" in dataset:
        overlaps = dataset.overlaps
        if forms.hyperplane_time is not None and dataset.time[-1] >= forms.hyperplane_time:
            rows += _limits(overlaps, pair_labels(labels))
        if forms.antipodal_probability is not None and len(labels) == 2:
            rows += _antipodal(overlaps, forms.antipodal_probability)
        if forms.stable_split is not None:
            rows += _splits(overlaps, forms.stable_split)
    for name in [name for name in forms.means if name in dataset]:
        time = float(dataset.time[-1])
        theory = float(forms.means[name](time - float(dataset.time[0])))
        if math.isnan(theory):
            continue
        end = np.asarray(dataset[name][:, -1], float).reshape(dataset.sizes["member"], -1)
        rows.append(Row(f"E {name}", f"at t = {time:g}", theory, *_mean(end.mean(1))))
    if dataset.sizes.get("exponent_member") and forms.exponents is not None:
        rows += _exponents(dataset.exponents, forms.exponents)
    if "log_det_gram" in dataset and np.all(np.isfinite(dataset.log_det_gram[:, 0])):
        for time in log_det_times:
            rate = forms.volume_rate
            if rate is None and len(labels) == 2 and _close(dataset.log_det_gram, time):
                rate = forms.close_pair_rate
            if rate is not None:
                rows.append(_log_det(dataset.log_det_gram, len(labels), time, rate))
    if "state" in dataset and forms.one_point is not None:
        rows += [_one_point(dataset.state, time, forms.one_point) for time in one_point_times]
    spectra = spectra_of(dataset)
    if spectra is not None and forms.spectrum is not None:
        starts = np.asarray(spectra[:, 0], float)
        for time in spectrum_times or (float(dataset.time[-1]),):
            values = np.asarray(_at(spectra, time), float)
            elapsed = time - float(dataset.time[0])
            for statistic in forms.spectrum(elapsed, starts) if elapsed > 0 else ():
                mean, error = _mean(np.asarray(statistic.of(values), float))
                theory, label = float(statistic.theory), f"at t = {time:g}"
                rows.append(Row(statistic.quantity, label, theory, mean, error))
    return rows


def tokens_of(dataset: xarray.Dataset) -> list[str]:
    """The names of the tokens of a stored run."""
    tokens = dataset.attrs["tokens"]
    return tokens.split("\n") if isinstance(tokens, str) else list(tokens)


def pair_labels(labels: Sequence[str]) -> list[str]:
    """Names of the pairs of tokens in the order of `observables.overlaps`."""
    return [f"{a}–{b}" for a, b in combinations(labels, 2)]


def spectra_of(dataset: xarray.Dataset) -> xarray.DataArray | None:
    """Eigenvalues, or else singular values (member, time, number), of an ensemble that has them."""
    names = [name for name in ("spectrum", "singular_values") if name in dataset]
    return dataset[names[0]] if names else None


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The rows as a table of comma-separated values with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["quantity", "of", "theory", "simulation", "stderr", "z"])
        for row in rows:
            numbers = (row.theory, row.simulation, row.stderr, row.z)
            writer.writerow([row.quantity, row.label, *(f"{number:.7g}" for number in numbers)])


def show(rows: Sequence[Row], dataset: xarray.Dataset, console: Console) -> None:
    """Print the rows of `compare(dataset, ...)`: the pairs of tokens in one table, the rest in
    another; then the largest |z| with its p-value.

    p is the probability that the largest of as many independent normal numbers is larger. Rows
    share members, so a small p is a sign to look, not the size of a test.
    """
    if not rows:
        console.print(
            "Nothing to compare: no saved observable has a closed form, or the run is too short.\n"
        )
        return
    aligned = [row for row in rows if row.quantity == ALIGNED]
    limit = [row for row in rows if row.quantity == LIMIT]
    if aligned:
        start = np.asarray(dataset.overlaps[:, 0], float).mean(0)
        _print_pairs(aligned, limit, start, console)
    rest = _table("quantity", "theory", "simulation", "z")
    others = [row for row in rows if row.quantity not in (ALIGNED, LIMIT)]
    for i in _worst(others):
        rest.add_row(f"{others[i].quantity} {others[i].label}".strip(), *_numbers(others[i], 2))
    if rest.rows:
        title = "ensemble" if len(others) <= _MOST_ROWS else _cut("ensemble", len(others))
        console.print(Text(title, "bold"), rest, "")
    largest = max((abs(row.z) for row in rows if not math.isnan(row.z)), default=math.nan)
    p = -math.expm1(len(rows) * math.log1p(-2 * norm.sf(largest))) if largest > 0 else 1.0
    console.print(
        f"Largest |z| of {len(rows)} rows: {largest:.1f}; the largest of as many "
        f"independent normal numbers is larger with probability p = {p:.2g}.\n"
    )


def show_layers(dataset: xarray.Dataset, forms: ClosedForms, console: Console) -> None:
    """Print mean cosines of a language model's layers beside the ensemble's.

    Each layer is matched with the first time at which the ensemble has the layer's mean squared
    cosine, so that column agrees by construction; the signed mean does not have to. Common noise
    alone sends tokens to both ends of one axis and leaves the signed mean near zero, while a
    trained model draws its tokens to one side: the difference is what noise alone does not
    explain. Nothing is fitted and no layer is claimed to be a random matrix.
    """
    r = np.asarray(dataset.overlaps, float)
    mean, square = r.mean((0, 2)), (r**2).mean((0, 2))
    highest = np.maximum.accumulate(square)
    table = _table("layer", "⟨cos²⟩", "⟨cos⟩ of the model", "of the ensemble", "at t")
    for layer, cosine in enumerate(np.asarray(dataset.layer_overlaps)):
        level = (cosine**2).mean()
        reached = square[0] - 1e-6 <= level <= highest[-1]
        time = float(np.interp(level, highest, dataset.time))
        there = f"{np.interp(time, dataset.time, mean):.3f}", f"{time:.2f}"
        table.add_row(
            str(layer), f"{level:.3f}", f"{cosine.mean():.3f}", *(there if reached else ("–", "–"))
        )
    title = "the language model, and the ensemble when its ⟨cos²⟩ is the same"
    console.print(title, style="bold")
    console.print(table)
    if forms.hyperplane_time is not None:
        console.print(
            "Common noise aligns tokens up to sign; the model raises their mean cosine too."
        )
    console.print()


def _print_pairs(
    aligned: Sequence[Row],
    limit: Sequence[Row],
    start: Float[np.ndarray, " pairs"],
    console: Console,
) -> None:
    shown, title = _worst(aligned), "pairs of tokens"
    if len(aligned) > _MOST_ROWS:
        title = f"{_cut(title, len(aligned))} of {ALIGNED}"
    table = _table("pair", "G(0)", ALIGNED, "simulation", "z", LIMIT, "simulation", "z")
    for i in shown:
        cells = [cell for row in (aligned[i], limit[i]) for cell in _numbers(row, 1)]
        table.add_row(aligned[i].label, f"{start[i]:.3f}", *cells)
    meaning = ("  (0.505(5): 0.505, standard error 0.005)", "dim")
    console.print(Text.assemble((title, "bold"), meaning), table, "")


def _worst(rows: Sequence[Row]) -> list[int]:
    """The places of all rows, or of the 45 with the largest |z| if there are more."""
    if len(rows) <= _MOST_ROWS:
        return list(range(len(rows)))
    return sorted(range(len(rows)), key=lambda i: -abs(rows[i].z))[:_MOST_ROWS]


def _cut(title: str, count: int) -> str:
    return f"{title}: the {_MOST_ROWS} of {count} with the largest |z|"


def _table(first: str, *others: str) -> Table:
    """A table of numbers; on a narrow screen the names of its rows fold, and no number is cut."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _numbers(row: Row, significant: int) -> tuple[str, str, Text]:
    """Theory, simulation with its standard error in brackets, in units of the last digit, and z."""
    digits = 4
    if 0 < row.stderr < math.inf:
        digits = max(0, significant - 1 - math.floor(math.log10(row.stderr)))
    error = f"({row.stderr * 10**digits:.0f})" if math.isfinite(row.stderr) else ""
    style = "bold red" if abs(row.z) >= 5 else "yellow" if abs(row.z) >= 3 else "dim"
    simulation = f"{row.simulation:.{digits}f}{error}"
    return f"{row.theory:.{digits}f}", simulation, Text(f"{row.z:+.1f}", style)


def _limits(overlaps: xarray.DataArray, labels: Sequence[str]) -> list[Row]:
    members = overlaps.sizes["member"]
    end = np.asarray(overlaps[:, -1], float)
    start = np.asarray(overlaps[:, 0], float)
    if np.all(start == start[0]):
        start = start[:1]
    grams = [_gram(r) for r in start]
    pairs = np.triu_indices(len(grams[0]), 1)
    angles = 2 * np.arctan2(np.sqrt(1 - start), np.sqrt(1 + start))
    aligned = np.asarray(sphere.aligned_probability(angles))
    limit = np.stack([sphere.limiting_gram(gram)[pairs] for gram in grams])

    def rows(quantity, theory, simulation, variance):
        errors = np.sqrt(variance.mean(0) / members)
        values = zip(labels, theory.mean(0), simulation.mean(0), errors, strict=True)
        return [Row(quantity, label, *map(float, numbers)) for label, *numbers in values]

    # A coin names one of the two clusters: N_+ = (N ± Σ_a s_a)/2, so Var N_+ = E (Σ_a s_a)²/4
    # with (Σ_a s_a)² = N + 2 Σ_{a<b} s_a s_b, a function of the signs of the overlaps.
    size = float(np.mean([sphere.cluster_size_variance(gram) for gram in grams]))
    squares = (len(grams[0]) + 2 * np.sign(end).sum(-1)) / 4
    return [
        *rows(ALIGNED, aligned, end > 0, aligned * (1 - aligned)),
        *rows(LIMIT, limit, end, 1 - limit**2),
        Row("Var N₊", "", size, *_mean(squares)),
    ]


def _antipodal(
    overlaps: xarray.DataArray, probability: Callable[[np.ndarray], Values]
) -> list[Row]:
    start, end = (np.asarray(overlaps[:, save, 0], float) for save in (0, -1))
    if np.all(start == start[0]):
        start = start[:1]
    theory = float(np.mean(probability(start)))
    # Where all pairs meet, or are decided from the start, there is nothing to see.
    if not 0 < theory < 1:
        return []
    return [Row(ANTIPODAL, "", theory, *_mean(np.asarray(probability(end))))]


def _splits(overlaps: xarray.DataArray, stable: Callable[[int, int], bool]) -> list[Row]:
    """Of the members whose tokens all ended on one axis, the share with a stable split."""
    end = np.asarray(overlaps[:, -1], float)
    ended = end[np.all(1 - np.abs(end) < _ON_ONE_AXIS, axis=1)]
    if not len(ended):
        return []
    tokens = len(_gram(ended[0]))
    same = 1 + np.sum(ended[:, : tokens - 1] > 0, axis=1)  # with the first token
    known = {int(count): stable(int(count), tokens - int(count)) for count in np.unique(same)}
    found = np.array([known[int(count)] for count in same], float)
    error = float(found.std() / np.sqrt(len(found)))
    return [Row("P(stable split)", f"of {len(found)} on one axis", 1.0, float(found.mean()), error)]


def _exponents(found: xarray.DataArray, known: Exponents) -> list[Row]:
    """The exponents of members beside known ones, the largest first."""
    rates = np.asarray(found, float)
    rows, members = [], rates.shape[0]
    for i, (theory, error) in enumerate(zip(known.values, known.stderr, strict=True)):
        if i < rates.shape[1]:
            mean, stderr = _mean(rates[:, i]) if members > 1 else (float(rates[0, i]), math.nan)
            label = f"of {members} members"
            rows.append(Row(f"λ{i + 1}", label, theory, mean, math.hypot(stderr, error)))
    return rows


def _log_det(log_det: xarray.DataArray, tokens: int, time: float, rate: float) -> Row:
    start = float(log_det[:, 0].astype(float).mean())
    gain = np.asarray(_at(log_det, time) - log_det[:, 0], float)
    mean, error = _mean(gain)
    theory = start - tokens * (tokens - 1) * rate * (time - float(log_det.time[0]))
    return Row("E ln det G", f"at t = {time:g}", theory, start + mean, error)


def _one_point(state: xarray.DataArray, time: float, correlation: Callable[[float], Values]) -> Row:
    turned = (_at(state, time).astype(float) * state[:, 0].astype(float)).sum("dim").mean("token")
    theory = float(correlation(time - float(state.time[0])))
    return Row("E⟨x(t), x(0)⟩", f"at t = {time:g}", theory, *_mean(np.asarray(turned)))


def _close(log_det: xarray.DataArray, time: float) -> bool:
    """Whether two tokens are still close at that time, in all members but one in a thousand."""
    squared_sine = np.exp(np.asarray(_at(log_det, time), float))
    return bool(np.quantile(squared_sine, 0.999) < _CLOSE**2)


def _at(array: xarray.DataArray, time: float) -> xarray.DataArray:
    return array.sel(time=time, method="nearest")


def _gram(overlaps: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, "tokens tokens"]:
    tokens = round((1 + np.sqrt(1 + 8 * len(overlaps))) / 2)
    gram = np.eye(tokens)
    gram[np.triu_indices(tokens, 1)] = overlaps
    return gram + np.triu(gram, 1).T


def _mean(values: Float[np.ndarray, " members"]) -> tuple[float, float]:
    """Mean and standard error; the error is NaN if there are infinite values."""
    if not np.all(np.isfinite(values)):
        return float(values.mean()), math.nan
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
