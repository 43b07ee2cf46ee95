"""What a run keeps of computed members: the names of axes, summaries, and one dataset of them."""

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import xarray
from jaxtyping import Float

from .._ensemble.abstract import AbstractProblem
from .._ensemble.trajectories import NonFiniteError
from .._store import Record, Summary, Variable, edges

Keep = Literal["trajectories", "summaries"]
Failures = Literal["stop", "mark"]

_DIMS = {
    "state": ("token", "dim"),
    "overlaps": ("pair",),
    "angles": ("pair",),
    "cluster_signs": ("token",),
    "cosines": ("pair",),
    "radii": ("token",),
    "squared_radii": ("token",),
    "log_radius_ratio": ("pair",),
    "spectrum": ("eigenvalue",),
    "singular_values": ("value",),
    "q": ("dim",),
    "p": ("dim",),
    "q_squared": ("dim",),
    "p_squared": ("dim",),
    "x": ("dim",),
    "x_squared": ("dim",),
}


def variables(
    problem: AbstractProblem, keep: Keep, inner: Mapping[str, int] | None = None
) -> tuple[Variable, ...]:
    """The arrays of a store that chunks fill: saved values if they are kept, and member's status.

    `inner` are axes between the divided ones and those of one member, by name and size.
    """
    inner = inner or {}
    names, sizes = tuple(inner), tuple(inner.values())
    kept = [Variable("status", names, sizes, "int32")]
    if keep == "trajectories":
        for name, y in problem.outputs().items():
            rest = _rest(name, len(y.shape) - 1)
            kept.append(Variable(name, (*names, "time", *rest), (*sizes, *y.shape), y.dtype.name))
    return tuple(kept)


def digest(
    ys: Mapping[str, np.ndarray], status: np.ndarray, first: int, failures: Failures
) -> dict[str, Summary]:
    """Summaries of the members that stayed finite; NonFiniteError if others may not be."""
    bad = np.flatnonzero(status)
    if bad.size and failures == "stop":
        ids = ", ".join(str(first + int(i)) for i in bad[:5])
        more, save = ", …" if bad.size > 5 else "", int(status[bad[0]])
        raise NonFiniteError(
            f"{bad.size} of {status.size} members became NaN or infinite: {ids}{more} (the first "
            f"between saves {save - 1} and {save}). Take smaller steps, or set run.failures to "
            "'mark' to get them marked."
        )
    return {name: Summary.of(y, edges(name), status == 0) for name, y in ys.items()}


def total(records: Iterable[Record]) -> tuple[dict[str, Summary], int]:
    """The summaries of all chunks of one ensemble together, and how many members failed.

    Records are taken one by one: there may be many thousands.
    """
    failed, whole = 0, {}
    for record in records:
        failed += record.failed
        for name, part in record.summaries.items():
            whole[name] = whole[name] + part if name in whole else part
    return whole, failed


def summarised(
    summaries: Mapping[str, Summary],
    ts: Float[np.ndarray, " times"],
    leading: tuple[str, ...] = (),
) -> xarray.Dataset:
    """Mean, variance and histogram of every observable over members, behind the `leading` axes.

    `<name>_mean`, `<name>_variance` and `<name>_count` (..., time, ...), `<name>_histogram` with
    the axis bin besides, whose edges are `<name>_edges`.
    """
    dataset = xarray.Dataset(coords={"time": ts})
    for name, one in summaries.items():
        dims = (*leading, "time", *_rest(name, one.mean.ndim - len(leading) - 1))
        dataset[f"{name}_mean"] = (dims, one.mean)
        dataset[f"{name}_variance"] = (dims, one.variance)
        dataset[f"{name}_count"] = (dims, one.count)
        dataset[f"{name}_histogram"] = ((*dims, "bin"), one.histogram)
        dataset[f"{name}_edges"] = ("edge", edges(name))
    for variable in dataset.variables.values():
        variable.attrs["units"] = "1"
    return dataset


def _rest(name: str, axes: int) -> tuple[str, ...]:
    """The names of an observable's own axes."""
    named = _DIMS.get(name, ())
    return named if len(named) == axes else tuple(f"{name}_{axis}" for axis in range(axes))
